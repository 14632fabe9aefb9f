"""Coding of one block of words: which transform, in which order, split into byte planes.

A block is BLOCK bytes of a part (the last one is shorter), stored as

    size     4  bytes of everything after this field, little-endian
    mode     1  0 none, 1 rotate, 2 difference; + 4 ordered; or 8: verbatim
    shift    1  where the class of a word begins (ordered only, else 0)
    groups   1  how many groups follow (1 unless ordered; 0 for verbatim)
    then     verbatim: one stream (``streams``) of the words' bytes as they are
             else for each group: its last class (1 byte, 255 for the last group), then one stream for each byte
             plane, lowest first

transform   none: the words.  rotate: the sign bit moved to the lowest place.  difference: word - base word, folded
            (``kernels.fold``).
ordered     the words stand in order of group, then of place. A group holds the words whose class is above the last
            class of the group before, up to its own; the class is eight bits of the *base* word, which the reader knows:
            for floats the exponent. An optimizer moves all weights by about the same amount, so how many bits of a
            difference are noise follows from the exponent alone, and each group gets a code of its own. Within a group,
            each run of SUB words stands in order of class, then of place.

The choice is made by measuring a sample of the block. Nothing here depends on anything but its arguments (I12).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.content import kernels, streams
from dreamlake.content.kernels import SUB
from dreamlake.errors import Corrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[Any]
    Bytes = NDArray[np.uint8]

__all__ = ["BLOCK", "decode_block", "encode_block"]

BLOCK = 4 << 20  # bytes; a multiple of SUB words of every width
NONE, ROTATE, DIFFERENCE = range(3)
ORDERED, VERBATIM = 4, 8
MIN_GROUP = 1 << 14  # words; smaller classes share a group with the next
_HEAD = Struct("<IBBB")
_SAMPLE = 1 << 14  # words
_SHIFTS = {2: (7, 10), 4: (23,), 8: (52,)}  # bfloat16 and float16, float32, float64
_ORDER_GAIN = {0: 0.0, 1: 0.97, 2: 0.995}  # ordered must cost at most this share of unordered, by effort
_VERBATIM_BITS = 0.99  # planes that save less than this are not worth their decoding


class Choice(NamedTuple):
    """How to code a block. ``shift`` is None for the order of the words as they stand."""

    transform: int
    shift: int | None
    bits: float  # estimated bits a word


def encode_block(words: Words, base: Words | None, effort: int, out: list[bytes]) -> bool:
    """Append the coded block to ``out``; True when it needs ``base`` to be decoded.

    Args:
        words: 1 to BLOCK bytes of unsigned words.
        base: as many words of the version before, or None.
        effort: 0 never orders by exponent, 1 where that saves 3 %, 2 where it saves anything.
    """
    import numpy as np

    if base is not None and _equal(words, base):
        choice = Choice(DIFFERENCE, None, 0.0)
    else:
        choice = _choose(words, base, effort)
    body: list[bytes] = []
    if choice.transform == VERBATIM:
        head = (VERBATIM, 0, 0)
        streams.pack(words.view(np.uint8), body)
    elif choice.shift is None:
        head = (choice.transform, 0, 1)
        body.append(b"\xff")
        _pack_planes(_transformed(words, base, choice.transform), len(words), body)
    else:
        assert base is not None
        groups = _groups(words, base, choice)
        head = (choice.transform | ORDERED, choice.shift, len(groups))
        for last, count, pieces in groups:
            body.append(bytes([last]))
            _pack_planes(iter(pieces), count, body)
    out.append(_HEAD.pack(sum(map(len, body)) + 3, *head))
    out.extend(body)
    return choice.transform == DIFFERENCE


def decode_block(view: memoryview, at: int, base: Words | None, out: Words) -> int:
    """Decode the block that begins at ``view[at]`` into ``out`` (all of it); returns where it ends.

    Raises ``Corrupt`` for anything that does not fit exactly, also when it needs a base and there is none.
    """
    import numpy as np

    if at + _HEAD.size > len(view):
        raise Corrupt("a coded block is cut off")
    size, mode, shift, count = _HEAD.unpack_from(view, at)
    end = at + 4 + size
    if end > len(view) or end < at + _HEAD.size:
        raise Corrupt("a coded block is longer than what holds it")
    inner, at = view[:end], at + _HEAD.size
    if mode == VERBATIM and not shift and not count:
        data, at = streams.unpack(inner, at, out.nbytes)
        out.view(np.uint8)[:] = data
    elif mode in (NONE, ROTATE, DIFFERENCE) and count == 1 and not shift and inner[at : at + 1].tobytes() == b"\xff":
        at = _decode_planes(inner, at + 1, base, mode, out)
    elif mode & ~3 == ORDERED and mode & 3 <= DIFFERENCE and base is not None and shift < 8 * out.dtype.itemsize:
        at = _decode_ordered(inner, at, base, (mode & 3, shift, count), out)
    else:
        raise Corrupt(f"a coded block of unknown mode {mode}")
    if at != end:
        raise Corrupt("a coded block with bytes left over")
    return int(end)


def _choose(words: Words, base: Words | None, effort: int) -> Choice:
    """The cheapest coding, estimated on a sample."""
    import numpy as np

    width = words.dtype.itemsize
    probe = streams.sample(words, _SAMPLE)
    choices = [Choice(kind, None, _plane_bits(kind_words)) for kind, kind_words in _without_base(probe)]
    if base is not None:
        base_probe = streams.sample(base, _SAMPLE)
        differences = kernels.fold(probe, base_probe)
        choices.append(Choice(DIFFERENCE, None, _plane_bits(differences)))
        best = min(choices, key=lambda choice: choice.bits)
        if effort and best.transform == DIFFERENCE and best.bits > 0.02 * 8 * width:
            ordered = [
                Choice(DIFFERENCE, shift, _class_bits(differences, kernels.classes(base_probe, shift)))
                for shift in _SHIFTS.get(width, ())
            ]
            choices += [choice for choice in ordered if choice.bits < best.bits * _ORDER_GAIN[effort]]
    best = min(choices, key=lambda choice: choice.bits)
    if best.transform != DIFFERENCE or best.bits > 4 * width:
        middle = words[len(words) // 2 : len(words) // 2 + _SAMPLE].view(np.uint8)
        coded: list[bytes] = []
        streams.pack(middle, coded)
        interleaved = 8 * width * sum(map(len, coded)) / max(1, len(middle))
        if interleaved < best.bits or best.bits > _VERBATIM_BITS * 8 * width:
            return Choice(VERBATIM, None, interleaved)
    return best


def _equal(words: Words, base: Words) -> bool:
    return bool((streams.sample(words) == streams.sample(base)).all()) and words.tobytes() == base.tobytes()


def _without_base(probe: Words) -> Iterator[tuple[int, Words]]:
    yield NONE, probe
    if probe.dtype.itemsize > 1:
        yield ROTATE, kernels.rotate(probe)


def _plane_bits(words: Words) -> float:
    return sum(streams.entropy_bits(plane) for plane in _planes(iter((words,)), len(words), words.dtype))


def _class_bits(words: Words, classes: NDArray[np.uint32]) -> float:
    """Bits a word when every class of some size has a code of its own."""
    import numpy as np

    order = np.argsort(classes, kind="stable")
    words, classes = words[order], classes[order]
    total, start, least = 0.0, 0, max(256, len(words) * MIN_GROUP // max(1, BLOCK // words.dtype.itemsize))
    edges = [*(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(words)]
    for edge in edges:
        if edge - start >= least or edge == len(words):
            if edge > start:
                total += (edge - start) * _plane_bits(words[start:edge])
            start = edge
    return total / len(words)


def _transformed(words: Words, base: Words | None, transform: int) -> Iterator[Words]:
    for start in range(0, len(words), SUB):
        run = words[start : start + SUB]
        if transform == DIFFERENCE:
            assert base is not None
            yield kernels.fold(run, base[start : start + SUB])
        else:
            yield kernels.rotate(run) if transform == ROTATE else run


def _planes(runs: Iterator[Words], count: int, dtype: np.dtype[Any]) -> list[Bytes]:
    import numpy as np

    planes = [np.empty(count, np.uint8) for _ in range(dtype.itemsize)]
    at = 0
    for run in runs:
        kernels.split(run, planes, at)
        at += len(run)
    return planes


def _pack_planes(runs: Iterator[Words], count: int, body: list[bytes]) -> None:
    first = next(runs)
    rest = (run for source in ((first,), runs) for run in source)
    for plane in _planes(rest, count, first.dtype):
        streams.pack(plane, body)


def _groups(words: Words, base: Words, choice: Choice) -> list[tuple[int, int, list[Words]]]:
    """(last class, words, pieces in order of place) of each group."""
    assert choice.shift is not None
    parts: list[tuple[Words, list[tuple[int, int, int]]]] = []
    counts = [0] * 256
    for start in range(0, len(words), SUB):
        base_run = base[start : start + SUB]
        order, runs = kernels.order_by_class(base_run, choice.shift)
        coded = kernels.fold(words[start : start + SUB], base_run)
        parts.append((coded.take(order, mode="clip"), runs))
        for label, low, high in runs:
            counts[label] += high - low
    groups = []
    first = 0
    for last, count in _group_bounds(counts):
        spans = [(coded, _span(runs, first, last)) for coded, runs in parts]
        pieces = [coded[span[0] : span[1]] for coded, span in spans if span]
        groups.append((last, count, pieces))
        first = last + 1
    return groups


def _group_bounds(counts: list[int]) -> list[tuple[int, int]]:
    """(last class, words) of each group: neighbouring classes until there are MIN_GROUP words."""
    bounds: list[tuple[int, int]] = []
    count = 0
    for label, more in enumerate(counts):
        count += more
        if count >= MIN_GROUP:
            bounds.append((label, count))
            count = 0
    if count or not bounds:
        bounds.append((255, count))
    bounds[-1] = (255, bounds[-1][1])
    return bounds


def _span(runs: list[tuple[int, int, int]], first: int, last: int) -> tuple[int, int] | None:
    """Where the classes ``first`` to ``last`` stand in an order whose runs are these."""
    within = [(low, high) for label, low, high in runs if first <= label <= last]
    return (within[0][0], within[-1][1]) if within else None


def _decode_planes(inner: memoryview, at: int, base: Words | None, transform: int, out: Words) -> int:
    planes, at = _unpack_planes(inner, at, len(out), out.dtype.itemsize)
    for start in range(0, len(out), SUB):
        end = min(start + SUB, len(out))
        coded = kernels.join(planes, start, end, out.dtype)
        _undo(coded, None if base is None else base[start:end], transform, out[start:end])
    return at


def _decode_ordered(inner: memoryview, at: int, base: Words, head: tuple[int, int, int], out: Words) -> int:
    import numpy as np

    transform, shift, count = head
    starts = range(0, len(out), SUB)
    orders = [kernels.order_by_class(base[start : start + SUB], shift) for start in starts]
    coded = np.empty_like(out)
    filled = list(starts)
    first = 0
    for _ in range(count):
        if at >= len(inner):
            raise Corrupt("an ordered block is cut off")
        last = inner[at]
        spans = [_span(runs, first, last) or (0, 0) for _, runs in orders]
        sizes = [high - low for low, high in spans]
        planes, at = _unpack_planes(inner, at + 1, sum(sizes), out.dtype.itemsize)
        taken = 0
        for i, size in enumerate(sizes):
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
        _undo(run, base[start : start + SUB], transform, out[start : start + SUB])
    return at


def _undo(coded: Words, base: Words | None, transform: int, out: Words) -> None:
    if transform == DIFFERENCE:
        if base is None:
            raise Corrupt("a difference without its base")
        kernels.unfold(coded, base, out)
    elif transform == ROTATE:
        kernels.unrotate(coded, out)
    else:
        out[:] = coded


def _unpack_planes(inner: memoryview, at: int, count: int, width: int) -> tuple[list[Bytes], int]:
    planes = []
    for _ in range(width):
        plane, at = streams.unpack(inner, at, count)
        planes.append(plane)
    return planes, at
