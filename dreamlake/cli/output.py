"""How the command prints: aligned tables with human sizes and local times, or one JSON object a line.

What a stranger's record holds (names, tags, descriptions) cannot move the cursor or hide text: control and
direction characters are shown as escapes. There is no colour.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["Output", "local_time", "safe", "size"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


class Output:
    """Standard output of one verb."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, value: Any) -> None:
        """One JSON line (only with ``--json``)."""
        from dreamlake import values

        if self.as_json:
            sys.stdout.write(values.encode(value).decode() + "\n")

    def records(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.record(row)

    def line(self, text: str = "") -> None:
        """One line for people (not with ``--json``)."""
        if not self.as_json:
            sys.stdout.write(text + "\n")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
        """Rows under headings, for people. Columns that are empty in every row are left out.

        Args:
            right: headings whose columns are aligned to the right.
        """
        if self.as_json:
            return
        cells = [[safe(cell) for cell in row] for row in rows]
        shown = [i for i in range(len(heads)) if any(row[i] for row in cells)]
        widths = [max(width(heads[i]), *(width(row[i]) for row in cells)) if cells else width(heads[i]) for i in shown]
        ends = frozenset(right)
        for row in [list(heads), *cells]:
            line = [_padded(row[i], w, heads[i] in ends) for i, w in zip(shown, widths, strict=True)]
            sys.stdout.write("  ".join(line).rstrip() + "\n")

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values below each other, for people; pairs without a value are left out."""
        shown = [(name, value) for name, value in pairs if value]
        wide = max((width(name) for name, _ in shown), default=0)
        for name, value in shown:
            first, *rest = value.split("\n")
            self.line(f"{_padded(name, wide, False)}  {safe(first)}")
            for more in rest:
                self.line(f"{' ' * wide}  {safe(more)}")

    def did(self, dry: bool, done: str, would: str, text: str) -> None:
        """What was done, or with ``--dry-run`` what would be."""
        self.line(f"{f'would {would}' if dry else done} {safe(text)}")

    @staticmethod
    def note(text: str) -> None:
        """A remark on standard error, which leaves standard output to the results."""
        sys.stdout.flush()
        sys.stderr.write(f"dreamlake: {safe(text)}\n")


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


def _padded(text: str, wide: int, right: bool) -> str:
    space = " " * (wide - width(text))
    return space + text if right else text + space


def pairs_of(mapping: Mapping[str, Any]) -> str:
    """Metadata on one line a field, as JSON values."""
    from dreamlake import values

    return "\n".join(f"{name} = {values.encode(value).decode()}" for name, value in mapping.items())
