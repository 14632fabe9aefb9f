"""Turning chains round: the newest version is stored alone, and each older one as differences to newer ones.

An upload codes a version against the one before, so that the newest, which is wanted most, needs the most decoding.
Here the versions of a chain are coded once more, from the newest to the oldest, each in the other slots of its recipe
and its parts (``content.names``): nothing is replaced, a difference is published where nothing is (R10), and each
version is stored in its old form until the new one is complete. Then the old recipe is condemned, and removed once the
new form was seen after that (``commit.drop_form``); parts that nobody needs any more are left to the next collection.
Until that has freed their slots, the same versions are not turned round again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from dreamlake.content import codecs, reading
from dreamlake.content.assembled import find_recipe, recipe_at
from dreamlake.content.ingest import Coded
from dreamlake.content.names import PARTS, slot_of, twin
from dreamlake.content.presence import parts_needs, rely_on_recipe
from dreamlake.content.recipe import PartRef
from dreamlake.errors import Corrupt, LakeError, NotFound
from dreamlake.model import SessionKey
from dreamlake.operations.coding import MAX_CANDIDATES, code
from dreamlake.operations.commit import drop_form, store_coded
from dreamlake.operations.context import Store
from dreamlake.operations.references import Contents, Sessions

TURN_DEPTH = 3  # a chain is turned round when its newest version needs so many others
MAX_VERSIONS = 16  # at a time; a longer chain is cut there, and the older versions stay as they are
GROWTH = 0.10  # how much more may be stored than is superseded: a chain that is cut keeps an end that stands alone

Progress = Callable[[str, int, int], None]  # phase, done, total (0: not known)


@dataclass
class Turned:
    """How many chains were turned round, their versions, and the stored bytes that this added and superseded."""

    chains: int = 0
    versions: int = 0
    new_bytes: int = 0
    old_bytes: int = 0


@dataclass
class _Content:
    """A stored content: its newest version in the sessions looked at, where its recipe lies, and its parts."""

    digest: str
    size: int
    session: SessionKey | None = None  # None: not to be touched
    path: str = ""
    at: tuple[str, int] = ("", 0)
    recipe: str = ""
    parts: tuple[PartRef, ...] = field(default=())


def turn(
    store: Store,
    *,
    sessions: Sequence[SessionKey] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Turned:
    """Turn round every chain of differences whose newest version needs ``TURN_DEPTH`` others or more.

    Args:
        sessions: only versions of these; all when None.
        dry_run: only count them.

    Raises ``Corrupt`` for content that does not match its checksum; what was done before stays done.
    """
    report = Turned()
    tell = progress or (lambda phase, done, total: None)
    lake = _Lake(store, sessions, tell)
    if not dry_run and _drop_doubles(store, lake.doubles()):
        lake = _Lake(store, sessions, tell)
    found = [chain for chain in lake.chains() if lake.depth(chain[0]) >= TURN_DEPTH]
    for done, chain in enumerate(found):
        tell("turn", done, len(found))
        members = chain[:MAX_VERSIONS]
        superseded, more = lake.weigh(members)
        if superseded and more <= GROWTH * superseded and lake.is_free(members):
            report.chains += 1
            report.old_bytes += superseded
            if dry_run:
                report.versions += len(members)
            else:
                _turn(store, members, lake.leaning(members), report)
    return report


class _Lake:
    """Which stored content needs which parts."""

    def __init__(self, store: Store, sessions: Sequence[SessionKey] | None, tell: Progress) -> None:
        self._blobs = store.blobs
        self._sizes: dict[str, int] = {}  # of live copies of parts, as stored
        recipes = Contents(store.blobs)
        for copy in store.blobs.copies(seals=False):
            recipes.note(copy.key)
            if copy.batch is None and copy.key.startswith(PARTS):
                self._sizes[copy.key] = copy.size
        self._contents: dict[str, _Content] = {}
        self._needs: dict[str, list[str]] = {}
        self._damaged: set[str] = set()
        self._users = Counter[str]()  # part -> how many contents need it
        self._recipes = recipes
        self._list(store, recipes, None if sessions is None else set(sessions))
        for done, content in enumerate(self._contents.values()):
            tell("survey", done, len(self._contents))
            self._read(content)
        self._bases = {base for needs in self._needs.values() for base in needs}

    def _list(self, store: Store, recipes: Contents, scope: Set[SessionKey] | None) -> None:
        for session, fold in Sessions(store):
            for version in fold.versions():
                if not recipes.has_recipe(version.digest):
                    continue
                content = self._contents.get(version.digest)
                if content is None:
                    content = self._contents[version.digest] = _Content(version.digest, version.size_bytes)
                at = (version.uploaded_at, version.seq)
                if version.deleted_at is None and (scope is None or session in scope) and at > content.at:
                    content.session, content.path, content.at = session, version.key, at

    def _read(self, content: _Content) -> None:
        try:
            content.recipe, recipe = find_recipe(self._blobs, content.digest, content.size)
            content.parts = recipe.parts
        except LakeError:
            content.session = None  # damaged, or stored whole by now
        self._learn([part.key for part in content.parts])
        needed = self._all(content)
        self._users.update(needed)
        if not self._damaged.isdisjoint(needed):
            content.session = None

    def _learn(self, keys: Iterable[str]) -> None:
        """Find out what parts need, and what that needs."""
        level = [key for key in dict.fromkeys(keys) if key not in self._needs]
        while level:
            for key, needs in zip(level, parts_needs(self._blobs, level), strict=True):
                self._needs[key] = [base for base, _ in needs or ()]
                if needs is None:
                    self._damaged.add(key)
            level = list(dict.fromkeys(base for key in level for base in self._needs[key] if base not in self._needs))

    def _all(self, content: _Content) -> set[str]:
        """The parts of a content, and all that they need."""
        found: set[str] = set()
        waiting = [part.key for part in content.parts]
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self._needs[key]
        return found

    def depth(self, content: _Content) -> int:
        """How many differences on top of each other reading the content has to undo."""
        return max((self._depth(part.key) for part in content.parts), default=0)

    def _depth(self, key: str) -> int:
        depth, level = 0, {key}
        while level and depth <= codecs.MAX_DEPTH:  # damaged parts may need each other in a circle
            level = {base for key in level for base in self._needs[key]}
            depth += bool(level)
        return depth

    def chains(self) -> list[list[_Content]]:
        """Contents of the sessions looked at that need each other's parts, the newest first."""
        owner: dict[str, str] = {}  # part that others need, or that needs others -> a content that needs it
        root: dict[str, str] = {}

        def find(digest: str) -> str:
            while root.setdefault(digest, digest) != digest:
                digest = root[digest]
            return digest

        wanted = [content for content in self._contents.values() if content.session is not None]
        for content in wanted:
            for key in self._all(content):
                if key in self._bases or self._needs[key]:
                    root[find(content.digest)] = find(owner.setdefault(key, content.digest))
        groups: dict[str, list[_Content]] = defaultdict(list)
        for content in sorted(wanted, key=lambda content: content.at, reverse=True):
            groups[find(content.digest)].append(content)
        return [group for group in groups.values() if len(group) > 1]

    def doubles(self) -> list[tuple[_Content, str]]:
        """Contents with two recipes, as somebody leaves them who dies while turning; and which one takes more bytes."""
        found = []
        for content in self._contents.values():
            keys = self._recipes.recipe_keys(content.digest)
            if content.session is not None and len(keys) > 1:
                try:
                    listed = {key: recipe_at(self._blobs, key, content.size).parts for key in keys}
                except LakeError:
                    continue
                sizes = {key: sum(self._sizes.get(part.key, 0) for part in parts) for key, parts in listed.items()}
                found.append((content, max(keys, key=sizes.__getitem__)))
        return found

    def leaning(self, members: Sequence[_Content]) -> set[str]:
        """Parts that stand alone and stay: those of the newest version, and those that others need, too.

        In the other slot they become differences (of nothing) to where they are.
        """
        mine, newest = self._mine(members), {part.key for part in members[0].parts}
        alone = (key for key in mine if not self._needs[key])
        return {key for key in alone if key in newest or mine[key] < self._users[key]}

    def _mine(self, members: Sequence[_Content]) -> Counter[str]:
        return Counter(key for content in members for key in self._all(content))

    def is_free(self, members: Sequence[_Content]) -> bool:
        """False while something lies in the slots that these would go to that only waits for a collection."""
        others = {twin(part.key) for content in members for part in content.parts}
        return not any(key in self._sizes and not self._users[key] for key in others)

    def weigh(self, members: Sequence[_Content]) -> tuple[int, int]:
        """Stored bytes that would be superseded by turning these round, and how many more there would then be.

        More, because the newest version is stored alone, while an end that stood alone stays if others need it.
        """
        stay = self.leaning(members)
        free = {key for key, count in self._mine(members).items() if count == self._users[key] and key not in stay}
        more = 0
        for part in members[0].parts:
            end = self._end(part.key)
            if end != part.key and end not in free:
                more += self._sizes.get(end, part.size) - self._sizes.get(part.key, 0)
        return sum(self._sizes.get(key, 0) for key in free), more

    def _end(self, key: str) -> str:
        for _ in range(codecs.MAX_DEPTH):
            if not self._needs[key]:
                break
            key = self._needs[key][0]
        return key


