"""The plan of materialize: what the tree should hold, what is there, and what to do about it. Changes nothing."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dreamlake.bulk import paused_gc
from dreamlake.errors import InvalidInput
from dreamlake.model import SessionKey, Version, is_digest
from dreamlake.operations.context import Store
from dreamlake.operations.placed import Mark, Placed, mark_of
from dreamlake.operations.placing import Job, Placer, Progress, Stopped, link_text
from dreamlake.operations.planned import Options, Plan, TreePlan
from dreamlake.operations.survey import (
    SCRATCH_PREFIX,
    Facts,
    Folders,
    Problem,
    Spot,
    State,
    Want,
    content_digest,
    verdict,
)
from dreamlake.operations.wanted import stamp_ns, versions_at
from dreamlake.ports import Stat


def plan(
    store: Store,
    sessions: Sequence[SessionKey],
    options: Options,
    *,
    to: str | os.PathLike[str] | None = None,
    folder_of: Callable[[SessionKey], str | None] | None = None,
    extras: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Compare what the records say with what is on disk.

    Args:
        to: target root; None means the lake's own folder.
        folder_of: the absolute folder of a session in the lake's own folder (``Lake.session_folder``).
        extras: also list files that nobody asked for.
        progress: called with the bytes of files that had to be read to be told apart.

    Raises:
        InvalidInput: the root is not a folder, or lies in the store itself; a bad pattern, time or version.
    """
    root, own = _target(store, to)
    result = Plan(root, options)
    selects, memory = options.selects(), _memory(store)
    for session in sessions:
        base = f"{session.workspace}/{session.name}"
        folder = folder_of(session) if own and folder_of is not None else None
        if folder is not None:
            base = folder[len(root.rstrip("/")) + 1 :]
        placed = Placed(store.ports, memory, "." if own else os.path.realpath(root), session)
        versions = [v for v in versions_at(store, session, options.at) if selects(v.key)]
        if not (versions or placed.files or placed.folders or extras):
            continue
        tree = TreePlan(session, f"{base}/files", placed)
        _Planner(store, root, tree, options, progress).run(versions, selects, extras)
        result.trees.append(tree)
    return result


