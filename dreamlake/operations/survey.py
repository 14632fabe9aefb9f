"""What is in the place of a tree now? Looks only: nothing here changes anything.

Every name is looked at without following symbolic links, so that nothing outside the root is ever taken for a part
of the tree (I8). A name that the file system takes for another one (equal up to case or Unicode form) is told by the
directory's own list of names.
"""

from __future__ import annotations

import hashlib
import stat
import unicodedata
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from dreamlake.model import SessionKey
from dreamlake.operations.placed import Mark
from dreamlake.ports import Fs, Stat

SCRATCH_PREFIX = ".dreamlake-"  # no legal name begins like this (model.check_name)
_PIECE = 1 << 20


class Want(NamedTuple):
    """A file that the tree should have. ``stamp_ns``: the time stamp it gets, its upload time; ``seq``: its order."""

    key: str
    digest: str
    size: int
    stamp_ns: int | None
    seq: int = 0


class Problem(NamedTuple):
    """A file that cannot be as it should, and why.

    ``code``: edited, folder, not-a-file, symlink, file-in-the-way, same-name, name, changed (conflicts); gone, damaged
    (content missing).
    """

    code: str
    path: str
    reason: str
    session: SessionKey
    key: str


class State(Enum):
    """How a target stands to what it should be."""

    ABSENT = "missing"
    SAME = "same"
    STALE = "stale"  # ours and untouched, but of other content
    RELINK = "relink"  # right content, made by another link mode than the one asked for now
    EDITED = "edited"
    BLOCKED = "blocked"


class Spot(NamedTuple):
    """A name in the tree: its facts (None: free), or why nothing may be put there."""

    facts: Stat | None = None
    code: str = ""
    reason: str = ""


class Folder(NamedTuple):
    """A directory of the tree: its names (None: absent), or why it cannot be used."""

    names: frozenset[str] | None = None
    code: str = ""
    reason: str = ""


class Folders:
    """The directories of a target root as they are now, each read once.

    ``vanishing``: paths of files that will be removed first; what only they block counts as free.
    ``made``: directories that may be removed when they become empty. ``inodes``: of the files that were placed.
    """

    def __init__(self, fs: Fs, root: str) -> None:
        self._fs, self._root = fs, root
        self._known: dict[str, Folder] = {}
        self._forms: dict[str, dict[str, list[str]]] = {}
        self.vanishing: set[str] = set()
        self.made: set[str] = set()
        self.inodes: dict[str, int] = {}

    def at(self, relative: str) -> Folder:
        """The directory at a path relative to the root ("" is the root)."""
        known = self._known.get(relative)
        if known is None:
            known = self._known[relative] = self._read(relative)
        return known

    def there(self) -> set[str]:
        """The directories that were looked at and exist."""
        return {relative for relative, folder in self._known.items() if folder.names is not None}

    def look(self, parent: str, name: str) -> Spot:
        """What stands at a name in a directory of the tree."""
        folder = self.at(parent)
        if folder.code:
            return Spot(None, folder.code, folder.reason)
        if folder.names is None or not folder.names:
            return Spot()
        relative = f"{parent}/{name}" if parent else name
        twins: list[str] = []
        if name not in folder.names:
            twins = self._twins(parent, folder.names, name)
            if not twins:
                return Spot()
        if relative in self.vanishing:
            return Spot()
        try:
            facts = self._fs.lstat(f"{self._root}/{relative}")
        except FileNotFoundError:
            return Spot()
        if twins and not self._is_ours(relative, facts):
            prefix = f"{parent}/" if parent else ""
            if all(prefix + twin in self.vanishing for twin in twins):
                return Spot()
            return Spot(facts, "same-name", f"this file system takes it for the same name as {twins[0]!r}")
        return Spot(facts)

    def empties(self, relative: str) -> bool:
        """True if a directory goes when the vanishing files have gone."""
        folder = self.at(relative)
        if folder.names is None or relative not in self.made:
            return False
        paths = [f"{relative}/{name}" for name in folder.names]
        return all(path in self.vanishing or self.empties(path) for path in paths)

    def _read(self, relative: str) -> Folder:
        if relative:
            parent, _, name = relative.rpartition("/")
            spot = self.look(parent, name)
            if spot.code:
                return Folder(None, spot.code, spot.reason)
            if spot.facts is None:
                return Folder()
            shown = f"{self._root}/{relative}"
            if stat.S_ISLNK(spot.facts.mode):
                return Folder(None, "symlink", f"{shown} is a symbolic link; nothing is written through it")
            if not stat.S_ISDIR(spot.facts.mode):
                return Folder(None, "file-in-the-way", f"{shown} is a file where a folder should be")
        try:
            return Folder(frozenset(self._fs.list(f"{self._root}/{relative}" if relative else self._root)))
        except FileNotFoundError:
            return Folder()

    def _twins(self, parent: str, names: Iterable[str], name: str) -> list[str]:
        """Names in the directory that some file system may take for this one."""
        forms = self._forms.get(parent)
        if forms is None:
            forms = self._forms[parent] = {}
            for have in names:
                forms.setdefault(fold(have), []).append(have)
        return forms.get(fold(name), [])

    def _is_ours(self, relative: str, facts: Stat) -> bool:
        """True where the file system itself spells our own name differently (HFS+ decomposes letters)."""
        return relative in self.made or self.inodes.get(relative) == facts.inode


