"""Stored form of one block of words: a transform, an order, byte planes.

A block is BLOCK bytes of a part (the last one is shorter), stored as

    size     4  bytes of everything after this field, little-endian
    mode     1  0 none, 1 rotate, 2 difference, 3 extrapolation; + 4 ordered, + 16 with trend; or 8: verbatim
    shift    1  where the class of a word begins (ordered only, else 0)
    factor   1  sixteenths (extrapolation only, else 0)
    groups   1  how many groups follow (1 unless ordered; 0 for verbatim)
    then     verbatim: one stream (``streams``) of the words' bytes as they are
             else for each group: its last class (1 byte, 255 for the last group), then one stream for each byte
             plane, lowest first

transform   none: the words.  rotate: the sign bit moved to the lowest place.  difference: word - base word, folded
            (``kernels.fold``).  extrapolation: the same against a prediction from the base and the version before it
            (``kernels.extrapolate``), because between checkpoints weights keep moving the way they moved before.
ordered     the words stand in order of group, then of place. A group holds the words whose class is above the last
            class of the group before, up to its own; the class is made of the bits of the *base* words, which the
            reader knows (``kernels.order_by_class``): for floats the exponent. An optimizer moves all weights by about
            the same amount, so how many bits of a difference are noise follows from the exponent alone, and each group
            gets a code of its own. Within a group, each run of SUB words stands in order of class, then of place.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.content import kernels, streams
from dreamlake.content.buffers import Fresh, new_buffer
from dreamlake.content.kernels import RUN, SUB
from dreamlake.errors import Corrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[Any]
    Bytes = NDArray[np.uint8]

__all__ = ["BLOCK", "MAX_GROUPS", "Past", "Way", "decode_block", "encode_block", "planes_of"]

BLOCK = 4 << 20  # bytes; a multiple of SUB words of every width
MAX_GROUPS = 64  # that a writer makes; smaller classes share a group with the next
_MIN_GROUP = 1 << 12  # words
NONE, ROTATE, DIFFERENCE, EXTRAPOLATION = range(4)
ORDERED, VERBATIM, TREND = 4, 8, 16
_HEAD = Struct("<IBBBB")


class Past(NamedTuple):
    """As many words of the base, and of the version before it (None when there is none)."""

    base: Words
    before: Words | None

    def run(self, start: int, length: int = SUB) -> Past:
        """``length`` words from ``start`` on."""
        before = None if self.before is None else self.before[start : start + length]
        return Past(self.base[start : start + length], before)


class Way(NamedTuple):
    """How a block is coded: the fields of its head. ``mode`` includes the flags."""

    mode: int
    shift: int = 0
    factor: int = 0

    @property
    def transform(self) -> int:
        """The mode without flags."""
        return self.mode & 3

    @property
    def needs(self) -> int:
        """How many earlier versions decoding needs."""
        if self.mode == VERBATIM or self.transform < DIFFERENCE:
            return 0
        return 2 if self.transform == EXTRAPOLATION or self.mode & TREND else 1

    def check(self, width: int, past: Past | None, groups: int) -> None:
        """Raises ``Corrupt`` unless a block of words of ``width`` bytes can be coded so with this past."""
        if self.mode == VERBATIM:
            sound = not groups
        else:
            ordered = bool(self.mode & ORDERED)
            sound = not self.mode & ~(3 | ORDERED | TREND) and ordered >= bool(self.mode & TREND)
            sound &= self.shift < 8 * width if ordered else groups == 1 and not self.shift
            sound &= past is not None or not (ordered or self.transform >= DIFFERENCE)
            past_needed = self.transform == EXTRAPOLATION or bool(self.mode & TREND)
            sound &= not past_needed or (past is not None and past.before is not None)
        if not sound or bool(self.factor) != (self.mode != VERBATIM and self.transform == EXTRAPOLATION):
            raise Corrupt(f"a coded block of unknown mode {self.mode}, or without its base")


def encode_block(
    words: Words, past: Past | None, way: Way, out: list[bytes | memoryview], fresh: Fresh = new_buffer
) -> None:
    """Append the block, coded this way, to ``out``, which may refer to ``words``: 1 to BLOCK bytes."""
    import numpy as np

    body: list[bytes | memoryview] = []
    groups = 0
    if way.mode == VERBATIM:
        streams.pack(words.view(np.uint8), body)
    elif not way.mode & ORDERED:
        groups = 1
        body.append(b"\xff")
        runs = (_forward(words[s : s + RUN], past and past.run(s, RUN), way) for s in range(0, len(words), RUN))
        for plane in planes_of(runs, len(words), words.dtype, fresh):
            streams.pack(plane, body)
    else:
        assert past is not None
        for last, count, pieces in _groups(words, past, way):
            groups += 1
            body.append(bytes([last]))
            for plane in planes_of(iter(pieces), count, words.dtype, fresh):
                streams.pack(plane, body)
    out.append(_HEAD.pack(sum(map(len, body)) + _HEAD.size - 4, *way, groups))
    out.extend(body)


def decode_block(view: memoryview, at: int, past: Past | None, out: Words, fresh: Fresh = new_buffer) -> int:
    """Decode the block that begins at ``view[at]`` into ``out`` (all of it); returns where it ends.

    ``out`` may be the words of ``past.base`` or ``past.before``: each is read before it is written.

    Raises ``Corrupt`` for anything that does not fit exactly, also when it needs a base and there is none.
    """
    import numpy as np

    if at + _HEAD.size > len(view):
        raise Corrupt("a coded block is cut off")
    size, mode, shift, factor, groups = _HEAD.unpack_from(view, at)
    end = at + 4 + int(size)
    way = Way(mode, shift, factor)
    way.check(out.dtype.itemsize, past, groups)
    if end > len(view) or end < at + _HEAD.size:
        raise Corrupt("a coded block is longer than what holds it")
    inner, at = view[:end], at + _HEAD.size
    if mode == VERBATIM:
        data, at = streams.unpack(inner, at, out.nbytes, fresh=fresh)
        out.view(np.uint8)[:] = data
    elif not mode & ORDERED:
        if inner[at : at + 1].tobytes() != b"\xff":
            raise Corrupt("a coded block without its group")
        planes, at = _unpack_planes(inner, at + 1, len(out), out.dtype.itemsize, fresh)
        for start in range(0, len(out), RUN):
            target = out[start : start + RUN]
            if way.transform >= DIFFERENCE:
                assert past is not None
                kernels.unfold_planes(planes, start, _expected(past.run(start, RUN), way), target)
            else:
                _back(kernels.join(planes, start, start + len(target), out.dtype), None, way, target)
    else:
        assert past is not None
        at = _decode_ordered(inner, at, past, (way, groups), out, fresh)
    if at != end:
        raise Corrupt("a coded block with bytes left over")
    return end


def planes_of(runs: Iterator[Words], count: int, dtype: np.dtype[Any], fresh: Fresh = new_buffer) -> list[Bytes]:
    """The byte planes, lowest first, of ``count`` words that come in runs."""
    import numpy as np

    planes = [np.frombuffer(fresh(count), np.uint8) for _ in range(dtype.itemsize)]
    at = 0
    for run in runs:
        kernels.split(run, planes, at)
        at += len(run)
    return planes


def _forward(words: Words, past: Past | None, way: Way) -> Words:
    if way.transform >= DIFFERENCE:
        assert past is not None
        return kernels.fold(words, _expected(past, way))
    return kernels.rotate(words) if way.transform == ROTATE else words


def _back(coded: Words, past: Past | None, way: Way, out: Words) -> None:
    """Undo ``_forward``; ``coded`` is overwritten."""
    if way.transform >= DIFFERENCE:
        assert past is not None
        kernels.unfold(coded, _expected(past, way), out)
    elif way.transform == ROTATE:
        kernels.unrotate(coded, out)
    else:
        out[:] = coded


def _expected(past: Past, way: Way) -> Words:
    if way.transform == EXTRAPOLATION and past.before is not None:
        return kernels.extrapolate(past.base, past.before, way.factor)
    return past.base


def _order(past: Past, way: Way) -> tuple[NDArray[np.intp], list[tuple[int, int, int]]]:
    return kernels.order_by_class(past.base, past.before if way.mode & TREND else None, way.shift)


def _groups(words: Words, past: Past, way: Way) -> list[tuple[int, int, list[Words]]]:
    """(last class, words, pieces in order of place) of each group."""
    parts: list[tuple[Words, list[tuple[int, int, int]]]] = []
    counts = [0] * 256
    for start in range(0, len(words), SUB):
        past_run = past.run(start)
        order, runs = _order(past_run, way)
        coded = _forward(words[start : start + SUB], past_run, way)
        parts.append((coded.take(order, mode="clip"), runs))
        for label, low, high in runs:
            counts[label] += high - low
    groups = []
    first = 0
    for last, count in _group_bounds(counts):
        spans = [(coded, _span(runs, first, last)) for coded, runs in parts]
        groups.append((last, count, [coded[low:high] for coded, (low, high) in spans if low < high]))
        first = last + 1
    return groups


def _group_bounds(counts: list[int]) -> list[tuple[int, int]]:
    """(last class, words) of each group: neighbouring classes until there are words enough."""
    least = max(_MIN_GROUP, sum(counts) // MAX_GROUPS)
    bounds: list[tuple[int, int]] = []
    count = 0
    for label, more in enumerate(counts):
        count += more
        if count >= least:
            bounds.append((label, count))
            count = 0
    if count or not bounds:
        bounds.append((255, count))
    bounds[-1] = (255, bounds[-1][1])
    return bounds


def _span(runs: list[tuple[int, int, int]], first: int, last: int) -> tuple[int, int]:
    """Where the classes ``first`` to ``last`` stand in an order whose runs are these."""
    within = [(low, high) for label, low, high in runs if first <= label <= last]
    return (within[0][0], within[-1][1]) if within else (0, 0)


def _decode_ordered(inner: memoryview, at: int, past: Past, head: tuple[Way, int], out: Words, fresh: Fresh) -> int:
    import numpy as np

    way, groups = head
    starts = range(0, len(out), SUB)
    orders = [_order(past.run(start), way) for start in starts]
    coded = np.empty_like(out)
    filled = list(starts)
    first = 0
    for _ in range(groups):
        if at >= len(inner):
            raise Corrupt("an ordered block is cut off")
        last = inner[at]
        spans = [_span(runs, first, last) for _, runs in orders]
        count = sum(high - low for low, high in spans)
        planes, at = _unpack_planes(inner, at + 1, count, out.dtype.itemsize, fresh)
        taken = 0
        for i, (low, high) in enumerate(spans):
            size = high - low
            if size:
                coded[filled[i] : filled[i] + size] = kernels.join(planes, taken, taken + size, out.dtype)
                filled[i] += size
                taken += size
        first = last + 1
    if first != 256:
        raise Corrupt("an ordered block without all of its groups")
    for start, (order, _) in zip(starts, orders, strict=True):
        run = np.empty_like(coded[start : start + SUB])
        run[order] = coded[start : start + SUB]
        _back(run, past.run(start), way, out[start : start + SUB])
    return at


def _unpack_planes(inner: memoryview, at: int, count: int, width: int, fresh: Fresh) -> tuple[list[Bytes], int]:
    planes = []
    for _ in range(width):
        plane, at = streams.unpack(inner, at, count, fresh=fresh)
        planes.append(plane)
    return planes, at
