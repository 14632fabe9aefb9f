"""Coded uploads: a checkpoint as parts, differences to an earlier version of it, and a recipe.

Owns: which files are coded, and which earlier version their parts are coded against. The bytes are ``content``'s.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import BinaryIO

from dreamlake.catalog.fold import Fold
from dreamlake.content import chunking, codecs, matching
from dreamlake.content.assembled import Assembled, part_head, stored_part
from dreamlake.content.chunking import MIN_FILE, Plan
from dreamlake.content.codecs import Base
from dreamlake.content.containers import Odd, Source, detect
from dreamlake.content.ingest import Coded, ingest
from dreamlake.content.staging import Progress
from dreamlake.errors import LakeError
from dreamlake.model import split_key
from dreamlake.operations.context import Store
from dreamlake.ports import NO_FORK

Known = tuple[str, str, int]  # path, digest and bytes of a stored file

QUICK, THOROUGH = 0, 2  # efforts, see ``codecs.encode_part``
MAX_CANDIDATES = 3  # earlier files whose recipes are read to find the best base
MAX_TRIED = 16  # files looked at to find these: some are stored whole


def code(
    store: Store,
    view: Fold,
    key: str,
    file: BinaryIO,
    size: int,
    *,
    encoding: str,
    earlier: Sequence[Known] = (),
    against: Sequence[tuple[str, int]] | None = None,
    slot: int = 0,
    leans: Callable[[str], bool] = lambda key: True,
    thorough: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Coded | None:
    """Stage a file as parts and a recipe, or None when it is better stored whole.

    Args:
        view: the session that it goes to: where earlier versions are looked for.
        file: a seekable binary stream; its position is changed.
        earlier: stored files that may be its earlier version, too, the newest first.
        against: (digest, bytes) of the only files that it may be coded against; None for any.
        slot, leans: see ``ingest``.
        thorough: take the time for the smallest form (``optimize``); an upload must not wait for it.
        encoding: "raw" codes nothing, "auto" containers of tensors, "coded" every large file.
    """
    if encoding == "raw" or size < MIN_FILE:
        return None
    with NO_FORK:  # the first time they are loaded, which takes a while
        for library in ("numpy", "zstandard", "blake3"):
            import_module(library)
    plan = _plan(file, size, encoding)
    if plan is None:
        return None
    found = candidates(view, key, earlier) if against is None else against
    bases = Earlier(store, plan, found, before=thorough)
    effort = THOROUGH if thorough else QUICK
    try:
        return ingest(
            Source(file, size),
            plan,
            store.blobs,
            bases=bases,
            slot=slot,
            leans=leans,
            effort=effort,
            workers=workers,
            buffers=store.recent.buffers,
            progress=progress,
        )
    except Odd:  # the file ended early: the caller finds that it changed
        return None


def _plan(file: BinaryIO, size: int, encoding: str) -> Plan | None:
    if encoding == "coded":
        return chunking.plan_file(file, size)
    layout = detect(Source(file, size))
    return chunking.plan_layout(layout) if layout is not None else None


def candidates(view: Fold, key: str, earlier: Sequence[Known] = ()) -> list[tuple[str, int]]:
    """(digest, bytes) of files that may be other versions of the one at ``key``, the likeliest first.

    Those of ``earlier`` and the newest version at the same path; then, newest first, files of the same name in other
    folders (shards of an earlier step), files with the same suffix in the same folder, and files with the same suffix
    anywhere.
    """
    folder, name = split_key(key)
    suffix = os.path.splitext(name)[1]
    current = view.current_at(key)
    rows = [*earlier, *([] if current is None else [(key, current.digest, current.size_bytes)])]
    rows += [(row.key, row.digest, row.size_bytes) for row in view.newest(MIN_FILE, suffix)]

    def distance(row: Known) -> int:
        if row[0] == key:
            return 0
        where, called = split_key(row[0])
        same_kind = os.path.splitext(called)[1] == suffix
        return 1 if called == name else 2 if same_kind and where == folder else 3 if same_kind else 4

    return [(digest, size) for _, digest, size in sorted(rows, key=distance)]


class Earlier:
    """``ingest.Bases`` from the candidate whose parts match most of the plan. Any thread may ask."""

    def __init__(self, store: Store, plan: Plan, found: Iterable[tuple[str, int]], *, before: bool = False) -> None:
        self._blobs, self._recent, self._before = store.blobs, store.recent, before
        self._recent.begin()
        self._content: Assembled | None = None
        self._match: list[int | None] = []
        best = opened = 0
        for digest, size in itertools.islice(dict.fromkeys(found), MAX_TRIED):
            try:
                content = Assembled(store.blobs, digest, size)
            except (LakeError, OSError):
                continue  # stored whole, or gone
            matched = matching.match(plan.parts, content.recipe.parts)
            covered = sum(p.size for p, i in zip(plan.parts, matched, strict=True) if i is not None)
            if covered > best:
                best, self._content, self._match = covered, content, matched
            opened += 1
            if opened == MAX_CANDIDATES:
                break

    def base_for(self, number: int) -> Base | None:
        earlier = self._match[number] if self._content is not None else None
        if earlier is None or self._content is None:
            return None
        part = self._content.recipe.parts[earlier]
        try:
            key, size = codecs.shallow_base(part.key, part.size, lambda k: part_head(self._blobs, k))
            recent = None if self._before else self._recent.take(key)
            if recent is not None:
                return recent
            fresh = self._recent.buffers.fresh
            # Two versions cost twice the time, so an upload uses one.
            return codecs.read_base(
                key, size, lambda k: stored_part(self._blobs, k, fresh), fresh=fresh, before=self._before
            )
        except LakeError:
            return None  # damaged or gone: then this version stands on its own

    def coded(self, part: Base) -> None:
        if not self._before:
            self._recent.put(part)
