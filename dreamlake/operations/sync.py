"""Push, pull, sync: bring two lakes to the same sessions, sending only what is missing (SPEC "Sync").

Session by session: the values of both logs are joined (``sync_join``), the contents that the other lake lacks travel
(``sync_blobs``), one record ``merge`` makes the join visible there at once, and parameters, logs and tracks follow
(``sync_journals``). That record is refused when the session has changed meanwhile; then it is joined again. Whatever is
cut off in the middle is found in place by the next run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Protocol

from dreamlake.errors import ClaimRevoked, Conflict, InvalidInput, LakeError, NotFound, Unavailable
from dreamlake.journal import Journal
from dreamlake.model import SessionInfo, SessionKey, is_glob
from dreamlake.operations.context import Store
from dreamlake.operations.sync_blobs import Content, Courier
from dreamlake.operations.sync_join import Clash, difference, join
from dreamlake.operations.sync_journals import carry
from dreamlake.operations.sync_memory import Memory, Remembered, state_of
from dreamlake.operations.sync_registers import Registers, registers_of
from dreamlake.operations.sync_report import SessionSynced, Synced, Way

WORKERS = 8  # threads of one session that look, read and send; most of the time they wait
MAX_TRIES = 20
PAGE_FILES = 20_000  # new files in one record

Progress = Callable[[str, int, int], None]


class Place(Protocol):
    """What a lake has besides its store, as far as this needs it; see ``home.Home``."""

    @property
    def where(self) -> str: ...
    def journal(self, key: SessionKey) -> Journal: ...
    def prepare(self, key: SessionKey, *, new: bool) -> Callable[[], None]: ...
    def show(self, info: SessionInfo) -> None: ...


@dataclass(frozen=True)
class Side:
    """One of the two lakes."""

    store: Store
    place: Place
    store_id: str


def select(sides: Sequence[Side], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Workspace and name of the sessions that any of these lakes has and that are wanted.

    Args:
        wanted: ``"workspace/session"``, ``"workspace"``, or globs of either; nothing means all.

    Raises ``NotFound`` for a name that is in none of them, ``Corrupt`` for a session that does not read.
    """
    known = sorted({(key.workspace, key.name) for side in sides for key in side.store.sessions()})
    if not wanted:
        return known
    found: dict[tuple[str, str], None] = {}
    for pattern in wanted:
        matching = [pair for pair in known if _matches(pattern, *pair)]
        if not matching:
            kind = "session matches" if is_glob(pattern) else "session or workspace is called"
            places = " or ".join(side.place.where for side in sides)
            raise NotFound(f"no {kind} {pattern!r} in {places}", path=pattern)
        found.update(dict.fromkeys(matching))
    return sorted(found)


def _matches(pattern: str, workspace: str, name: str) -> bool:
    if pattern in (workspace, f"{workspace}/{name}"):
        return True
    return fnmatchcase(f"{workspace}/{name}" if "/" in pattern else workspace, pattern)


def sync(
    here: Side,
    there: Side,
    wanted: Sequence[str] = (),
    *,
    push: bool = True,
    pull: bool = True,
    dry_run: bool = False,
    executor: Executor | None = None,
    opener: Callable[[], tuple[Side, Side]] | None = None,
    progress: Progress | None = None,
) -> Synced:
    """Bring sessions of one lake into another, or of each into the other.

    Args:
        here, there: the two lakes. Sessions of one's own namespace here are those of one's own namespace there.
        wanted: see ``select``.
        push, pull: what is here goes there; what is there comes here.
        dry_run: only say what would be done.
        executor: takes one task a session; of several processes, if ``opener`` is given: it opens both lakes there.
        progress: called with ("sync", bytes done, 0).

    What is wrong with one session is in the report, and the others go on; a full disk or a lake that is gone ends it.

    Raises:
        InvalidInput: both are the same lake.  NotFound: see ``select``.
        Unavailable, OSError: a lake that cannot be reached or written to; what was brought over until then stays.
    """
    if _is_same(here, there):
        raise InvalidInput(f"{here.place.where} is both source and target; name another lake")
    found = select([here, there] if push and pull else [here] if push else [there], wanted)
    report = Synced(dry_run)
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress("sync", done, 0)

    if executor is not None:
        task = (
            partial(_task, opener, push, pull, dry_run) if opener else partial(_one, here, there, push, pull, dry_run)
        )
        report.sessions += executor.map(task, found)
    else:
        report.sessions += [_one(here, there, push, pull, dry_run, pair, told) for pair in found]
    return report


