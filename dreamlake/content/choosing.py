"""Which way to code a block, decided by measuring a sample of it. Decoding never depends on what is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.content import blocks, kernels, streams
from dreamlake.content.blocks import (
    DIFFERENCE,
    EXTRAPOLATION,
    MAX_GROUPS,
    NONE,
    ORDERED,
    ROTATE,
    TREND,
    VERBATIM,
    Past,
    Way,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[Any]

__all__ = ["choose", "plane_bits"]

_SAMPLE = 1 << 13  # words
_SURE = 0.65  # a difference that needs less than this share of a word is not compared with anything else
_SHIFTS = {2: (7, 10), 4: (23,), 8: (52,)}  # bfloat16 and float16, float32, float64
_ORDER_GAIN = {0: 0.0, 1: 0.92, 2: 0.99}  # ordered must cost at most this share of unordered, by effort
_EXTRAPOLATION_GAIN = 0.99
_FACTORS = range(2, 17)  # sixteenths of the movement before; more would be noise
_FEWER = 2  # every second word of the sample is enough to tell a factor
_MOVED = 1 << 20  # larger differences are signs or exponents that flipped, not movement
_VERBATIM_BITS = 0.99  # planes that save less than this are not worth their decoding
_NOTHING_BITS = 0.02  # share of a word below which order cannot gain anything


class _Candidate(NamedTuple):
    bits: float  # estimated, a word
    way: Way
    coded: Words | None = None


def choose(words: Words, past: Past | None, effort: int) -> Way:
    """The cheapest way to code these words.

    Args:
        words: 1 to BLOCK bytes of unsigned words.
        past: the words of earlier versions, or None.
        effort: 0 never orders by exponent, 1 where that saves 8 %, 2 where it saves 1 %.
    """
    probe = streams.sample(words, _SAMPLE)
    bits = 8 * words.dtype.itemsize
    candidates = []
    if past is not None:
        if _equal(probe, words, past.base):
            return Way(DIFFERENCE)
        before = None if past.before is None else streams.sample(past.before, _SAMPLE)
        candidates.append(_with_past(probe, Past(streams.sample(past.base, _SAMPLE), before), effort))
        if candidates[0].bits < _SURE * bits:
            return candidates[0].way
    candidates.append(_Candidate(plane_bits(probe), Way(NONE)))
    if bits > 8:
        candidates.append(_Candidate(plane_bits(kernels.rotate(probe)), Way(ROTATE)))
    best = min(candidates, key=_bits)
    interleaved = _interleaved_bits(words)
    return Way(VERBATIM) if interleaved < best.bits or best.bits > _VERBATIM_BITS * bits else best.way


def plane_bits(words: Words) -> float:
    """Bits a word of byte planes, each with a code of its own."""
    return sum(streams.entropy_bits(plane) for plane in blocks.planes_of(iter((words,)), len(words), words.dtype))


def _with_past(probe: Words, past: Past, effort: int) -> _Candidate:
    coded = kernels.fold(probe, past.base)
    difference = _Candidate(plane_bits(coded), Way(DIFFERENCE), coded)
    if past.before is not None:
        factor = _factor(probe, past)
        if factor:
            coded = kernels.fold(probe, kernels.extrapolate(past.base, past.before, factor))
            extrapolated = _Candidate(plane_bits(coded), Way(EXTRAPOLATION, factor=factor), coded)
            if extrapolated.bits < _EXTRAPOLATION_GAIN * difference.bits:
                difference = extrapolated
    if not effort or difference.bits < _NOTHING_BITS * 8 * probe.dtype.itemsize:
        return difference
    ordered = min(_ordered(difference, past), key=_bits, default=difference)
    return ordered if ordered.bits < difference.bits * _ORDER_GAIN[effort] else difference


def _factor(probe: Words, past: Past) -> int:
    """By how many sixteenths of their last movement the words moved on, 0 when that cannot be told."""
    import numpy as np

    assert past.before is not None
    signed = f"<i{probe.dtype.itemsize}"
    last = (past.base[::_FEWER] - past.before[::_FEWER]).view(signed).astype(np.float64)
    now = (probe[::_FEWER] - past.base[::_FEWER]).view(signed).astype(np.float64)
    small = (np.abs(last) < _MOVED) & (np.abs(now) < _MOVED)
    last *= small
    # Not a dot product: BLAS would start threads for it.
    square = float((last * last).sum())
    factor = round(16 * float((last * now).sum()) / square) if square else 0
    return min(factor, _FACTORS[-1]) if factor >= _FACTORS[0] else 0


def _ordered(plain: _Candidate, past: Past) -> list[_Candidate]:
    width = past.base.dtype.itemsize
    assert plain.coded is not None
    found = []
    for shift in _SHIFTS.get(width, ()):
        trends = [None] if past.before is None or width != 2 else [None, past.before]
        for before in trends:
            bits = _class_bits(plain.coded, kernels.classes(past.base, before, shift))
            mode = plain.way.mode | ORDERED | (0 if before is None else TREND)
            found.append(_Candidate(bits, Way(mode, shift, plain.way.factor)))
    return found


def _class_bits(words: Words, classes: NDArray[np.uint32]) -> float:
    """Bits a word when every class of some size has a code of its own."""
    import numpy as np

    order = np.argsort(classes, kind="stable")
    words, classes = words[order], classes[order]
    total, start = 0.0, 0
    least = max(256, len(words) // MAX_GROUPS)
    for edge in [*(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(words)]:
        if edge - start >= least or edge == len(words):
            total += (edge - start) * plane_bits(words[start:edge])
            start = edge
    return total / len(words)


def _interleaved_bits(words: Words) -> float:
    """Bits a word of the bytes as they stand, from a piece in the middle."""
    import numpy as np

    start = max(0, (len(words) - _SAMPLE) // 2)
    middle = words[start : start + _SAMPLE].view(np.uint8)
    coded: list[bytes | memoryview] = []
    streams.pack(middle, coded)
    return 8 * words.dtype.itemsize * sum(map(len, coded)) / len(middle)


def _equal(probe: Words, words: Words, base: Words) -> bool:
    import numpy as np

    return bool((probe == streams.sample(base, _SAMPLE)).all()) and bool(np.array_equal(words, base))


def _bits(candidate: _Candidate) -> float:
    return candidate.bits
