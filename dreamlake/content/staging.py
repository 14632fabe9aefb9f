"""Plain bytes on their way in: read once, hash what is written, stage it for publishing.

Owns: the one-pass loop, what may be uploaded (regular files, bytes, binary streams), and the promise that the digest
is that of the bytes staged, whatever happens to the source meanwhile. Where sending is dear, what can be read twice is
only hashed at first, and staged (``stage_again``) once nobody has found it. Knows blobs, not the catalog.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from dreamlake.blobs import Blobs, Staged, Stager
from dreamlake.content import frame
from dreamlake.content.ingest import Coded
from dreamlake.content.pump import pump
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.rawio import read_up_to

SMALL_BYTES = 1 << 20  # up to this size a file is hashed before it is staged: a known one costs no scratch file

Progress = Callable[[int], None]  # bytes done since the last call


class SourceStat(tuple[int, int, int, int]):
    """(size, mtime_ns, ctime_ns, inode) of a source file: equal means that nobody wrote to it in between."""

    @classmethod
    def of(cls, fd_or_path: int | str) -> SourceStat:
        return cls.taken(os.stat(fd_or_path))

    @classmethod
    def taken(cls, s: os.stat_result) -> SourceStat:
        return cls((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))


@dataclass
class Plain:
    """Content that an upload needs: its identity, and how to get its bytes (again).

    ``staged`` is set while the bytes wait in scratch space, ``coded`` while they wait there as parts and a recipe.
    ``relied`` are the blobs in which it was last found stored. ``facts`` are the source's at the time of hashing.
    ``sent_bytes`` counts what was published of it.
    """

    digest: str
    size: int
    source: str | bytes | BinaryIO | None
    staged: Staged | None = None
    facts: SourceStat | None = None
    stager: Stager | None = None
    coded: Coded | None = None
    relied: list[str] | None = None
    sent_bytes: int = 0

    @property
    def keys(self) -> list[str]:
        """All blobs that a claim on this content must name: those to be published, or those found stored."""
        return self.coded.keys() if self.coded is not None else self.relied or [self.digest]

    @property
    def waiting(self) -> list[Staged]:
        """Staged bytes that are to be published."""
        forms = [form.staged for form in self.coded.waiting()] if self.coded is not None else []
        return [staged for staged in [self.staged, *forms] if staged is not None]

    def discard(self) -> None:
        """Drop staged bytes that nobody published."""
        if self.stager is not None:
            self.stager.discard()
        if self.coded is not None:
            self.coded.discard()
        self.stager = self.staged = self.coded = None


def check_source(path: str, limit: int) -> os.stat_result:
    """Facts of a regular file that may be uploaded.

    Raises:
        NotFound: no such file.  InvalidInput: a folder, FIFO, socket or device, or larger than ``limit`` bytes.
    """
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", path=path) from None
    except (NotADirectoryError, ValueError) as error:
        raise InvalidInput(f"not a usable path: {path!r} ({error})", path=path) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InvalidInput(f"not a usable path: {path!r} ({error.strerror})", path=path) from None
        raise
    _check_kind(facts, path)
    check_size(facts.st_size, limit, path)
    return facts


def open_source(path: str) -> int:
    """A descriptor of a regular file for reading. Never waits, whatever has taken the file's place meanwhile.

    Raises what ``check_source`` raises.
    """
    return _opened(path)[0]


def _opened(path: str) -> tuple[int, SourceStat]:
    """The same, with the facts of the file at that moment."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", path=path) from None
    try:
        facts = os.fstat(fd)
        _check_kind(facts, path)
    except BaseException:
        os.close(fd)
        raise
    return fd, SourceStat.taken(facts)


