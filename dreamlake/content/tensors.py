"""One tensor of a stored container as a NumPy array, without the library that wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dreamlake.content.containers.layout import WIDTH_OF, Tensor
from dreamlake.errors import Corrupt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_tensor"]

_BITS = {1: "uint8", 2: "uint16"}


def read_tensor(tensor: Tensor, read: Callable[[int, int], bytes | memoryview]) -> NDArray[Any]:
    """The array, in memory of its own.

    Args:
        tensor: one of ``Recipe.tensors`` or ``Layout.tensors`` (their places were checked).
        read: (offset, length) -> bytes of the file.

    Types that NumPy does not have (``bfloat16``, ``float8_...``) come as arrays of the package ``ml_dtypes`` when it is
    installed, else as ``uint16`` or ``uint8`` with the same bits; ``tensor.dtype`` always names the real type.

    Raises ``Corrupt`` when ``read`` gives fewer bytes than asked for.
    """
    import numpy as np

    data = read(tensor.offset, tensor.length) if tensor.length else b""
    if len(data) != tensor.length:
        raise Corrupt(f"tensor {tensor.name}: {len(data):,} of {tensor.length:,} bytes")
    flat = np.frombuffer(data, _dtype(tensor.dtype))
    if tensor.strides is None:
        plain: NDArray[Any] = flat.reshape(tensor.shape).copy()
        return plain
    steps = tuple(step * flat.dtype.itemsize for step in tensor.strides)
    strided: NDArray[Any] = np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False).copy()
    return strided


def _dtype(name: str) -> Any:
    import numpy as np

    if name.startswith(("bfloat", "float8")):
        try:
            import ml_dtypes
        except ImportError:
            return np.dtype(_BITS[WIDTH_OF[name]]).newbyteorder("<")
        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name).newbyteorder("<")
