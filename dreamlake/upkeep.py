"""What keeps a lake healthy, as methods of ``Lake``: collection, verification, repair, and the questions about space.

Thin: the work is in ``operations``, which is imported when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dreamlake.errors import LakeError, NotFound
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from dreamlake.home import Home
    from dreamlake.operations.collection import Collection
    from dreamlake.operations.findings import Finding, Verification
    from dreamlake.operations.repair import Repair
    from dreamlake.operations.usage import Link, Select, Stats, Usage

_THREADS = 8  # that hide and remove blobs: mostly they wait for the disk


class Upkeep:
    """The part of ``Lake`` that this module is about."""

    store: Store
    home: Home
    store_id: str

    def collect(
        self,
        *,
        now: bool = False,
        keep_deleted: Any = "7d",
        trash_time: Any = "1d",
        dry_run: bool = False,
        force: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> Collection:
        """Let go what was deleted long ago or what retention does not keep, and free what nothing refers to.

        Safe beside running uploads and other collections.

        Args:
            now: no trash time.
            keep_deleted, trash_time: how long deleted versions stay restorable, and how long blobs stay in the trash
                before they are removed: "7d", "12h", seconds or a timedelta.
            dry_run: only say what would happen.
            force: also when most of the lake would go although nobody deleted it.
            progress: called with (phase, done, total).
            executor: threads for hiding and removing; default: some of its own.

        Raises:
            InvalidInput: refused because most of the lake would go, or a bad duration.
            Corrupt, UnsupportedFormat: something does not read; nothing was removed.
        """
        from concurrent.futures import ThreadPoolExecutor

        from dreamlake.operations.collect import collect
        from dreamlake.operations.durations import seconds

        kept, trash = seconds(keep_deleted, "keep_deleted"), seconds(trash_time, "trash_time")
        self.home.check_identity(self.store_id)
        if not dry_run:
            self.home.sweep()

        def run(force: bool) -> Collection:
            return collect(
                self.store, now=now, trash_s=trash, keep_deleted_s=kept, dry_run=dry_run, force=force,
                progress=progress, executor=executor or own,
            )  # fmt: skip

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="dreamlake-collect") as own:
            return self._freed(run, force, progress)

    def _freed(
        self, run: Callable[[bool], Collection], force: bool, progress: Callable[[str, int, int], None] | None
    ) -> Collection:
        """A collection, and another for the bases that nothing needs any more after it."""
        report = run(force)
        if report.parts and not report.dry_run:
            from dreamlake.operations.optimize import rebase

            moved = rebase(self.store, progress=progress)
            if moved.parts:  # bases that nothing needs any more: freed by a second round, which only they are new to
                report.followed_by(run(True), moved.note())
        return report

    def verify(
        self,
        *,
        deep: bool = False,
        shard: tuple[int, int] = (1, 1),
        resume: str | os.PathLike[str] | None = None,
        executor: Executor | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Verification:
        """Look for what is missing or damaged; changes nothing. Arguments as of ``operations.verify.verify``.

        Session folders that were removed, moved or copied by hand are among the findings (of the first shard).
        """
        from dreamlake.operations.verify import verify

        self.home.check_identity(self.store_id)
        file = os.fspath(resume) if resume is not None else None
        report = verify(
            self.store, deep=deep, shard=shard, resume=file, executor=executor, opener=self.home.opener(),
            progress=progress,
        )  # fmt: skip
        if shard[0] == 1:
            existing = (key for key in self.store.catalog.sessions(lambda error: None) if self._exists(key))
            report.findings += self.home.check_sessions(existing)
        return report

    def repair(
        self,
        *sources: Upkeep | str | os.PathLike[str],
        deep: bool = False,
        dry_run: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Repair:
        """Heal what ``verify`` finds, from the trash, this lake's own trees, and ``sources``. Never drops a record.

        Args:
            sources: other lakes (also the URL or profile of a remote one), folders or files. From a copy of this very
                lake lost records come back, too.
            deep: read every byte first, to find damage that left no trace.
            dry_run: only say what would be healed from where.

        Raises:
            NotFound: a source that does not exist.  OSError: the disk is full or cannot be written to.
        """
        from dreamlake.operations.repair import repair

        self.home.check_identity(self.store_id)
        lakes, folders = [], []
        opened = ExitStack()
        for source in sources:
            lake = source if isinstance(source, Upkeep) else _lake_at(source)
            if lake is not None:
                lakes.append(lake)
                if lake is not source:
                    opened.callback(lake.home.close)
            folder = lake.home.root if lake is not None else os.path.abspath(os.path.expanduser(str(source)))
            if folder is not None:
                folders.append(folder)
        twins = [lake.store for lake in lakes if lake.store_id == self.store_id and lake.home.where != self.home.where]
        others = [lake.store for lake in lakes if lake.store_id != self.store_id]
        with opened:
            return repair(
                self.store, deep=deep, lakes=others, twins=twins, folders=folders, dry_run=dry_run, progress=progress
            )

    def check_session(self, key: SessionKey) -> list[Finding]:
        """What is wrong with the folder of a session: removed, moved or copied by hand. Looks only."""
        return self.home.check_session(key)

    def stats(self) -> Stats:
        """Totals: sessions, files, versions, plain and stored bytes."""
        from dreamlake.operations.usage import stats

        return stats(self.store)

    def du(self, by: str = "session", *, depth: int = 1, select: Select | None = None) -> list[Usage]:
        """Space by "session", "path" (``depth`` folders), "kind" or "state"; see ``operations.usage.usage``."""
        from dreamlake.operations.usage import usage

        return usage(self.store, by, depth=depth, select=select)

    def why(self, checksum: str) -> list[Link]:
        """What keeps the blob of this checksum (or of its first 6 digits); see ``operations.usage.why``."""
        from dreamlake.operations.usage import why

        return why(self.store, checksum)

    def _exists(self, key: SessionKey) -> bool:
        try:
            return self.store.catalog.view(key).info.exists
        except LakeError:
            return True  # it cannot be read, but it is there


def _lake_at(source: str | os.PathLike[str]) -> Upkeep | None:
    """The lake at a location, or None when it is an ordinary folder or file. Raises ``NotFound`` for neither."""
    from dreamlake.folder_store import STORE_DIR
    from dreamlake.lake import open_lake
    from dreamlake.location import RemoteAddress, location_of

    place = location_of(source)
    if isinstance(place, RemoteAddress):
        return open_lake(place)
    if not os.path.lexists(place):
        raise NotFound(f"no such file or folder: {place}", path=place)
    return open_lake(place) if os.path.isfile(f"{place}/{STORE_DIR}/store.json") else None
