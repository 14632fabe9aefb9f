"""NumPy's .npy and .npz: arrays behind a short text header; an .npz is a zip of stored .npy entries."""

from __future__ import annotations

import ast
import re
from math import prod

from dreamlake.content.containers.layout import MAX_DIMS, WIDTH_OF, Layout, Run, Tensor, contiguous, make_layout
from dreamlake.content.containers.source import Odd, Source
from dreamlake.content.containers.zips import Entry

__all__ = ["MAGIC", "parse_npy", "parse_npz"]

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # bytes; NumPy itself reads no longer ones unless told to
_KINDS = {"f": "float", "i": "int", "u": "uint", "b": "bool", "c": "complex"}
_TYPE = re.compile(r"([<>|=])([fiubc])(\d{1,2})")


def parse_npy(source: Source) -> Layout:
    """Raises ``Odd`` when the header and the size of the file do not agree."""
    run, tensor = _array(source, 0, source.size, "")
    return make_layout("npy", source.size, [run], [tensor] if tensor else [])


def parse_npz(source: Source, entries: list[Entry]) -> Layout:
    """Raises ``Odd`` unless every entry is an array."""
    runs, tensors = [], []
    for entry in entries:
        if not entry.name.endswith(".npy"):
            raise Odd("not an npz")
        run, tensor = _array(source, entry.offset, entry.size, entry.name[:-4])
        runs.append(run)
        if tensor:
            tensors.append(tensor)
    return make_layout("npz", source.size, runs, tensors)


def _array(source: Source, offset: int, size: int, name: str) -> tuple[Run, Tensor | None]:
    head = source.read(offset, min(12, size))
    if head[:6] != MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise Odd("not an array")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if length > MAX_HEADER or start + length > size:
        raise Odd("an absurd array header")
    data_at, data_size = offset + start + length, size - start - length
    descr, fortran, shape = _header(source.read(offset + start, length))
    match = _TYPE.fullmatch(descr) if isinstance(descr, str) else None
    if match is None:  # a structured or object type: bytes, as far as we are concerned
        return Run(data_at, data_size, 0, name), None
    order, kind, width = match[1], match[2], int(match[3])
    if prod(shape) * width != data_size or width not in (1, 2, 4, 8, 16):
        raise Odd("an array whose header and size differ")
    run = Run(data_at, data_size, min(width, 8), name)
    dtype = "bool" if kind == "b" else f"{_KINDS[kind]}{8 * width}"
    if (order == ">" and width > 1) or WIDTH_OF.get(dtype) != width:
        return run, None
    strides = contiguous(shape[::-1])[::-1] if fortran and len(shape) > 1 and data_size else None
    return run, Tensor(name, dtype, shape, data_at, data_size, strides)


def _header(text: bytes) -> tuple[object, bool, tuple[int, ...]]:
    try:
        header = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Odd("an array header that is not a literal") from None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise Odd("an array header with other fields")
    shape = header["shape"]
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMS:
        raise Odd("an array of absurd shape")
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in shape):
        raise Odd("an array of absurd shape")
    return header["descr"], bool(header["fortran_order"]), shape
