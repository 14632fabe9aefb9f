"""Repair: put right what verify finds, from the trash, another lake, or files by content. Never drops a record.

Bad bytes are kept in quarantine and replaced in one step, so that a reader or an upload never finds nothing. What
cannot be healed is marked as not to be trusted: reading it raises ``Corrupt``, uploading the content again heals it.
While it works, a claim over everything it heals keeps collections away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dreamlake.catalog.record import Record
from dreamlake.content import reading
from dreamlake.content.names import is_coded
from dreamlake.errors import LakeError, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.findings import DAMAGE, Finding, Verification, exit_code
from dreamlake.operations.hashing import check_copy
from dreamlake.operations.references import find_versions
from dreamlake.operations.sources import Sources
from dreamlake.operations.verify import verify

_NEEDS_BYTES = frozenset({"blob-missing", "blob-damaged"})

Progress = Callable[[str, int, int], None]


@dataclass
class Repair:
    """What was put right (in a dry run: what would be), and what is left.

    Attributes:
        healed: (blob or record, where the good bytes came from).
        resealed: copies whose content was right but whose tamper mark was broken; it was renewed.
        left: findings that could not be put right.
    """

    dry_run: bool
    healed: list[tuple[str, str]] = field(default_factory=list)
    resealed: int = 0
    left: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when no damage is left, else as of ``Verification``."""
        return exit_code(self.left)

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "dryRun": self.dry_run,
            "healed": [{"where": where, "source": source} for where, source in self.healed],
            "resealed": self.resealed,
            "left": [finding.record() for finding in self.left],
            "exitCode": self.exit_code,
        }


def repair(
    store: Store,
    *,
    deep: bool = False,
    lakes: Sequence[Store] = (),
    twins: Sequence[Store] = (),
    folders: Sequence[str] = (),
    verification: Verification | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Repair:
    """Heal what is damaged.

    Args:
        deep: verify every byte first, to find damage that keeps size and time stamps.
        lakes: other lakes to take content from.
        twins: those of them that are copies of this very lake: lost records are taken from them, too.
        folders: files or folders to take content from, whatever the names. The lake's own trees are always tried.
        verification: what ``verify`` found already; default: it is run.
        dry_run: only say what would be healed from where.

    Raises ``OSError`` when the disk is full or read-only.
    """
    report = Repair(dry_run)
    progress = progress or (lambda phase, done, total: None)
    for session in _all_sessions(store, twins):
        _mend_log(store, session, twins, report)
    if verification is None:
        verification = verify(store, deep=deep, prove=True, progress=progress)
    _reseal(store, report, progress)
    findings = verification.findings
    wanted = {f.where: f.bytes for f in findings if f.kind in _NEEDS_BYTES}
    own = [store.root] if store.root is not None else []
    with _held(store, list(wanted), dry_run):
        sources = Sources(store, wanted, _contents(store, wanted), [*lakes, *twins], [*folders, *own])
        for done, finding in enumerate(findings):
            progress("repair", done, len(findings))
            _heal(store, finding, sources, report)
    return report


def _contents(store: Store, wanted: dict[str, int]) -> dict[str, set[tuple[str, int]]]:
    """For each recipe or part: the contents (digest, plain bytes) that cannot be read without it."""
    found: dict[str, set[tuple[str, int]]] = {}
    coded = {key for key in wanted if is_coded(key)}
    for _, version, keys in find_versions(store, coded.__contains__) if coded else ():
        for key in keys:
            found.setdefault(key, set()).add((version.digest, version.size_bytes))
    return found


def _heal(store: Store, finding: Finding, sources: Sources, report: Repair) -> None:
    key, acts = finding.where, not report.dry_run
    if finding.kind in _NEEDS_BYTES:
        for healer in sources.healers(key):
            if healer.heal() if acts else healer.holds():
                report.healed.append((key, healer.name))
                return
        report.left.append(finding)
        if acts:
            store.blobs.distrust(key)
    elif finding.kind == "orphan-damaged":
        if acts:
            store.blobs.distrust(key)
    elif finding.kind == "blob-condemned":
        if acts and not store.blobs.look(key, finding.bytes, reading.proof(key)):
            report.left.append(finding)
        else:
            report.healed.append((key, "the trash"))
    elif finding.severity == DAMAGE and not any(where == finding.where for where, _ in report.healed):
        report.left.append(finding)


def _reseal(store: Store, report: Repair, progress: Progress) -> None:
    """Copies with a broken tamper mark: right ones are marked again, the others are left to ``_heal``."""
    for done, copy in enumerate(store.blobs.copies()):
        if copy.sealed or copy.batch is not None:
            continue
        progress("reseal", done, 0)
        if check_copy(store, copy) == "":
            report.resealed += 1
            if not report.dry_run:
                store.blobs.trust(copy.key)


@contextlib.contextmanager
def _held(store: Store, keys: list[str], dry_run: bool) -> Iterator[None]:
    """A claim over these blobs, so that no collection takes what is healed. Never committed."""
    sessions = store.catalog.sessions(lambda error: None)
    if dry_run or not keys or not sessions:
        yield
        return
    claim = store.catalog.claim(sessions[0], keys, [{"op": "read"}])
    try:
        yield
    finally:
        store.catalog.revoke(claim.token)


# ---- records -----------------------------------------------------------------------------------------------------


def _all_sessions(store: Store, twins: Sequence[Store]) -> list[SessionKey]:
    found = {key for lake in (store, *twins) for key in lake.catalog.sessions(lambda error: None)}
    return sorted(found)


def _mend_log(store: Store, session: SessionKey, twins: Sequence[Store], report: Repair) -> None:
    """Put back the records of one session that are missing or do not read, as far as a twin has them."""
    after = 0
    while True:
        try:
            for number, _ in store.catalog.records(session, after):
                after = number
            return
        except UnsupportedFormat:
            return  # verify says so
        except LakeError:
            number = after + 1
        found = next((r for twin in twins if (r := _twin_record(store, twin, session, number)) is not None), None)
        if report.dry_run:
            if found is not None:
                report.healed.append((session.full, f"record {number} from a copy of this lake"))
            return
        if not store.catalog.mend(session, number, found):
            return  # verify says so
        source = "a copy of this lake" if found is not None else "nowhere: the gap is closed"
        report.healed.append((session.full, f"record {number} from {source}"))


def _twin_record(store: Store, twin: Store, session: SessionKey, number: int) -> Record | None:
    """Record ``number`` of a copy of this lake, if the records beside it are the same in both."""
    found = _one(twin, session, number)
    if found is None:
        return None
    pairs = [(_one(store, session, n), _one(twin, session, n)) for n in (number - 1, number + 1)]
    known = [(mine, theirs) for mine, theirs in pairs if mine is not None]
    same = all(theirs is not None and mine.token == theirs.token for mine, theirs in known)
    return found if known and same else None


def _one(store: Store, session: SessionKey, number: int) -> Record | None:
    if number < 1:
        return None
    try:
        return next((record for n, record in store.catalog.records(session, number - 1) if n == number), None)
    except LakeError:
        return None
