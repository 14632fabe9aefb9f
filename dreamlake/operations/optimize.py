"""Optimize: stored content re-encoded smaller in the background. Content, keys and checksums never change (I2).

Four steps, each safe beside uploads and collections, each resumable because it looks at what is there:

- *recode*: a checkpoint that is stored whole gets a coded form beside it, the newest first, as a base of older ones;
- *drop*: the whole copy of a content that has a complete coded form is condemned, and removed once the coded form was
  seen live after that, under a record that names it;
- *turn*: chains whose newest version needs many others are turned round (``turning``);
- *rebase*: parts that need a base which nothing else refers to any more are stored without it, when that is smaller.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dreamlake.content import codecs, reading
from dreamlake.content.assembled import part_needs, read_recipe, stored_part
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.names import twin
from dreamlake.content.presence import rely_on_recipe
from dreamlake.errors import ClaimRevoked, Corrupt, LakeError, NotFound
from dreamlake.model import SessionKey, Version, split_key
from dreamlake.operations.coding import MAX_TRIED, Known, code
from dreamlake.operations.commit import drop_form, store_coded
from dreamlake.operations.context import Store
from dreamlake.operations.references import Contents, Sessions
from dreamlake.operations.turning import turn

WORTH = 0.98  # a coded form must be at most this share of the whole copy

Progress = Callable[[str, int, int], None]  # phase, done, total (0: not known)


@dataclass
class Optimized:
    """What an optimization did, or with ``dry_run`` would look at. Sizes in stored bytes."""

    dry_run: bool = False
    candidates: int = 0
    candidate_bytes: int = 0
    recoded: int = 0
    left: int = 0
    dropped: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    turned_chains: int = 0
    turned_versions: int = 0
    turned_bytes_before: int = 0
    turned_bytes_after: int = 0
    rebased_parts: int = 0
    rebase_cost_bytes: int = 0
    freed_base_bytes: int = 0


def optimize(
    store: Store,
    *,
    sessions: Sequence[SessionKey] | None = None,
    encoding: str = "auto",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Optimized:
    """Code what is stored whole, drop superfluous whole copies, turn chains round so that their newest versions read
    fast, and free bases that only differences still need.

    Args:
        sessions: only content of these; None for all. Bases are freed in the whole lake when it is None.
        encoding: "auto" for containers of tensors, "coded" for every large file.
        dry_run: only count what is stored whole and would be tried, and chains that would be turned round.

    Raises ``Corrupt`` for content that does not match its checksum; what was done before stays done.
    """
    report = Optimized(dry_run)
    tell = progress or (lambda phase, done, total: None)
    wanted = store.catalog.sessions() if sessions is None else list(sessions)
    for done, session in enumerate(wanted):
        tell("recode", done, len(wanted))
        _recode_session(store, session, encoding, report)
    turned = turn(store, sessions=sessions, dry_run=dry_run, progress=progress)
    report.turned_chains, report.turned_versions = turned.chains, turned.versions
    report.turned_bytes_before, report.turned_bytes_after = turned.old_bytes, turned.new_bytes
    if not dry_run and sessions is None:
        freed = rebase(store, progress=progress)
        report.rebased_parts, report.rebase_cost_bytes = freed.parts, freed.cost_bytes
        report.freed_base_bytes = freed.base_bytes
    return report


def _recode_session(store: Store, session: SessionKey, encoding: str, report: Optimized) -> None:
    view = store.catalog.view(session)
    newer: dict[tuple[str | None, str], list[Known]] = defaultdict(list)  # the nearest first
    seen: set[str] = set()
    kept = (v for v in view.versions() if v.size_bytes >= MIN_FILE and v.deleted_at is None)
    for version in sorted(kept, reverse=True):
        folder, name = split_key(version.key)
        suffix = os.path.splitext(name)[1]
        series = [*newer[folder, suffix][:MAX_TRIED], *newer[None, suffix][:MAX_TRIED]]
        if version.digest not in seen:
            seen.add(version.digest)
            whole = _whole_size(store, version.digest)
            if whole is not None:
                report.candidates += 1
                report.candidate_bytes += whole
                if not report.dry_run:
                    _recode(store, session, version, whole, series, encoding, report)
        for where in (folder, None):
            newer[where, suffix].insert(0, (version.key, version.digest, version.size_bytes))


def _whole_size(store: Store, digest: str) -> int | None:
    """Stored bytes of a whole copy; None when there is none, or it is framed."""
    try:
        with store.blobs.open(digest) as stream:
            return stream.seek(0, os.SEEK_END)
    except NotFound:
        return None


def _recode(
    store: Store,
    session: SessionKey,
    version: Version,
    whole: int,
    series: Sequence[Known],
    encoding: str,
    report: Optimized,
) -> None:
    digest, size = version.digest, version.size_bytes
    if rely_on_recipe(store.blobs, digest, size, resurrect=False) is None:
        new_bytes = _code_again(store, session, version, whole, series, encoding)
        if new_bytes is None:
            report.left += 1
            return
        report.recoded += 1
        report.bytes_after += new_bytes
    if drop_form(store, session, digest, size, digest):
        report.dropped += 1
        report.bytes_before += whole


def _code_again(
    store: Store,
    session: SessionKey,
    version: Version,
    whole: int,
    series: Sequence[Known],
    encoding: str,
) -> int | None:
    """Stored bytes of the new coded form; None when the content stays as it is."""
    view = store.catalog.view(session)
    with reading.open_plain(store.blobs, version.digest, version.size_bytes) as file:
        coded = code(
            store, view, version.key, file, version.size_bytes, encoding=encoding, earlier=series, thorough=True
        )
    if coded is None:
        return None
    return store_coded(store, session, version.digest, version.size_bytes, coded, most=WORTH * whole)


@dataclass
class Rebased:
    """``parts`` were stored without their base, for ``cost_bytes`` more; ``base_bytes`` are free for collection."""

    parts: int = 0
    cost_bytes: int = 0
    base_bytes: int = 0

    def note(self) -> str:
        return (
            f"{self.parts:,} parts were stored anew without bases that only they still needed: "
            f"{self.cost_bytes:,} bytes more, {self.base_bytes:,} bytes less"
        )


def rebase(store: Store, *, progress: Progress | None = None) -> Rebased:
    """Store parts without a base that only they still need, when that takes less than the base does.

    A part is only ever rewritten into a form that needs nothing, so that parts can never come to need each other.
    """
    report = Rebased()
    contents = Contents.of(store)
    direct = _direct_parts(store, contents)
    dependents: dict[str, list[str]] = defaultdict(list)
    for key in direct:
        for base in _bases(store, key):
            if base not in direct and base != twin(key):  # the same in the other slot: where an upload looks for it
                dependents[base].append(key)
    for done, (base, keys) in enumerate(sorted(dependents.items())):
        if progress:
            progress("rebase", done, len(dependents))
        _free_base(store, base, keys, direct, report)
    return report


def _direct_parts(store: Store, contents: Contents) -> dict[str, tuple[int, int]]:
    """Parts that a recipe of kept content names -> (bytes, element width)."""
    direct: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    for _, fold in Sessions(store):
        for version in fold.kept():
            if version.digest in seen or not contents.has_recipe(version.digest):
                continue
            seen.add(version.digest)
            try:
                parts = read_recipe(store.blobs, version.digest).parts
            except LakeError:
                continue  # damaged or just gone: nothing of it is rewritten
            direct.update((part.key, (part.size, part.width)) for part in parts)
    return direct


def _bases(store: Store, key: str) -> list[str]:
    try:
        return [base for base, _ in part_needs(store.blobs, key)]
    except LakeError:
        return []


def _free_base(
    store: Store, base: str, keys: Iterable[str], direct: dict[str, tuple[int, int]], report: Rebased
) -> None:
    keys = [key for key in keys if base in _bases(store, key)]  # one may have lost it with another base already
    gain = sum(_stored_size(store, link) for link in _propped(store, base, direct))
    staged = []
    cost = 0
    try:
        for key in keys:
            size, width = direct[key]
            plain = codecs.read_part(key, size, lambda k: stored_part(store.blobs, k))
            alone = codecs.encode_part(plain, width)
            if codecs.decode_part(alone.stored, size, _no_base) != plain:
                raise Corrupt(f"part {key} does not survive coding", path=key)
            cost += len(alone.stored) - _stored_size(store, key)
            stager = store.blobs.stage()
            staged.append((key, stager))
            stager.write(alone.stored)
        if not staged or cost >= gain:
            return
        waiting = [(key, stager.finish()) for key, stager in staged]
        store.blobs.secure([item for _, item in waiting])
        for key, item in waiting:
            store.blobs.publish(key, item)
        store.blobs.barrier([key for key, _ in waiting])
    except (NotFound, ClaimRevoked):
        return  # collected in between
    finally:
        for _, stager in staged:
            stager.discard()
    report.parts += len(staged)
    report.cost_bytes += cost
    report.base_bytes += gain


def _propped(store: Store, base: str, direct: dict[str, tuple[int, int]]) -> Iterator[str]:
    """A base that no recipe names, and all that it needs and no recipe names either: the chain that goes with it."""
    waiting, seen = [base], set(direct)
    while waiting:
        link = waiting.pop()
        if link not in seen:
            seen.add(link)
            yield link
            waiting += _bases(store, link)


def _no_base(key: str, size: int) -> bytes:
    raise Corrupt(f"a form that needs nothing refers to {key}", path=key)


def _stored_size(store: Store, key: str) -> int:
    with store.blobs.open(key) as stream:
        return stream.seek(0, os.SEEK_END)
