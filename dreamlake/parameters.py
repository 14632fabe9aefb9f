"""Parameters of a session: one flat mapping of dotted names to JSON values, merged by every ``set``.

Owns what a legal name is, flattening and nesting, and that a name is a value or a group of names, never both.
Stored as one document of the session's journal: ``{"version", "data", "createdAt", "updatedAt"}``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, overload

from dreamlake import values
from dreamlake.errors import Conflict, Corrupt, InvalidInput, InvalidType
from dreamlake.journal import PARAMETERS, Document, Journal
from dreamlake.ports import Ports, iso

if TYPE_CHECKING:
    import pandas

MAX_NAME_BYTES = 1024  # one flat name with its dots, in UTF-8; all parameters together: values.MAX_VALUE_BYTES


class Parameters:
    """What ``session.parameters()`` gives.

    Args:
        journal: the session's side data.
        guard: called with True before a write and False before a read; raises when that is not allowed now.
        ports: the clock.
    """

    def __init__(self, journal: Journal, guard: Callable[[bool], None], ports: Ports) -> None:
        self._journal, self._guard, self._ports = journal, guard, ports

    def to_dataframe(self) -> pandas.DataFrame:
        """One row with a column for each parameter (dotted names), so that sessions can be put below each other.

        Needs pandas. Raises like ``get``.
        """
        from dreamlake.showing import frame

        return frame([self.get()])

    def set(self, mapping: Mapping[str, Any] | None = None, /, **more: Any) -> Parameters:
        """Add parameters or change them; others stay. Durable when the call returns.

        Nested dicts and dotted names are the same thing: ``set(model={"lr": 0.1})`` is ``set({"model.lr": 0.1})``.
        Keywords come after the mapping, and later values win. Lists are values. ``{}`` is a group without names.

        Args:
            mapping: names and values, for names that are no Python identifiers; e.g. ``vars(args)``.
            more: names and values.

        Returns:
            This object, so that calls can be chained.

        Raises:
            TypeError: a value without JSON form, or a name that is not text. The stored parameters are untouched.
            ValueError: an empty, unprintable or over-long name, a value under a name that is a group or the other way
                round (``Conflict``), or all parameters together over the limit. The stored ones are untouched.
            RuntimeError: the session is not open, or is write-protected.
        """
        self._guard(True)
        if mapping is not None and not isinstance(mapping, Mapping):
            raise InvalidType(
                f"parameters are given as keywords or as one mapping, not as {type(mapping).__name__}; "
                "for an object with attributes write set(vars(...))"
            )
        given = [*_flat(values.plain(mapping or {}, what="parameters")), *_flat(values.plain(more, what="parameters"))]
        if not given:
            return self

        def merge(document: Document | None) -> Document:
            now = iso(self._ports.now())
            old = {"version": 0, "data": {}, "createdAt": now} if document is None else document
            data = values.checked(_merged(_data(old), given), what="parameters")
            version = old.get("version")
            count = version + 1 if isinstance(version, int) else 1
            return {**old, "version": count, "data": data, "createdAt": old.get("createdAt", now), "updatedAt": now}

        self._journal.update_document(PARAMETERS, merge)
        return self

    @overload
    def get(self, *, flatten: bool = True) -> dict[str, Any]: ...

    @overload
    def get(self, name: str, default: Any = None, *, flatten: bool = True) -> Any: ...

    def get(self, name: str | None = None, default: Any = None, *, flatten: bool = True) -> Any:
        """All parameters, or one.

        Args:
            name: a dotted name. The name of a group gives its parameters, named relative to it.
            default: what to return when there is no such parameter.
            flatten: True for dotted names (``{"model.lr": 0.1}``), False for nested dicts (``{"model": {"lr": 0.1}}``).

        Raises:
            TypeError: ``name`` is not text.
            ValueError: the stored parameters are damaged (``Corrupt``).
            RuntimeError: the session is not open.
        """
        self._guard(False)
        document = self._journal.read_document(PARAMETERS)
        data = {} if document is None else _data(document)
        if name is None:
            return data if flatten else _nested(data)
        if not isinstance(name, str):
            raise InvalidType(f"the name of a parameter is text, not {type(name).__name__} (flatten is a keyword)")
        if name in data:
            return data[name]
        below = {key[len(name) + 1 :]: value for key, value in data.items() if key.startswith(name + ".")}
        if not below:
            return default
        return below if flatten else _nested(below)


def check_parameters(data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with dotted names, as ``Parameters.set`` would merge it into ``data``; raises what that raises."""
    flat = list(_flat(values.plain(given, what="parameters")))
    _merged(data, flat)
    return dict(flat)


def _data(document: Document) -> dict[str, Any]:
    data = document.get("data")
    if not isinstance(data, dict):
        raise Corrupt('the stored parameters have no "data" object; restore parameters.json or move it away')
    return data


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a plain tree, in order."""
    for key, value in tree.items():
        name = prefix + key
        if isinstance(value, dict) and value:
            yield from _flat(value, name + ".")
        else:
            yield _checked_name(name), value


def _checked_name(name: str) -> str:
    if not all(part.strip() for part in name.split(".")):
        raise InvalidInput(f"parameter name {name!r} has an empty part; write it like 'model.lr'")
    bad = next((char for char in name if unicodedata.category(char) in ("Cc", "Zl", "Zp")), None)
    if bad is not None:
        raise InvalidInput(f"parameter name {name!r} contains the unprintable character U+{ord(bad):04X}")
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise InvalidInput(f"parameter name {name[:40]!r}... has {size:,} bytes; the limit is {MAX_NAME_BYTES:,}")
    return name


def _merged(data: Mapping[str, Any], given: list[tuple[str, Any]]) -> dict[str, Any]:
    """``data`` with the given values. Raises ``Conflict`` where a value and a group would share a name."""
    merged = dict(data)
    groups = {group for name in merged for group in _groups(name)}
    for name, value in given:
        is_group = value == {} and isinstance(value, dict)
        if name in groups:
            if not is_group:
                raise Conflict(f"parameter {name!r} is a group ('{name}.…' exists), so it cannot be a value too")
            continue
        if name in merged and is_group != (merged[name] == {}):
            kind = "an empty group" if merged[name] == {} else "a value"
            raise Conflict(f"parameter {name!r} is {kind}, so it cannot be a {'group' if is_group else 'value'} too")
        for group in _groups(name):
            if merged.get(group, {}) != {}:
                raise Conflict(f"parameter {group!r} is a value, so {name!r} cannot be below it")
            merged.pop(group, None)
            groups.add(group)
        merged[name] = value
    return merged


def _groups(name: str) -> Iterator[str]:
    """``"a.b.c"`` -> ``"a"``, ``"a.b"``."""
    at = name.find(".")
    while at >= 0:
        yield name[:at]
        at = name.find(".", at + 1)


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in data.items():
        *groups, leaf = name.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return tree
