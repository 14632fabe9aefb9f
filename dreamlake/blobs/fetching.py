"""Stored bytes of a copy in an object store as a stream: its head from the document, the rest in ranges, read ahead.

Who reads in order gets the next ranges fetched in parallel meanwhile; who jumps about pays for little more than what is
asked for. Memory is bounded by ``AHEAD`` ranges of ``RANGE_BYTES``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dreamlake.errors import NotFound
from dreamlake.rawio import Seekable
from dreamlake.services.docs import Doc
from dreamlake.services.objects import Objects
from dreamlake.threads import ThreadPoolExecutor

RANGE_BYTES = 8 << 20  # of one request of somebody who reads in order
SHORT_BYTES = 256 << 10  # of somebody who does not
EAGER_BYTES = 1 << 20  # read of one range before the next ones are asked for
AHEAD = 4  # ranges in flight or in memory


class ObjectStream(Seekable):
    """One copy. ``again`` finds another copy of the key, for when this one is gone: it does if nothing was read yet, or
    if it has the same bytes. None: exactly this one, and every byte from the object itself.
    """

    def __init__(
        self, objects: Objects, doc: Doc, threads: Callable[[], ThreadPoolExecutor], again: Callable[[Doc], Doc] | None
    ) -> None:
        super().__init__(int(doc["size"]))
        self._objects, self._threads, self._again = objects, threads, again
        self._take(doc)
        self._served = False  # something was handed out: from now on it must be these very bytes

    def _take(self, doc: Doc) -> None:
        self._doc, self._size = doc, int(doc["size"])
        self._head = bytes(doc["head"]) if self._again is not None else b""
        self._ranges: OrderedDict[int, tuple[int, Future[bytes] | bytes]] = OrderedDict()
        self._next = len(self._head)  # where a read in order would go on

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            try:
                piece = self._piece(len(view))
                break
            except NotFound:
                if self._again is None:
                    raise
                other = self._again(self._doc)
                if self._served and (other["size"], other["etag"]) != (self._doc["size"], self._doc["etag"]):
                    raise
                self._take(other)
        view[: len(piece)] = piece
        self._position += len(piece)
        self._served = self._served or bool(piece)
        return len(piece)

    def _piece(self, most: int) -> memoryview:
        """Some bytes from the position on, at most so many; none at the end."""
        at = self._position
        if at >= self._size or not most:
            return memoryview(b"")
        if at < len(self._head):
            return memoryview(self._head)[at : at + most]
        for start, (stop, _) in self._ranges.items():
            if start <= at < stop:
                break
        else:
            start, stop = at, self._fetch(at, most)
        data = self._ranges[start][1]
        if isinstance(data, Future):
            data = data.result()
            self._ranges[start] = (stop, data)
        if len(data) < stop - start:  # the object is not what it was; whoever reads it finds out by its checksum
            self._size = stop = start + len(data)
            self._ranges[start] = (stop, data)
        if self._next == start:
            self._next = stop
        if self._next == stop and at - start >= EAGER_BYTES:
            self._look_ahead(stop)
        return memoryview(data)[at - start : at - start + most]

    def _fetch(self, at: int, most: int) -> int:
        """Ask for the range that begins at the position; where it ends."""
        in_order = at == self._next
        if not in_order:
            self._ranges.clear()
            self._next = at  # whoever goes on from here reads in order
        length = RANGE_BYTES if in_order else max(SHORT_BYTES, min(most, RANGE_BYTES))
        stop = min(self._size, at + length)
        self._make_room()
        self._ranges[at] = (stop, self._objects.read(self._doc["_id"], at, stop))
        return stop

    def _look_ahead(self, stop: int) -> None:
        """Ask for what comes next."""
        pending = sum(start >= stop for start in self._ranges)
        end = max(end for end, _ in self._ranges.values())
        place = self._doc["_id"]
        while end < self._size and pending < AHEAD - 1:
            start, end = end, min(self._size, end + RANGE_BYTES)
            self._make_room()
            self._ranges[start] = (end, self._threads().submit(self._objects.read, place, start, end))
            pending += 1

    def _make_room(self) -> None:
        while len(self._ranges) >= AHEAD:
            self._ranges.popitem(last=False)

    def close(self) -> None:
        if not self.closed:
            for _, data in self._ranges.values():
                if isinstance(data, Future):
                    data.cancel()
            self._ranges.clear()
        super().close()
