"""Checkpoints of the fold: a cache of one session's state after n records, in one immutable SQLite file.

A checkpoint may be deleted at any time and is ignored when it does not read: the log is the truth. It exists so that
a session of 100,000 files is listed or searched without parsing its log. Opened read-only and immutable, so no
SQLite lock is ever taken (network file systems). Layout: SPEC "Checkpoints".
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dreamlake import values
from dreamlake.bulk import paused_gc
from dreamlake.catalog.fold import FileState, Fold, Kept
from dreamlake.errors import Corrupt
from dreamlake.model import SessionInfo, SessionKey, Version, VersionRow
from dreamlake.ports import NO_FORK

FORMAT = 1
_PAGE = 10_000  # files a page of the listing
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~/")  # as they are in a URI
_BATCH = 2_000  # rows handed to SQLite at once
_SHARABLE = frozenset(range(len(Version._fields))) - {Version._fields.index("tags"), Version._fields.index("metadata")}
_FILE_ID = Version._fields.index("file_id")
_TAGS, _METADATA, _EXTRA = (Version._fields.index(name) for name in ("tags", "metadata", "extra"))
_COLUMNS = (
    "seq, file_id, key, id, number, digest, size_bytes, content_type, description, tags, metadata,"
    " uploaded_at, updated_at, deleted_at, extra"
)
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE versions ({_COLUMNS.replace("seq,", "seq INTEGER PRIMARY KEY,")}, owns INTEGER, live INTEGER);
CREATE TABLE aliases (file_id TEXT, name TEXT, id TEXT);
CREATE TABLE listing (page INTEGER PRIMARY KEY, columns TEXT);
"""
_INDEXES = """
CREATE INDEX by_key ON versions (key);
CREATE INDEX by_id ON versions (id);
CREATE INDEX by_file ON versions (file_id);
CREATE INDEX alias_by_file ON aliases (file_id);
"""


