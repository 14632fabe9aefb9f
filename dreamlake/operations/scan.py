"""What storing a folder would take: whole files, each tensor once, and differences between versions.

Every checkpoint is really cut and coded as an upload would, into a store that only counts. Nothing is stored and
nothing is written. Owns: which files count, their order, and the sums. Links are not followed.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dreamlake.content.containers import Odd
from dreamlake.content.staging import Progress
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.operations.folders import natural_order
from dreamlake.operations.weighing import FileCost, Weigher

__all__ = ["ORDERS", "FileCost", "Found", "Group", "Scan", "find_files", "scan"]

ORDERS = ("saved", "stored", "size")
ENCODINGS = ("auto", "coded")
_STORE_DIR = ".dreamlake"
_SKIPPED_SHOWN = 100
_MAX_SUFFIX = 16


class FoundFile(NamedTuple):
    """A regular file: its path relative to the folder (with slashes) and its bytes."""

    relative: str
    size: int


@dataclass
class Found:
    """The files of a folder in natural order, and what is left out: (relative path, reason), the first ones of it."""

    root: str
    files: list[FoundFile] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_count: int = 0
    links: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def skip(self, relative: str, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < _SKIPPED_SHOWN:
            self.skipped.append((relative, reason))


@dataclass
class Group:
    """Sums over files of one suffix and kind; bytes as in ``FileCost``."""

    suffix: str = ""
    kind: str = ""
    files: int = 0
    size: int = 0
    whole: int = 0
    parts: int = 0
    differences: int = 0

    def add(self, cost: FileCost) -> None:
        self.files += 1
        self.size += cost.size
        self.whole += cost.whole
        self.parts += cost.parts
        self.differences += cost.differences


@dataclass
class Scan:
    """The result. ``groups`` with the most bytes first; ``top``: the files that count most, in the order asked for.

    ``read_bytes``: how much was read. With ``quick`` all but the sizes are estimates. What was ``skipped`` (the first
    ones of it) counts nowhere.
    """

    root: str
    quick: bool
    total: Group
    groups: list[Group]
    top: list[FileCost]
    skipped: list[tuple[str, str]]
    skipped_count: int
    links: int
    read_bytes: int
    seconds: float


def find_files(folder: str | os.PathLike[str]) -> Found:
    """The regular files below a folder. What cannot be listed is noted; a lake's own store is left out.

    Raises ``NotFound`` or ``InvalidInput`` for what is no folder, ``OSError`` when it cannot be read itself.
    """
    root = os.path.expanduser(os.fspath(folder))
    if not os.path.isdir(root):
        if not os.path.lexists(root):
            raise NotFound(f"no folder {root}", path=root)
        raise InvalidInput(f"{root} is no folder; scan takes the folder that the files are in", path=root)
    os.scandir(root).close()
    found = Found(root)
    waiting = [""]
    while waiting:
        waiting += _list(found, waiting.pop())
    found.files.sort(key=lambda file: natural_order(file.relative))
    return found


def _list(found: Found, folder: str) -> list[str]:
    """Take in the files of one folder; returns its sub-folders, relative like everything."""
    below: list[str] = []
    try:
        with os.scandir(os.path.join(found.root, folder)) as entries:
            for entry in entries:
                relative = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    found.links += 1
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name == _STORE_DIR:
                        found.skip(relative, "the store of a lake")
                    else:
                        below.append(relative)
                elif entry.is_file(follow_symlinks=False):
                    found.files.append(FoundFile(relative, entry.stat(follow_symlinks=False).st_size))
                else:
                    found.skip(relative, "not a regular file")
    except OSError as error:
        found.skip(folder or ".", _reason(error))
    return below


def scan(
    found: Found,
    *,
    encoding: str = "auto",
    quick: bool = False,
    top: int = 10,
    order: str = "saved",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Count what storing the files would take.

    Args:
        encoding: "auto" cuts containers of tensors, "coded" every large file.
        quick: read an eighth of the large files and estimate the rest.
        top: how many single files to report, those with most of ``order``: "saved" (against the file as it is),
            "stored" or "size".
        workers: threads (default: one a core).

    A file that cannot be read, or that changes meanwhile, is noted and counts nowhere. Raises ``InvalidInput``.
    """
    for name, value, known in (("encoding", encoding, ENCODINGS), ("order", order, ORDERS)):
        if value not in known:
            raise InvalidInput(f"{name}={value!r}; use one of {', '.join(known)}")
    if top < 0:
        raise InvalidInput(f"top={top}; it must not be negative")
    start = time.perf_counter()
    weigher = Weigher(found.root, found.files, encoding=encoding, quick=quick, workers=workers, progress=progress)
    total, groups, best = Group(), dict[tuple[str, str], Group](), list[tuple[int, int, FileCost]]()
    for place, cost in enumerate(_costs(found, weigher)):
        key = _suffix(cost.relative), cost.kind
        for group in (total, groups.setdefault(key, Group(*key))):
            group.add(cost)
        weight = {"saved": cost.size - cost.differences, "stored": cost.differences, "size": cost.size}[order]
        if weight:
            heapq.heappush(best, (weight, -place, cost))
        if len(best) > top:
            heapq.heappop(best)
    return Scan(
        found.root,
        quick,
        total,
        sorted(groups.values(), key=lambda group: (-group.size, group.suffix, group.kind)),
        [cost for _, _, cost in sorted(best, reverse=True)],
        found.skipped,
        found.skipped_count,
        found.links,
        weigher.read_bytes,
        time.perf_counter() - start,
    )


def _costs(found: Found, weigher: Weigher) -> Iterator[FileCost]:
    """Checkpoints first, in order, each on all cores; then all other files at once."""
    rest: list[int] = []
    for number, file in enumerate(found.files):
        try:
            cost = weigher.container(number)
        except OSError as error:
            found.skip(file.relative, _reason(error))
        except Odd:
            found.skip(file.relative, "changed while it was read")
        else:
            if cost is None:
                rest.append(number)
            else:
                yield cost
    for weighed in weigher.whole(rest):
        if isinstance(weighed, FileCost):
            yield weighed
        else:
            found.skip(found.files[weighed[0]].relative, _reason(weighed[1]))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _suffix(relative: str) -> str:
    """``".pth"``; "" for a suffix that is a number, or no suffix at all."""
    suffix = os.path.splitext(relative)[1].lower()
    return "" if suffix[1:].isdecimal() or len(suffix) > _MAX_SUFFIX else suffix
