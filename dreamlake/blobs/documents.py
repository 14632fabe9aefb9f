"""The documents of the copies in an object store: one a physical copy, whose key is never used again.

    copies  {_id: "blobs/<aa>/<key>/<nonce>", key, state, off, batch, owner, at, size, etag, head, upload, part, mark}

    state   uploading -> live <-> condemned(batch) -> deleting -> (removed)
            uploading -> deleting (fenced)      condemned -> quarantined

``off`` is true but while a copy is live. At most one copy of a key is live: a unique index refuses another (``LIVE``).
``batch`` says which collection condemned it; ``owner`` and ``at`` (seconds) who uploads it since when; ``head`` are its
first stored bytes; ``upload`` and ``part`` the multipart upload under way and the bytes of its parts; ``distrusted`` is
there while the tamper mark (``size`` and ``etag``) is broken.

Every change is a compare-and-set of one document, and is marked, so that one that has happened can be told from one
that was refused, whatever its reply says. Trying again is safe where the state that the filter names never comes back:
uploading, and condemned by a certain batch, for no batch condemns a copy twice. It is not for ``live``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dreamlake.blobs import Copy, check_key
from dreamlake.errors import Conflict, OutcomeUnknown
from dreamlake.ports import Ports
from dreamlake.services.docs import Change, Doc, Docs, Filter, Index

COPIES = "copies"
BY_KEY = Index(COPIES, (("key", 1),))
LIVE = Index(COPIES, (("key", 1), ("state", 1)), unique=True, where={"state": "live"})
OFF = Index(COPIES, (("off", 1), ("state", 1), ("_id", 1)), where={"off": True})
INDEXES = (BY_KEY, LIVE, OFF)

BATCH = 500  # documents or keys a call
_TRIES = 6  # of a change whose reply is lost
_AGAIN_AND_AGAIN = "the database loses its replies again and again"
_FACTS = ("key", "state", "batch", "size", "etag", "distrusted")


class CopyDocs:
    """The collection of the copies, in a database that has ``INDEXES``."""

    def __init__(self, ports: Ports, docs: Docs) -> None:
        self._ports, self._docs = ports, docs

    def insert(self, docs: Sequence[Doc]) -> None:
        """Add documents under fresh ids: what is refused when it is sent once more is there already.

        One that arrives late, when its copy has come and gone, is swept.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(OutcomeUnknown):
                self._docs.insert(COPIES, docs)
                return
        raise OutcomeUnknown(f"{_AGAIN_AND_AGAIN} (insert into {COPIES})")

    def change(self, where: Filter, values: Doc, *, remove: Sequence[str] = (), again: bool = True) -> bool:
        """Set fields of the one document that ``where`` names and describes. False when it is not so (any more).

        Args:
            again: try once more after a lost reply. Not for changes from a state that comes back: a try that arrives
                late would then be made in another moment. (Without it, it may still arrive, but nobody counts on it.)

        Raises ``Conflict`` when another copy of the key is live.
        """
        mark, change = self._marked(values, remove)
        for _ in range(_TRIES):
            lost = False
            try:
                if self._docs.update(COPIES, where, change):
                    return True
            except OutcomeUnknown:
                lost = True
            if next(self._docs.find(COPIES, {"_id": where["_id"], "mark": mark}, fields=["key"]), None):
                return True  # even if it was refused: whatever lies between may deliver a request twice
            if not (lost and again):
                return False
        raise OutcomeUnknown(f"{_AGAIN_AND_AGAIN} ({where['_id']})")

    def change_many(
        self, ids: Sequence[str], where: Filter, values: Doc, *, remove: Sequence[str] = (), again: bool = True
    ) -> set[str]:
        """``change`` of many, each by itself; the ids of those that were changed.

        After one that is refused because another copy of its key is live, the others of its call are left as they are.
        """
        mark, change = self._marked(values, remove)
        changed: set[str] = set()
        for chunk in chunks(ids):
            if self._try_many({"_id": {"$in": chunk}, **where}, change, again) == len(chunk):
                changed.update(chunk)
            else:
                marked = self._docs.find(COPIES, {"_id": {"$in": chunk}, "mark": mark}, fields=["key"])
                changed.update(doc["_id"] for doc in marked)
        return changed

    def _try_many(self, where: Filter, change: Change, again: bool) -> int:
        """How many one call has certainly changed: perhaps more."""
        for _ in range(_TRIES if again else 1):
            try:
                return self._docs.update_many(COPIES, where, change)
            except Conflict:
                return 0
            except OutcomeUnknown as error:
                lost = error
        if again:
            raise lost
        return 0

    def _marked(self, values: Doc, remove: Sequence[str]) -> tuple[str, dict[str, Any]]:
        mark = self._ports.new_id()
        return mark, {"$set": {**values, "mark": mark}, **({"$unset": dict.fromkeys(remove, "")} if remove else {})}

    def of_keys(
        self, keys: Iterable[str], states: Sequence[str], *, fields: Sequence[str] | None = _FACTS
    ) -> dict[str, list[Doc]]:
        """The documents of these keys in these states, the live one of each key first."""
        found: dict[str, list[Doc]] = {}
        for chunk in chunks([check_key(key) for key in keys]):
            wanted = {"key": {"$in": chunk}, "state": {"$in": list(states)}}
            for doc in self._docs.find(COPIES, wanted, fields=fields, hint=BY_KEY.keys):
                found.setdefault(doc["key"], []).append(doc)
        for docs in found.values():
            docs.sort(key=lambda doc: (doc["state"] != "live", str(doc.get("batch"))))
        return found

    def all(self, where: Filter, *, fields: Sequence[str] = _FACTS) -> Iterator[Doc]:
        """All that match, in the order of their ids."""
        hint = OFF.keys if where.get("off") else None
        yield from self._docs.find(COPIES, where, fields=fields, sort=(("_id", 1),), hint=hint)

    def all_ids(self) -> set[str]:
        """Where every copy lies."""
        return {doc["_id"] for doc in self._docs.find(COPIES, {}, fields=["key"])}

    def known(self, ids: Sequence[str], *, fields: Sequence[str] = ("state", "upload")) -> dict[str, Doc]:
        """Those of these documents that are there."""
        found: dict[str, Doc] = {}
        for chunk in chunks(ids):
            found.update((doc["_id"], doc) for doc in self._docs.find(COPIES, {"_id": {"$in": chunk}}, fields=fields))
        return found

    def remove(self, ids: Sequence[str]) -> None:
        """Forget copies whose objects are gone."""
        for chunk in chunks(ids):
            self._docs.delete(COPIES, {"_id": {"$in": chunk}, "state": "deleting"})


def chunks(items: Sequence[str]) -> list[list[str]]:
    return [list(items[first : first + BATCH]) for first in range(0, len(items), BATCH)]


def place(key: str, nonce: str) -> str:
    """Where a copy lies; neighbours have the same first byte of the digest."""
    return f"blobs/{key[-64:-62]}/{key}/{nonce}"


def copy_of(doc: Doc) -> Copy:
    """The seam's word for a document. ``sealed`` as far as the document knows."""
    batch = doc.get("batch") if doc["state"] == "condemned" else None
    return Copy(doc["key"], batch, doc["size"], not doc.get("distrusted"))
