"""Reading stored copies whole, here or on any executor: is their content what the key says?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from dreamlake.blobs import Blobs, Copy, Proof
from dreamlake.content import codecs, frame, reading, recipe
from dreamlake.content.assembled import MAX_RECIPE_BYTES, part_anywhere, stored_copies
from dreamlake.content.names import is_part, is_recipe
from dreamlake.errors import LakeError, NotFound
from dreamlake.operations.context import Store
from dreamlake.operations.findings import Problem
from dreamlake.rawio import read_up_to

BATCH_BYTES = 256 << 20  # stored bytes, and
BATCH_COPIES = 2000  # copies hashed in one task
_WINDOW = 32  # tasks handed to the executor at a time

Opener = Callable[[], Store]


class Verdict(NamedTuple):
    """What reading one copy showed: ``wrong`` is empty when its content is what the key says; None when it is gone."""

    copy: Copy
    wrong: str | None


@dataclass(frozen=True)
class Same:
    """An opener for the threads of this process."""

    store: Store

    def __call__(self) -> Store:
        return self.store


class Tasks:
    """Hashing in order of submission, in tasks of some size, here or on an executor."""

    def __init__(self, store: Store, executor: Executor | None, opener: Opener) -> None:
        self._store, self._executor, self._opener = store, executor, opener
        self._waiting: deque[tuple[str, list[Problem], list[Future[list[Verdict]] | list[Copy]]]] = deque()

    def add(self, shard: str, problems: list[Problem], copies: list[Copy]) -> None:
        batches: list[Future[list[Verdict]] | list[Copy]] = []
        for batch in _batches(copies):
            batches.append(self._executor.submit(check_copies, self._opener, batch) if self._executor else batch)
        self._waiting.append((shard, problems, batches))

    def take(self, *, everything: bool = False) -> Iterator[tuple[str, list[Problem], list[Verdict]]]:
        """Finished shards, in order. On an executor a number of tasks is left running, unless ``everything``."""
        room = _WINDOW if self._executor and not everything else 0
        while self._waiting and sum(len(batches) for _, _, batches in self._waiting) > room:
            shard, problems, batches = self._waiting.popleft()
            verdicts: list[Verdict] = []
            for batch in batches:
                verdicts += batch.result() if isinstance(batch, Future) else check_copies(Same(self._store), batch)
            yield shard, problems, verdicts
        if everything or not self._executor:
            while self._waiting:
                shard, problems, _ = self._waiting.popleft()
                yield shard, problems, []


def _batches(copies: list[Copy]) -> Iterator[list[Copy]]:
    batch: list[Copy] = []
    size = 0
    for copy in copies:
        batch.append(copy)
        size += copy.size
        if size >= BATCH_BYTES or len(batch) >= BATCH_COPIES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def proof(blobs: Blobs, key: str) -> Proof:
    """A check of all stored bytes of a blob of any kind; it may raise ``LakeError`` or ``OSError`` instead."""
    if is_recipe(key):
        return lambda stream: recipe.decode(read_up_to(stream, MAX_RECIPE_BYTES)).sha256 == key[-64:]
    if not is_part(key):
        return reading.proof(key)

    return lambda stream: len(plain_part(blobs, key, stream)) >= 0  # else it has raised


def plain_part(blobs: Blobs, key: str, stream: BinaryIO) -> bytes | memoryview:
    """The plain bytes of a part from one copy of it and whatever copies there are of its bases. Raises ``Corrupt``."""
    stored = read_up_to(stream, codecs.MAX_PART + frame.PREFIX_SIZE + frame.MAX_HEADER + 1)
    size = frame.parse(stored, len(stored)).plain_size if frame.is_framed(stored) else len(stored)
    return codecs.read_part(
        key,
        size,
        lambda wanted: stored if wanted == key else part_anywhere(blobs, wanted),
        lambda wanted: () if wanted == key else stored_copies(blobs, wanted),  # of this one, only this copy counts
    )


def check_copies(opener: Opener, copies: list[Copy]) -> list[Verdict]:
    """Read and hash copies; a task for an executor."""
    store = opener()
    return [Verdict(copy, check_copy(store, copy)) for copy in copies]


def check_copy(store: Store, copy: Copy) -> str | None:
    """What is wrong with the bytes of one copy: "" when nothing is, None when it is no longer there."""
    try:
        with store.blobs.open_copy(copy) as stream:
            return "" if proof(store.blobs, copy.key)(stream) else f"its {copy.size:,} bytes have another checksum"
    except NotFound:
        return None
    except (LakeError, OSError) as error:
        return str(error)
