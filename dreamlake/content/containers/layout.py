"""What a parser tells about a container: where its runs of numbers lie, and which tensors they make."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from dreamlake.content.containers.source import Odd

__all__ = ["MAX_RUNS", "MAX_TENSORS", "WIDTH_OF", "Layout", "Run", "Tensor", "contiguous", "make_layout", "sound"]

MAX_RUNS = 200_000
MAX_TENSORS = 200_000
MAX_DIMS = 32
MAX_NAME = 4096  # characters

WIDTH_OF = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "complex64": 8, "complex128": 16,
}  # fmt: skip


class Run(NamedTuple):
    """A stretch of elements in the file. ``width`` is the size of an element in bytes, 0 when unknown.

    ``group`` is the same for neighbours that belong to one collection (the weights of a model, say); a change means
    that another script may well store only one side of the border.
    """

    offset: int
    length: int
    width: int
    label: str = ""
    group: str = ""


class Tensor(NamedTuple):
    """One named array. ``strides`` counts elements; None for row-major order. Offset and length (bytes) enclose it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Layout:
    """Runs in the order of the file, never overlapping; tensors in the order of the container."""

    kind: str
    size: int
    runs: tuple[Run, ...]
    tensors: tuple[Tensor, ...] = ()


def make_layout(kind: str, size: int, runs: list[Run], tensors: list[Tensor]) -> Layout:
    """A checked layout. Raises ``Odd`` for runs that overlap or leave the file, and for absurd counts."""
    runs = sorted(run for run in runs if run.length)
    if len(runs) > MAX_RUNS or len(tensors) > MAX_TENSORS:
        raise Odd("too many entries")
    end = 0
    for run in runs:
        if run.offset < end:
            raise Odd("entries overlap")
        end = run.offset + run.length
    if end > size:
        raise Odd("entries beyond the end of the file")
    return Layout(kind, size, tuple(runs), tuple(tensor for tensor in tensors if sound(tensor, size)))


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a row-major array."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def sound(tensor: Tensor, size: int) -> bool:
    """Can this tensor be read safely: does everything that shape and strides reach lie within offset and length?"""
    if len(tensor.name) > MAX_NAME or len(tensor.shape) > MAX_DIMS or tensor.dtype not in WIDTH_OF:
        return False
    if any(type(n) is not int or n < 0 for n in (*tensor.shape, *(tensor.strides or ()), tensor.offset, tensor.length)):
        return False
    if tensor.offset + tensor.length > size:
        return False
    if 0 in tensor.shape:
        return tensor.length == 0
    width = WIDTH_OF[tensor.dtype]
    if tensor.strides is None:
        return prod(tensor.shape) * width == tensor.length
    if len(tensor.strides) != len(tensor.shape):
        return False
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    return (last + 1) * width == tensor.length and prod(tensor.shape) * width <= 4 * tensor.length
