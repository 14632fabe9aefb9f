"""User values as JSON: what may be stored as metadata, parameters, log and track fields, and how.

Owns the conversion (NumPy scalars and 0-d tensors become plain numbers, datetimes and paths become text), the
strict encoding (non-finite floats survive as ``{"$float": "nan"}``, so that every strict parser can read our files)
and the limits on size and depth. Never imports NumPy or torch: it asks the value itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, timezone
from functools import lru_cache
from os import PathLike, fspath
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType

MAX_DEPTH = 64
MAX_VALUE_BYTES = 4 << 20  # one metadata mapping, parameter set, log line or track point, encoded
MAX_INT_BITS = 4096  # larger integers need quadratic time to print and most JSON readers refuse them
_FLOAT = "$float"

_Where = Any  # what a value is called in an error: text, or (where its container is, key), joined only when needed


def plain(value: Any, *, what: str = "value") -> Any:
    """The value as plain JSON types (dict, list, str, int, float, bool, None).

    Args:
        value: any mix of JSON types, tuples, NumPy scalars, 0-d tensors, datetimes and paths.
        what: how to call it in an error, e.g. ``"metadata"``.

    Raises:
        InvalidType: a type that has no JSON form, or a mapping key that is not a string.
        InvalidInput: nesting deeper than ``MAX_DEPTH``, or text that is not valid Unicode.
    """
    return _plain(value, what, 0, [])


def encode(value: Any, *, indent: int | None = None) -> bytes:
    """A plain value as strict JSON in UTF-8 (no NaN or Infinity literals)."""
    encoder = _encoder(indent)
    try:
        text = encoder.encode(value)
    except ValueError:  # rare: only then is the tree walked for non-finite floats
        text = encoder.encode(_mark(value))
    else:
        if _FLOAT in text:
            text = encoder.encode(_mark(value))
    return text.encode()


@lru_cache(maxsize=8)  # json.dumps would make a new one for every call with these options
def _encoder(indent: int | None) -> json.JSONEncoder:
    separators = (",", ":") if indent is None else None
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)


def decode(data: bytes | str) -> Any:
    """The reverse of ``encode``. Raises ``ValueError`` on anything that is not JSON."""
    marked = _FLOAT.encode() in data if isinstance(data, bytes) else _FLOAT in data
    try:
        value = json.loads(data)
        return _unmark(value) if marked else value
    except RecursionError:  # nobody but a stranger nests that deep
        raise ValueError("JSON nested too deeply") from None


def checked(value: Any, *, what: str) -> Any:
    """``plain`` plus the limit on the encoded size; returns the plain value."""
    result = _plain(value, what, 0, [MAX_VALUE_BYTES])
    if result and isinstance(result, (dict, list, str)):
        size = len(encode(result))
        if size > MAX_VALUE_BYTES:
            raise InvalidInput(
                f"{what} has {size:,} bytes as JSON; the limit is {MAX_VALUE_BYTES:,}. Upload it as a file."
            )
    return result


def whole_number(value: Any, *, what: str) -> int:
    """A number of things or a position: an int, or what stands for one (NumPy integers).

    Raises:
        InvalidType: not a whole number.
        InvalidInput: a negative one.
    """
    if not hasattr(value, "__index__"):
        raise InvalidType(f"{what} is a whole number, not {type(value).__name__}")
    number = int(value.__index__())
    if number < 0:
        raise InvalidInput(f"{what} is {number}; it cannot be negative")
    return number


def _plain(value: Any, where: _Where, depth: int, room: list[int]) -> Any:
    """``room``: bytes left of a limit, in one cell; empty for no limit.

    It ends the walk early: a few small lists that hold each other many times over make an astronomical value.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{_name(where)} is nested deeper than {MAX_DEPTH} levels (or contains itself)")
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if isinstance(value, str):
        return _text(value, where, room)
    if kind is int:
        if value.bit_length() > MAX_INT_BITS:
            raise InvalidInput(f"{_name(where)} holds an integer of more than {MAX_INT_BITS} bits")
        return value
    if isinstance(value, Mapping):
        _take(room, len(value), where)
        return {_key(key, where, room): _plain(item, (where, key), depth + 1, room) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        _take(room, len(value), where)
        return [_plain(item, (where, i), depth + 1, room) for i, item in enumerate(value)]
    return _foreign(value, where, depth, room)


def _foreign(value: Any, where: _Where, depth: int, room: list[int]) -> Any:
    """Values of other libraries and of the standard library that have one obvious JSON form."""
    if isinstance(value, datetime):
        return _moment(value, where)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PathLike):
        text = fspath(value)
        if isinstance(text, str):
            return _text(text, where, room)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        item = _item(value)  # NumPy scalar, 0-d array or tensor
        if type(item) is not type(value):
            return _plain(item, where, depth + 1, room)
    if isinstance(value, (bool, int, float)):  # subclasses (IntEnum, ...)
        exact = int.__index__(value) if isinstance(value, int) else float.__float__(value)
        return _plain(exact, where, depth + 1, room)
    enum_value = getattr(value, "value", None)
    if enum_value is not None and hasattr(type(value), "__members__"):
        return _plain(enum_value, where, depth + 1, room)
    raise InvalidType(
        f"{_name(where)} is a {type(value).__module__}.{type(value).__qualname__}, which has no JSON form; "
        "use numbers, text, booleans, None, lists and dicts, or upload it as a file"
    )


