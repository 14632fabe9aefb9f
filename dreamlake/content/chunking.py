"""Which bytes of a file become which parts: the splitter.

In a container of tensors, a part is the concatenation of runs of elements, without what stands between them, so that
the same tensors give the same parts under another file name, in another container of the kind, or beside optimizer
state:

- a run of at least SOLO bytes is cut at fixed offsets from its own start, every SPLIT bytes; each piece is a part;
- smaller runs (from SMALL bytes on) are joined with their neighbours of the same element width up to JOINED bytes; a
  large run or the border of a collection (``Run.group``) ends a joined part, so that a longer file cannot shift the
  borders;
- small ones (from TINY bytes on) are joined apart from these, across large runs, because biases and norms stand
  between them;
- anything less, and what stands between the runs, is *glue*: it goes into the recipe. Glue of at least SMALL bytes in
  one piece is made parts, too, so that recipes stay small.

A file that is no container but consists of numbers is cut every SPLIT bytes (versions then match place by place);
everything else is cut by content (``cdc``).

Deterministic for a SPLITTER_VERSION: the same bytes give the same parts. A change of any rule needs a new version; old
recipes stay readable, because they list their parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from dreamlake.content import cdc, codecs
from dreamlake.content.containers import Layout, Run, Source, Tensor, detect

__all__ = ["MIN_FILE", "SPLITTER_VERSION", "Piece", "Plan", "PlannedPart", "gather", "plan_file", "plan_layout"]

SPLITTER_VERSION = 1
MIN_FILE = 1 << 20  # bytes; smaller files are stored as they are
SPLIT = 16 << 20
SOLO = 1 << 20
JOINED = 4 << 20
SMALL = 64 << 10
TINY = 512
MAX_PARTS = 1 << 20
_READ = 4 << 20
_PROBE = 64 << 10


class Piece(NamedTuple):
    """Bytes of the file that belong to a part, in order."""

    offset: int
    length: int


@dataclass(frozen=True)
class PlannedPart:
    """A part before it is read. ``label`` says what it is apart from its content, to find its earlier version."""

    pieces: tuple[Piece, ...]
    width: int
    label: str

    @property
    def size(self) -> int:
        """Plain bytes."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True)
class Plan:
    """How a file is stored: parts in the order of their first bytes; all other bytes are glue."""

    kind: str
    size: int
    parts: tuple[PlannedPart, ...]
    tensors: tuple[Tensor, ...] = ()
    splitter: int = SPLITTER_VERSION


def plan_file(file: BinaryIO | bytes | memoryview | Any, size: int | None = None) -> Plan | None:
    """The plan for a file, or None when it is better stored whole.

    Args:
        file: a seekable binary stream, or a buffer (bytes, memoryview, mmap).
        size: its bytes; found out when not given.

    Reads headers only, or everything once when the file is no container of tensors. Errors of reading pass through.
    """
    source = Source(file, size)
    if source.size < MIN_FILE:
        return None
    layout = detect(source)
    plan = plan_layout(layout) if layout else None
    if plan is not None:
        return plan
    width = _width_of_file(source)
    if width > 1:
        pieces = [Piece(at, min(SPLIT, source.size - at)) for at in range(0, source.size, SPLIT)]
        return Plan("numbers", source.size, tuple(_bytes_parts(pieces, width)))
    borders = [0, *cdc.cuts(_places(source), source.size)]
    pieces = [Piece(low, high - low) for low, high in pairwise(borders)]
    return Plan("bytes", source.size, tuple(_bytes_parts(pieces, 0)))


def plan_layout(layout: Layout) -> Plan | None:
    """The plan for a container; None when less than half of it, or less than MIN_FILE bytes, would become parts."""
    parts = sorted(_parts(layout.runs), key=lambda part: part.pieces[0].offset)
    if 2 * sum(part.size for part in parts) < layout.size or layout.size < MIN_FILE:
        return None
    parts += _bytes_parts(list(_large_gaps(parts, layout.size)), 0)
    parts.sort(key=lambda part: part.pieces[0].offset)
    return Plan(layout.kind, layout.size, tuple(parts), layout.tensors) if len(parts) <= MAX_PARTS else None


