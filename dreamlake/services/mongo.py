"""``Docs`` on a MongoDB server (or one that speaks its wire protocol), through pymongo.

Owns what may be repeated after a failure and what may not. How writes and reads are safe, and in causal order over all
threads, is the business of ``mongo_connections``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from dreamlake.errors import Conflict, LakeError
from dreamlake.services.docs import MAX_BATCH, Change, Doc, Filter, Index, Keys
from dreamlake.services.mongo_connections import Connections
from dreamlake.services.mongo_errors import is_transient, place, translate

T = TypeVar("T")

ATTEMPTS, PATIENCE_S = 6, 60.0  # of what is safe to repeat
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 3.0  # between them: doubled each time, and shortened at random
RESUMABLE = 200_000  # documents, after which a scan in another order than that of ids cannot go on after a failure
_BATCH_BYTES = 8 << 20  # of documents in one insert
_DUPLICATE = 11000


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
        self._connections = Connections(url, database, connect, sessions)
        self._url, self._sleep = url, sleep
        self.database = self._connections.database

    def __repr__(self) -> str:
        return f"MongoDocs({place(self._url)!r}, database={self.database!r})"

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

        doing = f"update of {collection}"
        try:
            return self._call(doing, collection, run, changing=True)
        except Conflict:
            if not upsert:
                raise
        # somebody else inserted it meanwhile, and nothing was changed: once more
        return self._call(doing, collection, run, changing=True)

    def update_many(self, collection: str, where: Filter, change: Change) -> int:
        def run(coll: Any, session: dict[str, Any]) -> int:
            return int(coll.update_many(where, change, **session).matched_count)

        return self._call(f"update of {collection}", collection, run, changing=True)

    def delete(self, collection: str, where: Filter) -> int:
        def run(coll: Any, session: dict[str, Any]) -> int:
            return int(coll.delete_many(where, **session).deleted_count)

        return self._call(f"removal from {collection}", collection, run)

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
        options: dict[str, Any] = {"sort": list(sort) if sort else None}
        options["projection"] = None if fields is None else [*fields, "_id"]
        if hint and self._connections.sessions:
            options["hint"] = list(hint)
        seen: set[Any] = set()  # what need not come again after a failure; in the order of ids, the last one says it
        last, count, ordered = None, 0, tuple(sort or ()) == (("_id", 1),)
        patience = _Patience(self._sleep)
        while True:
            left = where if last is None else {"$and": [where, {"_id": {"$gt": last}}]}
            rest = limit - count + len(seen) if limit else 0
            try:
                for doc in self._scan(collection, left, {**options, "limit": rest}):
                    if doc["_id"] in seen:
                        continue
                    if ordered:
                        last = doc["_id"]
                    elif len(seen) <= RESUMABLE:
                        seen.add(doc["_id"])
                    count += 1
                    patience.restored()
                    yield doc
                    if count == limit:
                        return
                return
            except LakeError:
                raise
            except Exception as error:
                if len(seen) > RESUMABLE or not patience.waits_for(error):
                    raise translate(error, self._url, f"query of {collection}", changing=False) from error

    def _scan(self, collection: str, where: Filter, options: dict[str, Any]) -> Iterator[Doc]:
        with self._connections.session() as (coll, session):
            known = None
            for doc in coll(collection).find(where, **options, **session):
                if session and session["session"].operation_time is not known:  # one more page has come
                    known = session["session"].operation_time
                    self._connections.learn(session["session"])
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
        self._connections.close()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _call(
        self, doing: str, collection: str, run: Callable[[Any, dict[str, Any]], T], *, changing: bool = False
    ) -> T:
        """Run one call in causal order; repeat it after a passing failure unless it changes something."""
        patience = _Patience(self._sleep)
        while True:
            try:
                with self._connections.session() as (coll, session):
                    return run(coll(collection), session)
            except LakeError:
                raise
            except Exception as error:
                if changing or not patience.waits_for(error):
                    raise translate(error, self._url, doing, changing=changing) from error


class _Patience:
    """How often, and for how long, something is tried again; begins anew with every success."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep
        self._failures, self._since = 0, 0.0

    def restored(self) -> None:
        self._failures = 0

    def waits_for(self, error: Exception) -> bool:
        """True when it may be tried again, after a pause; False to give up."""
        now = time.monotonic()
        if self._failures == 0:
            self._since = now
        self._failures += 1
        if self._failures >= ATTEMPTS or now > self._since + PATIENCE_S or not is_transient(error):
            return False
        self._sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (self._failures - 1)) * random.uniform(0.5, 1.0))
        return True


def _insert(batch: Sequence[Doc]) -> Callable[[Any, dict[str, Any]], list[Any]]:
    def run(coll: Any, session: dict[str, Any]) -> list[Any]:
        from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError

        try:
            coll.insert_many(batch, ordered=False, **session)
        except BulkWriteError as error:
            details: Any = error.details or {}
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
