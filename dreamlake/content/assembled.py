"""Reading content that is stored as a recipe over parts: bounded memory, all cores, every part proven.

Content of digest X is stored whole under X, or as a recipe under ``recipe_key(X)``. Which one is nobody's business
but this package's: users, records and collection speak of X.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import BinaryIO

from dreamlake.blobs import Blobs, Copy
from dreamlake.content import codecs, frame, recipe
from dreamlake.content.buffers import Buffers, Fresh, new_buffer
from dreamlake.content.names import recipe_keys, slot_of, twin
from dreamlake.content.recent import RecentParts
from dreamlake.content.recipe import GLUE, Recipe
from dreamlake.errors import Corrupt, NotFound
from dreamlake.rawio import read_up_to
from dreamlake.threads import ThreadPoolExecutor

MAX_RECIPE_BYTES = 256 << 20
_CACHED_BYTES = 96 << 20  # plain parts that one reader keeps
_FETCHERS = 8  # parts fetched at a time over a network, if they fit into the same memory
_MAX_STORED = codecs.MAX_PART + frame.PREFIX_SIZE + frame.MAX_HEADER + 1  # one more than a part may have
_HEAD = frame.PREFIX_SIZE + 4096  # of a stored part: enough for every header that this release writes


def read_recipe(blobs: Blobs, digest: str, size: int | None = None) -> Recipe:
    """A recipe of a content: the first that there is, and that reads.

    Raises ``NotFound`` when there is none, ``Corrupt`` when it does not read or is of other content.
    """
    return find_recipe(blobs, digest, size)[1]


def find_recipe(blobs: Blobs, digest: str, size: int | None = None) -> tuple[str, Recipe]:
    """The same, and where it lies."""
    failures: list[NotFound | Corrupt] = []
    for key in recipe_keys(digest):
        try:
            return key, recipe_at(blobs, key, size)
        except (NotFound, Corrupt) as error:
            failures.append(error)
    raise min(failures, key=lambda error: isinstance(error, NotFound))


def recipe_at(blobs: Blobs, key: str, size: int | None = None) -> Recipe:
    """The recipe in exactly this place. Raises the same."""
    with blobs.open(key) as stream:
        stored = read_up_to(stream, MAX_RECIPE_BYTES + 1)
    if len(stored) > MAX_RECIPE_BYTES:
        raise Corrupt(f"the recipe {key} has more than {MAX_RECIPE_BYTES:,} bytes", path=key)
    found = recipe.decode(stored)
    if found.sha256 != key[-64:] or (size is not None and found.size != size):
        raise Corrupt(f"the recipe {key} is of other content ({found.sha256}, {found.size:,} bytes)", path=key)
    if not all(slot_of(part.key) == slot_of(key) for part in found.parts):
        raise Corrupt(f"the recipe {key} names parts of the other slot", path=key)  # see ``names``
    return found


def part_head(blobs: Blobs, key: str) -> bytes:
    """The first stored bytes of a part, enough for ``codecs.base_of``. Raises ``NotFound``."""
    with blobs.open(key) as stream:
        return _head(stream)


def _head(stream: BinaryIO) -> bytes:
    head = read_up_to(stream, _HEAD)
    if frame.is_framed(head) and len(head) == _HEAD:
        head += read_up_to(stream, frame.MAX_HEADER)
    return head


def stored_part(blobs: Blobs, key: str, fresh: Fresh = new_buffer) -> bytes | memoryview:
    """All stored bytes of a part, or one more than a part may have. Raises ``NotFound``."""
    with blobs.open(key) as stream:
        size = min(stream.seek(0, os.SEEK_END), _MAX_STORED)
        stream.seek(0)
        stored = fresh(size)
        done = 0
        while done < size and (count := stream.readinto(stored[done:])):  # type: ignore[attr-defined]
            done += count
        return stored[:done]


def part_anywhere(blobs: Blobs, key: str, fresh: Fresh = new_buffer) -> bytes | memoryview:
    """The same, or what the other slot holds: a chain may be turned round, and collected, while it is read."""
    try:
        return stored_part(blobs, key, fresh)
    except NotFound:
        with contextlib.suppress(NotFound):
            return stored_part(blobs, twin(key), fresh)
        raise


def stored_copies(blobs: Blobs, key: str) -> Iterator[bytes]:
    """The stored bytes of every copy of a part: copies may need different bases, and one may lead nowhere."""
    for copy in blobs.copies_of(key):
        with contextlib.suppress(NotFound), blobs.open_copy(copy) as stream:
            yield read_up_to(stream, _MAX_STORED)


def copy_needs(blobs: Blobs, copy: Copy) -> list[tuple[str, int]]:
    """Like ``part_needs``, of exactly this copy."""
    with blobs.open_copy(copy) as stream:
        return _needs_of(_head(stream))


def part_needs(blobs: Blobs, key: str) -> list[tuple[str, int]]:
    """The parts (key, plain bytes) that a stored part needs for decoding. Raises ``NotFound`` or ``Corrupt``."""
    return _needs_of(part_head(blobs, key))


def _needs_of(head: bytes) -> list[tuple[str, int]]:
    found = codecs.base_of(head)
    if found is None:
        return []
    base = (found.key, found.size)
    return [base] if found.before is None else [base, found.before]


def is_missing(blobs: Blobs, digest: str) -> bool:
    """True when the content is not stored as a recipe."""
    for key in recipe_keys(digest):
        with contextlib.suppress(NotFound):
            blobs.open(key).close()
            return False
    return True


class Assembled:
    """One content read through its recipe. Any thread may call any method.

    Args:
        recent: parts of what was read before, for reading several versions one after the other.
    """

    def __init__(self, blobs: Blobs, digest: str, size: int, recent: RecentParts | None = None) -> None:
        self.recipe = read_recipe(blobs, digest, size)
        self._blobs = blobs
        self._recent = recent
        self._buffers = recent.buffers if recent is not None else Buffers()
        self._cache: OrderedDict[int, bytes | memoryview] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def part(self, number: int) -> bytes | memoryview:
        """Plain bytes of a part, proven by its key. Raises ``Corrupt``."""
        with self._lock:
            plain = self._cache.get(number)
            if plain is not None:
                self._cache.move_to_end(number)
                return plain
        plain = self._decode(number)
        with self._lock:
            if number not in self._cache:
                self._cache[number] = plain
                self._held += len(plain)
            while self._held > _CACHED_BYTES and len(self._cache) > 1:
                self._held -= len(self._cache.popitem(last=False)[1])
        return plain

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        """Bytes ``start`` to ``stop``, decoding only the parts they touch."""
        return recipe.assemble(self.recipe, start, stop, self.part)

    def stream(self, workers: int | None = None) -> Iterator[memoryview]:
        """All bytes in order; parts are decoded ahead by ``workers`` threads (default: one a core, or more where they
        wait for a network).

        The bytes of a piece do not change as long as somebody holds it.
        """
        count = workers or self._threads()
        order = list(dict.fromkeys(s.part for s in self.recipe.segments if s.part != GLUE))
        last = {s.part: i for i, s in enumerate(self.recipe.segments)}
        ahead = deque(order)
        running: dict[int, Future[bytes | memoryview]] = {}
        glue = memoryview(self.recipe.glue)
        with ThreadPoolExecutor(count, thread_name_prefix="dreamlake-decode") as pool:
            try:
                for i, segment in enumerate(self.recipe.segments):
                    while ahead and (len(running) <= count or segment.part == ahead[0]):
                        number = ahead.popleft()
                        running[number] = pool.submit(self._decode, number)
                    source = glue if segment.part == GLUE else memoryview(running[segment.part].result())
                    yield source[segment.offset : segment.offset + segment.length]
                    if segment.part != GLUE and last[segment.part] == i:
                        del running[segment.part]
            finally:
                pool.shutdown(cancel_futures=True)

    def _threads(self) -> int:
        cores = os.cpu_count() or 1
        if not self._blobs.sending_is_dear:
            return cores
        largest = max((part.size for part in self.recipe.parts), default=1)
        return max(cores, min(_FETCHERS, _CACHED_BYTES // max(1, largest)))

    def _decode(self, number: int) -> bytes | memoryview:
        wanted = self.recipe.parts[number]
        try:
            return self._read(wanted.key, wanted.size)
        except Corrupt:
            # Or its chain was turned round, and is being collected: half of the old one on the new one is too deep.
            with contextlib.suppress(Corrupt):
                return self._read(twin(wanted.key), wanted.size)
            raise

    def _read(self, key: str, size: int) -> bytes | memoryview:
        if self._recent is None:
            return codecs.read_part(key, size, self._fetch, self._copies, self._buffers.fresh)
        found = codecs.read_base(
            key, size, self._fetch, self._copies, self._buffers.fresh, before=False, remembered=self._recent.take
        )
        self._recent.put(found)
        return found.plain

    def _copies(self, key: str) -> Iterator[bytes]:
        return stored_copies(self._blobs, key)

    def _fetch(self, key: str) -> bytes | memoryview:
        try:
            return part_anywhere(self._blobs, key, self._buffers.fresh)
        except NotFound as error:
            raise Corrupt(f"part {key} of content {self.recipe.sha256} is missing", path=key) from error
