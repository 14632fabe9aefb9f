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


def plain(value: Any, *, what: str = "value") -> Any:
    """The value as plain JSON types (dict, list, str, int, float, bool, None).

    Args:
        value: any mix of JSON types, tuples, NumPy scalars, 0-d tensors, datetimes and paths.
        what: how to call it in an error, e.g. ``"metadata"``.

    Raises:
        InvalidType: a type that has no JSON form, or a mapping key that is not a string.
        InvalidInput: nesting deeper than ``MAX_DEPTH``, or text that is not valid Unicode.
    """
    return _plain(value, what, 0)


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
    value = json.loads(data)
    marked = _FLOAT.encode() in data if isinstance(data, bytes) else _FLOAT in data
    return _unmark(value) if marked else value


def checked(value: Any, *, what: str) -> Any:
    """``plain`` plus the limit on the encoded size; returns the plain value."""
    result = plain(value, what=what)
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


def _plain(value: Any, what: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{what} is nested deeper than {MAX_DEPTH} levels (or contains itself)")
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if isinstance(value, str):
        return _text(str(value), what)
    if kind is int:
        if value.bit_length() > MAX_INT_BITS:
            raise InvalidInput(f"{what} holds an integer of more than {MAX_INT_BITS} bits")
        return value
    if isinstance(value, Mapping):
        return {_key(key, what): _plain(item, f"{what}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{what}[{i}]", depth + 1) for i, item in enumerate(value)]
    return _foreign(value, what, depth)


def _foreign(value: Any, what: str, depth: int) -> Any:
    """Values of other libraries and of the standard library that have one obvious JSON form."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.astimezone()
        return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PathLike):
        text = fspath(value)
        if isinstance(text, str):
            return _text(text, what)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        item = value.item()  # NumPy scalar, 0-d array or tensor
        if type(item) is not type(value):
            return _plain(item, what, depth + 1)
    if isinstance(value, (bool, int, float)):  # subclasses (IntEnum, ...)
        return next(base(value) for base in (bool, int, float) if isinstance(value, base))
    enum_value = getattr(value, "value", None)
    if enum_value is not None and hasattr(type(value), "__members__"):
        return _plain(enum_value, what, depth + 1)
    raise InvalidType(
        f"{what} is a {type(value).__module__}.{type(value).__qualname__}, which has no JSON form; "
        "use numbers, text, booleans, None, lists and dicts, or upload it as a file"
    )


def _key(key: Any, what: str) -> str:
    if not isinstance(key, str):
        raise InvalidType(f"{what} has the key {key!r} of type {type(key).__name__}; keys must be text")
    return _text(str(key), what)


def _text(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} holds text that is not valid Unicode (a lone surrogate)") from error
    return text


def _mark(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, dict):
        return {("$" + k if k.lstrip("$") == _FLOAT[1:] and k != _FLOAT[1:] else k): _mark(v) for k, v in value.items()}
    if isinstance(value, list):
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
