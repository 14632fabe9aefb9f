"""The port to the world: every durable system call, the clock, random ids and process identity.

Product code calls nothing durable anywhere else (SPEC "Ports"), so that a test can crash, interleave or cut
the power at every single step: it passes another ``Fs`` and the code above does not notice. This module decides
nothing; each method is one promise about the file system.

Paths are absolute ``str``. Errors are plain ``OSError`` subclasses, as the kernel gives them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import BinaryIO, NamedTuple, Protocol

SEALED_MODE = 0o444
SEALED_MTIME_S = 1  # a constant time stamp: any later write to a stored copy changes it (cheap tamper mark)
_FICLONE = 0x40049409  # linux/fs.h
_SYNC_FILE_RANGE_WRITE = 2  # start write-back, do not wait: sync_file_range(2)


class Stat(NamedTuple):
    """What ``Fs.stat`` tells. Times in nanoseconds since the epoch, size in bytes."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    mode: int
    disk: int = 0  # bytes that it takes on the disk; 0 where nobody knows

    @property
    def sealed(self) -> bool:
        """True while the tamper mark of a stored copy is intact."""
        return self.mtime_ns == SEALED_MTIME_S * 1_000_000_000


class Writer(Protocol):
    """An open new file. ``write`` takes any buffer whole; ``close`` does not make anything durable."""

    def write(self, data: bytes | memoryview) -> None: ...
    def fsync(self) -> None: ...
    def seal(self) -> None: ...

    def stamp(self, mtime_ns: int) -> None:
        """Set the time stamps of the file; they hold until somebody writes to it."""

    def close(self) -> None: ...


