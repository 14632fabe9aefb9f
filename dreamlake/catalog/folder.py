"""The catalog in a folder: claims are files, commit is a hard link to the next free number (SPEC "Protocol", A).

    pending/<token>.json              claims; visible at once and whole (rename)
    sessions/<sid>/log/<n//1000>/<n>.json   records 1, 2, 3, ...; immutable, gapless, never removed
    sessions/<sid>/ckpt/<n>.sqlite    cache of the fold after n records

Upholds I4 (nothing acknowledged is lost or overtaken) and I5 (a revoked claim never commits).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dreamlake import values
from dreamlake.bulk import paused_gc
from dreamlake.catalog import Claim, Committed, Pending
from dreamlake.catalog import record as records
from dreamlake.catalog.checkpoint import Checkpoint, dump, numbers
from dreamlake.catalog.entries import check_entries
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.mending import first_session, put_back
from dreamlake.catalog.record import Record
from dreamlake.errors import ClaimRevoked, Corrupt, LakeError, UnsupportedFormat
from dreamlake.inside import check_inside, check_names
from dreamlake.model import SessionKey
from dreamlake.ports import NO_FORK, Ports, iso

FANOUT = 1000  # records a directory
CHECKPOINT_EVERY = 512  # cost folded since the last checkpoint before a new one is written; one entry costs 1
RECORD_COST = 4  # opening and reading one more record costs about as much as folding this many entries

_HEAD_BYTES = 512  # of a record: holds its token
_CHECKPOINTS_KEPT = 2  # a reader that has just listed them may still want the one before


class _Tail:
    """A session's fold in this process, and what is needed to refresh it."""

    def __init__(self, fold: Fold) -> None:
        self.lock = threading.RLock()
        self.fold = fold
        self.cost = 0  # of the records folded since the newest checkpoint
        self.undurable = fold.n + 1  # lowest record that this process has not made durable itself
        self.listed = False  # the log was once searched for records behind a gap


