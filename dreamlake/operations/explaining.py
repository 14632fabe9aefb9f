"""From what does not read to what that means: which versions of which sessions a finding touches."""

from __future__ import annotations

from dreamlake.errors import LakeError, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.findings import MAX_AFFECTED, Finding, Problem, merged
from dreamlake.operations.references import find_versions, where


def record_finding(error: LakeError, session: str) -> Finding:
    """The finding for a log that does not read."""
    kind = "record-newer" if isinstance(error, UnsupportedFormat) else "record-damaged"
    if kind == "record-damaged" and "missing" in str(error):
        kind = "record-missing"
    return Finding(kind, session or str(error.path), str(error))


def explained(store: Store, problems: list[Problem]) -> list[Finding]:
    """Findings with the versions they touch. What nothing refers to any more meanwhile is no finding."""
    affected: dict[str, list[str]] = {}
    count: dict[str, int] = {}
    wanted = {problem.key for problem in problems if problem.size >= 0}
    readable: list[SessionKey] = []
    for session in store.catalog.sessions(lambda error: None) if wanted else []:
        try:
            store.catalog.view(session)
            readable.append(session)
        except LakeError:
            continue
    for session, version, keys in find_versions(store, wanted.__contains__, readable):
        for key in keys:
            count[key] = count.get(key, 0) + 1
            names = affected.setdefault(key, [])
            if len(names) < MAX_AFFECTED:
                names.append(where(session, version))
    return [_finding(p, affected, count) for p in merged(problems) if p.size < 0 or p.key in affected]


def _finding(problem: Problem, affected: dict[str, list[str]], count: dict[str, int]) -> Finding:
    names, blobs = tuple(affected.get(problem.key, ())), problem.blobs
    if blobs > 1:
        return Finding(problem.kind, f"{blobs:,} blobs", problem.detail, names[:1], blobs, problem.size)
    return Finding(problem.kind, problem.key, problem.detail, names, count.get(problem.key, 1), max(problem.size, 0))
