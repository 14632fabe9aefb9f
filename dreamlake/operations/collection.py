"""What a collection did, or would do: plain data for people and programs. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dreamlake.errors import InvalidInput
from dreamlake.operations.references import Reason

MAX_DETAILS = 1000  # let-go versions listed one by one
BRAKE_SHARE = 0.5  # of the live bytes
BRAKE_BYTES = 100 << 20  # below these two no brake: a small lake is quickly made again, and tests are small
BRAKE_BLOBS = 1000


@dataclass
class Tally:
    """How many things, and how many bytes they take."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int, count: int = 1) -> None:
        self.count += count
        self.bytes += size

    def merge(self, other: Tally) -> None:
        self.add(other.bytes, other.count)

    def record(self) -> dict[str, int]:
        return {"count": self.count, "bytes": self.bytes}


class LetGo(NamedTuple):
    """A version that the collection lets go. ``why``: "deleted" or "retention". Size in plain bytes."""

    session: str
    path: str
    version: int
    id: str
    size_bytes: int
    why: str


@dataclass
class Outcome:
    """What became of the copies of one shard; ``rows``: those that were condemned."""

    shard: str = ""
    rows: list[tuple[str, int]] = field(default_factory=list)
    condemned: Tally = field(default_factory=Tally)
    restored: Tally = field(default_factory=Tally)
    freed: Tally = field(default_factory=Tally)
    trash: Tally = field(default_factory=Tally)
    trash_until: str = ""


@dataclass
class Collection:
    """The outcome of ``collect``; of a dry run, what it would be.

    Attributes:
        batch: name of the run; None when nothing was condemned.
        sessions, parts, claims: how many were looked at. revoked: claims of dead or silent processes, removed.
        scratch: left-over scratch files removed.
        let_go: versions forgotten for good, by why ("deleted", "retention"); bytes are plain bytes before sharing.
        details: the first ``MAX_DETAILS`` of them.
        condemned: blobs put into the trash; bytes are those really stored.
        unexplained: those of them that no deletion of a user explains (never committed, or let go by retention).
        restored: condemned blobs that something refers to again.
        freed: blobs removed for good; bytes are those really freed on the disk.
        trash: condemned blobs that wait, and until when the last of them does.
        stay: why the other blobs stay: live, history, deleted (and kept until), pending.
        kept_until: when the first and the last deleted version that is still kept may go.
        refused: why a run without ``force`` would stop here; None if it would not.
    """

    dry_run: bool
    batch: str | None = None
    sessions: int = 0
    parts: int = 0
    claims: int = 0
    revoked: int = 0
    scratch: Tally = field(default_factory=Tally)
    let_go: dict[str, Tally] = field(default_factory=lambda: {"deleted": Tally(), "retention": Tally()})
    details: list[LetGo] = field(default_factory=list)
    condemned: Tally = field(default_factory=Tally)
    unexplained: Tally = field(default_factory=Tally)
    restored: Tally = field(default_factory=Tally)
    freed: Tally = field(default_factory=Tally)
    trash: Tally = field(default_factory=Tally)
    trash_until: str | None = None
    stay: dict[str, Tally] = field(default_factory=dict)
    kept_until: tuple[str, str] | None = None
    notes: list[str] = field(default_factory=list)
    refused: str | None = None

    def stays(self, reason: Reason, size: int) -> None:
        self.stay.setdefault(reason.name.lower(), Tally()).add(size)

    def took(self, outcome: Outcome) -> None:
        for name in ("condemned", "restored", "freed", "trash"):
            getattr(self, name).merge(getattr(outcome, name))
        if outcome.trash_until:
            self.trash_until = max(self.trash_until or "", outcome.trash_until)

    def followed_by(self, later: Collection, note: str) -> None:
        """Take in a second round of the same collection."""
        for name in ("condemned", "restored", "freed"):
            getattr(self, name).merge(getattr(later, name))
        self.trash, self.trash_until, self.stay = later.trash, later.trash_until or self.trash_until, later.stay
        self.batch = self.batch or later.batch
        self.notes = [*dict.fromkeys([*self.notes, *later.notes]), note]

    def lets_go(self, gone: LetGo) -> None:
        self.let_go[gone.why].add(gone.size_bytes)
        if len(self.details) < MAX_DETAILS:
            self.details.append(gone)

    def brake(self, share: float) -> InvalidInput | None:
        """The error that stops a run which would put most of the lake into the trash without being asked to."""
        live = self.condemned.bytes + sum(tally.bytes for tally in self.stay.values())
        gone = self.unexplained
        large = gone.bytes > BRAKE_BYTES or gone.count > BRAKE_BLOBS
        if not large or gone.bytes <= share * live:
            return None
        return InvalidInput(
            f"refused: {gone.count:,} blobs with {gone.bytes:,} of {live:,} stored bytes would go although nobody"
            " deleted their files. Look at the dry run; if it is right, repeat with force (--force)."
            " Nothing was removed."
        )

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "dryRun": self.dry_run,
            "batch": self.batch,
            "sessions": self.sessions,
            "claims": self.claims,
            "revoked": self.revoked,
            "scratch": self.scratch.record(),
            "letGo": {why: tally.record() for why, tally in self.let_go.items()},
            "condemned": self.condemned.record(),
            "unexplained": self.unexplained.record(),
            "restored": self.restored.record(),
            "freed": self.freed.record(),
            "trash": self.trash.record(),
            "trashUntil": self.trash_until,
            "stay": {reason: tally.record() for reason, tally in sorted(self.stay.items())},
            "keptUntil": list(self.kept_until) if self.kept_until else None,
            "notes": list(self.notes),
            "refused": self.refused,
        }
