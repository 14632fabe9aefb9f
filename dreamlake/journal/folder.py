"""A journal in a session's folder, as files that people read:

    parameters.json                 document PARAMETERS
    logs/logs.jsonl                 stream LOGS
    runs.jsonl                      stream RUNS
    tracks/<name>/data.jsonl        stream TRACKS + name
    tracks/<name>/metadata.json     document TRACKS + name
    .lock                           empty; whoever updates a document holds it

A document is replaced by rename. A row is one line, added by one write under a lock. The lock of a stream is taken
on its data file itself: that file is never replaced, so no further file is needed and streams do not wait for each
other. Documents are replaced, so a lock on one would be a lock on a file that is gone; they share ``.lock``, hidden
from ``ls``. The kernel drops both kinds of lock when their holder dies. Readers take no lock.

Upholds I3 (documents) and I4 (documents at once; rows: against kill -9 at once, against power loss after ``Later``).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from dreamlake import values
from dreamlake.errors import Corrupt, InvalidInput
from dreamlake.inside import check_inside
from dreamlake.journal import (
    LOGS,
    MAX_ROW_BYTES,
    PARAMETERS,
    RUNS,
    TRACKS,
    Change,
    Document,
    Extent,
    Row,
    number_key,
)
from dreamlake.journal.later import Later
from dreamlake.journal.lines import Lines
from dreamlake.journal.names import DATA_FILE, MAX_NAME_DEPTH, METADATA_FILE, RESERVED_NAMES, scratch_name
from dreamlake.ports import Ports, scan

SYNC_DELAY_S = 1.0  # how long an append may wait for its fsync
_LOCK_FILE = ".lock"

_T = TypeVar("_T")


class _End(NamedTuple):
    """The end of a stream file as this object left it; valid while inode and size are still the same."""

    inode: int
    size: int
    total: int


class FolderJournal:
    """``Journal`` in ``folder``, which is created with the first write.

    Args:
        ports: the ports; durable calls go through ``ports.fs``.
        folder: absolute path of the session's folder.
        sync_delay_s: seconds an appended row may wait for its fsync.
        root: the lake's root; below it no symbolic link is followed (``InvalidInput``). Default: ``folder``.
    """

    def __init__(
        self, ports: Ports, folder: str, *, sync_delay_s: float = SYNC_DELAY_S, root: str | None = None
    ) -> None:
        self._fs, self._folder, self._root = ports.fs, folder, root or folder
        self._later = Later(ports.fs, folder, sync_delay_s)
        self._ends: dict[str, _End] = {}  # by path; written only by the holder of the stream's lock

    # ---- documents -----------------------------------------------------------------------------------------------

    def read_document(self, name: str) -> Document | None:
        path = self._document_path(name)
        try:
            data = self._fs.read(path)
        except FileNotFoundError:
            return None
        try:
            document = values.decode(data)
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"{path} is not valid JSON ({error}); restore it or move it away", path=path) from error
        if not isinstance(document, dict):
            raise Corrupt(f"{path} holds no JSON object; restore it or move it away", path=path)
        return document

    def update_document(self, name: str, change: Change, *, durable: bool = True) -> Document:
        path = self._document_path(name)

        def replace() -> Document:
            with self._fs.lock(f"{self._folder}/{_LOCK_FILE}"):
                updated = change(self.read_document(name))
                self._replace(path, values.encode(updated, indent=2) + b"\n")
                if durable:
                    self._later.name_now(path)
            return updated

        self._later.check()
        document = self._in_folder(os.path.dirname(path), replace)
        if not durable:
            self._later.mark(path, renamed=True)
        return document

    def _replace(self, path: str, data: bytes) -> None:
        """Write a document. The lock is held, so the one scratch name is ours."""
        parent, file = os.path.split(path)
        scratch = f"{parent}/{scratch_name(file)}"
        try:
            self._fs.write(scratch, data)
        except FileExistsError:  # left by a process that died
            self._fs.unlink(scratch)
            self._fs.write(scratch, data)
        try:
            self._fs.fsync(scratch)
            self._fs.rename(scratch, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._fs.unlink(scratch)
            raise

    # ---- streams -------------------------------------------------------------------------------------------------

    def append(self, stream: str, rows: Sequence[Row]) -> int:
        self._later.check()
        path = self._stream_path(stream)
        bodies = [values.encode(row) for row in rows]  # outside the lock: only the number is missing
        for body in bodies:
            if len(body) > MAX_ROW_BYTES:
                size = f"{len(body):,} bytes; the limit is {MAX_ROW_BYTES:,}"
                raise InvalidInput(f"a row for {path} has {size}", path=path)
        if not bodies:
            return self.extent(stream).total

        def add() -> int:
            with self._fs.lock(path):
                return self._append(path, number_key(stream), bodies)

        first = self._in_folder(os.path.dirname(path), add)
        self._later.mark(path)
        return first

    def _append(self, path: str, key: str, bodies: Sequence[bytes]) -> int:
        """Number and write the rows. The lock on ``path`` is held."""
        end, newline = self._whole_end(path, key)
        data = newline + b"".join(_numbered(key, number, body) for number, body in enumerate(bodies, end.total))
        self._ends.pop(path, None)
        try:
            self._fs.append(path, data)
        except BaseException:  # disk full, or Ctrl-C: none of the rows stays
            with contextlib.suppress(OSError):
                self._fs.truncate(path, end.size)
            raise
        self._ends[path] = _End(end.inode, end.size + len(data), end.total + len(bodies))
        return end.total

    def _whole_end(self, path: str, key: str) -> tuple[_End, bytes]:
        """Where to append, and what has to come first. Cuts off what a dead writer left unfinished."""
        now = self._fs.stat(path)
        known = self._ends.get(path)
        if known is not None and known.inode == now.inode and known.size == now.size:
            return known, b""
        if known is not None and (known.inode != now.inode or now.size < known.size):
            self._later.forget()  # somebody made the file anew
        with self._fs.open(path) as stream:
            lines = Lines(stream, path, key)
            tail = lines.tail()
        if tail.end < lines.size:
            self._fs.truncate(path, tail.end)
        return _End(now.inode, tail.end, tail.total), b"\n" if tail.open else b""

    def read(self, stream: str, start: int, limit: int) -> list[Row]:
        path = self._stream_path(stream)
        try:
            with self._fs.open(path) as file:
                return Lines(file, path, number_key(stream)).rows(start, limit)
        except FileNotFoundError:
            return []

    def extent(self, stream: str) -> Extent:
        path = self._stream_path(stream)
        try:
            with self._fs.open(path) as file:
                lines = Lines(file, path, number_key(stream))
                tail = lines.tail()
        except FileNotFoundError:
            return Extent(0, 0, None)
        return Extent(tail.total, lines.size, tail.last)

    def streams(self, prefix: str = "") -> list[str]:
        names = [LOGS, RUNS, *(TRACKS + name for name in self._tracks(f"{self._folder}/tracks", "", 0))]
        return sorted(name for name in names if name.startswith(prefix) and self.extent(name).total)

    def _tracks(self, folder: str, name: str, depth: int) -> list[str]:
        try:
            entries = {entry: facts.mode for entry, facts in scan(self._fs, folder)}
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [name] if name and stat.S_ISREG(entries.get(DATA_FILE, 0)) else []
        if depth < MAX_NAME_DEPTH:
            for entry, mode in entries.items():
                if stat.S_ISDIR(mode) and entry not in RESERVED_NAMES:
                    found += self._tracks(f"{folder}/{entry}", f"{name}/{entry}" if name else entry, depth + 1)
        return found

    def sync(self) -> None:
        self._later.flush()

    def close(self) -> None:
        self._later.close()

    # ---- places --------------------------------------------------------------------------------------------------

    def _document_path(self, name: str) -> str:
        check_inside(self._fs, self._root, f"{self._folder}/{_LOCK_FILE}")
        if name == PARAMETERS:
            return self._checked(f"{self._folder}/parameters.json")
        return self._checked(f"{self._folder}/tracks/{_track_of(name)}/{METADATA_FILE}")

    def _stream_path(self, name: str) -> str:
        if name == RUNS:
            return self._checked(f"{self._folder}/runs.jsonl")
        if name == LOGS:
            return self._checked(f"{self._folder}/logs/logs.jsonl")
        return self._checked(f"{self._folder}/tracks/{_track_of(name)}/{DATA_FILE}")

    def _checked(self, path: str) -> str:
        """The path, reached through no symbolic link; a file that this object has just written to is trusted."""
        if path not in self._ends:
            check_inside(self._fs, self._root, path)
        return path

    def _in_folder(self, folder: str, action: Callable[[], _T]) -> _T:
        """The action, with its folder made first if need be (also when somebody removed it meanwhile)."""
        try:
            return action()
        except FileNotFoundError:
            self._later.forget()
            self._fs.make_dir(folder)
        return action()


def _numbered(key: str, number: int, body: bytes) -> bytes:
    """An encoded object with its number put in front."""
    return b'{"%s":%d%s%s\n' % (key.encode(), number, b"," if len(body) > 2 else b"", body[1:])


def _track_of(name: str) -> str:
    if not name.startswith(TRACKS) or name == TRACKS:
        raise ValueError(f"a journal has no place for {name!r}")
    return name[len(TRACKS) :]
