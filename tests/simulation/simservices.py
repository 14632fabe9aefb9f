"""A database and an object store as they may behave at worst, for the scheduler: ``Docs`` and ``Objects``.

* Every change of one document and every request to the store is a call that hands control back before it: another
  process may come first. A change of many documents is one such call a document.
* A scan is one a document, too. It walks its index as it is at that moment: a document whose key moves may be missed.
* A call may be killed, refused, or lose its reply. It may also arrive late: the caller has given up, or died, and a
  *ghost* makes it happen when the scheduler likes, perhaps never before the end.

What the calls mean is ``fakes.docs`` and ``fakes.objects``, which pass the suites that the real clients pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeVar

from fakes.docs import MemoryDocs, changed, matches, projected, reach
from fakes.objects import MemoryObjects

from dreamlake.services.docs import Change, Doc, Filter, Keys
from dreamlake.services.objects import ObjectInfo, Part, Upload
from simulation.scheduler import Late

AT_ONCE = frozenset({"_id", "key", "sid", "n"})  # few documents match: they come in one page, unless ``fine``
T = TypeVar("T")
Hook = Callable[[str, str, str], "Callable[[], None] | None"]


class Caller:
    """Announces calls to a hook, which may switch, raise, or return what must happen after the effect."""

    hook: Hook

    def call(self, name: str, path: str, effect: Callable[[], T]) -> T:
        try:
            after = self.hook(name, path, "")
        except Late as late:
            late.send(effect)
            raise late.error from None
        result = effect()
        if after is not None:
            after()
        return result


def no_hook(call: str, path: str, other: str) -> None:
    return None


class SimDocs(MemoryDocs, Caller):
    """``Docs``. Paths of calls: ``docs/<collection>/<id>``."""

    def __init__(self) -> None:
        super().__init__()
        self.hook: Hook = no_hook
        self.version = 0  # counts changes
        self.fine = False

    def copy(self) -> SimDocs:
        other = SimDocs()
        other.tables, other.indexes = copy.deepcopy(self.tables), copy.deepcopy(self.indexes)
        return other

    def insert(self, collection: str, docs: Sequence[Doc]) -> list[Any]:
        refused = []
        for doc in docs:
            refused += self._each("insert", collection, doc["_id"], lambda one=doc: self._insert(collection, one))
        return refused

    def _insert(self, collection: str, doc: Doc) -> list[Any]:
        self.version += 1
        return MemoryDocs.insert(self, collection, [doc])

    def update(self, collection: str, where: Filter, change: Change, *, upsert: bool = False) -> bool:
        def effect() -> bool:
            self.version += 1
            return MemoryDocs.update(self, collection, where, change, upsert=upsert)

        return self._each("update", collection, where["_id"], effect)

    def update_many(self, collection: str, where: Filter, change: Change) -> int:
        def effect(key: Any) -> int:
            doc = self.tables[collection].get(key)
            if doc is None or not matches(doc, where):
                return 0
            self.version += 1
            self._put(collection, changed(doc, change))
            return 1

        found = self._ids(collection, where)
        return sum(self._each("update", collection, key, lambda k=key: effect(k)) for key in found)

    def delete(self, collection: str, where: Filter) -> int:
        def effect(key: Any) -> int:
            doc = self.tables[collection].get(key)
            if doc is None or not matches(doc, where):
                return 0
            self.version += 1
            del self.tables[collection][key]
            return 1

        found = self._ids(collection, where)
        return sum(self._each("delete", collection, key, lambda k=key: effect(k)) for key in found)

    def count(self, collection: str, where: Filter) -> int:
        return self.call(*_reading(collection, where), lambda: MemoryDocs.count(self, collection, where))

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
        if (not self.fine and not AT_ONCE.isdisjoint(where)) or "_id" in where:  # one page, at once
            effect = lambda: list(MemoryDocs.find(self, collection, where, sort=sort, limit=limit, fields=fields))  # noqa: E731
            yield from self.call(*_reading(collection, where), effect)
            return
        cursor: tuple[Any, ...] | None = None
        met: set[Any] = set()
        while limit is None or len(met) < limit:
            step = self.call("list", f"docs/{collection}", lambda: self._next(collection, where, hint or sort, cursor))  # noqa: B023
            if step is None:
                return
            cursor, doc = step
            if doc["_id"] not in met:
                met.add(doc["_id"])
                yield copy.deepcopy(doc) if fields is None else projected(doc, fields)

    def _next(
        self, collection: str, where: Filter, keys: Keys | None, cursor: tuple[Any, ...] | None
    ) -> tuple[tuple[Any, ...], Doc] | None:
        """The first match behind the cursor in an index over these keys (None: in the order of insertion)."""
        best: tuple[tuple[Any, ...], Doc] | None = None
        for number, doc in enumerate(self.tables.get(collection, {}).values()):
            if matches(doc, where):
                key = (*(_rank(reach(doc, field), order) for field, order in keys or ()), number)
                if (cursor is None or key > cursor) and (best is None or key < best[0]):
                    best = key, doc
        return best

    def _ids(self, collection: str, where: Filter) -> list[Any]:
        """Of what a change of many may touch, looked up at its beginning; each is looked at again in its turn."""
        if isinstance(where.get("_id"), str):
            return [where["_id"]]
        if isinstance(where.get("_id"), dict):
            return list(where["_id"]["$in"])
        return [doc["_id"] for doc in self._matching(collection, where)]

    def _each(self, name: str, collection: str, key: Any, effect: Callable[[], T]) -> T:
        return self.call(name, f"docs/{collection}/{str(key).replace('/', '|')}", effect)


def _reading(collection: str, where: Filter) -> tuple[str, str]:
    if isinstance(where.get("_id"), str):
        return "read", f"docs/{collection}/{where['_id'].replace('/', '|')}"
    return "list", f"docs/{collection}"


def _rank(value: Any, order: int) -> Any:
    """A place in an index. What is missing comes first."""
    if not isinstance(value, (str, int, float, bool)):
        return (0, 0, "")
    if isinstance(value, str):
        return (2, 0, value if order > 0 else "".join(chr(0x10FFFF - ord(c)) for c in value))
    return (1, value * order, "")


class SimObjects(MemoryObjects, Caller):
    """``Objects``. Paths of calls: ``s3/<key>``."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 1_700_000_000.0)
        self.hook: Hook = no_hook
        self.version = 0

    def copy_of(self) -> SimObjects:
        other = SimObjects()
        other.held, other.open_uploads = dict(self.held), copy.deepcopy(self.open_uploads)
        return other

    def _do(self, name: str, key: str, effect: Callable[[], T], *, changes: bool = True) -> T:
        def run() -> T:
            self.version += changes
            return effect()

        return self.call(name, f"s3/{key.replace('/', '|')}", run)

    def put(self, key: str, data: bytes | memoryview, *, sha256: str) -> str:
        whole = bytes(data)
        return self._do("put", key, lambda: MemoryObjects.put(self, key, whole, sha256=sha256))

    def begin(self, key: str) -> str:
        return self._do("begin", key, lambda: MemoryObjects.begin(self, key))

    def put_part(self, key: str, upload: str, number: int, data: bytes | memoryview, *, sha256: str) -> Part:
        whole = bytes(data)
        effect = lambda: MemoryObjects.put_part(self, key, upload, number, whole, sha256=sha256)  # noqa: E731
        return self._do("put_part", key, effect)

    def parts(self, key: str, upload: str) -> list[Part]:
        return self._do("read", key, lambda: MemoryObjects.parts(self, key, upload), changes=False)

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        def effect() -> str:
            hook, self.hook = self.hook, no_hook  # the put in it is part of this call
            try:
                return MemoryObjects.complete(self, key, upload, parts)
            finally:
                self.hook = hook

        return self._do("complete", key, effect)

    def abort(self, key: str, upload: str) -> None:
        self._do("abort", key, lambda: MemoryObjects.abort(self, key, upload))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._do("read", key, lambda: MemoryObjects.read(self, key, start, stop), changes=False)

    def stream(self, key: str, start: int = 0) -> BinaryIO:
        return self._do("read", key, lambda: MemoryObjects.stream(self, key, start), changes=False)

    def head(self, key: str) -> ObjectInfo | None:
        return self._do("read", key, lambda: MemoryObjects.head(self, key), changes=False)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._do("delete", key, lambda one=key: MemoryObjects.delete(self, [one]))

    def list(self, prefix: str = "", *, after: str = "", files: bool = False) -> Iterator[ObjectInfo]:
        while True:  # a page of one: what changes behind the cursor is not seen, what changes before it is
            behind = partial(MemoryObjects.list, self, prefix, after=after, files=files)
            page = self.call("list", "s3", lambda: next(behind(), None))  # noqa: B023
            if page is None:
                return
            after = page.key
            yield page

    def uploads(self, prefix: str = "") -> Iterator[Upload]:
        yield from self.call("list", "s3", lambda: list(MemoryObjects.uploads(self, prefix)))
