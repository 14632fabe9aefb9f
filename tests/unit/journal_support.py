"""What the tests of parameters, logs and tracks share: journals, a clock that moves, and a guard like a session's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fakes.docs import MemoryDocs

from dreamlake.errors import StateError
from dreamlake.journal import Journal
from dreamlake.journal.documents import DocumentJournal
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.memory import MemoryJournal
from dreamlake.ports import Ports

NOON = datetime(2025, 1, 31, 12, tzinfo=timezone.utc)


JOURNALS: dict[str, Callable[[Path], Journal]] = {
    "folder": lambda folder: FolderJournal(Ports(), str(folder)),
    "memory": lambda folder: MemoryJournal(),
    "documents": lambda folder: DocumentJournal(Ports(), MemoryDocs(), "5e55"),
}


class Clock:
    """One second a look."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


class Guard:
    """Records what was asked for; raises like a session that is closed or write-protected."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.closed = self.protected = False

    def __call__(self, write: bool) -> None:
        self.asked.append(write)
        if self.closed or (write and self.protected):
            raise StateError("not now")
