"""How the command prints: aligned tables with human sizes and local times, or one JSON object a line.

What a stranger's record holds (names, tags, descriptions) cannot move the cursor or hide text: control and
direction characters are shown as escapes. On a terminal, tables fit its width, headings stand out (unless ``NO_COLOR``
is set), and listings that are longer than it go through a pager. Elsewhere nothing is cut and there is no colour.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from dreamlake.texts import count, local_time, padded, safe, size, table, width

__all__ = ["MANNER", "Output", "count", "local_time", "pairs_of", "safe", "size", "styled", "terminal_columns", "width"]

_STYLES = {"bold": "1", "error": "1;31", "note": "33"}


class Manner:
    """How much this call says: ``-v`` and ``-q``, wherever on the line they stand."""

    verbose = False
    quiet = False

    def more(self, verbose: bool, quiet: bool) -> None:
        self.verbose, self.quiet = self.verbose or verbose, self.quiet or quiet
        if quiet:
            os.environ["DREAMLAKE_PROGRESS"] = "0"


MANNER = Manner()


class Output:
    """Standard output of one verb.

    Args:
        as_json: JSON lines instead of text for people.
        changes: a verb that changes something is silent with ``-q``; one that was asked to show something is not.
        pages: on a terminal, text that is longer than it goes through a pager, in ``finish``.
    """

    def __init__(self, as_json: bool, *, changes: bool = False, pages: bool = False) -> None:
        self.as_json = as_json
        self._silent = as_json or (changes and MANNER.quiet)
        self._held: list[str] | None = [] if pages and not as_json and sys.stdout.isatty() else None

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
        if self._silent:
            return
        if self._held is not None:
            self._held.append(text)
        else:
            sys.stdout.write(text + "\n")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
        """Rows under headings, for people. Columns that are empty in every row are left out.

        Args:
            right: headings whose columns are aligned to the right.
        """
        if self._silent:
            return
        top, *lines = table(heads, rows, right=right, columns=terminal_columns())
        self.line(styled(top, "bold", sys.stdout))
        for text in lines:
            self.line(text)

    def finish(self) -> None:
        """Print what was held back, through a pager where it does not fit the terminal."""
        held, self._held = self._held, None
        if not held:
            return
        text = "\n".join(held) + "\n"
        if len(held) < _terminal_lines() or not _paged(text):
            sys.stdout.write(text)

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
        """A remark on standard error, which leaves standard output to the results; not with ``-q``."""
        if not MANNER.quiet:
            sys.stdout.flush()
            sys.stderr.write(f"dreamlake: {styled(safe(text), 'note', sys.stderr)}\n")


def styled(text: str, style: str, stream: TextIO) -> str:
    """Bold or coloured where the stream is a terminal that shows it and nobody set ``NO_COLOR``."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _terminal_lines() -> int:
    try:
        return int(os.environ.get("LINES") or os.get_terminal_size(sys.stdout.fileno()).lines)
    except (ValueError, OSError):
        return 24


def _paged(text: str) -> bool:
    """Show a text in the user's pager. False if there is none, or none is wanted (``DREAMLAKE_PAGER=cat``)."""
    import shlex
    import subprocess

    pager = shlex.split(os.environ.get("DREAMLAKE_PAGER", os.environ.get("PAGER", "less")))
    if not pager or pager == ["cat"]:
        return False
    sys.stdout.flush()
    try:  # less: quit if it fits one screen, keep colours, leave the text on the screen
        process = subprocess.Popen(pager, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    except OSError:
        return False
    try:
        process.communicate(text.encode(errors="backslashreplace"))
    except BrokenPipeError:
        pass  # who has seen enough ends the pager
    except KeyboardInterrupt:
        process.wait()
    return True


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
