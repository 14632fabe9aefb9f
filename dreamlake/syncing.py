"""Bringing lakes together, as methods of ``Lake``: ``push``, ``pull``, ``sync``. The work is in ``operations.sync``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from dreamlake.model import SessionKey
from dreamlake.ports import OsFs

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from dreamlake.lake import Lake
    from dreamlake.operations.sync import Side
    from dreamlake.operations.sync_report import Synced

    Other: TypeAlias = "Lake | str | os.PathLike[str] | Mapping[str, Any]"
    Progress: TypeAlias = Callable[[str, int, int], None]


class Syncing:
    """The part of ``Lake`` that this module is about."""

    def push(
        self,
        to: Other,
        *sessions: str | SessionKey,
        dry_run: bool = False,
        create: bool = False,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Synced:
        """Bring what is in this lake into another one. See ``sync`` for the arguments; nothing changes here."""
        return self._with(to, sessions, dry_run, create, executor, progress, pull=False)

    def pull(
        self,
        from_: Other,
        *sessions: str | SessionKey,
        dry_run: bool = False,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Synced:
        """Bring what is in another lake into this one. See ``sync`` for the arguments; nothing changes there."""
        return self._with(from_, sessions, dry_run, False, executor, progress, push=False)

    def sync(
        self,
        other: Other,
        *sessions: str | SessionKey,
        dry_run: bool = False,
        create: bool = False,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Synced:
        """Bring two lakes to the same sessions, in both directions; only what is missing is sent, and verified.

        Files keep their ids, versions, times, tags, aliases and deletions; parameters, logs and tracks go along. What
        both lakes changed is joined: every version stays, the later of two values wins, and the report says where.
        May be cut off at any moment, and run again: it goes on from there. Safe beside uploads and collections in both.

        Args:
            other: a lake, or where one is: a folder, a URL, a mapping or a profile (as of ``open_lake``).
            sessions: ``"workspace/session"``, ``"workspace"``, or globs of either; all when none is given.
            dry_run: only say what would be sent.
            create: make the other lake when there is none.
            executor: takes one task a session, e.g. a pool of processes; default: one session after the other, with
                threads for its contents.
            progress: called with ("sync", plain bytes sent so far, 0).

        Returns:
            What was sent and received, by session. What is wrong with one session is in it (``error``), and the
            others go on.

        Raises:
            NotFound: no such lake, or no such session in any of the two.
            InvalidInput: both are the same lake.
            Unavailable, OSError: a lake that cannot be reached, or a full disk; what was sent until then stays.
        """
        return self._with(other, sessions, dry_run, create, executor, progress)

    def _with(
        self,
        other: Other,
        sessions: tuple[str | SessionKey, ...],
        dry_run: bool,
        create: bool,
        executor: Executor | None,
        progress: Progress | None,
        *,
        push: bool = True,
        pull: bool = True,
    ) -> Synced:
        from dreamlake.lake import Lake, open_lake
        from dreamlake.operations.sync import sync

        here = cast("Lake", self)
        there = other if isinstance(other, Lake) else open_lake(other, create=create and not dry_run)
        try:
            for lake in (here, there):
                lake.home.check_identity(lake.store_id)
            mine, theirs = _opener(here), _opener(there)
            return sync(
                _side(here), _side(there), [str(wanted) for wanted in sessions],
                push=push, pull=pull, dry_run=dry_run, executor=executor, progress=progress,
                opener=partial(_open_both, mine, theirs) if mine and theirs else None,
            )  # fmt: skip
        finally:
            if there is not other:
                there.close()


def _side(lake: Lake) -> Side:
    from dreamlake.operations.sync import Side

    return Side(lake.store, lake.home, lake.store_id)


def _opener(lake: Lake) -> Callable[[], Lake] | None:
    """Opens the lake in another process; None when only this one can."""
    place = lake.root if lake.root is not None else getattr(lake.home, "address", None)
    if place is None or type(lake.store.ports.fs) is not OsFs:
        return None
    return partial(_open, place)


def _open(place: Any) -> Lake:
    from dreamlake.lake import open_lake

    return open_lake(place)


def _open_both(first: Callable[[], Lake], second: Callable[[], Lake]) -> tuple[Side, Side]:
    return _side(first()), _side(second())
