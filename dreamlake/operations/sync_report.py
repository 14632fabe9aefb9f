"""What a push, pull or sync brought over, by session and in all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dreamlake.errors import LakeError
from dreamlake.operations.sync_join import Clash


@dataclass
class Way:
    """What went into one of the lakes (in a dry run: would go).

    Attributes:
        files, versions: files that changed there, and versions that are new there.
        contents, content_bytes: contents it lacked, and their plain bytes.
        blobs, stored_bytes: what was sent for them, as stored (0 in a dry run).
        rows, documents: of logs and tracks; of parameters and descriptions of tracks.
        changed: something was new, be it the session's own description.
    """

    files: int = 0
    versions: int = 0
    contents: int = 0
    content_bytes: int = 0
    blobs: int = 0
    stored_bytes: int = 0
    rows: int = 0
    documents: int = 0
    changed: bool = False

    def add(self, other: Way) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.changed = bool(self.changed)

    def record(self) -> dict[str, Any]:
        return {
            "files": self.files, "versions": self.versions, "contents": self.contents,
            "contentBytes": self.content_bytes, "blobs": self.blobs, "storedBytes": self.stored_bytes,
            "rows": self.rows, "documents": self.documents, "changed": self.changed,
        }  # fmt: skip


@dataclass
class SessionSynced:
    """One session. ``error`` says why it was left as it is, or half-way; the next run goes on from there."""

    session: str
    sent: Way = field(default_factory=Way)
    received: Way = field(default_factory=Way)
    clashes: list[Clash] = field(default_factory=list)
    error: LakeError | OSError | None = None

    def record(self) -> dict[str, Any]:
        return {
            "sessionId": self.session,
            "sent": self.sent.record(),
            "received": self.received.record(),
            "clashes": [{"path": clash.path, "what": clash.what} for clash in self.clashes],
            "error": None if self.error is None else str(self.error),
        }


@dataclass
class Synced:
    """What one call brought over; per session, and in all."""

    dry_run: bool
    sessions: list[SessionSynced] = field(default_factory=list)

    @property
    def sent(self) -> Way:
        return _sum(session.sent for session in self.sessions)

    @property
    def received(self) -> Way:
        return _sum(session.received for session in self.sessions)

    @property
    def failed(self) -> list[SessionSynced]:
        return [session for session in self.sessions if session.error is not None]

    @property
    def exit_code(self) -> int:
        """0, or that of the first error."""
        return next((getattr(session.error, "exit_code", 1) for session in self.failed), 0)

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "dryRun": self.dry_run,
            "sent": self.sent.record(),
            "received": self.received.record(),
            "sessions": [session.record() for session in self.sessions],
            "exitCode": self.exit_code,
        }


def _sum(ways: Iterable[Way]) -> Way:
    total = Way()
    for way in ways:
        total.add(way)
    return total