class Fs(Protocol):
    """System calls on one file system. Rename and link are atomic; nothing is durable before an fsync."""

    def write(self, path: str, data: bytes, *, sealed: bool = False) -> None:
        """Create ``path`` (``FileExistsError`` if there) with these bytes; ``sealed``: mode 0444, mtime 1."""

    def create(self, path: str, *, early: bool = True) -> Writer:
        """Create ``path`` for streaming (``FileExistsError`` if there).

        ``early`` is a hint: an fsync follows, so the bytes had better be on their way to the disk before it.
        """
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add bytes at the end of ``path``, which is created if absent, with a single write call."""

    def truncate(self, path: str, size: int) -> None:
        """Cut ``path`` to ``size`` bytes."""

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """An unbuffered, seekable stream for reading; it keeps working if the name is removed meanwhile."""
        ...

    def stat(self, path: str) -> Stat:
        """Facts of the file; opens it first, so that a network file system asks its server (NFSv4)."""
        ...

    def lstat(self, path: str) -> Stat:
        """Facts of the name itself: a symbolic link is not followed, nothing is opened."""
        ...

    def read_link(self, path: str) -> str:
        """What a symbolic link points at, as it stands there (``OSError`` EINVAL when it is no link)."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, in no order."""
        ...

    def make_dir(self, path: str) -> bool:
        """Make a directory with its parents. True if this call made the last one, False if it was there."""
        ...

    def fsync(self, path: str) -> None:
        """Make the bytes of a file durable."""

    def fsync_dir(self, path: str) -> None:
        """Make all earlier creations, renames, links and removals of names in a directory durable."""

    def sync(self, path: str) -> None:
        """Make everything written so far on the file system of ``path`` durable (one barrier for a batch)."""

    def rename(self, source: str, target: str) -> None:
        """Move a name, replacing a file at ``target``."""

    def rename_new(self, source: str, target: str) -> None:
        """Move a name; ``FileExistsError`` (and nothing moved) if ``target`` is taken, by whatever. Atomic.

        Where the file system has no such rename, a link and an unlink do it: a crash between them leaves ``source``.
        """

    def link(self, source: str, target: str) -> None:
        """A second name for a file; ``FileExistsError`` if ``target`` is taken."""

    def symlink(self, source: str, target: str) -> None:
        """A symbolic link at ``target`` that points at ``source``; ``FileExistsError`` if taken."""

    def clone(self, source: str, target: str) -> bool:
        """Create ``target`` sharing the blocks of ``source`` (reflink). False if the file system cannot."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name (``FileNotFoundError`` if absent)."""

    def remove_dir(self, path: str) -> None:
        """Remove an empty directory."""

    def touch(self, path: str) -> None:
        """Set the time stamps of a file to now."""

    def stamp(self, path: str, mtime_ns: int) -> None:
        """Set the time stamps of a name (of a symbolic link itself) to a moment."""

    def lock(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Hold an exclusive advisory lock on ``path`` (created if absent); a dead holder loses it."""
        ...

    def real_path(self, path: str) -> str | None:
        """The path to hand to other libraries, or None when there is no real file behind it."""
        ...


class OsWriter:
    """``Writer`` on a file descriptor; ``early``: starts write-back early so that the final fsync has little to do."""

    _EARLY = 8 << 20  # bytes between two write-back hints
    _LATE = 1 << 20  # bytes left at the end that are worth one more

    def __init__(self, path: str, *, early: bool = True) -> None:
        self._path, self._early = path, early
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        self._written = 0
        self._hinted = 0

    def write(self, data: bytes | memoryview) -> None:
        _write_all(self._fd, data)
        self._written += len(data)
        if self._early and self._written - self._hinted >= self._EARLY:
            _start_write_back(self._fd, self._hinted, self._written - self._hinted)
            self._hinted = self._written

    def fsync(self) -> None:
        _fsync(self._fd)

    def seal(self) -> None:
        os.fchmod(self._fd, SEALED_MODE)
        os.utime(self._fd, (SEALED_MTIME_S, SEALED_MTIME_S))
        if self._early and self._written - self._hinted >= self._LATE:  # the fsync of many files comes after them all
            _start_write_back(self._fd, self._hinted, self._written - self._hinted)
            self._hinted = self._written

    def stamp(self, mtime_ns: int) -> None:
        os.utime(self._fd, ns=(mtime_ns, mtime_ns))

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class OsFs:
    """``Fs`` on the operating system (Linux, macOS)."""

    def write(self, path: str, data: bytes, *, sealed: bool = False) -> None:
        writer = OsWriter(path)
        try:
            writer.write(data)
            if sealed:
                writer.seal()
        except BaseException:
            writer.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        writer.close()

    def create(self, path: str, *, early: bool = True) -> Writer:
        return OsWriter(path, early=early)

    def append(self, path: str, data: bytes) -> None:
        fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def read(self, path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            data = os.read(fd, size + 1)
            if len(data) == size:
                return data
            pieces = [data]
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(fd)

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb", buffering=0)

    def stat(self, path: str) -> Stat:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            s = os.fstat(fd)
        finally:
            os.close(fd)
        return _stat(s)

    def lstat(self, path: str) -> Stat:
        return _stat(os.lstat(path))

    def read_link(self, path: str) -> str:
        return os.readlink(path)

    def list(self, path: str) -> list[str]:
        return os.listdir(path)

    def make_dir(self, path: str) -> bool:
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return False
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return self.make_dir(path)
        return True

    def fsync(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _fsync(fd)
        finally:
            os.close(fd)

    def fsync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems refuse it
                raise
        finally:
            os.close(fd)

    def sync(self, path: str) -> None:
        syncfs = getattr(_libc(), "syncfs", None)
        if syncfs is None:  # macOS: no per-file-system barrier in libc
            os.sync()
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def rename_new(self, source: str, target: str) -> None:
        if _rename_new(source, target):
            return
        os.link(source, target, follow_symlinks=False)
        os.unlink(source)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def symlink(self, source: str, target: str) -> None:
        os.symlink(source, target)

    def clone(self, source: str, target: str) -> bool:
        import fcntl

        with open(source, "rb", buffering=0) as reader:
            fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            try:
                fcntl.ioctl(fd, _FICLONE, reader.fileno())
            except OSError:
                os.unlink(target)
                return False
            finally:
                os.close(fd)
        return True

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def remove_dir(self, path: str) -> None:
        os.rmdir(path)

    def touch(self, path: str) -> None:
        os.utime(path)

    def stamp(self, path: str, mtime_ns: int) -> None:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[None]:
        import fcntl

        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        _lock_fds.add(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: a child forked meanwhile has a copy
        finally:
            _lock_fds.discard(fd)
            os.close(fd)

    def real_path(self, path: str) -> str | None:
        return path


# Whoever holds this is not cut in half by a fork in another thread: the child would wait for ever for the locks that
# such a thread held inside a library (SQLite), or inside an import that it had not finished. For short work that takes
# no other lock of ours.
NO_FORK = threading.RLock()
os.register_at_fork(before=NO_FORK.acquire, after_in_parent=NO_FORK.release, after_in_child=NO_FORK.release)

_lock_fds: set[int] = set()


def _drop_locks() -> None:
    """In a forked child: its copies of lock descriptors must not keep a lock alive after the parent has died."""
    while _lock_fds:
        os.close(_lock_fds.pop())


os.register_at_fork(after_in_child=_drop_locks)


@dataclass(frozen=True)
class Owner:
    """Which process something belongs to; ``started`` tells a reused pid from the old one."""

    host: str
    boot: str
    pid: int
    started: str

    def dead(self) -> bool:
        """True only if that process certainly no longer runs: same host, and other boot or no such process."""
        me = this_process()
        if self.host != me.host:
            return False
        if self.boot != me.boot:
            return True
        return _process_start(self.pid) != self.started


def _utc_now() -> datetime:  # functions, not lambdas: ports travel to the processes of an executor (pickle)
    return datetime.now(timezone.utc)


def _random_id() -> str:
    return os.urandom(16).hex()


def _owner() -> Owner:
    return this_process()


def _is_local(path: str) -> bool:
    return on_local_disk(path)


@dataclass(frozen=True)
class Ports:
    """All ports together, as handed down by ``open_lake``."""

    fs: Fs = field(default_factory=OsFs)
    now: Callable[[], datetime] = _utc_now
    new_id: Callable[[], str] = _random_id
    owner: Callable[[], Owner] = _owner
    is_dead: Callable[[Owner], bool] = Owner.dead
    sleep: Callable[[float], None] = time.sleep
    is_local: Callable[[str], bool] = _is_local

    def scratch_name(self, kind: str) -> str:
        """A fresh name for a scratch file that says whose it is, so that a collector can tell the dead's."""
        me = self.owner()
        return f"{_tag(me.host)}-{_tag(me.boot)}-{me.pid}-{me.started or 0}-{self.new_id()}.{kind}"

    def scratch_is_abandoned(self, name: str) -> bool:
        """True only if the process that made this scratch file certainly no longer runs."""
        parts = name.split("-")
        me = self.owner()
        if len(parts) != 5 or parts[0] != _tag(me.host) or not parts[2].isdigit():
            return False
        boot = me.boot if parts[1] == _tag(me.boot) else "another"
        return self.is_dead(Owner(me.host, boot, int(parts[2]), parts[3]))


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _stat(s: os.stat_result) -> Stat:
    disk = getattr(s, "st_blocks", 0) * 512
    return Stat(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_nlink, s.st_mode, disk)


def scan(fs: Fs, path: str) -> Iterator[tuple[str, Stat]]:
    """Names in a directory with the facts of each, in no order; what vanishes meanwhile is left out.

    On the operating system this costs a fraction of ``list`` and ``lstat``.
    """
    if isinstance(fs, OsFs):
        with os.scandir(path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, _stat(entry.stat(follow_symlinks=False))
        return
    for name in fs.list(path):
        with contextlib.suppress(FileNotFoundError):
            yield name, fs.lstat(f"{path}/{name}")


_LOCAL = """
    apfs bcachefs btrfs exfat ext2 ext3 ext4 f2fs hfs hfsplus jfs nilfs2 ntfs3 overlay ramfs reiserfs rootfs tmpfs ufs
    vfat xfs zfs
"""
_LOCAL_TYPES = frozenset(_LOCAL.split())


def on_local_disk(path: str) -> bool:
    """True only if the file system of ``path`` certainly belongs to this host alone (no NFS, SMB, FUSE, cluster)."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            mounts = [line.split() for line in f]
    except OSError:
        return _mounted_local(path)
    real, best, kind = os.path.realpath(path), "", ""
    for fields in mounts:  # proc(5): mount point is field 5, the type follows the separator "-"
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, fields[fields.index("-") + 1]
    return kind in _LOCAL_TYPES


def _mounted_local(path: str) -> bool:
    """The same where there is no /proc: macOS marks local file systems in the output of mount(8)."""
    import subprocess

    try:
        text = subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    real, best, local = os.path.realpath(path), "", False
    for line in text.splitlines():
        point, _, options = line.partition(" on ")[2].rpartition(" (")
        if len(point) > len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, local = point, "local" in options.rstrip(")").split(", ")
    return local


def iso(moment: datetime) -> str:
    """ISO-8601 in UTC with microseconds, ending in Z."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def coarse_now_ns() -> int:
    """The clock that stamps files, in ns: a file whose times lie before it changes them on its next write."""
    clock = getattr(time, "CLOCK_REALTIME_COARSE", 5 if sys.platform == "linux" else None)
    if clock is None:
        return time.time_ns() - 20_000_000
    return time.clock_gettime_ns(clock)


def this_process() -> Owner:
    """The identity of the calling process (correct after a fork, too)."""
    return _this_process(os.getpid())


@lru_cache(maxsize=4)
def _this_process(pid: int) -> Owner:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
            boot = f.read().strip()
    except OSError:
        boot = "unknown"
    return Owner(os.uname().nodename, boot, pid, _process_start(pid))


def _process_start(pid: int) -> str:
    """Start time of a process, or "" when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()  # proc(5): starttime is field 22
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return ""
    except ProcessLookupError:
        return ""
    try:  # no /proc (macOS): existence is all that can be told cheaply
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


_libc_lock = threading.Lock()


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    with _libc_lock:
        return ctypes.CDLL(None, use_errno=True)


def _rename_new(source: str, target: str) -> bool:
    """The kernel's rename that never replaces. False when there is none here; then nothing was moved."""
    call = _rename_new_call()
    if call is None:
        return False
    if call(os.fsencode(source), os.fsencode(target)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), source, None, target)


@lru_cache(maxsize=1)
def _rename_new_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "darwin":
        exclusive = getattr(_libc(), "renamex_np", None)  # renamex_np(from, to, RENAME_EXCL)
        return None if exclusive is None else lambda source, target: int(exclusive(source, target, 4))
    rename = getattr(_libc(), "renameat2", None)  # renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE)
    return None if rename is None else lambda source, target: int(rename(-100, source, -100, target, 1))


def _start_write_back(fd: int, offset: int, length: int) -> None:
    call = getattr(_libc(), "sync_file_range", None)
    if call is not None:  # a hint: its failure costs speed only
        call(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)
