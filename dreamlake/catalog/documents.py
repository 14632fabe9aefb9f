"""The catalog in a database: claims and commits are compare-and-sets of one document each (SPEC "Remote").

    records   {_id: token, sid, state, open, at, beat, n, text | pieces}      see ``INDEXES``
    sessions  {_id: sid, namespace, workspace, name}                          made before the first record

    state     arriving -> pending -> committed      arriving, pending -> revoked -> (removed); ``open`` until committed

Only a record with pieces is ever arriving or revoked: they are written, and removed, while nobody can commit it. Commit
sets ``n`` under a unique index of (sid, n): a number that is taken means that the next one may be free, so the log is
gapless and totally ordered. Reads see only what can not be rolled back any more (majority), so ``barrier`` has nothing
to do (R8); and in causal order, so a claim that a scan of the open ones no longer met is among the committed (R5).
Upholds I4 and I5. A token is inserted once: a claim whose reply was lost starts again under another one.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dreamlake.catalog import Claim, Committed
from dreamlake.catalog import record as records
from dreamlake.catalog.cached import ViewCache
from dreamlake.catalog.document_claims import OPEN, DocumentClaims, open_as
from dreamlake.catalog.document_log import LOG_INDEXES, DocumentLog
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import ClaimRevoked, Conflict, LakeError, OutcomeUnknown, Unavailable
from dreamlake.model import SessionKey
from dreamlake.ports import Ports
from dreamlake.services.docs import Docs, Filter

__all__ = ["INDEXES", "DocumentCatalog"]

INDEXES = (*LOG_INDEXES, OPEN)

CHECKPOINT_EVERY = 2048  # cost folded since the last checkpoint before a new one is written; one entry costs 1
RECORD_COST = 4  # fetching and reading one more record costs about as much as folding this many entries
STALE_S = 2.0  # how old a view may be that need not be fresh
_LEAPS = 4  # numbers tried one after the other before the log is read again


class _Tail:
    """A session's fold in this process, and what is needed to refresh it."""

    def __init__(self, fold: Fold) -> None:
        self.lock = threading.RLock()
        self.fold = fold
        self.cost = 0  # of the records folded since the newest checkpoint
        self.refreshed = -math.inf  # when the log was last read to its end, in seconds since the epoch