def _is_same(here: Side, there: Side) -> bool:
    roots = (here.store.root, there.store.root)
    if roots[0] is not None and roots[1] is not None:
        return os.path.realpath(roots[0]) == os.path.realpath(roots[1])
    return here.store is there.store or (here.store_id == there.store_id and here.place.where == there.place.where)


def _task(
    opener: Callable[[], tuple[Side, Side]], push: bool, pull: bool, dry_run: bool, pair: tuple[str, str]
) -> SessionSynced:
    here, there = opener()
    return _one(here, there, push, pull, dry_run, pair)


def _one(
    here: Side,
    there: Side,
    push: bool,
    pull: bool,
    dry_run: bool,
    pair: tuple[str, str],
    told: Callable[[int], None] = lambda size: None,
) -> SessionSynced:
    report = SessionSynced("/".join(pair))
    memory = Memory.of(here.store, there.store, here.store_id, there.store_id)
    with memory.opened(pair) as met, ThreadPoolExecutor(WORKERS, thread_name_prefix="dreamlake-sync") as pool:
        try:
            both = _Session(here, there, pair, met, dry_run, pool, told)
            if push:
                both.bring(here, there, report.sent, report.clashes)
            if pull:
                both.bring(there, here, report.received, report.clashes)
            if not dry_run:
                memory.save(pair, met)
        except Unavailable:
            raise
        except LakeError as error:
            report.error = error
        finally:
            for side in (here, there):
                side.store.catalog.release(side.store.session(*pair))
    report.clashes = list(dict.fromkeys(report.clashes))
    return report


class _Session:
    """One session of both lakes."""

    def __init__(
        self,
        here: Side,
        there: Side,
        pair: tuple[str, str],
        met: Remembered,
        dry_run: bool,
        pool: ThreadPoolExecutor,
        told: Callable[[int], None],
    ) -> None:
        self._here, self._there, self._met, self._dry = here, there, met, dry_run
        self._keys = {id(side): side.store.session(*pair) for side in (here, there)}
        self._pool, self._told = pool, told

    def bring(self, source: Side, target: Side, way: Way, clashes: list[Clash]) -> None:
        """What the source has comes into the target, too."""
        begun = self._token(source)  # what comes meanwhile is left to the next time
        if not self._same_logs():
            for _ in range(MAX_TRIES):
                if self._merge(source, target, way, clashes):
                    break
            else:
                raise Conflict(f"session {self._key(target)} in {target.place.where} changes all the time; try later")
        if not self._exists(target) and not (self._dry and self._exists(source)):
            return  # nothing known, or dropped: then there is no side data to bring
        mine, theirs = source.place.journal(self._key(source)), target.place.journal(self._key(target))
        met = self._met.met if source is self._here else self._met.met.turned()
        try:
            carried = carry(mine, theirs, met, dry_run=self._dry)
        finally:
            theirs.close()
            mine.close()
        self._met.met = met if source is self._here else met.turned()
        state, sent = state_of(begun, carried.seen), self._met.sent
        self._met.sent = (state, sent[1]) if source is self._here else (sent[0], state)
        way.rows += carried.rows
        way.documents += carried.documents
        way.changed |= bool(carried.rows or carried.documents)
        clashes += carried.clashes
        if way.changed and not self._dry:
            target.place.show(target.store.catalog.view(self._key(target)).info)

    # ---- records and contents ------------------------------------------------------------------------------------

    def _merge(self, source: Side, target: Side, way: Way, clashes: list[Clash]) -> bool:
        """Join once; False when the target changed meanwhile."""
        mine, theirs = self._registers(source), self._registers(target)
        if not mine.known or (mine.dropped and not theirs.known):
            return True
        joined, found = join(theirs, mine)
        entry = difference(theirs, joined)
        if entry is not None:
            if self._dry:
                _tally(entry, theirs, self._lacking(source, target, entry, theirs), way)
                clashes += found
                return True
            if not self._commit(source, target, entry, theirs, way):
                return False
            clashes += found
        if not self._dry and difference(mine, joined) is None:  # both say the same now
            tokens = {id(source): mine.token, id(target): self._token(target)}
            self._met.tokens = (tokens[id(self._here)], tokens[id(self._there)])
        return True

    def _commit(self, source: Side, target: Side, entry: dict[str, Any], theirs: Registers, way: Way) -> bool:
        """Send what the entry needs, and commit it, in pages. False when the target changed meanwhile."""
        key, view = self._key(target), target.store.catalog.view(self._key(target))
        undo = target.place.prepare(key, new=not view.info.exists)
        known = {version.fixed["digest"] for version in theirs.versions()}
        ids = {version.id for version in theirs.versions()}
        pages = _pages(entry, theirs)
        try:
            for page in pages:
                contents = _contents(page, known)
                if not self._commit_page(source, target, key, page, contents, way):
                    return False
                undo = _keep
                known.update(digest for digest, _ in contents)
                way.files += len(page["files"])
                way.versions += sum(1 for file in page["files"] for v in file["versions"] if v["id"] not in ids)
                way.changed = True
            return True
        finally:
            undo()

    def _commit_page(
        self, source: Side, target: Side, key: SessionKey, page: dict[str, Any], contents: list[Content], way: Way
    ) -> bool:
        catalog, courier = target.store.catalog, Courier(source.store, target.store, self._pool, self._told)
        page["after"] = page["after"] if page["after"] is not None else self._token(target)
        for _ in range(MAX_TRIES):
            parcels = courier.plan(contents)
            claim = catalog.claim(key, dict.fromkeys(k for parcel in parcels for k in parcel.named()), [page])
            try:
                courier.deliver(parcels, partial(catalog.touch, claim))
                if self._token(target) != page["after"]:
                    catalog.revoke(claim.token)
                    return False
                committed = catalog.commit(claim)
            except BaseException as error:
                with contextlib.suppress(Exception):
                    catalog.revoke(claim.token)
                if isinstance(error, ClaimRevoked):
                    continue
                raise
            finally:
                way.blobs, way.stored_bytes = way.blobs + courier.sent_blobs, way.stored_bytes + courier.sent_bytes
                courier.sent_blobs = courier.sent_bytes = 0
            sent = [parcel for parcel in parcels if parcel.found is None]
            way.contents += len(sent)
            way.content_bytes += sum(parcel.size for parcel in sent)
            return not any(isinstance(outcome, LakeError) for outcome in committed.outcomes)
        raise ClaimRevoked(f"the claim on session {key} was revoked {MAX_TRIES} times in a row")

    def _lacking(self, source: Side, target: Side, entry: dict[str, Any], theirs: Registers) -> list[Content]:
        known = {version.fixed["digest"] for version in theirs.versions()}
        courier = Courier(source.store, target.store, self._pool, self._told)
        return [(p.digest, p.size) for p in courier.plan(_contents(entry, known)) if p.found is None]

    def _registers(self, side: Side) -> Registers:
        return registers_of(self._key(side), side.store.catalog.records(self._key(side)))

    def _key(self, side: Side) -> SessionKey:
        return self._keys[id(side)]

    def _token(self, side: Side) -> str:
        return side.store.catalog.view(self._key(side)).token

    def _exists(self, side: Side) -> bool:
        return side.store.catalog.view(self._key(side)).info.exists

    def _same_logs(self) -> bool:
        """True while both logs are as they were when both said the same."""
        tokens = (self._token(self._here), self._token(self._there))
        return bool(tokens[0]) and tokens == self._met.tokens


