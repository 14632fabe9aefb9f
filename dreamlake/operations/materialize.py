"""Materialize: build the documented tree ``<root>/<workspace>/<session>/files/<path>/<filename>`` on disk.

``treeplan.plan`` says what would be done, ``execute`` does it. What was placed is remembered (``placed``), so that a
second run is quick and a local edit is told from a file of ours. A local edit is never overwritten without ``force``,
nothing is written through a symbolic link, and ``delete`` removes only what materialize itself placed and nobody has
touched since (I8, I11). While it runs it holds claims over the content it reads, so that no collector takes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from operator import attrgetter

from dreamlake.catalog import Claim
from dreamlake.errors import AccessDenied, InvalidInput
from dreamlake.inside import link_below
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.placing import BATCH_BYTES, Job, Opener, Outcome, Placer, Progress, batches, twins_apart
from dreamlake.operations.planned import Options, Plan, TreePlan
from dreamlake.operations.survey import SCRATCH_PREFIX, Problem, unchanged
from dreamlake.operations.treeplan import plan, problem
from dreamlake.operations.wanted import sessions_of

__all__ = ["Materialized", "Options", "Plan", "Problem", "execute", "plan", "sessions_of"]

_TOUCH_S = 600.0  # a claim not touched for a day may be taken for a dead one's
_MISSING = ("gone", "damaged")
_Why = tuple[str, str, str]  # the first fields of a Problem
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass
class Materialized:
    """What a run did.

    Attributes:
        root: target root.
        placed: files written; ``bytes`` is their size in sum.
        unchanged: files that were right already.
        removed: files removed because they are no longer in the tree (``delete``).
        obsolete: files placed earlier, no longer in the tree, and left there.
        links: how many files were made by each kind: copy, reflink, hardlink, symlink.
        conflicts: files left alone, and why.
        missing: files whose content is no longer stored, or is damaged.
    """

    root: str
    placed: int = 0
    bytes: int = 0
    unchanged: int = 0
    removed: int = 0
    obsolete: int = 0
    links: dict[str, int] = field(default_factory=dict)
    conflicts: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when the tree now is as asked for."""
        return not (self.conflicts or self.missing)