def _drop_doubles(store: Store, found: Sequence[tuple[_Content, str]]) -> bool:
    """Finish what somebody left who died while turning; True if anything went."""
    gone = False
    for content, key in found:
        assert content.session is not None
        gone |= drop_form(store, content.session, content.digest, content.size, key)
    return gone


def _turn(store: Store, members: Sequence[_Content], leaning: Set[str], report: Turned) -> None:
    """Code versions once more, the newest first, each against newer ones; stops where it does not succeed."""
    may_lean = set(leaning)
    done: list[tuple[str, int]] = []
    for content in members:
        against = done[-MAX_CANDIDATES:][::-1]
        if not _store_turned(store, content, may_lean.__contains__, against, report):
            break  # deleted and collected meanwhile, or another optimizer was quicker: a later run tries again
        may_lean.update(twin(part.key) for part in content.parts)
        done.append((content.digest, content.size))
    report.versions += len(done)


def _store_turned(
    store: Store, content: _Content, leans: Callable[[str], bool], against: Sequence[tuple[str, int]], report: Turned
) -> bool:
    """Give a content its new form, and take the old recipe away."""
    digest, size, session, turned = content.digest, content.size, content.session, twin(content.recipe)
    assert session is not None
    if rely_on_recipe(store.blobs, digest, size, resurrect=False, places=[turned]) is None:
        coded = _code_again(store, content, leans, against)
        if coded is None:
            return False
        new_bytes = store_coded(store, session, digest, size, coded)
        if new_bytes is None:
            return False
        report.new_bytes += new_bytes
    return drop_form(store, session, digest, size, content.recipe)


def _code_again(
    store: Store, content: _Content, leans: Callable[[str], bool], against: Sequence[tuple[str, int]]
) -> Coded | None:
    """The new form, staged; None when the content does not read: it was collected meanwhile, or is for ``verify``."""
    assert content.session is not None
    view = store.catalog.view(content.session)
    try:
        with reading.open_plain(store.blobs, content.digest, content.size) as file:
            return code(
                store, view, content.path, file, content.size,
                encoding="coded", against=against, slot=slot_of(twin(content.recipe)), leans=leans, thorough=True,
            )  # fmt: skip
    except (Corrupt, NotFound):
        return None
