"""Staged bytes on their way to an object store: whole, or in parts, in parallel, with bounded memory.

An upload in parts that was cut short by a death is taken up again: its document names the multipart upload, the store
tells which parts it has, and those whose checksum is that of the local bytes are not sent again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dreamlake.blobs.documents import CopyDocs
from dreamlake.blobs.waiting import Item, sha256
from dreamlake.errors import NotFound
from dreamlake.ports import NO_FORK, Ports
from dreamlake.rawio import read_up_to
from dreamlake.services.docs import Doc
from dreamlake.services.objects import MAX_PARTS, Objects, Part
from dreamlake.threads import ThreadPoolExecutor

PUT_BYTES = 16 << 20  # of an object that is sent whole
PART_BYTES = 16 << 20  # of every part but the last; more where there would be more than ``MAX_PARTS``
SENDING_BYTES = 128 << 20  # in memory of all that is being sent; one part may be larger
REQUESTS = 16  # at a time
LARGE = 4  # objects in parts at a time
BEAT_S = 600.0  # how often an upload in parts says that it goes on
_MIB = 1 << 20


class Fenced(Exception):
    """A collector has taken the copy that was being uploaded. Stays within ``blobs``."""


class Budget:
    """At most ``limit`` bytes at a time; a single larger claim waits until it is alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._limit)
            self._used += count

    def give(self, count: int) -> None:
        with self._changed:
            self._used -= count
            self._changed.notify_all()


class Threads:
    """The threads of one process, made when they are needed. A forked child makes its own.

    Who waits for ``large`` never holds ``small``, and whoever takes bytes of the budget is in neither: no deadlock.
    """

    def __init__(self) -> None:
        self._pid = 0

    def _begin(self) -> None:
        with NO_FORK:
            if self._pid != os.getpid():
                self.budget = Budget(SENDING_BYTES)
                self._small = ThreadPoolExecutor(REQUESTS, thread_name_prefix="dreamlake-send")
                self._large = ThreadPoolExecutor(LARGE, thread_name_prefix="dreamlake-parts")
                self._pid = os.getpid()

    def small(self, size: int, work: Callable[[], Any]) -> Future[Any]:
        """Run ``work``, which needs ``size`` bytes of memory, as soon as there is room."""
        self._begin()
        self.budget.take(size)
        try:
            job = self._small.submit(work)
        except BaseException:
            self.budget.give(size)
            raise
        job.add_done_callback(lambda done: self.budget.give(size))  # cancelled or not
        return job

    def large(self, work: Callable[[], Any]) -> Future[Any]:
        self._begin()
        return self._large.submit(work)

    def close(self) -> None:
        if self._pid == os.getpid():
            self._small.shutdown(cancel_futures=True)
            self._large.shutdown(cancel_futures=True)
            self._pid = 0


def part_bytes(size: int) -> int:
    """Bytes of each part of an object of this size."""
    return max(PART_BYTES, -(-size // MAX_PARTS // _MIB) * _MIB)


class Sender:
    """Sends one copy to the place that its document names."""

    def __init__(self, ports: Ports, docs: CopyDocs, objects: Objects, threads: Threads) -> None:
        self._ports, self._docs, self._objects, self._threads = ports, docs, objects, threads

    def whole(self, doc: Doc, item: Item) -> str:
        """Returns the etag. Raises ``Conflict`` when the place is taken, ``InvalidInput`` when the source changed."""
        with item.open() as stream:
            data = read_up_to(stream, item.size + 1)
        if len(data) != item.size:
            raise item.changed()
        digest = sha256(data)
        if item.digest is not None:
            item.check(sha256(memoryview(data)[item.skip :]) if item.skip else digest)
        return self._objects.put(doc["_id"], data, sha256=digest)

    def in_parts(self, doc: Doc, item: Item) -> str:
        """Like ``whole``. Raises also ``Fenced``; when it raises, what was sent may be used by a later try."""
        place, step = doc["_id"], doc.get("part") or part_bytes(item.size)
        upload, stored = self._begun(doc, step)
        whole, jobs = hashlib.sha256(), list[Future[Part]]()
        try:
            with item.open() as stream:
                for number in range(1, -(-item.size // step) + 1):
                    data = read_up_to(stream, min(step, item.size - (number - 1) * step))
                    jobs.append(self._part(place, upload, number, data, stored.get(number)))
                    if item.digest is not None:
                        whole.update(memoryview(data)[item.skip if number == 1 else 0 :])
                    self._beat(doc)
                ended = not stream.read(1)
            parts = [job.result() for job in jobs]
            if not ended or sum(part.size for part in parts) != item.size:
                raise item.changed()
            item.check(whole.hexdigest())
            return self._objects.complete(place, upload, parts)
        except NotFound:
            raise Fenced from None
        finally:
            for job in jobs:
                job.cancel()
            for job in jobs:
                if not job.cancelled():
                    job.exception()

    def _part(self, place: str, upload: str, number: int, data: bytes, stored: Part | None) -> Future[Part]:
        def send() -> Part:
            digest = sha256(data)
            if stored is not None and same_part(stored, data, digest):
                return stored._replace(sha256=digest)
            return self._objects.put_part(place, upload, number, data, sha256=digest)

        return self._threads.small(len(data), send)

    def _begun(self, doc: Doc, step: int) -> tuple[str, dict[int, Part]]:
        """The multipart upload of this document, and what it has already."""
        upload = doc.get("upload")
        if upload is not None:
            try:
                return upload, {part.number: part for part in self._objects.parts(doc["_id"], upload)}
            except NotFound:
                pass  # somebody aborted it, perhaps a rule of the bucket
        upload = self._objects.begin(doc["_id"])
        self._tell(doc, {"upload": upload, "part": step})
        return upload, {}

    def _beat(self, doc: Doc) -> None:
        now = self._ports.now().timestamp()
        if now - doc["at"] > BEAT_S:
            self._tell(doc, {"at": now})

    def _tell(self, doc: Doc, values: Doc) -> None:
        if not self._docs.change({"_id": doc["_id"], "state": "uploading", "owner": doc["owner"]}, values):
            raise Fenced
        doc.update(values)


def same_part(stored: Part, data: bytes, digest: str) -> bool:
    """Does the store have these bytes? By its SHA-256, or where it tells none, by the MD5 that S3 gives as etag."""
    if stored.size != len(data):
        return False
    if stored.sha256 is not None:
        return stored.sha256 == digest
    return stored.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
