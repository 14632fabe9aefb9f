"""The inner loops of the codecs on arrays of unsigned words: differences, rotations, byte planes, order by exponent.

Everything is integer arithmetic with one defined result on every machine. Arrays are one-dimensional and contiguous;
the callers work in runs of RUN or SUB words, which stay in a core's second-level cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[Any]
    Bytes = NDArray[np.uint8]

__all__ = [
    "RUN",
    "SUB",
    "as_words",
    "classes",
    "extrapolate",
    "fold",
    "join",
    "order_by_class",
    "rotate",
    "split",
    "unfold",
    "unfold_planes",
    "unrotate",
]

SUB = 1 << 16  # words that are put in order together: part of the format, and what an index can count
RUN = (
    2 * SUB
)  # words worked on at a time: threads that hand on the interpreter's lock more often get in each other's way


def as_words(data: bytes | memoryview | NDArray[Any], width: int) -> Words:
    """A buffer as little-endian unsigned words of ``width`` bytes (1, 2, 4 or 8); bytes after the last are left out."""
    import numpy as np

    view = np.frombuffer(data, np.uint8)
    return view[: len(view) // width * width].view(f"<u{width}")


def fold(words: Words, base: Words) -> Words:
    """words - base (modulo the word) in balanced bytes: a small difference of either sign has zeros in its high bytes.

    The bytes are the digits -128 to 127 of the difference to the base 256, each as two's complement. Undoing this takes
    two steps less than undoing zigzag, and it compresses within half a percent as well.
    """
    import numpy as np

    half = _half(words.dtype)
    folded = words - base
    np.add(folded, half, out=folded)
    np.bitwise_xor(folded, half, out=folded)
    return folded


def unfold(folded: Words, base: Words, out: Words) -> None:
    """The words of ``fold``. ``folded`` is overwritten."""
    import numpy as np

    half = _half(out.dtype)
    np.bitwise_xor(folded, half, out=folded)
    np.subtract(folded, half, out=folded)
    np.add(folded, base, out=out)


def unfold_planes(planes: Sequence[Bytes], start: int, base: Words, out: Words) -> None:
    """The words whose ``fold`` over ``base`` has these byte planes from ``start`` on, lowest byte first.

    The same as ``join`` and ``unfold``, in two passes less: the digits are added up as signed bytes. ``out`` may be
    ``base``.
    """
    import numpy as np

    end, signed = start + len(base), f"<i{base.dtype.itemsize}"
    digits = [plane[start:end].view(np.int8) for plane in planes]
    moved = digits[-1].astype(signed)
    for digit in reversed(digits[:-1]):
        np.left_shift(moved, 8, out=moved)
        np.add(moved, digit, out=moved)
    np.add(moved.view(base.dtype), base, out=out)


def _half(dtype: np.dtype[Any]) -> np.unsignedinteger[Any]:
    return dtype.type(0x8080808080808080 & ((1 << (8 * dtype.itemsize)) - 1))  # type: ignore[no-any-return]


def rotate(words: Words) -> Words:
    """Sign bit moved to the lowest place, so that the highest byte holds the exponent alone."""
    import numpy as np

    top = words >> (8 * words.dtype.itemsize - 1)
    turned = words << 1
    np.bitwise_or(turned, top, out=turned)
    return turned


def unrotate(coded: Words, out: Words) -> None:
    """The words of ``rotate``. ``coded`` is overwritten."""
    import numpy as np

    top = coded << (8 * coded.dtype.itemsize - 1)
    np.right_shift(coded, 1, out=coded)
    np.bitwise_or(coded, top, out=out)


def split(words: Words, planes: Sequence[Bytes], start: int) -> None:
    """Byte k of each word into ``planes[k][start:]``, lowest byte first."""
    import numpy as np

    end = start + len(words)
    np.copyto(planes[0][start:end], words, casting="unsafe")  # a narrowing cast is far faster than a strided copy
    for k in range(1, words.dtype.itemsize):
        np.copyto(planes[k][start:end], words >> (8 * k), casting="unsafe")


def join(planes: Sequence[Bytes], start: int, end: int, dtype: np.dtype[Any]) -> Words:
    """Words from bytes ``start`` to ``end`` of their planes, lowest byte first."""
    import numpy as np

    words = planes[-1][start:end].astype(dtype)
    for plane in reversed(planes[:-1]):
        np.left_shift(words, 8, out=words)
        np.bitwise_or(words, plane[start:end], out=words)
    return words


def extrapolate(base: Words, before: Words, factor: int) -> Words:
    """base + (base - before) * factor / 16, rounded down; everything modulo the word, the movement as a signed word."""
    import numpy as np

    moved = (base - before).view(f"<i{base.dtype.itemsize}")
    np.multiply(moved, moved.dtype.type(factor), out=moved)
    np.right_shift(moved, 4, out=moved)
    expected: Words = moved.view(base.dtype)
    np.add(expected, base, out=expected)
    return expected


def classes(base: Words, before: Words | None, shift: int) -> NDArray[np.uint32]:
    """The class of each word, in bits 16 to 23: bits ``shift`` to ``shift + 7`` of the base word, a float's exponent.

    With ``before``, the trend: the lowest six of these bits, then 0 when the word stood still, 1 when it grew (as an
    unsigned word, and modulo the word), 2 when it shrank.
    """
    import numpy as np

    keys = base.astype(np.uint32) if base.dtype.itemsize < 4 else base
    if before is None:
        keys = keys >> (shift - 16) if shift >= 16 else keys << (16 - shift)
        found: NDArray[np.uint32] = np.bitwise_and(keys, 0xFF0000).astype(np.uint32, copy=False)
        return found
    keys = keys >> (shift - 18) if shift >= 18 else keys << (18 - shift)
    found = np.bitwise_and(keys, 0xFC0000).astype(np.uint32, copy=False)
    moved = (base - before).view(f"<i{base.dtype.itemsize}")
    trend = (moved > 0).view(np.uint8) | ((moved < 0).view(np.uint8) << 1)
    np.bitwise_or(found, trend.astype(np.uint32) << 16, out=found)
    return found


def order_by_class(
    base: Words, before: Words | None, shift: int
) -> tuple[NDArray[np.intp], list[tuple[int, int, int]]]:
    """A stable order of at most SUB words by class (see ``classes``).

    Returns the permutation (places in order of class, then of position) and the runs (class, start, end) in it.
    """
    import numpy as np

    keys = classes(base, before, shift)
    np.bitwise_or(keys, _places()[: len(keys)], out=keys)
    keys.sort()  # classes and places in one word: unique keys, so that the fast unstable sort is stable
    first, last = int(keys[0] >> 16), int(keys[-1] >> 16)
    edges = np.searchsorted(keys, np.arange(first, last + 2, dtype=np.uint32) << np.uint32(16)).tolist()
    runs = [(first + i, edges[i], edges[i + 1]) for i in range(last + 1 - first) if edges[i] < edges[i + 1]]
    return np.bitwise_and(keys, SUB - 1, out=keys).astype(np.intp), runs


@lru_cache(maxsize=1)
def _places() -> NDArray[np.uint32]:
    import numpy as np

    return np.arange(SUB, dtype=np.uint32)
