"""What single files add to a store that holds those before them: by coding them for real, or a sample of them.

Owns: how a file is weighed; which files, in which order, and the sums are the caller's. Writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, NamedTuple, cast

from dreamlake.catalog.fold import Fold
from dreamlake.catalog.memory import MemoryCatalog
from dreamlake.content import chunking
from dreamlake.content.assembled import read_recipe
from dreamlake.content.chunking import MIN_FILE, Plan, PlannedPart
from dreamlake.content.containers import Odd, Source, detect
from dreamlake.content.ingest import Coded, ingest
from dreamlake.content.staging import Progress
from dreamlake.operations.coding import QUICK, Earlier, candidates
from dreamlake.operations.context import Store
from dreamlake.operations.counting import CountingBlobs, PartsOnDisk
from dreamlake.operations.sampling import Sample, alone, sample_of
from dreamlake.ports import Ports

__all__ = ["FileCost", "Weigher"]

_EARLIER = 1024  # files among which an earlier version is looked for
_PLANS = 4
_PIECE = 1 << 20
_BATCH = 64  # files hashed in one task
_SAMPLED = 1 << 20  # of a quick scan, files stored whole that are larger are compared at three places of
_PLACE = 64 << 10  # bytes


class FileCost(NamedTuple):
    """What one file adds to a store that has all files before it; all in bytes.

    ``kind`` is that of the container, "" for a file stored whole. ``whole``: each content once; ``parts``: each tensor
    once; ``differences``: tensors coded, against their earlier version where that helps.
    """

    relative: str
    kind: str
    size: int
    whole: int
    parts: int
    differences: int


class _Row(NamedTuple):
    """An earlier file, as ``candidates`` asks for it."""

    key: str
    digest: str
    size_bytes: int


class _Seen:
    """The files weighed so far in the place of a session's: all were found at paths of their own."""

    def __init__(self) -> None:
        self._rows: deque[_Row] = deque(maxlen=_EARLIER)

    def add(self, row: _Row) -> None:
        self._rows.appendleft(row)

    def current_at(self, key: str) -> None:
        return None

    def newest(self, min_bytes: int, suffix: str) -> list[_Row]:
        return [row for row in self._rows if row.key.endswith(suffix)]  # all are large enough to be coded


