"""New copies in an object store: document, bytes, live (SPEC "Remote"), for many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from dreamlake.blobs import Ready
from dreamlake.blobs.documents import CopyDocs, place
from dreamlake.blobs.sealing import is_intact
from dreamlake.blobs.sending import PUT_BYTES, Fenced, Sender, Threads
from dreamlake.blobs.sweeping import purge
from dreamlake.blobs.waiting import Item, Waiting
from dreamlake.errors import ClaimRevoked, Conflict, Unavailable
from dreamlake.ports import NO_FORK, Ports
from dreamlake.services.docs import Doc
from dreamlake.services.objects import Objects

_TRIES = 20  # to become the live copy, while others do, too
GROUP = 100  # copies whose documents are inserted in one call, and become live in one while the next are sent
TOGETHER = 16  # small copies from which they become live in one call, and not each as soon as it can
FORESEEN_BYTES = 1 << 20  # of a copy that may become live together with others
_UPLOADING = ("off", "owner", "at", "upload", "part")  # fields of a copy that is on its way
_SENDS = 3  # of a copy that collectors take away while it is uploaded


class _Work(NamedTuple):
    """One call of ``publish_all``: what it was asked, what became of it, and all that runs for it."""

    ready: Sequence[Ready]
    items: Sequence[Item]
    aside: bool
    outcomes: list[bool]
    jobs: list[Future[bool | None]]


class _Sending(NamedTuple):
    """Some of them, by number, on their way."""

    docs: dict[int, Doc]
    jobs: dict[int, Future[bool | None]]


class Publisher:
    """``Blobs.publish_all`` and ``Blobs.replace``."""

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    DOCUMENT_FIRST = True
    FENCED = True
    FRESH_NAMES = True

    def __init__(self, ports: Ports, docs: CopyDocs, objects: Objects, waiting: Waiting, threads: Threads) -> None:
        self._ports, self._docs, self._objects = ports, docs, objects
        self._waiting, self._threads = waiting, threads
        self._sender = Sender(ports, docs, objects, threads)
        self._active: set[str] = set()  # owners of the uploads that go on in this process

    def publish_all(self, ready: Sequence[Ready], *, aside: bool = False) -> list[bool]:
        """See the seam. ``aside``: copies that are replaced go to quarantine."""
        items = [self._waiting.item(one.staged) for one in ready]
        taken = self._docs.of_keys([one.key for one in ready if not one.replace], ["live"])
        work = _Work(ready, items, aside, [False] * len(ready), [])
        todo = [i for i, one in enumerate(ready) if one.replace or one.key not in taken]
        behind: _Sending | None = None
        try:
            for first in range(0, len(todo), GROUP):
                sending = self._send(work, todo[first : first + GROUP])
                if behind is not None:
                    self._finish(work, behind)  # while the next ones are sent
                behind = sending
            if behind is not None:
                self._finish(work, behind)
        except BaseException as error:
            for job in work.jobs:
                job.cancel()
            if isinstance(error, Exception):  # nothing goes on after this has returned
                for job in work.jobs:
                    if not job.cancelled():
                        job.exception()
            raise
        for i, item in enumerate(items):
            if work.outcomes[i]:
                item.discard()
        return work.outcomes

    def _send(self, work: _Work, chunk: Sequence[int]) -> _Sending:
        """Insert the documents of some, and begin to send them."""
        old = {i: self._resumable(work.ready[i].key, work.items[i]) for i in chunk}
        docs = {i: old[i] or self._new(work.ready[i].key, work.items[i]) for i in chunk}
        if self.DOCUMENT_FIRST:
            self._docs.insert([doc for i, doc in docs.items() if old[i] is None])
        together = len(chunk) >= TOGETHER and self.FENCED and self.DOCUMENT_FIRST
        jobs: dict[int, Future[bool | None]] = {}
        for i, doc in docs.items():
            jobs[i] = self._start(doc, work.items[i], work.ready[i].replace, work.aside, together)
            work.jobs.append(jobs[i])
        return _Sending(docs, jobs)

    def _finish(self, work: _Work, sending: _Sending) -> None:
        """Wait until these are sent, and live."""
        sent = {i: job.result() for i, job in sending.jobs.items()}
        waiting = {i: sending.docs[i] for i, outcome in sent.items() if outcome is None}
        live = self._go_live_together(list(waiting.values()))
        late: dict[int, Future[bool | None]] = {}
        for i, doc in waiting.items():
            if doc["_id"] not in live:
                late[i] = self._start_again(doc, work.items[i], work.ready[i].replace, work.aside)
                work.jobs.append(late[i])
        for i, outcome in sent.items():
            work.outcomes[i] = late[i].result() is True if i in late else outcome is not False

    def _start(self, doc: Doc, item: Item, replace: bool, aside: bool, together: bool) -> Future[bool | None]:
        with NO_FORK:
            self._active.add(doc["owner"])
        if item.size > PUT_BYTES:
            return self._threads.large(lambda: self._publish(doc, item, replace, aside))
        return self._threads.small(item.size, lambda: self._publish(doc, item, replace, aside, together=together))

    def _start_again(self, doc: Doc, item: Item, replace: bool, aside: bool) -> Future[bool | None]:
        """A copy that was sent and did not become live: another one is, or a collector has fenced it."""
        return self._threads.small(0, lambda: self._publish(doc, item, replace, aside, etag=doc["etag"]))

    def _go_live_together(self, docs: Sequence[Doc]) -> set[str]:
        """Which of these did. Their names are new and nobody adopts what is sent whole: the state alone tells."""
        ids = [doc["_id"] for doc in docs]
        return (
            self._docs.change_many(ids, {"state": "uploading"}, {"state": "live"}, remove=_UPLOADING) if ids else set()
        )

    def _publish(
        self, doc: Doc, item: Item, replace: bool, aside: bool, *, together: bool = False, etag: str | None = None
    ) -> bool | None:
        """True: it is live; False: it gave way. None: it has been sent, and waits to become live with others.

        ``etag``: it has been sent already.
        """
        for sends in range(_SENDS):
            if sends:
                doc = self._new(doc["key"], item)
                self._active.add(doc["owner"])
                self._docs.insert([doc])
            try:
                if sends or etag is None:
                    etag = (self._sender.whole if item.size <= PUT_BYTES else self._sender.in_parts)(doc, item)
                if together and not sends and etag == doc.get("etag"):
                    return None
                return self._go_live(doc, etag, replace, aside)
            except (Fenced, Conflict):
                continue
            except Unavailable:
                raise  # another try, or process, may take it up
            except Exception:
                self._drop(doc)
                raise
            finally:
                self._active.discard(doc["owner"])
        raise ClaimRevoked(f"collectors took {doc['key']} away {_SENDS} times while it was uploaded")

    def _new(self, key: str, item: Item) -> Doc:
        owner = self._ports.scratch_name("upload")
        return {
            "_id": place(key, self._ports.new_id() if self.FRESH_NAMES else "only"),
            "key": key,
            "state": "uploading",
            "off": True,
            "owner": owner,
            "at": self._ports.now().timestamp(),
            "size": item.size,
            "head": item.head(),
            **self._foreseen(item),
        }

    def _foreseen(self, item: Item) -> Doc:
        """The etag that S3 gives what is sent whole, unless it is encrypted with a key of its own."""
        if item.size > FORESEEN_BYTES:
            return {}
        with item.open() as stream:
            return {"etag": hashlib.md5(stream.read(FORESEEN_BYTES), usedforsecurity=False).hexdigest()}

    def _resumable(self, key: str, item: Item) -> Doc | None:
        """An upload in parts of the same content whose owner is dead, taken over."""
        if item.size <= PUT_BYTES:
            return None
        fields = ("key", "state", "owner", "at", "size", "head", "upload", "part")
        for doc in self._docs.of_keys([key], ["uploading"], fields=fields).get(key, []):
            if doc.get("upload") is None or doc["size"] != item.size or not self._is_over(doc["owner"]):
                continue
            unchanged = {"_id": doc["_id"], "state": "uploading", "owner": doc["owner"]}
            mine = {"owner": self._ports.scratch_name("upload"), "at": self._ports.now().timestamp()}
            if self._docs.change(unchanged, {**mine, "head": item.head()}):
                return {**doc, **mine}
        return None

    def _is_over(self, owner: str) -> bool:
        me = self._ports.scratch_name("upload").rpartition("-")[0]
        return self._ports.scratch_is_abandoned(owner) or (owner.startswith(me) and owner not in self._active)

    def _go_live(self, doc: Doc, etag: str, replace: bool, aside: bool) -> bool:
        """One compare-and-set; refused when a collector has fenced the upload, or another copy is live."""
        values = {"state": "live", "etag": etag}
        if not self.DOCUMENT_FIRST:
            self._docs.insert([doc])
        where = {"_id": doc["_id"], "state": "uploading", "owner": doc["owner"]}
        replaced: list[Doc] = []
        for _ in range(_TRIES):
            try:
                if not self._docs.change(where, values, remove=_UPLOADING):
                    if self.FENCED:
                        raise Fenced
                    self._docs.insert([{**doc, **values}])
                    self._docs.change({"_id": doc["_id"]}, values, remove=("off",))
                self._retire(replaced, aside)
                return True
            except Conflict:
                if not replace:
                    self._drop(doc)
                    return False
            for rival in self._docs.of_keys([doc["key"]], ["live"]).get(doc["key"], []):
                if not aside and self._is_as_good(rival, doc["size"], etag):
                    self._drop(doc)
                    return True
                batch = f"{self._ports.now():%Y%m%dT%H%M%SZ}-{self._ports.new_id()}"
                hidden = {"state": "condemned", "batch": batch, "off": True}
                if self._docs.change({"_id": rival["_id"], "state": "live"}, hidden, again=False):
                    replaced.append({**rival, **hidden})
        raise ClaimRevoked(f"{doc['key']} was published by others {_TRIES} times in a row")

    def _is_as_good(self, rival: Doc, size: int, etag: str) -> bool:
        """The same bytes, really there: to give way is cheaper, and leaves those who read it alone."""
        same = not rival.get("distrusted") and (rival["size"], rival["etag"]) == (size, etag)
        return same and is_intact(rival, self._objects.head(rival["_id"]))

    def _retire(self, replaced: Sequence[Doc], aside: bool) -> None:
        """Copies that were hidden in favour of a live one. Whoever dies before this leaves them to collectors."""
        for doc in replaced:
            hidden = {"_id": doc["_id"], "state": "condemned", "batch": doc["batch"]}
            if self._docs.change(hidden, {"state": "quarantined" if aside else "deleting"}) and not aside:
                purge(self._docs, self._objects, [doc])

    def _drop(self, doc: Doc) -> None:
        """Give up a copy of one's own that never was live."""
        if self._docs.change({"_id": doc["_id"], "state": "uploading", "owner": doc["owner"]}, {"state": "deleting"}):
            purge(self._docs, self._objects, [doc])
