"""Find: which files match, in what order? Answered from the rows of any catalog, so that all give the same answers.

Conditions come as keywords, as an expression (``where``, see ``parsing``), or both; all must hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from heapq import nlargest, nsmallest
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from dreamlake import values
from dreamlake.bulk import paused_gc
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import SessionKey, Version, VersionRow, below, check_tags, folder_path
from dreamlake.operations import fields
from dreamlake.operations.context import Store
from dreamlake.operations.evaluating import RowTest, compiled, reader, time_test
from dreamlake.operations.globs import path_test
from dreamlake.operations.moments import moment
from dreamlake.operations.parsing import parse, parse_field
from dreamlake.operations.query import Node
from dreamlake.operations.references import Sessions

__all__ = ["Conditions", "Hit", "conditions", "find", "metadata_test", "ordered", "parse_order", "sessions_of"]

SCOPES = ("session", "workspace", "lake")
_ORDERS = ("uploaded", "updated", "path", "name", "size", "version", "type", "session", "workspace")
_SEQ, _KEY, _DIGEST, _SIZE, _TAGS, _METADATA, _AT = map(
    Version._fields.index, ("seq", "key", "digest", "size_bytes", "tags", "metadata", "uploaded_at")
)


class Hit(NamedTuple):
    """A version that was found, as a row of its listing, and the session that it belongs to."""

    session: SessionKey
    version: VersionRow


class Conditions(NamedTuple):
    """What must hold: tests on rows, and a tree."""

    tests: Sequence[RowTest] = ()
    where: Node | None = None


class Order(NamedTuple):
    """One key of an order."""

    key: Callable[[Hit], tuple[int, Any]]  # kind and value; kinds stay in their order whatever the direction
    descending: bool
    by_upload: bool


def find(
    store: Store,
    sessions: Iterable[SessionKey],
    wanted: Conditions,
    *,
    order: str | Iterable[str] | None = None,
    limit: int | None = None,
) -> list[Hit]:
    """Live files of these sessions that meet the conditions; see ``ordered``."""
    keys, now_s = list(sessions), store.ports.now().timestamp()
    parse_order(order)  # a wrong one is told before anything is read
    hits: list[Hit] = []
    view = store.catalog.view if len(keys) == 1 else Sessions(store).view
    with paused_gc():
        for key in keys:
            tree = compiled(wanted.where, key, now_s) if wanted.where is not None else True
            if tree is False:
                continue
            tests = [*wanted.tests, *([] if tree is True else [tree])]
            rows: Iterable[VersionRow] = view(key).live_rows()
            for test in tests:
                rows = filter(test, rows)
            hits += map(Hit._make, zip(repeat(key), rows))
        return ordered(hits, order, limit=limit, one_session=len(keys) == 1)


def sessions_of(store: Store, scope: str, session: SessionKey) -> list[SessionKey]:
    """The sessions that a scope means, seen from one: ``session``, ``workspace`` or ``lake``."""
    if scope not in SCOPES:
        raise InvalidInput(f"scope={scope!r}; use {', '.join(SCOPES)}")
    if scope == "session":
        return [session]
    keys = store.sessions()
    return keys if scope == "lake" else [key for key in keys if key.workspace == session.workspace]


def conditions(
    *,
    where: str | None = None,
    glob: str | None = None,
    path: str | os.PathLike[str] | None = None,
    tags: Iterable[str] | None = None,
    all_tags: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    after: str | date | None = None,
    before: str | date | None = None,
    checksum: str | None = None,
) -> Conditions:
    """Checked conditions; all that are given must hold.

    Args:
        where: an expression, such as ``"metadata.val_accuracy > 0.9 and tag:best"``.
        glob: shell pattern on the full path; ``*`` stays in one folder, ``**`` crosses folders; a pattern without a
            slash is matched against the file name.
        path: folder; it and everything below.
        tags: at least one of these.  all_tags: every one of these. An empty list is no condition.
        metadata: field (dotted for nested ones) -> value, or -> ``{operator: value}`` with <, <=, >, >=, ==, !=, in,
            contains, exists. A missing field matches nothing (except ``exists: False``), and so does a comparison of
            a number with text; true and false are no numbers.
        min_size, max_size: bytes, inclusive.
        after, before: upload time (see ``moments.moment``); after is inclusive, before is not.
        checksum: SHA-256 or a prefix of at least 6 hexadecimal digits.

    Raises:
        InvalidInput: a malformed expression, pattern, time or checksum; an unknown operator.
        InvalidType: a condition of another type.
    """
    tests: list[RowTest] = []
    if glob is not None:
        matches = path_test(glob)
        tests.append(lambda row: matches(row[_KEY]))
    if path is not None and (prefix := below(folder_path(path))) != "/":
        tests.append(lambda row: row[_KEY].startswith(prefix))
    some, every = (frozenset(check_tags([t] if isinstance(t, str) else t)) for t in (tags, all_tags))
    if some:
        tests.append(lambda row: not some.isdisjoint(row[_TAGS]))
    if every:
        tests.append(lambda row: every.issubset(row[_TAGS]))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidType(f"metadata must be a mapping of fields to conditions, not {type(metadata).__name__}")
    tests += [metadata_test(name, wanted) for name, wanted in (metadata or {}).items()]
    tests += _measured(min_size, max_size, after, before)
    if checksum is not None:
        if not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-fA-F]{6,64}", checksum):
            raise InvalidInput(f"checksum {checksum!r} must be 6 to 64 hexadecimal digits")
        start_of = checksum.lower()
        tests.append(lambda row: row[_DIGEST].startswith(start_of))
    return Conditions(tests, None if where is None else parse(where))


def metadata_test(name: str, wanted: Any) -> RowTest:
    """One condition on a field of metadata; see ``conditions``."""
    test = fields.condition(name, wanted)
    return lambda row: test(row[_METADATA])


def _measured(min_size: Any, max_size: Any, after: Any, before: Any) -> Iterable[RowTest]:
    if min_size is not None:
        least = _bytes(min_size, "min_size")
        yield lambda row: row[_SIZE] >= least
    if max_size is not None:
        most = _bytes(max_size, "max_size")
        yield lambda row: row[_SIZE] <= most
    if after is not None:
        yield time_test(_AT, ">=", moment(after).timestamp())
    if before is not None:
        yield time_test(_AT, "<", moment(before).timestamp())


def _bytes(value: Any, what: str) -> int | float:
    if not isinstance(value := values.plain(value, what=what), (int, float)) or isinstance(value, bool):
        raise InvalidType(f"{what} is a number of bytes, not {value!r}")
    return value


# ---- order -------------------------------------------------------------------------------------------------------


def ordered(
    hits: Iterable[Hit],
    order: str | Iterable[str] | None = None,
    *,
    limit: int | None = None,
    one_session: bool = False,
) -> list[Hit]:
    """Sorted as ``parse_order`` says, and cut off after ``limit``.

    Fields of metadata: numbers before text, files without such a field last, in both directions. Equal ones stay in
    the order given.
    ``one_session``: upload order is exact even where clocks were not.
    """
    limit = None if limit is None else values.whole_number(limit, what="limit")
    result = list(hits)
    if order is None and one_session:
        return result[:limit]  # as listed
    parts = parse_order(order)
    for part in reversed(parts):
        if part.by_upload and one_session:
            result.sort(key=_by_number, reverse=part.descending)
        else:
            result = _sorted(result, part, limit if len(parts) == 1 else None)
    return result[:limit]


def _by_number(hit: Hit) -> Any:
    return hit.version[_SEQ]


def _sorted(hits: Sequence[Hit], part: Order, limit: int | None) -> list[Hit]:
    """By one key. ``limit``: more than that many are not asked for."""
    kinds: dict[int, list[tuple[Any, Hit]]] = {}
    for hit, (kind, value) in zip(hits, map(part.key, hits), strict=True):
        if kind not in kinds:
            kinds[kind] = []
        kinds[kind].append((value, hit))
    for kind, pairs in kinds.items():
        if kind == fields.NOWHERE:
            continue
        if limit is not None and limit < len(pairs) // 64:
            best = nlargest if part.descending else nsmallest
            kinds[kind] = best(limit, pairs, key=itemgetter(0))
        else:
            pairs.sort(key=itemgetter(0), reverse=part.descending)
    return [hit for kind in sorted(kinds) for _, hit in kinds[kind]]


def parse_order(order: str | Iterable[str] | None) -> list[Order]:
    """``"-metadata.loss"``, ``"path"``, or several, in one text with commas or as a list; "-" turns one round.

    Fields are ``uploaded`` (the default), ``updated``, ``path``, ``name``, ``size``, ``version``, ``type``,
    ``session``, ``workspace`` and ``metadata.<field>``. Raises ``InvalidInput`` or ``InvalidType``.
    """
    if order is None:
        order = "uploaded"
    parts = order.split(",") if isinstance(order, str) else list(order) if isinstance(order, Iterable) else [order]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise InvalidType(f"order={order!r}; write a field such as 'uploaded' or '-metadata.loss', or a list of them")
    return [_order(part.strip(), order) for part in parts]


def _order(part: str, whole: Any) -> Order:
    known = f"order={whole!r}; use {', '.join(_ORDERS)} or metadata.<field>, with '-' in front for descending"
    text = part[1:] if part[:1] in ("-", "+") else part
    try:
        field = parse_field(text)
    except InvalidInput:
        raise InvalidInput(known) from None
    if field.name == "metadata":
        read = reader(field)
        return Order(lambda hit: fields.rank(read(hit.version)), part.startswith("-"), False)
    if field.name not in _ORDERS:
        raise InvalidInput(known)
    key: Callable[[Hit], tuple[int, Any]]
    if field.name == "uploaded":
        key = _uploaded
    elif field.name == "session":
        key = _session
    elif field.name == "workspace":
        key = _workspace
    else:
        read = reader(field)
        return Order(lambda hit: (0, read(hit.version)), part.startswith("-"), False)
    return Order(key, part.startswith("-"), field.name == "uploaded")


def _uploaded(hit: Hit) -> tuple[int, Any]:
    return 0, (hit.version[_AT], hit.session, hit.version[_SEQ])


def _session(hit: Hit) -> tuple[int, Any]:
    return 0, hit.session


def _workspace(hit: Hit) -> tuple[int, Any]:
    return 0, hit.session.workspace
