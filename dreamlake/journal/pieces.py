"""Text that is too large for one document of a database, in pieces of their own: written before what refers to them.

A holder (the document that refers to them) has ``text``, or ``writer`` and ``pieces``: the pieces are
``{_id: writer/number, text}`` in ``journal_pieces``, and ``pieces`` says for each the number of the first line that
begins in it or later, so that a few lines can be read without the rest. A line that needs several pieces shares them
with no other line.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from dreamlake.errors import OutcomeUnknown, Unavailable
from dreamlake.services.docs import MAX_BATCH, Doc, Docs

PIECES = "journal_pieces"
PIECE = 1 << 20  # characters of text in one document: at most 4 MiB, far from the limit of 16
REPEATS = 5  # of a change whose reply was lost
_AT_ONCE = 8  # pieces sent together


class Pieces:
    """The pieces of one database. ``wait`` is called with the number of a try that failed."""

    def __init__(self, docs: Docs, wait: Callable[[int], None]) -> None:
        self._docs, self._wait = docs, wait

    def pack(self, writer: str, lines: Sequence[str]) -> Doc:
        """What a holder says of these lines: their text, or pieces, which are stored at once.

        Args:
            writer: an id that was never used before.
        """
        if sum(map(len, lines)) <= PIECE:
            return {"text": "".join(lines)}
        starts: list[int] = []
        batch: list[Doc] = []
        for first, text in _cut(lines):
            batch.append({"_id": f"{writer}/{len(starts)}", "text": text})
            starts.append(first)
            if len(batch) == _AT_ONCE:
                self._store(batch)
                batch = []
        self._store(batch)
        return {"pieces": starts}

    def _store(self, batch: Sequence[Doc]) -> None:
        for attempt in range(REPEATS):
            try:
                self._docs.insert(PIECES, batch)  # one that is there already is ours: nobody else knows the writer
                return
            except OutcomeUnknown:
                if attempt == REPEATS - 1:
                    raise
                self._wait(attempt)

    def text(self, holder: Doc) -> str | None:
        """All of it; None when a piece is missing."""
        if "text" in holder:
            return str(holder["text"])
        found = [self._piece(holder, number) for number in range(len(holder["pieces"]))]
        return None if None in found else "".join(text for text in found if text is not None)

    def lines(self, holder: Doc, skip: int, take: int) -> Iterator[str]:
        """Lines ``skip`` to ``skip + take - 1``; only the pieces they lie in are read. Ends early if one is missing."""
        if "text" in holder:
            yield from holder["text"].split("\n")[skip : skip + take]
            return
        starts: list[int] = holder["pieces"]
        first = bisect_right(starts, skip) - 1
        skip -= starts[first]
        rest = ""
        for number in range(first, len(starts)):
            text = self._piece(holder, number)
            if text is None:
                return
            *lines, rest = (rest + text).split("\n")
            yield from lines[skip : skip + take]
            take -= max(0, len(lines) - skip)
            skip = max(0, skip - len(lines))
            if take <= 0:
                return

    def _piece(self, holder: Doc, number: int) -> str | None:
        found = next(self._docs.find(PIECES, {"_id": f"{holder['writer']}/{number}"}, limit=1), None)
        return None if found is None else found["text"]

    def drop(self, holder: Doc) -> None:
        """Remove pieces that nothing refers to any more. If that fails they only take space."""
        names = [f"{holder['writer']}/{number}" for number in range(len(holder.get("pieces", ())))]
        for start in range(0, len(names), MAX_BATCH):
            with contextlib.suppress(Unavailable):
                self._docs.delete(PIECES, {"_id": {"$in": names[start : start + MAX_BATCH]}})


def _cut(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Text in pieces of at most ``PIECE`` characters, each with the number of the first line that begins in it."""
    waiting: list[str] = []
    size = first = 0
    for number, line in enumerate(lines):
        if waiting and size + len(line) > PIECE:
            yield first, "".join(waiting)
            waiting, size = [], 0
        if not waiting:
            first = number
        if len(line) > PIECE:
            for start in range(0, len(line), PIECE):
                yield (number if start == 0 else number + 1), line[start : start + PIECE]
            continue
        waiting.append(line)
        size += len(line)
    if waiting:
        yield first, "".join(waiting)
