"""The entry ``merge``: what synchronising two lakes writes. It sets whole files, and the session, to a joined state.

    {"op": "merge", "after": token, "stamps": [[at, step, token], ...], "files": [...], "info": {...}, "gone": {...}}

``after`` is the token of the record that the joined state was computed from ("": none): the entry is refused behind
any other, so that no change that came in between is ever overwritten. Stamps say when each value was set, for the
next join (``operations.sync_registers``); the fold only keeps them in the log. Layout: SPEC "Sync".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dreamlake.errors import Conflict, LakeError
from dreamlake.model import SessionInfo, Version, ancestors, is_digest

if TYPE_CHECKING:
    from dreamlake.catalog.fold import FileState, Fold

Entry = dict[str, Any]

INFO_FIELDS = tuple(field for field in SessionInfo._fields if field != "key")
_TEXT = (str, type(None))
_VERSION: dict[str, Any] = {
    "id": str, "seq": int, "number": int, "digest": str, "size": int, "type": str, "description": _TEXT, "tags": list,
    "metadata": dict, "uploaded_at": str, "updated_at": str, "deleted_at": _TEXT, "extra": (dict, type(None)),
    "born": int, "marks": dict,
}  # fmt: skip
_FILE: dict[str, Any] = {
    "id": str, "path": str, "primary": bool, "versions": list, "aliases": dict, "marks": dict,
}  # fmt: skip
_INFO: dict[str, Any] = {
    "description": _TEXT, "tags": (list, tuple), "folder": _TEXT, "metadata": (dict, type(None)),
    "write_protected": bool, "created_at": _TEXT, "updated_at": _TEXT, "dropped_at": _TEXT,
    "extra": (dict, type(None)), "marks": dict,
}  # fmt: skip


# ---- shape -------------------------------------------------------------------------------------------------------


def check_shape(entry: Entry, is_path: Callable[[str], object]) -> None:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what the fold, or a later join, could not take."""
    stamps = entry["stamps"]
    for stamp in stamps:
        if list(map(type, stamp)) != [str, int, str]:
            raise TypeError(f"merge: stamp {stamp!r}")
    count = len(stamps)
    if not isinstance(entry["after"], str):
        raise TypeError(f"merge: after is {entry['after']!r}")
    for version_id, mark in entry["gone"].items():
        _check_mark(version_id, mark, count)
    if entry.get("info") is not None:
        _check_fields(entry["info"], _INFO, "info")
        _check_marks(entry["info"], count)
    for file in entry["files"]:
        _check_fields(file, _FILE, "file")
        _check_marks(file, count)
        if not file["id"] or not is_path(file["path"]):
            raise ValueError(f"merge: file {file['id']!r} at {file['path']!r}")
        for name, (target, mark) in file["aliases"].items():
            _check_mark(name, mark, count)
            if not isinstance(target, _TEXT):
                raise TypeError(f"merge: alias {name!r} is {target!r}")
        for version in file["versions"]:
            _check_version(version, count)
        _check_rising(file)


def _check_version(version: Entry, count: int) -> None:
    _check_fields(version, _VERSION, "version")
    _check_marks(version, count)
    _check_mark("born", version["born"], count)
    if not (version["id"] and is_digest(version["digest"]) and version["size"] >= 0 and version["seq"] > 0):
        raise ValueError(f"merge: version {version['id']!r}, digest {version['digest']!r}, size {version['size']!r}")


def _check_rising(file: Entry) -> None:
    for what in ("number", "seq"):
        found = [version[what] for version in file["versions"]]
        if any(b <= a for a, b in zip([0, *found], found, strict=False)):
            raise ValueError(f"merge: {what} of the versions of {file['id']!r} do not rise")
    ids = {version["id"] for version in file["versions"]}
    if len(ids) != len(file["versions"]) or any(t is not None and t not in ids for t, _ in file["aliases"].values()):
        raise ValueError(f"merge: ids or aliases of {file['id']!r}")


def _check_fields(found: Entry, kinds: dict[str, Any], what: str) -> None:
    for name, kind in kinds.items():
        value = found[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"merge: {what} {name} is {value!r}")


def _check_marks(found: Entry, count: int) -> None:
    for name, mark in found["marks"].items():
        _check_mark(name, mark, count)


