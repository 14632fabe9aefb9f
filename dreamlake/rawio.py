"""What raw streams share: reading a given number of bytes, and a position within a known size."""

from __future__ import annotations

import io
from typing import BinaryIO

__all__ = ["Seekable", "read_up_to"]


def read_up_to(stream: BinaryIO, limit: int) -> bytes:
    """At most ``limit`` bytes from where a stream stands: a raw stream may give less at a time than it is asked for."""
    data = stream.read(limit) or b""
    if len(data) == limit:
        return data
    pieces, left = [data], limit - len(data)
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class Seekable(io.RawIOBase):
    """A readable stream with a position within ``size`` bytes; what it reads is its subclass's business."""

    def __init__(self, size: int) -> None:
        self._size, self._position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position
