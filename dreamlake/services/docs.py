"""The database as remote mode sees it: documents in named collections, changed one document at a time.

Filters and changes are MongoDB's own notation, but only this much of it, so that a fake is a page of code:

    filter   {"field": value} · {"field": {"$in": [...]}} · {"$gt" / "$gte" / "$lt" / "$lte" / "$ne" / "$exists": ...};
             several fields mean all of them; dotted names reach into sub-documents; a list field matches by any element
    change   {"$set": {...}} · {"$unset": {...}} · {"$inc": {...}}, with ``upsert`` also {"$setOnInsert": {...}}
    keys     [("field", 1 or -1), ...] for sorting and for indexes

What a client must promise, because the protocol's proof leans on it (SPEC "Remote"):

- every change of one document is atomic, and is a compare-and-set when its filter names the expected state;
- a change that returned is durable and is never rolled back (write concern majority, journalled);
- reads never return what may be rolled back (read concern majority, from the primary);
- *causal order within one ``Docs`` object, across its threads*: a call that begins after another one returned sees
  everything that the other one saw or made.

Outcomes. A call that returns has happened once. ``OutcomeUnknown`` means that a change may or may not have happened,
and that repeating it blindly could do it twice: the caller reads back. ``Unavailable`` means that it did not happen.
Clients retry by themselves only what is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Change", "Doc", "Docs", "Filter", "Index", "Keys"]

Doc = dict[str, Any]
Filter = dict[str, Any]
Change = dict[str, Any]
Keys = Sequence[tuple[str, int]]

MAX_DOC_BYTES = 16 << 20  # MongoDB's own limit; nothing here may come near it
MAX_BATCH = 1000  # documents a call; clients may split further


@dataclass(frozen=True)
class Index:
    """An index that must be there. ``unique`` over the documents that ``where`` selects (all, when None)."""

    collection: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    where: Filter | None = None

    @property
    def name(self) -> str:
        return "_".join(f"{field}_{order}" for field, order in self.keys)


class Docs(Protocol):
    """One database. Every method may be called from any thread at any time."""

    def insert(self, collection: str, docs: Sequence[Doc]) -> list[Any]:
        """Add documents; returns the ``_id`` of those that were refused because ``_id`` or a unique key is taken.

        Each document has its ``_id``. The others are inserted, in no order. Raises ``OutcomeUnknown``.
        """
        ...

    def update(self, collection: str, where: Filter, change: Change, *, upsert: bool = False) -> bool:
        """Change one document that matches, atomically. False when none matches (nothing changed).

        Raises ``Conflict`` when a unique index refuses the change, ``OutcomeUnknown``.
        """
        ...

    def update_many(self, collection: str, where: Filter, change: Change) -> int:
        """Change all that match, each atomically, but not all at once; returns how many. Raises ``OutcomeUnknown``."""
        ...

    def find(
        self,
        collection: str,
        where: Filter,
        *,
        sort: Keys | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        hint: Keys | None = None,
    ) -> Iterator[Doc]:
        """Documents that match, in pages. One that changes during the scan may appear in either state, or be missed
        if an index that the scan uses covers the changed field. A long scan had better be in the order of ``_id``
        (which are all of one type): after a failure it goes on where it was, however far that is.

        Args:
            fields: only these (and ``_id``). hint: the index to use.
        """
        ...

    def delete(self, collection: str, where: Filter) -> int:
        """Remove all that match; returns how many. May be repeated."""
        ...

    def count(self, collection: str, where: Filter) -> int:
        """How many match."""
        ...

    def ensure(self, indexes: Sequence[Index]) -> None:
        """Create what is missing of these indexes. Raises ``AccessDenied`` when the user may not."""
        ...

    def missing(self, indexes: Sequence[Index]) -> list[Index]:
        """Which of these are not there."""
        ...

    def close(self) -> None:
        """Give back connections; may be repeated. A forked child must make its own ``Docs``."""
        ...
