"""Fields of metadata: how one is found, compared and ranked. One home for all that searches, sorts or retains."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = (*COMPARE, "==", "!=", "in", "contains", "exists")
MISSING = object()
NOWHERE = 2


def lookup(metadata: Mapping[str, Any], name: str) -> Any:
    """A field, dotted for nested ones; a key that itself holds dots is found first. ``MISSING`` if there is none."""
    if name in metadata:
        return metadata[name]
    return walk(metadata, name.split(".")) if "." in name else MISSING


def walk(metadata: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """A nested field by its exact keys; ``MISSING`` if there is none."""
    here: Any = metadata
    for key in keys:
        if not isinstance(here, dict) or key not in here:  # metadata is plain JSON
            return MISSING
        here = here[key]
    return here


def rank(value: Any) -> tuple[int, Any]:
    """Where a value stands in an order: kind (numbers, text, ``NOWHERE``) and value."""
    if isinstance(value, (int, float)):
        return (0, value) if value == value else (NOWHERE, None)  # NaN has no place in an order
    return (1, value) if isinstance(value, str) else (NOWHERE, None)


def condition(name: str, wanted: Any) -> Callable[[Mapping[str, Any]], bool]:
    """A test of metadata: the field equals ``wanted``, or meets every ``{operator: value}`` of it.

    Operators are <, <=, >, >=, ==, !=, in, contains, exists. Raises ``InvalidInput`` or ``InvalidType``.
    """
    what = f"metadata condition on {name!r}"
    if not isinstance(name, str):
        raise InvalidType(f"{what}: the name of a field is text")
    pairs: dict[str, Any] = {"==": wanted}
    if isinstance(wanted, Mapping) and any(key in _OPERATORS for key in wanted):
        if not set(wanted) <= set(_OPERATORS):
            raise InvalidInput(
                f"{what}: use only {', '.join(_OPERATORS)}; a dict to compare with goes into {{'==': ...}}"
            )
        pairs = dict(wanted)
    if "in" in pairs:
        if isinstance(pairs["in"], (str, bytes, Mapping)) or not isinstance(pairs["in"], Iterable):
            raise InvalidType(f"{what}: 'in' needs a list of values, not {pairs['in']!r}")
        pairs["in"] = list(pairs["in"])
    plain = [(op, values.plain(want, what=what)) for op, want in pairs.items()]

    def test(metadata: Mapping[str, Any]) -> bool:
        have = lookup(metadata, name)
        return all(meets(have, op, want) for op, want in plain)

    return test


def meets(have: Any, op: str, want: Any) -> bool:
    """A missing field meets nothing (except ``exists: False``); numbers and text do not compare."""
    if op == "exists":
        return (have is not MISSING) == bool(want)
    if have is MISSING:
        return False
    if op in COMPARE:
        return comparable(have, want) and bool(COMPARE[op](have, want))
    if op == "in":
        return any(equal(have, item) for item in want)
    if op == "contains":
        if isinstance(have, str):
            return isinstance(want, str) and want in have
        return holds(have, want)
    return equal(have, want) == (op == "==")


def holds(have: Any, want: Any) -> bool:
    """True for a list with such an item, or a mapping with such a key."""
    return isinstance(have, (list, dict)) and any(equal(item, want) for item in have)


def comparable(a: Any, b: Any) -> bool:
    """True for two numbers or two texts; true and false are no numbers."""
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return (
        isinstance(a, str) == isinstance(b, str)
        and isinstance(a, (int, float, str))
        and isinstance(b, (int, float, str))
    )


def equal(a: Any, b: Any) -> bool:
    """As JSON values: ``True`` is not 1, at any depth."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
