"""Collection: removes what nothing refers to, beside running uploads and other collections (SPEC "Protocol", G0 to G6).

Owns the order of the steps: condemn (hide one physical copy), recheck claims and then commits, make durable what was
read, restore or remove exactly what was condemned. Any number of collections may run at once or die anywhere; what a
dead one leaves behind is readable, can be resurrected, and is adopted by the next. Fails closed (R9): an unreadable
claim or record, or a newer format, stops it before anything is removed. Times only choose victims of fenced steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from datetime import datetime, timedelta, timezone

from dreamlake.blobs import Copy
from dreamlake.catalog import Pending
from dreamlake.content.names import is_part
from dreamlake.errors import LakeError
from dreamlake.operations.collection import BRAKE_SHARE, Collection, Outcome, Tally
from dreamlake.operations.context import Store
from dreamlake.operations.forms import put_back
from dreamlake.operations.marking import Marks
from dreamlake.operations.packed import Packed
from dreamlake.operations.references import Reason
from dreamlake.ports import iso

TRASH_S = 86_400.0  # how long a condemned copy stays before it is removed: comfort, not safety
KEEP_DELETED_S = 7 * 86_400.0
CLAIM_AGE_S = 86_400.0  # claims and scratch not touched for that long are taken for abandoned

# Mutation switches (SPEC): rules that tests break on purpose to prove that they would notice.
CONDEMN = True  # False: unlink by name after one scan
RECHECK_AFTER_CONDEMN = True  # False: recheck first, then condemn
PENDING_FIRST = True  # False: read commits before claims
FRESH_BATCH = True  # False: all runs condemn under one name
BARRIER = True  # False: remove before what was read is durable
FORM_BARRIER = True  # False: likewise for stored forms (one that no longer needs its base may not be durable yet)

Rows = list[tuple[str, int]]
Progress = Callable[[str, int, int], None]  # phase, done, total (0: not known)


def collect(
    store: Store,
    *,
    now: bool = False,
    trash_s: float = TRASH_S,
    keep_deleted_s: float = KEEP_DELETED_S,
    dry_run: bool = False,
    force: bool = False,
    brake_share: float = BRAKE_SHARE,
    claim_age_s: float = CLAIM_AGE_S,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Collection:
    """Let go what was deleted long ago or what retention does not keep, and free what nothing refers to.

    Args:
        now: no trash time: remove at once.
        trash_s: seconds that a blob waits, condemned and readable, before it is removed.
        keep_deleted_s: seconds that a deleted version can still be restored.
        dry_run: only say what would happen.
        force: also when most of the lake would go (see ``Collection.brake``, ``brake_share``).
        claim_age_s: revoke claims that nobody has touched for that many seconds.
        progress: called with the phase and how far it is.
        executor: threads for condemning and removing; None does it in the calling one.

    Raises:
        InvalidInput: the brake; nothing was changed but left-over claims and scratch.
        Corrupt, UnsupportedFormat: something does not read; nothing was removed.
    """
    run = _Run(store, 0.0 if now else trash_s, keep_deleted_s, Collection(dry_run), progress, executor)
    run.clean(claim_age_s)
    run.survey()
    refusal = None if force else run.report.brake(brake_share)
    if dry_run:
        run.report.refused = str(refusal) if refusal else None
        return run.report
    if refusal:
        raise refusal
    run.marks.let_go()
    run.free()
    return run.report


class _Run:
    """One collection."""

    def __init__(
        self,
        store: Store,
        trash_s: float,
        keep_deleted_s: float,
        report: Collection,
        progress: Progress | None,
        executor: Executor | None,
    ) -> None:
        self.store, self.report, self._executor = store, report, executor
        self._progress = progress or (lambda phase, done, total: None)
        self._now, self._trash_s = store.ports.now(), trash_s
        self.marks = Marks(store, self._now, keep_deleted_s, report)
        self._refs = self.marks.refs
        self._ignored: frozenset[str] = frozenset()  # claims that a dry run would revoke
        self._copies = Packed(8)  # live copies, with their size; later only those that this run has condemned
        self._leftovers = Packed(12)  # condemned copies of earlier runs: size, and number of the batch
        self._batches: list[str] = []
        stamp = f"{self._now:%Y%m%dT%H%M%SZ}"
        self._batch = f"{stamp}-{store.ports.new_id()}" if FRESH_BATCH else "20000101T000000Z-one"

    # ---- G0: what there is ---------------------------------------------------------------------------------------

    def clean(self, age_s: float) -> None:
        """Revoke claims and remove scratch of processes that are dead or silent. Wrong guesses are safe (R3)."""
        ports, catalog, acts = self.store.ports, self.store.catalog, not self.report.dry_run

        def silent(claim: Pending) -> bool:
            return claim.age_s > age_s or ports.is_dead(claim.record.owner)

        found = [token for token, unread_s in catalog.unreadable() if unread_s > age_s]
        with contextlib.suppress(LakeError):  # an unreadable claim that stays will stop the survey
            found += [claim.token for claim in catalog.pending() if silent(claim)]
        if acts:
            self.report.revoked = sum(catalog.revoke(token) for token in found)
        else:
            self.report.revoked, self._ignored = len(found), frozenset(found)

        def abandoned(name: str, unused_s: float) -> bool:
            gone = unused_s > age_s or ports.scratch_is_abandoned(name)
            self.report.scratch.count += gone and not acts
            return gone and acts

        removed = self.store.blobs.sweep(abandoned)
        self.report.scratch.add(removed.size_bytes, removed.files)

    def survey(self) -> None:
        """Who refers to what, and which copies are there. Decides what is worth condemning; safety comes later."""
        self.marks.read_pending(self._ignored)
        sessions = self.store.catalog.sessions()
        self.report.sessions = len(sessions)
        for done, session in enumerate(sessions):
            self._progress("scan", done, len(sessions))
            self.marks.read_session(session)
        numbers: dict[str, int] = {}
        for done, copy in enumerate(self.store.blobs.copies(seals=False)):
            if done % 1000 == 0:
                self._progress("list", done, 0)
            self.marks.contents.note(copy.key)
            self.report.parts += is_part(copy.key)
            if copy.batch is None:
                self._copies.add(copy.key, copy.size)
            else:
                number = numbers.setdefault(copy.batch, len(numbers))
                self._leftovers.add(copy.key, number << 64 | copy.size)
        self._batches = list(numbers)
        self.marks.expand(self._copies)
        self._weigh()

    def _weigh(self) -> None:
        report = self.report
        for shard in self._copies.shards():
            rows, outcome = list(self._copies.rows(shard)), Outcome()
            reasons = self._refs.reasons([key for key, _ in rows])
            for (key, size), reason in zip(rows, reasons, strict=True):
                if reason is not None and reason.keeps:
                    report.stays(reason, size)
                    continue
                report.condemned.add(size)
                if reason is not Reason.EXPIRED:
                    report.unexplained.add(size)
                self._foresee(Copy(key, self._batch, size), outcome)
            report.took(outcome)
        for shard in self._leftovers.shards():
            outcome = Outcome()
            for copy in self._adopted(list(self._leftovers.rows(shard))):
                self._foresee(copy, outcome)
            report.took(outcome)

    def _foresee(self, copy: Copy, outcome: Outcome) -> None:
        """What a dry run expects to become of a condemned copy."""
        if not self.report.dry_run:
            return
        if self._refs.keeps(copy.key):
            outcome.restored.add(copy.size)
        elif self._due(str(copy.batch)):
            outcome.freed.add(copy.size)
        else:
            self._wait(copy, outcome)

    # ---- G1 to G6 ------------------------------------------------------------------------------------------------

    def free(self) -> None:
        self.report.condemned = Tally()  # so far it was what the survey expected
        if not RECHECK_AFTER_CONDEMN:
            self._recheck()
        for outcome in self._each("condemn", self._copies, self._condemn):
            self._copies.drop(outcome.shard)
            for key, size in outcome.rows:
                self._copies.add(key, size)
        if not self._copies.shards() and not self._leftovers.shards():
            return
        if self.report.condemned.count:
            self.report.batch = self._batch
        if self.store.blobs.settle_s > 0:  # other hosts may look through a cache (network file systems)
            self._progress("settle", 0, 0)
            self.store.ports.sleep(self.store.blobs.settle_s)
        if RECHECK_AFTER_CONDEMN:
            self._recheck()
        if BARRIER:
            self.store.catalog.barrier()
        if FORM_BARRIER:
            self.store.blobs.barrier(self.marks.parts_followed())
        for phase, rows, work in (("remove", self._copies, self._finish), ("adopt", self._leftovers, self._adopt)):
            for _ in self._each(phase, rows, work):
                pass

    def _each(self, phase: str, rows: Packed, work: Callable[[Rows], Outcome]) -> Iterator[Outcome]:
        """Do the work on every shard, in order; what became of them is added to the report."""
        shards = rows.shards()
        outcomes: Iterable[Outcome]
        if self._executor is None:
            outcomes = (work(list(rows.rows(shard))) for shard in shards)
        else:
            outcomes = self._executor.map(lambda shard: work(list(rows.rows(shard))), shards)
        for done, (shard, outcome) in enumerate(zip(shards, outcomes, strict=True)):
            self.report.took(outcome)
            self._progress(phase, done, len(shards))
            outcome.shard = shard
            yield outcome

    def _condemn(self, rows: Rows) -> Outcome:
        outcome, blobs = Outcome(), self.store.blobs
        reasons = self._refs.reasons([key for key, _ in rows])
        sizes = {key: size for (key, size), reason in zip(rows, reasons, strict=True) if not (reason and reason.keeps)}
        for copy in blobs.condemn_all(list(sizes), self._batch):
            if copy is not None:
                outcome.condemned.add(sizes[copy.key])
                outcome.rows.append((copy.key, sizes[copy.key]))
                if not CONDEMN:
                    blobs.settle(copy, keep=False)
        return outcome

    def _recheck(self) -> None:
        """Claims first, commits after: a reference moves only that way, so none is missed (R5)."""
        self._progress("recheck", 0, 0)
        if PENDING_FIRST:
            self.marks.read_pending()
        for session in self.store.catalog.sessions():
            self.marks.read_newer(session)
        if not PENDING_FIRST:
            self.marks.read_pending()
        if self.report.parts:
            self.marks.read_condemned()

    def _finish(self, rows: Rows) -> Outcome:
        return self._settle([Copy(key, self._batch, size) for key, size in rows])

    def _adopt(self, rows: Rows) -> Outcome:
        return self._settle(self._adopted(rows))

    def _adopted(self, rows: Rows) -> list[Copy]:
        return [Copy(key, self._batches[packed >> 64], packed & (1 << 64) - 1) for key, packed in rows]

    def _settle(self, copies: list[Copy]) -> Outcome:
        """Each condemned copy: live again if anything refers to it, gone if its time has come, else left (R6)."""
        outcome, due = Outcome(), []
        for copy, reason in zip(copies, self._refs.reasons([copy.key for copy in copies]), strict=True):
            if reason is not None and reason.keeps:
                if put_back(self.store, copy):
                    outcome.restored.add(copy.size)
            elif not self._due(str(copy.batch)):
                self._wait(copy, outcome)
            else:
                due.append(copy)
        for copy, done in zip(due, self.store.blobs.settle_all(due, keep=False), strict=True):
            if done:
                outcome.freed.add(copy.size)
        return outcome

    def _due(self, batch: str) -> bool:
        if self._trash_s <= 0:
            return True
        began = _began(batch)
        return began is not None and (self._now - began).total_seconds() >= self._trash_s

    def _wait(self, copy: Copy, outcome: Outcome) -> None:
        outcome.trash.add(copy.size)
        began = _began(str(copy.batch))
        if began is not None:
            outcome.trash_until = max(outcome.trash_until, iso(began + timedelta(seconds=self._trash_s)))


def _began(batch: str) -> datetime | None:
    """When a batch condemned its copies, from its name; None for a name that does not tell."""
    try:
        return datetime.strptime(batch[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
