"""A store that keeps nothing: what storing files would take, found by really coding them.

Owns: blobs that are only counted, and the plain bytes of earlier parts, read again from the files they came from.
Nothing is written anywhere. Memory: a few hundred bytes for each distinct part, and caches of fixed size.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO

from dreamlake.blobs import Proof, Staged, check_key
from dreamlake.blobs.memory import MemoryBlobs, MemoryStager
from dreamlake.content import codecs, frame
from dreamlake.content.chunking import PlannedPart, gather
from dreamlake.content.codecs import Base
from dreamlake.content.containers import Odd
from dreamlake.content.frame import Kind
from dreamlake.content.names import is_recipe
from dreamlake.content.recent import RecentParts
from dreamlake.errors import NotFound

__all__ = ["CountingBlobs", "PartsOnDisk"]

_RECIPE_BYTES = 64 << 20  # recipes kept, to find what the next file may be coded against
_PLAIN_BYTES = 64 << 20  # plain parts kept: the files themselves are near
_EVERYTHING = 1 << 62


class _Stager(MemoryStager):
    """Counts; keeps only the beginning that says what a stored form needs, and recipes whole."""

    def __init__(self, home: CountingBlobs) -> None:
        super().__init__(home)
        self._size = self._wanted = 0

    def write(self, data: bytes | memoryview) -> None:
        if not self._size:  # prefix and header come in one piece
            self._wanted = _needed(data)
        room = self._wanted - self._data.tell()
        if room > 0:
            self._data.write(data[:room])
        self._size += len(data)

    def finish(self) -> Staged:
        return super().finish()._replace(size=self._size)


def _needed(data: bytes | memoryview) -> int:
    if not frame.is_framed(data):
        return 0
    found = frame.parse(data, None)
    return _EVERYTHING if found.kind == Kind.RECIPE else found.payload_start


class CountingBlobs(MemoryBlobs):
    """``Blobs`` whose copies have a size and a header, but no content."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[str, bytes] = {}
        self._recipes: OrderedDict[str, bytes] = OrderedDict()
        self._recipe_bytes = 0

    def stage(self) -> MemoryStager:
        return _Stager(self)

    def look(
        self, key: str, size: int | None, prove: Proof, *, resurrect: bool = True, check: Proof | None = None
    ) -> bool:
        return check_key(key) in self._heads or key in self._recipes

    def publish(self, key: str, staged: Staged, *, replace: bool = True) -> bool:
        head = self.staged.pop(staged.handle)
        if not replace and (key in self._heads or key in self._recipes):
            return False
        if not is_recipe(key):
            self._heads[check_key(key)] = head
        elif key not in self._recipes:
            self._recipes[key] = head
            self._recipe_bytes += len(head)
            while self._recipe_bytes > _RECIPE_BYTES and len(self._recipes) > 1:
                self._recipe_bytes -= len(self._recipes.popitem(last=False)[1])
        return True

    def open(self, key: str) -> BinaryIO:
        head = self._heads.get(key)
        if head is None:
            head = self._recipes.get(key)
        if head is None:
            raise NotFound(f"{key} was not counted", path=key)
        return io.BytesIO(head)

    def depth(self, key: str) -> int:
        """How many differences a counted part lies on."""
        reference = codecs.base_of(self._heads[key])
        return 0 if reference is None else reference[2]


class PartsOnDisk(RecentParts):
    """Plain parts of earlier files: the last ones from memory, all others from the file that they were found in.

    ``reread`` gives for the number of a file its path and its parts, or None when it can not be read any more.
    """

    def __init__(self, blobs: CountingBlobs, reread: Callable[[int], tuple[str, list[PlannedPart]] | None]) -> None:
        super().__init__(_PLAIN_BYTES)
        self._blobs, self._reread = blobs, reread
        self._places: dict[str, tuple[int, int]] = {}

    def place(self, key: str, file: int, part: int) -> None:
        """Remember where the content of a part can be read again."""
        self._places.setdefault(key, (file, part))

    def take(self, key: str) -> Base | None:
        found = super().take(key)
        if found is not None or key not in self._places:
            return found
        number, part = self._places[key]
        file = self._reread(number)
        if file is None or part >= len(file[1]):
            return None
        try:
            with open(file[0], "rb", buffering=0) as stream:
                return Base(key, gather(stream, file[1][part]), self._blobs.depth(key))
        except (OSError, Odd):
            return None  # gone or changed: its successor then counts as if it stood on its own
