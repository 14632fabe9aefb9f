"""Findings: what verification saw, as data. Severity says what it means for the user's content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dreamlake.errors import Corrupt, UnsupportedFormat

MAX_AFFECTED = 100  # versions named in one finding

NOTE = "note"  # nothing is wrong: for information
WARNING = "warning"  # nothing is lost, but something should be done
DAMAGE = "damage"  # content or history cannot be read (any more)

# kind -> severity, what it means, the way out
KINDS: dict[str, tuple[str, str, str]] = {
    "record-damaged": (DAMAGE, "a record of the session's log does not read", "repair --from a copy of this lake"),
    "record-missing": (DAMAGE, "a record of the session's log is missing", "repair (--from a copy of this lake)"),
    "record-newer": (DAMAGE, "a newer release wrote this", "verify with that release"),
    "blob-missing": (DAMAGE, "the content is not stored", "repair --from LAKE or DIR, or upload the file again"),
    "blob-damaged": (DAMAGE, "the stored bytes are not the content", "repair --from LAKE or DIR, or upload it again"),
    "blob-unsealed": (WARNING, "written to, or copied without time stamps, since it was stored", "repair checks it"),
    "blob-condemned": (NOTE, "only in the trash, though referenced", "the next gc brings it back"),
    "orphan-damaged": (WARNING, "bad bytes that nothing refers to", "repair marks them, gc removes them"),
    "orphan": (NOTE, "blobs that nothing refers to", "gc removes them"),
    "trash": (NOTE, "condemned blobs wait for the end of the trash time", "gc removes them; gc --now at once"),
    "scratch": (NOTE, "scratch files of uploads under way or cut short", "gc removes those of dead processes"),
    "quarantine": (NOTE, "bad bytes kept for inspection", "remove the files by hand when nobody needs them"),
    "claim-damaged": (WARNING, "a claim does not read, so nothing can be collected", "gc revokes it after a day"),
    "session-folder-missing": (WARNING, "the session's folder is gone", "put it back, or open the session again"),
    "session-folder-moved": (WARNING, "the session's folder was moved", "move it back"),
    "session-folder-copied": (WARNING, "a copy of a session's folder", "remove it, or import it as a new session"),
    "session-folder-unknown": (WARNING, "a session of another lake", "remove it, or import it"),
    "session-file-missing": (WARNING, "session.json is missing", "open the session again: that writes it"),
    "session-file-damaged": (WARNING, "session.json does not read", "open the session again: that writes it"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that verification saw.

    Attributes:
        kind: one of ``KINDS``; gives ``severity``, what it means, and ``remedy``.
        where: the blob, file or session it is about.
        detail: more about this very case.
        affected: versions whose content it touches, ``workspace/session:/path@vN``, the first ``MAX_AFFECTED``.
        count: how many there are in all (versions, blobs or files). bytes: what they take, or 0.
    """

    kind: str
    where: str
    detail: str = ""
    affected: tuple[str, ...] = ()
    count: int = 1
    bytes: int = 0

    @property
    def severity(self) -> str:
        return KINDS[self.kind][0]

    @property
    def remedy(self) -> str:
        return KINDS[self.kind][2]

    def text(self) -> str:
        """One line for people."""
        more = f" ({self.detail})" if self.detail else ""
        hit = f"; affects {self.affected[0]}" if self.affected else ""
        if len(self.affected) > 1:
            hit += f" and {self.count - 1:,} more"
        return f"{self.severity}: {self.where}: {KINDS[self.kind][1]}{more}{hit}. Remedy: {self.remedy}."

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "where": self.where,
            "meaning": KINDS[self.kind][1],
            "detail": self.detail,
            "affected": list(self.affected),
            "count": self.count,
            "bytes": self.bytes,
            "remedy": self.remedy,
        }


class Problem(NamedTuple):
    """A blob that is not as it should be. ``size``: plain bytes that it should have, -1 when nothing refers to it.

    ``blobs`` over 1: that many blobs of this kind, of which ``key`` is one; ``size`` is their sum.
    """

    kind: str
    key: str
    detail: str
    size: int
    blobs: int = 1


def merged(problems: Iterable[Problem]) -> list[Problem]:
    """The same problems with one entry for all unsealed copies of one detail: in a lake copied by hand, all are."""
    rest, unsealed = [], dict[str, Problem]()
    for problem in problems:
        if problem.kind != "blob-unsealed":
            rest.append(problem)
            continue
        so_far = unsealed.get(problem.detail)
        if so_far is not None:
            problem = so_far._replace(size=so_far.size + problem.size, blobs=so_far.blobs + problem.blobs)
        unsealed[problem.detail] = problem
    return rest + list(unsealed.values())


@dataclass
class Verification:
    """What was looked at, and what was found.

    Attributes:
        sessions, records: whose logs were read. copies: physical copies looked at. hashed, hashed_bytes: read whole.
    """

    deep: bool
    shard: tuple[int, int] = (1, 1)
    findings: list[Finding] = field(default_factory=list)
    sessions: int = 0
    records: int = 0
    copies: int = 0
    hashed: int = 0
    hashed_bytes: int = 0

    @property
    def damaged(self) -> bool:
        return any(finding.severity == DAMAGE for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: nothing is lost (there may be notes and warnings). 5: damage. 7: only what a newer release wrote."""
        return exit_code(self.findings)

    def record(self) -> dict[str, Any]:
        """The summary as JSON values, without the findings."""
        return {
            "deep": self.deep,
            "shard": f"{self.shard[0]}/{self.shard[1]}",
            "sessions": self.sessions,
            "records": self.records,
            "copies": self.copies,
            "hashed": self.hashed,
            "hashedBytes": self.hashed_bytes,
            "findings": len(self.findings),
            "damage": sum(finding.severity == DAMAGE for finding in self.findings),
            "exitCode": self.exit_code,
        }


def exit_code(findings: Iterable[Finding]) -> int:
    kinds = {finding.kind for finding in findings if finding.severity == DAMAGE}
    if not kinds:
        return 0
    return UnsupportedFormat.exit_code if kinds == {"record-newer"} else Corrupt.exit_code
