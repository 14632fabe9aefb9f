"""Checkpoints of a remote catalog's views on this machine: ``<folder>/<sid>/<n>.sqlite``, made to be thrown away.

Whoever loads one checks against the log that it belongs there. A failure costs the next reader time, nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dreamlake.catalog.checkpoint import Checkpoint, dump, numbers
from dreamlake.catalog.fold import Fold
from dreamlake.model import SessionKey
from dreamlake.ports import NO_FORK, Ports

MAX_SESSIONS = 1000  # that are kept; one takes space only once its log is long


class ViewCache:
    """Checkpoints below ``folder``; with None there are none."""

    def __init__(self, ports: Ports, folder: str | None) -> None:
        self._ports, self._fs, self._folder = ports, ports.fs, folder

    def load(self, session: SessionKey) -> Iterator[Checkpoint]:
        """Those of a session that read, the newest first."""
        if self._folder is None:
            return
        folder = f"{self._folder}/{session.sid}"
        for number in reversed(self._numbers(folder)):
            found = self._read(session, f"{folder}/{number}.sqlite")
            if found is not None and found.n == number:
                yield found

    def save(self, session: SessionKey, fold: Fold) -> Checkpoint | None:
        """Keep this state, and no older one; returns it as read back, None if that did not work."""
        with NO_FORK:
            import sqlite3

        if self._folder is None:
            return None
        folder = f"{self._folder}/{session.sid}"
        target, scratch = f"{folder}/{fold.n}.sqlite", f"{folder}/{self._ports.scratch_name('view')}"
        try:
            if self._fs.make_dir(folder):
                self._make_room(session.sid)
            self._fs.write(scratch, dump(fold))
            self._fs.fsync(scratch)  # a torn one must not be mistaken for a whole one
            self._fs.rename(scratch, target)
        except (OSError, ValueError, sqlite3.Error):
            with contextlib.suppress(OSError):
                self._fs.unlink(scratch)
            return None
        for number in self._numbers(folder):
            if number < fold.n:
                with contextlib.suppress(OSError):
                    self._fs.unlink(f"{folder}/{number}.sqlite")
        return self._read(session, target)

    def _make_room(self, newest: str) -> None:
        """Of too many sessions, forget those whose checkpoints were written first."""
        ages: list[tuple[int, str]] = []
        for sid in self._fs.list(str(self._folder)):
            with contextlib.suppress(OSError):
                ages.append((self._fs.lstat(f"{self._folder}/{sid}").mtime_ns, sid))
        for _, sid in sorted(ages)[: max(0, len(ages) - MAX_SESSIONS)]:
            if sid != newest:
                for name in self._fs.list(f"{self._folder}/{sid}"):
                    self._fs.unlink(f"{self._folder}/{sid}/{name}")
                self._fs.remove_dir(f"{self._folder}/{sid}")

    def _numbers(self, folder: str) -> list[int]:
        try:
            return numbers(self._fs.list(folder))
        except OSError:
            return []

    def _read(self, session: SessionKey, path: str) -> Checkpoint | None:
        try:
            real = self._fs.real_path(path)
            return Checkpoint(session, real, None if real else self._fs.read(path))
        except (ValueError, OSError):
            return None