def execute(
    store: Store,
    todo: Plan,
    *,
    executor: Executor | None = None,
    opener: Opener | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Materialized:
    """Do what a plan says.

    Args:
        executor: run the work there instead of in threads; the store and the target must be reachable from it.
        opener: opens the store there; default: what it consists of is sent.
        workers: number of threads (default: one a core, at most 8).
        progress: called with bytes done, from any thread.

    Raises:
        InvalidInput: hard links or reflinks were asked for and cannot be made there; nothing was changed.
        OSError: the disk is full or cannot be written to; what was placed until then is whole, and remembered.
    """
    result = Materialized(todo.root, unchanged=sum(t.unchanged for t in todo.trees), conflicts=list(todo.conflicts))
    run = _Run(store, todo, result, progress)
    run.placer.opener = opener
    run.probe()
    try:
        with run.claims():
            for tree in todo.trees:
                run.prepare(tree)
            if executor is not None:
                run.place_with(executor)
            elif run.small:
                run.place_here(run.batches)
            else:
                count = workers or min(8, os.cpu_count() or 1)
                with ThreadPoolExecutor(count, thread_name_prefix="dreamlake-place") as pool:
                    run.place_with(pool, stop=threading.Event())
            run.place_here(run.late)
    finally:
        for tree in todo.trees:
            tree.placed.save(last=True)
    return result


@contextlib.contextmanager
def reading_claim(store: Store, session: SessionKey, digests: Set[str]) -> Iterator[list[Claim]]:
    """Keeps contents from collections while they are read; never committed (SPEC "Protocol": Materialise).

    Yields the claim, or nothing: none is needed, or none can be made, because the store may only be read.
    """
    claims: list[Claim] = []
    if digests:
        try:
            claims.append(store.catalog.claim(session, digests, [{"op": "read"}]))
        except OSError as error:
            if error.errno not in _READ_ONLY and not isinstance(error, AccessDenied):
                raise
    try:
        yield claims
    finally:
        for claim in claims:
            with contextlib.suppress(OSError):
                store.catalog.revoke(claim.token)


class _Run:
    """One execution of a plan. Only the calling thread touches it; workers get a ``Placer`` and jobs."""

    def __init__(self, store: Store, todo: Plan, result: Materialized, progress: Progress | None) -> None:
        self.store, self.todo, self.result, self.progress = store, todo, result, progress
        self.fs = store.ports.fs
        self.placer = Placer(store.blobs, store.ports, todo.options.link, todo.root, progress=progress)
        self.batches: list[tuple[TreePlan, list[Job]]] = []
        self.late: list[tuple[TreePlan, list[Job]]] = []  # names that may be taken by one in ``batches``
        self._claims: list[Claim] = []
        self._touched = time.monotonic()

    # ---- before --------------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Can the asked-for kind of link be made there at all? Tried once, with the first file that allows it."""
        link = self.todo.options.link
        if link not in ("hardlink", "reflink"):
            return
        for tree in self.todo.trees:
            for _, job in tree.jobs:
                source = None
                with contextlib.suppress(OSError, ValueError):  # this one's trouble is reported when its turn comes
                    source = self.placer.raw_file(job.digest, job.size)
                if source is not None:
                    self._probe_with(source, link)
                    return

    def _probe_with(self, source: str, link: str) -> None:
        root = self.todo.root
        self.fs.make_dir(root)
        scratch = f"{root}/{SCRATCH_PREFIX}{self.store.ports.scratch_name('probe')}"
        try:
            if link == "hardlink":
                self.fs.link(source, scratch)
                possible = True
            else:
                possible = self.fs.clone(source, scratch)
        except OSError:
            possible = False
        with contextlib.suppress(OSError):
            self.fs.unlink(scratch)
        if not possible:
            text = f"this file system allows no {link} from the store to {root}; use copy, symlink or auto"
            raise InvalidInput(text, path=root)

    @contextlib.contextmanager
    def claims(self) -> Iterator[None]:
        """Claims over all content that will be read."""
        with contextlib.ExitStack() as stack:
            for tree in self.todo.trees:
                needs = {job.digest for _, job in tree.jobs}
                self._claims += stack.enter_context(reading_claim(self.store, tree.session, needs))
            yield

    def prepare(self, tree: TreePlan) -> None:
        """Everything but the content: scratch of dead runs, files to remove, folders to make."""
        for path in tree.leftovers:
            self._unlink(path)
        for key in tree.forgotten:
            tree.placed.forget(key)
        for key, mark in tree.adopted:
            tree.placed.put(key, mark)
        if self.todo.options.delete:
            self._remove(tree)
        else:
            self.result.obsolete += len(tree.obsolete)
        blocked = self._make_folders(tree)
        jobs = []
        for _, job in tree.jobs:
            why = blocked.get(job.path.rpartition("/")[0])
            if why is None:
                jobs.append(job)
            else:
                self.result.conflicts.append(Problem(*why, tree.session, job.key))
        tree.placed.save()
        first, late = twins_apart(jobs)
        first.sort(key=attrgetter("seq"))
        self.batches += [(tree, batch) for batch in batches(first)]
        self.late += [(tree, batch) for batch in batches(late)]

    def _remove(self, tree: TreePlan) -> None:
        for key, seen in tree.obsolete:
            path = f"{self.todo.root}/{tree.base}{key}"
            try:
                if not unchanged(seen, self.fs.lstat(path)):
                    self.result.conflicts.append(problem(tree.session, key, "edited", path))
                    continue
                self.fs.unlink(path)
            except FileNotFoundError:
                pass
            else:
                self.result.removed += 1
            tree.placed.forget(key)
        needed = {parent for folder in tree.folders for parent in _with_parents(folder)}
        for folder in sorted(tree.placed.folders - needed, key=lambda path: -path.count("/")):
            try:
                if link_below(self.fs, self.todo.root, f"{self.todo.root}/{folder}") is None:
                    self.fs.remove_dir(f"{self.todo.root}/{folder}")
            except FileNotFoundError:
                tree.placed.forget_folder(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
                    raise
            else:
                tree.placed.forget_folder(folder)

    def _make_folders(self, tree: TreePlan) -> dict[str, _Why]:
        """Make the folders that jobs need, parents first, in upload order. Returns those that cannot be used, and why.

        Of two names that the file system takes for one, the first uploaded one gets the place.
        """
        if not tree.jobs:
            return {}
        root = self.todo.root.rstrip("/")
        self.fs.make_dir(self.todo.root)
        blocked: dict[str, _Why] = {}
        needed = dict.fromkeys(job.path.rpartition("/")[0][len(root) + 1 :] for _, job in tree.jobs)
        for folder in dict.fromkeys(parent for path in needed for parent in _with_parents(path)):
            why = blocked.get(f"{root}/{folder}".rpartition("/")[0]) or self._make_folder(tree, root, folder)
            if why is not None:
                blocked[f"{root}/{folder}"] = why
        return blocked

    def _make_folder(self, tree: TreePlan, root: str, folder: str) -> _Why | None:
        path, parent, name = f"{root}/{folder}", *f"{root}/{folder}".rpartition("/")[::2]
        try:
            if not stat.S_ISDIR(self.fs.lstat(path).mode):  # a link among them: nothing is written through it
                return "symlink", path, f"{path} has become a file or a symbolic link; move it away"
        except FileNotFoundError:
            if self.fs.make_dir(path):
                tree.placed.add_folder(folder)
                return None
        if folder in tree.there or folder in tree.placed.folders or name in self.fs.list(parent):
            return None
        return "same-name", path, f"this file system takes {path} for the name of another folder"

    # ---- placing -------------------------------------------------------------------------------------------------

    @property
    def small(self) -> bool:
        return sum(len(jobs) for _, jobs in self.batches) <= 1 or (
            len(self.batches) == 1 and sum(job.size for job in self.batches[0][1]) < BATCH_BYTES
        )

    def place_here(self, batches: Sequence[tuple[TreePlan, list[Job]]]) -> None:
        for tree, jobs in batches:
            self._take(tree, self.placer.place_all(jobs))

    def place_with(self, executor: Executor, *, stop: threading.Event | None = None) -> None:
        """Place all batches there. With ``stop`` the executor is our own threads, which it ends early."""
        placer = replace(self.placer, progress=self.progress if stop is not None else None, stop=stop)
        waiting: dict[Future[list[Outcome]], TreePlan] = {}
        try:
            for tree, jobs in self.batches:
                waiting[executor.submit(placer.place_all, jobs)] = tree
            while waiting:
                done, _ = wait(waiting, timeout=_TOUCH_S / 10, return_when=FIRST_COMPLETED)
                for future in done:
                    outcomes = future.result()
                    self._take(waiting.pop(future), outcomes)
                    if stop is None and self.progress is not None:
                        self.progress(sum(o.job.size for o in outcomes if o.mark is not None))
                self._touch()
        except BaseException:
            if stop is not None:
                stop.set()
            for future in waiting:
                future.cancel()
            self._collect(waiting)
            raise

    def _collect(self, waiting: dict[Future[list[Outcome]], TreePlan]) -> None:
        """Remember what the others still finished, so that it is known as ours."""
        for future, tree in waiting.items():
            with contextlib.suppress(BaseException):
                if not future.cancelled():
                    self._take(tree, future.result())

    def _take(self, tree: TreePlan, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            job, mark = outcome.job, outcome.mark
            if mark is None:
                found = Problem(outcome.code, job.path, outcome.reason, tree.session, job.key)
                (self.result.missing if outcome.code in _MISSING else self.result.conflicts).append(found)
                continue
            tree.placed.put(job.key, mark)
            if outcome.there:
                self.result.unchanged += 1
                continue
            self.result.placed += 1
            self.result.bytes += job.size
            self.result.links[mark.kind] = self.result.links.get(mark.kind, 0) + 1
        tree.placed.save()

    def _touch(self) -> None:
        if time.monotonic() - self._touched > _TOUCH_S:
            self._touched = time.monotonic()
            for claim in self._claims:
                self.store.catalog.touch(claim)

    def _unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.unlink(path)


def _with_parents(relative: str) -> Iterator[str]:
    parts = relative.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])
