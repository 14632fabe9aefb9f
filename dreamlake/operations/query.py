"""The tree of an expression of ``find``: what may be asked about a file.

Owns the fields, which operator goes with which, and how a tree is written; ``parsing`` reads one from text, and
``evaluating`` says what it means for a file.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["COMPARE", "CONSTANTS", "KINDS", "And", "Field", "Node", "Not", "Or", "Test"]

COMPARE = ("<", "<=", ">", ">=")
_MATCH = ("=", "!=", ":", "~", "in")
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {  # field: what its values are, and its operators
    "metadata": ("json", (*_MATCH, *COMPARE, "")),
    "tag": ("text", ("=", ":", "~", "in", "")),
    "path": ("text", _MATCH),
    "name": ("text", _MATCH),
    "type": ("text", _MATCH),
    "description": ("text", (*_MATCH, "")),
    "session": ("text", _MATCH),
    "workspace": ("text", _MATCH),
    "id": ("text", ("=", "!=", "in")),
    "checksum": ("digest", ("=", "!=", ":", "in")),
    "size": ("bytes", ("=", "!=", "in", *COMPARE)),
    "version": ("number", ("=", "!=", "in", *COMPARE)),
    "uploaded": ("time", (":", *COMPARE)),
    "updated": ("time", (":", *COMPARE)),
    "age": ("duration", COMPARE),
}
CONSTANTS = {"true": True, "false": False, "null": None, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Field:
    """What is looked at. ``keys``: the way into ``metadata``; one dotted text, or parts as soon as one was quoted."""

    name: str
    keys: str | tuple[str, ...] = ()

    def __str__(self) -> str:
        if isinstance(self.keys, str):
            return f"{self.name}.{self.keys}"
        return ".".join([self.name, *map(_quoted, self.keys)])


@dataclass(frozen=True)
class Test:
    """One condition. ``op`` is one of ``= != < <= > >= : ~ in``, or empty: the field is there."""

    field: Field
    op: str = ""
    value: Any = None  # plain; seconds since the epoch for a time, seconds for an age, bytes for a size
    column: int = dataclasses.field(default=0, compare=False)  # from 1

    __test__ = False  # no test class for pytest

    def __str__(self) -> str:
        if not self.op:
            return str(self.field)
        kind = KINDS[self.field.name][0]
        if self.op == "in":
            return f"{self.field} in ({', '.join(_shown(value, kind) for value in self.value)})"
        return f"{self.field} {self.op} {_shown(self.value, kind if self.op != ':' else 'text')}"


@dataclass(frozen=True)
class And:
    items: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(f"({item})" if isinstance(item, (And, Or)) else str(item) for item in self.items)


@dataclass(frozen=True)
class Or:
    items: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(f"({item})" if isinstance(item, Or) else str(item) for item in self.items)


@dataclass(frozen=True)
class Not:
    item: Node

    def __str__(self) -> str:
        return f"not ({self.item})"


Node = And | Or | Not | Test


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shown(value: Any, kind: str) -> str:
    """A value as it may be written in an expression."""
    if isinstance(value, str):
        return _quoted(value)
    for word, constant in CONSTANTS.items():
        if value is constant or (isinstance(value, float) and math.isinf(value) and value == constant):
            return word
    if kind == "time":
        from datetime import datetime, timezone

        return _quoted(datetime.fromtimestamp(value, timezone.utc).isoformat())
    return f"{value!r}s" if kind == "duration" else repr(value)
