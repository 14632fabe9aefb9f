"""What materialize placed: the memory that tells its own files from the user's.

One file of JSON lines for each session and target tree, in the store's ``placed/``. Every batch is one append, so that
a crash loses little and two runs at once do not erase each other's lines. Losing it costs time (files are then
compared by content) and makes ``delete`` leave files alone; it never costs a user's data.

    ["file", key, digest, size, mtime_ns, ctime_ns, inode, kind, asked]     ["gone", key]
    ["dir", relative path]                                                  ["nodir", relative path]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from dreamlake.model import SessionKey
from dreamlake.ports import Ports, Stat

LINKS = ("auto", "reflink", "hardlink", "symlink", "copy")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KEEP_LINES = 256  # superseded lines that are not worth a rewrite


class Mark(NamedTuple):
    """A file as materialize left it. ``ctime_ns`` is 0 where others may change it (the inode of a hard link).

    ``kind`` is what was made (copy, reflink, hardlink, symlink), ``asked`` the link mode it was made or found under.
    """

    digest: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    kind: str
    asked: str

    def untouched(self, now: Stat) -> bool:
        """True while nobody has written to the file or put another in its place."""
        same = (now.size, now.mtime_ns, now.inode) == (self.size, self.mtime_ns, self.inode)
        return same and self.ctime_ns in (0, now.ctime_ns)


def mark_of(stat: Stat, digest: str, kind: str, asked: str) -> Mark:
    ctime = 0 if kind == "hardlink" else stat.ctime_ns
    return Mark(digest, stat.size, stat.mtime_ns, ctime, stat.inode, kind, asked)


class Placed:
    """The memory of one session's tree below one target root. Not for use by several threads at once.

    Attributes:
        files: logical path -> mark.
        folders: directories that materialize made, relative to the target root.
    """

    def __init__(self, ports: Ports, folder: str | None, target: str, session: SessionKey) -> None:
        """``folder``: the store's directory for these, or None to remember nothing. ``target``: names the root."""
        self._ports, self._folder = ports, folder
        name = hashlib.sha256(f"{target}\n{session.full}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._path = f"{folder}/{name}.jsonl"
        self.files: dict[str, Mark] = {}
        self.folders: set[str] = set()
        self._lines = 0
        self._new: list[str] = []
        if folder is not None:
            self._load()

    def put(self, key: str, mark: Mark) -> None:
        self.files[key] = mark
        self._new.append(_file_line(key, mark))

    def forget(self, key: str) -> None:
        if self.files.pop(key, None) is not None:
            self._add(["gone", key])

    def add_folder(self, relative: str) -> None:
        if relative not in self.folders:
            self.folders.add(relative)
            self._add(["dir", relative])

    def forget_folder(self, relative: str) -> None:
        self.folders.discard(relative)
        self._add(["nodir", relative])

    def save(self, *, last: bool = False) -> None:
        """Append what is new; ``last``: also drop superseded lines when they have become many.

        A store that cannot be written to (read-only, full) is no error: the next run compares by content.
        """
        if self._folder is None:
            return
        new, self._new = self._new, []
        with contextlib.suppress(OSError):
            if new:
                self._append(("\n" + "\n".join(new) + "\n").encode("utf-8", "surrogateescape"))
                self._lines += len(new)
            live = len(self.files) + len(self.folders)
            if last and self._lines > 2 * live + _KEEP_LINES:
                self._rewrite()

    def _add(self, line: list[Any]) -> None:
        self._new.append(_encode(line))

    def _append(self, data: bytes) -> None:
        try:
            self._ports.fs.append(self._path, data)
        except FileNotFoundError:
            self._ports.fs.make_dir(str(self._folder))
            self._ports.fs.append(self._path, data)

    def _rewrite(self) -> None:
        lines = [_file_line(key, mark) for key, mark in self.files.items()]
        lines += [_encode(["dir", relative]) for relative in sorted(self.folders)]
        scratch = f"{self._folder}/.{self._ports.scratch_name('placed')}"
        self._ports.fs.write(scratch, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
        self._ports.fs.rename(scratch, self._path)
        self._lines = len(lines)

    def _load(self) -> None:
        try:
            data = self._ports.fs.read(self._path)
        except OSError:
            return
        rows = _rows(data)
        self._lines = len(rows)
        for row in rows:
            self._take(row)

    def _take(self, row: Any) -> None:
        """One line; what does not look like one is skipped (torn by a crash, or of a later release)."""
        match row:
            case ["file", str(key), str(), int(), int(), int(), int(), str(), str()]:
                self.files[key] = Mark(*row[2:])
            case ["gone", str(key)]:
                self.files.pop(key, None)
            case ["dir", str(relative)] if not {"", ".", ".."}.intersection(relative.split("/")):
                self.folders.add(relative)
            case ["nodir", str(relative)]:
                self.folders.discard(relative)
            case _:
                pass


def _file_line(key: str, m: Mark) -> str:
    """What ``_encode(["file", key, *m])`` gives, several times faster: there may be very many."""
    numbers = f"{m.size},{m.mtime_ns},{m.ctime_ns},{m.inode}"
    return f'["file",{_encode(key)},"{m.digest}",{numbers},"{m.kind}","{m.asked}"]'


def _rows(data: bytes) -> list[Any]:
    lines = [line for line in data.split(b"\n") if line]
    try:
        rows: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")  # all at once is several times faster
        return rows
    except ValueError:
        return list(_readable(lines))


def _readable(lines: Iterable[bytes]) -> Iterable[Any]:
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
