"""Find: which versions match? One pure predicate, so that every catalog gives the same answers."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from dreamlake.errors import InvalidInput
from dreamlake.model import Version, below, folder_path

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda have, want: have in want,
    "contains": lambda have, want: want in have,
}
_ORDERS: dict[str, Callable[[Version], Any]] = {
    "uploaded": lambda v: v.seq,
    "updated": lambda v: v.updated_at,
    "path": lambda v: v.key,
    "size": lambda v: v.size_bytes,
}
_MISSING = object()

Predicate = Callable[[Version], bool]


def predicate(
    *,
    glob: str | None = None,
    path: str | None = None,
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
        tags: at least one of these.  all_tags: every one of these.
        metadata: field (dotted for nested ones) -> value, or -> ``{operator: value}`` with <, <=, >, >=, ==, !=, in,
            contains, exists. A missing field or an incomparable type matches nothing (except ``exists: False``).
        min_size, max_size: bytes, inclusive.
        after, before: upload time, ISO-8601 text or datetime; after is inclusive, before is not.
        checksum: SHA-256 or a prefix of at least 6 hexadecimal digits.

    Raises:
        InvalidInput: an unknown operator, a malformed time or checksum.
    """
    tests: list[Predicate] = []
    if glob is not None:
        matches = path_test(glob)
        tests.append(lambda v: matches(v.key))
    if path is not None:
        prefix = below(folder_path(path))
        tests.append(lambda v: v.key.startswith(prefix))
    if tags is not None:
        some = frozenset([tags] if isinstance(tags, str) else tags)
        tests.append(lambda v: not some.isdisjoint(v.tags))
    if all_tags is not None:
        every = frozenset([all_tags] if isinstance(all_tags, str) else all_tags)
        tests.append(lambda v: every.issubset(v.tags))
    for name, condition in (metadata or {}).items():
        tests.append(_field(name, condition))
    if min_size is not None:
        tests.append(lambda v: v.size_bytes >= min_size)
    if max_size is not None:
        tests.append(lambda v: v.size_bytes <= max_size)
    if after is not None:
        start = moment(after)
        tests.append(lambda v: moment(v.uploaded_at) >= start)
    if before is not None:
        end = moment(before)
        tests.append(lambda v: moment(v.uploaded_at) < end)
    if checksum is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{6,64}", checksum):
            raise InvalidInput(f"checksum {checksum!r} must be 6 to 64 hexadecimal digits")
        start_of = checksum.lower()
        tests.append(lambda v: v.digest.startswith(start_of))
    return lambda version: all(test(version) for test in tests)


def ordered(
    versions: Iterable[Version], order_by: str = "uploaded", *, descending: bool = False, limit: int | None = None
) -> list[Version]:
    """Sorted by ``uploaded``, ``updated``, ``path``, ``size`` or ``metadata.<field>`` (missing ones last)."""
    if limit is not None and limit < 0:
        raise InvalidInput(f"limit {limit} is negative")
    if order_by.startswith("metadata."):
        name = order_by[len("metadata.") :]
        have = [(value, v) for v in versions if _number(value := lookup(v.metadata, name))]
        have.sort(key=lambda pair: pair[0], reverse=descending)
        found = {v.id for _, v in have}
        result = [v for _, v in have] + [v for v in versions if v.id not in found]
    elif order_by in _ORDERS:
        result = sorted(versions, key=_ORDERS[order_by], reverse=descending)
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


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value


def _field(name: str, condition: Any) -> Predicate:
    pairs: Sequence[tuple[str, Any]] = [("==", condition)]
    if isinstance(condition, Mapping) and condition and set(condition) <= {*_COMPARE, "exists"}:
        pairs = list(condition.items())
    elif isinstance(condition, Mapping) and any(k in _COMPARE for k in condition):
        raise InvalidInput(f"metadata condition on {name!r}: use only {', '.join(_COMPARE)} and exists")

    def test(version: Version) -> bool:
        have = lookup(version.metadata, name)
        for op, want in pairs:
            if op == "exists":
                if (have is not _MISSING) != bool(want):
                    return False
                continue
            try:
                if have is _MISSING or not _COMPARE[op](have, want):
                    return False
            except TypeError:
                return False
        return True

    return test


def path_test(pattern: str) -> Callable[[str], bool]:
    """Does a full logical path match this shell pattern? Without a slash it is matched against the file name.

    ``*`` and ``?`` stay inside one folder, ``**`` crosses folders. Raises ``InvalidInput`` for a malformed pattern.
    """
    if "/" not in pattern:
        return lambda key: fnmatch.fnmatchcase(key.rpartition("/")[2], pattern)
    full = pattern if pattern.startswith("/") else "/" + pattern
    out, i = [], 0
    while i < len(full):
        if full.startswith("**/", i):
            out.append("(?:.*/)?")
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
        elif full[i] == "[" and (end := full.find("]", i + 2)) > 0:
            body = full[i + 1 : end]
            out.append("[" + ("^" + re.escape(body[1:]) if body[0] in "!^" else body.replace("\\", r"\\")) + "]")
            i = end + 1
        else:
            out.append(re.escape(full[i]))
            i += 1
    try:
        compiled = re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise InvalidInput(f"pattern {pattern!r} is not a glob: {error}") from None
    return lambda key: compiled.fullmatch(key) is not None


def moment(value: str | datetime) -> datetime:
    """A point in time from ISO-8601 text or a datetime; without a zone it means UTC. Raises ``InvalidInput``."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise InvalidInput(f"time {value!r} is not ISO-8601, e.g. 2026-01-31T12:00:00Z") from None
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
