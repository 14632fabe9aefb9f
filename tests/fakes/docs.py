"""``Docs`` in memory: the shortest one that keeps every promise. What it does is compared with real servers by
``conformance/test_documents.py``; the simulation builds its own faults around it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from dreamlake.errors import Conflict, InvalidInput
from dreamlake.services.docs import Change, Doc, Filter, Index, Keys

_MISSING = object()
_KINDS = ((bool,), (int, float), (str,), (bytes,), (list,), (dict,), (type(None),))
_ORDER = (type(None), int, float, str, dict, list, bytes, bool)  # BSON's, as far as these tests go


class MemoryDocs:
    """One database. ``tables`` may be looked at, and damaged, by tests."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Any, Doc]] = {}
        self.indexes: dict[str, dict[str, Index]] = {}
        self._lock = threading.RLock()

    def insert(self, collection: str, docs: Sequence[Doc]) -> list[Any]:
        refused = []
        with self._lock:
            table = self.tables.setdefault(collection, {})
            for doc in docs:
                if doc["_id"] in table or self._taken(collection, doc):
                    refused.append(doc["_id"])
                else:
                    table[doc["_id"]] = copy.deepcopy(doc)
        return refused

    def update(self, collection: str, where: Filter, change: Change, *, upsert: bool = False) -> bool:
        with self._lock:
            found = next(iter(self._matching(collection, where)), None)
            if found is None:
                if not upsert:
                    return False
                known = {k: v for k, v in where.items() if not isinstance(v, dict)}
                found = changed(known, {"$set": change.get("$setOnInsert", {})})
            self._put(collection, changed(found, {k: v for k, v in change.items() if k != "$setOnInsert"}))
            return True

    def update_many(self, collection: str, where: Filter, change: Change) -> int:
        with self._lock:
            found = self._matching(collection, where)
            for doc in found:
                self._put(collection, changed(doc, change))
            return len(found)

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
        with self._lock:
            found = [copy.deepcopy(doc) for doc in self._matching(collection, where)]
        for field, order in reversed(sort or ()):
            found.sort(key=lambda doc: _sort_key(reach(doc, field)), reverse=order < 0)
        for doc in found[:limit] if limit else found:
            yield doc if fields is None else projected(doc, fields)

    def delete(self, collection: str, where: Filter) -> int:
        with self._lock:
            found = self._matching(collection, where)
            for doc in found:
                del self.tables[collection][doc["_id"]]
            return len(found)

    def count(self, collection: str, where: Filter) -> int:
        with self._lock:
            return len(self._matching(collection, where))

    def ensure(self, indexes: Sequence[Index]) -> None:
        with self._lock:
            for index in indexes:
                if self.indexes.setdefault(index.collection, {}).setdefault(index.name, index) != index:
                    raise InvalidInput(f"{index.collection} has an index {index.name} with other options; drop it")

    def missing(self, indexes: Sequence[Index]) -> list[Index]:
        return [index for index in indexes if self.indexes.get(index.collection, {}).get(index.name) != index]

    def close(self) -> None:
        return None

    # ---- inside --------------------------------------------------------------------------------------------------

    def _matching(self, collection: str, where: Filter) -> list[Doc]:
        table = self.tables.get(collection, {})
        if isinstance(where.get("_id"), str):  # as quick as a real index
            table = {key: table[key] for key in [where["_id"]] if key in table}
        return [doc for doc in table.values() if matches(doc, where)]

    def _put(self, collection: str, doc: Doc) -> None:
        if self._taken(collection, doc):
            raise Conflict(f"{collection}: a unique index refuses {doc['_id']!r}")
        self.tables.setdefault(collection, {})[doc["_id"]] = doc

    def _taken(self, collection: str, doc: Doc) -> bool:
        for index in self.indexes.get(collection, {}).values():
            if index.unique and matches(doc, index.where or {}):
                same = {field: reach(doc, field) for field, _ in index.keys}
                same = {field: None if value is _MISSING else value for field, value in same.items()}
                rivals = self._matching(collection, {**(index.where or {}), **same})
                if any(rival["_id"] != doc["_id"] for rival in rivals):
                    return True
        return False


def matches(doc: Doc, where: Filter) -> bool:
    """True if a document fits a filter."""
    return all(_fits(reach(doc, field), wanted) for field, wanted in where.items())


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and wanted and all(name.startswith("$") for name in wanted):
        return all(_compare(value, name, operand) for name, operand in wanted.items())
    return _equal(value, wanted)


def _compare(value: Any, name: str, operand: Any) -> bool:
    if name == "$exists":
        return (value is not _MISSING) == operand
    if name == "$ne":
        return not _equal(value, operand)
    if name == "$in":
        return any(_equal(value, one) for one in operand)
    tests = {"$gt": lambda x: x > operand, "$gte": lambda x: x >= operand}
    tests |= {"$lt": lambda x: x < operand, "$lte": lambda x: x <= operand}
    candidates = value if isinstance(value, list) else [value]
    return any(_kind(one) == _kind(operand) and tests[name](one) for one in candidates)


def _equal(value: Any, wanted: Any) -> bool:
    if wanted is None and value is _MISSING:
        return True
    if isinstance(value, list) and any(_same(one, wanted) for one in value):
        return True
    return _same(value, wanted)


def _same(one: Any, other: Any) -> bool:
    return _kind(one) == _kind(other) and bool(one == other)


def _kind(value: Any) -> int:
    return next((i for i, kinds in enumerate(_KINDS) if isinstance(value, kinds)), -1)


def _sort_key(value: Any) -> tuple[int, Any]:
    if value is _MISSING or value is None:
        return 0, 0
    return _ORDER.index(type(value)) if not isinstance(value, (int, float)) else 1, value


def reach(doc: Any, field: str) -> Any:
    """The value of a dotted field, or a mark that it is not there."""
    for name in field.split("."):
        if not isinstance(doc, dict) or name not in doc:
            return _MISSING
        doc = doc[name]
    return doc


def changed(doc: Doc, change: Change) -> Doc:
    """The document after a change."""
    new = copy.deepcopy(doc)
    for operator, fields in change.items():
        for field, value in fields.items():
            *folders, name = field.split(".")
            home = new
            for folder in folders:
                home = home.setdefault(folder, {})
            if operator == "$set":
                home[name] = copy.deepcopy(value)
            elif operator == "$inc":
                home[name] = home.get(name, 0) + value
            elif operator == "$unset":
                home.pop(name, None)
            else:
                raise NotImplementedError(operator)
    return new


def projected(doc: Doc, fields: Sequence[str]) -> Doc:
    """Only these fields (and ``_id``)."""
    new = {"_id": doc["_id"]}
    for field in fields:
        value = reach(doc, field)
        if value is not _MISSING:
            new = changed(new, {"$set": {field: value}})
    return new
