"""Tensors of one container, stored or on disk, read alone: without the library that wrote them, without the rest.

Owns: how a tensor's bytes are reached. Of a coded content only the parts that a tensor touches are decoded, several
at once, each proven by its key; of a content stored whole, and of a local file, only the header and the tensor are
read. What the numbers are is ``content.tensors``' business. Nothing is ever unpickled (I11).
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from dreamlake.content import codecs, reading
from dreamlake.content.assembled import Assembled
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.codecs import Base
from dreamlake.content.containers import Layout, Odd, Source, Tensor, detect
from dreamlake.content.containers.layout import WIDTH_OF
from dreamlake.content.recent import RecentParts
from dreamlake.content.recipe import GLUE
from dreamlake.content.tensors import read_tensor
from dreamlake.errors import Corrupt, InvalidInput, NotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dreamlake.blobs import Blobs
    from dreamlake.model import Version
    from dreamlake.operations.context import Store

__all__ = ["TensorFile", "described", "open_local", "open_stored", "open_version"]

Piece = tuple[str | bytes, int, int]
_NEAR = 5  # names that an error suggests


class _Bytes(Protocol):
    """The bytes of a file, from any thread."""

    def fill(self, start: int, target: memoryview) -> None:
        """All of ``target`` from ``start`` on."""
        ...

    def pieces(self, start: int, stop: int) -> list[Piece] | None:
        """What the range consists of: (key of a part or the bytes themselves, offset, length); None: not known."""
        ...

    def close(self) -> None: ...


class TensorFile:
    """A container of tensors, open for reading. Any thread may call any method; use it in a ``with`` block.

    Attributes:
        kind: torch, safetensors, npz, npy, gguf or hdf5.
        tensors: those whose place and type the parser knows, in the order of the container.
    """

    def __init__(self, kind: str, tensors: Sequence[Tensor], content: _Bytes) -> None:
        self.kind, self.tensors, self._content = kind, tuple(tensors), content

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._content.close()

    def find(self, name: str | None, shown: str) -> Tensor:
        """The tensor of this name (of two, the first), or with None the only one.

        Raises ``NotFound`` naming the nearest ones; ``shown`` is what the error calls the file.
        """
        names = [tensor.name for tensor in self.tensors]
        if name is None and len(names) == 1:
            return self.tensors[0]
        if name in names:
            return self.tensors[names.index(name)]
        near = [other for other in names if name and name in other][:_NEAR]
        near = near or difflib.get_close_matches(name or "", names, _NEAR, 0.4) or names[:_NEAR]
        rest = f" (of {len(names):,})" if len(names) > len(near) else ""
        have = f"it has {', '.join(map(repr, near))}{rest}" if names else "it has none that can be read"
        what = f"no tensor {name!r}" if name is not None else "not exactly one tensor; name one"
        raise NotFound(f"{shown} has {what}; {have}", path=shown)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """One of ``tensors`` in memory of its own; see ``content.tensors.read_tensor``. Raises ``Corrupt``."""
        return read_tensor(tensor, self.read)

    def read(self, start: int, length: int) -> memoryview:
        """Bytes of the file. Raises ``Corrupt`` for damaged content."""
        target = memoryview(bytearray(length))
        self._content.fill(start, target)
        return target

    def pieces(self, tensor: Tensor) -> list[Piece] | None:
        """Equal lists mean equal bytes, without reading any; None when that can not be told."""
        return self._content.pieces(tensor.offset, tensor.offset + tensor.length)


def described(tensor: Tensor) -> dict[str, Any]:
    """What users are told of a tensor: ``name``, ``dtype``, ``shape`` and ``nbytes``."""
    nbytes = prod(tensor.shape) * WIDTH_OF[tensor.dtype]
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "nbytes": nbytes}


def open_version(store: Store, version: Version) -> TensorFile:
    """The tensors of a stored version. Raises ``InvalidInput`` for a file that is no container, ``Corrupt``."""
    found = open_stored(store, version.digest, version.size_bytes)
    if found is None:
        raise InvalidInput(
            f"{version.key} is no container of tensors that can be read here (torch zip, safetensors, npy, npz, GGUF, "
            "HDF5; not compressed, not damaged); open() and read_bytes() give its bytes",
            path=version.key,
        )
    return found


def open_stored(store: Store, digest: str, size: int, *, beside: RecentParts | None = None) -> TensorFile | None:
    """The tensors of a stored content, or None when it is no container. Raises ``NotFound``, ``Corrupt``.

    ``beside``: shared with another file that is read at the same time; see ``_Beside``.
    """
    if size >= MIN_FILE:  # smaller ones are never stored as parts
        blobs = store.blobs
        try:
            return _of_parts(
                _Beside(blobs, digest, size, beside) if beside is not None else Assembled(blobs, digest, size)
            )
        except NotFound:
            pass
    stream = reading.open_plain(store.blobs, digest, size)
    return _of_stream(stream, size)


def open_local(path: str) -> TensorFile | None:
    """The tensors of a file on disk, or None when it is no container. Raises ``OSError``."""
    stream = open(path, "rb", buffering=0)  # noqa: SIM115 - the TensorFile closes it
    return _of_stream(stream, os.fstat(stream.fileno()).st_size)


def _of_parts(content: Assembled) -> TensorFile | None:
    recipe = content.recipe
    if recipe.tensors:
        return TensorFile(recipe.container, recipe.tensors, _Parts(content))
    # cut as mere bytes, because too little of it is tensors; it may be a container nevertheless
    layout = detect(Source(reading.AssembledStream(content), recipe.size))
    return None if layout is None else TensorFile(layout.kind, layout.tensors, _Parts(content))


def _of_stream(stream: Any, size: int) -> TensorFile | None:
    layout: Layout | None = None
    try:
        layout = detect(Source(stream, size))
    finally:
        if layout is None:
            stream.close()
    return None if layout is None else TensorFile(layout.kind, layout.tensors, _Whole(stream, size))


class _Whole:
    """Bytes of one seekable stream."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._source = stream, Source(stream, size)
        self._lock = threading.Lock()

    def fill(self, start: int, target: memoryview) -> None:
        try:
            with self._lock:
                self._source.read_into(start, target)
        except Odd:
            raise Corrupt(f"the file ends before byte {start + len(target):,}; did it change meanwhile?") from None

    def pieces(self, start: int, stop: int) -> list[Piece] | None:
        return None

    def close(self) -> None:
        self._stream.close()