def _check_kind(facts: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise InvalidInput(f"{path} is a folder; give a file here", path=path)
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(f"{path} is not a regular file (a FIFO, socket or device cannot be uploaded)", path=path)


def check_size(size: int, limit: int, shown: str) -> None:
    if size > limit:
        raise InvalidInput(
            f"{shown} has {size:,} bytes; the limit is {limit:,}. "
            "Raise it with max_file_bytes=... or DREAMLAKE_MAX_FILE_BYTES.",
            path=shown,
        )


def take(
    source: str | bytes | BinaryIO,
    blobs: Blobs,
    *,
    limit: int,
    shown: str,
    known: Callable[[str, int], bool] = lambda digest, size: False,
    hash_first: bool = False,
    progress: Progress | None = None,
) -> Plain:
    """Read a source once; returns its digest and, unless ``known`` says that it is stored, its staged bytes.

    Args:
        source: path of a regular file, bytes, or a binary stream (read from where it stands).
        limit: most bytes accepted.
        shown: how to call the source in an error.
        known: a hint (digest, size) -> stored already? Asked for small sources only; not relied on for safety.
        hash_first: stage nothing that can be read a second time.

    Raises:
        InvalidInput: larger than ``limit``, or the file changed while it was read.
    """
    if hash_first:
        known = _everything
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        check_size(len(data), limit, shown)
        return _small(data, source if isinstance(source, bytes) else data, blobs, known, None, progress)
    if isinstance(source, str):
        fd, before = _opened(source)
        try:
            check_size(before[0], limit, shown)
            if before[0] <= SMALL_BYTES:
                data = _read_small(fd, before[0])
                check_unchanged(before, SourceStat.of(fd), len(data), shown)
                return _small(data, source, blobs, known, before, progress)
            home = None if hash_first else blobs
            plain = _large(lambda view: os.readv(fd, [view]), source, home, limit, shown, progress)
            try:
                check_unchanged(before, SourceStat.of(fd), plain.size, shown)
            except InvalidInput:
                plain.discard()
                raise
            plain.facts = before
            return plain
        finally:
            os.close(fd)
    return _stream(source, blobs, limit, shown, known, progress)


def stage_again(plain: Plain, blobs: Blobs, *, limit: int, shown: str) -> None:
    """Stage the bytes of ``plain`` from its source once more (a hint was wrong, or a collector took the scratch).

    Raises ``InvalidInput`` when the source no longer holds those bytes.
    """
    if plain.source is None or not isinstance(plain.source, (str, bytes)):
        raise InvalidInput(f"{shown} cannot be read a second time; upload it again", path=shown)
    plain.discard()
    if blobs.sending_is_dear and isinstance(plain.source, str) and plain.size > SMALL_BYTES:
        _stage_file(plain, plain.source, blobs, shown)
        return
    again = take(plain.source, blobs, limit=limit, shown=shown)
    if again.digest != plain.digest:
        again.discard()
        raise InvalidInput(f"{shown} changed while it was uploaded; nothing was stored", path=shown)
    plain.staged, plain.stager = again.staged, again.stager


def _stage_file(plain: Plain, path: str, blobs: Blobs, shown: str) -> None:
    """Let the seam read the file while it is sent; the seam compares it with the digest."""
    with open(open_source(path), "rb", buffering=0) as file:
        before = SourceStat.of(file.fileno())
        head = read_up_to(file, frame.PREFIX_SIZE)
    if before[0] != plain.size or (plain.facts is not None and before != plain.facts):
        raise InvalidInput(f"{shown} changed while it was uploaded; nothing was stored", path=shown)
    prefix = frame.raw_header() if frame.is_framed(head) else b""
    plain.stager, plain.staged = blobs.stage_file(path, prefix, plain.size, plain.digest)


def _everything(digest: str, size: int) -> bool:
    return True


def _read_small(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    while 0 < len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data


def _small(
    data: bytes,
    source: str | bytes | BinaryIO,
    blobs: Blobs,
    known: Callable[[str, int], bool],
    facts: SourceStat | None,
    progress: Progress | None,
) -> Plain:
    digest = hashlib.sha256(data).hexdigest()
    plain = Plain(digest, len(data), source, facts=facts)
    if not known(digest, len(data)):
        stager = blobs.stage()
        try:
            if frame.is_framed(data):
                stager.write(frame.raw_header())
            stager.write(data)
            plain.staged, plain.stager = stager.finish(), stager
        except BaseException:
            stager.discard()
            raise
    if progress:
        progress(len(data))
    return plain


def _stream(
    source: BinaryIO, blobs: Blobs, limit: int, shown: str, known: Callable[[str, int], bool], progress: Progress | None
) -> Plain:
    head = b""
    while len(head) <= SMALL_BYTES:
        piece = _piece(source, SMALL_BYTES + 1 - len(head), shown)
        if not piece:
            break
        head += piece
    if len(head) <= SMALL_BYTES:
        check_size(len(head), limit, shown)
        return _small(head, head, blobs, known, None, progress)
    waiting = head

    def fill(view: memoryview) -> int:
        nonlocal waiting
        if waiting:
            piece, waiting = waiting[: len(view)], waiting[len(view) :]
        else:
            piece = _piece(source, len(view), shown)
        view[: len(piece)] = piece
        return len(piece)

    return _large(fill, source, blobs, limit, shown, progress)


def _piece(source: BinaryIO, most: int, shown: str) -> bytes:
    """What the stream gives next. Streams are the user's own objects, so this believes nothing."""
    piece: Any = source.read(most)
    if isinstance(piece, (bytearray, memoryview)):
        piece = bytes(piece)
    if not isinstance(piece, bytes):
        raise InvalidInput(
            f"{shown} is not a binary stream that can be read (its read() gives {type(piece).__name__}); "
            "open it with 'rb'",
            path=shown,
        )
    if len(piece) > most:
        raise InvalidInput(f"{shown}: its read({most:,}) gives {len(piece):,} bytes; that is no stream", path=shown)
    return piece


def _large(
    fill: Callable[[memoryview], int],
    source: str | BinaryIO,
    blobs: Blobs | None,
    limit: int,
    shown: str,
    progress: Progress | None,
) -> Plain:
    """One pass; over the limit it stops at once. Without ``blobs`` the bytes are only hashed."""
    stager = blobs.stage() if blobs is not None else None
    taken = 0

    def write(piece: memoryview) -> None:
        nonlocal taken
        if stager is not None and not taken and frame.is_framed(piece):
            stager.write(frame.raw_header())
        taken += len(piece)
        check_size(taken, limit, shown)
        if stager is not None:
            stager.write(piece)

    try:
        digest, size = pump(fill, write, progress)
        return Plain(digest, size, source, stager.finish() if stager is not None else None, None, stager)
    except BaseException:
        if stager is not None:
            stager.discard()
        raise


def check_unchanged(before: SourceStat, after: SourceStat, size: int, shown: str) -> None:
    if before != after or before[0] != size:
        raise InvalidInput(f"{shown} changed while it was read; nothing was stored. Upload it again.", path=shown)
