"""Plain bytes on their way in as parts: read once, hash, cut, code and stage, on all cores and in bounded memory.

One pass fills the buffers of the parts straight from the source, and the same buffers are hashed and coded: the
recipe is proven by construction (what it rebuilds is what was hashed). Knows blobs, not the catalog.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from dreamlake.blobs import Blobs, Staged, Stager
from dreamlake.content import chunking, codecs, recipe
from dreamlake.content.buffers import Buffers
from dreamlake.content.chunking import Plan
from dreamlake.content.codecs import Base, Encoded
from dreamlake.content.containers import Source
from dreamlake.content.names import recipe_key, twin
from dreamlake.content.presence import rely_on_part, rely_on_parts
from dreamlake.content.recipe import MAX_GLUE
from dreamlake.threads import ThreadPoolExecutor

_PIECE = 1 << 20  # still in the processor's cache when it is hashed
_IN_FLIGHT_BYTES = 64 << 20  # plain bytes of parts that are being hashed and coded, besides the one being read


class Bases(Protocol):
    """Earlier versions of the parts of a plan."""

    def base_for(self, number: int) -> Base | None:
        """What part ``number`` may be coded against; None for nothing. Called by several threads."""
        ...

    def coded(self, part: Base) -> None:
        """A part was coded or found stored; it may be the base of a later one. Called by several threads."""
        ...


@dataclass
class Form:
    """One blob of a coded content: its key, the bases that it needs (key, bytes), and its bytes while they wait.

    ``staged`` None means that the blob was stored already when this was made: a hint, looked at again after the claim.
    ``needs`` are the stored blobs that decoding it needs, however deep.
    """

    key: str
    size: int
    bases: tuple[tuple[str, int], ...] = ()
    needs: tuple[str, ...] = ()
    staged: Staged | None = None
    stager: Stager | None = None

    def discard(self) -> None:
        if self.stager is not None:
            self.stager.discard()
        self.stager = self.staged = None


@dataclass
class Coded:
    """A content as parts and a recipe, ready to publish. ``parts`` are distinct, in the order of the file."""

    digest: str
    size: int
    parts: list[Form]
    recipe: Form

    @property
    def new_bytes(self) -> int:
        """Stored bytes that wait to be published."""
        return sum(form.staged.size for form in self.waiting() if form.staged is not None)

    def waiting(self) -> list[Form]:
        """Blobs with staged bytes: parts first, the recipe last."""
        return [form for form in [*self.parts, self.recipe] if form.staged is not None]

    def keys(self) -> list[str]:
        """All blobs that a claim must name."""
        needed = [key for form in self.parts for key in (form.key, *form.needs)]
        return list(dict.fromkeys([self.digest, self.recipe.key, *needed]))

    def discard(self) -> None:
        for form in [*self.parts, self.recipe]:
            form.discard()


@dataclass
class _Open:
    """A part whose bytes are arriving."""

    buffer: memoryview
    filled: int = 0
    hashing: Future[None] | None = None  # of its last piece


def ingest(
    source: Source,
    plan: Plan,
    blobs: Blobs,
    *,
    bases: Bases | None = None,
    slot: int = 0,
    leans: Callable[[str], bool] = lambda key: True,
    effort: int = 1,
    workers: int | None = None,
    buffers: Buffers | None = None,
    progress: Callable[[int], None] | None = None,
) -> Coded | None:
    """Code a file by its plan and stage everything that is not stored yet.

    Args:
        slot: of the recipe and all its parts (see ``names``).
        leans: key in the other slot -> may the same part be stored as a difference to that?
        effort: see ``codecs.encode_part``.
        workers: threads that code (default: one a core).
        buffers: where the memory of the parts comes from.

    Returns None when the file does not fit into a recipe (store it whole). The caller checks that the source did not
    change meanwhile. Errors of reading pass through; then nothing stays staged.
    """
    buffers, workers = buffers or Buffers(), workers or os.cpu_count() or 1
    work = _Ingest(source, plan, blobs, bases, slot, leans, effort, workers, buffers, progress)
    try:
        return work.run()
    except BaseException:
        work.discard()
        raise
    finally:
        buffers.trim()


class _Ingest:
    def __init__(
        self,
        source: Source,
        plan: Plan,
        blobs: Blobs,
        bases: Bases | None,
        slot: int,
        leans: Callable[[str], bool],
        effort: int,
        workers: int,
        buffers: Buffers,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._source, self._plan, self._blobs, self._bases = source, plan, blobs, bases
        self._slot, self._leans = slot, leans
        self._effort, self._workers, self._buffers, self._progress = effort, workers, buffers, progress
        self._sha = hashlib.sha256()
        self._forms: dict[str, Form] = {}
        self._lock = threading.Lock()
        self._glue = bytearray()
        self._waiting: deque[tuple[Sequence[Future[Any]], int]] = deque()
        self._in_flight = 0

    def run(self) -> Coded | None:
        plan = self._plan
        keys: list[Future[str] | None] = [None] * len(plan.parts)
        marks = sorted((piece, number) for number, part in enumerate(plan.parts) for piece in part.pieces)
        opened: dict[int, _Open] = {}
        with (
            ThreadPoolExecutor(1, thread_name_prefix="dreamlake-hash") as hasher,
            ThreadPoolExecutor(self._workers, thread_name_prefix="dreamlake-code") as coder,
        ):
            try:
                at = 0
                for (start, length), number in [*marks, ((plan.size, 0), -1)]:
                    if start > at and not self._read_glue(at, start - at, hasher):
                        self.discard()
                        return None
                    at = start + length
                    if not length:
                        continue
                    part = opened.get(number)
                    if part is None:
                        part = opened[number] = _Open(self._buffers.fresh(plan.parts[number].size))
                    self._read_piece(start, length, part, hasher)
                    if part.filled == len(part.buffer):
                        del opened[number]
                        keys[number] = self._submit(coder, number, part)
                    del part  # its buffer is used again once it is coded and hashed
                names = [key.result() for key in keys if key is not None]
                digest = hasher.submit(self._sha.hexdigest).result()
            except BaseException:
                coder.shutdown(wait=True, cancel_futures=True)
                raise
        made = recipe.build(plan, names, digest, _Glue(bytes(self._glue), marks))
        if made is None:
            self.discard()
            return None
        return Coded(
            digest,
            plan.size,
            list(self._forms.values()),
            self._stage(recipe_key(digest, self._slot), [recipe.encode(made)]),
        )

    def discard(self) -> None:
        for form in self._forms.values():
            form.discard()

    def _read_glue(self, start: int, length: int, hasher: ThreadPoolExecutor) -> bool:
        if len(self._glue) + length > MAX_GLUE:
            return False
        data = self._source.read(start, length)
        self._glue += data
        hasher.submit(self._sha.update, data)
        self._tell(length)
        return True

    def _read_piece(self, start: int, length: int, part: _Open, hasher: ThreadPoolExecutor) -> None:
        done = 0
        while done < length:
            count = min(_PIECE, length - done)
            target = part.buffer[part.filled : part.filled + count]
            self._source.read_into(start + done, target)
            part.hashing = hasher.submit(self._sha.update, target)
            part.filled += count
            done += count
            self._tell(count)

    def _tell(self, count: int) -> None:
        if self._progress:
            self._progress(count)

    def _submit(self, coder: ThreadPoolExecutor, number: int, part: _Open) -> Future[str]:
        """Have a part coded; waits for the oldest ones while too many bytes are on their way."""
        job = coder.submit(self._code, number, part.buffer)
        self._waiting.append(([job] if part.hashing is None else [job, part.hashing], len(part.buffer)))
        self._in_flight += len(part.buffer)
        while self._in_flight > _IN_FLIGHT_BYTES:
            oldest, freed = self._waiting.popleft()
            for future in oldest:
                future.result()
            self._in_flight -= freed
        return job

    def _code(self, number: int, plain: memoryview) -> str:
        """Runs on a coder thread: the key of a part, after staging what is not stored yet."""
        key = codecs.part_key(plain, self._slot)
        with self._lock:
            if key in self._forms:
                return key
            form = self._forms[key] = Form(key, len(plain))
        there = rely_on_parts(self._blobs, [(key, len(plain)), (twin(key), len(plain))], resurrect=False)
        stored, same = (there[name, len(plain)] for name in (key, twin(key)))
        if stored is not None:
            form.needs = tuple(stored)
            if self._bases:
                self._bases.coded(Base(key, plain, len(stored) - 1))
            return key
        if same is not None and len(same) <= codecs.MAX_DEPTH and self._leans(twin(key)):
            base: Base | None = Base(twin(key), plain, len(same) - 1)
        else:
            base = self._bases.base_for(number) if self._bases else None
        coded = codecs.encode_part(
            plain, self._plan.parts[number].width, base, effort=self._effort, fresh=self._buffers.fresh
        )
        staged = self._stage(key, coded.pieces)
        if self._bases:
            self._bases.coded(Base(key, plain, coded.depth))
        with self._lock:
            form.bases = _used(coded, base)
            chains = [rely_on_part(self._blobs, *used, resurrect=False) or [used[0]] for used in form.bases]
            form.needs = tuple(dict.fromkeys(key for chain in chains for key in chain))
            form.staged, form.stager = staged.staged, staged.stager
        return key

    def _stage(self, key: str, stored: Sequence[bytes | memoryview]) -> Form:
        stager = self._blobs.stage()
        try:
            for piece in stored:
                stager.write(piece)
            return Form(key, sum(map(len, stored)), staged=stager.finish(), stager=stager)
        except BaseException:
            stager.discard()
            raise


def _used(coded: Encoded, base: Base | None) -> tuple[tuple[str, int], ...]:
    """The earlier versions that a stored form needs."""
    used = []
    if base is not None and coded.base is not None:
        used.append((base.key, len(base.plain)))
        if base.before is not None and coded.before is not None:
            used.append((base.before.key, len(base.before.plain)))
    return tuple(used)


class _Glue:
    """The glue that was read, as the file that ``recipe.build`` asks for it (it reads nothing else)."""

    def __init__(self, glue: bytes, marks: list[tuple[chunking.Piece, int]]) -> None:
        self._glue = glue
        self._starts: dict[int, int] = {}
        at = done = 0
        for (start, length), _ in marks:
            self._starts[at] = done
            done += start - at
            at = start + length
        self._starts[at] = done
        self._offset = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._offset = offset
        return offset

    def read(self, size: int) -> bytes:
        first = self._starts[self._offset]
        return self._glue[first : first + size]
