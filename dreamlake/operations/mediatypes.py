"""Which media type a file gets: its name says."""

from __future__ import annotations

import os

from dreamlake.ports import NO_FORK

_TYPES = {
    ".pth": "application/octet-stream",
    ".pt": "application/octet-stream",
    ".ckpt": "application/octet-stream",
    ".safetensors": "application/octet-stream",
    ".npz": "application/octet-stream",
    ".npy": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".png": "image/png",
    ".log": "text/plain",
}


def content_type(path: str) -> str:
    """The media type for a logical path or a file name; ``application/octet-stream`` when unknown."""
    filename = path.rpartition("/")[2]
    suffix = os.path.splitext(filename)[1].lower()
    if suffix in _TYPES:
        return _TYPES[suffix]
    with NO_FORK:
        import mimetypes

    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def type_after(kind: str, old: str, new: str) -> str:
    """The media type of a file of this ``kind`` when it is renamed: that of the new suffix, if it is another one."""
    if os.path.splitext(old)[1].lower() == os.path.splitext(new)[1].lower():
        return kind
    return content_type(new)
