"""How the command prints: aligned tables with human sizes and local times, or one JSON object a line.

What a stranger's record holds (names, tags, descriptions) cannot move the cursor or hide text: control and
direction characters are shown as escapes. There is no colour.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamlake.texts import count, local_time, padded, safe, size, table, width

__all__ = ["Output", "count", "local_time", "pairs_of", "safe", "size", "terminal_columns", "width"]


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
        for text in table(heads, rows, right=right, columns=terminal_columns()):
            sys.stdout.write(text + "\n")

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values below each other, for people; pairs without a value are left out."""
        shown = [(name, value) for name, value in pairs if value]
        wide = max((width(name) for name, _ in shown), default=0)
        for name, value in shown:
            first, *rest = value.split("\n")
            self.line(f"{padded(name, wide)}  {safe(first)}")
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


def terminal_columns() -> int | None:
    """How wide the terminal is that standard output goes to; None if it goes elsewhere: then nothing is cut."""
    if not sys.stdout.isatty():
        return None
    try:
        return max(int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.stdout.fileno()).columns), 20)
    except (ValueError, OSError):
        return 80


def pairs_of(mapping: Mapping[str, Any]) -> str:
    """Metadata on one line a field, as JSON values."""
    from dreamlake import values

    return "\n".join(f"{name} = {values.encode(value).decode()}" for name, value in mapping.items())
