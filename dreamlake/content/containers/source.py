"""Bounded reading for parsers of untrusted files: no claim in a file can make them allocate or wander (I10, I11)."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

__all__ = ["MAX_READ", "Cursor", "Odd", "Source"]

MAX_READ = 64 << 20  # bytes of one header, directory or pickle


class Odd(Exception):
    """The file is not what it seems, or does something that the parser does not follow. It is then stored as bytes."""


class Source:
    """Random access to a file of known size, given as a seekable binary stream or as a buffer (bytes, mmap)."""

    def __init__(
        self, file: BinaryIO | bytes | bytearray | memoryview | Any, size: int | None = None, base: int = 0
    ) -> None:
        self._file, self._base = file, base
        self._stream: Any = None
        if hasattr(file, "read") and not hasattr(file, "madvise"):  # an mmap can do both; its buffer needs no seeking
            self._stream = file
            self.size = int(self._stream.seek(0, 2)) - base if size is None else size
        else:
            buffer: Any = file
            self._view = memoryview(buffer)[base:]
            self.size = len(self._view) if size is None else min(size, len(self._view))

    def window(self, offset: int, size: int) -> Source:
        """A stretch of this source as a source of its own. Raises ``Odd`` when it does not lie within."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Odd(f"{size} bytes at {offset}")
        return Source(self._file, size, self._base + offset)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises ``Odd`` when they do not lie within the file, or are more than MAX_READ."""
        if offset < 0 or size < 0 or size > MAX_READ or offset + size > self.size:
            raise Odd(f"{size} bytes at {offset}")
        if self._stream is None:
            return bytes(self._view[offset : offset + size])
        self._stream.seek(self._base + offset)
        data = b""
        while len(data) < size:
            piece = self._stream.read(size - len(data))
            if not piece:
                raise Odd("the file ends early")
            data += piece
        return data

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill ``target`` from ``offset`` on; no limit on its size, because the caller has allocated it."""
        if offset < 0 or offset + len(target) > self.size:
            raise Odd(f"{len(target)} bytes at {offset}")
        if self._stream is None:
            target[:] = self._view[offset : offset + len(target)]
            return
        self._stream.seek(self._base + offset)
        done = 0
        while done < len(target):
            count = self._read_some(target[done:])
            if not 0 < count <= len(target) - done:
                raise Odd("the file ends early")
            done += count

    def _read_some(self, target: memoryview) -> int:
        if isinstance(self._stream, (io.RawIOBase, io.BufferedIOBase)):
            return int(self._stream.readinto(target) or 0)
        piece = self._stream.read(len(target))  # a stream of the user's own making
        target[: len(piece)] = piece
        return len(piece)


class Cursor:
    """Reads forward through one stretch of a source, in pieces, so that many small fields cost few reads."""

    _PIECE = 1 << 16

    def __init__(self, source: Source, start: int, limit: int) -> None:
        self._source, self._piece, self._start = source, b"", start
        self._end = min(source.size, start + limit)
        self.at = start

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes; raises ``Odd`` past the limit."""
        if size < 0 or self.at + size > self._end:
            raise Odd("a header is longer than the file or the limit")
        low = self.at - self._start
        if low + size > len(self._piece):
            self._start, low = self.at, 0
            self._piece = self._source.read(self.at, min(self._end - self.at, max(size, self._PIECE)))
        self.at += size
        return self._piece[low : low + size]

    def number(self, size: int) -> int:
        """The next unsigned little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")
