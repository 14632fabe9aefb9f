"""A lake as an fsspec file system: ``dreamlake://workspace/session/path``, also ``...path@v3`` and ``...path@best``.

``pip install dreamlake[fsspec]``; then pandas, pyarrow, zarr, universal-pathlib and all else that opens URLs through
fsspec read and write a lake::

    frame.to_parquet("dreamlake://vision/run-1/data/train.parquet", storage_options={"local_path": "./experiments"})
    torch.load(fsspec.open("dreamlake://vision/run-1/models/best.pth@best").open())

A write to a path that exists makes a new version of it; a session is created with the first write into it. Folders are
where files are: there are no empty ones. What is written in a transaction appears at once, as one record of each
session, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.errors import InvalidInput, NotFound, StateError
from dreamlake.integrations.lazy import derived, need, unknown

if TYPE_CHECKING:
    from dreamlake.catalog.fold import Fold
    from dreamlake.files import Files
    from dreamlake.integrations.fsspec_writing import Writer
    from dreamlake.lake import Lake
    from dreamlake.model import SessionKey, Version
    from dreamlake.operations.context import Store

__all__ = ["DreamLakeFileSystem"]

DreamLakeFileSystem: type[Any]  # made by __getattr__
Info = dict[str, Any]


def __getattr__(name: str) -> Any:
    if name == "DreamLakeFileSystem":
        base = need(lambda: import_module("fsspec.spec"), "fsspec").AbstractFileSystem
        return derived(__name__, name, _FileSystem, base)
    raise unknown(__name__, name)


class Place(NamedTuple):
    """A path of the file system, taken apart. ``path`` is ``/`` for a session itself."""

    workspace: str = ""
    session: str = ""
    path: str = ""

    @classmethod
    def of(cls, name: str) -> Place:
        workspace, _, rest = name.partition("/")
        session, _, path = rest.partition("/")
        return cls(workspace, session, f"/{path}" if session else "")

    @property
    def inside(self) -> bool:
        """True for what lies in a session."""
        return self.path not in ("", "/")

    def __str__(self) -> str:
        return f"dreamlake://{'/'.join(part for part in self[:2] if part)}{self.path}"


class Opened(NamedTuple):
    """A session of the lake."""

    store: Store
    key: SessionKey
    files: Files
    guard: Callable[[bool], None]

    @property
    def view(self) -> Fold:
        return self.store.catalog.view(self.key)


class _FileSystem:
    """See the module.

    Args:
        local_path, remote, namespace: which lake, as for ``Session``. Default: as everywhere (environment,
            configuration, ``./experiments``).
    """

    protocol = "dreamlake"
    root_marker = ""
    _intrans: bool
    storage_options: dict[str, Any]

    def __init__(
        self,
        *args: Any,
        local_path: str | os.PathLike[str] | None = None,
        remote: Any = None,
        namespace: str | None = None,
        **options: Any,
    ) -> None:
        from dreamlake.location import locate

        super().__init__(*args, **options)
        self._place = locate(local_path, remote, namespace)
        self._opened: Lake | None = None
        self._listings: dict[str, tuple[int, dict[str, dict[str, Version | None]]]] = {}

    def __reduce__(self) -> Any:
        made: Any = super().__reduce__()
        make, (cls, args, options) = made
        if isinstance(self._place, str):
            options = {**options, "local_path": self._place}  # the other process may have another current folder
        return make, (cls, args, options)

    @property
    def transaction_type(self) -> Any:
        from dreamlake.integrations.fsspec_writing import transaction_type

        return transaction_type()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        for scheme in ("dreamlake://", "dreamlake:"):
            if text.startswith(scheme):
                text = text[len(scheme) :]
                break
        return "/".join(part for part in text.split("/") if part not in ("", "."))

    # ---- the lake ------------------------------------------------------------------------------------------------

    def _lake(self, *, create: bool = False) -> Lake:
        if self._opened is None:
            from dreamlake.lake import open_lake

            self._opened = open_lake(self._place, create=create)
        return self._opened

    def _session(self, place: Place, *, create: bool = False) -> Opened:
        """The session of a path. Raises ``NotFound`` unless it exists or may be created."""
        from dreamlake.files import Files

        if not place.session:
            raise InvalidInput(f"{place} is no session; files are in dreamlake://WORKSPACE/SESSION/")
        lake = self._lake(create=create)
        key = lake.store.session(place.workspace, place.session)
        if not lake.info(key).exists:
            if not create:
                raise NotFound(f"no session {key} in this lake", path=str(key))
            self._create(place)

        def guard(write: bool) -> None:
            if write and lake.info(key).write_protected:
                raise StateError(f"session {key} is write-protected")

        return Opened(lake.store, key, Files(lake.store, key, guard), guard)

    def _create(self, place: Place) -> None:
        from dreamlake.session import Session

        where: dict[str, Any] = {"local_path" if isinstance(self._place, str) else "remote": self._place}
        with Session(place.session, place.workspace, capture=False, **where):
            pass

    def _version(self, place: Place) -> Version | None:
        """The file that a path names, also as ``path@v3`` or ``path@alias``; None if it names none."""
        from dreamlake.operations import tree

        if not place.inside:
            return None
        session = self._session(place)
        try:
            return tree.resolve(session.view, place.path)
        except NotFound:
            return None

    def _listing(self, place: Place) -> dict[str, dict[str, Version | None]]:
        """Folder -> name -> file (None: a folder) of a session, made anew when it has changed."""
        from dreamlake.model import Version

        view = self._session(place).view
        known = self._listings.get(f"{place.workspace}/{place.session}")
        if known is not None and known[0] == view.n:
            return known[1]
        number, folders = view.n, {"/": dict[str, Any]()}
        for row in view.live_rows():
            version = Version._make(row)
            folder, _, name = version.key.rpartition("/")
            entries = folders.get(folder or "/")
            if entries is None:
                entries = folders[folder] = {}
                while folder:  # the folders above it
                    folder, _, child = folder.rpartition("/")
                    above = folders.setdefault(folder or "/", {})
                    if child in above:
                        break
                    above[child] = None
            entries[name] = version
        self._listings[f"{place.workspace}/{place.session}"] = (number, folders)
        return folders

    # ---- looking -------------------------------------------------------------------------------------------------

    def info(self, path: Any, **kwargs: Any) -> Info:
        """Name, size and type; of a file also checksum (SHA-256), version, id, contentType, tags, metadata, times."""
        name = self._strip_protocol(path)
        place = Place.of(name)
        if (version := self._version(place)) is not None:
            return _info(name, version)
        if self._is_folder(place):
            return _folder(name)
        raise FileNotFoundError(str(place))

    def _is_folder(self, place: Place) -> bool:
        if place.inside:
            return bool(self._session(place).view.is_folder(place.path))
        if place.session:
            lake = self._lake()
            return lake.info(lake.store.session(place.workspace, place.session)).exists
        return not place.workspace or any(key.workspace == place.workspace for key in self._lake().store.sessions())

    def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Workspaces, sessions, or the files and folders directly in a folder; of a file the file itself."""
        name = self._strip_protocol(path)
        place = Place.of(name)
        if not place.session:
            found = self._sessions(place)
        else:
            entries = self._listing(place).get(place.path)
            if entries is not None:
                prefix = f"{name}/"
                found = [
                    _folder(prefix + child) if version is None else _info(prefix + child, version)
                    for child, version in sorted(entries.items())
                ]
            else:
                found = [self.info(name)]
        return found if detail else [entry["name"] for entry in found]

    def _sessions(self, place: Place) -> list[Info]:
        infos = [info.key for info in self._lake().sessions()]
        if not place.workspace:
            return [_folder(workspace) for workspace in sorted({key.workspace for key in infos})]
        names = [key.name for key in infos if key.workspace == place.workspace]
        if not names:
            raise FileNotFoundError(f"dreamlake://{place.workspace}")
        return [_folder(f"{place.workspace}/{name}") for name in names]

    def created(self, path: Any) -> Any:
        """When this version was uploaded."""
        return self.info(path).get("created")

    def modified(self, path: Any) -> Any:
        """When this version was uploaded or its attributes were changed."""
        return self.info(path).get("modified")

    def checksum(self, path: Any) -> int:
        """The SHA-256 of the content, as a number."""
        return int(self.ukey(path), 16)

    def ukey(self, path: Any) -> str:
        """The SHA-256 of the content, as 64 hexadecimal digits."""
        checksum = self.info(path).get("checksum")
        if checksum is None:
            raise IsADirectoryError(str(path))
        return str(checksum)

    def invalidate_cache(self, path: Any = None) -> None:
        """Nothing to do: every look sees what is committed."""

    # ---- reading and writing -------------------------------------------------------------------------------------

    def _open(self, path: Any, mode: str = "rb", autocommit: bool = True, **kwargs: Any) -> Any:
        name = self._strip_protocol(path)
        place = Place.of(name)
        version = self._version_or_none(place)
        if mode == "rb":
            if version is None:
                found = self._is_folder_or_none(place)
                raise (IsADirectoryError if found else FileNotFoundError)(str(place))
            stream = self._session(place).files.open(version.id if place.path == version.key else place.path)
            stream.size = version.size_bytes  # type: ignore[attr-defined]
            return stream
        if mode not in ("wb", "xb", "ab"):
            raise InvalidInput(f"mode {mode!r}; use rb, wb, xb or ab")
        if mode == "xb" and version is not None:
            raise FileExistsError(str(place))
        self._check_target(place, version)
        from dreamlake.integrations.fsspec_writing import Writer

        given: dict[str, Any] = {key: kwargs[key] for key in ("description", "tags", "metadata") if key in kwargs}
        before = self._session(place).files.open(version.key) if mode == "ab" and version is not None else None
        return Writer(self._store, place, given, before=before, autocommit=autocommit)

    def open(self, path: Any, mode: str = "rb", **kwargs: Any) -> Any:
        """Open a file; an exception inside a ``with`` block of a file that is written leaves the lake unchanged.

        Args:
            mode: r, w, x or a, with b or t.
            description, tags, metadata: of the new version.
        """
        if "b" in mode:
            return super().open(path, mode, **kwargs)  # type: ignore[misc]
        from dreamlake.integrations.fsspec_writing import TextWriter

        text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
        if "r" in mode:
            return super().open(path, mode, **kwargs, **text)  # type: ignore[misc]
        return TextWriter(self.open(path, mode.replace("t", "") + "b", **kwargs), **text)

    def _version_or_none(self, place: Place) -> Version | None:
        try:
            return self._version(place)
        except FileNotFoundError:  # no such session, or no lake yet
            return None

    def _is_folder_or_none(self, place: Place) -> bool:
        try:
            return self._is_folder(place)
        except FileNotFoundError:
            return False

    def _check_target(self, place: Place, version: Version | None) -> None:
        """Refuse at once what could not be stored in the end."""
        from dreamlake.model import parse_key

        if not place.inside:
            raise IsADirectoryError(f"{place} is no file; files are in a session")
        if version is not None and version.key != place.path:
            raise InvalidInput(
                f"{place.path} is a version of {version.key}, and versions do not change", path=place.path
            )
        parse_key(place.path)
        if self._is_folder_or_none(place):
            raise IsADirectoryError(str(place))

    def _store(self, writers: Sequence[Writer]) -> None:
        """Store what was written, in one record of each session."""
        from dreamlake.operations.upload import upload_together

        by_session: dict[tuple[str, str], list[Writer]] = {}
        for writer in writers:
            by_session.setdefault(writer.place[:2], []).append(writer)
        for those in by_session.values():
            session = self._session(those[0].place, create=True)
            session.guard(True)
            last = {writer.place.path: writer for writer in those}  # written twice: the last one counts
            upload_together(
                session.store, session.key, [(w.place.path, w.stream(), w.attributes) for w in last.values()]
            )

    def pipe_file(self, path: Any, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Store bytes; ``mode="create"`` refuses a path that exists."""
        with self.open(path, "xb" if mode == "create" else "wb", **kwargs) as file:
            file.write(value)

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The content, verified; or a part of it."""
        if start is None and end is None:
            with self._open(path) as stream:
                return bytes(stream.read())
        return bytes(super().cat_file(path, start=start, end=end, **kwargs))  # type: ignore[misc]

    def touch(self, path: Any, truncate: bool = True, **kwargs: Any) -> None:
        """An empty file, or (``truncate=False``) a new version of the one that is there, with the same content."""
        if not truncate and self.isfile(path):  # type: ignore[attr-defined]
            self.cp_file(path, path)
            return
        self.pipe_file(path, b"", **kwargs)

    def put_file(self, lpath: Any, rpath: Any, callback: Any = None, mode: str = "overwrite", **kwargs: Any) -> None:
        """Store a local file."""
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        name = self._strip_protocol(rpath)
        place, size = Place.of(name), os.path.getsize(lpath)
        if callback is not None:
            callback.set_size(size)
        version = self._version_or_none(place)
        if mode == "create" and version is not None:
            raise FileExistsError(str(place))
        if self._intrans:
            super().put_file(lpath, rpath, **kwargs)  # type: ignore[misc]
        else:
            self._check_target(place, version)
            folder, _, filename = place.path.rpartition("/")
            self._session(place, create=True).files.upload(
                os.fspath(lpath), path=folder or "/", filename=filename, **kwargs
            )
        if callback is not None:
            callback.relative_update(size)

    def get_file(self, rpath: Any, lpath: Any = None, callback: Any = None, outfile: Any = None, **kwargs: Any) -> None:
        """Write the content to a local file, which is replaced by complete, verified content or not at all."""
        name = self._strip_protocol(rpath)
        version = self._version_or_none(Place.of(name))
        if version is None or outfile is not None or not isinstance(lpath, (str, os.PathLike)):
            more = {} if callback is None else {"callback": callback}
            super().get_file(rpath, lpath, outfile=outfile, **more, **kwargs)  # type: ignore[misc]
            return
        from fsspec.implementations.local import LocalFileSystem

        target = os.fspath(lpath)
        LocalFileSystem().makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        if callback is not None:
            callback.set_size(version.size_bytes)
        self._session(Place.of(name)).files.download(Place.of(name).path, target)
        if callback is not None:
            callback.relative_update(version.size_bytes)

    # ---- changing the tree ---------------------------------------------------------------------------------------

    def mkdir(self, path: Any, create_parents: bool = True, **kwargs: Any) -> None:
        """Of a session: create it. A folder is there as soon as it has a file, so nothing else is done.

        Raises ``FileExistsError`` for what is there already.
        """
        place = Place.of(self._strip_protocol(path))
        if self._version_or_none(place) is not None or self._is_folder_or_none(place):
            raise FileExistsError(str(place))
        if place.session and (create_parents or not place.inside):
            self._session(place, create=True)

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Like ``mkdir``, with all above it."""
        place = Place.of(self._strip_protocol(path))
        taken = self._version_or_none(place) is not None
        if taken or (not exist_ok and self._is_folder_or_none(place)):
            raise FileExistsError(str(place))
        if place.session:
            self._session(place, create=True)

    def rmdir(self, path: Any) -> None:
        """Nothing to do for an empty session, which stays; a folder with files raises ``OSError``."""
        if self.ls(path):
            raise OSError(39, os.strerror(39), str(path))

    def rm_file(self, path: Any) -> None:
        """Delete a file with its history; ``restore`` brings it back."""
        place = Place.of(self._strip_protocol(path))
        if self._version_or_none(place) is None:
            found = self._is_folder_or_none(place)
            raise (IsADirectoryError if found else FileNotFoundError)(str(path))
        self._session(place).files.delete(place.path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, and with ``recursive`` folders. Sessions stay, without files."""
        for name in self.expand_path(path, recursive=False):  # type: ignore[attr-defined]
            place = Place.of(name)
            if self._version(place) is not None or not self._is_folder(place):
                self.rm_file(name)
            elif not recursive:
                raise IsADirectoryError(f"dreamlake://{name}; delete it with recursive=True")
            elif maxdepth is not None:
                for file in self.find(name, maxdepth=maxdepth):  # type: ignore[attr-defined]
                    self.rm_file(file)
            elif not place.session:
                for session in self.ls(name, detail=False):
                    self.rm(session, recursive=True)
            elif self.ls(name):
                self._session(place).files.delete(place.path, recursive=True)

    def cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        """Copy a file, or any version of it; no bytes move, also between sessions."""
        from dreamlake.operations import tree

        source, target = (Place.of(self._strip_protocol(path)) for path in (path1, path2))
        version = self._version(source)
        if version is None:
            if not self._is_folder(source):
                raise FileNotFoundError(str(path1))
            self.makedirs(path2, exist_ok=True)
            return
        self._check_target(target, self._version_or_none(target))
        session, goal = self._session(source), self._session(target, create=True)
        goal.guard(True)
        tree.copy(session.store, session.key, source.path, target.path, to_session=goal.key)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move a file, or with ``recursive`` a folder; inside a session the history goes with it."""
        if self._moves(path1, path2, recursive, maxdepth):
            source, target = (Place.of(self._strip_protocol(path)) for path in (path1, path2))
            into = target.path.rstrip("/") + ("/" if str(path2).endswith("/") else "")
            self._session(source).files.move(source.path, into)
            return
        super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)  # type: ignore[misc]

    def _moves(self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None) -> bool:
        """True where one move does it: one file or folder, in one session, to a name that is free."""
        if not all(isinstance(path, (str, os.PathLike)) for path in (path1, path2)) or maxdepth is not None:
            return False
        source, target = (Place.of(self._strip_protocol(path)) for path in (path1, path2))
        if source[:2] != target[:2] or not source.inside or not target.inside or str(path1).endswith("/"):
            return False
        version = self._version(source)
        if self._version(target) is not None or (version is None and not (recursive and self._is_folder(source))):
            return False
        return version is None or version.key == source.path


def _folder(name: str) -> Info:
    return {"name": name, "size": 0, "type": "directory"}


def _info(name: str, version: Version) -> Info:
    uploaded, updated = _moment(version.uploaded_at), _moment(version.updated_at)
    return {
        "name": name,
        "size": version.size_bytes,
        "type": "file",
        "checksum": version.digest,
        "version": version.number,
        "id": version.id,
        "contentType": version.content_type,
        "description": version.description,
        "tags": list(version.tags),
        "metadata": dict(version.metadata),
        "created": uploaded,
        "modified": updated,
        "mtime": updated.timestamp(),
    }


def _moment(text: str) -> Any:
    from datetime import datetime, timezone

    from dreamlake.operations.moments import instant

    seconds = instant(text)
    return datetime.fromtimestamp(seconds if seconds == seconds else 0.0, timezone.utc)
