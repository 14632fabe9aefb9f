"""Marking: which blobs anything refers to, and which versions a collection lets go. The reading half of ``collect``.

References only add up: what was seen once counts for the rest of the run, so that reading again later needs only the
records that are new. Fails closed (R9): whatever does not read raises, and then nothing is removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from dreamlake.blobs import Copy
from dreamlake.catalog.fold import Fold, Kept
from dreamlake.content.assembled import copy_needs
from dreamlake.content.names import PARTS, is_part, recipe_keys, twin
from dreamlake.errors import LakeError, NotFound, StateError, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.operations.collection import Collection, LetGo
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.packed import Packed
from dreamlake.operations.references import Contents, Reason, References, Sessions, reason_of
from dreamlake.operations.retention import decisions, rules_of
from dreamlake.ports import iso

# Mutation switch (SPEC): False follows only the copy of a part that a reader would open first.
FOLLOW_EVERY_COPY = True
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
        self.contents = Contents(store.blobs)
        self._followed: dict[str, Reason] = {}  # parts whose bases were counted, and as what
        self._sessions = Sessions(store)
        self._seen: dict[SessionKey, int] = {}  # records taken into account so far
        self._going: dict[SessionKey, dict[str, bytes]] = {}  # session -> why -> ids of versions to forget

    def let_go(self) -> None:
        """Commit what is to be forgotten, durably, before any blob goes; then see what the folds really forgot.

        A version that was restored, or got an alias, in between is still there afterwards and counts.
        """
        for session, parts in self._going.items():
            asked: set[str] = set()
            for why, packed in parts.items():
                ids = packed.decode().split("\n")
                asked.update(ids)
                for start in range(0, len(ids), TRIM_IDS):
                    entry = {"op": "trim", "ids": ids[start : start + TRIM_IDS]}
                    if why == "deleted":
                        entry["deleted_before"] = self.cutoff
                    with contextlib.suppress(StateError):  # write-protected just now: then it keeps everything
                        commit(self._store, session, [entry])
            for version in self._sessions.view(session).kept():
                if version.id in asked:
                    self._count(version.digest, reason_of(version))
        self._going.clear()

    def read_pending(self, ignored: frozenset[str] = frozenset()) -> None:
        """Count what every claim needs; raises on an unreadable one."""
        self._report.claims = 0
        for claim in self._store.catalog.pending():
            if claim.token not in ignored:
                self._report.claims += 1
                for key in claim.record.needs:
                    self._count(key, Reason.PENDING)

    def read_session(self, session: SessionKey) -> None:
        """Decide which versions of a session may go, and count what the others need."""
        fold = self._sessions.view(session)
        self._seen[session] = fold.n
        going: dict[str, list[str]] = {"deleted": [], "retention": []}
        waiting: list[str] = []
        retired, frozen = self._retired(fold), fold.info.write_protected
        for version in fold.kept():
            reason = reason_of(version)
            if version.id in retired:
                reason = Reason.RETIRED
            elif version.deleted_at is not None and not frozen:
                if version.deleted_at < self.cutoff:
                    reason = Reason.EXPIRED
                else:
                    waiting.append(version.deleted_at)
            self.refs.add(version.digest, reason)
            if not reason.keeps:
                why = "deleted" if reason is Reason.EXPIRED else "retention"
                going[why].append(version.id)
                self._report.lets_go(_let_go(session, version, why))
        if waiting:
            first, last = _later(min(waiting), self._kept_s), _later(max(waiting), self._kept_s)
            so_far = self._report.kept_until or (first, last)
            self._report.kept_until = min(first, so_far[0]), max(last, so_far[1])
        if any(going.values()):
            self._going[session] = {why: "\n".join(ids).encode() for why, ids in going.items() if ids}
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
                self._count(key, Reason.LIVE)
            self._seen[session] = number

    def _count(self, key: str, reason: Reason) -> None:
        """Count a need and all that it needs: a restore names only the content, an upload only the next bases."""
        self.refs.add(key, reason)
        if is_part(key):
            self._follow([key], reason)
        elif self.contents.has_recipe(key):
            self._expand(key[-64:], reason)

    def expand(self, live: Packed) -> None:
        """Count what the recipes of all referenced contents need. Called once, after all sessions were read.

        Sessions first, recipes after: a recipe that is stored later belongs to a record that is read later, too, and
        that names all it needs. ``live``: all live copies.
        """
        for digest in self.contents.recipes():
            reason = self.refs.reason(digest)
            if reason is not None:
                self._expand(digest, reason)
        if any(shard.startswith(PARTS) for shard in live.shards()):
            self._look_for_lost(live)

    def read_condemned(self) -> None:
        """Count what condemned copies of needed parts need, and what the live copies beside them need.

        Copies of one part may need different bases, and a reference may rely on any of them. Bases may have such
        copies, too: so this lists until it finds nothing new.
        """
        read: set[tuple[str, str | None]] = set()
        new = FOLLOW_EVERY_COPY
        while new:
            new = False
            for copy in self._store.blobs.condemned():
                if is_part(copy.key) and (copy.key, copy.batch) not in read and self.refs.keeps(copy.key):
                    read.add((copy.key, copy.batch))
                    reason = self.refs.reason(copy.key) or Reason.UNKNOWN
                    for each in (copy, Copy(copy.key, None, 0)):
                        new |= self._follow_copy(each, reason)

    def _follow_copy(self, copy: Copy, reason: Reason) -> bool:
        try:
            bases = [base for base, _ in copy_needs(self._store.blobs, copy)]
        except NotFound:
            return False
        except (LakeError, OSError) as error:
            self._keep_every_part(f"the part {copy.key} cannot be read: {error}")
            return True
        self._follow(bases, reason)
        return bool(bases)

    def parts_followed(self) -> list[str]:
        """Parts whose stored forms said which bases are needed."""
        return list(self._followed)

    def _look_for_lost(self, live: Packed) -> None:
        """Content that is referenced and not stored may be a recipe that got lost: its parts must not follow it."""
        for shard in self.refs.shards():
            stored = {key for key, _ in live.rows(shard)}
            for digest in self.refs.kept(shard):
                lost = digest not in stored and not self.contents.has_recipe(digest)
                if lost and len(digest) == 64 and not self._stored_now(digest):
                    self._keep_every_part(f"the content {digest} is missing")
                    return

    def _stored_now(self, digest: str) -> bool:
        for key in (digest, *recipe_keys(digest)):
            with contextlib.suppress(NotFound):
                self._store.blobs.open(key).close()
                return True
        return False

    def _keep_every_part(self, why: str) -> None:
        if self.refs.every_part is None:
            self.refs.every_part = why
            self._report.notes.append(f"{why}; every part is kept until it is repaired")

    def _expand(self, digest: str, reason: Reason) -> None:
        for key in recipe_keys(digest):
            self.refs.add(key, reason)
        try:
            parts = self.contents.parts(digest)
        except (LakeError, OSError) as error:
            if reason.keeps:
                self._keep_every_part(f"the recipe of {digest} cannot be read: {error}")
            return
        self._follow(parts, reason)

    def _follow(self, parts: Iterable[str], reason: Reason) -> None:
        """Count parts and the chains of their bases. One that does not read may need any part (R9)."""
        waiting = list(parts)
        self.contents.look_ahead(key for key in waiting if self._followed.get(key, reason + 1) > reason)
        while waiting:
            key = waiting.pop()
            before = self._followed.get(key)
            if before is not None and before <= reason:
                continue
            self._followed[key] = reason
            self.refs.add(key, reason)
            try:
                waiting += [base for base, _ in self.contents.bases(key)]
            except NotFound:
                del self._followed[key]  # lost, or not there yet: then the claim names its base, too
                self._follow_twin(key, reason)
            except (LakeError, OSError) as error:
                if reason.keeps:
                    self._keep_every_part(f"the part {key} cannot be read: {error}")

    def _follow_twin(self, key: str, reason: Reason) -> None:
        """Where a part is not in the slot that is named, readers take it from the other one."""
        other = twin(key)
        if self._followed.get(other, reason + 1) > reason and self._store.blobs.copies_of(other):
            self._follow([other], reason)


def _let_go(session: SessionKey, version: Kept, why: str) -> LetGo:
    return LetGo(session.full, version.key, version.number, version.id, version.size_bytes, why)


def _later(moment: str, seconds: float) -> str:
    return iso(datetime.fromisoformat(moment.replace("Z", "+00:00")) + timedelta(seconds=seconds))
