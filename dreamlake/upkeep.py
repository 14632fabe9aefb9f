"""What keeps a lake healthy, as methods of ``Lake``: collection, verification, repair, and the questions about space.

Thin: the work is in ``operations``, which is imported when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dreamlake.errors import LakeError, NotFound, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.ports import OsFs

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from dreamlake.lake import Lake
    from dreamlake.operations.collection import Collection
    from dreamlake.operations.findings import Finding, Verification
    from dreamlake.operations.repair import Repair
    from dreamlake.operations.usage import Link, Select, Stats, Usage

_THREADS = 8  # that hide and remove blobs: mostly they wait for the disk


class Upkeep:
    """The part of ``Lake`` that this module is about."""

    store: Store
    root: str
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
        self._same_store()
        if not dry_run:
            self._sweep_unborn()

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
        from dreamlake.operations.sessions_health import check_folders
        from dreamlake.operations.verify import verify

        self._same_store()
        file = os.fspath(resume) if resume is not None else None
        opener = partial(_open_store, self.root) if type(self.store.ports.fs) is OsFs else None
        report = verify(
            self.store, deep=deep, shard=shard, resume=file, executor=executor, opener=opener, progress=progress
        )
        if shard[0] == 1:
            existing = [key for key in self.store.catalog.sessions(lambda error: None) if self._exists(key)]
            folder_of = cast("Lake", self).session_folder
            report.findings += check_folders(self.store.ports.fs, self.root, existing, folder_of)
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
            sources: other lakes, folders or files. From a copy of this very lake lost records come back, too.
            deep: read every byte first, to find damage that left no trace.
            dry_run: only say what would be healed from where.

        Raises:
            NotFound: a source that does not exist.  OSError: the disk is full or cannot be written to.
        """
        from dreamlake.operations.repair import repair

        self._same_store()
        lakes, folders = [], []
        for source in sources:
            lake = source if isinstance(source, Upkeep) else _lake_at(os.path.abspath(os.path.expanduser(source)))
            if lake is not None:
                lakes.append(lake)
            folders.append(lake.root if lake is not None else os.path.abspath(os.path.expanduser(str(source))))
        twins = [lake.store for lake in lakes if lake.store_id == self.store_id and lake.root != self.root]
        others = [lake.store for lake in lakes if lake.store_id != self.store_id]
        return repair(
            self.store, deep=deep, lakes=others, twins=twins, folders=folders, dry_run=dry_run, progress=progress
        )

    def check_session(self, key: SessionKey) -> list[Finding]:
        """What is wrong with the folder of a session: removed, moved or copied by hand. Looks only."""
        from dreamlake.operations.sessions_health import check_session

        return check_session(self.store.ports.fs, self.root, key, cast("Lake", self).session_folder)

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

    def _same_store(self) -> None:
        """Raises ``UnsupportedFormat`` when another store has taken this one's place since it was opened."""
        from dreamlake.lake import STORE_DIR, store_head

        base = f"{self.root}/{STORE_DIR}"
        found = store_head(self.store.ports.fs.read(f"{base}/store.json"), base)["store_id"]
        if found != self.store_id:
            message = f"{base} is another lake now ({found}, not {self.store_id}); open it again"
            raise UnsupportedFormat(message, path=base)

    def _sweep_unborn(self) -> None:
        """Remove what creations of a store left behind whose process is dead."""
        from dreamlake.lake import STORE_DIR, remove_scratch

        ports, prefix = self.store.ports, f"{STORE_DIR}-"
        for name in ports.fs.list(self.root):
            if name.startswith(prefix) and ports.scratch_is_abandoned(name[len(prefix) :]):
                remove_scratch(ports, f"{self.root}/{name}")


def _open_store(root: str) -> Store:
    """A store for a task in another process."""
    from dreamlake.lake import open_lake

    return open_lake(root).store


def _lake_at(path: str) -> Upkeep | None:
    """The lake in a folder, or None when it is an ordinary folder or file. Raises ``NotFound`` for neither."""
    from dreamlake.lake import STORE_DIR, open_lake

    if not os.path.lexists(path):
        raise NotFound(f"no such file or folder: {path}", path=path)
    return open_lake(path) if os.path.isfile(f"{path}/{STORE_DIR}/store.json") else None
