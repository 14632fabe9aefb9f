"""The oracle of remote lakes: looks into the database and the bucket, behind the store's back.

Nothing is ever taken back there, so only what is there now is judged.
"""

from __future__ import annotations

from typing import Any

from simulation.coded_judge import CodedJudge, Disk, is_whole
from simulation.simfs import File, SimFs
from simulation.simservices import SimDocs, SimObjects


class RemoteJudge(CodedJudge):
    def __init__(self, docs: SimDocs, objects: SimObjects, plain: dict[str, bytes]) -> None:
        super().__init__(SimFs(), "", plain, power=False)
        self._docs, self._objects = docs, objects
        self._texts: dict[str, File] = {}
        self._seen = (-1, -1, 0)

    # ---- the check after every step ------------------------------------------------------------------------------

    def check(self) -> None:
        told = (self._docs.version, self._objects.version, len(self.acked))
        if told == self._seen:
            return
        self._seen = told
        self._check_documents()
        disk = self._files(now=True)
        sids = self._sessions()
        for sid in sids:
            log = self.log(sid)
            self._check_log(sid, log, "")
            self._check_readable(sid, self._read(log).needed, disk, "")
        assert {sid for sid, _, _ in self.acked} <= set(sids), "I4: an acknowledged session is gone"

    def _check_documents(self) -> None:
        """I2, I3: a readable copy has its object, whole; one copy of a key is live at most."""
        live: set[str] = set()
        for place, doc in self._copies().items():
            if doc["state"] in ("live", "condemned"):
                held = self._objects.held.get(place)
                assert held is not None, f"I2: the {doc['state']} copy {place[:24]} has no object"
                assert is_whole(doc["key"], held.data, self._plain), f"I3: {place[:24]} does not hold its content"
            if doc["state"] == "live":
                assert doc["key"] not in live, f"two live copies of {doc['key'][:12]}"
                live.add(doc["key"])

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _copies(self) -> dict[str, Any]:
        return self._docs.tables.get("copies", {})

    def _records(self) -> dict[str, Any]:
        return self._docs.tables.get("records", {})

    def _files(self, *, now: bool) -> Disk:
        readable = (doc for doc in self._copies().values() if doc["state"] in ("live", "condemned"))
        held = self._objects.held
        return frozenset((doc["key"], held[doc["_id"]].data) for doc in readable if doc["_id"] in held)

    def _sessions(self) -> list[str]:
        return list(dict.fromkeys(doc["sid"] for doc in self._records().values() if doc["state"] == "committed"))

    def log(self, sid: str) -> dict[int, File]:
        found: dict[int, File] = {}
        for token, doc in self._records().items():
            if doc["sid"] == sid and doc["state"] == "committed":
                assert doc["n"] not in found, f"I4: two records {doc['n']} in {sid}"
                if token not in self._texts:
                    self._texts[token] = File(doc["text"].encode(), 0)
                found[doc["n"]] = self._texts[token]
        return found

    def stored(self) -> dict[str, File]:
        return {key: File(data, 0) for key, data in self._files(now=True)}

    def check_left_over(self) -> None:
        """I7: no claim, no copy that is not live, no object without a document, no upload under way."""
        claims = [token for token, doc in self._records().items() if doc["state"] != "committed"]
        assert not claims, f"I7: claims {claims} are left after a clean collection"
        others = {doc["key"][:12]: doc["state"] for doc in self._copies().values() if doc["state"] != "live"}
        assert not others, f"I7: copies {others} are left after a clean collection"
        assert set(self._objects.held) == set(self._copies()), "I7: objects without a document are left"
        assert not self._objects.open_uploads, "I7: multipart uploads are left after a clean collection"
