"""The fold: what a session's records add up to. Pure state, no I/O; the one home of what every entry means.

A record is applied whole or refused whole: all its entries are checked against the state first. Entries of one
record must not depend on each other. Both rules are deterministic, so every reader of the same log sees the same
tree, and a writer learns after its commit whether a concurrent change got in first.

A fold may start from a checkpoint (``Base``): then it holds only what changed since, and asks the base for the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from dreamlake.catalog import merging
from dreamlake.catalog.entries import check_independent
from dreamlake.catalog.record import Record
from dreamlake.errors import Conflict, LakeError, NotFound, StateError
from dreamlake.model import SessionInfo, SessionKey, Version, VersionRow, ancestors, below

Entry = dict[str, Any]

_FILE_ID = Version._fields.index("file_id")
_PUT_FIELDS = frozenset({"op", "id", "path", "digest", "size", "type", "description", "tags", "metadata", "at"})
_SESSION_FIELDS = frozenset({"op", "at", "description", "tags", "folder", "metadata", "write_protected"})


_PAGE = 500  # ids in one question to a base


class FileState:
    """One file: its versions in ascending number, the newest last; ``primary`` while it owns its path."""

    __slots__ = ("aliases", "file_id", "key", "primary", "versions")

    def __init__(self, file_id: str, key: str, versions: list[Version], aliases: dict[str, str], primary: bool = True):
        self.file_id, self.key, self.versions, self.aliases, self.primary = file_id, key, versions, aliases, primary

    @property
    def current(self) -> Version | None:
        """The newest version, or None while the file is deleted."""
        versions = self.versions  # once: another thread may be trimming
        return versions[-1] if versions and versions[-1].deleted_at is None else None


class Kept(NamedTuple):
    """What collection asks of a version that is kept; ``current`` while it is the live one of its file."""

    id: str
    key: str
    number: int
    digest: str
    size_bytes: int
    current: bool
    deleted_at: str | None


class Base(Protocol):
    """A checkpoint that a fold starts from."""

    n: int
    seq: int
    token: str
    info: SessionInfo

    def file_at(self, key: str) -> FileState | None: ...
    def file(self, file_id: str) -> FileState | None: ...
    def file_with(self, version_id: str) -> FileState | None: ...
    def files_ordered_at(self, seqs: Sequence[int]) -> Iterator[FileState]: ...
    def files_with(self, version_ids: Sequence[str]) -> Iterator[FileState]: ...
    def live_below(self, prefix: str) -> Iterator[str]: ...
    def live_rows(self) -> list[VersionRow]:
        """Fresh rows in upload order, which the caller may keep and change."""
        ...

    def newest(self, min_bytes: int, suffix: str) -> list[Version]: ...
    def versions(self) -> Iterator[Version]: ...
    def files(self) -> Iterator[FileState]: ...
    def kept(self) -> Iterator[tuple[str, Kept]]: ...  # with the file id of each


class Fold:
    """State of one session after ``n`` records. Any thread may read while another applies (one lock a fold)."""

    def __init__(self, session: SessionKey, base: Base | None = None) -> None:
        self._lock = threading.RLock()
        self.session = session
        self.base = base
        self.n = base.n if base else 0
        self.seq = base.seq if base else 0
        self.token = base.token if base else ""  # of record n: tells whether a checkpoint belongs to this log
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

    def file(self, file_id: str) -> FileState | None:
        """The file of this id, unless nothing is left of it."""
        with self._lock:
            state = self._files.get(file_id)
            if state is not None:
                return state if state.versions else None
            return self.base.file(file_id) if self.base else None

    def files_ordered_at(self, seqs: Iterable[int]) -> list[FileState]:
        """The files that have a version with one of these ``seq``."""
        with self._lock:
            asked = {seq for seq in seqs if seq <= self.seq}
            if not asked:
                return []
            found = [f for f in self._files.values() if any(v.seq in asked for v in f.versions)]
            if self.base:
                kept = self.base.files_ordered_at(sorted(asked))
                found += [state for state in kept if state.file_id not in self._files]
            return found

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

    def live_inside(self, path: str, *, without: Iterable[str]) -> bool:
        """True while a live file lies below ``path``, these files not counted."""
        with self._lock:
            states = {file_id: self._files.get(file_id) for file_id in without}
            if self._below.get(path, 0) > merging.live_among(states.values(), path):
                return True
            kept = self.base.live_below(below(path)) if self.base else iter(())
            return any(file_id not in self._files and file_id not in states for file_id in kept)

    def live(self) -> list[Version]:
        """The newest version of every live file, in upload order."""
        return [row if isinstance(row, Version) else Version._make(row) for row in self.live_rows()]

    def live_rows(self) -> list[VersionRow]:
        """``live`` for long listings: rows of a checkpoint stay plain tuples, made anew by every call.

        A row that is a ``Version`` belongs to the fold: copy its tags and metadata before handing them out.
        """
        with self._lock:
            fresh: list[VersionRow] = [v for f in self._files.values() if (v := f.current) is not None]
            kept = self.base.live_rows() if self.base else []
            if self._files:
                changed = self._files
                kept = [row for row in kept if row[_FILE_ID] not in changed]
            return sorted(kept + fresh) if fresh else kept

    def newest(self, min_bytes: int, suffix: str) -> list[Version]:
        """The last 64 live versions of at least this size whose path ends in ``suffix``, newest first."""
        with self._lock:
            current = (f.current for f in self._files.values())
            fresh = [v for v in current if v is not None and v.size_bytes >= min_bytes and v.key.endswith(suffix)]
            kept = self.base.newest(min_bytes, suffix) if self.base else []
            return sorted([v for v in kept if v.file_id not in self._files] + fresh, reverse=True)[:64]

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

    def kept(self) -> Iterator[Kept]:
        """Every version that is kept, like ``versions``, but only what collection asks; much cheaper."""
        with self._lock:
            fresh = [
                Kept(v.id, v.key, v.number, v.digest, v.size_bytes, v is f.current, v.deleted_at)
                for f in self._files.values()
                for v in f.versions
            ]
            changed = frozenset(self._files)
        yield from fresh
        if self.base:
            yield from (kept for file_id, kept in self.base.kept() if file_id not in changed)

    @property
    def held(self) -> int:
        """Files whose state is in memory, not in the checkpoint."""
        return len(self._files)

    # ---- applying ------------------------------------------------------------------------------------------------

    def apply(self, n: int, record: Record) -> list[Any]:
        """Take record ``n``; returns per entry the version it made, None, or the error that refused the record."""
        with self._lock:
            error = self.refusal(record.entries)
            self.n, self.token = n, record.token
            if error is not None:
                return [error] * len(record.entries)
            return [_APPLY[entry["op"]](self, entry, record) for entry in record.entries]

    def refusal(self, entries: Iterable[Entry]) -> LakeError | None:
        """Why a record of these entries would be refused now, or None."""
        found = list(entries)
        free: set[str] = set()  # the state stays as it is meanwhile: a folder that many puts share is asked once
        try:
            for entry in found:
                self._check_session(entry["op"])
                check = _CHECK.get(entry["op"])
                if check is Fold._check_put:
                    self._check_place(entry["path"], free)
                elif check is not None:
                    check(self, entry)
            if len(found) > 1:
                check_independent(self, found)
        except LakeError as error:
            return error
        return None

    def _check_session(self, op: str) -> None:
        if op in ("session", "noop", "read", "merge"):
            return
        if self.info.write_protected and op != "drop":
            raise StateError(f"session {self.session} is write-protected")
        if self.info.dropped_at is not None and op not in ("drop", "trim"):
            raise StateError(f"session {self.session} was dropped; open it anew to write to it")

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

    def _check_place(self, key: str, free: set[str] | None = None) -> None:
        """``free``: folders above which, and at which, no file was found; found ones are added."""
        if self.is_folder(key):
            raise Conflict(f"{key} is a folder in session {self.session}; a file cannot take its place", path=key)
        parent = key.rpartition("/")[0]
        if free is not None and parent in free:
            return
        for folder in ancestors(key):
            if self.current_at(folder) is not None:
                raise Conflict(f"{folder} is a file in session {self.session}; {key} cannot lie inside it", path=key)
        if free is not None:
            free.add(parent)

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
        extra = None if entry.keys() <= _PUT_FIELDS else {k: v for k, v in entry.items() if k not in _PUT_FIELDS}
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
        newest = state.versions[-1]
        kind = entry.get("type", newest.content_type)
        state.versions[-1] = newest._replace(updated_at=entry.get("at", record.at), content_type=kind)
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
        state, back, at = self._own(found), {entry["id"], *(entry.get("ids") or ())}, entry.get("at", record.at)
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
        """Forget versions for good: what retention lets go, or what was deleted long ago (never a current one).

        ``deleted_before`` guards against a restore that came in between: only what was deleted before goes.
        """
        before = entry.get("deleted_before")
        for version_id, found in self._files_with(entry["ids"]):
            version = next((v for v in found.versions if v.id == version_id), None) if found else None
            if found is None or version is None:
                continue
            if before is not None and (version.deleted_at is None or version.deleted_at >= before):
                continue
            aliased = version.deleted_at is None and version_id in found.aliases.values()
            if found.current is not None and (found.current.id == version_id or aliased):
                continue
            state = self._own(found)
            state.versions = [v for v in state.versions if v.id != version_id]
            state.aliases = {name: target for name, target in state.aliases.items() if target != version_id}
            self._of.pop(version_id, None)
            if not state.versions and self._at.get(state.key) == state.file_id:
                self._at[state.key] = None

    def _files_with(self, ids: Sequence[str]) -> Iterator[tuple[str, FileState | None]]:
        """``file_with`` for many ids, asking the base for a page of them at a time. Files may change in between."""
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            ahead: dict[str, FileState] = {}
            if self.base:
                for state in self.base.files_with([i for i in page if i not in self._of]):
                    if state.file_id not in self._files:
                        ahead.update((version.id, state) for version in state.versions)
            for version_id in page:
                file_id = self._of.get(version_id)
                yield version_id, self._files[file_id] if file_id is not None else ahead.get(version_id)

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

    # merge --------------------------------------------------------------------------------------------------------

    def _check_merge(self, entry: Entry) -> None:
        error = merging.refusal(self, entry)
        if error is not None:
            raise error

    def _merge(self, entry: Entry, record: Record) -> None:
        for file in entry["files"]:
            state = self.file(file["id"])
            if state is None:
                continue
            state = self._own(state)
            if state.current is not None:
                self._count(state.key, -1)
            if self._at.get(state.key) == state.file_id:
                self._at[state.key] = None
            for version in state.versions:
                self._of.pop(version.id, None)
        for file in entry["files"]:
            versions, file_id = merging.versions_of(file), file["id"]
            made = FileState(file_id, file["path"], versions, merging.aliases_of(file), file["primary"])
            self._files[file_id] = made
            self._of.update((version.id, file_id) for version in versions)
            if versions and made.primary:
                self._at[made.key] = file_id
            if made.current is not None:
                self._count(made.key, 1)
            self.seq = max([self.seq, *(version.seq for version in versions)])
        self.info = merging.info_of(self, entry)

    def _nothing(self, entry: Entry, record: Record) -> None:
        return None


_CHECK: dict[str, Any] = {
    "put": Fold._check_put,
    "set": Fold._live_with,
    "move": Fold._check_move,
    "del": Fold._live_with,
    "undel": Fold._check_undel,
    "alias": Fold._check_alias,
    "merge": Fold._check_merge,
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
    "merge": Fold._merge,
    "read": Fold._nothing,
    "noop": Fold._nothing,
}
