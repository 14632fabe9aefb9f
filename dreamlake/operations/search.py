"""Find: which versions match? One pure predicate, so that every catalog gives the same answers."""

from __future__ import annotations

import fnmatch
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any, NamedTuple

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import SessionKey, Version, below, check_tags, folder_path
from dreamlake.operations.context import Store

SCOPES = ("session", "workspace", "lake")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = (*_COMPARE, "==", "!=", "in", "contains", "exists")
_MISSING = object()

Predicate = Callable[[Version], bool]


class Hit(NamedTuple):
    """A version that was found, and the session that it belongs to."""

    session: SessionKey
    version: Version


_ORDERS: dict[str, Callable[[Hit], Any]] = {
    "uploaded": lambda hit: (hit.version.uploaded_at, hit.session, hit.version.seq),
    "updated": lambda hit: hit.version.updated_at,
    "path": lambda hit: hit.version.key,
    "size": lambda hit: hit.version.size_bytes,
}


def find(
    store: Store,
    session: SessionKey,
    test: Predicate,
    *,
    scope: str = "session",
    order_by: str = "uploaded",
    descending: bool = False,
    limit: int | None = None,
) -> list[Hit]:
    """Live files that pass ``test``, in one session, its workspace or the whole lake.

    Raises:
        InvalidInput: an unknown scope or order, a negative limit.
    """
    if scope not in SCOPES:
        raise InvalidInput(f"scope={scope!r}; use {', '.join(SCOPES)}")
    keys = (
        [session] if scope == "session" else [k for k in store.catalog.sessions() if k.namespace == session.namespace]
    )
    if scope == "workspace":
        keys = [key for key in keys if key.workspace == session.workspace]
    hits = [Hit(key, version) for key in keys for version in store.catalog.view(key).live() if test(version)]
    return ordered(hits, order_by, descending=descending, limit=limit, one_session=scope == "session")


def predicate(
    *,
    glob: str | None = None,
    path: str | os.PathLike[str] | None = None,
    tags: Iterable[str] | None = None,
    all_tags: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    after: str | datetime | None = None,
    before: str | datetime | None = None,
    checksum: str | None = None,
) -> Predicate:
    """A test for one version; all given conditions must hold.

    Args:
        glob: shell pattern on the full path; ``**`` and ``*`` both cross folders only as ``**``; a pattern without a
            slash is matched against the file name.
        path: folder; it and everything below.
        tags: at least one of these.  all_tags: every one of these. An empty list is no condition.
        metadata: field (dotted for nested ones) -> value, or -> ``{operator: value}`` with <, <=, >, >=, ==, !=, in,
            contains, exists. A missing field matches nothing (except ``exists: False``), and so does a comparison of
            a number with text; true and false are no numbers.
        min_size, max_size: bytes, inclusive.
        after, before: upload time (see ``moment``); after is inclusive, before is not.
        checksum: SHA-256 or a prefix of at least 6 hexadecimal digits.

    Raises:
        InvalidInput: an unknown operator, a malformed time or checksum.
        InvalidType: a condition of another type.
    """
    tests: list[Predicate] = []
    if glob is not None:
        matches = path_test(glob)
        tests.append(lambda v: matches(v.key))
    if path is not None:
        prefix = below(folder_path(path))
        tests.append(lambda v: v.key.startswith(prefix))
    some, every = (frozenset(check_tags([t] if isinstance(t, str) else t)) for t in (tags, all_tags))
    if some:
        tests.append(lambda v: not some.isdisjoint(v.tags))
    if every:
        tests.append(lambda v: every.issubset(v.tags))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidType(f"metadata must be a mapping of fields to conditions, not {type(metadata).__name__}")
    tests.extend(_field(name, condition) for name, condition in (metadata or {}).items())
    if min_size is not None:
        least = _bytes(min_size, "min_size")
        tests.append(lambda v: v.size_bytes >= least)
    if max_size is not None:
        most = _bytes(max_size, "max_size")
        tests.append(lambda v: v.size_bytes <= most)
    if after is not None:
        start = moment(after)
        tests.append(lambda v: moment(v.uploaded_at) >= start)
    if before is not None:
        end = moment(before)
        tests.append(lambda v: moment(v.uploaded_at) < end)
    if checksum is not None:
        if not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-fA-F]{6,64}", checksum):
            raise InvalidInput(f"checksum {checksum!r} must be 6 to 64 hexadecimal digits")
        start_of = checksum.lower()
        tests.append(lambda v: v.digest.startswith(start_of))
    return lambda version: all(test(version) for test in tests)


def ordered(
    hits: Iterable[Hit],
    order_by: str = "uploaded",
    *,
    descending: bool = False,
    limit: int | None = None,
    one_session: bool = False,
) -> list[Hit]:
    """Sorted by ``uploaded``, ``updated``, ``path``, ``size`` or ``metadata.<field>``.

    Fields: numbers before text, files without such a field last. Equal ones stay in the order given.
    ``one_session``: upload order is exact even where clocks were not.
    """
    limit = None if limit is None else values.whole_number(limit, what="limit")
    if isinstance(order_by, str) and order_by.startswith("metadata."):
        name = order_by[len("metadata.") :]
        ranked = [(_rank(lookup(hit.version.metadata, name)), hit) for hit in hits]
        have = [pair for pair in ranked if pair[0] is not None]
        have.sort(key=lambda pair: pair[0], reverse=descending)  # type: ignore[arg-type,return-value]
        result = [hit for _, hit in have] + [hit for rank, hit in ranked if rank is None]
    elif order_by in _ORDERS:
        by_number = one_session and order_by == "uploaded"
        key = (lambda hit: hit.version.seq) if by_number else _ORDERS[order_by]
        result = sorted(hits, key=key, reverse=descending)
    else:
        raise InvalidInput(f"order_by={order_by!r}; use {', '.join(_ORDERS)} or metadata.<field>")
    return result[:limit]


