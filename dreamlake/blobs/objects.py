"""Blobs in an object store, with one document a physical copy (SPEC "Remote").

    blobs/<aa>/<key>/<nonce>        an object; its name is used once, by one document of ``blobs.documents``

A copy is what its document says: uploading, live, condemned by a batch, deleting. The document is there before the
first byte is sent, ``live`` is a compare-and-set after the object is whole, and ``deleting`` one before it is deleted.
So a look asks the database only; what lies in the bucket is compared when copies are listed with their seals, and a
seal is the size and etag that the store gave when the object was made. Quarantine is a state, too: nothing is copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import BinaryIO

from dreamlake.blobs import HEAD_BYTES, Copy, Proof, Ready, Space, Staged, Wanted, check_key
from dreamlake.blobs.documents import INDEXES, CopyDocs, copy_of
from dreamlake.blobs.fetching import ObjectStream
from dreamlake.blobs.publishing import Publisher
from dreamlake.blobs.sealing import Listing, is_intact
from dreamlake.blobs.sending import Threads
from dreamlake.blobs.singly import passes
from dreamlake.blobs.sweeping import Sweep, purge
from dreamlake.blobs.waiting import Item, Waiting
from dreamlake.errors import Conflict, NotFound
from dreamlake.ports import NO_FORK, Ports
from dreamlake.services.docs import Doc, Docs
from dreamlake.services.objects import Objects
from dreamlake.threads import ThreadPoolExecutor

__all__ = ["INDEXES", "ObjectBlobs"]

RESUME_S = 86_400.0  # how long an upload in parts whose owner died is kept, so that it can be taken up
READERS = 16  # ranges fetched at a time, by all streams
_TRIES = 20
_READABLE = ("live", "condemned")
_TO_READ = ("key", "state", "batch", "size", "etag", "distrusted", "head")
_SIZES = ("state", "size")
_NO_MORE = ("batch", "off")  # fields of a copy that becomes live


class ObjectBlobs:
    """``Blobs`` in an object store.

    Args:
        docs: the database, which has ``INDEXES``.
        scratch: a folder of this machine for large new copies until they are sent; without one they stay in memory.
    """

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    CHANGE_BEFORE_DELETE = True
    BATCH_IN_CHANGE = True

    def __init__(self, ports: Ports, docs: Docs, objects: Objects, scratch: str | None = None) -> None:
        self._ports, self._objects, self._scratch = ports, objects, scratch
        self._docs = CopyDocs(ports, docs)
        self._waiting, self._threads = Waiting(ports, scratch), Threads()
        self._publisher = Publisher(ports, self._docs, objects, self._waiting, self._threads)
        self._readers: tuple[int, ThreadPoolExecutor] | None = None
        self.settle_s = 0.0
        self.sending_is_dear = True
        self.resume_s = RESUME_S

    # ---- new copies ----------------------------------------------------------------------------------------------

    def stage(self) -> Item:
        return self._waiting.new()

    def stage_file(self, path: str, prefix: bytes, size: int, digest: str) -> tuple[Item, Staged]:
        item = self._waiting.new()
        return item, item.of_file(path, prefix, size, digest)

    def secure(self, staged: Sequence[Staged]) -> None:
        for one in staged:  # they become durable where they are sent to
            self._waiting.item(one)

    def publish(self, key: str, staged: Staged, *, replace: bool = True) -> bool:
        return self.publish_all([Ready(key, staged, replace)])[0]

    def publish_all(self, ready: Sequence[Ready]) -> list[bool]:
        for one in ready:
            check_key(one.key)
        return self._publisher.publish_all(ready)

    def replace(self, key: str, staged: Staged) -> bool:
        found = bool(self._docs.of_keys([key], ["live"]))
        self._publisher.publish_all([Ready(check_key(key), staged)], aside=True)
        return found

    def barrier(self, keys: Iterable[str]) -> None:
        return None  # every change was durable when it returned

    # ---- looking -------------------------------------------------------------------------------------------------

    def look(
        self, key: str, size: int | None, prove: Proof, *, resurrect: bool = True, check: Proof | None = None
    ) -> bool:
        return self.look_all([Wanted(key, size, prove, check)], resurrect=resurrect)[0]

    def look_all(self, wanted: Sequence[Wanted], *, resurrect: bool = True) -> list[bool]:
        states = _READABLE if resurrect else ("live",)
        found = self._docs.of_keys([one.key for one in wanted], states, fields=_TO_READ)
        answers, jobs = [False] * len(wanted), {}
        for i, one in enumerate(wanted):
            docs = found.get(one.key)
            if docs and (len(wanted) == 1 or (docs[0]["state"] == "live" and not docs[0].get("distrusted"))):
                answers[i] = self._look(one, docs, states)
            elif docs:  # it takes requests
                jobs[i] = self._threads.small(0, partial(self._look, one, docs, states))
        for i, job in jobs.items():
            answers[i] = job.result()
        return answers

    def _look(self, wanted: Wanted, docs: list[Doc], states: Sequence[str]) -> bool:
        for _ in range(_TRIES):
            if not docs:
                return False
            doc = docs[0]
            hidden = doc["state"] == "condemned"
            if not hidden or self._resurrect(doc):
                sealed = not doc.get("distrusted")
                if hidden and sealed:  # rare, and nobody has compared it since
                    sealed = is_intact(doc, self._objects.head(doc["_id"]))
                try:
                    with self._stream(doc, self._gone if sealed else None) as stream:
                        return passes(stream, wanted.size, doc["size"], sealed, wanted.prove, wanted.check)
                except NotFound:
                    if self._objects.head(doc["_id"]) is None and self._is_live(doc):
                        return False  # somebody deleted the object behind our back
            docs = self._docs.of_keys([wanted.key], states, fields=_TO_READ).get(wanted.key, [])
        return False

    def _is_live(self, doc: Doc) -> bool:
        return self._docs.known([doc["_id"]]).get(doc["_id"], {}).get("state") == "live"

    def _resurrect(self, doc: Doc) -> bool:
        try:
            return self._docs.change(self._as_condemned(doc), {"state": "live"}, remove=_NO_MORE)
        except Conflict:  # somebody published meanwhile, perhaps to heal it
            return False

    def _as_condemned(self, doc: Doc) -> Doc:
        """The filter for a condemned copy, exactly as it was seen."""
        if not self.BATCH_IN_CHANGE:
            return {"_id": doc["_id"], "state": {"$in": ["live", "condemned"]}}
        return {"_id": doc["_id"], "state": "condemned", "batch": doc["batch"]}

    # ---- reading -------------------------------------------------------------------------------------------------

    def open(self, key: str) -> BinaryIO:
        return self._stream(self._readable(key), lambda doc: self._readable(key, doc))

    def open_copy(self, copy: Copy) -> BinaryIO:
        for doc in self._docs.of_keys([copy.key], _READABLE, fields=_TO_READ).get(copy.key, []):
            if copy_of(doc).batch == copy.batch:
                return self._stream(doc, None)
        raise self._missing(copy.key)

    def heads(self, keys: Sequence[str]) -> list[bytes | None]:
        found = self._docs.of_keys(keys, _READABLE, fields=_TO_READ)
        return [bytes(found[key][0]["head"]) if key in found else None for key in keys]

    def _readable(self, key: str, gone: Doc | None = None) -> Doc:
        """A document of the key, the live one before others. Raises ``NotFound``, also if it is one that is gone."""
        docs = self._docs.of_keys([key], _READABLE, fields=_TO_READ).get(key, [])
        for doc in docs:
            if gone is None or doc["_id"] != gone["_id"]:
                return doc
        raise self._missing(key)

    def _gone(self, doc: Doc) -> Doc:
        raise self._missing(doc["key"])

    def _stream(self, doc: Doc, again: Callable[[Doc], Doc] | None) -> BinaryIO:
        return ObjectStream(self._objects, doc, self._reader_threads, again)  # type: ignore[return-value]

    def _reader_threads(self) -> ThreadPoolExecutor:
        with NO_FORK:
            if self._readers is None or self._readers[0] != os.getpid():
                self._readers = os.getpid(), ThreadPoolExecutor(READERS, thread_name_prefix="dreamlake-fetch")
            return self._readers[1]

    def file(self, key: str) -> str | None:
        return None

    def _missing(self, key: str) -> NotFound:
        return NotFound(f"no copy of {key}; run `dreamlake verify` to see what else is missing", path=key)

    # ---- seals ---------------------------------------------------------------------------------------------------

    def sealed(self, key: str) -> bool:
        doc = self._readable(key)
        return not doc.get("distrusted") and is_intact(doc, self._objects.head(doc["_id"]))

    def distrust(self, key: str) -> bool:
        return any(self._of_live(doc, {"distrusted": True}) for doc in self._live(key))

    def trust(self, key: str) -> bool:
        found = False
        for doc in self._live(key):
            info = self._objects.head(doc["_id"])
            if info is not None:
                head = self._objects.read(doc["_id"], 0, HEAD_BYTES)
                facts = {"size": info.size, "etag": info.etag, "head": head}
                found = self._of_live(doc, facts, remove=["distrusted"]) or found
        return found

    def _live(self, key: str) -> list[Doc]:
        return self._docs.of_keys([key], ["live"]).get(key, [])

    def _of_live(self, doc: Doc, values: Doc, remove: Sequence[str] = ()) -> bool:
        return self._docs.change({"_id": doc["_id"], "state": "live"}, values, remove=remove)

    # ---- listing -------------------------------------------------------------------------------------------------

    def copies(self, *, seals: bool = True) -> Iterator[Copy]:
        found = self._docs.all({"state": {"$in": list(_READABLE)}})
        if not seals:
            yield from map(copy_of, found)
            return
        listing = Listing(self._objects)
        for doc in found:
            info = listing.find(doc["_id"]) or self._objects.head(doc["_id"])  # made after its page was read?
            sealed = not doc.get("distrusted") and is_intact(doc, info)
            yield copy_of(doc)._replace(size=info.size if info is not None else doc["size"], sealed=sealed)

    def condemned(self) -> Iterator[Copy]:
        return map(copy_of, self._docs.all({"off": True, "state": "condemned"}))

    def copies_of(self, key: str) -> list[Copy]:
        return [copy_of(doc) for doc in self._docs.of_keys([key], _READABLE).get(key, [])]

    # ---- collecting ----------------------------------------------------------------------------------------------

    def condemn(self, key: str, batch: str) -> Copy | None:
        return self.condemn_all([key], batch)[0]

    def condemn_all(self, keys: Sequence[str], batch: str) -> list[Copy | None]:
        found = {key: docs[0] for key, docs in self._docs.of_keys(keys, ["live"]).items()}
        hidden = {"state": "condemned", "batch": batch, "off": True}
        ids = [doc["_id"] for doc in found.values()]
        changed = self._docs.change_many(ids, {"state": "live"}, hidden, again=False)
        hit = {key: Copy(key, batch, doc["size"]) for key, doc in found.items() if doc["_id"] in changed}
        return [hit.get(key) for key in keys]

    def settle(self, copy: Copy, *, keep: bool, drop: bool = True) -> bool:
        for doc in self._condemned_docs([copy]).get(copy.key, []):
            if keep:
                try:
                    return self._docs.change(self._as_condemned(doc), {"state": "live"}, remove=_NO_MORE)
                except Conflict:
                    if not drop:
                        return False
            return bool(self._remove([doc]))
        return False

    def settle_all(self, copies: Sequence[Copy], *, keep: bool) -> list[bool]:
        if keep:
            return [self.settle(copy, keep=True) for copy in copies]
        found = self._condemned_docs(copies)
        gone = self._remove([doc for docs in found.values() for doc in docs])
        return [(copy.key, copy.batch) in gone for copy in copies]

    def _condemned_docs(self, copies: Sequence[Copy]) -> dict[str, list[Doc]]:
        wanted = {(copy.key, copy.batch) for copy in copies}
        fields = ("key", "state", "batch", "size", "upload")
        found = self._docs.of_keys([copy.key for copy in copies], ["condemned"], fields=fields)
        return {key: [doc for doc in docs if (key, doc["batch"]) in wanted] for key, docs in found.items()}

    def _remove(self, docs: Sequence[Doc]) -> set[tuple[str, str | None]]:
        """Delete exactly these condemned copies, as they were seen; which ones it was."""
        if not self.CHANGE_BEFORE_DELETE:
            self._objects.delete([doc["_id"] for doc in docs])
        changed: set[str] = set()
        for batch, group in groupby(sorted(docs, key=_batch_of), key=_batch_of):
            where = self._as_condemned({"_id": "", "batch": batch})
            del where["_id"]
            changed |= self._docs.change_many([doc["_id"] for doc in group], where, {"state": "deleting"})
        gone = [doc for doc in docs if doc["_id"] in changed]
        purge(self._docs, self._objects, gone)
        return {(doc["key"], doc["batch"]) for doc in gone}

    def sweep(self, abandoned: Callable[[str, float], bool]) -> Space:
        return Sweep(self._ports, self._docs, self._objects, abandoned, self.resume_s).run(self._scratch)

    def space(self) -> dict[str, Space]:
        names = {"live": "live", "condemned": "condemned", "quarantined": "quarantine"}
        sums = {name: [0, 0] for name in ("live", "condemned", "scratch", "quarantine")}
        sizes = [(names.get(doc["state"], "scratch"), doc["size"]) for doc in self._docs.all({}, fields=_SIZES)]
        for name, size in [*sizes, *(("scratch", size) for size in self._waiting.sizes())]:
            sums[name][0] += 1
            sums[name][1] += size
        return {name: Space(count, size, 0) for name, (count, size) in sums.items()}

    def close(self) -> None:
        """Give back threads."""
        self._threads.close()
        readers, self._readers = self._readers, None
        if readers is not None and readers[0] == os.getpid():
            readers[1].shutdown(cancel_futures=True)


def _batch_of(doc: Doc) -> str:
    return str(doc["batch"])
