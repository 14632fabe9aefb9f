"""A sample of a file in parts: a stretch of each of them, at places that are the same in every version of the file.

Equal parts have equal samples, and a sample shrinks nearly as the whole part does. So a folder can be weighed by
reading an eighth of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from dreamlake.content.chunking import Piece, Plan, PlannedPart
from dreamlake.content.containers import Source

__all__ = ["Sample", "alone", "sample_of"]

_SHARE = 8
_GRAIN = 4096  # bytes; more than any element
_LEAST = 64 << 10


def sample_of(plan: Plan) -> list[PlannedPart]:
    """A stretch of every part: an eighth of it, 64 KiB or more."""
    return [_stretch(part) for part in plan.parts]


def _stretch(part: PlannedPart) -> PlannedPart:
    length = min(part.size, max(_LEAST, part.size // _SHARE // _GRAIN * _GRAIN))
    start = int(part.label, 16) % ((part.size - length) // _GRAIN + 1) * _GRAIN
    pieces, at = [], 0
    for offset, size in part.pieces:
        low, high = max(start, at), min(start + length, at + size)
        if low < high:
            pieces.append(Piece(offset + low - at, high - low))
        at += size
    return replace(part, pieces=tuple(pieces))


def alone(plan: Plan, parts: Sequence[PlannedPart]) -> Plan:
    """The plan of a file that consists of these parts of another one and nothing else."""
    at, moved = 0, []
    for part in parts:
        pieces = []
        for piece in part.pieces:
            pieces.append(Piece(at, piece.length))
            at += piece.length
        moved.append(replace(part, pieces=tuple(pieces)))
    return Plan(plan.kind, at, tuple(moved))


class Sample(Source):
    """The file that ``alone`` plans, read from the real one; no read crosses the border of a piece."""

    def __init__(self, source: Source, parts: Sequence[PlannedPart]) -> None:
        self._whole = source
        self._starts: list[int] = []
        self._offsets: list[int] = []
        at = 0
        for part in parts:
            for piece in part.pieces:
                self._starts.append(at)
                self._offsets.append(piece.offset)
                at += piece.length
        self.size = at

    def read_into(self, offset: int, target: memoryview) -> None:
        number = bisect_right(self._starts, offset) - 1
        self._whole.read_into(self._offsets[number] + offset - self._starts[number], target)

    def read(self, offset: int, size: int) -> bytes:
        target = bytearray(size)
        self.read_into(offset, memoryview(target))
        return bytes(target)
