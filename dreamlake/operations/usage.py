"""What takes the space? Logical against stored bytes, who shares what, what deleting something would free, and why.

Everything is answered from the folds and one listing of the copies; nothing is read or changed. Memory stays bounded
with millions of blobs: references are packed and joined shard by shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dreamlake.catalog.fold import Kept
from dreamlake.content.names import PARTS, is_recipe
from dreamlake.errors import InvalidInput
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.packed import Packed
from dreamlake.operations.references import Contents, Reason, Sessions, reason_of

GROUPS = ("session", "path", "kind", "state")
MAX_GROUPS = 1 << 24
_SHARED = (1 << 24) - 1  # marks a blob of several groups


@dataclass
class Stats:
    """Totals of a lake. Bytes are plain (logical), stored (sum of the sizes of the copies) or on the disk (blocks).

    ``stored_bytes`` is what ``du --apparent-size`` counts for the files in ``blobs/``, ``disk_bytes`` what ``du`` does.
    """

    sessions: int = 0
    files: int = 0
    versions: int = 0
    deleted: int = 0
    live_bytes: int = 0
    logical_bytes: int = 0
    blobs: int = 0
    stored_bytes: int = 0
    disk_bytes: int = 0
    other: dict[str, tuple[int, int]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "sessions": self.sessions,
            "files": self.files,
            "versions": self.versions,
            "deletedVersions": self.deleted,
            "liveBytes": self.live_bytes,
            "logicalBytes": self.logical_bytes,
            "blobs": self.blobs,
            "storedBytes": self.stored_bytes,
            "diskBytes": self.disk_bytes,
            **{name: {"count": count, "bytes": size} for name, (count, size) in self.other.items()},
        }


def stats(store: Store) -> Stats:
    """Totals. ``files`` and ``live_bytes`` are of current versions, ``versions`` and ``logical_bytes`` of all kept."""
    result = Stats()
    for _, fold in Sessions(store):
        result.sessions += fold.info.exists
        for version in fold.kept():
            result.versions += 1
            result.logical_bytes += version.size_bytes
            result.deleted += version.deleted_at is not None
            if version.current:
                result.files += 1
                result.live_bytes += version.size_bytes
    space = store.blobs.space()
    live, trash = space["live"], space["condemned"]
    result.blobs = live.files
    result.stored_bytes = live.size_bytes + trash.size_bytes
    result.disk_bytes = live.disk_bytes + trash.disk_bytes
    names = {"condemned": "trash", "scratch": "scratch", "quarantine": "quarantine"}
    result.other = {names[name]: (s.files, s.size_bytes) for name, s in space.items() if name in names}
    return result


class Usage(NamedTuple):
    """What one group takes. ``logical`` counts every version; the others count each stored blob once.

    Attributes:
        shared: stored bytes that other groups need, too.
        exclusive: stored bytes that only this group needs: what deleting it would free, once the deleted versions
            have been let go and the trash time is over.
    """

    group: str
    files: int
    versions: int
    logical: int
    stored: int
    shared: int
    exclusive: int

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        names = ("group", "files", "versions", "logicalBytes", "storedBytes", "sharedBytes", "exclusiveBytes")
        return dict(zip(names, self, strict=True))


Select = Callable[[SessionKey, Kept], bool]


def usage(store: Store, by: str = "session", *, depth: int = 1, select: Select | None = None) -> list[Usage]:
    """Space by group, the largest exclusive share first.

    Args:
        by: "session"; "path" (the first ``depth`` folders); "kind" (file name extension); "state" (live, history or
            deleted).
        select: only these versions form groups; all others count as another user of what they share.

    Raises ``InvalidInput`` for another ``by``.
    """
    name_of = _namer(by, depth)
    if select is None:
        return _join(store, name_of)
    chosen = select
    return _join(store, lambda session, version: name_of(session, version) if chosen(session, version) else None)


def freed_by(store: Store, select: Select) -> Usage:
    """What deleting the selected versions would free: one group of them all."""
    found = _join(store, lambda session, version: "selected" if select(session, version) else None)
    return found[0] if found else Usage("selected", 0, 0, 0, 0, 0, 0)


def _namer(by: str, depth: int) -> Callable[[SessionKey, Kept], str]:
    if by == "session":
        return lambda session, version: session.full
    if by == "path":
        return lambda session, version: "/".join(version.key.split("/")[:-1][: depth + 1]) or "/"
    if by == "kind":
        return lambda session, version: _kind(version.key)
    if by == "state":
        return lambda session, version: reason_of(version).name.lower()
    raise InvalidInput(f"usage by {by!r}; use {', '.join(GROUPS)}")


def _kind(key: str) -> str:
    name = key.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and len(suffix) <= 16 else "(none)"


def _join(store: Store, group_of: Callable[[SessionKey, Kept], str | None]) -> list[Usage]:
    """Group every version, then join the groups of each blob with the size of its copies."""
    numbers: dict[str, int] = {}
    totals: list[list[int]] = []  # files, versions, logical
    refs = Packed(3, lambda a, b: a if a == b else _SHARED)  # key -> its only group, or _SHARED
    members = Packed(3)  # (key, group): which groups share it
    contents = Contents.of(store)
    for session, fold in Sessions(store):
        for version in fold.kept():
            name = group_of(session, version)
            number = 0 if name is None else numbers.setdefault(name, len(numbers) + 1)
            if number >= MAX_GROUPS - 1:
                raise InvalidInput(f"more than {MAX_GROUPS:,} groups; use a smaller depth")
            if number > len(totals):
                totals.append([0, 0, 0])
            if number:
                _count(totals[number - 1], version)
            for key in contents.keys(version.digest):
                refs.add(key, number)
                if number:
                    members.add(key, number)
    sizes = Packed(8, lambda a, b: a + b)
    for copy in store.blobs.copies():
        sizes.add(copy.key, copy.size)
    stored, shared = [0] * len(totals), [0] * len(totals)
    for shard in members.shards():
        _weigh(shard, refs, members, sizes, stored, shared)
    rows = [
        Usage(name, total[0], total[1], total[2], size, part, size - part)
        for name, total, size, part in zip(numbers, totals, stored, shared, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.exclusive, row.group))


def _count(total: list[int], version: Kept) -> None:
    total[0] += version.current
    total[1] += 1
    total[2] += version.size_bytes


def _weigh(shard: str, refs: Packed, members: Packed, sizes: Packed, stored: list[int], shared: list[int]) -> None:
    size_of, group_of = sizes.table(shard), refs.table(shard)
    for key, number in set(members.rows(shard)):
        digest = bytes.fromhex(key[-64:])
        size = size_of.get(digest, 0)
        stored[number - 1] += size
        if group_of[digest] == _SHARED:
            shared[number - 1] += size


# ---- why is it kept? ---------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """One thing that keeps a blob (or, for ``trash`` and ``nothing``, does not)."""

    key: str
    reason: str
    session: str | None
    path: str | None
    version: int | None
    aliases: tuple[str, ...]
    detail: str

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "checksum": self.key,
            "reason": self.reason,
            "session": self.session,
            "path": self.path,
            "version": self.version,
            "aliases": list(self.aliases),
            "detail": self.detail,
        }


def why(store: Store, prefix: str) -> list[Link]:
    """Everything that keeps the blobs whose key starts with ``prefix``: claims, versions, aliases; or nothing does.

    Args:
        prefix: a checksum, or at least its first 6 hexadecimal digits.

    Raises ``InvalidInput`` for anything else.
    """
    start = prefix.strip().lower()
    bare = start[len(PARTS[0]) :] if start.startswith(PARTS) else start
    if not 6 <= len(bare) <= 64 or set(bare) - set("0123456789abcdef"):
        raise InvalidInput(f"{prefix!r} is not a checksum: give 6 to 64 hexadecimal digits")
    links = [*_claimed(store, start), *_versions(store, start)]
    kept = {link.key for link in links}
    for copy in store.blobs.copies():
        key = copy.key[-64:] if is_recipe(copy.key) else copy.key  # a recipe is one of the forms of its content
        if key.startswith(start):
            if copy.batch is not None:
                links.append(_bare(key, "trash", f"condemned by run {copy.batch}, {copy.size:,} bytes"))
            elif key not in kept:
                links.append(_bare(key, "nothing", f"{copy.size:,} bytes; the next gc puts it into the trash"))
    return links


def _claimed(store: Store, start: str) -> Iterator[Link]:
    for claim in store.catalog.pending():
        for key in claim.record.needs:
            if key.startswith(start):
                owner = claim.record.owner
                detail = f"claimed by process {owner.pid} on {owner.host}, {claim.age_s:,.0f} s ago"
                yield Link(key, Reason.PENDING.name.lower(), claim.record.session.full, None, None, (), detail)


def _versions(store: Store, start: str) -> Iterator[Link]:
    part = start.startswith(PARTS)
    contents = Contents.of(store) if part else Contents(store.blobs)
    for session, fold in Sessions(store):
        for version in fold.kept():
            for key in contents.keys(version.digest):
                if key.startswith(start):
                    state = fold.file_with(version.id)
                    named = state.aliases.items() if state is not None else ()
                    aliases = tuple(sorted(name for name, target in named if target == version.id))
                    detail = f"deleted {version.deleted_at}" if version.deleted_at is not None else ""
                    reason = reason_of(version).name.lower()
                    yield Link(key, reason, session.full, version.key, version.number, aliases, detail)


def _bare(key: str, reason: str, detail: str) -> Link:
    return Link(key, reason, None, None, None, (), detail)
