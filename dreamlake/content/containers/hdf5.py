"""HDF5 as h5py and Keras write it (.h5): contiguous datasets below groups.

A reader of headers in plain Python instead of the HDF5 library, because a C library is no place for files of strangers.
It follows superblock versions 0, 2 and 3, object headers 1 and 2, symbol-table groups and compact links. Datasets that
are chunked, filtered or external stay part of the bytes between; anything damaged makes the whole file odd.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from dreamlake.content.containers.layout import MAX_DIMS, WIDTH_OF, Layout, Run, Tensor, make_layout
from dreamlake.content.containers.source import Odd, Source

__all__ = ["MAGIC", "parse"]

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 100_000
MAX_DEPTH = 32
MAX_HEADER = 1 << 20  # bytes of one block of an object header
MAX_HEAP = 16 << 20  # names of one group
MAX_MESSAGES = 100_000
_UNDEFINED = (1 << 64) - 1
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _LAYOUT, _FILTER, _CONTINUE, _SYMBOLS = 1, 2, 3, 6, 8, 11, 16, 17
_FLOATS = {(8, 11): "float64", (4, 8): "float32", (2, 5): "float16", (2, 8): "bfloat16"}  # (bytes, exponent bits)


class _Message(NamedTuple):
    kind: int
    body: bytes


def parse(source: Source) -> Layout:
    """Raises ``Odd`` for a file that is damaged or uses what this reader does not follow."""
    reader = _Reader(source)
    runs: list[Run] = []
    tensors: list[Tensor] = []
    for name, messages in reader.objects(_root(source)):
        found = _dataset(messages)
        if found is None:
            continue
        offset, length, width, dtype, shape = found
        runs.append(Run(offset, length, width, name))
        if dtype:
            tensors.append(Tensor(name, dtype, shape, offset, length))
    return make_layout("hdf5", source.size, runs, tensors)


def _root(source: Source) -> int:
    """Where the root group's object header lies."""
    head = source.read(0, min(96, source.size))
    version = head[8]
    if version == 0 and len(head) == 96:
        if head[13:15] != b"\x08\x08" or _number(head, 24):
            raise Odd("an HDF5 file with odd addresses")
        return _number(head, 64)
    if version in (2, 3) and len(head) >= 48:
        if head[9:11] != b"\x08\x08" or _number(head, 12):
            raise Odd("an HDF5 file with odd addresses")
        return _number(head, 36)
    raise Odd("another version of HDF5")


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen: set[int] = set()

    def objects(self, address: int, name: str = "", depth: int = 0) -> Iterator[tuple[str, list[_Message]]]:
        """(name, header messages) of all that can be reached, each once."""
        if address in self._seen:
            return  # a second hard link, or a circle
        self._seen.add(address)
        if depth > MAX_DEPTH or len(self._seen) > MAX_OBJECTS:
            raise Odd("too many HDF5 objects")
        messages = self._header(address)
        yield name, messages
        for child, child_address in self._children(messages):
            yield from self.objects(child_address, f"{name}/{child}" if name else child, depth + 1)

    def _header(self, address: int) -> list[_Message]:
        start = self._source.read(address, 16)
        messages: list[_Message] = []
        if start[:4] == b"OHDR":
            at, size = self._header2_start(address)
            blocks, lead = [(at, size)], 4
        elif start[0] == 1:
            blocks, lead = [(address + 16, _number(start, 8, 4))], 8
        else:
            raise Odd("an HDF5 object of another version")
        for at, size in blocks:  # grows while it is walked
            if len(blocks) > 1000 or len(messages) > MAX_MESSAGES:
                raise Odd("an endless HDF5 header")
            if size > MAX_HEADER:
                raise Odd("an absurd HDF5 header")
            block = self._source.read(at, size)
            for message in _messages(block, lead, self._ordered if lead == 4 else False):
                messages.append(message)
                if message.kind == _CONTINUE:
                    at, size = _number(message.body, 0), _number(message.body, 8)
                    blocks.append((at + 4, size - 8) if lead == 4 else (at, size))
        return messages

    def _header2_start(self, address: int) -> tuple[int, int]:
        """(offset, size) of the messages of a version 2 header."""
        head = self._source.read(address, min(64, self._source.size - address))
        flags, at = head[5], 6
        self._ordered = bool(flags & 4)
        at += 16 if flags & 32 else 0
        at += 4 if flags & 16 else 0
        width = 1 << (flags & 3)
        return address + at + width, _number(head, at, width)

    def _children(self, messages: list[_Message]) -> Iterator[tuple[str, int]]:
        for message in messages:
            if message.kind == _SYMBOLS:
                names = self._heap(_number(message.body, 8))
                yield from self._tree(_number(message.body, 0), names, 0)
            elif message.kind == _LINK:
                link = _link(message.body)
                if link:
                    yield link
            elif message.kind == _LINK_INFO:
                at = 2 + (8 if message.body[1] & 1 else 0)
                if _number(message.body, at) != _UNDEFINED:
                    raise Odd("an HDF5 group with dense links")

    def _heap(self, address: int) -> bytes:
        head = self._source.read(address, 32)
        size = _number(head, 8)
        if head[:4] != b"HEAP" or size > MAX_HEAP:
            raise Odd("an odd HDF5 heap")
        return self._source.read(_number(head, 24), size)

    def _tree(self, address: int, names: bytes, depth: int) -> Iterator[tuple[str, int]]:
        if depth > 8:
            raise Odd("too deep an HDF5 tree")
        head = self._source.read(address, 24)
        if head[:4] == b"SNOD":
            count = _number(head, 6, 2)
            entries = self._source.read(address + 8, 40 * count)
            for at in range(0, len(entries), 40):
                place = _number(entries, at)
                yield names[place : names.index(b"\0", place)].decode(), _number(entries, at + 8)
            return
        if head[:4] != b"TREE" or head[4]:
            raise Odd("an odd HDF5 tree")
        body = self._source.read(address + 24, 8 + 16 * _number(head, 6, 2))
        for at in range(8, len(body), 16):
            child = _number(body, at)
            if child in self._seen:
                raise Odd("a circle in an HDF5 tree")
            self._seen.add(child)
            yield from self._tree(child, names, depth + 1)


