"""Durations as people write and read them: ``7d``, ``12h``, ``30m``, ``45s``, ``2w``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d|w)?\s*")


def seconds(value: Any, what: str) -> float:
    """A duration in seconds from "7d", "12h", "30m", "45s", "2w", a number of seconds or a timedelta.

    Raises ``InvalidInput`` or ``InvalidType`` naming ``what``.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.lower())
        if found is None:
            raise InvalidInput(f"{what}={value!r} is not a duration; write 7d, 12h, 30m, 45s or 2w")
        value = float(found[1]) * _UNITS[found[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"{what} is a duration like '7d' or a number of seconds, not {value!r}")
    if not 0 <= value <= 100 * 366 * 86_400:
        raise InvalidInput(f"{what}={value!r} is not between 0 seconds and 100 years")
    return float(value)


def age(seconds: float) -> str:
    """A duration for people: ``7 d``, ``12 h``, ``90 s``."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f} {'min' if unit == 'm' else unit}"
    return f"{seconds:g} s"