def numbers(names: Iterable[str]) -> list[int]:
    """The numbers of the checkpoints among the names in a folder, ascending."""
    stems = (name[: -len(".sqlite")] for name in names if name.endswith(".sqlite"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def dump(fold: Fold) -> bytes:
    """The checkpoint of a fold as the bytes of a database."""
    with NO_FORK:
        import sqlite3

    if hasattr(sqlite3.Connection, "serialize"):  # Python 3.11
        with _Writer(":memory:") as db:
            _build(db, fold)
            return db.serialized()
    import tempfile

    handle, path = tempfile.mkstemp(suffix=".sqlite")
    os.close(handle)
    try:
        with _Writer(path) as db:
            _build(db, fold)
        with open(path, "rb") as f:
            return f.read()
    finally:
        os.unlink(path)


class _Writer:
    """A database under construction; every call into SQLite is made under ``NO_FORK``.

    Rows are collected outside of it: what they come from has locks of its own, which must be taken first.
    """

    def __init__(self, path: str) -> None:
        import sqlite3

        with NO_FORK:
            self._db = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        with NO_FORK:
            self._db.close()

    def script(self, sql: str) -> None:
        with NO_FORK:
            self._db.executescript(sql)

    def run(self, sql: str) -> None:
        with NO_FORK:
            self._db.execute(sql)

    def insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        source = iter(rows)
        while batch := list(itertools.islice(source, _BATCH)):
            with NO_FORK:
                self._db.executemany(sql, batch)

    def serialized(self) -> bytes:
        with NO_FORK:
            return bytes(self._db.serialize())  # type: ignore[attr-defined,unused-ignore]


def _build(db: _Writer, fold: Fold) -> None:
    db.script("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=8192;" + _SCHEMA)
    db.run("BEGIN")
    _fill(db, fold)
    db.run("COMMIT")
    db.script(_INDEXES)


def _fill(db: _Writer, fold: Fold) -> None:
    info = fold.info._asdict()
    del info["key"]
    meta = {"format": FORMAT, "n": fold.n, "token": fold.token, "seq": fold.seq, "info": info}
    meta["session"] = list(fold.session.parts)
    db.insert("INSERT INTO meta VALUES (?, ?)", [(k, values.encode(v).decode()) for k, v in meta.items()])
    aliases: list[tuple[str, str, str]] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for state in fold.files():
            newest = len(state.versions) - 1
            aliases.extend((state.file_id, name, version_id) for name, version_id in state.aliases.items())
            for i, v in enumerate(state.versions):
                live = i == newest and v.deleted_at is None
                yield (*v[:9], _text(v.tags), _text(v.metadata), *v[11:14], _text(v.extra), state.primary, live)

    db.insert(f"INSERT INTO versions VALUES ({','.join('?' * 17)})", rows())
    db.insert("INSERT INTO aliases VALUES (?, ?, ?)", aliases)
    live = fold.live_rows()  # the same rows once more, as columns: a listing reads them several times faster
    for page in range(0, len(live), _PAGE):
        part = live[page : page + _PAGE]
        db.insert("INSERT INTO listing VALUES (?, ?)", [(page, values.encode(_columns(part)).decode())])


class Checkpoint:
    """A ``fold.Base`` over a checkpoint file (``path``) or its bytes. Raises ``ValueError`` when it does not read."""

    def __init__(self, session: SessionKey, path: str | None, data: bytes | None = None) -> None:
        with NO_FORK:
            import sqlite3

            self._open(sqlite3, session, path, data)

    def _open(self, sqlite3: Any, session: SessionKey, path: str | None, data: bytes | None) -> None:
        self._lock = threading.Lock()
        self._path = path or "a checkpoint"
        try:
            if path is not None:
                uri = f"file:{_escaped(os.fsencode(path))}?mode=ro&immutable=1"
                self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            else:
                self._db = sqlite3.connect(":memory:", check_same_thread=False)
                self._db.deserialize(data)  # Python 3.11
            self._db.execute("PRAGMA trusted_schema=OFF")
            meta = {name: values.decode(text) for name, text in self._db.execute("SELECT name, value FROM meta")}
            if meta["format"] != FORMAT or tuple(meta["session"]) != session.parts:
                raise ValueError("a checkpoint of another format or session")
            self.n = int(meta["n"])
            self.seq = int(meta["seq"])
            self.token = str(meta["token"])
            self.info = SessionInfo(session, **meta["info"])
        except (sqlite3.Error, KeyError, TypeError) as error:
            raise ValueError(f"unreadable checkpoint: {error}") from error

    def __del__(self) -> None:
        db = getattr(self, "_db", None)
        if db is not None:
            with NO_FORK:
                db.close()  # Python 3.13 warns of connections that are only dropped

    def _query(self, sql: str, args: tuple[Any, ...] = ()) -> list[Any]:
        import sqlite3

        try:
            with self._lock, NO_FORK:
                rows: list[Any] = self._db.execute(sql, args).fetchall()
                return rows
        except sqlite3.Error as error:  # read far enough to be opened, and damaged all the same
            raise Corrupt(
                f"{self._path} is damaged ({error}); delete its folder, the log has everything", path=self._path
            ) from error

    def _rows(self, where: str, args: tuple[Any, ...] = (), columns: str = _COLUMNS) -> list[Any]:
        return self._query(f"SELECT {columns} FROM versions {where}", args)

    def _state(self, rows: list[Any]) -> FileState | None:
        if not rows:
            return None
        versions = _versions(rows)
        file_id = versions[0].file_id
        aliases = dict(self._query("SELECT name, id FROM aliases WHERE file_id = ?", (file_id,)))
        return FileState(file_id, versions[0].key, versions, aliases, bool(rows[0][-1]))

    def file_at(self, key: str) -> FileState | None:
        return self._state(self._rows("WHERE key = ? AND owns = 1 ORDER BY number", (key,), _COLUMNS + ", owns"))

    def file_with(self, version_id: str) -> FileState | None:
        where = "WHERE file_id = (SELECT file_id FROM versions WHERE id = ?) ORDER BY number"
        return self._state(self._rows(where, (version_id,), _COLUMNS + ", owns"))

    def file(self, file_id: str) -> FileState | None:
        return self._state(self._rows("WHERE file_id = ? ORDER BY number", (file_id,), _COLUMNS + ", owns"))

    def files_ordered_at(self, seqs: Sequence[int]) -> Iterator[FileState]:
        found: set[str] = set()
        for start in range(0, len(seqs), 500):
            page = seqs[start : start + 500]
            where = f"WHERE seq IN ({','.join('?' * len(page))})"
            found.update(row[0] for row in self._rows(where, tuple(page), "file_id"))
        return (state for file_id in sorted(found) if (state := self.file(file_id)) is not None)

    def live_below(self, prefix: str) -> Iterator[str]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)  # prefix ends in "/"
        last = ""
        while True:  # in pages: callers usually stop at the first
            page = self._rows(
                "WHERE key >= ? AND key < ? AND key > ? AND live = 1 ORDER BY key LIMIT 256",
                (prefix, end, last),
                "key, file_id",
            )
            yield from (file_id for _, file_id in page)
            if len(page) < 256:
                return
            last = page[-1][0]

    def live_rows(self) -> list[VersionRow]:
        pages = self._query("SELECT columns FROM listing ORDER BY page")
        with paused_gc():
            return [row for (text,) in pages for row in _rows_of(values.decode(text))]

    def newest(self, min_bytes: int, suffix: str) -> list[Version]:
        ends = "substr(key, -length(?)) = ?" if suffix else "? = ?"  # substr(key, 0) would be all of it
        where = f"WHERE live = 1 AND size_bytes >= ? AND {ends} ORDER BY seq DESC LIMIT 64"
        return _versions(self._rows(where, (min_bytes, suffix, suffix)))

    def versions(self) -> Iterator[Version]:
        last = 0
        while page := self._rows("WHERE seq > ? ORDER BY seq LIMIT 1000", (last,)):
            yield from _versions(page)
            last = page[-1][0]

    def kept(self) -> Iterator[tuple[str, Kept]]:
        last = 0
        columns = "file_id, id, key, number, digest, size_bytes, live, deleted_at, seq"
        while page := self._rows("WHERE seq > ? ORDER BY seq LIMIT 5000", (last,), columns):
            for file_id, version_id, key, number, digest, size, live, deleted_at, _ in page:
                yield file_id, Kept(version_id, key, number, digest, size, bool(live), deleted_at)
            last = page[-1][-1]

    def files(self) -> Iterator[FileState]:
        last = ""
        while True:
            ids = self._rows("WHERE file_id > ? ORDER BY file_id LIMIT 1000", (last,), "DISTINCT file_id")
            if not ids:
                return
            first, last = ids[0][0], ids[-1][0]
            yield from self._states("WHERE file_id >= ? AND file_id <= ?", (first, last))

    def files_with(self, version_ids: Sequence[str]) -> Iterator[FileState]:
        marks = ",".join("?" * len(version_ids))
        where = f"WHERE file_id IN (SELECT file_id FROM versions WHERE id IN ({marks}))"
        return self._states(where, tuple(version_ids))

    def _states(self, where: str, args: tuple[Any, ...]) -> Iterator[FileState]:
        """All files that a condition on ``file_id`` selects, with few questions."""
        named = self._query(f"SELECT file_id, name, id FROM aliases {where}", args)
        rows = self._rows(f"{where} ORDER BY file_id, number", args, _COLUMNS + ", owns")
        aliases: dict[str, dict[str, str]] = {}
        for file_id, name, version_id in named:
            aliases.setdefault(file_id, {})[name] = version_id
        owns = {row[_FILE_ID]: bool(row[-1]) for row in rows}
        for file_id, group in itertools.groupby(_versions(rows), key=lambda v: v.file_id):
            versions = list(group)
            yield FileState(file_id, versions[0].key, versions, aliases.get(file_id, {}), owns[file_id])


def _escaped(path: bytes) -> str:
    """A path as part of a URI. (``urllib.parse`` takes longer to import than most checkpoints to open.)"""
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in path)


