"""Points in time as users give them and as records hold them."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone

from dreamlake.errors import InvalidInput, InvalidType


def moment(value: str | date) -> datetime:
    """A point in time from ISO-8601 text, a datetime or a date.

    Text without a zone is UTC, like all times that we print; a datetime without one is local time, as everywhere in
    Python. Raises ``InvalidInput`` or ``InvalidType``.
    """
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise InvalidInput(f"time {value!r} is not ISO-8601, e.g. 2026-01-31T12:00:00Z") from None
        return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    if not isinstance(value, date):
        raise InvalidType(f"a time is ISO-8601 text or a datetime, not {type(value).__name__}")
    when = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    try:
        return when if when.tzinfo else when.astimezone()
    except (ValueError, OverflowError):
        raise InvalidInput(f"time {when!r} does not exist in UTC") from None


def instant(text: str) -> float:
    """A time stamp of a record in seconds since the epoch; NaN, which compares to nothing, if it is none."""
    try:
        when = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
