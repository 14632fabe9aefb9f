"""``open_lake``: the only place that chooses implementations.

A folder lake is ``<root>/.dreamlake`` (the store) beside the documented session folders. Creating one is atomic: the
layout is built under a scratch name, made durable, and renamed into place; of two creators one wins.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dreamlake import config, values
from dreamlake.blobs.folder import FolderBlobs
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.checkpoints import Checkpoints
from dreamlake.errors import InvalidInput, NotFound, UnsupportedFormat
from dreamlake.inside import check_inside, check_names
from dreamlake.journal import Journal
from dreamlake.journal.folder import FolderJournal
from dreamlake.model import (
    DEFAULT_MAX_FILE_BYTES,
    MAX_SEGMENT_BYTES,
    SessionInfo,
    SessionKey,
    same_name,
    session_key,
)
from dreamlake.operations.context import DEFAULT_ENCODING, Store, check_encoding
from dreamlake.ports import Ports, iso
from dreamlake.progress import meter
from dreamlake.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from datetime import datetime

    from dreamlake.operations.materialize import Materialized, Options, Plan
    from dreamlake.operations.optimize import Optimized

STORE_DIR = ".dreamlake"
FORMAT = 1
_SUBDIRS = ("tmp", "pending", "blobs", "sessions", "quarantine", "cache", "placed")


class Lake(Upkeep, Checkpoints):
    """An open lake. Made by ``open_lake``; holds no file open and needs no closing.

    Attributes:
        store: what the operations work on.
        root: the folder that holds the documented trees.
        store_id: the lake's identity, equal in all copies of it.
    """

    def __init__(self, store: Store, root: str, store_id: str) -> None:
        self.store, self.root, self.store_id = store, root, store_id

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    def configure(self, *, encoding: str) -> None:
        """Set how uploads to this lake are stored from now on unless they say: "auto", "coded" or "raw"."""
        ports, base = self.store.ports, f"{self.root}/{STORE_DIR}"
        settings = {**read_settings(ports, base), "encoding": check_encoding(encoding, None)}
        scratch = f"{base}/tmp/{ports.scratch_name('settings')}"
        ports.fs.write(scratch, values.encode(settings, indent=2) + b"\n")
        ports.fs.fsync(scratch)
        ports.fs.rename(scratch, f"{base}/settings.json")
        ports.fs.fsync_dir(base)
        self.store = replace(self.store, encoding=encoding)

    def sessions(self) -> list[SessionInfo]:
        """All sessions that exist, sorted by workspace and name."""
        from dreamlake.operations.references import Sessions

        return [fold.info for _, fold in Sessions(self.store) if fold.info.exists]  # few folds are open at a time

    def info(self, key: SessionKey) -> SessionInfo:
        """What is known of one session; ``exists`` is False for an unknown one."""
        return self.store.catalog.view(key).info

    def session_folder(self, key: SessionKey) -> str:
        """The documented folder of a session.

        On a file system that folds case or Unicode forms the plain name may belong to another session; then the
        session whose name came second lives in ``<name>~<8 hexadecimal digits of its identity>``. Whose it is says
        ``session.json``; while that is missing or damaged, the oldest session with such a name.
        """
        plain = f"{self.root}/{key.workspace}/{key.name}"
        owner = self._folder_owner(plain) or self._oldest_in(plain, key)
        if owner is None or owner == key:
            return plain
        short = key.name.encode()[: MAX_SEGMENT_BYTES - 9].decode(errors="ignore")
        return f"{self.root}/{key.workspace}/{short}~{key.sid[:8]}"

    def journal(self, key: SessionKey) -> Journal:
        """Parameters, logs and tracks of a session."""
        return FolderJournal(self.store.ports, self.session_folder(key), root=self.root)

    def optimize(
        self,
        *sessions: SessionKey,
        encoding: str = "auto",
        dry_run: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Optimized:
        """Store what is stored whole as parts and differences, and free bases that only differences still need.

        Safe beside uploads and collections; content and checksums never change. See ``operations.optimize``.

        Args:
            sessions: only content of these; all, and all bases, when none is given.
            encoding: "auto" for checkpoints, "coded" for every large file.
            dry_run: only count what would be tried.
            progress: called with (phase, done, total).
        """
        from dreamlake.operations.context import check_encoding
        from dreamlake.operations.optimize import optimize

        check_encoding(encoding, None)
        return optimize(self.store, sessions=sessions or None, encoding=encoding, dry_run=dry_run, progress=progress)

    def plan_materialize(
        self,
        scope: str | SessionKey | None,
        options: Options,
        *,
        to: str | os.PathLike[str] | None = None,
        extras: bool = False,
    ) -> Plan:
        """What ``materialize`` would do; changes nothing. ``extras``: also list files that nobody asked for."""
        from dreamlake.operations.materialize import plan, sessions_of

        with meter(None, "compare files on disk") as progress:
            return plan(
                self.store, sessions_of(self.store, scope), options,
                to=to, folder_of=self.session_folder, extras=extras, progress=progress,
            )  # fmt: skip

    def materialize(
        self,
        scope: str | SessionKey | Plan | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        path: str | None = None,
        at: str | int | datetime | None = None,
        link: str = "auto",
        force: bool = False,
        delete: bool = False,
        executor: Executor | None = None,
        workers: int | None = None,
    ) -> Materialized:
        """Build the tree ``<root>/<workspace>/<session>/files/<path>/<filename>`` on disk.

        Idempotent: what is right already is left as it is, at the cost of a look. A file that was edited is reported in
        the result's ``conflicts`` and left alone. What is written can be made again, so it is not forced to disk.

        Args:
            scope: ``"workspace/session"``, ``"workspace"``, None for the whole lake; or a plan, which says the rest.
            to: another root than the lake's own folder.
            path, at, link, force, delete: see ``operations.planned.Options``.
            executor: runs the work elsewhere (any ``concurrent.futures.Executor``); default: ``workers`` threads.

        Raises:
            NotFound: unknown session or workspace.  InvalidInput: a bad option; nothing was changed.
            OSError: the disk is full or cannot be written to; what was placed until then is whole.
        """
        from dreamlake.operations.materialize import Options, Plan, execute

        if isinstance(scope, Plan):
            todo = scope
        else:
            todo = self.plan_materialize(scope, Options(path, at, link, force, delete), to=to)
        with meter(todo.bytes, "materialize") as progress:
            return execute(self.store, todo, executor=executor, workers=workers, progress=progress)

    def _folder_owner(self, folder: str) -> SessionKey | None:
        try:
            raw = values.decode(self.store.ports.fs.read(f"{folder}/session.json"))
            return session_key(raw["workspace"], raw["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _oldest_in(self, folder: str, key: SessionKey) -> SessionKey | None:
        """Of the sessions whose plain folder is this very one on this file system, the oldest."""
        fs, spelling = self.store.ports.fs, same_name(str(key))
        try:
            inode = fs.lstat(folder).inode
            names = [k for k in self.store.catalog.sessions() if same_name(str(k)) == spelling]
            here = [k for k in names if fs.lstat(f"{self.root}/{k.workspace}/{k.name}").inode == inode]
        except OSError:  # there is no folder yet, or none for one of them: this file system tells them apart
            return None
        return min(here, key=lambda k: (self.info(k).created_at or "", k), default=None)


def open_lake(
    location: str | os.PathLike[str] | None = None,
    *,
    create: bool = False,
    max_file_bytes: int | None = None,
    encoding: str | None = None,
    ports: Ports | None = None,
) -> Lake:
    """Open the lake in a folder.

    Args:
        location: its root folder; None means what ``config.local_path`` says (environment, file, ``./experiments``).
        create: make an empty lake when there is none.
        max_file_bytes: upload limit in bytes; None means what the configuration says, or 5 GiB.
        encoding: how uploads are stored unless they say; None means ``DREAMLAKE_ENCODING``, the lake's setting (see
            ``Lake.configure``), or "auto".
        ports: the system calls to use (tests).

    Raises:
        NotFound: no lake there and not ``create``.
        InvalidInput: the location is a file, or a setting is no number.
        UnsupportedFormat: a newer format, or not a store.
    """
    root = config.local_path(location)
    ports = ports or Ports()
    base = f"{root}/{STORE_DIR}"
    check_inside(ports.fs, root, base)
    try:
        data = ports.fs.read(f"{base}/store.json")
    except FileNotFoundError:
        if not create:
            raise NotFound(
                f"no lake in {root}. Give its folder with --lake or DREAMLAKE_LOCAL_PATH, or create one by uploading.",
                path=root,
            ) from None
        create_store(ports, root)
        data = ports.fs.read(f"{base}/store.json")
    except NotADirectoryError:
        raise InvalidInput(f"{root} is not a folder", path=root) from None
    head = store_head(data, base)
    check_names(ports.fs, base, _SUBDIRS)
    check_names(ports.fs, f"{base}/blobs")
    chosen = check_encoding(encoding, os.environ.get("DREAMLAKE_ENCODING") or None)
    store = Store(
        ports=ports,
        catalog=FolderCatalog(ports, base),
        blobs=FolderBlobs(ports, base),
        root=root,
        scratch=f"{base}/cache",
        max_file_bytes=config.max_file_bytes(max_file_bytes) or DEFAULT_MAX_FILE_BYTES,
        encoding=chosen or read_settings(ports, base).get("encoding", DEFAULT_ENCODING),
    )
    return Lake(store, root, head["store_id"])


def read_settings(ports: Ports, base: str) -> dict[str, Any]:
    """The lake's own settings; {} where none were made. Raises ``InvalidInput`` when the file does not read."""
    path = f"{base}/settings.json"
    try:
        settings = values.decode(ports.fs.read(path))
        check_encoding(settings.get("encoding"), None)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} does not read ({error}); mend it or remove it", path=path) from None
    return dict(settings)