def _keep() -> None:
    """What was made is needed."""


def _contents(entry: dict[str, Any], known: set[str]) -> list[Content]:
    """Contents of the versions in an entry, those left out that the target's own versions refer to."""
    found = {v["digest"]: v["size"] for file in entry["files"] for v in file["versions"] if v["digest"] not in known}
    return list(found.items())


def _tally(entry: dict[str, Any], theirs: Registers, lacking: list[Content], way: Way) -> None:
    ids = {version.id for version in theirs.versions()}
    way.files += len(entry["files"])
    way.versions += sum(1 for file in entry["files"] for v in file["versions"] if v["id"] not in ids)
    way.contents += len(lacking)
    way.content_bytes += sum(size for _, size in lacking)
    way.changed = True


def _pages(entry: dict[str, Any], theirs: Registers) -> list[dict[str, Any]]:
    """The entry as one or several: first all that changes what is there, then the rest of the new files.

    Files that are new only need places that are free after the first, so that every page fits the state before it. What
    is said of the session itself comes last: until then a session that is new does not exist.
    """
    files = entry["files"]
    if len(files) <= PAGE_FILES:
        return [entry]
    changed = [file for file in files if file["id"] in theirs.files]
    fresh = [file for file in files if file["id"] not in theirs.files]
    cut = max(0, PAGE_FILES - len(changed))
    runs = [changed + fresh[:cut], *(fresh[i : i + PAGE_FILES] for i in range(cut, len(fresh), PAGE_FILES))]
    pages = [{**entry, "files": run, "info": None, "gone": {}, "after": None} for run in runs]
    pages[0].update({"gone": entry["gone"], "after": entry["after"]})
    pages[-1]["info"] = entry["info"]
    return pages