def unchanged(seen: Stat, now: Stat) -> bool:
    """True if nobody wrote to a file or put another in its place since it was seen.

    The change time of an inode with several names tells nothing: another name of it may have come or gone.
    """
    if seen.links > 1 or now.links > 1:
        return seen[:2] == now[:2] and (seen.inode, seen.mode) == (now.inode, now.mode)
    return seen == now


def fold(name: str) -> str:
    """Equal for names that a file system without case or Unicode forms may take for one."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def content_digest(fs: Fs, path: str, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes. ``progress`` is called with the bytes of each piece, and may raise to stop."""
    hasher = hashlib.sha256()
    with fs.open(path) as stream:
        while piece := stream.read(_PIECE):
            hasher.update(piece)
            if progress:
                progress(len(piece))
    return hasher.hexdigest()


class Facts(NamedTuple):
    """What a verdict is made from."""

    want: Want
    mark: Mark | None
    now: Stat
    linked: str | None = None  # for a symbolic link into our blobs: the digest it points at
    read: Callable[[], str] = lambda: ""  # SHA-256 of the content, read when needed
    known: Callable[[], frozenset[tuple[str, int]]] = frozenset  # (digest, size) of all versions of this file


def verdict(f: Facts, link: str) -> State:
    """How an existing file or link stands to what is wanted. Reads its content only when its facts do not tell."""
    if f.mark is not None and f.mark.untouched(f.now):
        if f.mark.digest != f.want.digest:
            return State.STALE
        return State.RELINK if link not in ("auto", f.mark.kind, f.mark.asked) else State.SAME
    if stat.S_ISLNK(f.now.mode):
        if f.linked is None:
            return State.EDITED
        return State.SAME if f.linked == f.want.digest else State.STALE
    return _by_content(f)


def _by_content(f: Facts) -> State:
    """Content decides. Ours are: what is wanted, what the mark says, and with no mark any version of this very file.

    With a mark, an older version put back by hand is an edit like any other.
    """
    ours = frozenset({(f.mark.digest, f.mark.size)}) if f.mark is not None else f.known()
    sizes = {size for _, size in ours} | {f.want.size}
    if f.now.size in sizes:
        digest = f.read()
        if digest == f.want.digest:
            return State.SAME
        if (digest, f.now.size) in ours:
            return State.STALE
    return State.STALE if _torn(f) else State.EDITED


def _torn(f: Facts) -> bool:
    """Cut short by a power loss: shorter than what was placed, yet with the time stamp that only placing gives it."""
    mark = f.mark
    if mark is not None:
        same = (f.now.mtime_ns, f.now.inode) == (mark.mtime_ns, mark.inode)
        return same and mark.kind in ("copy", "reflink") and f.now.size < mark.size
    stamp = f.want.stamp_ns
    return stamp is not None and f.now.mtime_ns // 1000 == stamp // 1000 and f.now.size < f.want.size
