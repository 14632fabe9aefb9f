"""Connections to a MongoDB server for one process at a time, and causal order over all of its threads.

Concerns are set here and not left to the URL: majority and journalled writes, majority reads from the primary. So is
that the driver repeats no write: whether a repeated one counts once depends on what the server remembers (SecantusDB
0.9 forgets when it is started again), and callers that hear ``OutcomeUnknown`` read back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from dreamlake.errors import InvalidInput, LakeError
from dreamlake.services.mongo_errors import database_of, place, refused

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

_OPTIONS: dict[str, Any] = {  # a URL may say otherwise for each of these
    "appname": "dreamlake",
    "serverSelectionTimeoutMS": 10_000,
    "connectTimeoutMS": 10_000,
    "socketTimeoutMS": 60_000,
    "waitQueueTimeoutMS": 60_000,
    "heartbeatFrequencyMS": 2_000,  # how long a failed-over primary goes unnoticed
    "maxPoolSize": 64,
    "maxIdleTimeMS": 240_000,  # routers forget idle connections after about 350 s
}


class _Client:
    """What one process holds: a client, and the newest times that any of its calls has seen."""

    def __init__(self, client: Any) -> None:
        self.pid = os.getpid()
        self.client = client
        self.lock = threading.Lock()
        self.cluster_time: Any = None
        self.operation_time: Any = None


_opening = threading.Lock()
_left_behind: list[_Client] = []  # of the parent: a forked child must neither use nor close them


def _forked() -> None:
    global _opening
    _opening = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_forked)


class Connections:
    """See ``MongoDocs`` for the arguments, and what is raised."""

    def __init__(self, url: str, database: str | None, connect: Callable[..., Any] | None, sessions: bool) -> None:
        self.url, self.sessions, self._connect = url, sessions, connect
        if not url.startswith(("mongodb://", "mongodb+srv://")):
            raise InvalidInput("a MongoDB URL begins with mongodb:// or mongodb+srv://")
        self.database = database or database_of(url)
        if not self.database:
            raise InvalidInput(f"the MongoDB URL for {place(url)} names no database: add /NAME to it")
        self._state: _Client | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """To the processes of an executor: each opens its own."""
        return Connections, (self.url, self.database, self._connect, self.sessions)

    @contextlib.contextmanager
    def session(self) -> Iterator[tuple[Callable[[str], Any], dict[str, Any]]]:
        """(collection by name, the session's argument) for one call, or for one scan."""
        state = self._open()
        if not self.sessions:
            yield state.client[self.database].__getitem__, {}
            return
        with state.client.start_session(causal_consistency=True) as session:
            with state.lock:
                if state.cluster_time is not None:
                    session.advance_cluster_time(state.cluster_time)
                if state.operation_time is not None:
                    session.advance_operation_time(state.operation_time)
            try:
                yield self._concerned(state.client).__getitem__, {"session": session}
            finally:
                _learn(state, session)

    def learn(self, session: ClientSession) -> None:
        """Every call from now on sees what this session has seen."""
        _learn(self._open(), session)

    def close(self) -> None:
        state, self._state = self._state, None
        if state is not None:
            _close(state)

    def _concerned(self, client: Any) -> Any:
        from pymongo import ReadPreference, WriteConcern
        from pymongo.read_concern import ReadConcern

        return client.get_database(
            self.database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True, wtimeout=_OPTIONS["socketTimeoutMS"] - 5_000),
        )

    def _open(self) -> _Client:
        state = self._state
        if state is not None and state.pid == os.getpid():
            return state
        with _opening:
            state = self._state
            if state is None or state.pid != os.getpid():
                fresh = _Client(self._new_client())
                if state is not None:  # of the parent: not ours to close, but what it has seen, we have seen
                    _left_behind.append(state)
                    fresh.cluster_time, fresh.operation_time = state.cluster_time, state.operation_time
                state = self._state = fresh
                weakref.finalize(self, _close, fresh)  # whoever forgets to close a lake is not told so by pymongo
        return state

    def _new_client(self) -> Any:
        try:
            import pymongo
        except ImportError:
            raise LakeError("remote mode needs pymongo: pip install 'dreamlake[remote]'") from None
        said = {name.lower() for name, _ in parse_qsl(self.url.partition("?")[2])}
        options = {name: value for name, value in _OPTIONS.items() if name.lower() not in said}
        try:
            # Never repeated by the driver: a server may have forgotten the first one, and say that nothing matched.
            return (self._connect or pymongo.MongoClient)(self.url, retryWrites=False, connect=False, **options)
        except Exception as error:
            raise refused(error, self.url) from None  # the error itself may quote the password


def _close(state: _Client) -> None:
    if state.pid == os.getpid():
        state.client.close()
    else:
        _left_behind.append(state)


def _learn(state: _Client, session: ClientSession) -> None:
    with state.lock:
        time_: Any = session.operation_time
        cluster: Any = session.cluster_time
        if time_ is not None and (state.operation_time is None or time_ > state.operation_time):
            state.operation_time = time_
        if cluster is not None and (
            state.cluster_time is None or cluster["clusterTime"] > state.cluster_time["clusterTime"]
        ):
            state.cluster_time = cluster
