"""``Lake``, and ``open_lake``: the only place that chooses implementations.

A folder lake is ``<root>/.dreamlake`` (the store) beside the documented session folders.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dreamlake import config
from dreamlake.blobs.folder import FolderBlobs
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.checkpoints import Checkpoints
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.finding import Finding
from dreamlake.folder_home import FolderHome
from dreamlake.folder_store import STORE_DIR, SUBDIRS, create_store, read_settings, store_head
from dreamlake.inside import check_inside, check_names
from dreamlake.journal import Journal
from dreamlake.location import RemoteAddress, location_of
from dreamlake.model import DEFAULT_MAX_FILE_BYTES, SessionInfo, SessionKey
from dreamlake.operations.context import DEFAULT_ENCODING, Bucket, Store, check_encoding
from dreamlake.ports import Ports
from dreamlake.progress import meter
from dreamlake.syncing import Syncing
from dreamlake.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from dreamlake.blobs import Blobs
    from dreamlake.home import Home
    from dreamlake.operations.materialize import Materialized, Options, Plan
    from dreamlake.operations.optimize import Optimized


class Lake(Finding, Upkeep, Checkpoints, Syncing):
    """An open lake. Made by ``open_lake``; may be used in a ``with`` block, which closes it.

    Attributes:
        store: what the operations work on.
        home: what a lake has besides.
        store_id: the lake's identity, equal in all copies of it.
    """

    def __init__(self, store: Store, home: Home, store_id: str) -> None:
        self.store, self.home, self.store_id = store, home, store_id

    def __repr__(self) -> str:
        return f"Lake({self.where!r})"

    def _repr_html_(self) -> str:
        from dreamlake.showing import sessions_html

        return sessions_html(str(self.where), self.sessions())

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections; a lake in a folder holds nothing open. May be repeated."""
        self.home.close()

    @property
    def root(self) -> str | None:
        """The folder that holds the documented trees, or None for a remote lake."""
        return self.home.root

    @property
    def where(self) -> str:
        """What to call the place: a folder, a profile, or the URL of the database without any secret."""
        return self.home.where

    def configure(self, *, encoding: str) -> None:
        """Set how uploads to this lake are stored from now on unless they say: "auto", "coded" or "raw"."""
        self.home.configure({"encoding": check_encoding(encoding, None)})
        self.store = replace(self.store, encoding=encoding)

    def sessions(self) -> list[SessionInfo]:
        """All sessions of this namespace that exist, sorted by workspace and name."""
        from dreamlake.operations.references import Sessions

        views = Sessions(self.store)  # few folds are open at a time
        return [info for key in self.store.sessions() if (info := views.view(key).info).exists]

    def info(self, key: SessionKey) -> SessionInfo:
        """What is known of one session; ``exists`` is False for an unknown one."""
        return self.store.catalog.view(key).info

    def session_folder(self, key: SessionKey) -> str | None:
        """The documented folder of a session; None in a remote lake, which has none."""
        return self.home.session_folder(key)

    def journal(self, key: SessionKey) -> Journal:
        """Parameters, logs and tracks of a session."""
        return self.home.journal(key)

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
        bucket: bool = False,
        extras: bool = False,
    ) -> Plan:
        """What ``materialize`` would do; changes nothing. ``extras``: also list files that nobody asked for."""
        from dreamlake.operations.materialize import plan, sessions_of

        if bucket:
            from dreamlake.operations import object_files

            if to is not None:
                raise InvalidInput("to and bucket are two targets; give one of them")
            return object_files.plan(self.store, sessions_of(self.store, scope), options, extras=extras)

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
        bucket: bool = False,
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
            to: another root than the lake's own folder; a remote lake has none, so there it must be given.
            bucket: make the objects ``files/<namespace>/<workspace>/<session>/<id>/<filename>`` in the lake's bucket
                instead, copied by the store itself where content is stored as it is.
            path, at, link, force, delete: see ``operations.planned.Options``.
            executor: runs the work elsewhere (any ``concurrent.futures.Executor``); default: ``workers`` threads.

        Raises:
            NotFound: unknown session or workspace.  InvalidInput: a bad option; nothing was changed.
            OSError: the disk is full or cannot be written to; what was placed until then is whole.
        """
        from dreamlake.operations import object_files
        from dreamlake.operations.materialize import Options, Plan, execute

        if isinstance(scope, Plan):
            todo = scope
        else:
            todo = self.plan_materialize(scope, Options(path, at, link, force, delete), to=to, bucket=bucket)
        with meter(todo.bytes, "materialize") as progress:
            if isinstance(todo, object_files.ObjectPlan):
                return object_files.execute(self.store, todo, workers=workers, progress=progress)
            opener = self.home.opener() if self.root is None else None
            return execute(
                self.store, todo, executor=executor, opener=opener, workers=workers, progress=progress
            )  # fmt: skip


def open_lake(
    location: str | os.PathLike[str] | Mapping[str, Any] | RemoteAddress | None = None,
    *,
    create: bool = False,
    namespace: str | None = None,
    max_file_bytes: int | None = None,
    encoding: str | None = None,
    ports: Ports | None = None,
) -> Lake:
    """Open a lake in a folder, or a remote one.

    Args:
        location: a folder; or the URL, mapping or profile of a remote lake (see ``location``); None means what the
            environment and the configuration file say, or ``./experiments``.
        create: make an empty lake when there is none.
        namespace: whose sessions are meant, in a remote lake; default: the configured one, or the user's name.
        max_file_bytes: upload limit in bytes; None means what the configuration says, or 5 GiB.
        encoding: how uploads are stored unless they say; None means ``DREAMLAKE_ENCODING``, the lake's setting (see
            ``Lake.configure``), or "auto".
        ports: the system calls to use (tests).

    Raises:
        NotFound: no lake there and not ``create``.
        InvalidInput: the location is a file, or a setting is no number.
        UnsupportedFormat: a newer format, or not a store.
        Unavailable, AccessDenied: a remote lake that cannot be reached, or not with these credentials.
    """
    place = location_of(location, namespace=namespace)
    ports = ports or Ports()
    limit = config.max_file_bytes(max_file_bytes) or DEFAULT_MAX_FILE_BYTES
    chosen = check_encoding(encoding, os.environ.get("DREAMLAKE_ENCODING") or None)
    if isinstance(place, RemoteAddress):
        return _open_remote(ports, place, create, limit, chosen)
    return _open_folder(ports, place, create, limit, chosen)


def _open_folder(ports: Ports, root: str, create: bool, limit: int, encoding: str | None) -> Lake:
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
    check_names(ports.fs, base, SUBDIRS)
    check_names(ports.fs, f"{base}/blobs")
    store = Store(
        ports=ports,
        catalog=FolderCatalog(ports, base),
        blobs=FolderBlobs(ports, base),
        root=root,
        where=root,
        scratch=f"{base}/cache",
        max_file_bytes=limit,
        encoding=encoding or read_settings(ports, base).get("encoding", DEFAULT_ENCODING),
    )
    return Lake(store, FolderHome(ports, root, store.catalog, open_again), head["store_id"])


def _open_remote(ports: Ports, address: RemoteAddress, create: bool, limit: int, encoding: str | None) -> Lake:
    from dreamlake.catalog.documents import DocumentCatalog
    from dreamlake.remote import attach, cache_folder
    from dreamlake.remote_home import RemoteHome

    attached = attach(ports, address, create=create)
    cache = cache_folder(ports, attached.store_id)
    if attached.objects is None:
        blobs: Blobs = FolderBlobs(ports, str(attached.folder))
    else:
        from dreamlake.blobs.objects import ObjectBlobs

        blobs = ObjectBlobs(ports, attached.docs, attached.objects, cache and f"{cache}/tmp")
    store = Store(
        ports=ports,
        catalog=DocumentCatalog(ports, attached.docs, cache=cache and f"{cache}/views"),
        blobs=blobs,
        bucket=None if attached.objects is None else Bucket(attached.docs, attached.objects),
        where=str(address),
        scratch=cache and f"{cache}/cache",
        max_file_bytes=limit,
        encoding=encoding or attached.settings.get("encoding", DEFAULT_ENCODING),
        namespace=address.namespace,
    )
    return Lake(store, RemoteHome(ports, address, attached, open_again), attached.store_id)


def open_again(address: str | RemoteAddress) -> Store:
    """A store for a task in another process."""
    return open_lake(address).store
