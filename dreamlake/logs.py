"""The log of a session: numbered entries with time, level, message and metadata.

Owns the levels and the filters. Stored as the stream ``LOGS`` of the session's journal, which numbers the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, overload

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.journal import LOGS, Journal, number_key
from dreamlake.ports import Ports, iso

LEVELS = ("debug", "info", "warn", "error", "fatal")
_SPELLINGS = {**{level: level for level in LEVELS}, "warning": "warn", "critical": "fatal"}
_NUMBER = number_key(LOGS)
_PAGE = 1000  # entries read at a time

Entry = dict[str, Any]


class Logs:
    """What ``session.log(...)`` writes to, and what ``session.logs()`` reads.

    An entry is a dict with ``sequenceNumber`` (int, from 0 without gaps), ``timestamp`` (ISO-8601 UTC ending in Z),
    ``level``, ``message`` and ``metadata`` (dict or None).

    Args:
        journal: the session's side data.
        guard: called with True before a write and False before a read; raises when that is not allowed now.
        ports: the clock.
    """

    def __init__(self, journal: Journal, guard: Callable[[bool], None], ports: Ports) -> None:
        self._journal, self._guard, self._ports = journal, guard, ports

    @overload
    def log(
        self, message: str, level: str = "info", metadata: Mapping[str, Any] | None = None, **extra: Any
    ) -> Entry: ...

    @overload
    def log(
        self, message: None = None, level: str = "info", metadata: Mapping[str, Any] | None = None, **extra: Any
    ) -> LogBuilder: ...

    def log(
        self,
        message: str | None = None,
        level: str = "info",
        metadata: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> Entry | LogBuilder:
        """Write an entry, or, without a message, prepare one: ``log(metadata={"epoch": 3}).error("diverged")``.

        Args:
            message: the text; may be empty and may have many lines.
            level: one of ``LEVELS``, in any case; "warning" means warn and "critical" means fatal.
            metadata: JSON values (see ``values.plain``).
            extra: more metadata; beats the same key in ``metadata``.

        Returns:
            The entry as stored; or a ``LogBuilder`` when there is no message.

        Raises:
            ValueError: an unknown level, or a message or metadata over the limit. Nothing was written.
            TypeError: a message that is not text, or metadata without JSON form. Nothing was written.
            RuntimeError: the session is not open, or is write-protected.
        """
        self._guard(True)
        level = _level(level)
        details = _details(metadata, extra)
        return LogBuilder(self, level, details) if message is None else self.write(level, message, details)

    def write(self, level: str, message: str, metadata: dict[str, Any] | None) -> Entry:
        """Write an entry whose level and metadata are already in their stored form (``log`` brings them there)."""
        self._guard(True)
        if not isinstance(message, str):
            raise InvalidType(f"a log message is text, not {type(message).__name__}; use str(...) or an f-string")
        entry = {
            "timestamp": iso(self._ports.now()),
            "level": level,
            "message": values.checked(message, what="message"),
            "metadata": metadata,
        }
        return {_NUMBER: self._journal.append(LOGS, [entry]), **entry}

    def read(
        self,
        *,
        level: str | Iterable[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        contains: str | None = None,
        start: int = 0,
        limit: int | None = None,
        last: int | None = None,
    ) -> list[Entry]:
        """Entries in the order they were written, all of them unless filtered.

        Args:
            level: keep this level, or these levels.
            since: keep entries of this time or later: a datetime, or ISO-8601 text. Without a zone: local time.
            until: keep entries before this time.
            contains: keep entries whose message contains this text, in any case.
            start: the first ``sequenceNumber`` to look at.
            limit: at most this many of the matching entries, the earliest.
            last: at most this many of the matching entries, the latest. Cheap at the end of a long log.

        Raises:
            ValueError: an unknown level, text that is no time, a negative number, both ``limit`` and ``last``;
                or a damaged entry in that range (``Corrupt``).
            TypeError: an argument of another type.
            RuntimeError: the session is not open.
        """
        self._guard(False)
        wanted = _filter(level, since, until, contains)
        start = values.whole_number(start, what="start")
        if limit is not None and last is not None:
            raise InvalidInput("limit takes the earliest entries and last the latest: give one of them")
        if last is not None:
            return self._latest(wanted, start, values.whole_number(last, what="last"))
        most = None if limit is None else values.whole_number(limit, what="limit")
        found: list[Entry] = []
        for entry in self._entries(start):
            if most is not None and len(found) >= most:
                break
            if wanted.matches(entry):
                found.append(entry)
        return found

    def __iter__(self) -> Iterator[Entry]:
        """All entries, read piece by piece: for logs that are too long for a list."""
        self._guard(False)
        return self._entries(0)

    def _entries(self, start: int) -> Iterator[Entry]:
        while page := self._journal.read(LOGS, start, _PAGE):
            yield from map(_complete, page)
            start = page[-1][_NUMBER] + 1

    def _latest(self, wanted: _Filter, start: int, most: int) -> list[Entry]:
        found: list[Entry] = []
        high = self._journal.extent(LOGS).total
        size = most  # no more than is asked for, as long as everything matches
        while high > start and len(found) < most:
            low = max(start, high - min(size, _PAGE))
            size *= 2
            page = self._journal.read(LOGS, low, high - low)
            found.extend(entry for entry in map(_complete, reversed(page)) if wanted.matches(entry))
            high = low
        return found[:most][::-1]


class LogBuilder:
    """An entry that lacks its message: what ``session.log(metadata=...)`` returns. May be used many times.

    Every method writes one entry. It takes further metadata, which beats what the builder has, and returns and raises
    what ``Logs.log`` does.
    """

    def __init__(self, logs: Logs, level: str, metadata: dict[str, Any] | None) -> None:
        self._logs, self._level, self._metadata = logs, level, metadata

    def log(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at the level that ``session.log(level=...)`` was given."""
        return self._write(self._level, message, metadata, extra)

    def debug(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at level debug."""
        return self._write("debug", message, metadata, extra)

    def info(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at level info."""
        return self._write("info", message, metadata, extra)

    def warn(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at level warn."""
        return self._write("warn", message, metadata, extra)

    def error(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at level error."""
        return self._write("error", message, metadata, extra)

    def fatal(self, message: str, metadata: Mapping[str, Any] | None = None, **extra: Any) -> Entry:
        """Write at level fatal."""
        return self._write("fatal", message, metadata, extra)

    warning = warn
    critical = fatal

    def _write(self, level: str, message: str, metadata: Mapping[str, Any] | None, extra: dict[str, Any]) -> Entry:
        details = self._metadata
        if metadata is not None or extra:
            details = _details(metadata, extra, base=details)
        return self._logs.write(level, message, details)


class _Filter(NamedTuple):
    levels: frozenset[str] | None
    since: str | None
    until: str | None
    contains: str | None

    def matches(self, entry: Entry) -> bool:
        time = str(entry.get("timestamp"))
        return (
            (self.levels is None or entry.get("level") in self.levels)
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
            and (self.contains is None or self.contains in str(entry.get("message")).casefold())
        )


def _filter(
    level: str | Iterable[str] | None, since: datetime | str | None, until: datetime | str | None, contains: str | None
) -> _Filter:
    levels = None
    if level is not None:
        levels = frozenset(map(_level, [level] if isinstance(level, str) else level))
    if contains is not None and not isinstance(contains, str):
        raise InvalidType(f"contains is text, not {type(contains).__name__}")
    return _Filter(levels, _time(since, "since"), _time(until, "until"), contains.casefold() if contains else None)


def _level(level: str) -> str:
    known = _SPELLINGS.get(level.lower()) if isinstance(level, str) else None
    if known is None:
        raise InvalidInput(f"unknown log level {level!r}; use one of {', '.join(LEVELS)}")
    return known


def _details(
    metadata: Mapping[str, Any] | None, extra: dict[str, Any], *, base: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    if metadata is None and not extra:
        return base
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidType(f"metadata is a mapping, not {type(metadata).__name__}")
    details: dict[str, Any] = values.checked({**(base or {}), **(metadata or {}), **extra}, what="metadata")
    return details


def _time(moment: datetime | str | None, what: str) -> str | None:
    """In the form of the stored times, which sort as text."""
    if moment is None:
        return None
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment[:-1] + "+00:00" if moment[-1:] in ("Z", "z") else moment)
        except ValueError as error:
            raise InvalidInput(f"{what} {moment!r} is no time; write it like 2025-01-31T12:00:00Z") from error
    if not isinstance(moment, datetime):
        raise InvalidType(f"{what} is a datetime or ISO-8601 text, not {type(moment).__name__}")
    return iso(moment)


def _complete(entry: Entry) -> Entry:
    """Entries written by other programs may lack the metadata."""
    entry.setdefault("metadata", None)
    return entry