def _moment(value: datetime, where: _Where) -> str:
    """In UTC. A time without a zone is local time, as everywhere in Python."""
    try:
        aware = value if value.tzinfo else value.astimezone()
        return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:  # datetime.min, or a zone that leaves the calendar
        raise InvalidInput(f"{_name(where)} is the time {value!r}, which does not exist in UTC") from error


def _item(value: Any) -> Any:
    """What a scalar of another library is in Python's own types; itself where there is no such type."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == "m":
        return value  # a duration has no JSON form, and item() would make a bare number of nanoseconds
    item = value.item()
    if kind == "M":
        if isinstance(item, int) and str(value.dtype)[-3:-1] in ("ns", "ps", "fs", "as"):
            item = value.astype("datetime64[us]").item()
        if isinstance(item, int):  # outside the calendar
            return value
        return item.replace(tzinfo=timezone.utc) if isinstance(item, datetime) else item  # NumPy's times are UTC
    if kind == "f" and type(item) is type(value):
        return float(item)  # longdouble
    return item


def _take(room: list[int], count: int, where: _Where) -> None:
    """``count`` members more; each takes at least two bytes of JSON (itself and a comma)."""
    if room:
        room[0] -= 2 * count
        if room[0] < 0:
            raise InvalidInput(
                f"{_root(where)} has more than {MAX_VALUE_BYTES:,} bytes as JSON, which is the limit. "
                "Upload it as a file."
            )


def _key(key: Any, where: _Where, room: list[int]) -> str:
    if not isinstance(key, str):
        raise InvalidType(f"{_name(where)} has the key {_short(key)} of type {type(key).__name__}; keys must be text")
    return _text(key, where, room)


def _text(text: str, where: _Where, room: list[int]) -> str:
    text = str.__str__(text)  # of an enumeration of text the text, not its name
    _take(room, len(text) // 2, where)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{_name(where)} holds text that is not valid Unicode (a lone surrogate)") from error
    return text


def _name(where: _Where) -> str:
    keys = []
    while isinstance(where, tuple):
        where, key = where
        keys.append(f"[{_short(key)}]")
    return str(where) + "".join(reversed(keys))


def _root(where: _Where) -> str:
    while isinstance(where, tuple):
        where = where[0]
    return str(where)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _mark(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, dict):
        return {("$" + k if k.lstrip("$") == _FLOAT[1:] and k != _FLOAT[1:] else k): _mark(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark(v) for v in value]
    return value


def _unmark(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) == 1 and _FLOAT in value and value[_FLOAT] in ("nan", "inf", "-inf"):
            return float(value[_FLOAT])
        return {
            (k[1:] if k.startswith("$$") and k.lstrip("$") == _FLOAT[1:] else k): _unmark(v) for k, v in value.items()
        }
    if isinstance(value, list):
        return [_unmark(v) for v in value]
    return value
