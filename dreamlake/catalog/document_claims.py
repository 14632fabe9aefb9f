"""Claims in a database: made, shown to collectors, touched, revoked. Only commit is not here (``documents``).

A claim whose text is in pieces is ``arriving`` while they are written and ``revoked`` while they are removed: nobody
can commit it then. A token is inserted once, so that what was revoked can never come back (I5): a claim whose reply was
lost starts again under another one.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dreamlake.catalog import Claim, Pending, pieces
from dreamlake.catalog import record as records
from dreamlake.catalog.entries import check_entries
from dreamlake.catalog.record import Record
from dreamlake.errors import ClaimRevoked, Corrupt, LakeError, OutcomeUnknown, Unavailable
from dreamlake.model import SessionKey
from dreamlake.ports import Ports, iso
from dreamlake.services.docs import Doc, Docs, Filter, Index

# Over no field that changes while a claim stays open: a scan of it would miss a claim that moves (R5).
OPEN = Index("records", (("open", 1),), where={"open": True})
OPEN_BY_BEAT = Index("records", (("open", 1), ("beat", 1)), where={"open": True})  # for a mutation only

MAX_TRIES = 8  # of a call whose reply was lost
LATE_S = 3600.0  # a claim that has been arriving for so long never will
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0


class DocumentClaims:
    """The claims of all sessions: ``Catalog.claim``, ``revoke``, ``touch``, ``pending``, ``unreadable``."""

    STEADY_SCAN = True  # tests switch it off (SPEC "Mutation switches")

    def __init__(self, ports: Ports, docs: Docs) -> None:
        self._ports, self._docs = ports, docs

    def claim(self, session: SessionKey, needs: Iterable[str], entries: Sequence[dict[str, Any]]) -> Claim:
        check_entries(entries, records.MAX_ENTRIES)
        needed, made = tuple(needs), iso(self._ports.now())
        for _ in self._tries():
            token = self._ports.new_id()
            record = Record(token, self._ports.owner(), session, made, needed, tuple(entries))
            try:
                self._insert(record)
                return Claim(session, token, record)
            except OutcomeUnknown:  # it may still arrive: that token is never used again
                with contextlib.suppress(Unavailable):
                    self.revoke(token)
        raise AssertionError("unreachable")

    def _insert(self, record: Record) -> None:
        now = self._ports.now().timestamp()
        text = records.encode(record).decode()
        large = pieces.cut(record.token, text)
        doc: Doc = {"_id": record.token, "sid": record.session.sid, "open": True, "at": now, "beat": now}
        if large:
            doc |= {"state": "arriving", "pieces": [piece["_id"] for piece in large]}
        else:
            doc |= {"state": "pending", "text": text}
        if self._docs.insert("records", [doc]):
            raise OutcomeUnknown(f"token {record.token} was used before")
        if not large:
            return
        pieces.put(self._docs, large, self._tries)
        arriving, pending = open_as(record.token, "arriving"), open_as(record.token, "pending")
        done = self._docs.update("records", arriving, {"$set": {"state": "pending"}})
        if not done and not any(self._docs.find("records", pending, fields=["state"])):  # refused, and not for a repeat
            raise ClaimRevoked(f"claim {record.token} was revoked")

    def revoke(self, token: str) -> bool:
        small = {**open_as(token, "pending"), "pieces": {"$exists": False}}
        if self._docs.delete("records", small):
            return True
        doc = next(self._docs.find("records", {"_id": token}, fields=["open", "state", "pieces"]), None)
        if doc is None or not doc.get("open"):
            return False
        if not doc.get("pieces"):  # not there a moment ago: it has only just arrived
            return self._docs.delete("records", small) > 0
        where = {"_id": token, "open": True, "state": {"$in": ["arriving", "pending"]}}
        revoked = any(self._known(lambda: self._docs.update("records", where, {"$set": {"state": "revoked"}})))
        if revoked or doc["state"] == "revoked":
            pieces.remove(self._docs, doc["pieces"])
            self._docs.delete("records", open_as(token, "revoked"))
        return revoked

    def touch(self, claim: Claim) -> None:
        with contextlib.suppress(Unavailable):
            beat = {"$set": {"beat": self._ports.now().timestamp()}}
            self._docs.update("records", open_as(claim.token, "pending"), beat)

    def pending(self) -> Iterator[Pending]:
        now = self._ports.now().timestamp()
        for doc in self._open_docs():
            if doc.get("state") == "pending":
                record = self._decode(doc)
                if record is not None:
                    yield Pending(doc["_id"], record, now - _beat(doc, now))

    def unreadable(self) -> Iterator[tuple[str, float]]:
        now = self._ports.now().timestamp()
        for doc in self._open_docs():
            age = now - _beat(doc, now)
            try:
                if doc.get("state") == "pending":
                    self._decode(doc)
                elif age > LATE_S:  # whoever was bringing, or removing, its pieces has died
                    yield doc["_id"], age
            except Corrupt:
                yield doc["_id"], age
            except LakeError:
                continue

    def _open_docs(self) -> Iterator[Doc]:
        hint = OPEN.keys if self.STEADY_SCAN else OPEN_BY_BEAT.keys
        return self._docs.find("records", {"open": True}, hint=hint)

    def _decode(self, doc: Doc) -> Record | None:
        """The record of an open claim; None when it was revoked while it was read."""
        where = f"claim {doc['_id']}"
        try:
            return records.decode(pieces.text_of(self._docs, doc, where), where)
        except Corrupt:
            if "pieces" in doc and not self._docs.count("records", open_as(doc["_id"], "pending")):
                return None
            raise

    def _tries(self) -> Iterator[None]:
        """Paces the tries of a call whose reply may be lost; raises ``OutcomeUnknown`` after the last."""
        for attempt in range(MAX_TRIES):
            if attempt:
                wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
                self._ports.sleep(wait * random.uniform(0.5, 1.0))
            yield
        raise OutcomeUnknown("the replies of the database were lost again and again; is the connection to it sound?")

    def _known(self, change: Callable[[], bool]) -> Iterator[bool]:
        """Repeat a change that may be repeated until its reply comes; yields that reply."""
        for _ in self._tries():
            try:
                result = change()
            except OutcomeUnknown:
                continue
            yield result
            return


def open_as(token: str, state: str) -> Filter:
    """A claim, while it is in this state."""
    return {"_id": token, "open": True, "state": state}


def _beat(doc: Doc, default: float) -> float:
    beat = doc.get("beat")
    return float(beat) if isinstance(beat, (int, float)) else default
