"""Classes whose base classes belong to a heavy library: made when they are first asked for.

A module of ``integrations`` holds the methods in a plain class and names the base in a function; its ``__getattr__``
calls ``derived``. So importing the module costs nothing, and what it gives is a real subclass, which can be pickled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["derived", "need"]


def derived(module: str, name: str, methods: type, base: type) -> type:
    """The class ``name`` of ``module``: ``methods`` in front of ``base``. The same one at every call."""
    made = type(name, (methods, base), {"__module__": module, "__qualname__": name, "__doc__": methods.__doc__})
    return sys.modules[module].__dict__.setdefault(name, made)  # type: ignore[no-any-return]


def need(load: Callable[[], Any], extra: str) -> Any:
    """What ``load`` imports. Raises ``ImportError`` that names the extra to install."""
    try:
        return load()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}; install it with: pip install 'dreamlake[{extra}]'", name=error.name
        ) from None


def unknown(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}")
