"""``Session``: one run's files, parameters, logs and tracks in one place.

Owns: opening and closing, resuming, write protection, and ``session.json``. The truth about a session is its log in
the store; ``session.json`` is a view of it for people and other tools, written anew when it is missing or differs.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from dreamlake import config, values
from dreamlake.errors import InvalidInput, InvalidType, LakeError, StateError, Unavailable, UploadsFailed
from dreamlake.files import Files, _metadata
from dreamlake.journal import RUNS, Journal
from dreamlake.lake import Lake, open_lake
from dreamlake.legacy import FileOperation
from dreamlake.location import RemoteAddress, locate
from dreamlake.logs import Logs
from dreamlake.model import check_description, check_tags, folder_path, session_document, session_key
from dreamlake.operations.commit import commit
from dreamlake.operations.context import check_encoding
from dreamlake.parameters import Parameters
from dreamlake.ports import iso
from dreamlake.tracks import Track, Tracks

if TYPE_CHECKING:
    from dreamlake.lineage import Input

__all__ = ["Session", "dreamlake_session"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Session:
    """A named session in a workspace.

    Args:
        name, workspace: one path segment each, any printable Unicode.
        description, tags, folder, metadata: about the session; kept from earlier runs unless given anew.
        write_protected: True protects it for good: every later write raises ``RuntimeError``.
        local_path: root folder of the lake. Default: ``DREAMLAKE_LOCAL_PATH``, the configuration file's
            ``local_path``, or ``./experiments``.
        remote: a remote lake instead: a URL, a mapping, or the name of a profile (see ``location``). Default:
            ``DREAMLAKE_REMOTE`` or the configuration file's ``remote``, where no local path is configured.
        namespace: whose session it is, in a remote lake. Default: the address's, ``DREAMLAKE_NAMESPACE``, the
            configuration file's, or the user's name.
        max_file_bytes: upload limit (default 5 GiB).
        capture: record with the first write what the run was made with: command line, git commit, Python, packages
            (see ``runs``). Default: ``DREAMLAKE_CAPTURE``, the configuration file's ``capture``, or True.
        encoding: how uploads are stored unless they say: "auto" (checkpoints as parts and differences), "coded" (every
            large file), "raw" (nothing). Default: the lake's setting.
        on_unreachable: what happens when the remote lake cannot be reached: "error" raises ``ConnectionError``, "spool"
            warns, and keeps what the session gets from then on in a folder on this machine; the next ``open`` of the
            session that reaches its lake delivers it, or ``dreamlake push`` does (the warning says how).
        spool: the folder for that. Default: ``DREAMLAKE_SPOOL``, or in the user's folder for data.

    Raises:
        ValueError, TypeError: a bad name or value; nothing is created before ``open``.

    Example::

        with Session("resnet-run-1", "vision") as session:
            session.parameters().set(lr=0.001)
            session.files().upload("model.pth", path="/models", tags=["best"])
    """

    def __init__(
        self,
        name: str,
        workspace: str,
        *,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        folder: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        write_protected: bool = False,
        local_path: str | os.PathLike[str] | None = None,
        remote: Any = None,
        namespace: str | None = None,
        max_file_bytes: int | None = None,
        encoding: str | None = None,
        capture: bool | None = None,
        on_unreachable: str = "error",
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        if on_unreachable not in ("error", "spool"):
            raise InvalidInput(f"on_unreachable={on_unreachable!r}; use 'error' or 'spool'")
        self._on_unreachable, self._spool = on_unreachable, spool
        session_key(workspace, name)  # a bad name is told before a bad place
        self._place = locate(local_path, remote, namespace)
        self._key = session_key(
            workspace, name, self._place.namespace if isinstance(self._place, RemoteAddress) else ""
        )
        self._given: dict[str, Any] = {}
        if description is not None:
            self._given["description"] = check_description(description)
        if tags is not None:
            self._given["tags"] = check_tags(tags)
        if folder is not None:
            self._given["folder"] = folder_path(folder)
        if metadata is not None:
            self._given["metadata"] = _metadata(metadata)
        if not isinstance(write_protected, bool):
            raise InvalidType(f"write_protected must be True or False, not {write_protected!r}")
        if write_protected:
            self._given["write_protected"] = True
        self._limit = config.max_file_bytes(max_file_bytes)
        self._encoding = check_encoding(encoding, None)
        self._captures = config.capture(capture)
        self._lock = threading.RLock()
        self._lake: Lake | None = None
        self._journal: Journal | None = None
        self._parts: dict[str, Any] = {}
        self._left: list[tuple[Files, Lake]] = []  # what was worked on before the spool
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Session({self._key.name!r}, {self._key.workspace!r}, {'open' if self.is_open else 'closed'})"

    def _repr_html_(self) -> str:
        from dreamlake.showing import session_html

        return session_html(self)

    # ---- life ----------------------------------------------------------------------------------------------------

    def open(self) -> Session:
        """Create the session, or resume it; may be repeated. Returns self."""
        with self._mutex():
            if self._lake is not None:
                return self
            try:
                lake = self._opened(self._place)
            except Unavailable as error:
                if self._on_unreachable != "spool" or not isinstance(self._place, RemoteAddress):
                    raise
                lake = self._spooled(self._place, error)
            self._attach(lake)
        return self

    def _attach(self, lake: Lake) -> None:
        """Work on a lake from now on."""
        journal, store, ports = lake.journal(self._key), lake.store, lake.store.ports
        if self._captures:
            from dreamlake.capture import watched

            journal, store = watched(journal, store)
        self._parts = {
            "files": Files(store, self._key, self._guard),
            "parameters": Parameters(journal, self._guard, ports),
            "logs": Logs(journal, self._guard, ports),
            "tracks": Tracks(journal, self._guard, ports),
        }
        self._lake, self._journal = lake, journal

    def _opened(self, place: str | RemoteAddress) -> Lake:
        """The lake with the session in it; what waits in the spool for it is delivered first."""
        key = self._key = self._key._replace(namespace=place.namespace if isinstance(place, RemoteAddress) else "")
        lake = open_lake(place, create=True, max_file_bytes=self._limit, encoding=self._encoding)
        try:
            if self._on_unreachable == "spool" and isinstance(place, RemoteAddress):
                from dreamlake.spool import deliver

                delivered = deliver(lake, place, self._spool, key)
                for failed in delivered.failed if delivered is not None else ():
                    if failed.error is not None:
                        raise failed.error
            self._announce(lake)
        except BaseException:
            lake.close()
            raise
        return lake

    def _spooled(self, address: RemoteAddress, error: Unavailable) -> Lake:
        """The session in the spool of its remote lake, with a warning."""
        import warnings

        from dreamlake.spool import SpoolWarning, Waiting, open_spool

        lake = open_spool(address, self._spool, max_file_bytes=self._limit, encoding=self._encoding)
        self._key = self._key._replace(namespace="")
        self._announce(lake)
        how = Waiting(str(lake.root), str(address), address.namespace, [str(self._key)]).command
        text = f"{error}. Session {self._key} is kept in {lake.root}; deliver it with: {how}"
        warnings.warn(text, SpoolWarning, stacklevel=4)
        return lake

    def _give_up(self, error: Unavailable) -> None:
        """Go on in the spool, because the remote lake cannot be reached any more."""
        with self._mutex():
            lake = self._need_open()
            if not isinstance(self._place, RemoteAddress) or lake.root is not None:
                return  # another thread was quicker
            left = (self._parts["files"], lake)
            self._attach(self._spooled(self._place, error))
            self._left.append(left)

    def _announce(self, lake: Lake) -> None:
        """Commit what is new about the session; an unchanged resumed one costs no record, and no right to write."""
        info = lake.info(self._key)
        changed = {name: value for name, value in self._given.items() if _differs(getattr(info, name), value)}
        if info.exists and info.write_protected and changed:
            raise StateError(f"session {self._key} is write-protected; its {', '.join(changed)} cannot be changed")
        undo = lake.home.prepare(self._key, new=not info.exists)
        if not info.exists or changed:
            try:
                commit(lake.store, self._key, [{"op": "session", "at": iso(lake.store.ports.now()), **changed}])
            except BaseException:
                undo()
                raise
        try:
            lake.home.show(lake.info(self._key))
        except OSError:  # a view only: who may not write, or has no space left, can still read
            if not info.exists:
                raise

    def close(self) -> None:
        """Make everything durable and end; may be repeated. The session can be opened again.

        Waits for uploads in the background; ``UploadsFailed`` has all their errors that nobody was told of.
        """
        with self._mutex():
            lake = self._lake
            if lake is None:
                return
            try:
                try:
                    for files, _ in self._left:  # what was still under way when the lake became unreachable
                        files.flush()
                    self._parts["files"].flush()
                finally:
                    try:
                        self._parts["tracks"].close()
                    finally:
                        if self._journal is not None:
                            self._journal.close()
                with contextlib.suppress(OSError, LakeError):  # a view only; the next open writes it again
                    lake.home.show(lake.info(self._key))
            finally:
                self._lake = self._journal = None
                self._parts = {}
                lake.close()
                while self._left:
                    self._left.pop()[1].close()

    def __enter__(self) -> Session:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except UploadsFailed as failed:  # the body's own exception is what matters, but this must not be lost
            import logging

            logging.getLogger("dreamlake").error("session %s: %s", self._key, failed)
        except Exception:
            pass

    # ---- what it holds -------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        """The files; ``session.files()`` is the same."""
        files: Files = self._part("files")
        return files

    def parameters(self) -> Parameters:
        """The parameters."""
        parameters: Parameters = self._part("parameters")
        return parameters

    def params(self, mapping: Mapping[str, Any] | None = None, /, **more: Any) -> Parameters:
        """The older spelling of ``parameters().set(...)``."""
        return self.parameters().set(mapping, **more)

    def log(
        self, message: str | None = None, level: str = "info", metadata: Mapping[str, Any] | None = None, **extra: Any
    ) -> Any:
        """Write a log line; without a message, a builder: ``session.log(metadata=...).error("...")``."""
        return self._part("logs").log(message, level, metadata, **extra)

    def logs(self, **filters: Any) -> list[dict[str, Any]]:
        """The log lines in the order they were written; see ``Logs.read`` for the filters (level, since, last, ...)."""
        entries: list[dict[str, Any]] = self._part("logs").read(**filters)
        return entries

    def track(
        self,
        name: str,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Track:
        """A track of data points over time, e.g. ``"train/loss"``."""
        made = self._part("tracks").track(name, description, tags, metadata)
        track: Track = self._enduring(lambda: self._parts["tracks"].track(name, description, tags, metadata), made)
        return track

    def tracks(self) -> Tracks:
        """All tracks."""
        tracks: Tracks = self._part("tracks")
        return tracks

    def file(self, **options: Any) -> FileOperation:
        """The older spelling: ``session.file(file_path="m.pth", prefix="/models").save()`` and the like."""
        return FileOperation(self._part("files"), **options)

    def flush(self) -> None:
        """Wait until all uploads in the background (``upload(..., wait=False)``) are stored.

        Raises ``UploadsFailed`` with every error that nobody was told of by the futures.
        """
        self.files.flush()

    # ---- where it comes from -------------------------------------------------------------------------------------

    def use(self, reference: str | Mapping[str, Any]) -> Input:
        """Record a file of this lake as an input of this session, as the exact version that it is now; durable.

        Args:
            reference: ``"workspace/session/path@best"`` (``@v3``; without one, the newest), the same after
                ``dreamlake://``, a path of this session (``"/data/train.npz"``), or a record.

        Returns:
            The version, to be read or downloaded. Retention keeps it, as it keeps what has an alias.

        Raises:
            ValueError: no such session, file or version (``NotFound``), or not an address.
            RuntimeError: the session is not open, or is write-protected.
        """
        from dreamlake.lineage import Input
        from dreamlake.operations import lineage

        self._guard(True)
        store = self.files._store
        return Input(store, *lineage.use(store, self._key, reference), self._guard)

    def inputs(self) -> list[dict[str, Any]]:
        """What this session used: ``session``, ``path``, ``version``, ``checksum``, ``reference``, ``at``, ..."""
        from dreamlake.operations import lineage

        return lineage.inputs(self._need_open().info(self._key))

    def runs(self) -> list[dict[str, Any]]:
        """What was captured of every run that wrote to this session, the oldest first; see ``Session(capture=...)``."""
        self._need_open()
        assert self._journal is not None
        return self._journal.read(RUNS, 0, self._journal.extent(RUNS).total)

    # ---- what it is ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def workspace(self) -> str:
        return self._key.workspace

    @property
    def id(self) -> str:
        """``workspace/name``."""
        return str(self._key)

    @property
    def local_path(self) -> str | None:
        """The lake's root folder; None for a remote lake."""
        return None if isinstance(self._place, RemoteAddress) else self._place

    @property
    def namespace(self) -> str:
        """Whose session it is, in a remote lake; "" in a folder."""
        return self._key.namespace

    @property
    def is_open(self) -> bool:
        return self._lake is not None

    @property
    def info(self) -> dict[str, Any]:
        """What ``session.json`` holds, as of now."""
        return session_document(self._need_open().info(self._key))

    @property
    def description(self) -> str | None:
        return self._need_open().info(self._key).description

    @property
    def tags(self) -> list[str]:
        return list(self._need_open().info(self._key).tags)

    @property
    def folder(self) -> str | None:
        return self._need_open().info(self._key).folder

    @property
    def metadata(self) -> dict[str, Any]:
        return copy.deepcopy(self._need_open().info(self._key).metadata or {})

    @property
    def write_protected(self) -> bool:
        return self._need_open().info(self._key).write_protected

    # ---- inside --------------------------------------------------------------------------------------------------

    def _mutex(self) -> threading.RLock:
        if self._pid != os.getpid():  # forked: a thread that stayed in the parent may hold the old one for ever
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock

    def _part(self, name: str) -> Any:
        part = self._parts.get(name)
        if part is None:
            self._need_open()  # which raises
        return self._enduring(lambda: self._parts[name], part)

    def _enduring(self, find: Callable[[], Any], part: Any) -> Any:
        """The part; or what goes on in the spool, where that was asked for."""
        if self._on_unreachable != "spool" or self._lake is None or self._lake.root is not None:
            return part
        from dreamlake.enduring import Enduring

        return Enduring(find, self._give_up)

    def _need_open(self) -> Lake:
        lake = self._lake
        if lake is None:
            raise StateError(f"session {self._key} is not open; use it in a `with` block, or call open() first")
        return lake

    def _guard(self, write: bool) -> None:
        lake = self._need_open()
        if not write:
            return
        catalog = lake.store.catalog
        if catalog.view(self._key, fresh=False).info.write_protected and lake.info(self._key).write_protected:
            raise StateError(f"session {self._key} is write-protected")


