"""Marking: which blobs anything refers to, and which versions a collection lets go. The reading half of ``collect``.

References only add up: what was seen once counts for the rest of the run, so that reading again later needs only the
records that are new. Fails closed (R9): whatever does not read raises, and then nothing is removed.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from dreamlake.catalog.fold import Fold, Kept
from dreamlake.errors import StateError, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.operations.collection import Collection, LetGo
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.references import Reason, References, Sessions, keys_of, reason_of
from dreamlake.operations.retention import decisions, rules_of
from dreamlake.ports import iso

TRIM_IDS = 50_000  # versions a record


class Marks:
    """The references that one collection has seen.

    Attributes:
        refs: blob key -> strongest reason.
        cutoff: versions deleted before this moment may go (one tick late: 0 seconds means all until now).
    """

    def __init__(self, store: Store, now: datetime, keep_deleted_s: float, report: Collection) -> None:
        self._store, self._now, self._kept_s, self._report = store, now, keep_deleted_s, report
        self.cutoff = iso(now - timedelta(seconds=keep_deleted_s) + timedelta(microseconds=1))
        self.refs = References()
        self._sessions = Sessions(store)
        self._seen: dict[SessionKey, int] = {}  # records taken into account so far
        self._going: dict[SessionKey, dict[str, bytes]] = {}  # session -> why -> ids of versions to forget

    def let_go(self) -> None:
        """Commit what is to be forgotten, durably, before any blob goes; then see what the folds really forgot.

        A version that was restored, or got an alias, in between is still there afterwards and counts.
        """
        for session, parts in self._going.items():
            for why, packed in parts.items():
                ids = packed.decode().split("\n")
                for start in range(0, len(ids), TRIM_IDS):
                    entry = {"op": "trim", "ids": ids[start : start + TRIM_IDS]}
                    if why == "deleted":
                        entry["deleted_before"] = self.cutoff
                    with contextlib.suppress(StateError):  # write-protected just now: then it keeps everything
                        commit(self._store, session, [entry])
            self.read_session(session, plan=False)
        self._going.clear()

    def read_pending(self, ignored: frozenset[str] = frozenset()) -> None:
        """Count what every claim needs; raises on an unreadable one."""
        self._report.claims = 0
        for claim in self._store.catalog.pending():
            if claim.token not in ignored:
                self._report.claims += 1
                for key in claim.record.needs:
                    self.refs.add(key, Reason.PENDING)

    def read_session(self, session: SessionKey, *, plan: bool) -> None:
        """Count what the versions of a session need; with ``plan``, decide first which of them may go."""
        fold = self._sessions.view(session)
        number = fold.n
        going: dict[str, list[str]] = {"deleted": [], "retention": []}
        waiting: list[str] = []
        retired = self._retired(fold) if plan else frozenset()
        for version in fold.kept():
            reason = reason_of(version)
            if plan and not fold.info.write_protected:
                if version.id in retired:
                    reason = Reason.RETIRED
                elif version.deleted_at is not None and version.deleted_at < self.cutoff:
                    reason = Reason.EXPIRED
            for key in keys_of(version):
                self.refs.add(key, reason)
            if not reason.keeps:
                why = "deleted" if reason is Reason.EXPIRED else "retention"
                going[why].append(version.id)
                self._report.lets_go(_let_go(session, version, why))
            elif version.deleted_at is not None and not fold.info.write_protected:
                waiting.append(version.deleted_at)
        if waiting:
            first, last = _later(min(waiting), self._kept_s), _later(max(waiting), self._kept_s)
            so_far = self._report.kept_until or (first, last)
            self._report.kept_until = min(first, so_far[0]), max(last, so_far[1])
        if any(going.values()):
            self._going[session] = {why: "\n".join(ids).encode() for why, ids in going.items() if ids}
        self._seen[session] = number
        self.read_newer(session)

    def _retired(self, fold: Fold) -> frozenset[str]:
        """Ids of versions that the session's retention rules let go."""
        try:
            rules = rules_of(fold)
        except UnsupportedFormat as error:
            self._report.notes.append(f"{error}; everything in this session is kept")
            return frozenset()
        if not rules or fold.info.write_protected or not fold.info.exists:
            return frozenset()
        return frozenset(d.version.id for d in decisions(fold, rules, self._now) if not d.keep)

    def read_newer(self, session: SessionKey) -> None:
        """Count what later records need; also fails closed on a gap, which a fold does not see."""
        for number, record in self._store.catalog.records(session, self._seen.get(session, 0)):
            for key in record.needs:
                self.refs.add(key, Reason.LIVE)
            self._seen[session] = number


def _let_go(session: SessionKey, version: Kept, why: str) -> LetGo:
    return LetGo(str(session), version.key, version.number, version.id, version.size_bytes, why)


def _later(moment: str, seconds: float) -> str:
    return iso(datetime.fromisoformat(moment.replace("Z", "+00:00")) + timedelta(seconds=seconds))
