"""What is left behind in an object store, and its removal: copies whose uploader died, objects and multipart uploads
without a document, and copies that a collector did not finish removing.

``deleting`` is the point of no return, and comes before the object is deleted. The bucket is listed before the
documents are looked up: what has no document then can never become live, because a document is there before its first
byte is sent, and its name is never used again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import islice

from dreamlake.blobs import Space
from dreamlake.blobs.documents import BATCH, CopyDocs
from dreamlake.ports import Ports, scan
from dreamlake.services.docs import Doc
from dreamlake.services.objects import ObjectInfo, Objects

Abandoned = Callable[[str, float], bool]


def purge(docs: CopyDocs, objects: Objects, found: Sequence[Doc]) -> None:
    """Delete the objects of documents that are ``deleting``, then forget them. May be repeated, by anyone."""
    for first in range(0, len(found), BATCH):
        chunk = found[first : first + BATCH]
        for doc in chunk:
            if doc.get("upload") is not None:
                objects.abort(doc["_id"], doc["upload"])
        ids = [doc["_id"] for doc in chunk]
        objects.delete(ids)
        docs.remove(ids)


class Sweep:
    """One sweep. ``resume_s``: how long an upload in parts whose owner died is kept, so that it can be taken up."""

    # Rule that tests switch off to prove that they would notice (SPEC "Mutation switches").
    BUCKET_FIRST = True

    def __init__(self, ports: Ports, docs: CopyDocs, objects: Objects, abandoned: Abandoned, resume_s: float) -> None:
        self._ports, self._docs, self._objects = ports, docs, objects
        self._abandoned, self._resume_s = abandoned, resume_s
        self._now = ports.now().timestamp()
        self.files = self.bytes = 0

    def run(self, scratch: str | None) -> Space:
        if scratch is not None:
            self._scratch(scratch)
        self._left_by_collectors()
        self._uploading()
        self._objects_without_document()
        self._uploads_without_document()
        return Space(self.files, self.bytes, 0)

    def _gone(self, name: str, age_s: float, size: int) -> bool:
        gone = self._abandoned(name, age_s)
        if gone:
            self.files, self.bytes = self.files + 1, self.bytes + size
        return gone

    def _scratch(self, folder: str) -> None:
        """Files on this machine's disk."""
        with contextlib.suppress(FileNotFoundError):
            for name, stat in list(scan(self._ports.fs, folder)):
                if self._gone(name, self._now - stat.ctime_ns / 1e9, stat.size):
                    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                        self._ports.fs.unlink(f"{folder}/{name}")

    def _left_by_collectors(self) -> None:
        found = self._docs.all({"off": True, "state": "deleting"}, fields=["size", "upload"])
        self._purge(doc for doc in found if self._gone("deleting", math.inf, doc["size"]))

    def _uploading(self) -> None:
        """Fence uploads whose owner is gone: what it may still send can never become live."""
        fenced = []
        for doc in self._docs.all({"off": True, "state": "uploading"}, fields=["size", "owner", "at", "upload"]):
            age_s = self._now - doc["at"]
            if doc.get("upload") is not None and age_s < self._resume_s:
                continue
            if self._gone(doc["owner"], age_s, doc["size"]):
                unchanged = {"_id": doc["_id"], "state": "uploading", "owner": doc["owner"], "at": doc["at"]}
                if self._docs.change(unchanged, {"state": "deleting"}):
                    fenced.append(doc)
        self._purge(fenced)

    def _objects_without_document(self) -> None:
        if not self.BUCKET_FIRST:
            self._remove_strangers(set(self._docs.all_ids()))
            return
        listing = self._objects.list("blobs/")
        while page := list(islice(listing, BATCH)):
            self._remove(page, self._docs.known([info.key for info in page]))

    def _remove(self, page: Sequence[ObjectInfo], known: Container[str]) -> None:
        strangers = [info for info in page if info.key not in known and self._gone("orphan", math.inf, info.size)]
        self._objects.delete([info.key for info in strangers])

    def _remove_strangers(self, known: Container[str]) -> None:
        """For the mutation: the bucket is listed after the documents."""
        self._remove(list(self._objects.list("blobs/")), known)

    def _uploads_without_document(self) -> None:
        listing = self._objects.uploads("blobs/")
        while page := list(islice(listing, BATCH)):
            known = self._docs.known([upload.key for upload in page])
            for upload in page:
                doc = known.get(upload.key, {})  # while it is uploading, one whose id is not told yet may be its own
                if doc.get("state") != "uploading" and self._gone("orphan", math.inf, 0):
                    self._objects.abort(upload.key, upload.id)

    def _purge(self, found: Iterable[Doc]) -> None:
        rest = iter(found)
        while chunk := list(islice(rest, BATCH)):
            purge(self._docs, self._objects, chunk)
