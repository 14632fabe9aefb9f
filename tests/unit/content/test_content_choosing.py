"""Which way a block is coded: what the thorough choice finds that the quick one does not, and that it pays."""

from __future__ import annotations

import numpy as np
import pytest
from content_golden import moved, weights

from dreamlake.content import blocks, choosing
from dreamlake.content.blocks import DIFFERENCE, EXTRAPOLATION, ORDERED, TREND, Past, Way

COUNT = 1 << 19


def coded_size(words: np.ndarray, past: Past, way: Way) -> int:
    """Bytes of the block coded this way, after proving that it comes back."""
    out: list[bytes | memoryview] = []
    blocks.encode_block(words, past, way, out)
    stored = b"".join(out)
    back = np.empty_like(words)
    assert blocks.decode_block(memoryview(stored), 0, past, back) == len(stored)
    assert np.array_equal(back, words)
    return len(stored)


def drifting(few: float) -> tuple[np.ndarray, Past]:
    """Words of which most move on by a quarter of their last movement, and a few, by far more, by all of it."""
    rng = np.random.default_rng(3)
    before = weights(COUNT, 4)
    large = rng.random(COUNT) < few
    movement = np.where(large, rng.integers(-(1 << 19), 1 << 19, COUNT), rng.integers(-4000, 4000, COUNT))
    base = (before + movement.astype(np.uint32)).astype("<u4")
    after = np.where(large, movement, movement // 4) + rng.integers(-40, 40, COUNT)
    return (base + after.astype(np.uint32)).astype("<u4"), Past(base, before)


def test_thorough_finds_the_factor_of_the_many_where_least_squares_follow_the_few() -> None:
    words, past = drifting(0.02)
    quick, thorough = (choosing.choose(words, past, effort) for effort in (0, 2))
    assert quick == Way(DIFFERENCE)  # with the factor of the few, all others would cost more
    assert thorough.transform == EXTRAPOLATION and 2 < thorough.factor < 7
    assert coded_size(words, past, thorough) < 0.97 * coded_size(words, past, quick)


def test_thorough_puts_float32_in_order_of_the_trend() -> None:
    rng = np.random.default_rng(5)
    before = weights(COUNT, 4)
    last = rng.integers(-500, 500, COUNT)
    base = (before + last.astype(np.uint32)).astype("<u4")
    # The same way as before, but by an amount that says nothing of the last one: only its sign is worth something.
    now = np.sign(last) * rng.integers(0, 1 << 19, COUNT)
    words, past = (base + now.astype(np.uint32)).astype("<u4"), Past(base, before)
    way = choosing.choose(words, past, 2)
    assert way.mode & TREND and way.mode & ORDERED
    without = min(coded_size(words, past, Way(DIFFERENCE | flags, shift)) for flags, shift in ((0, 0), (ORDERED, 23)))
    assert coded_size(words, past, way) < 0.97 * without


def test_thorough_puts_float32_in_finer_order_where_that_pays() -> None:
    base = weights(COUNT, 4)
    # How far a word moves hangs on the highest two bits of its fraction.
    width = (1 << (4 * ((base >> 21) & 3))).astype(np.int64)
    movement = np.random.default_rng(7).integers(-100, 100, COUNT) * width
    words, past = (base + movement.astype(np.uint32)).astype("<u4"), Past(base, None)
    way = choosing.choose(words, past, 2)
    assert way == Way(DIFFERENCE | ORDERED, 21)
    assert coded_size(words, past, way) < 0.9 * coded_size(words, past, Way(DIFFERENCE | ORDERED, 23))


def test_noise_does_not_look_smaller_in_groups() -> None:
    """A group of a sample has too few words to show all values of a byte; that must not look like a gain."""
    rng = np.random.default_rng(9)
    words = rng.integers(0, 1 << 16, 1 << 13).astype("<u2")
    classes = rng.integers(0, 16, len(words)).astype(np.uint32) << np.uint32(16)
    assert choosing._class_bits(words, classes) == 16
    base = weights(COUNT, 4)
    noisy = (base + rng.integers(-(1 << 15), 1 << 15, COUNT).astype(np.uint32)).astype("<u4")
    assert [choosing.choose(noisy, Past(base, None), effort) for effort in (0, 1, 2)] == 3 * [Way(DIFFERENCE)]


@pytest.mark.parametrize("width", [2, 4, 8])
def test_thorough_is_never_larger_than_quick_by_more_than_a_trifle(width: int) -> None:
    before = weights(1 << 17, width)
    base = moved(before, 5, 20)
    words = moved(base, 6, 20)
    for past in (Past(base, None), Past(base, before)):
        quick, thorough = (coded_size(words, past, choosing.choose(words, past, effort)) for effort in (0, 2))
        assert thorough <= 1.002 * quick
