"""Which blobs are referenced, by what, and for how long: the one home of that question (collection, verify, usage).

A version refers to content while the fold keeps it: the current one, its history, and deleted ones until collection
trims them. A pending claim refers to all it names. Content needs the blob of its digest, or its recipe, the recipe's
parts and their bases. Whoever makes a stored form depend on other blobs names them all in a record that it commits
(an upload does), so that a later look at new records finds them without reading recipes again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum

from dreamlake.blobs import Blobs
from dreamlake.catalog.fold import Fold, Kept
from dreamlake.content.assembled import part_needs, recipe_at
from dreamlake.content.names import is_part, is_recipe, recipe_keys, slot_of
from dreamlake.content.presence import parts_needs
from dreamlake.errors import LakeError, NotFound
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.packed import Packed

HELD_FILES = 20_000  # files of folds kept in memory before sessions are released (some 30 MB), and
HELD_SESSIONS = 16  # sessions, each of which may hold a checkpoint open
_REMEMBERED = 256  # contents whose blobs are remembered


class Reason(IntEnum):
    """Why a blob stays, or why it goes; the strongest reason (lowest number) of all references counts."""

    LIVE = 1
    HISTORY = 2
    DELETED = 3
    PENDING = 4
    UNKNOWN = 5  # a part, while some recipe cannot be read
    EXPIRED = 8  # deleted, and longer ago than deleted versions are kept
    RETIRED = 9  # no retention rule keeps it

    @property
    def keeps(self) -> bool:
        return self < Reason.EXPIRED


_REASONS = {int(reason): reason for reason in Reason}


class References:
    """Blob key -> strongest reason, packed.

    Attributes:
        every_part: why a recipe could not be followed; then no part is ever taken for unreferenced.
    """

    def __init__(self) -> None:
        self._packed = Packed(1, min)
        self.every_part: str | None = None

    def add(self, key: str, reason: Reason) -> None:
        self._packed.add(key, reason)

    def reason(self, key: str) -> Reason | None:
        return self._reason(key, self._packed.get(key))

    def reasons(self, keys: Sequence[str]) -> Iterator[Reason | None]:
        """The reason of each of these keys, which are all of one shard."""
        table = self._packed.table(keys[0][:-62]) if keys else {}
        return (self._reason(key, table.get(bytes.fromhex(key[-64:]))) for key in keys)

    def _reason(self, key: str, found: int | None) -> Reason | None:
        if self.every_part is not None and is_part(key) and (found is None or found >= Reason.EXPIRED):
            return Reason.UNKNOWN
        return None if found is None else _REASONS[found]

    def keeps(self, key: str) -> bool:
        """True while something refers to the blob that is not about to go."""
        reason = self.reason(key)
        return reason is not None and reason.keeps

    def shards(self) -> list[str]:
        return self._packed.shards()

    def kept(self, shard: str) -> Iterator[str]:
        """Keys of one shard that something refers to that is not about to go, nor just claimed."""
        for digest, reason in self._packed.table(shard).items():
            if reason < Reason.PENDING:
                yield shard[:-2] + digest.hex()


class Contents:
    """Which blobs a content needs besides the one of its digest, given what is stored as a recipe."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._recipes: dict[bytes, int] = {}  # contents that have recipes: digest -> bits of the slots
        self._keys: dict[str, list[str]] = {}
        self._ahead: dict[str, list[tuple[str, int]]] = {}

    @classmethod
    def of(cls, store: Store) -> Contents:
        """Finds the recipes by listing all copies."""
        made = cls(store.blobs)
        for copy in store.blobs.copies(seals=False):
            made.note(copy.key)
        return made

    def note(self, key: str) -> None:
        """Take note of a stored blob."""
        if is_recipe(key):
            digest = bytes.fromhex(key[-64:])
            self._recipes[digest] = self._recipes.get(digest, 0) | 1 << slot_of(key)

    def has_recipe(self, digest: str) -> bool:
        """True for a content (or the key of its recipe) that has a recipe."""
        return bool(self._recipes) and bytes.fromhex(digest[-64:]) in self._recipes

    def recipes(self) -> Iterator[str]:
        """Digests of all contents that have a recipe, in order."""
        return (digest.hex() for digest in sorted(self._recipes))

    def recipe_keys(self, digest: str) -> list[str]:
        """The recipes of a content of which note was taken."""
        slots = self._recipes.get(bytes.fromhex(digest), 0)
        return [key for number, key in enumerate(recipe_keys(digest)) if slots >> number & 1]

    def parts(self, digest: str) -> dict[str, int]:
        """Parts in the recipes of a content -> plain bytes. Raises ``LakeError`` or ``OSError`` when one does not read,
        or there is none."""
        found: dict[str, int] = {}
        missing: list[NotFound] = []
        for key in recipe_keys(digest):
            try:
                found.update((part.key, part.size) for part in recipe_at(self._blobs, key).parts)
            except NotFound as error:
                missing.append(error)
        if len(missing) == len(recipe_keys(digest)):
            raise missing[0]
        return found

    def bases(self, part: str) -> list[tuple[str, int]]:
        """The parts that decoding a part needs, and their plain bytes. Raises ``LakeError`` or ``OSError``."""
        known = self._ahead.pop(part, None)
        return part_needs(self._blobs, part) if known is None else known

    def look_ahead(self, parts: Iterable[str]) -> None:
        """Find out together what these need, where that is quicker; ``bases`` is going to be asked for each, once."""
        self._ahead.clear()
        if self._blobs.sending_is_dear:
            keys = list(parts)
            found = zip(keys, parts_needs(self._blobs, keys), strict=True)
            self._ahead = {key: needs for key, needs in found if needs is not None}

    def keys(self, digest: str) -> list[str]:
        """Everything that reading the content touches or may touch; what does not read is left out."""
        if not self.has_recipe(digest):
            return [digest]
        known = self._keys.get(digest)
        if known is None:
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            known = self._keys[digest] = self._follow(digest)
        return known

    def _follow(self, digest: str) -> list[str]:
        found = dict.fromkeys([digest, *recipe_keys(digest)])
        try:
            waiting = list(self.parts(digest))
        except (LakeError, OSError):
            return list(found)
        while waiting:
            part = waiting.pop()
            if part not in found:
                found[part] = None
                with contextlib.suppress(LakeError, OSError):
                    waiting += [base for base, _ in self.bases(part)]
        return list(found)


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
        if sum(self._held.values()) > HELD_FILES or len(self._held) >= HELD_SESSIONS:
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
    return f"{session.full}:{version.key}@v{version.number}"


def find_versions(
    store: Store, wanted: Callable[[str], bool], sessions: Iterable[SessionKey] | None = None
) -> Iterator[tuple[SessionKey, Kept, list[str]]]:
    """Every kept version that needs a wanted blob, with its session and the wanted blobs."""
    views, contents = Sessions(store), Contents.of(store)
    for session in store.catalog.sessions() if sessions is None else sessions:
        for version in views.view(session).kept():
            keys = [key for key in contents.keys(version.digest) if wanted(key)]
            if keys:
                yield session, version, keys
