"""A tar archive (plain, gzip, bzip2, xz) as a source, read once from front to end.

It may come from a stranger (I11). Members that leave the tree, links, devices and sparse files are left out and told.
Limits hold on members, bytes, expansion and headers, so that an archive can neither fill memory nor go on for ever.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, BinaryIO, cast

from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import file_key
from dreamlake.operations.importing import FoundFile, Skip
from dreamlake.ports import iso

__all__ = ["members_of"]

MAX_MEMBERS = 1_000_000
MAX_TOTAL_BYTES = 4 << 40  # of all members together
MAX_EXPANSION = 2000  # how many times its own size an archive may unpack to, and
EXPANSION_FROM = 4 << 30  # bytes from which that is looked at: a few well-packed zeros are no bomb
MAX_HEADER_BYTES = 1 << 20  # a long name or an extended header
_IN_MEMORY = 1 << 20
_PIECE = 1 << 20
_EXTENDED = (b"x", b"g", b"X", b"L", b"K")  # headers whose data the library takes into memory whole


def members_of(
    archive: str, path: str, skip: Skip, *, max_file_bytes: int, max_total_bytes: int = MAX_TOTAL_BYTES
) -> Iterator[FoundFile]:
    """The regular files of an archive, to go below ``path``. Each must be used before the next is asked for.

    Raises:
        NotFound: no such file.
        InvalidInput: no tar, a damaged one, or one that goes beyond the limits; what came before was given out.
    """
    if not os.path.isfile(archive):
        missing = not os.path.lexists(archive)
        raise (NotFound if missing else InvalidInput)(
            f"no such file: {archive}" if missing else f"{archive} is not a file", path=archive
        )
    packed = os.path.getsize(archive)
    total = count = 0
    try:
        with tarfile.open(archive, "r|*", tarinfo=_Member) as tar:
            for member in tar:
                count += 1
                total += max(0, member.size)
                _check_limits(archive, packed, count, total, max_total_bytes)
                found = _found(member, path, skip, archive, max_file_bytes)
                if found is not None:
                    yield _spooled(found, tar, member)
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{archive} is no tar, or is damaged after {count:,} members: {error}", path=archive
        ) from None


class _Member(tarfile.TarInfo):
    """Refuses headers that the library would read into memory whatever size they claim."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _Member:
        made = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if made.type in _EXTENDED and made.size > MAX_HEADER_BYTES:
            raise InvalidInput(f"a header of {made.size:,} bytes in the archive; the limit is {MAX_HEADER_BYTES:,}")
        return made


def _check_limits(archive: str, packed: int, count: int, total: int, most: int) -> None:
    if count > MAX_MEMBERS:
        raise InvalidInput(f"{archive} has more than {MAX_MEMBERS:,} members; unpack it and import the folder")
    if total > most:
        raise InvalidInput(f"{archive} unpacks to more than {most:,} bytes; unpack it and import the folder")
    if total > EXPANSION_FROM and total > packed * MAX_EXPANSION:
        raise InvalidInput(f"{archive} unpacks to more than {MAX_EXPANSION:,} times its size: refused as a bomb")


def _found(member: Any, path: str, skip: Skip, archive: str, limit: int) -> tuple[str, str, str] | None:
    """(key, where, time) of a member that may be stored; else it is left out."""
    name = member.name
    where = f"{os.path.basename(archive)}:{name}"
    parts = name.split("/")
    if member.isdir():
        return None
    if name.startswith("/") or ".." in parts or "\\" in name:
        skip(where, "leads out of the archive's tree")
    elif member.issym() or member.islnk():
        skip(where, f"is a link to {member.linkname}")
    elif not member.isreg() or member.issparse():
        skip(where, "is a sparse file" if member.isreg() else "is a device, a FIFO or of an unknown type")
    elif member.size > limit:
        skip(where, f"has {member.size:,} bytes; the limit is {limit:,}")
    else:
        kept = [part for part in parts if part not in ("", ".")]
        try:
            return file_key(f"{path}/{'/'.join(kept[:-1])}", kept[-1] if kept else ""), where, _time(member.mtime)
        except InvalidInput as error:
            skip(where, str(error))
    return None


def _time(seconds: Any) -> str:
    from datetime import datetime, timezone

    try:
        return iso(datetime.fromtimestamp(float(seconds), timezone.utc))
    except (ValueError, OverflowError, OSError, TypeError):
        return iso(datetime.fromtimestamp(0, timezone.utc))


def _spooled(found: tuple[str, str, str], tar: tarfile.TarFile, member: tarfile.TarInfo) -> FoundFile:
    """The member's content, read now: the archive goes on to the next one. It can be read again, as coding does."""
    key, where, at = found
    content = tar.extractfile(member)
    assert content is not None  # a regular file
    buffer = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by whoever uses it, or below
    try:
        _copy(content, buffer, member.size, where)
    except BaseException:
        buffer.close()
        raise
    stream = cast(BinaryIO, buffer)
    return FoundFile(key, where, member.size, lambda: _rewound(stream), at=at, drop=stream.close)


def _copy(content: IO[bytes], buffer: Any, size: int, where: str) -> None:
    left = size
    while left > 0:
        piece = content.read(min(_PIECE, left))
        if not piece:
            raise InvalidInput(f"{where} ends {left:,} bytes too early")
        buffer.write(piece)
        left -= len(piece)


def _rewound(stream: BinaryIO) -> AbstractContextManager[BinaryIO]:
    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        with stream:
            stream.seek(0)
            yield stream

    return opened()
