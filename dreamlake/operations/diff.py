"""What differs between two sessions, folders, files or versions, stored or on disk.

Owns: which files are compared with which, and what they share. How much tensors differ is ``tensor_diff``'s business.
Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dreamlake.content.recent import RecentParts
from dreamlake.content.staging import Progress
from dreamlake.errors import InvalidInput
from dreamlake.operations.sides import Entry, Side, hashed
from dreamlake.operations.tensor_diff import TensorChange, compare

__all__ = ["Diff", "FileChange", "diff"]

_SHARED_BYTES = 64 << 20  # plain parts that two versions of a file leave to each other


class FileChange(NamedTuple):
    """One file that is not the same on both sides.

    Attributes:
        change: added, removed, changed or moved.
        path: where it is; of a removed one where it was.
        moved_from: where a moved one was, else None.
        before, after: bytes; None where there is no such file.
        checksums: SHA-256 before and after; None where it was not needed to tell.
        shared: bytes of it that the first side holds, too: all of a known content, else the parts that are stored once
            for both, or the tensors that are the same where these are more.
        tensors: of a changed checkpoint all tensors, else None.
    """

    change: str
    path: str
    moved_from: str | None
    before: int | None
    after: int | None
    checksums: tuple[str | None, str | None]
    shared: int
    tensors: list[TensorChange] | None = None


@dataclass
class Diff:
    """The result. ``same``: how many files are equal at the same path. Sizes in bytes, first and second side.

    ``shared``: bytes of the second side that the first one holds, too. ``skipped``: (path, reason) of what cannot be
    compared, such as folders that cannot be listed.
    """

    a: str
    b: str
    sizes: tuple[int, int]
    same: int = 0
    shared: int = 0
    changes: list[FileChange] = field(default_factory=list)
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.changes)

    def count(self, change: str) -> int:
        """How many files were added, removed, changed or moved."""
        return sum(1 for found in self.changes if found.change == change)


def diff(a: Side, b: Side, *, tensors: bool = True, progress: Progress | None = None) -> Diff:
    """Compare two sides.

    Args:
        tensors: also compare the tensors of changed checkpoints.

    Raises:
        InvalidInput: one side is a file and the other is not.
        Corrupt: stored content is damaged.
        OSError: a local file cannot be read.
    """
    if a.single != b.single:
        one, other = (a, b) if a.single else (b, a)
        raise InvalidInput(f"{one.title} is a file and {other.title} is not; name two files, or two folders")
    if a.single:  # whatever they are called
        (first,), (second,) = a.files.values(), b.files.values()
        a = a._replace(files={second.path: first})
    old, new = hashed(a, b, progress)
    result = Diff(a.title, b.title, (a.size_bytes, b.size_bytes), skipped=a.skipped + b.skipped)
    shared = _Shared(old.values())
    moved = _moves(old, new)
    for path, entry in new.items():
        before = old.get(path)
        if before is None and path in moved:
            before = old[moved[path]]
        if before is not None and before.digest is not None and before.digest == entry.digest:
            if before is old.get(path):
                result.same += 1
            else:
                result.changes.append(_made("moved", path, before, entry, entry.size))
            result.shared += entry.size
            continue
        found = _made("changed" if before is not None else "added", path, before, entry, shared.bytes_of(entry))
        if before is not None and tensors:
            compared = _tensors(before, entry, progress)
            found = found._replace(tensors=compared, shared=max(found.shared, _equal_bytes(compared or ())))
        result.shared += found.shared
        result.changes.append(found)
    gone = [path for path in old if path not in new and path not in moved.values()]
    result.changes += [_made("removed", path, old[path], None, 0) for path in gone]
    return result


def _made(change: str, path: str, before: Entry | None, after: Entry | None, shared: int) -> FileChange:
    return FileChange(
        change,
        path,
        before.path if change == "moved" and before is not None else None,
        None if before is None else before.size,
        None if after is None else after.size,
        (None if before is None else before.digest, None if after is None else after.digest),
        shared,
    )


def _moves(old: dict[str, Entry], new: dict[str, Entry]) -> dict[str, str]:
    """New path -> old path, for content that is only at another path now."""
    waiting: dict[str, list[str]] = {}
    for path, entry in reversed(old.items()):
        if path not in new and entry.digest is not None:
            waiting.setdefault(entry.digest, []).append(path)
    found: dict[str, str] = {}
    for path, entry in new.items():
        if path not in old and entry.digest is not None and waiting.get(entry.digest):
            found[path] = waiting[entry.digest].pop()
    return found


def _tensors(before: Entry, after: Entry, progress: Progress | None) -> list[TensorChange] | None:
    """The tensors of a changed file; None unless both versions are containers."""
    beside = RecentParts(_SHARED_BYTES)
    first = before.tensors(beside)
    if first is None:
        return None
    with first:
        second = after.tensors(beside)
        if second is None:
            return None
        with second:
            return compare(first, second, progress=progress)


def _equal_bytes(tensors: Iterable[TensorChange]) -> int:
    """Bytes of the tensors that are the same; of two names for one, once."""
    places = {(t.after.offset, t.after.length) for t in tensors if t.change == "same" and t.after is not None}
    return sum(length for _, length in places)


class _Shared:
    """What of a content the first side holds. Its parts are looked up when they are first asked for."""

    def __init__(self, old: Iterable[Entry]) -> None:
        self._old = list(old)
        self._digests = {entry.digest for entry in self._old if entry.digest is not None}
        self._parts: set[str] | None = None

    def bytes_of(self, entry: Entry) -> int:
        if entry.digest in self._digests:
            return entry.size
        parts = entry.parts()
        if parts and self._parts is None:
            self._parts = {key for known in self._old for key in known.parts()}
        return sum(size for key, size in parts.items() if key in (self._parts or ()))