class _Beside(Assembled):
    """A content that is read together with another version of it.

    To decode a part is to decode its base, and the base is mostly the very part of the other version. So bases are
    left in ``beside``, where both look first: then one chain of differences is decoded instead of two.
    """

    def __init__(self, blobs: Blobs, digest: str, size: int, beside: RecentParts) -> None:
        super().__init__(blobs, digest, size)
        self._beside = beside

    def _decode(self, number: int) -> bytes:
        wanted = self.recipe.parts[number]
        found = self._beside.take(wanted.key) or codecs.read_base(wanted.key, wanted.size, self._fetch, self._copies)
        if found.before is not None:
            self._beside.put(Base(*found.before))
        return bytes(found.plain)


class _Parts:
    """Bytes of a recipe."""

    def __init__(self, content: Assembled) -> None:
        self._content = content

    def fill(self, start: int, target: memoryview) -> None:
        recipe = self._content.recipe
        by_part: dict[int, list[tuple[int, int, int]]] = {}
        for at, length, part, offset in recipe.between(start, start + len(target)):
            by_part.setdefault(part, []).append((at - start, offset, length))

        def copy(part: int) -> None:
            plain = memoryview(recipe.glue if part == GLUE else self._content.part(part))
            for at, offset, length in by_part[part]:
                target[at : at + length] = plain[offset : offset + length]

        if len(by_part) == 1:
            copy(next(iter(by_part)))
            return
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="dreamlake-decode") as pool:
            for _ in pool.map(copy, by_part):
                pass

    def pieces(self, start: int, stop: int) -> list[Piece] | None:
        recipe = self._content.recipe
        found: list[Piece] = []
        for _, length, part, offset in recipe.between(start, stop):
            if part == GLUE:
                found.append((recipe.glue[offset : offset + length], 0, length))
            else:
                found.append((recipe.parts[part].key, offset, length))
        return found

    def close(self) -> None:
        return None
