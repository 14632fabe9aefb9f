"""The committed records of a database: reading them in order, and which sessions there are.

Changes nothing. A record that is missing among others, or does not read, is an error, never overlooked (R9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dreamlake.catalog import pieces
from dreamlake.catalog import record as records
from dreamlake.catalog.record import Record
from dreamlake.errors import Corrupt, LakeError
from dreamlake.model import SessionKey
from dreamlake.services.docs import Doc, Docs, Filter, Index

NUMBERS = Index("records", (("sid", 1), ("n", 1)), unique=True, where={"state": "committed"})
FIRSTS = Index("records", (("n", 1), ("sid", 1)), where={"n": 1})
LOG_INDEXES = (NUMBERS, FIRSTS)


class DocumentLog:
    """``Catalog.records`` and ``Catalog.sessions``."""

    def __init__(self, docs: Docs) -> None:
        self._docs = docs

    def records(self, session: SessionKey, after: int = 0) -> Iterator[tuple[int, Record]]:
        number = after
        for doc in self._docs.find("records", _log(session, after), sort=NUMBERS.keys):
            while doc["n"] > number + 1:  # a scan may miss one that was committed meanwhile, but not a second time
                yield number + 1, self._missed(session, number + 1, doc["n"])
                number += 1
            if doc["n"] == number + 1:
                yield doc["n"], self._record(session, doc)
                number += 1

    def sessions(self, damaged: Callable[[LakeError], None] | None = None) -> list[SessionKey]:
        begun = {doc["sid"] for doc in self._docs.find("records", {"n": 1, "state": "committed"}, fields=["sid"])}
        known: dict[str, Doc] = {doc["_id"]: doc for doc in self._docs.find("sessions", {})}
        found = []
        for sid in begun | known.keys():
            try:
                if sid not in known:  # somebody removed it: then the first record says whose it is
                    found.append(self._named_by_record(sid))
                elif sid in begun or self._has_begun(_session_of(known[sid])):
                    found.append(_session_of(known[sid]))
            except LakeError as error:
                if damaged is None:
                    raise
                damaged(error)
        return sorted(found)

    def _record(self, session: SessionKey, doc: Doc) -> Record:
        where = f"record {doc['n']} of session {session.full} ({session.sid})"
        record = records.decode(pieces.text_of(self._docs, doc, where), where)
        if record.session != session:
            raise Corrupt(f"{where}: a record of session {record.session.full}", path=where)
        return record

    def _missed(self, session: SessionKey, number: int, later: int) -> Record:
        """A record that a scan did not meet. Raises ``Corrupt`` when it is missing (R9): it would be overlooked."""
        for doc in self._docs.find("records", {"sid": session.sid, "state": "committed", "n": number}):
            return self._record(session, doc)
        where = f"record {number} of session {session.full} ({session.sid})"
        raise Corrupt(f"{where} is missing although record {later} exists; run `dreamlake verify`", path=where)

    def _named_by_record(self, sid: str) -> SessionKey:
        where = f"record 1 of session {sid}"
        for doc in self._docs.find("records", {"sid": sid, "state": "committed", "n": 1}):
            key = records.decode(pieces.text_of(self._docs, doc, where), where).session
            if key.sid == sid:
                return key
        raise Corrupt(f"{where} is not one of this session", path=sid)

    def _has_begun(self, session: SessionKey) -> bool:
        """For a session whose first record was not met: False while there is none (its maker may have died)."""
        if not any(self._docs.find("records", _log(session, 1), fields=["n"], limit=1)):
            return False
        first = {"sid": session.sid, "state": "committed", "n": 1}
        if self._docs.count("records", first):  # it happened just now
            return True
        where = f"record 1 of session {session.full} ({session.sid})"
        raise Corrupt(f"{where} is missing although later records exist", path=where)


def _log(session: SessionKey, after: int) -> Filter:
    return {"sid": session.sid, "state": "committed", "n": {"$gt": after}}


def _session_of(doc: Doc) -> SessionKey:
    try:
        key = SessionKey(doc["workspace"], doc["name"], doc["namespace"])
        if all(isinstance(name, str) for name in key) and key.sid == doc["_id"]:
            return key
    except KeyError:
        pass
    raise Corrupt(f"the document of session {doc['_id']} is damaged", path=str(doc["_id"]))
