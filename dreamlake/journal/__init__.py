"""The journal seam: the side data of one session, which are small documents and append-only streams of rows.

Owns the promises; implementations are ``journal.folder`` (JSON files that people can read) and ``journal.memory``.
A journal never interprets what it stores and never checks names: parameters, logs and tracks do both, once for
every implementation. It takes and returns plain JSON values (see ``values.plain``).

Names:
    documents   ``PARAMETERS``, ``TRACKS + track name``
    streams     ``LOGS``, ``RUNS``, ``TRACKS + track name``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = [
    "LOGS",
    "MAX_ROW_BYTES",
    "PARAMETERS",
    "RUNS",
    "TRACKS",
    "Change",
    "Document",
    "Extent",
    "Journal",
    "Row",
    "number_key",
]

PARAMETERS = "parameters"
LOGS = "logs"
RUNS = "runs"  # what each run that wrote to the session was made with
TRACKS = "tracks/"  # + the track's name, which may hold further slashes
MAX_ROW_BYTES = 16 << 20  # one encoded row; values.MAX_VALUE_BYTES limits the values in it

Document = dict[str, Any]
Row = dict[str, Any]
Change = Callable[["Document | None"], Document]


class Extent(NamedTuple):
    """How much a stream holds: ``total`` rows numbered 0 to total-1, and the newest of them (None if empty)."""

    total: int
    size_bytes: int
    last: Row | None


def number_key(stream: str) -> str:
    """The field of a row that holds its number."""
    return "sequenceNumber" if stream == LOGS else "index"


class Journal(Protocol):
    """Side data of one session. Every method may be called from any thread and any process at any time."""

    def read_document(self, name: str) -> Document | None:
        """The newest whole document, a fresh copy; None if there is none. Never waits for a writer.

        Raises ``Corrupt`` when what is stored is not a JSON object.
        """
        ...

    def update_document(self, name: str, change: Change, *, durable: bool = True) -> Document:
        """Replace a document by ``change(current)`` and return it.

        Durable when the call returns; with ``durable=False`` like an appended row: after ``sync``, ``close``, or about
        a second, and until then a power cut may bring the old document back.
        Atomic: readers see the old or the new document, and no other update comes in between, from whatever thread
        or process. ``change`` gets a fresh copy (None if absent) and may be called more than once, so it must not
        have other effects. If it raises, nothing was changed. Raises ``Corrupt`` rather than replace a damaged one.
        """
        ...

    def append(self, stream: str, rows: Sequence[Row]) -> int:
        """Add rows at the end and return the number of the first; they get consecutive numbers, in order.

        Numbers of a stream start at 0 and have neither gaps nor repeats. The number is stored in the row under
        ``number_key(stream)``, which the rows must not hold already. On return the rows survive the death of this
        process; they survive a power cut after ``sync``, ``close``, or about a second. All rows or none are added
        if the call raises; a process that dies in the middle may leave the first ones. No rows: returns the total.

        Raises ``InvalidInput`` for a row over ``MAX_ROW_BYTES``, ``Corrupt`` if the end of the stream is damaged.
        A failure of an earlier write-back is raised once, by the next append, update, ``sync`` or ``close``.
        """
        ...

    def read(self, stream: str, start: int, limit: int) -> list[Row]:
        """At most ``limit`` rows, from number ``start`` on, in order; ``[]`` past the end or for no such stream.

        A snapshot that never waits for a writer; costs O(log n + limit). What a dying writer left unfinished at the
        end is not there. Raises ``Corrupt``, naming file and byte offset, if a requested row is damaged or missing.
        """
        ...

    def extent(self, stream: str) -> Extent:
        """Total, size and newest row of a stream in O(1); all zero for no such stream. Never waits for a writer."""
        ...

    def streams(self, prefix: str = "") -> list[str]:
        """Names of all streams that hold at least one row and start with ``prefix``, sorted."""
        ...

    def sync(self) -> None:
        """Make every earlier append of this object durable now."""

    def close(self) -> None:
        """``sync``, then end all background work: no thread outlives the call.

        May be repeated, and the journal may be used again afterwards: whether a session is open is not its business.
        """
