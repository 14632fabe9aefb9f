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

_SAMPLE = {0: (1 << 13, 8), 1: (1 << 13, 8), 2: (1 << 15, 128)}  # words, and runs that they come in, by effort
_PIECE = 1 << 13  # words that are really coded to see what interleaved bytes take
_SURE = 0.65  # a difference that needs less than this share of a word is not compared with anything else
_SHIFTS = {2: (7, 10), 4: (23,), 8: (52,)}  # bfloat16 and float16, float32, float64
_FINE = 2  # bits of the fraction that fine classes have, instead of as many of the exponent's highest
_FINE_GAIN = 0.997  # fine classes must cost at most this share of others: a sample flatters many small groups
_ORDER_GAIN = {0: 0.0, 1: 0.92, 2: 0.995}  # ordered must cost at most this share of unordered, by effort
_EXTRAPOLATION_GAIN = 0.99
_FACTORS = range(2, 17)  # sixteenths of the movement before; more would be noise
_TRIED_FACTORS = (3, 6, 10)  # the least squares follow the few that move most: others often take fewer bits
_FEWER = 2  # every second word of the sample is enough to tell a factor
_MOVED = 1 << 20  # larger differences are signs or exponents that flipped, not movement
_VERBATIM_BITS = 0.99  # planes that save less than this are not worth their decoding
_NOISE_BITS = 7.8  # a byte
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
        effort: 0 never orders by exponent, 1 where that saves 8 %, 2 where it saves 0.5 %, and tries more factors and
            orders.
    """
    import numpy as np

    probe = streams.sample(words, *_SAMPLE[effort])
    bits = 8 * words.dtype.itemsize
    candidates = []
    if past is not None:
        base = streams.sample(past.base, *_SAMPLE[effort])
        if np.array_equal(probe, base) and np.array_equal(words, past.base):
            return Way(DIFFERENCE)
        before = None if past.before is None else streams.sample(past.before, *_SAMPLE[effort])
        candidates.append(_with_past(probe, Past(base, before), effort))
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
    best = _moved(probe, past, 0)
    factor = 0 if past.before is None else _factor(probe, past)
    if factor:
        extrapolated = _moved(probe, past, factor)
        if extrapolated.bits < _EXTRAPOLATION_GAIN * best.bits:
            best = extrapolated
    if not effort or best.bits < _NOTHING_BITS * 8 * probe.dtype.itemsize:
        return best
    ordered = _ordered(best, past) if effort < 2 else _ordered_thoroughly(probe, past, factor)
    least = min(ordered, key=_bits, default=best)
    return least if least.bits < best.bits * _ORDER_GAIN[effort] else best


def _moved(probe: Words, past: Past, factor: int) -> _Candidate:
    """The words as differences to the base, or with a factor to where it would have moved on to."""
    if not factor:
        coded = kernels.fold(probe, past.base)
        return _Candidate(plane_bits(coded), Way(DIFFERENCE), coded)
    assert past.before is not None
    coded = kernels.fold(probe, kernels.extrapolate(past.base, past.before, factor))
    return _Candidate(plane_bits(coded), Way(EXTRAPOLATION, factor=factor), coded)


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
    trends = (False,) if past.before is None or width != 2 else (False, True)
    return [_in_order(plain, past, shift, trend) for shift in _SHIFTS.get(width, ()) for trend in trends]


def _ordered_thoroughly(probe: Words, past: Past, factor: int) -> list[_Candidate]:
    """In order of the exponent with every factor, then the best of these and the difference in finer orders."""
    factors = [0] if past.before is None else sorted({0, factor, *_TRIED_FACTORS})
    plain = {each: _moved(probe, past, each) for each in factors}
    shifts = _SHIFTS.get(past.base.dtype.itemsize, ())
    found = [_in_order(each, past, shift, False) for each in plain.values() for shift in shifts]
    if not found:
        return []
    best = min(found, key=_bits)
    for each in {0, best.way.factor}:
        if past.before is not None:
            found.append(_in_order(plain[each], past, best.way.shift, True))
        fine = _in_order(plain[each], past, best.way.shift - _FINE, False)
        if fine.bits < _FINE_GAIN * min(found, key=_bits).bits:
            found.append(fine)
    return found


def _in_order(plain: _Candidate, past: Past, shift: int, trend: bool) -> _Candidate:
    assert plain.coded is not None
    classes = kernels.classes(past.base, past.before if trend else None, shift)
    way = Way(plain.way.mode | ORDERED | (TREND if trend else 0), shift, plain.way.factor)
    return _Candidate(_class_bits(plain.coded, classes), way)


def _class_bits(words: Words, classes: NDArray[np.uint32]) -> float:
    """Bits a word when every class of some size has a code of its own."""
    import numpy as np

    labels = (classes >> 16).astype(np.uint8)  # bytes are put in order by counting
    order = np.argsort(labels, kind="stable")
    planes = blocks.planes_of(iter((words[order],)), len(words), words.dtype)
    total, start = 0.0, 0
    least = max(256, len(words) // MAX_GROUPS)
    for edge in np.cumsum(np.bincount(labels)).tolist():
        if edge - start >= least or edge == len(words) > start:
            total += (edge - start) * sum(_group_bits(plane[start:edge]) for plane in planes)
            start = edge
    return total / len(words)


def _group_bits(plane: NDArray[np.uint8]) -> float:
    """Like ``streams.entropy_bits``, but noise counts in full: in few bytes, it seems to have less."""
    bits = streams.entropy_bits(plane)
    return bits if bits < _NOISE_BITS else 8.0


def _interleaved_bits(words: Words) -> float:
    """Bits a word of the bytes as they stand, from a piece in the middle."""
    import numpy as np

    start = max(0, (len(words) - _PIECE) // 2)
    middle = words[start : start + _PIECE].view(np.uint8)
    coded: list[bytes | memoryview] = []
    streams.pack(middle, coded)
    return 8 * words.dtype.itemsize * sum(map(len, coded)) / len(middle)


def _bits(candidate: _Candidate) -> float:
    return candidate.bits
