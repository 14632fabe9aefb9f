"""Entries: what each operation of a record must carry, and which entries may stand in one record.

Shape is checked when a record is read, whoever wrote it (I11): the fold then meets no field of a wrong type, and no
path or name that could leave its folder. Dependence is checked against the state, when a record is applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dreamlake.catalog.merging import check_shape as check_merge
from dreamlake.errors import Conflict, InvalidInput
from dreamlake.model import ancestors, is_digest

if TYPE_CHECKING:
    from dreamlake.catalog.fold import FileState, Fold

Entry = dict[str, Any]

OPS = frozenset({"session", "put", "set", "move", "del", "undel", "alias", "trim", "drop", "merge", "read", "noop"})
_TEXT_OR_NONE = (str, type(None))
_NEEDED: dict[str, dict[str, Any]] = {
    "put": {"id": str, "path": str, "digest": str, "size": int, "type": str},
    "set": {"id": str},
    "move": {"id": str, "to": str},
    "del": {"id": str},
    "undel": {"id": str},
    "alias": {"path": str, "name": str},
    "trim": {"ids": list},
    "merge": {"after": str, "stamps": list, "files": list, "gone": dict},
}
_OPTIONAL: dict[str, Any] = {
    "at": str,
    "type": str,
    "description": _TEXT_OR_NONE,
    "tags": (list, type(None)),
    "metadata": (dict, type(None)),
    "folder": _TEXT_OR_NONE,
    "write_protected": bool,
    "ids": (list, type(None)),
    "deleted_before": (str, type(None)),
}
_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[^/\\\x00-\x1f\x7f]+)+")  # the safety that I8 asks for, at one glance
_SHARED = frozenset({"alias", "trim"})  # several of these may touch one file
_APART = frozenset({"session", "read", "noop"})  # these touch no file


def check_shape(entry: Entry) -> None:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for an entry that the fold could not take."""
    op = entry["op"]
    for name, kind in _NEEDED.get(op, {}).items():
        if not isinstance(entry[name], kind):
            raise TypeError(f"{op}: {name} is {entry[name]!r}")
    for name in _OPTIONAL.keys() & entry.keys():
        if not isinstance(entry[name], _OPTIONAL[name]):
            raise TypeError(f"{op}: {name} is {entry[name]!r}")
    if op == "merge":
        check_merge(entry, _PATH.fullmatch)
    if op == "put" and not (entry["id"] and is_digest(entry["digest"]) and 0 <= entry["size"] is not True):
        raise ValueError(f"put: id {entry['id']!r}, digest {entry['digest']!r}, size {entry['size']!r}")
    path = entry.get("to") if op == "move" else entry.get("path") if op in ("put", "alias") else None
    if path is not None and not _PATH.fullmatch(path):
        raise ValueError(f"{op}: path {path!r}")
    if op in ("undel", "trim") and not all(isinstance(version_id, str) for version_id in entry.get("ids") or ()):
        raise TypeError(f"{op}: ids are {entry['ids']!r}")
    if op == "alias" and not isinstance(entry.get("id"), _TEXT_OR_NONE):
        raise TypeError(f"alias: id is {entry['id']!r}")


def check_entries(entries: Sequence[Entry], limit: int) -> None:
    """Refuse a record that is empty, too large, malformed, or whose puts depend on each other."""
    if not entries:
        raise InvalidInput("a record needs at least one entry")
    if len(entries) > limit:
        raise InvalidInput(
            f"{len(entries):,} files in one commit; the limit is {limit:,}. Upload sub-folders one by one."
        )
    for entry in entries:
        try:
            if entry["op"] not in OPS:
                raise ValueError(f"unknown operation {entry['op']!r}")
            check_shape(entry)
        except (KeyError, TypeError, ValueError) as error:  # committed, it would make the session unreadable
            raise InvalidInput(f"this entry cannot be stored: {error}") from error
    _check_places(entry["path"] for entry in entries if entry["op"] == "put")


def check_independent(fold: Fold, entries: Sequence[Entry]) -> None:
    """Refuse entries of one record of which one would meet what another has changed.

    Each entry is checked against the state before the record. That is the state it is applied to only if no other
    entry touches its file or its place; several aliases of one file, or several trims, do no harm.

    Raises:
        Conflict: two entries touch one file, or lead to one path, or to a file and something inside it.
    """
    changes = [entry for entry in entries if entry["op"] not in _APART]
    if len(entries) > 1 and any(entry["op"] == "merge" for entry in entries):
        raise Conflict("a record that merges can do nothing else")
    if len(changes) > 1 and any(entry["op"] == "drop" for entry in changes):
        raise Conflict("a record that drops the session can do nothing else")
    if any(entry["op"] != "put" for entry in changes):  # puts alone meet each other only in their places
        _check_files(fold, changes)
    places = []
    for entry in changes:
        place = entry.get("path") if entry["op"] == "put" else entry.get("to") if entry["op"] == "move" else None
        if entry["op"] == "undel":
            found = fold.file_with(entry["id"])
            place = found.key if found else None
        if place is not None:
            places.append(place)
    _check_places(places)
    made = [entry["id"] for entry in changes if entry["op"] == "put" and "id" in entry]
    if len(set(made)) != len(made):
        raise Conflict("two files of one record have the same id")


def _check_files(fold: Fold, changes: Iterable[Entry]) -> None:
    touched: dict[str, str] = {}
    for entry in changes:
        op = entry["op"]
        states = {state.file_id: state for state in _touched(fold, entry)}
        for file_id, state in states.items():
            if touched.get(file_id, op) != op or (file_id in touched and op not in _SHARED):
                raise Conflict(f"one record can change {state.key} only once", path=state.key)
        touched.update((file_id, op) for file_id in states)


def _touched(fold: Fold, entry: Entry) -> list[FileState]:
    """The files that an entry reads or changes."""
    if entry["op"] in ("put", "alias"):
        found = [fold.file_at(entry["path"])]
    elif entry["op"] == "trim":
        found = [fold.file_with(version_id) for version_id in entry["ids"]]
    else:
        found = [fold.file_with(entry["id"])] if "id" in entry else []
    return [state for state in found if state is not None]


def _check_places(places: Iterable[str]) -> None:
    found = list(places)
    if len(found) < 2:
        return
    taken = set(found)
    if len(taken) != len(found):
        twice = next(key for key in taken if found.count(key) > 1)
        raise Conflict(f"two files of one upload have the path {twice}", path=twice)
    parents = {key.rpartition("/")[0] for key in found} - {""}
    folders = parents.union(*map(ancestors, parents))
    if not folders.isdisjoint(taken):
        folder = min(folders & taken)
        raise Conflict(f"{folder} is a file and a folder in one upload", path=folder)
