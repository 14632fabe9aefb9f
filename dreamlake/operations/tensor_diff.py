"""Two checkpoints, tensor by tensor: which were added, removed or changed, and by how much.

Owns: pairing by name, and the measures. Numbers are compared in double precision, block by block, so that memory
stays bounded; of tensors that consist of the same stored parts nothing is read. Formats that NumPy does not have are
decoded here. Not a number counts as equal to itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.content.containers import Tensor
from dreamlake.content.containers.layout import WIDTH_OF, contiguous
from dreamlake.operations.tensor_access import TensorFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measure", "TensorChange", "compare"]

_BLOCK = 1 << 16  # elements compared at a time: what is made of them stays in the cache of a core
_JOB_BYTES = 8 << 20
_EIGHT_BITS = {  # bits of the exponent, and its bias
    "float8_e4m3fn": (4, 7), "float8_e4m3fnuz": (4, 8), "float8_e5m2": (5, 15), "float8_e5m2fnuz": (5, 16),
}  # fmt: skip


@dataclass
class Measure:
    """How two tensors of one shape differ.

    Attributes:
        elements, changed: how many there are, and how many differ in value.
        max_abs: the largest absolute difference.
        relative: the L2 norm of the difference, relative to that of the tensor before; None where that is 0.
        nan, inf: (before, after), how many elements are not a number, or infinite. These count as changed where they
            differ, but neither for ``max_abs`` nor for ``relative``.
    """

    elements: int
    changed: int
    max_abs: float
    relative: float | None
    nan: tuple[int, int]
    inf: tuple[int, int]


class TensorChange(NamedTuple):
    """One tensor. ``change``: same, changed, added, removed, dtype or shape (it has another one now).

    ``measure`` is None where nothing was measured: equal parts, or no counterpart of the same number of elements.
    """

    name: str
    change: str
    before: Tensor | None
    after: Tensor | None
    measure: Measure | None = None


def compare(
    before: TensorFile,
    after: TensorFile,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[TensorChange]:
    """All tensors of both, in the order of ``after``, the removed ones last. Raises ``Corrupt``.

    ``progress`` is told the bytes of ``after`` that are done.
    """
    old = {tensor.name: tensor for tensor in reversed(before.tensors)}
    new = {tensor.name: tensor for tensor in reversed(after.tensors)}
    pairs = [(old[name], tensor) for name, tensor in new.items() if name in old]
    found: dict[str, TensorChange] = {}

    def work(job: Sequence[tuple[Tensor, Tensor]]) -> list[TensorChange]:
        made = []
        for a, b in job:
            made.append(_change(before, a, after, b))
            if progress:
                progress(b.length)
        return made

    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="dreamlake-diff") as pool:
        try:
            for made in pool.map(work, list(_jobs(pairs))):
                found.update((change.name, change) for change in made)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    order = dict.fromkeys(tensor.name for tensor in after.tensors)
    changes = [found.get(name) or TensorChange(name, "added", None, new[name]) for name in order]
    gone = dict.fromkeys(tensor.name for tensor in before.tensors if tensor.name not in new)
    return changes + [TensorChange(name, "removed", old[name], None) for name in gone]


def _jobs(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Neighbours in the file together: they share stored parts, which are then decoded once."""
    job: list[tuple[Tensor, Tensor]] = []
    size = 0
    for pair in sorted(pairs, key=lambda pair: pair[1].offset):
        job.append(pair)
        size += pair[1].length
        if size >= _JOB_BYTES:
            yield job
            job, size = [], 0
    if job:
        yield job


def _change(before: TensorFile, a: Tensor, after: TensorFile, b: Tensor) -> TensorChange:
    if a.dtype == b.dtype and a.shape == b.shape and a.strides == b.strides:
        pieces = before.pieces(a)
        if pieces is not None and pieces == after.pieces(b):
            return TensorChange(b.name, "same", a, b)
    if a.shape != b.shape:
        return TensorChange(b.name, "shape", a, b)
    measure = _measured(before, a, after, b)
    if a.dtype != b.dtype:
        return TensorChange(b.name, "dtype", a, b, measure)
    return TensorChange(b.name, "changed" if measure.changed else "same", a, b, measure)


def _measured(before: TensorFile, a: Tensor, after: TensorFile, b: Tensor) -> Measure:
    sums = _Sums()
    read_a, read_b = _elements(before, a, b), _elements(after, b, a)
    count = prod(a.shape)
    for start in range(0, count, _BLOCK):
        stop = min(count, start + _BLOCK)
        later = read_b(start, stop)  # first: that mostly decodes what is stored of the other one, too
        sums.add(_numbers(read_a(start, stop), a.dtype), _numbers(later, b.dtype))
    return sums.result(count)


def _elements(file: TensorFile, tensor: Tensor, other: Tensor) -> Callable[[int, int], Any]:
    """(start, stop) -> the bytes of these elements, in the same order for both tensors of a pair.

    Read piece by piece where elements lie one after the other: row by row, or both in the same other order (a
    permutation of the dimensions changes no measure). Anything else is read whole.
    """
    width = WIDTH_OF[tensor.dtype]
    dense = tensor.strides is None or sorted(_steps(tensor)) == sorted(_dense(tensor))
    if dense and (tensor.strides or contiguous(tensor.shape)) == (other.strides or contiguous(other.shape)):
        return lambda start, stop: file.read(tensor.offset + start * width, (stop - start) * width)
    import numpy as np

    flat = np.frombuffer(file.read(tensor.offset, tensor.length), np.dtype(f"V{width}"))
    strides = tensor.strides or contiguous(tensor.shape)
    steps = tuple(step * width for step in strides)
    rows = np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)).reshape(-1)
    return lambda start, stop: rows[start:stop].tobytes()


