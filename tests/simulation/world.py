"""A small lake on a simulated disk, the people who work on it, and how a run of them is judged.

Session ``s`` is old: ``/old`` holds the content OLD. Session ``t`` holds ``/kept`` with KEPT. Of one of them the next
record is the first of a new directory. All contents lie in one shard folder, so that every race is a race for it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache, partial
from typing import Any

from dreamlake.blobs.folder import FolderBlobs
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.content import reading
from dreamlake.content.staging import take
from dreamlake.errors import Conflict, LakeError, NotFound, Unavailable
from dreamlake.model import SessionKey, Version
from dreamlake.operations import collect as collecting
from dreamlake.operations import tree, upload
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.ports import Owner, Ports
from simulation.judge import Judge
from simulation.scheduler import Fault, Process, Scheduler, describe
from simulation.simfs import File, SimFs

ROOT = "/lake"
S, T = SessionKey("w", "s"), SessionKey("w", "t")
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FANOUT = 3


def _contents(count: int) -> list[bytes]:
    """Contents whose digests begin with the same byte."""
    found = (b"content %d" % i for i in itertools.count())
    return list(itertools.islice((c for c in found if hashlib.sha256(c).hexdigest().startswith("5a")), count))


OLD, GONE, KEPT, NEW, OTHER = _contents(5)
DAMAGE = GONE[::-1]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sim_ports(fs: SimFs, number: int, stale: Callable[[Owner], bool]) -> Ports:
    """The ports of one simulated process: a clock that stands still, ids that tell who made them, no waiting."""
    ids = itertools.count(1)
    me = Owner("sim", "boot", number, "1")
    return Ports(
        fs=fs,
        now=lambda: NOW,
        new_id=lambda: f"{number:04x}{next(ids):028x}",
        owner=lambda: me,
        is_dead=stale,
        sleep=lambda seconds: None,
        is_local=lambda path: True,
    )


class Actor:
    """One simulated process: its identity, and its own view of the lake."""

    def __init__(self, fs: SimFs, number: int, *, stale: Callable[[Owner], bool], checkpoint_every: int) -> None:
        ports = sim_ports(fs, number, stale)
        catalog = FolderCatalog(ports, ROOT, fanout=FANOUT, checkpoint_every=checkpoint_every)
        self.store = Store(ports=ports, catalog=catalog, blobs=FolderBlobs(ports, ROOT))


class World:
    """The lake and its people.

    Args:
        people: names of methods, with a digit where there are several of a kind.
        lake: see ``base``.
        stale: whether a collector takes the owner of a claim or of scratch for dead.
        checkpoint_every: as for ``FolderCatalog``.
        power: judge what every power cut would leave, too.
        faults: what goes wrong for whom.
        steps: "calls": switch before every call that others could notice; "changes": only before the major ones;
            "moves": only before what changes names that others may look up, and before listings.
        lead: who comes how far before the race begins, one after the other: (person, the call before which they stand).
        fs: the disk to start from, instead of ``lake``.
        finished: states that were already taken to their end.
    """

    def __init__(
        self,
        *people: str,
        lake: str = "plain",
        stale: Callable[[Owner], bool] = lambda owner: False,
        checkpoint_every: int = 10**9,
        power: bool = True,
        faults: dict[str, Fault] | None = None,
        steps: str = "calls",
        lead: dict[str, str] | Sequence[tuple[str, str]] = (),
        fs: SimFs | None = None,
        finished: set[int] | None = None,
    ) -> None:
        self.people = people
        self.claim_age_s = 10.0**9
        self.stale, self.checkpoint_every = stale, checkpoint_every
        self.lay_out(lake, fs)
        self.finished = set() if finished is None else finished
        self.judge = self.make_judge(power)
        if lake == "damaged":
            self.judge.healing.add(digest(GONE))
            self.judge.damage = DAMAGE
        hidden = {"calls": self._hidden, "changes": self._minor, "moves": self._detail}[steps]
        self.scheduler = Scheduler(self.fs, hidden)
        self.scheduler.watch = self._watch
        self.lead = list(lead.items() if isinstance(lead, dict) else lead)
        self._claimants: dict[str, Process] = {}
        self._actors: dict[Process, Actor] = {}
        self.numbers = itertools.count(1)
        for i, person in enumerate(people):
            work = getattr(self, person.rstrip("0123456789"))
            fault = (faults or {}).get(person)
            insist = work if fault is None else partial(self._insist, work)
            self.scheduler.spawn(person, partial(insist, i), fault)

    def lay_out(self, lake: str, fs: SimFs | None) -> None:
        self.fs = fs if fs is not None else self.base(lake).copy()

    def base(self, lake: str) -> SimFs:
        return base(lake, self.checkpoint_every)

    def make_actor(self) -> Actor:
        return Actor(self.fs, next(self.numbers), stale=self.stale, checkpoint_every=self.checkpoint_every)

    def make_judge(self, power: bool) -> Judge:
        return Judge(self.fs, ROOT, power=power)

    def actor(self) -> Actor:
        """The process that runs; a new one for the judge."""
        running = self.scheduler.running
        if running is None:
            return self.make_actor()
        if running not in self._actors:
            self._actors[running] = self.make_actor()
        return self._actors[running]

    def _insist(self, work: Callable[[int], None], i: int) -> None:
        """Whose operation fails tries it again, in the same process; the third time the fault is over."""
        running = self.scheduler.running
        assert running is not None
        for attempt in range(3):
            try:
                return work(i)
            except OSError as error:
                if (isinstance(error, LakeError) and not isinstance(error, Unavailable)) or attempt == 2:
                    raise
            if attempt == 1:
                running.fault = Fault()
        return None

    # ---- people ----------------------------------------------------------------------------------------------------

    def _done(self, session: SessionKey, operation: str, made: list[Version], before: set[Any]) -> None:
        self.judge.acknowledge(session.sid, operation, [v.id for v in made], after=before)

    def up(self, i: int) -> None:
        """Uploads what is stored already: a dedup hit."""
        self._upload(OLD, f"/new{i}")

    def fresh(self, i: int) -> None:
        """Uploads new content."""
        self._upload(NEW, f"/fresh{i}")

    def again(self, i: int) -> None:
        """Uploads content that lies about without a reference."""
        self._upload(GONE, f"/again{i}")
        self.judge.healing.discard(digest(GONE))  # from now on it must be readable

    def _upload(self, content: bytes, path: str) -> None:
        before = set(self.judge.acked)
        made = upload.upload_file(self.actor().store, T, content, path, upload.Attributes())
        self._done(T, "put", [made], before)

    def dele(self, i: int) -> None:
        """Deletes the last reference to OLD."""
        store, before = self.actor().store, set(self.judge.acked)
        with self._unless_gone():
            self._done(S, "del", tree.delete(store, S, tree.select(store.catalog.view(S), "/old")), before)

    def copier(self, i: int) -> None:
        """Copies /old into the other session; no bytes in hand."""
        store, before = self.actor().store, set(self.judge.acked)
        with self._unless_gone():
            self._done(T, "put", tree.copy(store, S, "/old", f"/copy{i}", to_session=T), before)

    def mover(self, i: int) -> None:
        """Renames /old within its session."""
        store, before = self.actor().store, set(self.judge.acked)
        with self._unless_gone():
            self._done(S, "move", tree.move(store, S, "/old", f"/moved{i}"), before)

    def restorer(self, i: int) -> None:
        """Brings /gone back, unless it was collected."""
        store, before = self.actor().store, set(self.judge.acked)
        try:
            self._done(S, "undel", [tree.restore(store, S, "/gone")], before)
        except Conflict:
            assert "/gone" in self.judge.tree(S.sid), "a deleted file could not be restored"
        except NotFound:
            assert any(person.startswith("gc") for person in self.people), (
                "a deleted file nobody collected was not found"
            )

    def gc(self, i: int) -> None:
        """Collects everything that may go, at once."""
        age = self.claim_age_s
        collecting.collect(self.actor().store, now=True, keep_deleted_s=0, force=True, claim_age_s=age)

    def reader(self, i: int) -> None:
        """Reads everything that is live."""
        store = self.actor().store
        for session in store.catalog.sessions():
            for version in store.catalog.view(session).live():
                try:
                    assert reading.read_all(store.blobs, version.digest, version.size_bytes)
                except NotFound:
                    current = store.catalog.view(session).file_with(version.id)
                    assert current is None or current.current is None, f"I1: {version.key} could not be read"

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Not finding ``/old`` is right only if somebody deleted or renamed it meanwhile."""
        try:
            yield
        except NotFound:
            assert "/old" not in self.judge.tree(S.sid), "I1: a live file was not found"

    # ---- running ---------------------------------------------------------------------------------------------------

    def _minor(self, call: str, path: str, other: str) -> bool:
        """For deeper searches: only looks for blobs and claims, and what changes names or makes them durable."""
        if self._hidden(call, path, other):
            return True
        major = ("rename", "rename_new", "link", "unlink", "fsync_dir")
        return call not in major and not path.startswith((f"{ROOT}/blobs/", f"{ROOT}/pending"))

    def _detail(self, call: str, path: str, other: str) -> bool:
        """For still deeper ones: what is read between two such calls is read at once."""
        if self._hidden(call, path, other):
            return True
        if call == "list":
            return not path.endswith(("/pending", "/sessions")) and "/blobs/" not in path
        return call not in ("rename", "rename_new", "link", "unlink")

    def _hidden(self, call: str, path: str, other: str) -> bool:
        """Calls that commute with everything: on private scratch, and on records that are there (they never change)."""
        if path.startswith(f"{ROOT}/tmp"):
            return not other or other.startswith(f"{ROOT}/tmp")
        if "/ckpt" in path and self.checkpoint_every == 10**9:
            return True
        if call in ("read", "stat", "open") and "/log/" in path:
            folder, _, name = path.rpartition("/")
            return folder in self.fs.dirs and name in self.fs.dirs[folder].names
        return False

    def _watch(self, process: Process, call: str, path: str, other: str) -> None:
        """I5: whose claim was taken away by somebody else before it was committed."""
        claim = other if call == "rename" else path
        if not claim.startswith(f"{ROOT}/pending/"):
            return
        token = claim.rpartition("/")[2].partition(".")[0]
        if call == "rename":
            self._claimants[token] = process
        file = self.fs.dirs[f"{ROOT}/pending"].names.get(f"{token}.json")
        if (
            call == "unlink"
            and self._claimants.get(token) is not process
            and isinstance(file, File)
            and file.links == 1
        ):
            self.judge.revoked.add(token)

    def run(self, choose: Callable[[int, list[int], int | None], int]) -> str | None:
        """What went wrong, or None. Ends with a clean collection, after which exactly what is needed is stored."""
        try:
            for person, until in self.lead:
                self.scheduler.lead(self.people.index(person), until, self.judge.check)
            self.scheduler.run(choose, self.judge.check)
            for process in self.scheduler.processes:
                if process.error is not None:
                    raise AssertionError(f"{process.name} failed: {process.error!r}")
            self._check_revoked()
            state = self.state()
            if state not in self.finished:
                self.finish()
                self.finished.add(state)
        except (AssertionError, LakeError) as error:
            return f"{error or repr(error)}"
        finally:
            self.scheduler.close()
        return None

    def finish(self) -> None:
        """Another process comes later: reads, collects, uploads. Claims of all others are those of the dead."""
        self.judge.check()
        self.scheduler.close()
        self.stale, self.claim_age_s = lambda owner: True, -1.0
        self.reader(0)
        self.gc(0)
        self.judge.check()
        stored = {key for key, file in self.judge.stored().items() if file.data != self.judge.damage}
        assert stored == self.judge.needed(), f"I7: after a clean collection {stored ^ self.judge.needed()} differs"
        self.check_left_over()
        for sid in (S, T):
            store = self.actor().store
            assert {v.key: v.digest for v in store.catalog.view(sid).live()} == self.judge.tree(sid.sid)
        self._upload(OTHER, "/afterwards")
        self.judge.check()

    def check_left_over(self) -> None:
        assert not self.fs.dirs[f"{ROOT}/pending"].names, "I7: a claim is left after a clean collection"
        assert not self.fs.dirs[f"{ROOT}/tmp"].names, "I7: scratch is left after a clean collection"

    def _check_revoked(self) -> None:
        for key in (S, T):
            committed = self.judge.tokens(key.sid) & self.judge.revoked
            assert not committed, f"I5: revoked claim {committed} was committed to {key}"

    def state(self) -> int:
        """The same for two runs that leave the same disk, the same uncertainty about it, and the same promises."""
        disk = frozenset(
            (path, len(home.history), name, what.data if isinstance(what, File) else None)
            for path, home in self.fs.dirs.items()
            for name, what in home.names.items()
        )
        return hash((disk, frozenset(self.judge.acked), frozenset(self.judge.healing)))

    def trace(self) -> str:
        return describe(self.scheduler.trace, ROOT + "/")


