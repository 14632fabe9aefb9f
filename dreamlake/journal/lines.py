"""Numbered JSON lines: finding rows in a file of one JSON object a line, each holding its own number.

Owns the reading rules of stream files, and decides nothing about writing. Works on a snapshot (the size at the time
of opening), because files only grow. The numbers in the rows make an index: a row is found by bisecting over byte
offsets. A line that a dying writer left unfinished at the end is no row; damage elsewhere is reported only to those
who ask for the rows it hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from dreamlake import values
from dreamlake.errors import Corrupt
from dreamlake.journal import MAX_ROW_BYTES, Row

_FIRST_CHUNK = 4096  # bytes of the first read; doubled up to _MAX_CHUNK, so that a long line costs linear time
_MAX_CHUNK = 1 << 20
_SCAN = 8192  # bytes: bisect until the rest is cheaper to read through


class Tail(NamedTuple):
    """The end of a file: what a writer needs to go on.

    Attributes:
        total: number of rows, which is the number of the next one.
        end: bytes up to here are whole; what follows was left unfinished and may be cut off.
        open: the last row lacks its newline (an editor may strip it).
        last: the last row, None if there is none.
    """

    total: int
    end: int
    open: bool
    last: Row | None


class Lines:
    """A snapshot of a file of numbered rows.

    Args:
        stream: the open file.
        path: its name, for errors.
        key: the field that holds a row's number.
    """

    def __init__(self, stream: BinaryIO, path: str, key: str) -> None:
        self._stream, self._path, self._key = stream, path, key
        self.size = stream.seek(0, 2)

    def tail(self) -> Tail:
        """The last row. Reads backwards from the end: its cost does not depend on the length of the file.

        Raises ``Corrupt`` when the last line is whole but not a row. Zero bytes are no damage there: they are what a
        power cut leaves of writes that were not yet durable.
        """
        end = self.size
        for offset, line, whole in self._backward():
            if not line.strip():
                continue
            row = self._parse(line)
            if row is not None:
                return Tail(row[self._key] + 1, end, not whole, row)
            if whole and b"\0" not in line:
                raise self._damaged(offset, "its last line is not a row; restore it, or cut the file off there")
            end = offset
        return Tail(0, end, False, None)

    def rows(self, start: int, limit: int) -> list[Row]:
        """Rows ``start`` to ``start + limit - 1``, as far as they exist. Raises ``Corrupt`` if one is damaged."""
        tail = self.tail()
        result: list[Row] = []
        if limit <= 0 or start >= tail.total:
            return result
        position, expected = self._locate(start, tail.end)
        for offset, line in self._forward(position, tail.end):
            if not line.strip():
                continue
            row = self._parse(line)
            if row is None:
                if expected >= start:
                    raise self._damaged(offset, f"the line of {self._key} {expected} is not a row")
                expected += 1
                continue
            number = row[self._key]
            if number != expected and max(number, expected) > start:
                raise self._damaged(offset, f"{self._key} is {number} where {expected} should be")
            expected = number + 1
            if number >= start:
                result.append(row)
                if len(result) == limit:
                    break
        return result

    def _locate(self, target: int, end: int) -> tuple[int, int]:
        """Offset and number of a row at or shortly before the row ``target``."""
        low, number, high = 0, 0, end
        while high - low > _SCAN:
            middle = (low + high) // 2
            found = self._row_after(middle, high, end)
            if found is None or found[1] > target:
                high = middle + 1
            else:
                low, number = found
        return low, number

    def _row_after(self, position: int, high: int, end: int) -> tuple[int, int] | None:
        """The first readable row that starts after ``position`` and before ``high``."""
        lines = self._forward(position, end)
        next(lines, None)  # the rest of a line that starts earlier
        for offset, line in lines:
            if offset >= high:
                return None
            row = self._parse(line)
            if row is not None:
                return offset, row[self._key]
        return None

    def _forward(self, position: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of the lines from ``position`` to ``end``."""
        offset, rest, chunk = position, b"", _FIRST_CHUNK
        while position < end:
            data = self._bytes(position, min(chunk, end - position))
            if not data:
                return  # cut off since the snapshot was taken
            position += len(data)
            chunk = min(2 * chunk, _MAX_CHUNK)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield offset, line
                offset += len(line) + 1
            self._limit(offset, rest)
        if rest:
            yield offset, rest

    def _backward(self) -> Iterator[tuple[int, bytes, bool]]:
        """Offset, bytes and "ends with a newline" of all lines, the last one first."""
        position = end = self.size
        rest, chunk, whole = b"", _FIRST_CHUNK, False
        while position > 0:
            take = min(chunk, position)
            position -= take
            chunk = min(2 * chunk, _MAX_CHUNK)
            rest, *lines = (self._bytes(position, take) + rest).split(b"\n")
            for line in reversed(lines):
                yield end - len(line), line, whole
                end -= len(line) + 1
                whole = True
            self._limit(position, rest)
        if rest:
            yield 0, rest, whole

    def _bytes(self, position: int, size: int) -> bytes:
        self._stream.seek(position)
        return self._stream.read(size)

    def _parse(self, line: bytes) -> Row | None:
        if b"\0" in line:  # the JSON reader would take it for UTF-16
            return None
        try:
            row: Any = values.decode(line)
        except (ValueError, RecursionError):
            return None
        if isinstance(row, dict) and type(number := row.get(self._key)) is int and number >= 0:
            return row
        return None

    def _limit(self, offset: int, line: bytes) -> None:
        if len(line) > MAX_ROW_BYTES + 64:  # the number comes on top of the row as the writer measured it
            raise self._damaged(offset, f"a line is longer than {MAX_ROW_BYTES:,} bytes")

    def _damaged(self, offset: int, why: str) -> Corrupt:
        where = f"{self._path} is damaged at byte {offset}"
        return Corrupt(f"{where}: {why}. Rows before and after stay readable.", path=self._path)