def _columns(rows: list[VersionRow]) -> list[Any]:
    """Rows as columns; one that repeats another, or one value, is named instead of written: half of it, usually."""
    columns = list(zip(*rows, strict=True))
    out: list[Any] = []
    for i, column in enumerate(columns):
        twin = next((k for k in range(i) if columns[k] == column), None)
        if twin is not None and i in _SHARABLE:
            out.append({"as": twin})
        elif i in _SHARABLE and all(value == column[0] for value in column):
            out.append({"all": column[0], "count": len(column)})
        else:
            out.append(column)
    return out


def _rows_of(stored: list[Any]) -> Iterator[VersionRow]:
    columns: list[Any] = []
    for column in stored:
        if isinstance(column, dict):
            column = columns[column["as"]] if "as" in column else [column["all"]] * column["count"]
        columns.append(column)
    return zip(*columns, strict=True)


def _text(value: Any) -> str | None:
    return values.encode(value).decode() if value else None


def _versions(rows: list[tuple[Any, ...]]) -> list[Version]:
    """Versions from rows; the JSON of all rows is decoded in one go, which is several times faster."""
    if not rows:
        return []
    with paused_gc():
        columns = list(zip(*rows, strict=True))[: len(Version._fields)]
        columns[_TAGS] = _decoded(columns[_TAGS], "[]")
        columns[_METADATA] = _decoded(columns[_METADATA], "{}")
        columns[_EXTRA] = _decoded(columns[_EXTRA], "null")
        return list(map(Version._make, zip(*columns, strict=True)))


def _decoded(column: tuple[Any, ...], empty: str) -> tuple[Any, ...]:
    return tuple(values.decode("[" + ",".join([text or empty for text in column]) + "]"))
