"""A folder tree as a source. Unlike an upload, which refuses a tree that it cannot store whole, an import takes what it
can and says what it left out: links, devices, names that a lake cannot hold, files that cannot be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext

from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import MAX_PATH_DEPTH, file_key
from dreamlake.operations.folders import natural_order
from dreamlake.operations.importing import FoundFile, Skip

__all__ = ["files_below", "local_file", "tree_of"]

_KINDS = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))


def tree_of(folder: str, path: str, skip: Skip, *, hidden: bool = True) -> Iterator[FoundFile]:
    """The files of a tree, to go below ``path``, in natural order.

    Args:
        hidden: False leaves out what begins with a dot.

    Raises:
        NotFound, InvalidInput: no such folder.
    """
    if not os.path.isdir(folder):
        missing = not os.path.lexists(folder)
        raise (NotFound if missing else InvalidInput)(
            f"no such folder: {folder}" if missing else f"{folder} is not a folder", path=folder
        )
    for file, relative, size in files_below(folder, skip):
        if not hidden and any(part.startswith(".") for part in relative.split("/")):
            continue
        parent, _, name = relative.rpartition("/")
        try:
            key = file_key(f"{path}/{parent}", name)
        except InvalidInput as error:
            skip(file, str(error))
            continue
        yield local_file(key, file, size)


def local_file(key: str, file: str, size: int) -> FoundFile:
    """A file on disk as it stands there."""
    return FoundFile(key, file, size, lambda: nullcontext(file))


def files_below(folder: str, skip: Skip) -> Iterator[tuple[str, str, int]]:
    """(path on disk, relative path, size) of every regular file, folder by folder in natural order. Follows no link."""
    waiting = [("", 1)]
    while waiting:
        prefix, depth = waiting.pop()
        place = os.path.join(folder, prefix) if prefix else folder
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: natural_order(entry.name))
        except OSError as error:
            skip(place, f"cannot be listed: {error.strerror}")
            continue
        below = []
        for entry in found:
            relative = prefix + entry.name
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError as error:
                skip(entry.path, f"cannot be read: {error.strerror}")
                continue
            if stat.S_ISDIR(facts.st_mode):
                if depth >= MAX_PATH_DEPTH:
                    skip(entry.path, f"is more than {MAX_PATH_DEPTH} folders deep")
                else:
                    below.append((relative + "/", depth + 1))
            elif stat.S_ISREG(facts.st_mode):
                yield entry.path, relative, facts.st_size
            else:
                skip(entry.path, f"is {_kind(facts.st_mode)}")
        waiting.extend(reversed(below))


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "a device")