def gather(file: BinaryIO | bytes | memoryview | Any, part: PlannedPart) -> memoryview:
    """The plain bytes of a part, read from its file. Of a buffer, a part in one piece is not copied."""
    if len(part.pieces) == 1 and (not hasattr(file, "read") or hasattr(file, "madvise")):
        offset, length = part.pieces[0]
        buffer: Any = file
        return memoryview(buffer)[offset : offset + length]
    source = Source(file)
    target = memoryview(bytearray(part.size))
    at = 0
    for offset, length in part.pieces:
        source.read_into(offset, target[at : at + length])
        at += length
    return target


class _Joiner:
    """Collects runs of one class and width until a part is full."""

    def __init__(self, kind: str, width: int, out: list[PlannedPart]) -> None:
        self._kind, self._width, self._out = kind, width, out
        self._runs: list[Run] = []
        self._size = 0

    def add(self, run: Run) -> None:
        if self._runs and (self._size + run.length > JOINED or run.group != self._runs[-1].group):
            self.close()
        self._runs.append(run)
        self._size += run.length

    def close(self) -> None:
        if self._runs:
            label = _label(self._kind, self._width, [(run.label, 0, run.length) for run in self._runs])
            pieces = tuple(Piece(run.offset, run.length) for run in self._runs)
            self._out.append(PlannedPart(pieces, self._width, label))
        self._runs, self._size = [], 0


def _parts(runs: Sequence[Run]) -> list[PlannedPart]:
    out: list[PlannedPart] = []
    joiners: dict[tuple[str, int], _Joiner] = {}
    for run in runs:
        if run.length >= SOLO:
            for (kind, _), joiner in joiners.items():
                if kind == "mid":
                    joiner.close()
            for at in range(0, run.length, SPLIT):
                length = min(SPLIT, run.length - at)
                label = _label("solo", run.width, [(run.label, at, length)])
                out.append(PlannedPart((Piece(run.offset + at, length),), run.width, label))
        elif run.length >= TINY:
            kind = "mid" if run.length >= SMALL else "small"
            joiners.setdefault((kind, run.width), _Joiner(kind, run.width, out)).add(run)
    for joiner in joiners.values():
        joiner.close()
    return out


def _large_gaps(parts: list[PlannedPart], size: int) -> Iterator[Piece]:
    end = 0
    for piece in [*sorted(piece for part in parts for piece in part.pieces), Piece(size, 0)]:
        if piece.offset - end >= SMALL:
            for at in range(end, piece.offset, SPLIT):
                yield Piece(at, min(SPLIT, piece.offset - at))
        end = piece.offset + piece.length


def _bytes_parts(pieces: list[Piece], width: int) -> list[PlannedPart]:
    return [PlannedPart((piece,), width, _label("bytes", width, [("", 0, piece.length)])) for piece in pieces]


def _label(kind: str, width: int, runs: list[tuple[str, int, int]]) -> str:
    """16 hexadecimal digits that are the same for the same tensors of another version."""
    from blake3 import blake3

    return blake3(repr((kind, width, runs)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _width_of_file(source: Source) -> int:
    """The element width of a file of numbers, 0 for anything else; judged at three places."""
    places = [source.size * i // 4 // 8 * 8 for i in (1, 2, 3)]
    widths = {codecs.guess_width(source.read(at, min(_PROBE, source.size - at))) for at in places}
    return widths.pop() if len(widths) == 1 else 0


def _places(source: Source) -> Iterator[int]:
    at = 0
    while at < source.size:
        start = max(0, at - cdc.WINDOW)
        end = min(source.size, at + _READ)
        for place in cdc.candidates(source.read(start, end - start)):
            if start + place > at or not at:
                yield start + place
        at = end
