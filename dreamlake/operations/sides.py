"""What can be compared: the files of a session, folder or version in a lake, or of a folder on disk, as one value.

Owns: how a user's address becomes files, and how their content is told apart. Changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dreamlake.catalog.fold import Fold
from dreamlake.content.assembled import read_recipe
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.recent import RecentParts
from dreamlake.content.staging import Progress
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import SessionKey, Version, below, folder_path, is_glob, session_key
from dreamlake.operations import tree
from dreamlake.operations.context import Store
from dreamlake.operations.globs import path_test
from dreamlake.operations.scan import find_files
from dreamlake.operations.tensor_access import TensorFile, open_local, open_stored

__all__ = ["Entry", "Place", "Side", "hashed", "local_side", "place_of", "stored_side"]

_PIECE = 1 << 20


class Place(NamedTuple):
    """A session, or a folder, file, version or glob in it."""

    session: SessionKey
    path: str | None = None


class Entry(NamedTuple):
    """One file of a side. ``digest`` is None while it is not known; then ``file`` is where the content is.

    ``tensors`` opens it, given what it shares with the file that it is compared with.
    """

    path: str
    size: int
    digest: str | None
    file: str | None
    tensors: Callable[[RecentParts], TensorFile | None]
    parts: Callable[[], dict[str, int]]


class Side(NamedTuple):
    """What is compared: files by the path that they are compared by.

    ``single``: it is one file, whatever its name. ``skipped``: (path, reason) of what cannot be compared.
    """

    title: str
    files: dict[str, Entry]
    single: bool
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.files.values())


def place_of(text: str, namespace: str = "") -> Place:
    """``WORKSPACE/SESSION`` or ``WORKSPACE/SESSION:/PATH`` taken apart. Raises ``InvalidInput``."""
    workspace, slash, rest = text.partition("/")
    name, mark, path = rest.partition(":/")
    if not slash or not name.rstrip("/"):
        raise InvalidInput(f"{text!r} names no session; write WORKSPACE/SESSION or WORKSPACE/SESSION:/PATH", path=text)
    return Place(session_key(workspace, name.rstrip("/"), namespace), "/" + path if mark else None)


def stored_side(store: Store, place: Place) -> Side:
    """The files of a place in a lake. Raises ``NotFound``."""
    view = store.catalog.view(place.session)
    if not view.info.exists:
        raise NotFound(f"no session {str(place.session)!r}", path=str(place.session))
    path = place.path or "/"
    title = f"{place.session}:{path}" if place.path is not None else str(place.session)
    if path.strip("/") == "":
        return Side(title, _entries(store, view.live(), "/"), False)
    try:
        version = tree.resolve(view, path)
    except (NotFound, InvalidInput):
        return Side(title, _below(store, view, path), False)
    return Side(title, {version.key: _entry(store, version, version.key)}, True)


def _below(store: Store, view: Fold, path: str) -> dict[str, Entry]:
    """The files of a folder by their path in it, or those that match a glob by their whole path."""
    try:
        return _entries(store, tree.select(view, path), below(folder_path(path)))
    except (NotFound, InvalidInput):
        if not is_glob(path):
            raise
    matches = path_test(path)
    found = [version for version in view.live() if matches(version.key)]
    if not found:
        raise NotFound(f"no file matches {path!r} in session {view.session}", path=path)
    return _entries(store, found, "/")


def _entries(store: Store, versions: Iterable[Version], prefix: str) -> dict[str, Entry]:
    return {v.key[len(prefix) :]: _entry(store, v, v.key[len(prefix) :]) for v in versions}


def _entry(store: Store, version: Version, path: str) -> Entry:
    digest, size = version.digest, version.size_bytes
    return Entry(
        path, size, digest, None,
        tensors=lambda beside: open_stored(store, digest, size, beside=beside),
        parts=lambda: _parts(store, digest, size),
    )  # fmt: skip


def _parts(store: Store, digest: str, size: int) -> dict[str, int]:
    """Bytes of a content by the parts that it is stored in; {} when it is stored whole."""
    if size < MIN_FILE:
        return {}
    try:
        recipe = read_recipe(store.blobs, digest, size)
    except NotFound:
        return {}
    found: Counter[str] = Counter()
    for part in recipe.parts:
        found[part.key] += part.size
    return dict(found)


def local_side(path: str | os.PathLike[str]) -> Side:
    """A file on disk, or the files of a folder; links in it are not followed.

    Raises ``NotFound``, ``InvalidInput`` for what is no file, ``OSError``.
    """
    name = os.path.expanduser(os.fspath(path))
    if os.path.isdir(name):
        found = find_files(name)
        files = {f.relative: _local(name, f.relative, f.size) for f in found.files}
        return Side(name, files, False, tuple((os.path.join(name, path), reason) for path, reason in found.skipped))
    if not os.path.lexists(name):
        raise NotFound(f"no file or folder {name}", path=name)
    if not os.path.isfile(name):
        raise InvalidInput(f"{name} is neither a file nor a folder", path=name)
    return Side(name, {name: _local("", name, os.stat(name).st_size)}, True)


def _local(folder: str, relative: str, size: int) -> Entry:
    file = os.path.join(folder, relative)
    return Entry(relative, size, None, file, tensors=lambda beside: open_local(file), parts=dict)


def hashed(a: Side, b: Side, progress: Progress | None) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The files of both sides, with the digest of local ones where the other side has a file of that size."""
    sides = dict(a.files), dict(b.files)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="dreamlake-hash") as pool:
        jobs = []
        for side, other in (sides, sides[::-1]):
            sizes = {entry.size for entry in other.values()}
            for path, entry in side.items():
                if entry.digest is None and entry.file is not None and entry.size in sizes:
                    jobs.append((side, path, pool.submit(_sha256, entry.file, progress)))
        for side, path, job in jobs:
            side[path] = side[path]._replace(digest=job.result())
    return sides


def _sha256(file: str, progress: Progress | None) -> str:
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
    with open(file, "rb", buffering=0) as stream:
        while got := stream.readinto(buffer):
            hasher.update(buffer[:got])
            if progress:
                progress(got)
    return hasher.hexdigest()