def _steps(tensor: Tensor) -> list[tuple[int, int]]:
    """(stride, extent) of every dimension that has more than one element."""
    return [(step, n) for step, n in zip(tensor.strides or (), tensor.shape, strict=True) if n > 1]


def _dense(tensor: Tensor) -> list[tuple[int, int]]:
    """What ``_steps`` are when elements lie one after the other, with the dimensions in the order of the strides."""
    found, step = [], 1
    for _, n in sorted(_steps(tensor)):
        found.append((step, n))
        step *= n
    return found


class _Sums:
    """Measures of a pair of tensors, block by block."""

    def __init__(self) -> None:
        self._changed, self._max = 0, 0.0
        self._square: Any = 0.0
        self._before: Any = 0.0
        self._nan, self._inf = [0, 0], [0, 0]

    def add(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        """Two arrays of float64, complex128, or 8-byte integers of one kind."""
        import numpy as np

        if a.dtype.kind in "iu" and a.dtype == b.dtype:  # float64 cannot tell neighbours beyond 2**53
            low, high = np.minimum(a, b).view(np.uint64), np.maximum(a, b).view(np.uint64)
            size: NDArray[Any] = (high - low).astype(np.float64)
            first = a.astype(np.float64)
        else:
            first, second = (x.astype(np.float64) if x.dtype.kind in "iu" else x for x in (a, b))
            with np.errstate(invalid="ignore", over="ignore"):
                size = np.abs(second - first)
        with np.errstate(over="ignore"):
            square, before = _square(size), _square(first)
        if np.isfinite(square) and np.isfinite(before):  # then everything is
            self._changed += int(np.count_nonzero(size))
            self._max = max(self._max, float(size.max(initial=0.0)))
            self._square += square
            self._before += before
            return
        self._add_odd(first, second)

    def _add_odd(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        """Numbers that are not finite, or whose squares are not."""
        import numpy as np

        nan_a, nan_b, inf_a, inf_b = np.isnan(a), np.isnan(b), np.isinf(a), np.isinf(b)
        for sums, pair in ((self._nan, (nan_a, nan_b)), (self._inf, (inf_a, inf_b))):
            for i in (0, 1):
                sums[i] += int(np.count_nonzero(pair[i]))
        self._changed += int(np.count_nonzero((a != b) & ~(nan_a & nan_b)))
        usual = np.isfinite(a) & np.isfinite(b)
        with np.errstate(over="ignore"):
            size = np.abs(b[usual] - a[usual])
            self._max = max(self._max, float(size.max(initial=0.0)))
            self._square += np.sum(np.square(size.astype(np.longdouble)))
            self._before += np.sum(np.square(np.abs(a[usual]).astype(np.longdouble)))

    def result(self, count: int) -> Measure:
        from math import isfinite

        relative = float((self._square / self._before) ** 0.5) if self._before else None
        if relative is not None and not isfinite(relative):
            relative = None
        nan, inf = (self._nan[0], self._nan[1]), (self._inf[0], self._inf[1])
        return Measure(count, self._changed, self._max, relative, nan, inf)


def _square(values: NDArray[Any]) -> Any:
    """The square of the L2 norm. Not ``dot``: BLAS would start threads of its own below ours."""
    import numpy as np

    if values.dtype.kind == "c":
        return _square(values.real) + _square(values.imag)
    return np.einsum("i,i->", values, values)


def _numbers(data: Any, dtype: str) -> NDArray[Any]:
    """Elements as float64, complex128, or 8-byte integers."""
    import numpy as np

    if dtype.startswith("float8"):
        numbers: NDArray[Any] = _table(dtype)[np.frombuffer(data, np.uint8)]
        return numbers
    if dtype == "bfloat16":
        wide: NDArray[Any] = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        array: NDArray[Any] = wide.view(np.float32)
    else:
        array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(array.dtype.newbyteorder("="))
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


@lru_cache(maxsize=8)
def _table(dtype: str) -> NDArray[Any]:
    """The value of each of the 256 patterns of an 8-bit format."""
    import numpy as np

    bits = np.arange(256)
    if dtype == "float8_e8m0fnu":  # a power of two and nothing else
        powers: NDArray[Any] = np.where(bits == 255, np.nan, np.exp2(bits - 127.0))
        return powers
    exponent_bits, bias = _EIGHT_BITS[dtype]
    fraction_bits = 7 - exponent_bits
    exponent, fraction = bits >> fraction_bits & (1 << exponent_bits) - 1, bits & (1 << fraction_bits) - 1
    scale = np.exp2(np.maximum(exponent, 1) - float(bias))
    values: NDArray[Any] = np.where(bits < 128, 1.0, -1.0) * (fraction / (1 << fraction_bits) + (exponent > 0)) * scale
    if dtype.endswith("fnuz"):
        values[128] = np.nan  # where the negative zero would be
    elif dtype == "float8_e4m3fn":
        values[bits & 127 == 127] = np.nan
    else:
        last = exponent == (1 << exponent_bits) - 1
        values[last] = np.where(fraction[last] == 0, np.copysign(np.inf, values[last]), np.nan)
    return values
