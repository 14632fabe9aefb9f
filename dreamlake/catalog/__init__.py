"""The catalog seam: which references exist. One home of the reference state machine of SPEC "Protocol".

A reference is absent -> pending (claimed) -> committed; pending -> absent (revoked, by anyone). Implementations:
``catalog.folder`` (immutable numbered JSON records, hard links) and ``catalog.memory``. Operations know only this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dreamlake.catalog.record import Record

if TYPE_CHECKING:
    from dreamlake.catalog.fold import Fold
    from dreamlake.errors import LakeError
    from dreamlake.model import SessionKey, Version

__all__ = ["Catalog", "Claim", "Committed", "Pending", "Record"]

Entry = dict[str, Any]


class Claim(NamedTuple):
    """A reference that is visible to every collector but not committed."""

    session: SessionKey
    token: str
    record: Record


class Pending(NamedTuple):
    """Somebody's claim as a collector sees it. ``age_s`` is a hint for choosing victims, never for safety."""

    token: str
    record: Record
    age_s: float


class Committed(NamedTuple):
    """The number the record got, and per entry what became of it: a version, None, or why it was refused."""

    number: int
    outcomes: Sequence[Version | LakeError | None]


class Catalog(Protocol):
    """References of all sessions of a lake. Every method may be called from any thread or process at any time."""

    def claim(self, session: SessionKey, needs: Iterable[str], entries: Sequence[Entry]) -> Claim:
        """Make a pending record visible to every later ``pending()`` before returning (R1).

        Nothing else changes. Not durable: a power cut kills the claimant too. Repetition makes another claim.
        """
        ...

    def commit(self, claim: Claim) -> Committed:
        """Turn exactly this claim into the next record of its session, durably, then forget the claim (R3).

        Atomic and totally ordered per session. Raises ``ClaimRevoked`` when the claim is gone: then this call committed
        nothing. A claim that an earlier call has committed is gone, or answered with the same number again. A record
        whose entries the state refuses (see ``Fold``) changes nothing; its outcomes say why.
        """
        ...

    def revoke(self, token: str) -> bool:
        """Remove a claim so that it can never be committed (I5). False when there is no such claim."""
        ...

    def touch(self, claim: Claim) -> None:
        """Show that a long-lived claim is alive. A hint: a claim not touched is revoked earlier, never unsafely."""

    def records(self, session: SessionKey, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Committed records numbered after+1, after+2, ... without gaps, up to the newest.

        Raises ``Corrupt`` for a damaged record or a gap, ``UnsupportedFormat`` for a newer one (R9).
        """
        ...

    def view(self, session: SessionKey, *, fresh: bool = True) -> Fold:
        """The fold of all records committed before the call, to read from.

        ``fresh`` False: what was there a few seconds ago is good enough. That saves a request where there is a network,
        for early refusals: whether a record is refused is decided by its commit.

        Later records may join it at any time; each of its methods answers from one state. An unknown session gives
        an empty fold whose ``info.exists`` is False. Raises like ``records``.
        """
        ...

    def pending(self) -> Iterator[Pending]:
        """All claims visible now. Raises ``Corrupt`` for an unreadable claim (fail closed)."""
        ...

    def unreadable(self) -> Iterator[tuple[str, float]]:
        """(token, age in seconds) of every damaged claim. One of a newer format is not damaged."""
        ...

    def sessions(self, damaged: Callable[[LakeError], None] | None = None) -> list[SessionKey]:
        """Every session that has a first record, dropped ones included, sorted.

        Raises ``Corrupt`` or ``UnsupportedFormat`` when a first record does not read (R9); with ``damaged`` given,
        that session is left out and ``damaged`` gets the error instead.
        """
        ...

    def release(self, session: SessionKey) -> None:
        """Forget what this process remembers of a session, to save memory. ``barrier`` still covers it."""
        ...

    def mend(self, session: SessionKey, number: int, record: Record | None) -> bool:
        """Put back a committed record that is missing or does not read; what was there is kept aside.

        ``record`` None fills a gap with a record that does nothing. False, and nothing changed: a record that reads
        is there, nothing is known to come after it, or (for None) a checkpoint still knows what it held.
        """
        ...

    def barrier(self) -> None:
        """Make everything durable that earlier ``records`` and ``view`` calls returned (R8)."""
