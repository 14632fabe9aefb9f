"""The fold: what a session's records add up to. Pure state, no I/O; the one home of what every entry means.

A record is applied whole or refused whole: all its entries are checked against the state first. Entries of one
record must not depend on each other. Both rules are deterministic, so every reader of the same log sees the same
tree, and a writer learns after its commit whether a concurrent change got in first.

A fold may start from a checkpoint (``Base``): then it holds only what changed since, and asks the base for the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from dreamlake.catalog.record import Record
from dreamlake.errors import Conflict, InvalidInput, LakeError, NotFound, StateError
from dreamlake.model import SessionInfo, SessionKey, Version, ancestors, below

Entry = dict[str, Any]

_PUT_FIELDS = frozenset({"op", "id", "path", "digest", "size", "type", "description", "tags", "metadata", "at"})
_SESSION_FIELDS = frozenset({"op", "at", "description", "tags", "folder", "metadata", "write_protected"})


class FileState:
    """One file: its versions in ascending number, the newest last; ``primary`` while it owns its path."""

    __slots__ = ("aliases", "file_id", "key", "primary", "versions")

    def __init__(self, file_id: str, key: str, versions: list[Version], aliases: dict[str, str], primary: bool = True):
        self.file_id, self.key, self.versions, self.aliases, self.primary = file_id, key, versions, aliases, primary

    @property
    def current(self) -> Version | None:
        """The newest version, or None while the file is deleted."""
        newest = self.versions[-1] if self.versions else None
        return newest if newest is not None and newest.deleted_at is None else None


class Base(Protocol):
    """A checkpoint that a fold starts from."""

    n: int
    seq: int
    info: SessionInfo

    def file_at(self, key: str) -> FileState | None: ...
    def file_with(self, version_id: str) -> FileState | None: ...
    def live_below(self, prefix: str) -> Iterator[str]: ...
    def live(self) -> Iterator[Version]: ...
    def versions(self) -> Iterator[Version]: ...
    def files(self) -> Iterator[FileState]: ...


class Fold:
    """State of one session after ``n`` records. Any thread may read while another applies (one lock a fold)."""

    def __init__(self, session: SessionKey, base: Base | None = None) -> None:
        self._lock = threading.RLock()
        self.session = session
        self.base = base
        self.n = base.n if base else 0
        self.seq = base.seq if base else 0
        self.info = base.info if base else SessionInfo(session)
        self._files: dict[str, FileState] = {}  # file_id -> state, for everything new or changed since the base
        self._at: dict[str, str | None] = {}  # key -> primary file_id (None: nobody, though the base has one)
        self._of: dict[str, str] = {}  # version id -> file_id
        self._below: dict[str, int] = {}  # folder -> live files of _files inside it

    # ---- reading -------------------------------------------------------------------------------------------------

    def file_at(self, key: str) -> FileState | None:
        """The file that owns a path, deleted or not."""
        with self._lock:
            if key in self._at:
                file_id = self._at[key]
                return self._files[file_id] if file_id is not None else None
            state = self.base.file_at(key) if self.base else None
            return None if state is None or state.file_id in self._files else state

    def file_with(self, version_id: str) -> FileState | None:
        """The file that has a version of this id."""
        with self._lock:
            file_id = self._of.get(version_id)
            if file_id is not None:
                return self._files[file_id]
            state = self.base.file_with(version_id) if self.base else None
            return None if state is None or state.file_id in self._files else state

    def current_at(self, key: str) -> Version | None:
        """The live version at a path."""
        state = self.file_at(key)
        return state.current if state else None

    def is_folder(self, path: str) -> bool:
        """True while a live file lies below ``path``."""
        with self._lock:
            if path == "/" or self._below.get(path, 0) > 0:
                return True
            return self.base is not None and any(f not in self._files for f in self.base.live_below(below(path)))

    def live(self) -> list[Version]:
        """The newest version of every live file, in upload order."""
        with self._lock:
            fresh = [v for f in self._files.values() if (v := f.current) is not None]
            if self.base is None:
                return sorted(fresh)
            changed = self._files
            kept = [v for v in self.base.live() if v.file_id not in changed] if changed else list(self.base.live())
            return sorted(kept + fresh) if fresh else kept

    def live_at(self, folder: str) -> list[Version]:
        """Live versions inside a folder and everything below it, in upload order."""
        prefix = below(folder)
        return [v for v in self.live() if v.key.startswith(prefix)]

    def versions(self) -> Iterator[Version]:
        """Every version that is kept, deleted ones and history included, in no order."""
        with self._lock:
            fresh = [v for f in self._files.values() for v in f.versions]
            changed = frozenset(self._files)
        yield from fresh
        if self.base:
            for version in self.base.versions():
                if version.file_id not in changed:
                    yield version

    def files(self) -> Iterator[FileState]:
        """Every file, deleted and displaced ones included, in no order."""
        with self._lock:
            fresh = dict(self._files)
        yield from fresh.values()
        if self.base:
            for state in self.base.files():
                if state.file_id not in fresh:
                    yield state

    # ---- applying ------------------------------------------------------------------------------------------------

    def apply(self, n: int, record: Record) -> list[Any]:
        """Take record ``n``; returns per entry the version it made, None, or the error that refused the record."""
        with self._lock:
            self.n = n
            error = self.refusal(record.entries)
            if error is not None:
                return [error] * len(record.entries)
            return [_APPLY[entry["op"]](self, entry, record) for entry in record.entries]

    def refusal(self, entries: Iterable[Entry]) -> LakeError | None:
        """Why a record of these entries would be refused now, or None."""
        for entry in entries:
            check = _CHECK.get(entry["op"])
            try:
                if self.info.write_protected and entry["op"] not in ("session", "drop", "noop", "read"):
                    raise StateError(f"session {self.session} is write-protected")
                if check is not None:
                    check(self, entry)
            except LakeError as error:
                return error
        return None

    def _own(self, state: FileState) -> FileState:
        """The state as part of the overlay, copied out of the base if need be."""
        if state.file_id in self._files:
            return self._files[state.file_id]
        self._files[state.file_id] = state
        for version in state.versions:
            self._of[version.id] = state.file_id
        if state.primary:
            self._at[state.key] = state.file_id
        if state.current is not None:
            self._count(state.key, 1)
        return state

    def _count(self, key: str, step: int) -> None:
        for folder in ancestors(key):
            self._below[folder] = self._below.get(folder, 0) + step

    # put ----------------------------------------------------------------------------------------------------------

    def _check_place(self, key: str) -> None:
        if self.is_folder(key):
            raise Conflict(f"{key} is a folder in session {self.session}; a file cannot take its place", path=key)
        for folder in ancestors(key):
            if self.current_at(folder) is not None:
                raise Conflict(f"{folder} is a file in session {self.session}; {key} cannot lie inside it", path=key)

    def _check_put(self, entry: Entry) -> None:
        self._check_place(entry["path"])

    def _put(self, entry: Entry, record: Record) -> Version:
        key, at = entry["path"], entry.get("at", record.at)
        state = self.file_at(key)
        if state is None:
            state = FileState(entry["id"], key, [], {})
            self._files[state.file_id], self._at[key] = state, state.file_id
        else:
            state = self._own(state)
        if state.current is None:
            self._count(key, 1)
        self.seq += 1
        number = state.versions[-1].number + 1 if state.versions else 1
        extra = {k: v for k, v in entry.items() if k not in _PUT_FIELDS} if len(entry) > len(_PUT_FIELDS) else None
        version = Version(
            self.seq, state.file_id, key, entry["id"], number, entry["digest"], entry["size"], entry["type"],
            entry.get("description"), entry.get("tags") or [], entry.get("metadata") or {}, at, at, None, extra,
        )  # fmt: skip
        state.versions.append(version)
        self._of[version.id] = state.file_id
        return version

    # set, move, del, undel ----------------------------------------------------------------------------------------

    def _live_with(self, entry: Entry) -> FileState:
        state = self.file_with(entry["id"])
        if state is None or state.current is None or state.current.id != entry["id"]:
            raise NotFound(
                f"no current file with id {entry['id']} in session {self.session}: it was deleted or replaced"
            )
        return state

    def _set(self, entry: Entry, record: Record) -> Version:
        state = self._own(self._live_with(entry))
        old = state.versions[-1]
        given = {k: entry[k] for k in ("description", "tags", "metadata") if k in entry}
        state.versions[-1] = old._replace(**given, updated_at=entry.get("at", record.at))
        return state.versions[-1]

    def _check_move(self, entry: Entry) -> None:
        state, target = self._live_with(entry), entry["to"]
        if target == state.key:
            return
        if self.current_at(target) is not None:
            raise Conflict(
                f"{target} exists in session {self.session}; delete it first or choose another name", path=target
            )
        if target.startswith(state.key + "/"):
            raise Conflict(f"{state.key} cannot move inside itself ({target})", path=target)
        self._check_place(target)

    def _move(self, entry: Entry, record: Record) -> Version:
        state, target = self._own(self._live_with(entry)), entry["to"]
        displaced = self.file_at(target)
        if displaced is not None and displaced.file_id != state.file_id:
            self._own(displaced).primary = False
        self._count(state.key, -1)
        if self._at.get(state.key) == state.file_id:
            self._at[state.key] = None
        state.key = target
        state.versions = [v._replace(key=target) for v in state.versions]
        state.versions[-1] = state.versions[-1]._replace(updated_at=entry.get("at", record.at))
        self._at[target] = state.file_id
        self._count(target, 1)
        return state.versions[-1]

    def _del(self, entry: Entry, record: Record) -> Version:
        state, at = self._own(self._live_with(entry)), entry.get("at", record.at)
        state.versions = [v if v.deleted_at else v._replace(deleted_at=at) for v in state.versions]
        self._count(state.key, -1)
        return state.versions[-1]

    def _check_undel(self, entry: Entry) -> None:
        state = self.file_with(entry["id"])
        if state is None or state.versions[-1].id != entry["id"]:
            raise NotFound(f"no deleted file with id {entry['id']} in session {self.session}")
        if state.current is not None:
            raise Conflict(f"{state.key} in session {self.session} is not deleted", path=state.key)
        other = self.current_at(state.key)
        if other is not None:
            raise Conflict(f"{state.key} exists again in session {self.session}; move it away first", path=state.key)
        self._check_place(state.key)

    def _undel(self, entry: Entry, record: Record) -> Version:
        found = self.file_with(entry["id"])
        assert found is not None  # _check_undel
        state, back, at = self._own(found), set(entry.get("ids") or [entry["id"]]), entry.get("at", record.at)
        owner = self.file_at(state.key)
        if owner is not None and owner.file_id != state.file_id:
            self._own(owner).primary = False
        state.primary = True
        self._at[state.key] = state.file_id
        state.versions = [v._replace(deleted_at=None) if v.id in back else v for v in state.versions]
        state.versions[-1] = state.versions[-1]._replace(updated_at=at)
        self._count(state.key, 1)
        return state.versions[-1]

    # alias, trim --------------------------------------------------------------------------------------------------

    def _check_alias(self, entry: Entry) -> None:
        state = self.file_at(entry["path"])
        if state is None:
            raise NotFound(f"no file {entry['path']} in session {self.session}", path=entry["path"])
        target = entry.get("id")
        if target is not None and all(v.id != target or v.deleted_at for v in state.versions):
            raise NotFound(f"{entry['path']} has no version with id {target} (any more)", path=entry["path"])
        if target is None and entry["name"] not in state.aliases:
            raise NotFound(f"{entry['path']} has no alias {entry['name']!r}", path=entry["path"])

    def _alias(self, entry: Entry, record: Record) -> Version | None:
        found = self.file_at(entry["path"])
        assert found is not None  # _check_alias
        state = self._own(found)
        if entry.get("id") is None:
            state.aliases.pop(entry["name"], None)
            return None
        state.aliases[entry["name"]] = entry["id"]
        return next(v for v in state.versions if v.id == entry["id"])

    def _trim(self, entry: Entry, record: Record) -> None:
        """Forget versions for good: retention and collection of what was deleted long ago (never a current one)."""
        for version_id in entry["ids"]:
            found = self.file_with(version_id)
            if found is None:
                continue
            state = self._own(found)
            aliased = set(state.aliases.values())
            if state.current is not None and (state.current.id == version_id or version_id in aliased):
                continue
            state.versions = [v for v in state.versions if v.id != version_id]
            self._of.pop(version_id, None)
            if not state.versions and self._at.get(state.key) == state.file_id:
                self._at[state.key] = None

    # session, drop ------------------------------------------------------------------------------------------------

    def _session(self, entry: Entry, record: Record) -> None:
        at = entry.get("at", record.at)
        old = self.info if self.info.exists else SessionInfo(self.session, created_at=at)
        given = {k: entry[k] for k in _SESSION_FIELDS - {"op", "at"} if k in entry}
        extra = {**(old.extra or {}), **{k: v for k, v in entry.items() if k not in _SESSION_FIELDS}} or None
        self.info = old._replace(**given, updated_at=at, extra=extra)

    def _drop(self, entry: Entry, record: Record) -> None:
        at = entry.get("at", record.at)
        for state in list(self.files()):
            if state.current is not None:
                owned = self._own(state)
                owned.versions = [v if v.deleted_at else v._replace(deleted_at=at) for v in owned.versions]
                self._count(owned.key, -1)
        self.info = self.info._replace(dropped_at=at, write_protected=False)

    def _nothing(self, entry: Entry, record: Record) -> None:
        return None


_CHECK: dict[str, Any] = {
    "put": Fold._check_put,
    "set": Fold._live_with,
    "move": Fold._check_move,
    "del": Fold._live_with,
    "undel": Fold._check_undel,
    "alias": Fold._check_alias,
}
_APPLY: dict[str, Any] = {
    "put": Fold._put,
    "set": Fold._set,
    "move": Fold._move,
    "del": Fold._del,
    "undel": Fold._undel,
    "alias": Fold._alias,
    "trim": Fold._trim,
    "session": Fold._session,
    "drop": Fold._drop,
    "read": Fold._nothing,
    "noop": Fold._nothing,
}


def check_entries(entries: Sequence[Entry], limit: int) -> None:
    """Refuse a record that is empty, too large, or whose puts depend on each other."""
    if not entries:
        raise InvalidInput("a record needs at least one entry")
    if len(entries) > limit:
        raise InvalidInput(
            f"{len(entries):,} files in one commit; the limit is {limit:,}. Upload sub-folders one by one."
        )
    keys = [e["path"] for e in entries if e["op"] == "put"]
    if len(keys) > 1:
        taken = set(keys)
        if len(taken) != len(keys):
            raise Conflict(f"two files of one upload have the path {next(k for k in keys if keys.count(k) > 1)}")
        for key in keys:
            for folder in ancestors(key):
                if folder in taken:
                    raise Conflict(f"{folder} is a file and a folder in one upload", path=folder)
