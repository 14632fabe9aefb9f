"""Convenience savers: objects straight into the session, without temporary files of the user's.

A mixin of ``Files``. Each returns the record that ``upload`` returns. Heavy libraries are imported where they are used.
"""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, BinaryIO

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import check_name

_IN_MEMORY = 64 << 20  # a serialised object above this size waits on disk instead


class Savers:
    """Savers over ``upload``. All of them take its ``path``, ``description``, ``tags`` and ``metadata``, too."""

    _guard: Callable[[bool], None]

    @abstractmethod
    def upload(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        path: str | os.PathLike[str] = "/",
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        filename: str | None = None,
        encoding: str | None = None,
    ) -> dict[str, Any]: ...

    def save_bytes(self, data: bytes, filename: str, **attributes: Any) -> dict[str, Any]:
        """Save bytes."""
        self._may_save(filename)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidType(f"save_bytes needs bytes, not {type(data).__name__}")
        return self.upload(bytes(data), filename=filename, **attributes)

    def save_text(self, text: str, filename: str, *, encoding: str = "utf-8", **attributes: Any) -> dict[str, Any]:
        """Save text."""
        self._may_save(filename)
        if not isinstance(text, str):
            raise InvalidType(f"save_text needs text, not {type(text).__name__}")
        return self.upload(text.encode(encoding), filename=filename, **attributes)

    def save_json(self, value: Any, filename: str, *, indent: int | None = 2, **attributes: Any) -> dict[str, Any]:
        """Save a value as JSON; NumPy scalars, 0-d tensors, datetimes and paths are converted.

        NaN and infinities are written as ``{"$float": "nan"}``, so that every JSON reader can read the file.
        """
        self._may_save(filename)
        data = values.encode(values.plain(value, what="value"), indent=indent) + b"\n"
        return self.upload(data, filename=filename, **attributes)

    def save_figure(self, figure: Any, filename: str, *, dpi: float | None = None, **attributes: Any) -> dict[str, Any]:
        """Save a matplotlib figure (or axes, or the pyplot module for the current one); the suffix is the format."""
        self._may_save(filename)
        suffix = os.path.splitext(filename)[1].lstrip(".").lower()
        if not suffix:
            raise InvalidInput(f"filename {filename!r} needs a suffix that names the format, e.g. '.png' or '.pdf'")
        if hasattr(figure, "gcf"):
            figure = figure.gcf()
        elif not hasattr(figure, "savefig") and callable(getattr(figure, "get_figure", None)):
            figure = figure.get_figure()
        if not callable(getattr(figure, "savefig", None)):
            raise InvalidType(f"save_figure needs a matplotlib figure, not {type(figure).__name__}")
        buffer = io.BytesIO()
        options = {} if dpi is None else {"dpi": dpi}
        figure.savefig(buffer, format=suffix, **options)
        return self.upload(buffer.getvalue(), filename=filename, **attributes)

    def save_torch(self, value: Any, filename: str, **attributes: Any) -> dict[str, Any]:
        """Save with ``torch.save`` (a state_dict, a checkpoint dict, a tensor)."""
        import torch

        self._may_save(filename)
        import tempfile

        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as buffer:
            torch.save(value, buffer)
            buffer.seek(0)
            return self.upload(_stream(buffer), filename=filename, **attributes)

    def save_safetensors(
        self, tensors: Mapping[str, Any], filename: str, *, header: Mapping[str, str] | None = None, **attributes: Any
    ) -> dict[str, Any]:
        """Save named tensors (torch or NumPy) as safetensors; ``header`` is its own text metadata."""
        self._may_save(filename)
        _check_names(tensors, "save_safetensors")
        for name, value in (header or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise InvalidType(f"header of safetensors holds text only, not {name!r}: {value!r}")
        for name, tensor in tensors.items():
            if not hasattr(tensor, "dtype"):
                raise InvalidType(f"save_safetensors needs tensors or arrays; {name!r} is a {type(tensor).__name__}")
        of_torch = any(type(t).__module__.split(".")[0] == "torch" for t in tensors.values())
        module = import_module("safetensors.torch" if of_torch else "safetensors.numpy")
        given = dict(tensors) if of_torch else {name: _in_order(array) for name, array in tensors.items()}
        data = module.save(given, metadata=dict(header) if header else None)
        return self.upload(data, filename=filename, **attributes)

    def save_numpy(self, value: Any, filename: str, **attributes: Any) -> dict[str, Any]:
        """Save an array as ``.npy``, or a mapping of arrays as an uncompressed ``.npz``. Never pickles."""
        import zipfile

        import numpy as np

        self._may_save(filename)
        if isinstance(value, Mapping):
            _check_names(value, "save_numpy")
        arrays = value if isinstance(value, Mapping) else {"": value}
        checked = {name: np.asarray(item) for name, item in arrays.items()}
        for name, array in checked.items():
            if array.dtype.hasobject:
                raise InvalidType(
                    f"save_numpy cannot save object arrays ({name or filename!r}): they would need pickle"
                )
        import tempfile

        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as buffer:
            if isinstance(value, Mapping):
                # not np.savez: it takes the names as keywords and trips over "file"
                with zipfile.ZipFile(buffer, "w") as archive:
                    for name, array in checked.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                            np.lib.format.write_array(entry, array, allow_pickle=False)
            else:
                np.save(buffer, checked[""], allow_pickle=False)
            buffer.seek(0)
            return self.upload(_stream(buffer), filename=filename, **attributes)

    def _may_save(self, filename: str) -> None:
        """Before the work, which may take long."""
        self._guard(True)
        check_name(filename, "filename")


def _in_order(array: Any) -> Any:
    """The array, laid out as the library takes every array to be: it writes a transposed one wrong, silently."""
    import numpy as np

    plain = np.asarray(array)
    return plain if plain.flags.c_contiguous else plain.copy(order="C")


def _check_names(tensors: Mapping[str, Any], saver: str) -> None:
    if not isinstance(tensors, Mapping):
        raise InvalidType(f"{saver} needs a mapping of names, not {type(tensors).__name__}")
    for name in tensors:
        if not isinstance(name, str):
            raise InvalidType(f"{saver} needs names of text, not {name!r} of type {type(name).__name__}")


def _stream(buffer: Any) -> BinaryIO:
    stream: BinaryIO = buffer
    return stream
