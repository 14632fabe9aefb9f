"""Containers of tensors: where their numbers lie, read off their headers and nothing else.

Parsers read offsets only. They never unpickle, never trust a length, never allocate what a header claims, and give up
on anything odd, so that a file is at worst stored as bytes. They decide how well a file is stored, never whether it
comes back: a recipe is proven by what it rebuilds.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from dreamlake.content.containers import gguf, hdf5, numpy_files, safetensors, torch_zip, zips
from dreamlake.content.containers.layout import Layout, Run, Tensor, make_layout
from dreamlake.content.containers.source import Odd, Source

__all__ = ["Layout", "Odd", "Run", "Source", "Tensor", "detect"]

_HEAD = 16


def detect(file: BinaryIO | bytes | memoryview | Any, size: int | None = None) -> Layout | None:
    """The layout of a container of tensors, or None when the file is none or does anything odd.

    Args:
        file: a seekable binary stream, or a buffer (bytes, memoryview, mmap). A stream's position is changed.
        size: bytes of the file; found out when not given.

    Errors of reading (``OSError``) pass through; nothing in the content raises.
    """
    source = file if isinstance(file, Source) else Source(file, size)
    if source.size < _HEAD:
        return None
    try:
        return _parse(source)
    except (Odd, ValueError, IndexError, OverflowError, RecursionError, MemoryError):
        return None


def _parse(source: Source) -> Layout | None:
    head = source.read(0, _HEAD)
    if zips.is_zip(head):
        entries = zips.stored_entries(source)
        if any(entry.name.endswith("/data.pkl") for entry in entries):
            return torch_zip.parse(source, entries)
        weights = [entry for entry in entries if entry.name.endswith(".weights.h5")]
        if len(weights) == 1:
            return _keras(source, weights[0])
        return numpy_files.parse_npz(source, entries) if entries else None
    if head.startswith(numpy_files.MAGIC):
        return numpy_files.parse_npy(source)
    if head.startswith(gguf.MAGIC):
        return gguf.parse(source)
    if head.startswith(hdf5.MAGIC):
        return hdf5.parse(source)
    if safetensors.looks_like(head, source.size):
        return safetensors.parse(source)
    return None


def _keras(source: Source, entry: zips.Entry) -> Layout:
    """A .keras file: a zip with the weights as an HDF5 file inside."""
    inner = hdf5.parse(source.window(entry.offset, entry.size))
    runs = [run._replace(offset=run.offset + entry.offset) for run in inner.runs]
    tensors = [tensor._replace(offset=tensor.offset + entry.offset) for tensor in inner.tensors]
    return make_layout("keras", source.size, runs, tensors)
