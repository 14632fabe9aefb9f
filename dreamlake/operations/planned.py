"""A plan of materialize as a value: what was asked for, and what would be done. Pure; made by ``treeplan``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from dreamlake.errors import InvalidInput
from dreamlake.model import SessionKey
from dreamlake.operations.globs import path_test
from dreamlake.operations.placed import LINKS, Mark, Placed
from dreamlake.operations.placing import Job
from dreamlake.operations.survey import Problem, State
from dreamlake.ports import Stat


@dataclass(frozen=True)
class Options:
    """What to build and how.

    Attributes:
        path: glob on the logical path; only files that match are looked at, placed or removed.
        at: the tree as it was at a time (ISO-8601 or datetime; without a zone UTC), or up to a version number (``3``,
            ``"v3"``): each file in its newest version up to that number.
        link: ``auto`` (share blocks where the file system can, else copy), ``reflink``, ``hardlink``, ``symlink``,
            ``copy``. Hard links are read-only; content that is not stored as a plain file is always copied.
        force: overwrite files that were edited.
        delete: remove files that materialize placed earlier and that are no longer in the tree.
    """

    path: str | None = None
    at: str | int | datetime | None = None
    link: str = "auto"
    force: bool = False
    delete: bool = False

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise InvalidInput(f"link={self.link!r}; use {', '.join(LINKS)}")

    def selects(self) -> Callable[[str], bool]:
        return (lambda key: True) if self.path is None else path_test(self.path)


@dataclass
class TreePlan:
    """The plan for one session's ``files`` folder. Paths in ``obsolete`` and ``extra`` are logical."""

    session: SessionKey
    base: str  # its files folder, relative to the target root
    placed: Placed
    jobs: list[tuple[State, Job]] = field(default_factory=list)
    unchanged: int = 0
    adopted: list[tuple[str, Mark]] = field(default_factory=list)  # right content, found under new facts
    conflicts: list[Problem] = field(default_factory=list)
    obsolete: list[tuple[str, Stat]] = field(default_factory=list)  # ours, untouched, no longer in the tree
    forgotten: list[str] = field(default_factory=list)  # ours, no longer in the tree, and gone already
    extra: list[str] = field(default_factory=list)  # not ours; filled only when asked for
    leftovers: list[str] = field(default_factory=list)  # scratch of dead runs, absolute
    folders: set[str] = field(default_factory=set)  # directories that files of the tree lie in
    there: set[str] = field(default_factory=set)  # those of them, and of their parents, that exist


@dataclass
class Plan:
    """What ``execute`` would do below ``root``."""

    root: str
    options: Options
    trees: list[TreePlan] = field(default_factory=list)

    def files(self, state: State) -> list[tuple[SessionKey, str]]:
        """Files that are to be placed, by why: MISSING, STALE, RELINK, or EDITED (with force)."""
        return [(t.session, job.key) for t in self.trees for why, job in t.jobs if why == state]

    @property
    def bytes(self) -> int:
        return sum(job.size for t in self.trees for _, job in t.jobs)

    @property
    def conflicts(self) -> list[Problem]:
        return [problem for t in self.trees for problem in t.conflicts]

    @property
    def in_order(self) -> bool:
        """True when the tree is exactly as it should be (extra and obsolete files count as disorder)."""
        return not any(t.jobs or t.conflicts or t.obsolete or t.extra for t in self.trees)

    def actions(self) -> Iterator[tuple[str, str]]:
        """(action, path relative to the root) of everything that would change or stands in the way."""
        for tree in self.trees:
            yield from (("remove", tree.base + key) for key, _ in tree.obsolete if self.options.delete)
            for why, job in tree.jobs:
                yield ("place" if why is State.ABSENT else "replace"), tree.base + job.key
            yield from (("conflict", tree.base + p.key) for p in tree.conflicts)
