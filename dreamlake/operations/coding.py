"""Coded uploads: a checkpoint as parts, differences to an earlier version of it, and a recipe.

Owns: which files are coded, and which earlier version their parts are coded against. The bytes are ``content``'s.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
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
    earlier: Sequence[tuple[str, int]] = (),
    thorough: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Coded | None:
    """Stage a file as parts and a recipe, or None when it is better stored whole.

    Args:
        view: the session that it goes to: where earlier versions are looked for.
        file: a seekable binary stream; its position is changed.
        earlier: (digest, bytes) of stored files to try first as its earlier version.
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
    bases = Earlier(store, plan, itertools.chain(earlier, candidates(view, key)), before=thorough)
    effort = THOROUGH if thorough else QUICK
    try:
        return ingest(
            Source(file, size), plan, store.blobs, bases=bases, effort=effort, workers=workers, progress=progress
        )
    except Odd:  # the file ended early: the caller finds that it changed
        return None


def _plan(file: BinaryIO, size: int, encoding: str) -> Plan | None:
    if encoding == "coded":
        return chunking.plan_file(file, size)
    layout = detect(Source(file, size))
    return chunking.plan_layout(layout) if layout is not None else None


def candidates(view: Fold, key: str) -> Iterator[tuple[str, int]]:
    """(digest, size) of files that may be earlier versions of the one at ``key``, the likeliest first.

    The newest version at the same path; then the newest files with the same suffix in the same folder, then anywhere.
    """
    current = view.current_at(key)
    if current is not None:
        yield current.digest, current.size_bytes
    folder, name = split_key(key)
    suffix = os.path.splitext(name)[1]
    elsewhere: list[tuple[str, int]] = []
    for row in view.newest(MIN_FILE, suffix):
        if row.key == key:
            continue
        if split_key(row.key)[0] == folder:
            yield row.digest, row.size_bytes
        elif len(elsewhere) < MAX_CANDIDATES:
            elsewhere.append((row.digest, row.size_bytes))
    yield from elsewhere


class Earlier:
    """``ingest.Bases`` from the candidate whose parts match most of the plan. Any thread may ask."""

    def __init__(self, store: Store, plan: Plan, found: Iterable[tuple[str, int]], *, before: bool = False) -> None:
        self._blobs, self._recent, self._before = store.blobs, store.recent, before
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
            found = recent or codecs.read_base(key, size, lambda k: stored_part(self._blobs, k))
            return found if self._before else found._replace(before=None)  # two versions cost twice the time
        except LakeError:
            return None  # damaged or gone: then this version stands on its own

    def coded(self, part: Base) -> None:
        if not self._before:
            self._recent.put(part)
