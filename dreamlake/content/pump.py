"""The one-pass loop: move bytes from a source to a destination and hash them on the way, on a second thread.

Which loop is fastest changes from machine to machine; it lives here once, for everything that moves large content.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from dreamlake.threads import ThreadPoolExecutor

PIECE = 1 << 20  # still in the processor's cache when it is hashed: a third less work than with 4 MiB
_BUFFERS = 3
_BEHIND = 8  # pieces that may wait for being hashed

Fill = Callable[[memoryview], int]  # fills the start of a buffer, returns how many bytes; 0 at the end
Write = Callable[[memoryview], None]  # takes a whole piece; the buffer is reused after it returns


def pump(fill: Fill, write: Write, progress: Callable[[int], None] | None = None) -> tuple[str, int]:
    """Move everything that ``fill`` gives to ``write``.

    Each piece is hashed while it is written, from the same buffer, so that the digest is that of the bytes written.

    Args:
        progress: called with the bytes of each piece after it was written.

    Returns:
        SHA-256 (64 hexadecimal digits) and size in bytes of all that was moved.
    """
    digest = hashlib.sha256()
    buffers = [memoryview(bytearray(PIECE)) for _ in range(_BUFFERS)]
    hashing: list[Future[None] | None] = [None] * _BUFFERS
    size, turn = 0, 0
    with ThreadPoolExecutor(1, thread_name_prefix="dreamlake-hash") as pool:
        while True:
            busy = hashing[turn]
            if busy is not None:
                busy.result()
            count = fill(buffers[turn])
            if not count:
                break
            piece = buffers[turn][:count]
            size += count
            hashing[turn] = pool.submit(digest.update, piece)
            write(piece)
            if progress:
                progress(count)
            turn = (turn + 1) % _BUFFERS
    return digest.hexdigest(), size


def forward(
    views: Iterable[memoryview], write: Write, progress: Callable[[int], None] | None = None
) -> tuple[str, int]:
    """Like ``pump``, for bytes that are in memory already: they are not copied, and must not change while held."""
    digest = hashlib.sha256()
    hashing: deque[Future[None]] = deque()
    size = 0
    with ThreadPoolExecutor(1, thread_name_prefix="dreamlake-hash") as pool:
        for view in views:
            for start in range(0, len(view), PIECE):
                piece = view[start : start + PIECE]
                hashing.append(pool.submit(digest.update, piece))
                write(piece)
                size += len(piece)
                if progress:
                    progress(len(piece))
                if len(hashing) > _BEHIND:
                    hashing.popleft().result()
        for future in hashing:
            future.result()
    return digest.hexdigest(), size