def _messages(block: bytes, lead: int, ordered: bool) -> Iterator[_Message]:
    at = 0
    lead += 2 if ordered else 0
    while at + lead <= len(block):
        kind = block[at] if lead != 8 else _number(block, at, 2)
        size = _number(block, at + (1 if lead != 8 else 2), 2)
        body = block[at + lead : at + lead + size]
        if len(body) != size:
            raise Odd("an HDF5 message is cut off")
        yield _Message(kind, body)
        at += lead + size


def _link(body: bytes) -> tuple[str, int] | None:
    """(name, address) of a hard link; None for other kinds."""
    flags, at, kind = body[1], 2, 0
    if flags & 8:
        kind, at = body[at], at + 1
    at += 8 if flags & 4 else 0
    at += 1 if flags & 16 else 0
    width = 1 << (flags & 3)
    length = _number(body, at, width)
    name = body[at + width : at + width + length]
    return (name.decode(), _number(body, at + width + length)) if kind == 0 else None


def _dataset(messages: list[_Message]) -> tuple[int, int, int, str, tuple[int, ...]] | None:
    """(offset, length, width, dtype or "", shape) of a contiguous dataset; None for all other objects."""
    found = {message.kind: message.body for message in messages}
    if _FILTER in found or not {_DATASPACE, _DATATYPE, _LAYOUT} <= set(found):
        return None
    layout = found[_LAYOUT]
    if layout[:2] not in (b"\x03\x01", b"\x04\x01"):
        return None
    offset, length = _number(layout, 2), _number(layout, 10)
    if offset == _UNDEFINED or not length:
        return None
    width, dtype = _datatype(found[_DATATYPE])
    shape = _shape(found[_DATASPACE])
    if prod(shape) * width != length:
        raise Odd("an HDF5 dataset whose shape and size differ")
    return offset, length, width if width in (1, 2, 4, 8) else 0, dtype if WIDTH_OF.get(dtype) == width else "", shape


def _datatype(body: bytes) -> tuple[int, str]:
    kind, flags, width = body[0] & 15, body[1], _number(body, 4, 4)
    if flags & 1 or kind > 1:  # big-endian, or neither integer nor float
        return width, ""
    if kind == 0:
        return width, f"{'int' if flags & 8 else 'uint'}{8 * width}"
    return width, _FLOATS.get((width, body[13]), "")


def _shape(body: bytes) -> tuple[int, ...]:
    rank = body[1]
    if rank > MAX_DIMS:
        raise Odd("an HDF5 dataset of too many dimensions")
    start = 8 if body[0] == 1 else 4
    shape = tuple(_number(body, start + 8 * i) for i in range(rank))
    if any(n >= 1 << 48 for n in shape):
        raise Odd("an HDF5 dataset of absurd shape")
    return shape


def _number(data: bytes, at: int, size: int = 8) -> int:
    if at < 0 or at + size > len(data):
        raise Odd("an HDF5 structure is cut off")
    return int.from_bytes(data[at : at + size], "little")
