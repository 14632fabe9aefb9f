"""Progress of long work on a terminal: bytes done, speed, time left. Silent everywhere else.

The bar appears only when work lasts longer than a second and standard error is a terminal, and it leaves nothing
behind. ``DREAMLAKE_PROGRESS=0`` turns it off. tqdm, which draws it, is not even imported before.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DELAY_S = 1.0


@contextmanager
def meter(total: int | None, label: str, *, unit: str = "B") -> Iterator[Callable[[int], None] | None]:
    """Yields a callback that takes the amount done since its last call (any thread may call it), or None.

    Args:
        total: how much there is to do, in ``unit``; None when that is not known.
        label: what is being done, a few words.
        unit: "B" for bytes, else a noun such as "files".
    """
    if not _wanted() or total == 0:
        yield None
        return
    bar = _Bar(total, label, unit)
    try:
        yield bar.advance
    finally:
        bar.close()


@contextmanager
def phases(unit: str = "steps") -> Iterator[Callable[[str, int, int], None] | None]:
    """Like ``meter`` for work in phases: yields a callback (phase, done so far, total or 0), or None."""
    if not _wanted():
        yield None
        return
    bars: list[tuple[str, _Bar, int]] = []

    def tell(phase: str, done: int, total: int) -> None:
        if not bars or bars[-1][0] != phase:
            for _, bar, _ in bars:
                bar.close()
            bars[:] = [(phase, _Bar(total or None, phase, unit), 0)]
        _, bar, before = bars[-1]
        if done > before:
            bar.advance(done - before)
            bars[-1] = (phase, bar, done)

    try:
        yield tell
    finally:
        for _, bar, _ in bars:
            bar.close()


class _Bar:
    """A bar that is drawn from the first progress made later than ``_DELAY_S`` after the start."""

    def __init__(self, total: int | None, label: str, unit: str) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._start, self._done = time.time(), 0
        self._lock = threading.Lock()
        self._drawn: Any = None

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            if self._drawn is not None:
                self._drawn.update(amount)
            elif time.time() - self._start > _DELAY_S:
                self._drawn = self._draw()
                self._drawn.update(self._done)

    def close(self) -> None:
        with self._lock:
            if self._drawn is not None:
                self._drawn.close()

    def _draw(self) -> Any:
        from tqdm import tqdm

        is_bytes = self._unit == "B"
        drawn = tqdm(
            total=self._total, desc=self._label, leave=False, file=sys.stderr, dynamic_ncols=True, unit_scale=is_bytes,
            unit="B" if is_bytes else f" {self._unit}", unit_divisor=1024 if is_bytes else 1000,
        )  # fmt: skip
        drawn.start_t = drawn.last_print_t = self._start  # speed and time left count from the start of the work
        return drawn


def _wanted() -> bool:
    return os.environ.get("DREAMLAKE_PROGRESS", "1") != "0" and sys.stderr is not None and sys.stderr.isatty()
