"""safetensors: the size of a JSON header, the header, then the tensors back to back."""

from __future__ import annotations

import json
from math import prod
from typing import Any

from dreamlake.content.containers.layout import MAX_DIMS, MAX_RUNS, WIDTH_OF, Layout, Run, Tensor, make_layout
from dreamlake.content.containers.source import Odd, Source

__all__ = ["looks_like", "parse"]

MAX_HEADER = 16 << 20
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


def looks_like(head: bytes, size: int) -> bool:
    """Can a file of ``size`` bytes that begins with ``head`` be one?"""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= min(MAX_HEADER, size - 8)


def parse(source: Source) -> Layout:
    """Raises ``Odd`` unless every byte after the header belongs to exactly one tensor."""
    length = int.from_bytes(source.read(0, 8), "little")
    start = 8 + length
    try:
        header = json.loads(source.read(8, length), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):
        raise Odd("a safetensors header that is not JSON") from None
    if not isinstance(header, dict) or len(header) > MAX_RUNS:
        raise Odd("an absurd safetensors header")
    header.pop("__metadata__", None)
    runs, tensors = [], []
    for name, facts in header.items():
        dtype, shape, low, high = _facts(facts)
        width = WIDTH_OF[dtype]
        if prod(shape) * width != high - low:
            raise Odd("a tensor whose shape and place differ")
        runs.append(Run(start + low, high - low, width if width <= 8 else 8, name))
        tensors.append(Tensor(name, dtype, tuple(shape), start + low, high - low))
    if sum(run.length for run in runs) != source.size - start:
        raise Odd("bytes that belong to no tensor")
    return make_layout("safetensors", source.size, runs, tensors)


def _facts(facts: Any) -> tuple[str, list[int], int, int]:
    if not isinstance(facts, dict):
        raise Odd("a tensor without facts")
    dtype, shape, place = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES or not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise Odd("a tensor of unknown type")
    if not isinstance(place, list) or len(place) != 2:
        raise Odd("a tensor without a place")
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in (*shape, *place)) or place[0] > place[1]:
        raise Odd("a tensor of absurd size")
    return _DTYPES[dtype], shape, place[0], place[1]


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Odd("a safetensors header with one name twice")
    return found