def _differs(have: Any, given: Any) -> bool:
    """As stored: a tuple is a list, nothing is an empty mapping, and NaN is itself."""
    if isinstance(given, dict):
        return values.encode(have or {}) != values.encode(given)
    return bool((list(have) if isinstance(given, list) else have) != given)


def dreamlake_session(*args: Any, **options: Any) -> Callable[[_F], _F]:
    """Run a function inside a session, passed to it as ``session=``. Takes what ``Session`` takes.

    A coroutine function or a generator has its session open until it ends.

    Example::

        @dreamlake_session(name="run-1", workspace="vision")
        def train(session): ...
    """
    inspect.signature(Session).bind(*args, **options)  # a wrong keyword fails where it was written

    def decorate(function: _F) -> _F:
        made: Any
        if inspect.iscoroutinefunction(function):

            async def made(*a: Any, **k: Any) -> Any:
                with Session(*args, **options) as session:
                    return await function(*a, session=session, **k)

        elif inspect.isasyncgenfunction(function):

            async def made(*a: Any, **k: Any) -> Any:
                with Session(*args, **options) as session:
                    async for item in function(*a, session=session, **k):
                        yield item

        elif inspect.isgeneratorfunction(function):

            def made(*a: Any, **k: Any) -> Any:
                with Session(*args, **options) as session:
                    return (yield from function(*a, session=session, **k))

        else:

            def made(*a: Any, **k: Any) -> Any:
                with Session(*args, **options) as session:
                    return function(*a, session=session, **k)

        return functools.wraps(function)(made)  # type: ignore[return-value]

    return decorate
