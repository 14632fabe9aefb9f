"""The directory of a zip file whose entries are stored as they are. Strict: what no usual writer does is odd."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from dreamlake.content.containers.source import Odd, Source

__all__ = ["Entry", "is_zip", "stored_entries"]

MAX_ENTRIES = 200_000
_END = Struct("<4sHHHHIIH")
_END64 = Struct("<4sQHHIIQQQQ")
_LOCATOR = Struct("<4sIQI")
_CENTRAL = Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = Struct("<4sHHHHHIIIHH")
_ENCRYPTED, _STRONG, _MASKED = 1, 1 << 6, 1 << 13


class Entry(NamedTuple):
    """One stored entry: its name and where its bytes lie in the file."""

    name: str
    offset: int
    size: int


def is_zip(head: bytes) -> bool:
    """Does a file that begins with ``head`` begin with a zip entry?"""
    return head[:4] == b"PK\x03\x04"


def stored_entries(source: Source) -> list[Entry]:
    """All entries in the order of the file.

    Raises ``Odd`` for anything but plain stored entries one after the other: compression, encryption, several disks,
    a comment, overlaps, gaps beyond what alignment needs, names that differ between directory and entry.
    """
    count, start, size = _find_directory(source)
    if count > MAX_ENTRIES or start + size > source.size:
        raise Odd("an absurd zip directory")
    directory = source.read(start, size)
    found = []
    at = 0
    for _ in range(count):
        entry, at = _central(directory, at, start)
        found.append(entry)
    if at != len(directory):
        raise Odd("a zip directory with bytes left over")
    found.sort()
    entries = []
    end = 0
    for header, length, name in found:
        if header < end:
            raise Odd("zip entries overlap")
        offset = _data_offset(source, header, name)
        end = offset + length
        if end > start:
            raise Odd("a zip entry reaches into the directory")
        entries.append(Entry(name.decode(), offset, length))
    if len({entry.name for entry in entries}) != len(entries):
        raise Odd("two zip entries of one name")
    return entries


def _find_directory(source: Source) -> tuple[int, int, int]:
    """(entries, offset, size) of the directory."""
    if source.size < _END.size:
        raise Odd("too short for a zip")
    at = source.size - _END.size
    mark, disk, first_disk, here, count, size, start, comment = _END.unpack(source.read(at, _END.size))
    if mark != b"PK\x05\x06" or disk or first_disk or here != count or comment:
        raise Odd("no plain end of a zip")
    locator_at = at - _LOCATOR.size
    if locator_at < 0 or source.read(locator_at, 4) != b"PK\x06\x07":
        if 0xFFFF in (here,) or 0xFFFFFFFF in (size, start) or start + size != at:
            raise Odd("a zip directory that is not at its end")
        return count, start, size
    _, disk, end_at, disks = _LOCATOR.unpack(source.read(locator_at, _LOCATOR.size))
    if disk or disks > 1 or end_at + _END64.size != locator_at:
        raise Odd("an odd zip64 locator")
    mark, own, _, _, disk, first_disk, here64, count64, size64, start64 = _END64.unpack(
        source.read(end_at, _END64.size)
    )
    if mark != b"PK\x06\x06" or own != _END64.size - 12 or disk or first_disk or here64 != count64:
        raise Odd("an odd zip64 end")
    agree = count in (0xFFFF, count64) and size in (0xFFFFFFFF, size64) and start in (0xFFFFFFFF, start64)
    if not agree or start64 + size64 != end_at:
        raise Odd("a zip64 end that contradicts the plain one")
    return count64, start64, size64


def _central(directory: bytes, at: int, limit: int) -> tuple[tuple[int, int, bytes], int]:
    """((header offset, size, name), where the next record begins)."""
    if at + _CENTRAL.size > len(directory):
        raise Odd("a cut zip directory")
    fields = _CENTRAL.unpack_from(directory, at)
    mark, _, _, flags, method, _, _, _, packed, size, names, extras, comments, disk, _, _, header = fields
    if mark != b"PK\x01\x02" or method or flags & (_ENCRYPTED | _STRONG | _MASKED) or disk:
        raise Odd("a zip entry that is not plainly stored")
    name_at = at + _CENTRAL.size
    end = name_at + names + extras + comments
    if end > len(directory):
        raise Odd("a cut zip directory")
    name = directory[name_at : name_at + names]
    extra = directory[name_at + names : name_at + names + extras]
    size, packed, header = _zip64(extra, size, packed, header)
    if packed != size or header >= limit:
        raise Odd("a zip entry of odd size")
    return (header, size, name), end


def _zip64(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """The three values, with those that do not fit 32 bits taken from the extra field."""
    wanted = [value == 0xFFFFFFFF for value in (size, packed, header)]
    if not any(wanted):
        return size, packed, header
    at = 0
    while at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        body = extra[at + 4 : at + 4 + length]
        if kind == 1 and len(body) >= 8 * sum(wanted):
            numbers = iter([int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)])
            size, packed, header = [
                next(numbers) if need else value for need, value in zip(wanted, (size, packed, header), strict=True)
            ]
            return size, packed, header
        at += 4 + length
    raise Odd("a zip64 entry without its sizes")


def _data_offset(source: Source, header: int, name: bytes) -> int:
    head = source.read(header, _LOCAL.size + len(name))
    mark, _, flags, method, _, _, _, _, _, names, extras = _LOCAL.unpack_from(head)
    if mark != b"PK\x03\x04" or method or flags & (_ENCRYPTED | _STRONG) or names != len(name):
        raise Odd("a zip entry that differs from its directory")
    if head[_LOCAL.size :] != name:
        raise Odd("a zip entry that differs from its directory")
    return header + len(head) + int(extras)
