"""Progress of long work on a terminal: bytes done, speed, time left. Silent everywhere else.

The bar appears only when work lasts longer than a second and standard error is a terminal. ``DREAMLAKE_PROGRESS=0``
turns it off.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DELAY_S = 1.0
_LEAST_BYTES = 32 << 20  # less than this is over before a bar would appear


@contextmanager
def meter(total: int, label: str, *, unit: str = "B") -> Iterator[Callable[[int], None] | None]:
    """Yields a callback that takes the amount done since its last call (any thread may call it), or None.

    Args:
        total: how much there is to do, in ``unit``.
        label: what is being done, a few words.
        unit: "B" for bytes, else a noun such as "files".
    """
    if not _wanted() or (unit == "B" and total < _LEAST_BYTES):
        yield None
        return
    from tqdm import tqdm

    is_bytes = unit == "B"
    scale = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if is_bytes else {"unit": f" {unit}"}
    with tqdm(
        total=total, desc=label, delay=_DELAY_S, leave=False, file=sys.stderr, dynamic_ncols=True, **scale
    ) as bar:
        lock = threading.Lock()

        def advance(amount: int) -> None:
            with lock:
                bar.update(amount)

        yield advance


def _wanted() -> bool:
    return os.environ.get("DREAMLAKE_PROGRESS", "1") != "0" and sys.stderr is not None and sys.stderr.isatty()