class DocumentCatalog(DocumentClaims):
    """``Catalog`` in a database in which ``INDEXES`` are.

    Args:
        ports: clock, ids, waiting; and the disk, for ``cache``.
        docs: the database.
        cache: folder of this machine for checkpoints of views, or None.
    """

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    FENCED_COMMIT = True
    READ_BACK = True

    def __init__(
        self, ports: Ports, docs: Docs, *, cache: str | None = None, checkpoint_every: int = CHECKPOINT_EVERY
    ) -> None:
        super().__init__(ports, docs)
        self._log, self._cache = DocumentLog(docs), ViewCache(ports, cache)
        self._checkpoint_every = checkpoint_every
        self._begin()

    def _begin(self) -> None:
        """Empty memory. A forked child begins anew: another thread may have held a lock while it was born."""
        self._pid = os.getpid()
        self._tails: dict[SessionKey, _Tail] = {}
        self._outcomes: dict[str, Sequence[Any]] = {}  # of this process's own commits, by token
        self._awaited: set[str] = set()
        self._lock = threading.Lock()

    # ---- commit --------------------------------------------------------------------------------------------------

    def commit(self, claim: Claim) -> Committed:
        tail = self._tail(claim.session)
        with self._lock:
            self._awaited.add(claim.token)
        try:
            begun = self._ports.now().timestamp()
            number = self._number(claim, tail)
            try:
                return Committed(number, self._outcome(claim, number, tail, begun))
            except Unavailable as error:
                text = f"committed as record {number} of {claim.session}; what became of it cannot be read now: {error}"
                raise OutcomeUnknown(text) from error
        finally:
            with self._lock:
                self._awaited.discard(claim.token)
                self._outcomes.pop(claim.token, None)

    def _outcome(self, claim: Claim, number: int, tail: _Tail, begun: float) -> Sequence[Any]:
        """What became of each entry of a claim that is record ``number`` now."""
        with tail.lock:
            if tail.fold.n == number - 1:  # nobody came between: its own record need not be fetched
                self._apply(tail, number, records.decode(records.encode(claim.record), f"claim {claim.token}"))
                self._keep(claim.session, tail)
                tail.refreshed = begun  # the number was free: nobody has committed anything else
            elif tail.fold.n < number:
                self._refresh(claim.session, tail)
        outcomes = self._outcomes.get(claim.token)
        return self._replayed(claim.session, number) if outcomes is None else outcomes

    def _number(self, claim: Claim, tail: _Tail) -> int:
        """Give the claim the next free number: the update is the commit, it needs the claim and the number at once."""
        if tail.refreshed < 0:
            with tail.lock:
                self._refresh(claim.session, tail)
        number, tried, lost, tries = tail.fold.n + 1, 0, False, self._tries()
        next(tries)
        while True:
            if number == 1:
                self._introduce(claim.session)
            try:
                if self._commit_as(claim, number):
                    return number
                return self._committed_as(claim)
            except Conflict:
                number, tried = number + 1, tried + 1
                if tried % _LEAPS == 0:  # far behind others: read what they wrote, all at once
                    with tail.lock:
                        self._refresh(claim.session, tail)
                    number = max(number, tail.fold.n + 1)
            except OutcomeUnknown:
                lost = True
                next(tries)  # once more: either the claim is still pending, or it was committed, which is read back
            except Unavailable as error:  # this call did not happen, but the one whose reply was lost may have
                if not lost:
                    raise
                raise OutcomeUnknown(str(error)) from error

    def _commit_as(self, claim: Claim, number: int) -> bool:
        change: dict[str, Any] = {"$set": {"state": "committed", "n": number}, "$unset": {"open": ""}}
        if self.FENCED_COMMIT:
            return self._docs.update("records", open_as(claim.token, "pending"), change)
        text = records.encode(claim.record).decode()  # mutation: commits although the claim may be gone
        change["$set"] |= {"sid": claim.session.sid, "text": text}
        return self._docs.update("records", {"_id": claim.token}, change, upsert=True)

    def _committed_as(self, claim: Claim) -> int:
        """The number of a claim that is no longer pending; raises ``ClaimRevoked`` if it was never committed.

        Looked up even when no reply was lost here: whatever lies between may deliver a request twice.
        """
        where: Filter = {"_id": claim.token, "state": "committed"}
        for doc in self._docs.find("records", where, fields=["n"]) if self.READ_BACK else ():
            return int(doc["n"])
        raise ClaimRevoked(f"claim {claim.token} was revoked")

    def _introduce(self, session: SessionKey) -> None:
        namespace, workspace, name = session.namespace, session.workspace, session.name
        doc = {"_id": session.sid, "namespace": namespace, "workspace": workspace, "name": name}
        for _ in self._known(lambda: bool(self._docs.insert("sessions", [doc]))):
            return

    # ---- reading -------------------------------------------------------------------------------------------------

    def records(self, session: SessionKey, after: int = 0) -> Iterator[tuple[int, Record]]:
        return self._log.records(session, after)

    def sessions(self, damaged: Callable[[LakeError], None] | None = None) -> list[SessionKey]:
        return self._log.sessions(damaged)

    def view(self, session: SessionKey, *, fresh: bool = True) -> Fold:
        tail = self._tail(session)
        with tail.lock:
            if fresh or not 0 <= self._ports.now().timestamp() - tail.refreshed <= STALE_S:
                self._refresh(session, tail)
            return tail.fold

    def barrier(self) -> None:
        return None

    def release(self, session: SessionKey) -> None:
        with self._lock:
            self._tails.pop(session, None)

    def mend(self, session: SessionKey, number: int, record: Record | None) -> bool:
        from dreamlake.catalog.mending_documents import put_back

        with contextlib.suppress(LakeError):
            if any(self.records(session, number - 1)):
                return False
        if record is None and self._tail(session).fold.n >= number:
            return False  # what it held is known to a checkpoint
        return put_back(self._ports, self._docs, session, number, record)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _tail(self, session: SessionKey) -> _Tail:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            tail = self._tails.get(session)
        if tail is not None:
            return tail
        made = _Tail(self._newest(session))
        with self._lock:
            return self._tails.setdefault(session, made)

    def _newest(self, session: SessionKey) -> Fold:
        """A fold on the newest checkpoint that belongs to this log, or an empty one."""
        for base in self._cache.load(session):
            where = {"sid": session.sid, "state": "committed", "n": base.n, "_id": base.token}
            if self._docs.count("records", where):
                return Fold(session, base)
        return Fold(session)

    def _refresh(self, session: SessionKey, tail: _Tail) -> None:
        """Fold the records that are new since the last refresh; keep a checkpoint when they have become many."""
        begun = self._ports.now().timestamp()
        for number, record in self.records(session, tail.fold.n):
            self._apply(tail, number, record)
        tail.refreshed = begun
        self._keep(session, tail)

    def _apply(self, tail: _Tail, number: int, record: Record) -> None:
        outcomes = tail.fold.apply(number, record)
        if record.token in self._awaited:
            self._outcomes[record.token] = outcomes
        tail.cost += RECORD_COST + len(record.entries)

    def _keep(self, session: SessionKey, tail: _Tail) -> None:
        held = tail.fold.base.seq if tail.fold.base else 0  # a checkpoint costs as much as its state is large
        if tail.cost < max(self._checkpoint_every, held / 16):
            return
        tail.cost = 0
        base = self._cache.save(session, tail.fold)
        if base is not None:
            tail.fold = Fold(session, base)

    def _replayed(self, session: SessionKey, number: int) -> Sequence[Any]:
        """Outcomes of a record that was folded before anybody asked: its commit was tried by an earlier call."""
        fold, outcomes = Fold(session), list[Any]()
        for n, record in self.records(session):
            outcomes = fold.apply(n, record)
            if n == number:
                break
        return outcomes