class FolderCatalog:
    """``Catalog`` below ``root`` (the store directory), which ``create`` has laid out."""

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    FSYNC_CLAIM = True
    FSYNC_LOG = True
    CHECKPOINT_BARRIER = True
    FENCED_COMMIT = True

    def __init__(
        self, ports: Ports, root: str, *, fanout: int = FANOUT, checkpoint_every: int = CHECKPOINT_EVERY
    ) -> None:
        self._ports, self._fs, self._root = ports, ports.fs, root
        self._fanout, self._checkpoint_every = fanout, checkpoint_every
        self._begin()

    def _begin(self) -> None:
        """Empty memory. A forked child begins anew: another thread may have held a lock while it was born."""
        self._pid = os.getpid()
        self._tails: dict[SessionKey, _Tail] = {}
        self._outcomes: dict[str, Sequence[Any]] = {}  # of this process's own commits, by token
        self._awaited: set[str] = set()
        self._owed: dict[SessionKey, tuple[int, int]] = {}  # records read but not synced of released sessions
        self._lock = threading.Lock()

    # ---- claims --------------------------------------------------------------------------------------------------

    def claim(self, session: SessionKey, needs: Iterable[str], entries: Sequence[dict[str, Any]]) -> Claim:
        check_entries(entries, records.MAX_ENTRIES)
        token = self._ports.new_id()
        record = Record(token, self._ports.owner(), session, iso(self._ports.now()), tuple(needs), tuple(entries))
        scratch = f"{self._root}/tmp/{self._ports.scratch_name('claim')}"
        self._fs.write(scratch, records.encode(record))
        try:
            self._fs.rename(scratch, self._pending(token))
        except BaseException as error:
            with contextlib.suppress(OSError):
                self._fs.unlink(scratch)
            if isinstance(error, FileNotFoundError):
                raise ClaimRevoked(f"scratch file {scratch} was taken by a collector") from error
            raise
        return Claim(session, token, record)

    def revoke(self, token: str) -> bool:
        try:
            self._fs.unlink(self._pending(token))
        except FileNotFoundError:
            return False
        return True

    def touch(self, claim: Claim) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.touch(self._pending(claim.token))

    def pending(self) -> Iterator[Pending]:
        now = self._ports.now().timestamp()
        for name in sorted(self._fs.list(f"{self._root}/pending")):
            if not name.endswith(".json"):
                continue
            path = f"{self._root}/pending/{name}"
            try:
                age = now - self._fs.stat(path).mtime_ns / 1e9
                record = records.decode(self._fs.read(path), path)
            except FileNotFoundError:
                continue  # committed (a later look at the log sees it) or revoked
            yield Pending(name[: -len(".json")], record, age)

    def unreadable(self) -> Iterator[tuple[str, float]]:
        now = self._ports.now().timestamp()
        for name in sorted(self._fs.list(f"{self._root}/pending")):
            path = f"{self._root}/pending/{name}"
            if name.endswith(".json"):
                try:
                    age = now - self._fs.stat(path).mtime_ns / 1e9
                    records.decode(self._fs.read(path), path)
                except Corrupt:
                    yield name[: -len(".json")], age
                except (FileNotFoundError, UnsupportedFormat):
                    continue

    # ---- commit --------------------------------------------------------------------------------------------------

    def commit(self, claim: Claim) -> Committed:
        tail = self._tail(claim.session)
        source = self._pending(claim.token)
        if not tail.listed:  # else a gap in the log would be the next free number
            with tail.lock:
                self._refresh(claim.session, tail)
        if self.FSYNC_CLAIM:
            try:
                self._fs.fsync(source)
            except FileNotFoundError:
                raise ClaimRevoked(f"claim {claim.token} was revoked") from None
        self._awaited.add(claim.token)
        try:
            number = self._link(claim, source, tail)
            if self.FSYNC_LOG:
                self._fs.fsync_dir(self._directory(claim.session, number))
            with tail.lock:
                self._refresh(claim.session, tail)
            outcomes = self._outcomes.pop(claim.token)
        finally:
            self._awaited.discard(claim.token)
        with contextlib.suppress(OSError):  # committed and durable: a left-over claim is a collector's business
            self._fs.unlink(source)
        return Committed(number, outcomes)

    def _link(self, claim: Claim, source: str, tail: _Tail) -> int:
        """Give the claim the next free number. The link is the commit: it needs the claim and a free name at once."""
        number = tail.fold.n + 1
        while True:
            directory = self._directory(claim.session, number)
            target = f"{directory}/{number}.json"
            if number == 1 or number % self._fanout == 0:
                self._open_directory(claim.session, number)
            try:
                if self.FENCED_COMMIT:
                    self._fs.link(source, target)
                else:  # mutation: commits although the claim may be gone
                    self._fs.write(target, records.encode(claim.record))
                    self._fs.fsync(target)
                return number
            except FileExistsError:
                if self._happened(source, target):
                    return number
                number += 1
                if (number - tail.fold.n) % 16 == 0:  # far behind others: read what they wrote, all at once
                    with tail.lock:
                        self._refresh(claim.session, tail)
                    number = max(number, tail.fold.n + 1)
            except FileNotFoundError:
                if self._has_record(claim.session, number, claim.token):  # a retry, and then somebody revoked it
                    return number
                raise ClaimRevoked(f"claim {claim.token} was revoked") from None
            except OSError as error:
                if error.errno == errno.ESTALE:
                    raise ClaimRevoked(f"claim {claim.token} was revoked") from None
                if not self._happened(source, target):  # open(2), NFS: the reply may be lost, the link not
                    raise
                return number

    def _happened(self, source: str, target: str) -> bool:
        """True if ``target`` is this very claim (a retried link can fail against itself)."""
        try:
            here, there = self._fs.stat(source), self._fs.stat(target)
        except OSError:
            return False
        return here.inode == there.inode and here.links >= 2

    def _open_directory(self, session: SessionKey, number: int) -> None:
        """Make the directory for a record that is the first in it, and everything before it, durable."""
        base = f"{self._root}/sessions/{session.sid}"
        check_inside(self._fs, self._root, self._directory(session, number))
        self._fs.make_dir(self._directory(session, number))
        if number == 1:
            for path in (f"{self._root}/sessions", base):
                self._fs.fsync_dir(path)
        else:
            self._fs.fsync_dir(self._directory(session, number - 1))
        self._fs.fsync_dir(f"{base}/log")

    # ---- reading -------------------------------------------------------------------------------------------------

    def records(self, session: SessionKey, after: int = 0) -> Iterator[tuple[int, Record]]:
        number = after + 1
        while True:
            try:
                record = self._read(session, number)
            except FileNotFoundError:
                if not self._later(session, number):
                    return
                continue
            first, last = self._owed.get(session, (number, number))
            self._owed[session] = (min(first, number), max(last, number))
            yield number, record
            number += 1

    def view(self, session: SessionKey, *, fresh: bool = True) -> Fold:
        tail = self._tail(session)
        with tail.lock:
            self._refresh(session, tail)
            return tail.fold

    def sessions(self, damaged: Callable[[LakeError], None] | None = None) -> list[SessionKey]:
        found = []
        for sid in self._fs.list(f"{self._root}/sessions"):
            try:
                key = first_session(self._fs, self._root, sid)
            except LakeError as error:
                if damaged is None:
                    raise
                damaged(error)
                continue
            if key is not None:
                found.append(key)
        return sorted(found)

    def barrier(self) -> None:
        for session in list(self._tails):
            tail = self._tail(session)
            with tail.lock:
                self._sync_log(session, tail)
        for session, (first, last) in list(self._owed.items()):
            self._sync_records(session, first, last)
            self._owed.pop(session, None)

    def release(self, session: SessionKey) -> None:
        with self._lock:
            tail = self._tails.pop(session, None)
        if tail is None:
            return
        with tail.lock:
            if tail.fold.n >= tail.undurable:
                first, last = self._owed.get(session, (tail.undurable, tail.fold.n))
                self._owed[session] = (min(first, tail.undurable), max(last, tail.fold.n))

    def mend(self, session: SessionKey, number: int, record: Record | None) -> bool:
        path = self._path(session, number)
        with contextlib.suppress(FileNotFoundError, LakeError):
            self._read(session, number)
            return False
        damaged = self._exists(session, number)
        if not damaged and not self._numbers(session, number + 1):
            return False
        if record is None:
            if damaged or self._tail(session).fold.n >= number:
                return False  # what it held may yet be found elsewhere, or is known to a checkpoint
            made = iso(self._ports.now())
            record = Record(self._ports.new_id(), self._ports.owner(), session, made, (), ({"op": "noop"},))
        return put_back(self._ports, self._root, path, record, f"{session.sid}.{number}")

    # ---- inside --------------------------------------------------------------------------------------------------

    def _pending(self, token: str) -> str:
        return f"{self._root}/pending/{token}.json"

    def _directory(self, session: SessionKey, number: int) -> str:
        return f"{self._root}/sessions/{session.sid}/log/{number // self._fanout}"

    def _path(self, session: SessionKey, number: int) -> str:
        return f"{self._directory(session, number)}/{number}.json"

    def _read(self, session: SessionKey, number: int) -> Record:
        path = self._path(session, number)
        record = records.decode(self._fs.read(path), path)
        if record.session != session:
            raise Corrupt(f"{path}: a record of session {record.session}, not of {session}", path=path)
        return record

    def _exists(self, session: SessionKey, number: int) -> bool:
        try:
            self._fs.stat(self._path(session, number))
        except FileNotFoundError:
            return False
        return True

    def _numbers(self, session: SessionKey, first: int) -> list[int]:
        """Record numbers from ``first`` on, as the directories list them."""
        log = f"{self._root}/sessions/{session.sid}/log"
        found: list[int] = []
        with contextlib.suppress(FileNotFoundError):
            for group in self._fs.list(log):
                if group.isdigit() and int(group) >= first // self._fanout:
                    names = self._fs.list(f"{log}/{group}")
                    found += [int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()]
        return sorted(n for n in found if n >= first)

    def _later(self, session: SessionKey, number: int) -> bool:
        """After record ``number`` was not found: True if it is there now, False if it is the next to come.

        Raises ``Corrupt`` when it is missing among others (R9): what follows it would be overlooked.
        """
        later = [n for n in self._numbers(session, number) if n > number]
        if not later:
            return False
        path = self._path(session, number)
        try:
            self._fs.stat(path)
        except FileNotFoundError:
            message = f"{path} is missing although record {later[0]} exists; run `dreamlake verify`"
            raise Corrupt(message, path=path) from None
        return True

    def _tail(self, session: SessionKey) -> _Tail:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            tail = self._tails.get(session)
            if tail is None:
                tail = self._tails[session] = _Tail(self._newest(session))
            return tail

    def _newest(self, session: SessionKey) -> Fold:
        """A fold on the newest checkpoint that reads and belongs to this log, or an empty one."""
        folder = f"{self._root}/sessions/{session.sid}/ckpt"
        check_inside(self._fs, self._root, folder)
        check_inside(self._fs, self._root, f"{self._root}/sessions/{session.sid}/log")
        check_names(self._fs, f"{self._root}/sessions/{session.sid}/log")
        try:
            names = self._fs.list(folder)
        except FileNotFoundError:
            return Fold(session)
        for number in reversed(numbers(names)):
            base = self._load(session, f"{folder}/{number}.sqlite")
            if base is not None and base.n == number and self._has_record(session, number, base.token):
                return Fold(session, base)
        return Fold(session)

    def _has_record(self, session: SessionKey, number: int, token: str) -> bool:
        """True if record ``number`` of the log is the one with this token: reads only its beginning.

        In a lake that was copied while in use, or put together from two backups, a checkpoint may know more, or
        something else, than the log.
        """
        try:
            with self._fs.open(self._path(session, number)) as stream:
                return b'"tok":' + values.encode(token) + b"," in stream.read(_HEAD_BYTES)
        except OSError:
            return False

    def _load(self, session: SessionKey, path: str) -> Checkpoint | None:
        try:
            real = self._fs.real_path(path)
            return Checkpoint(session, real, None if real else self._fs.read(path))
        except (ValueError, OSError):
            return None

    def _refresh(self, session: SessionKey, tail: _Tail) -> None:
        """Fold the records that are new since the last refresh; write a checkpoint when they have become many."""
        with paused_gc():
            self._fold_new(session, tail)
        held = tail.fold.base.seq if tail.fold.base else 0  # a checkpoint costs as much as its state is large
        if tail.cost >= max(self._checkpoint_every, held / 16):
            self._write_checkpoint(session, tail)

    def _fold_new(self, session: SessionKey, tail: _Tail) -> None:
        fold = tail.fold
        while True:
            try:
                record = self._read(session, fold.n + 1)
            except FileNotFoundError:
                if tail.listed and not self._exists(session, fold.n + 2):  # a wider gap is found by the next process
                    break
                if not self._later(session, fold.n + 1):
                    tail.listed = True
                    break
                continue
            outcomes = fold.apply(fold.n + 1, record)
            if record.token in self._awaited:
                self._outcomes[record.token] = outcomes
            tail.cost += RECORD_COST + len(record.entries)

    def _sync_log(self, session: SessionKey, tail: _Tail) -> None:
        """fsync every log directory with records that this process has read but not made durable (R8)."""
        last = tail.fold.n
        if last >= tail.undurable:
            self._sync_records(session, tail.undurable, last)
            tail.undurable = last + 1

    def _sync_records(self, session: SessionKey, first: int, last: int) -> None:
        for group in range(first // self._fanout, last // self._fanout + 1):
            self._fs.fsync_dir(self._directory(session, group * self._fanout))

    def _write_checkpoint(self, session: SessionKey, tail: _Tail) -> None:
        """A failed checkpoint costs the next reader time, nothing else; so no error of it reaches the caller."""
        with NO_FORK:
            import sqlite3

        tail.cost = 0
        fold, folder = tail.fold, f"{self._root}/sessions/{session.sid}/ckpt"
        scratch, target = f"{self._root}/tmp/{self._ports.scratch_name('ckpt')}", f"{folder}/{fold.n}.sqlite"
        try:
            if self.CHECKPOINT_BARRIER:  # else a power cut could take back records that the checkpoint has
                self._sync_log(session, tail)
            self._fs.make_dir(folder)
            with paused_gc():
                self._fs.write(scratch, dump(fold))
            self._fs.fsync(scratch)  # a torn checkpoint must not be mistaken for a whole one
            self._fs.rename(scratch, target)
        except (OSError, ValueError, sqlite3.Error):
            with contextlib.suppress(OSError):
                self._fs.unlink(scratch)
            return
        base = self._load(session, target)
        if base is not None:
            tail.fold = Fold(session, base)
        with contextlib.suppress(OSError):
            for number in numbers(self._fs.list(folder))[:-_CHECKPOINTS_KEPT]:
                self._fs.unlink(f"{folder}/{number}.sqlite")
