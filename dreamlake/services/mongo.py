"""``Docs`` on a MongoDB server (or one that speaks its wire protocol), through pymongo.

Concerns are set here and not left to the URL: majority and journalled writes, majority reads from the primary, and
causal order over all threads of one object: every call runs in a session that has been told the newest time any earlier
call has seen.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from dreamlake.errors import Conflict, InvalidInput, LakeError
from dreamlake.services.docs import MAX_BATCH, Change, Doc, Filter, Index, Keys
from dreamlake.services.mongo_errors import is_transient, place, translate

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection

T = TypeVar("T")

ATTEMPTS = 6  # of what is safe to repeat
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 3.0  # between them: doubled each time, and shortened at random
RESUMABLE = 200_000  # documents of one scan whose ids are kept, to go on after a lost cursor
_BATCH_BYTES = 8 << 20  # of documents in one insert
_DUPLICATE = 11000

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


class MongoDocs:
    """One database of a server.

    Args:
        url: ``mongodb://`` or ``mongodb+srv://``, with the name of the database as its path.
        database: its name, if the URL has none.
        connect: makes the client (tests); gets the URL and the options.
        sessions: False for a client without sessions (mongomock): then there is no causal order over threads.

    Raises:
        InvalidInput: a URL that cannot be used, or that names no database.
        LakeError: pymongo is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        database: str | None = None,
        connect: Callable[..., Any] | None = None,
        sessions: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._connect, self._sessions, self._sleep = url, connect, sessions, sleep
        if not url.startswith(("mongodb://", "mongodb+srv://")):
            raise InvalidInput("a MongoDB URL begins with mongodb:// or mongodb+srv://")
        self.database = database or place(url).partition("://")[2].partition("/")[2]
        if not self.database:
            raise InvalidInput(f"the MongoDB URL for {place(url)} names no database: add /NAME to it")
        self._state: _Client | None = None

    def __repr__(self) -> str:
        return f"MongoDocs({place(self._url)!r}, database={self.database!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """To the processes of an executor: each opens its own connections."""
        return _again, (self._url, self.database, self._connect, self._sessions)

    # ---- changing ------------------------------------------------------------------------------------------------

    def insert(self, collection: str, docs: Sequence[Doc]) -> list[Any]:
        refused: list[Any] = []
        for batch in _batches(docs):
            refused += self._call(f"insert into {collection}", collection, _insert(batch), changing=True)
        return refused

    def update(self, collection: str, where: Filter, change: Change, *, upsert: bool = False) -> bool:
        def run(coll: Any, session: dict[str, Any]) -> bool:
            done = coll.update_one(where, change, upsert=upsert, **session)
            return done.matched_count > 0 or done.upserted_id is not None

        return self._change(f"update of {collection}", collection, run, upsert)

    def update_many(self, collection: str, where: Filter, change: Change) -> int:
        def run(coll: Any, session: dict[str, Any]) -> int:
            return int(coll.update_many(where, change, **session).matched_count)

        return self._call(f"update of {collection}", collection, run, changing=True)

    def fetch_update(self, collection: str, where: Filter, change: Change, *, upsert: bool = False) -> Doc | None:
        def run(coll: Any, session: dict[str, Any]) -> Doc | None:
            found: Doc | None = coll.find_one_and_update(where, change, upsert=upsert, return_document=True, **session)
            return found

        return self._change(f"update of {collection}", collection, run, upsert)

    def delete(self, collection: str, where: Filter) -> int:
        def run(coll: Any, session: dict[str, Any]) -> int:
            return int(coll.delete_many(where, **session).deleted_count)

        return self._call(f"removal from {collection}", collection, run)

    def _change(self, doing: str, collection: str, run: Callable[..., T], upsert: bool) -> T:
        """An upsert that is refused because somebody else inserted meanwhile has changed nothing: once more."""
        try:
            return self._call(doing, collection, run, changing=True)
        except Conflict:
            if not upsert:
                raise
        return self._call(doing, collection, run, changing=True)

    # ---- reading -------------------------------------------------------------------------------------------------

    def find(
        self,
        collection: str,
        where: Filter,
        *,
        sort: Keys | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        hint: Keys | None = None,
    ) -> Iterator[Doc]:
        options: dict[str, Any] = {"sort": list(sort) if sort else None, "limit": limit or 0}
        options["projection"] = list(fields) if fields is not None else None
        if fields is not None and not list(fields):
            options["projection"] = ["_id"]
        if hint and self._sessions:
            options["hint"] = list(hint)
        seen: set[Any] = set()
        for attempt in itertools.count(1):
            try:
                for doc in self._scan(collection, where, options):
                    if attempt > 1 and doc["_id"] in seen:
                        continue
                    if len(seen) <= RESUMABLE:
                        seen.add(doc["_id"])
                    yield doc
                    if limit and len(seen) >= limit:
                        return
                return
            except Exception as error:
                if attempt >= ATTEMPTS or len(seen) > RESUMABLE or not is_transient(error):
                    raise self._told(error, f"query of {collection}", changing=False) from error
            self._wait(attempt)

    def _scan(self, collection: str, where: Filter, options: dict[str, Any]) -> Iterator[Doc]:
        with self._session() as (coll, session), coll(collection).find(where, **options, **session) as cursor:
            known = None
            for doc in cursor:
                if session and session["session"].operation_time is not known:  # one more page has come
                    known = session["session"].operation_time
                    _learn(self._open(), session["session"])
                yield doc

    def count(self, collection: str, where: Filter) -> int:
        def run(coll: Any, session: dict[str, Any]) -> int:
            return int(coll.count_documents(where, **session))

        return self._call(f"count of {collection}", collection, run)

    # ---- indexes -------------------------------------------------------------------------------------------------

    def ensure(self, indexes: Sequence[Index]) -> None:
        for index in self.missing(indexes):
            options: dict[str, Any] = {"name": index.name, "unique": index.unique}
            if index.where is not None:
                options["partialFilterExpression"] = index.where

            def run(coll: Any, session: dict[str, Any], index: Index = index, options: Any = options) -> None:
                coll.create_index(list(index.keys), **options, **session)

            self._call(f"creation of index {index.name} of {index.collection}", index.collection, run)

    def missing(self, indexes: Sequence[Index]) -> list[Index]:
        def run(coll: Any, session: dict[str, Any]) -> dict[str, Any]:
            return dict(coll.index_information(**session))

        lists: dict[str, dict[str, Any]] = {}
        for collection in dict.fromkeys(index.collection for index in indexes):
            lists[collection] = self._call(f"list of the indexes of {collection}", collection, run)
        return [index for index in indexes if not _serves(lists[index.collection].get(index.name), index)]

    def close(self) -> None:
        state, self._state = self._state, None
        if state is not None and state.pid == os.getpid():
            state.client.close()
        elif state is not None:
            _left_behind.append(state)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _call(
        self, doing: str, collection: str, run: Callable[[Any, dict[str, Any]], T], *, changing: bool = False
    ) -> T:
        """Run one call in causal order; repeat it after a passing failure unless it changes something."""
        for attempt in itertools.count(1):
            try:
                with self._session() as (coll, session):
                    return run(coll(collection), session)
            except Exception as error:
                if changing or attempt >= ATTEMPTS or not is_transient(error):
                    raise self._told(error, doing, changing=changing) from error
            self._wait(attempt)
        raise AssertionError("unreachable")

    def _told(self, error: Exception, doing: str, *, changing: bool) -> LakeError:
        return error if isinstance(error, LakeError) else translate(error, self._url, doing, changing=changing)

    def _wait(self, attempt: int) -> None:
        self._sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))

    @contextlib.contextmanager
    def _session(self) -> Iterator[tuple[Callable[[str], Collection[Doc]], dict[str, Any]]]:
        """(collection by name, the session's argument) for one call, or for one scan."""
        state = self._open()
        if not self._sessions:
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
            if state is not None and state.pid != os.getpid():
                _left_behind.append(state)  # not ours to close
                state = None
            if state is None:
                state = self._state = _Client(self._new_client())
        return state

    def _new_client(self) -> Any:
        try:
            import pymongo
        except ImportError:
            raise LakeError("remote mode needs pymongo: pip install 'dreamlake[remote]'") from None
        said = {name.lower() for name, _ in parse_qsl(self._url.partition("?")[2])}
        options = {name: value for name, value in _OPTIONS.items() if name.lower() not in said}
        try:
            return (self._connect or pymongo.MongoClient)(self._url, retryWrites=True, connect=False, **options)
        except Exception as error:
            raise self._told(error, "opening", changing=False) from None  # a URL's error may quote its password


def _again(url: str, database: str, connect: Any, sessions: bool) -> MongoDocs:
    return MongoDocs(url, database=database, connect=connect, sessions=sessions)


def _insert(batch: Sequence[Doc]) -> Callable[[Any, dict[str, Any]], list[Any]]:
    def run(coll: Any, session: dict[str, Any]) -> list[Any]:
        from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError

        try:
            coll.insert_many(batch, ordered=False, **session)
        except BulkWriteError as error:
            details: dict[str, Any] = error.details or {}
            for bad in details.get("writeErrors", ()):
                if bad.get("code") != _DUPLICATE:
                    raise OperationFailure(bad.get("errmsg", ""), bad.get("code"), bad) from error
            if details.get("writeConcernErrors"):
                raise WriteConcernError(str(details["writeConcernErrors"][0].get("errmsg"))) from error
            return [batch[bad["index"]]["_id"] for bad in details.get("writeErrors", ())]
        return []

    return run


def _batches(docs: Sequence[Doc]) -> Iterator[list[Doc]]:
    """Few enough, and small enough, to go in one message each. Text counts as one byte a character: a message may be
    three times as large as a batch, and holds 48 MB."""
    batch: list[Doc] = []
    size = 0
    for doc in docs:
        weight = sum(len(value) for value in doc.values() if isinstance(value, (str, bytes, list)))
        if batch and (len(batch) >= MAX_BATCH or size + weight > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(doc)
        size += weight
    if batch:
        yield batch


def _serves(found: dict[str, Any] | None, index: Index) -> bool:
    """True if an index that is there does what ours must do: one of the same name may be without its promise."""
    if found is None:
        return False
    keys = tuple((field, int(order)) for field, order in found["key"])
    return (
        keys == tuple(index.keys)
        and bool(found.get("unique", False)) == index.unique
        and (found.get("partialFilterExpression") or None) == index.where
    )


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
