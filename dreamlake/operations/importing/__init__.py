"""Importing: what a source holds, in the words of a lake, and what became of it.

A source (a folder, a tar, MLflow runs, trees of earlier DreamLake releases) yields ``FoundSession`` values and reports
what it leaves out. Sources only read, believe nothing (I11) and know nothing of a lake; ``storing`` stores files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from dreamlake.errors import InvalidInput

__all__ = ["MAX_SKIPPED", "FoundFile", "FoundSession", "FoundTrack", "Imported", "Skip", "read_small"]

MAX_SKIPPED = 1000  # of what was left out, that many are named
MAX_DOCUMENT_BYTES = 64 << 20  # a JSON or YAML document of a stranger

Skip = Callable[[str, str], None]  # (where in the source, why)


class FoundFile(NamedTuple):
    """One file of a source.

    Attributes:
        key: where it goes.
        shown: where it lies in the source, for people.
        open: gives its content, as a path or a stream that is good while the context lasts.
        at: when it was stored there, ISO-8601 UTC; None: now.
        checksum: its SHA-256 as the source claims it.
        drop: frees what waits for ``open``, if nobody is going to call that.
    """

    key: str
    shown: str
    size: int
    open: Callable[[], AbstractContextManager[str | BinaryIO]]
    description: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    at: str | None = None
    checksum: str | None = None
    drop: Callable[[], None] = lambda: None


class FoundTrack(NamedTuple):
    """One track: ``rows`` are ``{"data", "createdAt"}``."""

    name: str
    rows: Callable[[], Iterator[dict[str, Any]]]
    about: dict[str, Any]


@dataclass
class FoundSession:
    """One session of a source. ``about`` has description, tags, folder, metadata; ``logs`` are rows of a log."""

    workspace: str
    name: str
    shown: str
    files: Iterable[FoundFile] = ()
    about: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    logs: Callable[[], Iterator[dict[str, Any]]] | None = None
    tracks: list[FoundTrack] = field(default_factory=list)


@dataclass
class Imported:
    """What an import did, or with ``dry_run`` would do. Bytes are those of contents, before and after storing.

    Attributes:
        files, bytes: new versions, and their size.
        unchanged: files that were there already.
        stored_bytes: what was really written for them; unknown (0) in a dry run.
        parameters, log_lines, points: how many were added.
        skipped: (where, why) of what was left out, the first ``MAX_SKIPPED``; ``skipped_count`` counts all.
    """

    dry_run: bool = False
    sessions: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    stored_bytes: int = 0
    parameters: int = 0
    log_lines: int = 0
    points: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_count: int = 0

    def skip(self, where: str, why: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append((where, why))

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "dryRun": self.dry_run,
            "sessions": list(self.sessions),
            "files": self.files,
            "bytes": self.bytes,
            "unchanged": self.unchanged,
            "storedBytes": self.stored_bytes,
            "parameters": self.parameters,
            "logLines": self.log_lines,
            "points": self.points,
            "skipped": [{"where": where, "why": why} for where, why in self.skipped],
            "skippedCount": self.skipped_count,
        }


def read_small(path: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """All bytes of a document of a stranger. Raises ``InvalidInput`` for a larger one, ``OSError``."""
    from dreamlake.content.staging import open_source

    with open(open_source(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"{path} has more than {limit:,} bytes", path=path)
    return data