class _Planner:
    """Makes the plan of one tree."""

    def __init__(self, store: Store, root: str, tree: TreePlan, options: Options, progress: Progress | None) -> None:
        self.store, self.root, self.tree, self.options = store, root, tree, options
        self.fs, self.progress, self.stop = store.ports.fs, progress, threading.Event()
        self.folders = Folders(self.fs, root)
        self.folders.made = set(tree.placed.folders)
        self.folders.inodes = {tree.base + key: mark.inode for key, mark in tree.placed.files.items()}
        self.placer = Placer(store.blobs, store.ports, options.link, root)

    def run(self, versions: Sequence[Version], selects: Callable[[str], bool], extras: bool) -> None:
        doubtful: list[Facts] = []
        with paused_gc():
            wants = {v.key: Want(v.key, v.digest, v.size_bytes, stamp_ns(v.uploaded_at), v.seq) for v in versions}
            self._find_obsolete(wants, selects)
            if self.options.delete:
                self.folders.vanishing = {self.tree.base + key for key, _ in self.tree.obsolete}
            for want in wants.values():
                self._judge(want, doubtful)
        for facts, state in zip(doubtful, self._verdicts(doubtful), strict=True):
            self._settle(facts, state)
        self._find_leftovers()
        if extras:
            self._find_extra(self.tree.base, wants, selects)
        self.tree.there = self.folders.there()

    def _verdicts(self, doubtful: Sequence[Facts]) -> list[State]:
        """Verdicts that need the files' content, on all cores."""
        link = self.options.link
        if len(doubtful) < 2:
            return [verdict(facts, link) for facts in doubtful]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="dreamlake-compare") as pool:
            try:
                return list(pool.map(lambda facts: verdict(facts, link), doubtful))
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _digest(self, path: str) -> str:
        return content_digest(self.fs, path, self._tick)

    def _tick(self, amount: int) -> None:
        if self.stop.is_set():
            raise Stopped
        if self.progress is not None:
            self.progress(amount)

    # ---- files that should be there ------------------------------------------------------------------------------

    def _judge(self, want: Want, doubtful: list[Facts]) -> None:
        parent, _, name = (self.tree.base + want.key).rpartition("/")
        self.tree.folders.add(parent)
        spot = self.folders.look(parent, name)
        if spot.code:
            self._conflict(want.key, spot.code, spot.reason)
        elif spot.facts is None or (stat.S_ISDIR(spot.facts.mode) and self.folders.empties(f"{parent}/{name}")):
            self._add(State.ABSENT, want, None)
        elif stat.S_ISDIR(spot.facts.mode):
            self._conflict(want.key, "folder", "")
        elif not (stat.S_ISREG(spot.facts.mode) or stat.S_ISLNK(spot.facts.mode)):
            self._conflict(want.key, "not-a-file", "")
        else:
            self._judge_file(want, spot, doubtful)

    def _judge_file(self, want: Want, spot: Spot, doubtful: list[Facts]) -> None:
        assert spot.facts is not None
        mark, path = self.tree.placed.files.get(want.key), self._path(want.key)
        linked = self._linked(path) if stat.S_ISLNK(spot.facts.mode) else None
        facts = Facts(want, mark, spot.facts, linked, partial(self._digest, path), partial(self._known, want.key))
        if mark is not None and mark.untouched(spot.facts):
            self._settle(facts, verdict(facts, self.options.link))
        else:
            doubtful.append(facts)

    def _settle(self, facts: Facts, state: State) -> None:
        if state is State.SAME and stat.S_ISLNK(facts.now.mode) and not self._link_holds(facts.want):
            state = State.STALE  # the store re-coded the content: a link would show the coded bytes
        if state is State.SAME:
            self.tree.unchanged += 1
            if facts.mark is None or not facts.mark.untouched(facts.now):
                self.tree.adopted.append((facts.want.key, self._adopt(facts)))
        elif state is State.EDITED and not self.options.force:
            self._conflict(facts.want.key, "edited", "")
        else:
            self._add(state, facts.want, facts.now)

    def _adopt(self, facts: Facts) -> Mark:
        kind = "symlink" if stat.S_ISLNK(facts.now.mode) else "hardlink" if facts.now.sealed else "copy"
        return mark_of(facts.now, facts.want.digest, kind, self.options.link)

    def _add(self, why: State, want: Want, expect: Stat | None) -> None:
        job = Job(want.key, self._path(want.key), want.digest, want.size, want.stamp_ns, expect, want.seq)
        self.tree.jobs.append((why, job))

    def _conflict(self, key: str, code: str, reason: str) -> None:
        self.tree.conflicts.append(problem(self.tree.session, key, code, self._path(key), reason))

    def _known(self, key: str) -> frozenset[tuple[str, int]]:
        state = self.store.catalog.view(self.tree.session).file_at(key)
        return frozenset((v.digest, v.size_bytes) for v in state.versions) if state is not None else frozenset()

    def _linked(self, path: str) -> str | None:
        """The digest of the stored copy that a symbolic link points at."""
        text = self.fs.read_link(path)
        name = text.rpartition("/")[2]
        source = self.store.blobs.file(name) if is_digest(name) else None
        return name if source is not None and text in (source, link_text(self.root, source, path)) else None

    def _link_holds(self, want: Want) -> bool:
        try:
            return self.placer.raw_file(want.digest, want.size) is not None
        except (OSError, ValueError):
            return True  # damaged or missing content is for verify and repair

    # ---- files that should not be there --------------------------------------------------------------------------

    def _find_obsolete(self, wants: dict[str, Want], selects: Callable[[str], bool]) -> None:
        for key, mark in self.tree.placed.files.items():
            if key in wants or not selects(key):
                continue
            parent, _, name = (self.tree.base + key).rpartition("/")
            spot = self.folders.look(parent, name)
            if spot.facts is None:
                if not spot.code:
                    self.tree.forgotten.append(key)
            elif not spot.code and self._still_ours(mark, spot.facts, self._path(key)):
                self.tree.obsolete.append((key, spot.facts))
            elif self.options.delete:
                why = "was edited since it was placed; it is no longer in the tree but was not removed"
                self._conflict(key, "edited", f"{self._path(key)} {why}")

    def _still_ours(self, mark: Mark, now: Stat, path: str) -> bool:
        if mark.untouched(now):
            return True
        if not stat.S_ISREG(now.mode) or now.size != mark.size:
            return False
        return self._digest(path) == mark.digest

    def _find_leftovers(self) -> None:
        for relative in sorted({self.tree.base, *self.tree.folders}):
            for name in self.folders.at(relative).names or ():
                owner = name[len(SCRATCH_PREFIX) :] if name.startswith(SCRATCH_PREFIX) else ""
                if owner and self.store.ports.scratch_is_abandoned(owner):
                    self.tree.leftovers.append(f"{self.root}/{relative}/{name}")

    def _find_extra(self, relative: str, wants: dict[str, Want], selects: Callable[[str], bool]) -> None:
        ours = {key for key, _ in self.tree.obsolete}
        for name in sorted(self.folders.at(relative).names or ()):
            path = f"{relative}/{name}"
            key = path[len(self.tree.base) :]
            if name.startswith(SCRATCH_PREFIX) or key in wants:
                continue
            spot = self.folders.look(relative, name)
            if spot.facts is not None and stat.S_ISDIR(spot.facts.mode):
                self._find_extra(path, wants, selects)
            elif key not in ours and selects(key):
                self.tree.extra.append(key)

    def _path(self, key: str) -> str:
        return f"{self.root}/{self.tree.base}{key}"


def problem(session: SessionKey, key: str, code: str, path: str, reason: str = "") -> Problem:
    """A conflict with the way out in its reason."""
    texts = {
        "edited": f"{path} was edited; keep it by uploading or moving it, or overwrite it with force",
        "folder": f"{path} is a folder; move it away",
        "not-a-file": f"{path} is not a regular file; move it away",
    }
    return Problem(code, path, reason or texts[code], session, key)


def _target(store: Store, to: str | os.PathLike[str] | None) -> tuple[str, bool]:
    """The absolute target root, and whether it is the lake's own folder."""
    if to is None and store.root is None:
        more = ", or make objects in its bucket (bucket=True, --bucket)" if store.bucket is not None else ""
        raise InvalidInput(f"this lake has no folder of its own; say where the tree should go (to=..., --to DIR){more}")
    root = os.path.abspath(os.path.expanduser(os.fspath(to if to is not None else str(store.root))))
    own = store.root is not None and os.path.realpath(root) == os.path.realpath(store.root)
    if store.scratch is not None:
        inside = os.path.dirname(os.path.realpath(store.scratch))
        if f"{os.path.realpath(root)}/".startswith(f"{inside}/"):
            raise InvalidInput(f"{root} lies inside the store itself; choose another folder", path=root)
    above = root
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise InvalidInput(f"{above} is not a folder", path=root)
    return (str(store.root) if own else root), own


def _memory(store: Store) -> str | None:
    return None if store.scratch is None else f"{os.path.dirname(store.scratch)}/placed"
