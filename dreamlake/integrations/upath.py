"""universal-pathlib: what ``UPath("dreamlake://workspace/session/path")`` makes.

All of it is in the file system (``integrations.fsspec``); the class says only that this protocol is known and tested.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dreamlake.integrations.lazy import derived, need, unknown

__all__ = ["DreamLakePath"]

DreamLakePath: type[Any]  # made by __getattr__


def __getattr__(name: str) -> Any:
    if name == "DreamLakePath":
        return derived(__name__, name, _Path, need(lambda: import_module("upath"), "fsspec").UPath)
    raise unknown(__name__, name)


class _Path:
    """A path in a lake; made by ``UPath("dreamlake://...")``."""

    __slots__ = ()
