"""Text for people: sizes, times, tables. What a stranger's record holds cannot move a cursor or hide text in it.

Used by the command line, by the text of records, and by notebooks. Decides nothing about where it is printed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

__all__ = ["count", "cut", "local_time", "padded", "safe", "size", "table", "width"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LEAST = (16, 10)  # what cells are narrowed to at most: a time, and if that is not enough, less


def size(count: int) -> str:
    """Bytes for people: ``"0 B"``, ``"8.7 MiB"``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if value < 999.95 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}"
    raise AssertionError


def local_time(text: str | None) -> str:
    """An ISO time of a record in the local zone: ``"2026-01-31 12:00"``."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return text


def count(number: int, noun: str) -> str:
    """``"1 file"``, ``"20,000 files"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def safe(text: str) -> str:
    """Text that cannot play tricks on a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    marks = sum(1 for c in text if unicodedata.combining(c))
    wide = sum(1 for c in text if unicodedata.east_asian_width(c) in "WF")
    return len(text) - marks + wide


def padded(text: str, wide: int, right: bool = False) -> str:
    """Filled with spaces to so many columns."""
    space = " " * (wide - width(text))
    return space + text if right else text + space


def cut(text: str, wide: int) -> str:
    """At most so many columns: a path loses its middle, other text its end."""
    if width(text) <= wide:
        return text
    if wide < 2:
        return "…"[:wide]
    if "/" in text:
        tail = _columns(text[::-1], (wide - 1) * 2 // 3)[::-1]
        return _columns(text, wide - 1 - width(tail)) + "…" + tail
    return _columns(text, wide - 1) + "…"


def _columns(text: str, wide: int) -> str:
    """The longest beginning that takes at most so many columns."""
    taken = 0
    for number, char in enumerate(text):
        taken += width(char)
        if taken > wide:
            return text[:number]
    return text


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), columns: int | None = None
) -> list[str]:
    """Lines of a table; columns that are empty in every row are left out.

    Args:
        right: headings whose columns are aligned to the right.
        columns: of the terminal; the widest cells are cut until lines fit, where that is possible.
    """
    cells = [[safe(cell) for cell in row] for row in rows]
    shown = [i for i in range(len(heads)) if any(row[i] for row in cells)]
    widths = {i: max(width(heads[i]), *(width(row[i]) for row in cells)) if cells else width(heads[i]) for i in shown}
    if columns is not None:
        _narrow(widths, columns - 2 * (len(shown) - 1), heads)
    ends = frozenset(right)
    lines = []
    for row in [list(heads), *cells]:
        line = [padded(cut(row[i], widths[i]), widths[i], heads[i] in ends) for i in shown]
        lines.append("  ".join(line).rstrip())
    return lines


def _narrow(widths: dict[int, int], room: int, heads: Sequence[str]) -> None:
    """Take room from the widest columns; the first gives way last, a time stays whole if anything else can."""
    first = min(widths, default=0)
    for least in _LEAST:
        while sum(widths.values()) > room:
            wide = [i for i in widths if widths[i] > max(least, width(heads[i]))]
            if not wide:
                break
            widths[max(wide, key=lambda i: widths[i] / (2 if i == first else 1))] -= 1
