"""Parameters, logs and tracks of a session on their way from one lake into another.

Rows that the target lacks are appended behind those it has. As long as only one of the two writes, they therefore get
the same numbers in both; where both wrote, each has its own first, and time stamps tell the order. A row is told from
another by what it says, so that nothing is carried twice, whenever a run was cut off.

Parameters are joined name by name: a value that only one of the two has changed since they last met stays; of two that
both have changed, the one of the document that was written last.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dreamlake import values
from dreamlake.journal import PARAMETERS, TRACKS, Document, Journal, Row, number_key
from dreamlake.operations.sync_join import Clash
from dreamlake.operations.sync_registers import same

PAGE_ROWS = 1000
PAGE_BYTES = 8 << 20

_ABSENT = object()
_TOTALS = ("totalDataPoints", "bufferedDataPoints", "chunkedDataPoints", "version")


@dataclass
class Met:
    """What two lakes had of a session's side data when they last met; losing it costs time, see ``carry``.

    Attributes:
        rows: stream -> rows that were compared: of the first lake, of the second. Each has all that the other had.
        documents: document -> what it said then.
    """

    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)

    def turned(self) -> Met:
        """The same with first and second lake exchanged."""
        return Met({name: (b, a) for name, (a, b) in self.rows.items()}, self.documents)


@dataclass
class Carried:
    """What one call of ``carry`` brought over (in a dry run: would). ``seen`` marks what the source had."""

    rows: int = 0
    documents: int = 0
    clashes: list[Clash] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)


def seen_in(journal: Journal) -> dict[str, Any]:
    """What ``carry`` would leave in ``seen``."""
    seen: dict[str, Any] = {"": _updated(journal.read_document(PARAMETERS))}
    for stream in journal.streams():
        about = _updated(journal.read_document(stream)) if stream.startswith(TRACKS) else None
        seen[stream] = [journal.extent(stream).total, about]
    return seen


def _updated(document: Document | None) -> Any:
    return None if document is None else document.get("updatedAt")


def carry(
    source: Journal,
    target: Journal,
    met: Met,
    *,
    dry_run: bool = False,
    told: Callable[[int], None] = lambda rows: None,
) -> Carried:
    """Bring into the target what only the source has; ``met`` is brought up to date.

    Without ``met``, streams are compared from the start, and of two different values of a parameter the one stays
    whose document was written last.
    """
    done = Carried()
    done.seen[""] = _carry_document(source, target, PARAMETERS, met, dry_run, done)
    for stream in source.streams():
        about = None
        if stream.startswith(TRACKS):
            about = _carry_document(source, target, stream, met, dry_run, done)
        rows, total = _carry_rows(source, target, stream, met, dry_run, told)
        done.rows += rows
        done.seen[stream] = [total, about]
    if not dry_run and (done.rows or done.documents):
        target.sync()
    return done


# ---- streams -----------------------------------------------------------------------------------------------------


def _carry_rows(
    source: Journal, target: Journal, stream: str, met: Met, dry_run: bool, told: Callable[[int], None]
) -> tuple[int, int]:
    """How many rows were brought, and how many the source has."""
    totals = (source.extent(stream).total, target.extent(stream).total)
    begun = met.rows.get(stream, (0, 0))
    if any(total < compared for total, compared in zip(totals, begun, strict=True)):
        begun = (0, 0)  # not what was compared then
    if totals == begun:
        return 0, totals[0]
    count = sent = 0
    page: list[Row] = []
    extra: list[int] = []
    for row in _missing(source, target, stream, begun, totals, extra):
        page.append(row)
        count += 1
        if len(page) == PAGE_ROWS:
            sent += _append(target, stream, page, dry_run, told)
            page = []
    sent += _append(target, stream, page, dry_run, told)
    if not dry_run and not sum(extra):
        met.rows[stream] = (totals[0], totals[1] + sent)
    return count, totals[0]


def _append(target: Journal, stream: str, rows: list[Row], dry_run: bool, told: Callable[[int], None]) -> int:
    if dry_run or not rows:
        return 0
    target.append(stream, rows)
    told(len(rows))
    return len(rows)


def _missing(
    source: Journal,
    target: Journal,
    stream: str,
    begun: tuple[int, int],
    totals: tuple[int, int],
    extra: list[int],
) -> Iterator[Row]:
    """Rows of the source that the target lacks, without their numbers, in order.

    ``extra`` gets the number of rows that only the target has, if there are any.
    """
    mine = _rows(source, stream, begun[0], totals[0])
    theirs = _rows(target, stream, begun[1], totals[1])
    for row in mine:
        other = next(theirs, None)
        if other is None:
            yield row
            yield from mine  # the target has the beginning of the source: the usual case
            return
        if same(row, other):
            continue
        had = Counter([_mark(other), *map(_mark, theirs)])
        for candidate in _chain(row, mine):
            mark = _mark(candidate)
            if had[mark]:
                had[mark] -= 1
            else:
                yield candidate
        extra.append(sum(had.values()))
        return
    if next(theirs, None) is not None:
        extra.append(1)


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _rows(journal: Journal, stream: str, start: int, stop: int) -> Iterator[Row]:
    """Rows without their numbers, read in pages of bounded size."""
    extent = journal.extent(stream)
    each = max(1, extent.size_bytes // max(extent.total, 1))
    limit = max(1, min(PAGE_ROWS, PAGE_BYTES // each))
    number = number_key(stream)
    while start < stop:
        page = journal.read(stream, start, min(limit, stop - start))
        if not page:
            return
        for row in page:
            row.pop(number, None)
            yield row
        start += len(page)


def _mark(row: Row) -> bytes:
    return hashlib.blake2b(values.encode(dict(sorted(row.items()))), digest_size=16).digest()


# ---- documents ---------------------------------------------------------------------------------------------------


def _carry_document(source: Journal, target: Journal, name: str, met: Met, dry_run: bool, done: Carried) -> Any:
    """When the source's document was updated."""
    mine = source.read_document(name)
    if mine is None:
        return None
    base, theirs = met.documents.get(name), target.read_document(name)
    if theirs is not None and name == PARAMETERS and not same(mine, theirs):
        done.clashes += _clashes(base, mine, theirs)
    if theirs is None or not same(joined(base, mine, theirs), theirs):
        done.documents += 1
        if not dry_run:
            target.update_document(name, lambda current: mine if current is None else joined(base, mine, current))
    if not dry_run:
        met.documents[name] = mine
    return _updated(mine)


