"""GGUF (versions 2 and 3, little-endian): key-value pairs, tensor descriptions, then aligned tensors."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from dreamlake.content.containers.layout import Layout, Run, Tensor, make_layout
from dreamlake.content.containers.source import MAX_READ, Cursor, Odd, Source

__all__ = ["MAGIC", "parse"]

MAGIC = b"GGUF"
MAX_TENSORS = 100_000
MAX_PAIRS = 100_000
MAX_ITEMS = 4_000_000  # strings of one array; vocabularies have hundreds of thousands
MAX_TEXT = 1 << 20
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # type -> bytes
_STRING, _ARRAY = 8, 9
_PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
_WIDTHS = {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2}
_BLOCKS = {  # type -> (elements, bytes) of a block of quantized weights
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
}  # fmt: skip


def parse(source: Source) -> Layout:
    """Raises ``Odd`` for anything but whole tensors at aligned places within the file."""
    cursor = Cursor(source, 4, MAX_READ)
    if cursor.number(4) not in (2, 3):
        raise Odd("another version of GGUF")
    tensor_count, pair_count = cursor.number(8), cursor.number(8)
    if tensor_count > MAX_TENSORS or pair_count > MAX_PAIRS:
        raise Odd("an absurd GGUF header")
    alignment = 32
    for _ in range(pair_count):
        key = _text(cursor)
        kind = cursor.number(4)
        if key == "general.alignment" and kind == 4:
            alignment = cursor.number(4)
        else:
            _skip(cursor, kind, 0)
    if not 1 <= alignment <= 1 << 20:
        raise Odd("an absurd alignment")
    described = [_describe(cursor) for _ in range(tensor_count)]
    start = -(-cursor.at // alignment) * alignment
    borders = sorted({offset for *_, offset in described} | {source.size - start})
    following = dict(pairwise(borders))
    runs, tensors = [], []
    for name, shape, kind, offset in described:
        length = _length(shape, kind, following.get(offset, offset) - offset)
        runs.append(Run(start + offset, length, _WIDTHS.get(kind, 1), name))
        if kind in _PLAIN:
            tensors.append(Tensor(name, _PLAIN[kind], shape, start + offset, length))
    return make_layout("gguf", source.size, runs, tensors)


def _describe(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = _text(cursor)
    dims = cursor.number(4)
    if dims > 8:
        raise Odd("a tensor of too many dimensions")
    shape = tuple(cursor.number(8) for _ in range(dims))[::-1]  # the file has the fastest dimension first
    if any(n >= 1 << 48 for n in shape):
        raise Odd("a tensor of absurd shape")
    return name, shape, cursor.number(4), cursor.number(8)


def _length(shape: tuple[int, ...], kind: int, room: int) -> int:
    """Bytes of a tensor; of a type this release does not know, everything up to the next one."""
    if kind in _WIDTHS:
        length = prod(shape) * _WIDTHS[kind]
    elif kind in _BLOCKS:
        elements, size = _BLOCKS[kind]
        length = prod(shape) // elements * size
    else:
        length = room
    if length > room:
        raise Odd("tensors overlap")
    return length


def _text(cursor: Cursor) -> str:
    length = cursor.number(8)
    if length > MAX_TEXT:
        raise Odd("an absurd text")
    return cursor.take(length).decode("utf-8", "replace")


def _skip(cursor: Cursor, kind: int, depth: int) -> None:
    if kind in _SCALARS:
        cursor.take(_SCALARS[kind])
    elif kind == _STRING:
        cursor.take(cursor.number(8))
    elif kind == _ARRAY and depth < 4:
        inner, count = cursor.number(4), cursor.number(8)
        if inner in _SCALARS:
            cursor.take(count * _SCALARS[inner])
        elif count > MAX_ITEMS:
            raise Odd("an absurd array")
        else:
            for _ in range(count):
                _skip(cursor, inner, depth + 1)
    else:
        raise Odd("a value of unknown type")