def lookup(metadata: Mapping[str, Any], name: str) -> Any:
    """A field, dotted for nested ones; a key that itself holds dots is found first."""
    if name in metadata:
        return metadata[name]
    here: Any = metadata
    for part in name.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return _MISSING
        here = here[part]
    return here


def _rank(value: Any) -> tuple[int, Any] | None:
    if isinstance(value, (int, float)):
        return (0, value) if value == value else None  # NaN has no place in an order
    return (1, value) if isinstance(value, str) else None


def _bytes(value: Any, what: str) -> int | float:
    if not isinstance(value := values.plain(value, what=what), (int, float)) or isinstance(value, bool):
        raise InvalidType(f"{what} is a number of bytes, not {value!r}")
    return value


def _field(name: str, condition: Any) -> Predicate:
    what = f"metadata condition on {name!r}"
    if not isinstance(name, str):
        raise InvalidType(f"{what}: the name of a field is text")
    pairs: dict[str, Any] = {"==": condition}
    if isinstance(condition, Mapping) and any(key in _OPERATORS for key in condition):
        if not set(condition) <= set(_OPERATORS):
            raise InvalidInput(
                f"{what}: use only {', '.join(_OPERATORS)}; a dict to compare with goes into {{'==': ...}}"
            )
        pairs = dict(condition)
    if "in" in pairs:
        if isinstance(pairs["in"], (str, bytes, Mapping)) or not isinstance(pairs["in"], Iterable):
            raise InvalidType(f"{what}: 'in' needs a list of values, not {pairs['in']!r}")
        pairs["in"] = list(pairs["in"])
    wanted = {op: values.plain(want, what=what) for op, want in pairs.items()}

    def test(version: Version) -> bool:
        have = lookup(version.metadata, name)
        return all(_meets(have, op, want) for op, want in wanted.items())

    return test


def _meets(have: Any, op: str, want: Any) -> bool:
    if op == "exists":
        return (have is not _MISSING) == bool(want)
    if have is _MISSING:
        return False
    if op in _COMPARE:
        return _comparable(have, want) and bool(_COMPARE[op](have, want))
    if op == "in":
        return any(_equal(have, item) for item in want)
    if op == "contains":
        if isinstance(have, str):
            return isinstance(want, str) and want in have
        return isinstance(have, (list, dict)) and any(_equal(item, want) for item in have)
    return _equal(have, want) == (op == "==")


def _comparable(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return (
        isinstance(a, str) == isinstance(b, str)
        and isinstance(a, (int, float, str))
        and isinstance(b, (int, float, str))
    )


def _equal(a: Any, b: Any) -> bool:
    """As JSON values: ``True`` is not 1, at any depth."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def path_test(pattern: str) -> Callable[[str], bool]:
    """Does a full logical path match this shell pattern? Without a slash it is matched against the file name.

    ``*`` and ``?`` stay inside one folder, ``**`` crosses folders. Raises ``InvalidInput`` for a malformed pattern.
    """
    if not isinstance(pattern, str):
        raise InvalidType(f"a glob is text, not {type(pattern).__name__}")
    if "/" not in pattern:
        return lambda key: fnmatch.fnmatchcase(key.rpartition("/")[2], pattern)
    full = pattern if pattern.startswith("/") else "/" + pattern
    out, i = [], 0
    while i < len(full):
        if full.startswith("**/", i):
            out.append("(?:.*/)?")
            while full.startswith("**/", i):  # several in a row say no more, and would take for ever to try
                i += 3
        elif full.startswith("**", i):
            out.append(".*")
            i += 2
        elif full[i] == "*":
            out.append("[^/]*")
            i += 1
        elif full[i] == "?":
            out.append("[^/]")
            i += 1
        elif full[i] == "[" and (end := full.find("]", i + 3 if full[i + 1 : i + 2] == "!" else i + 2)) > 0:
            one = fnmatch.translate(full[i : end + 1])  # "(?s:" and one character class and ")" and an anchor
            out.append("(?!/)" + one[len("(?s:") : one.rindex(")")])
            i = end + 1
        else:
            out.append(re.escape(full[i]))
            i += 1
    try:
        compiled = re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise InvalidInput(f"pattern {pattern!r} is not a glob: {error}") from None
    return lambda key: compiled.fullmatch(key) is not None


def moment(value: str | date) -> datetime:
    """A point in time from ISO-8601 text, a datetime or a date.

    Text without a zone is UTC, like all times that we print; a datetime without one is local time, as everywhere in
    Python. Raises ``InvalidInput`` or ``InvalidType``.
    """
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise InvalidInput(f"time {value!r} is not ISO-8601, e.g. 2026-01-31T12:00:00Z") from None
        return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    if not isinstance(value, date):
        raise InvalidType(f"a time is ISO-8601 text or a datetime, not {type(value).__name__}")
    when = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    try:
        return when if when.tzinfo else when.astimezone()
    except (ValueError, OverflowError):
        raise InvalidInput(f"time {when!r} does not exist in UTC") from None