def joined(base: Document | None, a: Document, b: Document) -> Document:
    """Two documents as one: the same whichever comes first."""
    if same(a, b):
        return b
    late, early = sorted((a, b), key=lambda d: (str(d.get("updatedAt") or ""), values.encode(d)), reverse=True)
    made = {k: v for k, v in _fields(base or {}, late, early, base is not None).items() if k not in ("data", *_TOTALS)}
    for name in _TOTALS:
        found = [d[name] for d in (a, b) if isinstance(d.get(name), int)]
        if found:
            made[name] = max(found)
    if isinstance(a.get("data"), dict) and isinstance(b.get("data"), dict):
        base_data = base.get("data") if base is not None else None
        known = isinstance(base_data, dict)
        data = _fields(base_data if isinstance(base_data, dict) else {}, late["data"], early["data"], known)
        made["data"] = _tame(data, late["data"])
    elif "data" in late:
        made["data"] = late["data"]
    created = [str(d["createdAt"]) for d in (a, b) if d.get("createdAt")]
    if created:
        made["createdAt"] = min(created)
    if "trackId" in made:  # that of the track which was there first
        made["trackId"] = min((str(d.get("createdAt")), str(d["trackId"])) for d in (a, b) if d.get("trackId"))[1]
    joint = {name: made[name] for name in dict.fromkeys([*late, *early]) if name in made}
    return next((whole for whole in (late, early) if same(whole, joint)), joint)  # in the order that it has there


def _fields(base: Document, late: Document, early: Document, known: bool) -> Document:
    """Field by field. ``known`` False: there is no base, so that a field that one lacks is not one it removed."""
    made = {}
    for name in dict.fromkeys([*early, *late]):
        a, b, old = late.get(name, _ABSENT), early.get(name, _ABSENT), base.get(name, _ABSENT)
        chosen = a
        if (known and _is(a, old)) or (a is _ABSENT and not (known and _is(b, old))):
            chosen = b
        if chosen is not _ABSENT:
            made[name] = chosen
    return made


def _is(a: Any, b: Any) -> bool:
    return (a is _ABSENT) == (b is _ABSENT) and (a is _ABSENT or same(a, b))


def _tame(data: Document, late: Document) -> Document:
    """A name is a value or a group, never both: then what the later document has of it stays."""
    made = dict(data)
    for name in sorted(data):
        at = name.find(".")
        while at >= 0:
            group = name[:at]
            if group in made and name in made:
                if group in late:
                    del made[name]
                else:
                    del made[group]
            at = name.find(".", at + 1)
    return made


def _clashes(base: Document | None, a: Document, b: Document) -> list[Clash]:
    mine, theirs = a.get("data"), b.get("data")
    old = (base or {}).get("data") or {}
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return []
    made = joined(base, a, b).get("data", {})
    found = []
    for name in sorted({*mine, *theirs}):
        x, y, z = mine.get(name, _ABSENT), theirs.get(name, _ABSENT), old.get(name, _ABSENT)
        both_changed = x is not _ABSENT and y is not _ABSENT and not _is(x, y) and not _is(x, z) and not _is(y, z)
        if both_changed or name not in made:
            stays = made.get(name, "nothing")
            found.append(Clash(None, f"parameter {name!r} was set differently in both; {stays!r} stays"))
    return found
