"""What an expression means for a file: a tree becomes one quick test on the rows of a listing.

The tree is taken apart once for each session, not once for each of its files: conditions on session and workspace are
decided then, and a session that cannot match is never read.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from dreamlake.model import SessionKey, Version, VersionRow, is_glob
from dreamlake.operations import fields
from dreamlake.operations.globs import path_test, text_test
from dreamlake.operations.moments import instant
from dreamlake.operations.query import COMPARE, Field, Node, Not, Or, Test
from dreamlake.ports import iso

__all__ = ["RowTest", "compiled", "reader", "time_test"]

RowTest = Callable[[VersionRow], bool]
_Text = Callable[[str], bool]
_KEY, _TAGS, _METADATA = (Version._fields.index(name) for name in ("key", "tags", "metadata"))
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_COLUMNS = {
    "path": _KEY,
    "id": Version._fields.index("id"),
    "version": Version._fields.index("number"),
    "checksum": Version._fields.index("digest"),
    "size": Version._fields.index("size_bytes"),
    "type": Version._fields.index("content_type"),
    "description": Version._fields.index("description"),
    "uploaded": Version._fields.index("uploaded_at"),
    "updated": Version._fields.index("updated_at"),
}


def compiled(node: Node, session: SessionKey, now_s: float) -> RowTest | bool:
    """A test on rows of this session; True or False when that is the same for all of them.

    Args:
        now_s: seconds since the epoch, for ages.
    """
    if isinstance(node, Test):
        return _test(node, session, now_s)
    if isinstance(node, Not):
        inner = compiled(node.item, session, now_s)
        return (not inner) if isinstance(inner, bool) else (lambda row: not inner(row))
    decides = isinstance(node, Or)  # what one item alone decides about the whole
    tests: list[RowTest] = []
    for item in node.items:
        made = compiled(item, session, now_s)
        if made is decides:
            return decides
        if not isinstance(made, bool):
            tests.append(made)
    if len(tests) < 2:
        return tests[0] if tests else not decides
    first, *rest = tests
    if decides:
        return lambda row: first(row) or any(test(row) for test in rest)
    return lambda row: first(row) and all(test(row) for test in rest)


def reader(field: Field) -> Callable[[VersionRow], Any]:
    """How the value of a field is taken from a row; ``fields.MISSING`` where there is none."""
    if field.name == "metadata":
        keys = field.keys
        if not isinstance(keys, str):
            return lambda row: fields.walk(row[_METADATA], keys)
        if "." not in keys:
            return lambda row: row[_METADATA].get(keys, fields.MISSING)
        parts = keys.split(".")
        return lambda row: m[keys] if keys in (m := row[_METADATA]) else fields.walk(m, parts)
    if field.name == "name":
        return lambda row: row[_KEY].rpartition("/")[2]
    column = _COLUMNS[field.name]
    return lambda row: row[column]


def _test(node: Test, session: SessionKey, now_s: float) -> RowTest | bool:
    name, op, want = node.field.name, node.op, node.value
    if name in ("session", "workspace"):
        matches = _text(op, want)
        shown = session.workspace if name == "workspace" else session.name
        parts = (*want,) if op == "in" else (want,)
        whole = name == "session" and any("/" in part for part in parts)
        return matches(str(session) if whole else shown)
    if name == "metadata":
        return _metadata(node)
    if name == "tag":
        if not op:
            return lambda row: bool(row[_TAGS])
        if op == "=" or (op == ":" and not is_glob(want)):
            return lambda row: want in row[_TAGS]
        matches = _text(op, want)
        return lambda row: any(map(matches, row[_TAGS]))
    if name in ("uploaded", "updated", "age"):
        return _time(node, now_s)
    read = reader(node.field)
    if name in ("size", "version"):
        if op == "in":
            return lambda row: read(row) in want
        return _compared(read, op, want)
    if name == "checksum":
        if op == "in":
            return lambda row: read(row).startswith(want)
        return lambda row: read(row).startswith(want) == (op != "!=")
    if not op:
        return lambda row: bool(read(row))
    matches = path_test(want + "**" if want.endswith("/") else want) if (name, op) == ("path", ":") else _text(op, want)
    return lambda row: (have := read(row)) is not None and matches(have)


def _text(op: str, want: Any) -> _Text:
    if op == "in":
        return lambda have: have in want
    if op == ":" and is_glob(want):
        return text_test(want)
    if op == "~":
        folded = want.casefold()
        return lambda have: folded in have.casefold()
    return lambda have: (have == want) == (op != "!=")


def _compared(read: Callable[[VersionRow], Any], op: str, want: Any) -> RowTest:
    if op in COMPARE:
        compare = fields.COMPARE[op]
        return lambda row: compare(read(row), want)
    return lambda row: (read(row) == want) == (op == "=")


def _time(node: Test, now_s: float) -> RowTest:
    op, want = node.op, node.value
    if node.field.name == "age":  # older is earlier
        return time_test(_COLUMNS["uploaded"], _TURNED[op], now_s - want)
    column = _COLUMNS[node.field.name]
    if op == ":":
        return lambda row: row[column].startswith(want)
    return time_test(column, op, want)


def time_test(column: int, op: str, want_s: float) -> RowTest:
    """Is the time stamp in a column earlier or later than a moment? Stamps as we write them compare as texts."""
    compare, text = fields.COMPARE[op], iso(datetime.fromtimestamp(want_s, timezone.utc))

    def test(row: VersionRow) -> bool:
        have = row[column]
        if len(have) == len(text) and have[-1] == "Z":
            return bool(compare(have, text))
        return bool(compare(instant(have), want_s))

    return test


def _metadata(node: Test) -> RowTest:
    read, op, want = reader(node.field), node.op, node.value
    if not op:
        return lambda row: read(row) is not fields.MISSING
    if op in COMPARE:
        compare, comparable = fields.COMPARE[op], fields.comparable
        return lambda row: comparable(have := read(row), want) and compare(have, want)
    if op == ":":
        matches = text_test(want)
        return lambda row: isinstance(have := read(row), str) and matches(have)
    if op == "~":
        folded = want.casefold() if isinstance(want, str) else None
        return lambda row: _contains(read(row), want, folded)
    if op == "=" and isinstance(want, str):
        return lambda row: bool(read(row) == want)
    known = {"=": "==", "!=": "!=", "in": "in"}[op]
    return lambda row: fields.meets(read(row), known, want)


def _contains(have: Any, want: Any, folded: str | None) -> bool:
    if isinstance(have, str):
        return folded is not None and folded in have.casefold()
    return fields.holds(have, want)