def create_store(ports: Ports, root: str) -> None:
    """Lay out an empty store in ``root``, atomically and durably. Leaves an existing one alone."""
    fs = ports.fs
    holders = _holders_of_new_folders(ports, root)
    try:
        fs.make_dir(root)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(f"{root} is not a folder", path=root) from None
    scratch = f"{root}/{STORE_DIR}-{ports.scratch_name('new')}"
    try:
        _lay_out(ports, scratch)
        fs.rename(scratch, f"{root}/{STORE_DIR}")
    except BaseException as error:
        remove_scratch(ports, scratch)
        if not isinstance(error, OSError):
            raise
        try:
            fs.stat(f"{root}/{STORE_DIR}/store.json")  # somebody else made it: fine
        except OSError:
            raise error from None
        return
    fs.fsync_dir(root)
    for folder in holders:
        with contextlib.suppress(PermissionError):  # a folder that may be written to, but not read
            fs.fsync_dir(folder)


def _holders_of_new_folders(ports: Ports, path: str) -> list[str]:
    """Of ``path`` and its parents, those that do not exist yet: the folders that their names will be in."""
    holders = []
    while path != os.path.dirname(path):
        try:
            ports.fs.lstat(path)
            break
        except FileNotFoundError:
            path = os.path.dirname(path)
            holders.append(path)
        except NotADirectoryError:
            break
    return holders


