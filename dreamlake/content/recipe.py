"""A file as a list of parts with glue between them: the value, its stored form, and which parts a range needs.

Stored as a frame of kind recipe:

    header   {"sha256": hex, "container": kind, "splitter": version, "parts": n, "segments": n,
              "sizes": [table, glue, tensors], "coded": [table, glue, tensors]}; plain bytes, and bytes in the payload
    payload  three zstd frames, one after the other (one of no plain bytes is left out):
    table    for each part: BLAKE3 of its plain bytes (32 bytes), size (4), element width (1; + 128 for one in the
             second slot, see ``names``), label (8);
             then for each segment its length (8); then for each segment 0 for glue or 1 + the number of its part (4)
    glue     the bytes of all glue segments, one after the other
    tensors  JSON: a list of [name, dtype, shape, offset, length, strides or null]

All integers are little-endian. Segments cover the file from its first byte to its last. The segments of one part take
its bytes in order and completely; likewise the glue. Decoding checks all of this, and every limit below, before it
believes any.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack, unpack_from
from typing import Any, BinaryIO, NamedTuple

from dreamlake.content import frame, streams
from dreamlake.content.chunking import MAX_PARTS, Plan
from dreamlake.content.codecs import MAX_PART, WIDTHS
from dreamlake.content.containers import Source, Tensor
from dreamlake.content.containers.layout import MAX_TENSORS, sound
from dreamlake.content.frame import Kind
from dreamlake.content.names import PARTS, slot_of
from dreamlake.errors import Corrupt

__all__ = ["GLUE", "PartRef", "Recipe", "Segment", "assemble", "build", "decode", "encode"]

MAX_SEGMENTS = 1 << 21
MAX_GLUE = 64 << 20
MAX_TENSOR_TEXT = 64 << 20
GLUE = -1
_PART = Struct("<32sIB8s")
_SECOND = 128


class PartRef(NamedTuple):
    """One part: key, plain bytes, element width (0: not numbers), label (see ``chunking``)."""

    key: str
    size: int
    width: int
    label: str


class Segment(NamedTuple):
    """Bytes ``start`` to ``start + length`` of the file are those from ``offset`` on of a part, or of the glue."""

    start: int
    length: int
    part: int
    offset: int


@dataclass(frozen=True)
class Recipe:
    """How to rebuild a file of ``size`` bytes whose SHA-256 is ``sha256`` (hexadecimal)."""

    size: int
    sha256: str
    container: str
    splitter: int
    parts: tuple[PartRef, ...]
    segments: tuple[Segment, ...]
    glue: bytes
    tensors: tuple[Tensor, ...] = ()
    _starts: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [segment.start for segment in self.segments])

    def between(self, start: int, stop: int) -> Iterator[Segment]:
        """The segments of bytes ``start`` to ``stop``, cut to that range, in order."""
        stop = min(stop, self.size)
        first = bisect_right(self._starts, start) - 1
        for number in range(max(0, first), len(self.segments)) if start < stop else ():
            segment = self.segments[number]
            if segment.start >= stop:
                return
            low, high = max(start, segment.start), min(stop, segment.start + segment.length)
            if low < high:
                yield Segment(low, high - low, segment.part, segment.offset + low - segment.start)


def build(plan: Plan, keys: Sequence[str], sha256: str, file: BinaryIO | bytes | memoryview | Any) -> Recipe | None:
    """The recipe of a file whose parts, in the order of the plan, have these keys.

    The glue is read from ``file`` (a seekable stream or a buffer). None when there is more of it, or there are more
    segments, than a recipe may hold: such a file is stored whole.
    """
    source = Source(file, plan.size)
    marks = [(piece, number) for number, part in enumerate(plan.parts) for piece in part.pieces]
    marks.sort()
    offsets = [0] * len(plan.parts)
    segments: list[Segment] = []
    glue = bytearray()
    at = 0
    for (start, length), number in [*marks, ((plan.size, 0), GLUE)]:
        if start > at:
            segments.append(Segment(at, start - at, GLUE, len(glue)))
            if len(glue) + start - at > MAX_GLUE:
                return None
            glue += source.read(at, start - at)
        if length:
            segments.append(Segment(start, length, number, offsets[number]))
            offsets[number] += length
        at = start + length
    if len(segments) > MAX_SEGMENTS:
        return None
    parts = tuple(PartRef(key, p.size, p.width, p.label) for key, p in zip(keys, plan.parts, strict=True))
    return Recipe(plan.size, sha256, plan.kind, plan.splitter, parts, tuple(segments), bytes(glue), plan.tensors)


def encode(recipe: Recipe) -> bytes:
    """The stored form."""
    rows = []
    for part in recipe.parts:
        digest, label = bytes.fromhex(part.key[3:]), bytes.fromhex(part.label)
        rows.append(_PART.pack(digest, part.size, part.width | _SECOND * slot_of(part.key), label))
    count = len(recipe.segments)
    rows.append(pack(f"<{count}Q", *(segment.length for segment in recipe.segments)))
    rows.append(pack(f"<{count}I", *(segment.part + 1 for segment in recipe.segments)))
    text = json.dumps(recipe.tensors, separators=(",", ":"), ensure_ascii=True).encode() if recipe.tensors else b""
    plain = [b"".join(rows), recipe.glue, text]
    coded = [streams.deflate(section) if section else b"" for section in plain]
    header = {
        "sha256": recipe.sha256,
        "container": recipe.container,
        "splitter": recipe.splitter,
        "parts": len(recipe.parts),
        "segments": count,
        "sizes": [len(section) for section in plain],
        "coded": [len(section) for section in coded],
    }
    return frame.pack(Kind.RECIPE, recipe.size, coded, header)


def decode(stored: bytes | memoryview) -> Recipe:
    """The recipe of a stored form.

    Raises:
        Corrupt: damaged, or not a recipe at all.  UnsupportedFormat: written by a later release.
    """
    found = frame.parse(stored, len(stored))
    if found.kind != Kind.RECIPE:
        raise Corrupt(f"a {found.kind.name.lower()} where a recipe should be")
    header = found.header
    count = _number(header, "parts", MAX_PARTS)
    segment_count = _number(header, "segments", MAX_SEGMENTS)
    sha256, container = header.get("sha256"), header.get("container")
    if not _is_hex(sha256, 64) or not isinstance(container, str) or len(container) > 32:
        raise Corrupt("a recipe without a digest or a kind")
    table, glue, text = _sections(memoryview(stored)[found.payload_start :], header)
    if len(table) != count * _PART.size + segment_count * 12:
        raise Corrupt("a recipe whose table has another size than it says")
    parts = tuple(_part(*_PART.unpack_from(table, i * _PART.size)) for i in range(count))
    lengths = unpack_from(f"<{segment_count}Q", table, count * _PART.size)
    owners = unpack_from(f"<{segment_count}I", table, count * _PART.size + 8 * segment_count)
    segments = tuple(_segments(lengths, owners, parts, len(glue), found.plain_size))
    splitter = _number(header, "splitter", 1 << 30)
    tensors = _tensors(text, found.plain_size)
    return Recipe(found.plain_size, str(sha256), container, splitter, parts, segments, glue, tensors)


def assemble(recipe: Recipe, start: int, stop: int, part: Callable[[int], bytes | memoryview]) -> Iterator[memoryview]:
    """Bytes ``start`` to ``stop`` of the file, piece by piece.

    Args:
        part: number of a part -> its plain bytes. Asked once for each segment: small runs share parts, so keep the
            last few.
    """
    glue = memoryview(recipe.glue)
    for segment in recipe.between(start, stop):
        source = glue if segment.part == GLUE else memoryview(part(segment.part))
        yield source[segment.offset : segment.offset + segment.length]


def _sections(payload: memoryview, header: Any) -> tuple[bytes, bytes, bytes]:
    sizes, coded = header.get("sizes"), header.get("coded")
    limits = (MAX_PARTS * _PART.size + MAX_SEGMENTS * 12, MAX_GLUE, MAX_TENSOR_TEXT)
    for numbers in (sizes, coded):
        if not isinstance(numbers, list) or len(numbers) != 3 or any(type(n) is not int or n < 0 for n in numbers):
            raise Corrupt("a recipe without the sizes of its sections")
    if any(size > limit for size, limit in zip(sizes, limits, strict=True)) or sum(coded) != len(payload):
        raise Corrupt("a recipe with absurd sizes")
    sections, at = [], 0
    for size, length in zip(sizes, coded, strict=True):
        if bool(size) != bool(length):
            raise Corrupt("a recipe with an empty section that is not empty")
        sections.append(streams.inflate(payload[at : at + length], size) if size else b"")
        at += length
    return sections[0], sections[1], sections[2]


def _part(digest: bytes, size: int, packed: int, label: bytes) -> PartRef:
    slot, width = divmod(packed, _SECOND)
    if not 0 < size <= MAX_PART or width not in (0, *WIDTHS):
        raise Corrupt(f"a part of {size:,} bytes with elements of {width}")
    return PartRef(PARTS[slot] + digest.hex(), size, width, label.hex())


def _segments(
    lengths: Sequence[int], owners: Sequence[int], parts: Sequence[PartRef], glue_size: int, size: int
) -> Iterator[Segment]:
    """Segments with their places, once everything adds up."""
    taken = [0] * len(parts)
    room = [glue_size, *(part.size for part in parts)]
    taken = [0] * len(room)
    start = 0
    for length, owner in zip(lengths, owners, strict=True):
        if owner >= len(room) or not 0 < length <= room[owner] - taken[owner]:
            raise Corrupt("a recipe with a segment outside of its part")
        yield Segment(start, length, owner - 1, taken[owner])
        taken[owner] += length
        start += length
    if start != size or taken != room:
        raise Corrupt("a recipe whose segments do not add up")


def _tensors(text: bytes, size: int) -> tuple[Tensor, ...]:
    if not text:
        return ()
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise Corrupt("a recipe whose list of tensors is not JSON") from None
    if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
        raise Corrupt("a recipe with an absurd list of tensors")
    tensors = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 6 or not isinstance(row[2], list):
            raise Corrupt("a recipe with an odd tensor")
        name, dtype, shape, offset, length, strides = row
        if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(strides, (list, type(None))):
            raise Corrupt("a recipe with an odd tensor")
        tensor = Tensor(name, dtype, tuple(shape), offset, length, None if strides is None else tuple(strides))
        if not sound(tensor, size):
            raise Corrupt("a recipe with a tensor outside of the file")
        tensors.append(tensor)
    return tuple(tensors)


def _number(header: Any, name: str, most: int) -> int:
    value = header.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise Corrupt(f"a recipe whose {name} is {value!r:.40}")
    return int(value)


def _is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and len(value) == digits and not value.strip("0123456789abcdef")
