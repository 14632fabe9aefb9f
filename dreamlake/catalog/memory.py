"""The catalog in memory: the shortest correct implementation of the seam, for tests and for reading the protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dreamlake.catalog import Claim, Committed, Pending
from dreamlake.catalog import record as records
from dreamlake.catalog.entries import check_entries
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import ClaimRevoked, LakeError
from dreamlake.model import SessionKey
from dreamlake.ports import Ports, iso


class MemoryCatalog:
    """``Catalog`` in one process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._claims: dict[str, tuple[Record, float]] = {}
        self._logs: dict[SessionKey, list[Record]] = {}
        self._folds: dict[SessionKey, Fold] = {}
        self._lock = threading.RLock()

    def claim(self, session: SessionKey, needs: Iterable[str], entries: Sequence[dict[str, Any]]) -> Claim:
        check_entries(entries, records.MAX_ENTRIES)
        token, now = self._ports.new_id(), self._ports.now()
        made = Record(token, self._ports.owner(), session, iso(now), tuple(needs), tuple(entries))
        record = records.decode(records.encode(made), token)  # what a reader of a file would see
        with self._lock:
            self._claims[token] = (record, now.timestamp())
        return Claim(session, token, record)

    def commit(self, claim: Claim) -> Committed:
        with self._lock:
            record, _ = self._claims.pop(claim.token, (None, 0.0))
            if record is None:
                raise ClaimRevoked(f"claim {claim.token} was revoked")
            log = self._logs.setdefault(claim.session, [])
            log.append(record)
            return Committed(len(log), self.view(claim.session).apply(len(log), record))

    def revoke(self, token: str) -> bool:
        with self._lock:
            return self._claims.pop(token, None) is not None

    def touch(self, claim: Claim) -> None:
        with self._lock:
            if claim.token in self._claims:
                self._claims[claim.token] = (claim.record, self._ports.now().timestamp())

    def records(self, session: SessionKey, after: int = 0) -> Iterator[tuple[int, Record]]:
        with self._lock:
            log = list(self._logs.get(session, []))
        yield from enumerate(log[after:], after + 1)

    def view(self, session: SessionKey, *, fresh: bool = True) -> Fold:
        with self._lock:
            if session not in self._folds:
                self._folds[session] = Fold(session)
            return self._folds[session]

    def pending(self) -> Iterator[Pending]:
        now = self._ports.now().timestamp()
        with self._lock:
            claims = list(self._claims.items())
        for token, (record, touched) in claims:
            yield Pending(token, record, now - touched)

    def unreadable(self) -> Iterator[tuple[str, float]]:
        return iter(())

    def sessions(self, damaged: Callable[[LakeError], None] | None = None) -> list[SessionKey]:
        with self._lock:
            return sorted(self._logs)

    def release(self, session: SessionKey) -> None:
        return None  # there is no other place to remember it

    def mend(self, session: SessionKey, number: int, record: Record | None) -> bool:
        return False  # nothing is ever missing here

    def barrier(self) -> None:
        return None