def _check_mark(name: str, mark: object, count: int) -> None:
    if type(name) is not str or type(mark) is not int or not 0 <= mark < count:
        raise ValueError(f"merge: {name!r} has no stamp ({mark!r})")


# ---- state -------------------------------------------------------------------------------------------------------


def refusal(fold: Fold, entry: Entry) -> LakeError | None:
    """Why the entry does not fit the state, or None."""
    if entry["after"] != fold.token:
        return Conflict(f"session {fold.session} changed while it was compared with another lake; compare again")
    files = {file["id"]: file for file in entry["files"]}
    if len(files) != len(entry["files"]):
        return Conflict("one merge can set a file only once")
    versions = [version for file in entry["files"] for version in file["versions"]]
    ids = {version["id"] for version in versions}
    seqs = {version["seq"] for version in versions}
    if len(ids) != len(versions) or len(seqs) != len(versions):
        return Conflict("two versions of one merge have the same id or the same place in the order")
    return _lost(fold, entry, files, ids) or _misplaced(fold, files, seqs)


def _lost(fold: Fold, entry: Entry, files: dict[str, Entry], ids: set[str]) -> LakeError | None:
    """A version that would be taken from a file that is not named, or vanish without being named."""
    for version_id in ids:
        holder = fold.file_with(version_id)
        if holder is not None and holder.file_id not in files:
            return Conflict(f"version {version_id} belongs to another file, {holder.key}", path=holder.key)
    for file_id in files:
        old = fold.file(file_id)
        lost = [v.id for v in old.versions if v.id not in ids and v.id not in entry["gone"]] if old else []
        if old is not None and lost:
            return Conflict(f"version {lost[0]} of {old.key} would be lost", path=old.key)
    return None


def _misplaced(fold: Fold, files: dict[str, Entry], seqs: set[int]) -> LakeError | None:
    """Two files at one place, a file where a folder is (I8), or two versions at one place in the order."""
    if any(state.file_id not in files for state in fold.files_ordered_at(seqs)):
        return Conflict("two versions at the same place in the order")
    owners = [file["path"] for file in files.values() if file["versions"] and file["primary"]]
    if len(set(owners)) != len(owners):
        return Conflict("two files of one merge own the same path")
    live = {file["path"]: file for file in files.values() if _is_live(file)}
    if any(not file["primary"] for file in live.values()):
        return Conflict("a live file owns its path")
    folders = {folder for path in live for folder in ancestors(path)}
    for path in owners:
        owner = fold.file_at(path)
        if owner is not None and owner.file_id not in files:
            return Conflict(f"{path} belongs to another file", path=path)
    for path in live:
        if path in folders or fold.live_inside(path, without=files):
            return Conflict(f"{path} is a folder in session {fold.session}", path=path)
    for folder in folders:
        holder = fold.file_at(folder)
        if holder is not None and holder.current is not None and holder.file_id not in files:
            return Conflict(f"{folder} is a file in session {fold.session}", path=folder)
    return None


def _is_live(file: Entry) -> bool:
    return bool(file["versions"]) and file["versions"][-1]["deleted_at"] is None


def versions_of(file: Entry) -> list[Version]:
    """The versions of a file of the entry, as the fold holds them."""
    return [
        Version(
            v["seq"], file["id"], file["path"], v["id"], v["number"], v["digest"], v["size"], v["type"],
            v["description"], v["tags"], v["metadata"], v["uploaded_at"], v["updated_at"], v["deleted_at"], v["extra"],
        )
        for v in file["versions"]
    ]  # fmt: skip


def aliases_of(file: Entry) -> dict[str, str]:
    """The aliases of a file of the entry that lead to a version."""
    return {name: target for name, (target, _) in file["aliases"].items() if target is not None}


def info_of(fold: Fold, entry: Entry) -> SessionInfo:
    """What is known of the session afterwards."""
    info = entry.get("info")
    return fold.info if info is None else SessionInfo(fold.session, *(info[name] for name in INFO_FIELDS))


def live_among(states: Iterable[FileState | None], path: str) -> int:
    """How many of these files are live and lie inside ``path``."""
    return sum(1 for s in states if s is not None and s.current is not None and s.key.startswith(path + "/"))
