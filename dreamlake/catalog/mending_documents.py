"""Putting records back into a database: the document catalog's part of repair.

Changes nothing but what is missing or does not read; what was there is kept in the collection ``quarantine``.
"""

from __future__ import annotations

from dreamlake.catalog import pieces
from dreamlake.catalog import record as records
from dreamlake.catalog.record import Record
from dreamlake.errors import Conflict
from dreamlake.model import SessionKey
from dreamlake.ports import Ports, iso
from dreamlake.services.docs import Doc, Docs


def put_back(ports: Ports, docs: Docs, session: SessionKey, number: int, record: Record | None) -> bool:
    """Make ``record`` (None: one that does nothing) the record of this number.

    False when nothing is known to come after a missing one, when there is no record to replace a damaged one with, or
    when somebody else put one there meanwhile.
    """
    place = {"sid": session.sid, "state": "committed", "n": number}
    found = next(docs.find("records", place), None)
    later = docs.find("records", {**place, "n": {"$gt": number}}, fields=["n"], limit=1)
    if (found is None and not any(later)) or (found is not None and record is None):
        return False
    if record is None:
        made = iso(ports.now())
        record = Record(ports.new_id(), ports.owner(), session, made, (), ({"op": "noop"},))
    text = records.encode(record).decode()
    large = pieces.cut(ports.new_id(), text)
    if large:
        docs.insert(pieces.PIECES, large)
    held: Doc = {"pieces": [piece["_id"] for piece in large]} if large else {"text": text}
    if found is None:
        return _insert(docs, record.token, {**place, **held, "at": ports.now().timestamp()})
    docs.insert("quarantine", [{"_id": ports.new_id(), "record": found}])
    gone = {name: "" for name in ("text", "pieces") if name not in held}
    return docs.update("records", {**place, "_id": found["_id"]}, {"$set": held, "$unset": gone})


def _insert(docs: Docs, token: str, doc: Doc) -> bool:
    """Under its token; that may belong to a document that lost its number, or its state."""
    if not docs.insert("records", [{"_id": token, **doc}]):
        return True
    try:
        return docs.update("records", {"_id": token, "sid": doc["sid"]}, {"$set": doc, "$unset": {"open": ""}})
    except Conflict:
        return False