def empty_lake(*shards: str) -> SimFs:
    fs = SimFs()
    for name in ("tmp", "pending", "blobs", "sessions", "quarantine", *(f"blobs/{shard}" for shard in shards)):
        fs.make_dir(f"{ROOT}/{name}")
    return fs


@lru_cache
def base(lake: str, checkpoint_every: int) -> SimFs:
    """The lake before the race, everything durable. ``lake``: see ``furnish``; in "damaged" somebody has edited the
    copy of "garbage" through a hard link.
    """
    fs = empty_lake("5a")
    furnish(Actor(fs, 0xFFFF, stale=lambda owner: False, checkpoint_every=checkpoint_every).store, lake)
    if lake == "damaged":
        damage(fs)
    fs.sync("/")
    return fs


def furnish(store: Store, lake: str) -> None:
    """What is in the lake.

    ``lake``: "plain"; "gone" has a deleted file in ``s``; in "dead" ``/old`` is deleted; "garbage" has GONE without any
    reference, as a killed uploader leaves it.
    """
    commit(store, S, [{"op": "session"}])
    upload.upload_file(store, S, OLD, "/old", upload.Attributes())
    if lake == "gone":
        upload.upload_file(store, S, GONE, "/gone", upload.Attributes())
    if lake in ("gone", "dead"):
        tree.delete(store, S, tree.select(store.catalog.view(S), "/gone" if lake == "gone" else "/old"))
    commit(store, T, [{"op": "session"}])
    upload.upload_file(store, T, KEPT, "/kept", upload.Attributes())
    if lake in ("garbage", "damaged"):
        staged = take(GONE, store.blobs, limit=1000, shown="GONE").staged
        assert staged is not None
        store.blobs.publish(digest(GONE), staged)


def damage(fs: SimFs) -> None:
    """GONE as a user leaves it who edits a hard-linked file: other bytes of the same length, other time stamps."""
    path = f"{ROOT}/blobs/5a/{digest(GONE)}"
    fs.truncate(path, 0)
    fs.append(path, DAMAGE)


@contextmanager
def switched(home: Any, switch: str, value: Any = False) -> Iterator[None]:
    """A rule of the protocol switched off."""
    before = getattr(home, switch)
    setattr(home, switch, value)
    try:
        yield
    finally:
        setattr(home, switch, before)
