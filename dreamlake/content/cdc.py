"""Content-defined cuts: where to split bytes so that an insertion moves one border instead of all.

A place i (between bytes i - 1 and i) is a candidate when

    3 b[i-1] + 5 b[i-2] + 7 b[i-3] + 11 b[i-4] = 29  (modulo 256), a cheap test that one place in 256 passes, and
    the top bits of H(b[i-32] ... b[i-1]) are zero, where H = sum of the four 8-byte little-endian words of the
    window, each times its own odd constant, modulo 2**64

Of the candidates, a cut is the first one at least MIN bytes after the cut before; without one, the cut is MAX bytes
after. Cheap enough to run beside hashing (several hundred MB/s on a core), because only one window in 256 is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX", "MIN", "WINDOW", "candidates", "cuts"]

MIN, MAX = 256 << 10, 4 << 20
WINDOW = 32
_TOP_BITS = 12  # with the first test: one place in 2**20
_PIECE = 1 << 19  # bytes looked at together; bounds scratch memory on adversarial input
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def candidates(data: bytes | memoryview) -> list[int]:
    """All candidates in ``data``, from place WINDOW on, in order."""
    import numpy as np

    view = np.frombuffer(data, np.uint8)
    found: list[int] = []
    for start in range(0, len(view), _PIECE):
        piece = view[max(0, start - WINDOW) : start + _PIECE]
        first = max(0, start - WINDOW)
        found += [first + place for place in _candidates(piece) if first + place >= max(start, WINDOW)]
    return sorted(set(found))


def cuts(places: Iterator[int], size: int) -> Iterator[int]:
    """The cuts of ``size`` bytes whose candidates are ``places``, in order; the last one is ``size``."""
    last = 0
    for place in places:
        while place - last > MAX:
            last += MAX
            yield last
        if place - last >= MIN and place < size:
            last = place
            yield last
    while size - last > MAX:
        last += MAX
        yield last
    if size > last:
        yield size


def _candidates(piece: NDArray[np.uint8]) -> list[int]:
    import numpy as np

    if len(piece) < WINDOW:
        return []
    mixed = piece[3:] * np.uint8(3)
    mixed += piece[2:-1] * np.uint8(5)
    mixed += piece[1:-2] * np.uint8(7)
    mixed += piece[:-3] * np.uint8(11)
    places = np.flatnonzero(mixed == 29) + 4
    places = places[places >= WINDOW]
    if not len(places):
        return []
    windows = np.lib.stride_tricks.sliding_window_view(piece, WINDOW)[places - WINDOW]
    words = np.ascontiguousarray(windows).view("<u8")
    hashed = np.zeros(len(places), np.uint64)
    for i, factor in enumerate(_FACTORS):
        hashed += words[:, i] * np.uint64(factor)
    return places[hashed >> np.uint64(64 - _TOP_BITS) == 0].tolist()  # type: ignore[no-any-return]