def _lay_out(ports: Ports, scratch: str) -> None:
    fs = ports.fs
    for name in _SUBDIRS:
        fs.make_dir(f"{scratch}/{name}")
    for shard in range(256):
        fs.make_dir(f"{scratch}/blobs/{shard:02x}")
    head = {"format": FORMAT, "store_id": ports.new_id(), "created_at": iso(ports.now())}
    fs.write(f"{scratch}/store.json", values.encode(head, indent=2) + b"\n")
    fs.fsync(f"{scratch}/store.json")
    for path in (f"{scratch}/blobs", scratch):
        fs.fsync_dir(path)


def remove_scratch(ports: Ports, scratch: str) -> None:
    """Remove what a creation of a store laid out so far. Nothing else is ever in it; what is stays."""
    fs = ports.fs
    with contextlib.suppress(OSError):
        fs.unlink(f"{scratch}/store.json")
    for folder in [*(f"blobs/{shard:02x}" for shard in range(256)), *_SUBDIRS, ""]:
        with contextlib.suppress(OSError):
            fs.remove_dir(f"{scratch}/{folder}".rstrip("/"))


def store_head(data: bytes, base: str) -> dict[str, Any]:
    """The content of ``store.json``. Raises ``UnsupportedFormat`` for a newer or unreadable one."""
    try:
        head = values.decode(data)
        version, store_id = head["format"], head["store_id"]
    except (ValueError, KeyError, TypeError):
        raise UnsupportedFormat(f"{base}/store.json is damaged: this is not a readable lake", path=base) from None
    if version != FORMAT or not isinstance(store_id, str):
        raise UnsupportedFormat(f"{base} has store format {version!r}; this release reads format {FORMAT}", path=base)
    return dict(head)
