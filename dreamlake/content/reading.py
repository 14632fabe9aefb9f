"""Stored form -> plain bytes, verified. The one place that reads content for users (I1, I11).

Content is stored whole (the bytes themselves, or framed raw where they happen to begin with the frame magic), or as a
recipe over parts (``assembled``). A whole copy is preferred when there are both.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dreamlake.blobs import Blobs, Proof
from dreamlake.content import frame
from dreamlake.content.assembled import Assembled, is_missing
from dreamlake.content.pump import PIECE, Write, forward, pump
from dreamlake.content.recent import RecentParts
from dreamlake.errors import Corrupt, NotFound
from dreamlake.rawio import Seekable, read_up_to

_AT_ONCE = 1 << 20  # up to this size one read and one write do it


def plain_stream(stored: BinaryIO) -> tuple[BinaryIO, int]:
    """The stream positioned at its plain bytes, and the offset at which they start."""
    head = stored.read(len(frame.raw_header()))
    if frame.is_framed(head):
        frame.check_raw_header(head)
        return stored, len(frame.raw_header())
    stored.seek(0)
    return stored, 0


def pieces(blobs: Blobs, digest: str, size: int) -> Iterator[bytes]:
    """All plain bytes of a blob, piece by piece; raises ``Corrupt`` after the last if they do not match."""
    hasher, total = hashlib.sha256(), 0
    whole = _whole(blobs, digest)
    if whole is None:
        for view in Assembled(blobs, digest, size).stream():
            hasher.update(view)
            total += len(view)
            yield bytes(view)
    else:
        with whole:
            stored, _ = plain_stream(whole)
            while piece := stored.read(PIECE):
                hasher.update(piece)
                total += len(piece)
                yield piece
    _check(hasher.hexdigest(), digest, total, size)


def _whole(blobs: Blobs, digest: str) -> BinaryIO | None:
    """The whole stored copy, or None when the content is stored as a recipe. Raises ``NotFound`` if it is neither."""
    try:
        stored = blobs.open(digest)
        return _Lasting(stored, blobs, digest) if blobs.sending_is_dear else stored  # type: ignore[return-value]
    except NotFound:
        if is_missing(blobs, digest):
            raise
        return None


def read_all(blobs: Blobs, digest: str, size: int) -> bytes:
    """The whole content, verified."""
    return b"".join(pieces(blobs, digest, size))


def copy_to(
    blobs: Blobs,
    digest: str,
    size: int,
    write: Write,
    progress: Callable[[int], None] | None = None,
    recent: RecentParts | None = None,
) -> None:
    """Hand all plain bytes of a blob to ``write``, piece by piece; the memory of a piece is used again afterwards.

    Large content is hashed on a second thread meanwhile. When this raises, what was written must be dropped.

    Args:
        recent: shared by calls that read several contents, which then share the parts that they have in common.

    Raises ``Corrupt`` when the bytes do not match, ``NotFound`` when no copy exists.
    """
    whole = _whole(blobs, digest)
    if whole is None:
        with recent.alone() if recent is not None else contextlib.nullcontext():
            got, total = forward(Assembled(blobs, digest, size, recent).stream(), write, progress)
        _check(got, digest, total, size)
        return
    with whole as raw:
        if size <= _AT_ONCE:
            data = _content(read_up_to(raw, size + frame.PREFIX_SIZE + 1))
            _check(hashlib.sha256(data).hexdigest(), digest, len(data), size)
            write(memoryview(data))
            if progress:
                progress(size)
            return
        stored, _ = plain_stream(raw)
        written = 0

        def bounded(piece: memoryview) -> None:
            nonlocal written
            written += len(piece)
            if written > size:  # a damaged copy must not fill the disk before its checksum fails
                raise _damaged(f"{written:,} bytes or more", digest, size)
            write(piece)

        got, total = pump(stored.readinto, bounded, progress)  # type: ignore[attr-defined]
    _check(got, digest, total, size)


def _content(stored: bytes) -> bytes:
    if not frame.is_framed(stored):
        return stored
    frame.check_raw_header(stored)
    return stored[frame.PREFIX_SIZE :]


def proof(digest: str) -> Proof:
    """A check for ``Blobs.look``: do these stored bytes really hold the content of this digest?"""

    def prove(raw: BinaryIO) -> bool:
        hasher = hashlib.sha256()
        try:
            stored, _ = plain_stream(raw)
        except ValueError:
            return False
        while piece := stored.read(PIECE):
            hasher.update(piece)
        return hasher.hexdigest() == digest

    return prove


class _Lasting(Seekable):
    """A whole stored copy that may go away while it is read, because it is not a file that is held open.

    An optimizer drops a whole copy once there is a recipe: then the recipe goes on where the copy ended.
    """

    def __init__(self, stored: BinaryIO, blobs: Blobs, digest: str) -> None:
        super().__init__(stored.seek(0, io.SEEK_END))
        stored.seek(0)
        self._stored, self._blobs, self._digest = stored, blobs, digest
        self._start: int | None = None  # where plain bytes begin, known when the first bytes were read
        self._rest: AssembledStream | None = None

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = self._read(view)
        if self._start is None and self._position == 0:
            self._start = len(frame.raw_header()) if frame.is_framed(view[:count]) else 0
        self._position += count
        return count

    def _read(self, view: memoryview) -> int:
        if self._rest is None:
            try:
                return int(self._stored.readinto(view))  # type: ignore[attr-defined]
            except NotFound:
                if self._start is None or is_missing(self._blobs, self._digest):
                    raise
                self._rest = AssembledStream(Assembled(self._blobs, self._digest, self._size - self._start))
        self._rest.seek(self._position - (self._start or 0))
        return self._rest.readinto(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._rest is None:
            self._stored.seek(super().seek(offset, whence))
            return self._position
        return super().seek(offset, whence)

    def close(self) -> None:
        if not self.closed:
            self._stored.close()
        super().close()


class AssembledStream(Seekable):
    """Seekable plain bytes of a recipe: a read decodes only the parts it touches, each proven by its key."""

    def __init__(self, content: Assembled) -> None:
        super().__init__(content.recipe.size)
        self._content = content

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        stop = min(self._size, self._position + len(view))
        piece = next(self._content.read(self._position, stop), memoryview(b""))
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


class VerifiedStream(Seekable):
    """Seekable plain bytes of one blob. A read from start to end is verified and raises ``Corrupt`` at its end.

    Reads that jump about are not hashed; ``open_plain`` checks the whole content first when the copy's tamper mark
    is broken.
    """

    def __init__(self, raw: BinaryIO, start: int, digest: str, size: int) -> None:
        super().__init__(size)
        self._raw, self._start, self._digest = raw, start, digest
        self._hasher: object = hashlib.sha256()
        self._hashed = 0

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        want = min(len(view), max(0, self._size - self._position))
        count = self._raw.readinto(view[:want]) if want else 0  # type: ignore[attr-defined]
        if self._position == self._hashed and count:
            self._hasher.update(view[:count])  # type: ignore[attr-defined]
            self._hashed += count
        self._position += count
        if not count and self._position < self._size:
            raise Corrupt(f"stored content {self._digest} ends after {self._position:,} of {self._size:,} bytes")
        if self._hashed == self._size and count:
            _check(self._hasher.hexdigest(), self._digest, self._hashed, self._size)  # type: ignore[attr-defined]
        return int(count)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._raw.seek(self._start + super().seek(offset, whence))
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def open_plain(blobs: Blobs, digest: str, size: int) -> io.BufferedReader:
    """A seekable stream of the plain content; checked whole first when the copy's tamper mark is broken.

    Raises ``Corrupt`` for damaged content, ``NotFound`` when no copy exists.
    """
    raw = _whole(blobs, digest)
    if raw is None:
        return _open_assembled(blobs, digest, size)
    try:
        if not blobs.sealed(digest):
            for _ in pieces(blobs, digest, size):
                pass
        stored, start = plain_stream(raw)
        stored.seek(start)
    except NotFound:  # the whole copy was dropped meanwhile, because there is a recipe now
        raw.close()
        return _open_assembled(blobs, digest, size)
    except BaseException:
        raw.close()
        raise
    return io.BufferedReader(VerifiedStream(stored, start, digest, size), buffer_size=1 << 16)


def _open_assembled(blobs: Blobs, digest: str, size: int) -> io.BufferedReader:
    return io.BufferedReader(AssembledStream(Assembled(blobs, digest, size)), buffer_size=1 << 16)


def _check(got: str, digest: str, total: int, size: int) -> None:
    if got != digest or total != size:
        raise _damaged(f"{total:,} bytes with SHA-256 {got}", digest, size)


def _damaged(found: str, digest: str, size: int) -> Corrupt:
    return Corrupt(
        f"stored content {digest} is damaged ({found}; {size:,} expected). "
        "Your destination was left alone; upload the file again or run `dreamlake repair`.",
        path=digest,
    )
