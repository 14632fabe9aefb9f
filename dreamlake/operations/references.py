"""Which blobs are referenced, by what, and for how long: the one home of that question (collection, verify, usage).

A version refers to blobs while the fold keeps it: the current one, its history, and deleted ones until collection
trims them. A pending claim refers to all it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum

from dreamlake.catalog.fold import Fold, Kept
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.packed import Packed

HELD_FILES = 20_000  # files of folds kept in memory before sessions are released (some 30 MB)


class Reason(IntEnum):
    """Why a blob stays, or why it goes; the strongest reason (lowest number) of all references counts."""

    LIVE = 1
    HISTORY = 2
    DELETED = 3
    PENDING = 4
    EXPIRED = 8  # deleted, and longer ago than deleted versions are kept
    RETIRED = 9  # no retention rule keeps it

    @property
    def keeps(self) -> bool:
        return self < Reason.EXPIRED


class References:
    """Blob key -> strongest reason, packed."""

    def __init__(self) -> None:
        self._packed = Packed(1, min)

    def add(self, key: str, reason: Reason) -> None:
        self._packed.add(key, reason)

    def reason(self, key: str) -> Reason | None:
        found = self._packed.get(key)
        return None if found is None else Reason(found)

    def keeps(self, key: str) -> bool:
        """True while something refers to the blob that is not about to go."""
        found = self._packed.get(key)
        return found is not None and found < Reason.EXPIRED


def keys_of(version: Kept) -> tuple[str, ...]:
    """The blobs that a version needs."""
    return (version.digest,)


def reason_of(version: Kept) -> Reason:
    """Why a kept version keeps its blobs."""
    if version.current:
        return Reason.LIVE
    return Reason.HISTORY if version.deleted_at is None else Reason.DELETED


class Sessions:
    """All sessions one after another, with the folds of few of them in memory at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[SessionKey, int] = {}

    def view(self, session: SessionKey) -> Fold:
        """The fold of a session; earlier ones are released once they have become large."""
        if sum(self._held.values()) > HELD_FILES:
            for earlier in self._held:
                if earlier != session:
                    self._store.catalog.release(earlier)
            self._held.clear()
        fold = self._store.catalog.view(session)
        self._held[session] = fold.held
        return fold

    def __iter__(self) -> Iterator[tuple[SessionKey, Fold]]:
        for session in self._store.catalog.sessions():
            yield session, self.view(session)


def where(session: SessionKey, version: Kept) -> str:
    """How to call a version to a person: ``workspace/name:/path@v3``."""
    return f"{session}:{version.key}@v{version.number}"


def find_versions(
    store: Store, wanted: Callable[[str], bool], sessions: Iterable[SessionKey] | None = None
) -> Iterator[tuple[SessionKey, Kept]]:
    """Every kept version that needs a wanted blob, with its session."""
    views = Sessions(store)
    for session in store.catalog.sessions() if sessions is None else sessions:
        for version in views.view(session).kept():
            if any(wanted(key) for key in keys_of(version)):
                yield session, version