class Weigher:
    """Weighs the files of one folder one after the other.

    Args:
        root: the folder.
        files: all of them, (relative path, bytes); a file is weighed by its number.
        encoding: "auto" cuts containers of tensors, "coded" every large file.
        quick: read an eighth of large files and estimate the rest.

    ``read_bytes`` says how much was read. Errors of reading (``OSError``) pass through; ``Odd``: the file changed.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[tuple[str, int]],
        *,
        encoding: str,
        quick: bool,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._root, self._files, self._encoding, self._quick = root, files, encoding, quick
        self._workers, self._progress = workers or os.cpu_count() or 1, progress
        self._blobs, self._seen = CountingBlobs(), _Seen()
        ports = Ports()
        parts = PartsOnDisk(self._blobs, self._reread)
        self._store, self._parts = Store(ports, MemoryCatalog(ports), self._blobs, recent=parts), parts
        self._plans: OrderedDict[int, list[PlannedPart]] = OrderedDict()
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self.read_bytes = 0

    def container(self, number: int) -> FileCost | None:
        """A file that is cut into parts; None for one that is stored whole. Any order, but one at a time."""
        relative, size = self._files[number]
        if size < MIN_FILE:
            return None
        with open(self._path(number), "rb", buffering=0) as file:
            plan = self._plan(file, size)
            if plan is None:
                return None
            source, cut = Source(file, size), plan
            if self._quick:
                sample = sample_of(plan)
                source, cut = Sample(source, sample), alone(plan, sample)
            bases = Earlier(self._store, cut, candidates(cast("Fold", self._seen), "/" + relative))
            coded = ingest(
                source, cut, self._blobs, bases=bases, effort=QUICK, workers=self._workers,
                progress=None if self._quick else self._tell,
            )  # fmt: skip
            if coded is None:
                return None
            self.read_bytes += cut.size
            name = self._digest(file, size, coded.digest) if self._quick else bytes.fromhex(coded.digest)
        if self._quick:
            self._tell(size)
        cost = self._cost(number, plan, cut, coded, name)
        self._publish(number, coded, "/" + relative)
        return cost

    def whole(self, numbers: Sequence[int]) -> Iterator[FileCost | tuple[int, OSError]]:
        """Files that are stored whole, in order; a file that cannot be read as its number and the error.

        Only those of which there are several of one size are read.
        """
        sizes = Counter(self._files[number][1] for number in numbers)
        batches = [numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH)]

        def work(batch: Sequence[int]) -> list[bytes | OSError]:
            return [self._content(number, sizes[self._files[number][1]] > 1) for number in batch]

        with ThreadPoolExecutor(self._workers, thread_name_prefix="dreamlake-hash") as pool:
            for batch, found in zip(batches, pool.map(work, batches), strict=True):
                for number, content in zip(batch, found, strict=True):
                    relative, size = self._files[number]
                    if isinstance(content, OSError):
                        yield number, content
                        continue
                    cost = 0 if content and self._is_known(content) else size
                    yield FileCost(relative, "", size, cost, cost, cost)

    def _plan(self, file: BinaryIO, size: int) -> Plan | None:
        if self._encoding == "coded":
            return chunking.plan_file(file, size)
        layout = detect(Source(file, size))
        return chunking.plan_layout(layout) if layout is not None else None

    def _cost(self, number: int, plan: Plan, cut: Plan, coded: Coded, name: bytes) -> FileCost:
        """Before anything of the file is published."""
        relative, size = self._files[number]
        if self._is_known(name):
            return FileCost(relative, plan.kind, size, 0, 0, 0)
        fresh = {form.key: form.staged.size for form in coded.parts if form.staged is not None}
        in_parts = plain = stored = 0.0
        for full, read, key in zip(plan.parts, cut.parts, self._keys(coded), strict=True):
            in_parts += full.size
            coded_size = fresh.pop(key, None)  # a part that the file holds twice counts once
            if coded_size is not None:
                plain += full.size
                stored += coded_size * full.size / read.size
        recipe = coded.recipe.size + (round(size - in_parts) if self._quick else 0)
        return FileCost(relative, plan.kind, size, size, min(size, round(plain) + recipe), round(stored) + recipe)

    def _keys(self, coded: Coded) -> list[str]:
        """The keys of all parts of a file, in the order of its plan."""
        if coded.recipe.staged is not None:
            self._blobs.publish(coded.recipe.key, coded.recipe.staged)
            coded.recipe.staged = None
        return [part.key for part in read_recipe(self._blobs, coded.digest).parts]

    def _publish(self, number: int, coded: Coded, key: str) -> None:
        for part, part_key in enumerate(self._keys(coded)):
            self._parts.place(part_key, number, part)
        for form in coded.parts:
            if form.staged is not None:
                self._blobs.publish(form.key, form.staged)
        self._seen.add(_Row(key, coded.digest, coded.size))

    def _reread(self, number: int) -> tuple[str, list[PlannedPart]] | None:
        """Where the parts of an earlier file lie; found out again, because all of them take much memory."""
        path = self._path(number)
        with self._lock:
            parts = self._plans.get(number)
            if parts is None:
                try:
                    with open(path, "rb", buffering=0) as file:
                        plan = self._plan(file, self._files[number][1])
                except (OSError, Odd):
                    return None
                if plan is None:
                    return None
                parts = sample_of(plan) if self._quick else list(plan.parts)
                self._plans[number] = parts
                while len(self._plans) > _PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(number)
            return path, parts

    def _content(self, number: int, read: bool) -> bytes | OSError:
        """What tells the content of a file from others of its size; b"" when that need not be known."""
        size = self._files[number][1]
        if not read or not size:
            self._tell(size)
            return b""
        try:
            with open(self._path(number), "rb", buffering=0) as file:
                if self._quick and size > _SAMPLED:
                    self._tell(size)
                    return self._digest(file, size, "")
                hasher, buffer = hashlib.sha256(), memoryview(bytearray(min(size, _PIECE)))
                while got := file.readinto(buffer):
                    hasher.update(buffer[:got])
                    self._tell(got)
                    with self._lock:
                        self.read_bytes += got
                return hasher.digest()
        except OSError as error:
            return error
        except Odd:
            return OSError("changed while it was read")

    def _digest(self, file: BinaryIO, size: int, sample: str) -> bytes:
        """A stand-in for the SHA-256 of a content of which only a sample is read."""
        source = Source(file, size)
        places = {0, (size - _PLACE) // 2, size - _PLACE}
        hasher = hashlib.sha256(f"{size} {sample}".encode())
        for place in sorted(places):
            hasher.update(source.read(place, _PLACE))
        with self._lock:
            self.read_bytes += len(places) * _PLACE
        return hasher.digest()

    def _is_known(self, content: bytes) -> bool:
        known = content in self._known
        self._known.add(content)
        return known

    def _path(self, number: int) -> str:
        return os.path.join(self._root, self._files[number][0])

    def _tell(self, count: int) -> None:
        if self._progress:
            self._progress(count)
