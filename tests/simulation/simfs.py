"""A file system in memory that remembers what a power cut could take back: the whole ``dreamlake.ports.Fs``.

* Names: every directory keeps all states that it had since its last ``fsync_dir``. A power cut leaves each directory,
  independently, in any one of them (changes within one directory become durable in order; between two, in any order).
  A directory whose own name was lost is gone with everything in it.
* Bytes: a file whose bytes were not fsynced is torn after a power cut.
* Every call goes through ``hook`` first, which lets a scheduler switch processes, kill one, or make the call fail.

Nothing here knows dreamlake's layout.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat as statmode
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dreamlake.ports import SEALED_MODE, SEALED_MTIME_S, Stat

SPACE = frozenset({"write", "create", "append", "put", "make_dir", "link", "symlink", "clone"})  # calls that need room


class File:
    """An inode. ``safe`` are the bytes that a power cut leaves, None while there are none."""

    __slots__ = ("ctime_ns", "data", "links", "mode", "mtime_ns", "number", "parsed", "safe", "target")
    count = 0

    def __init__(self, data: bytes, now_ns: int, mode: int = 0o644, target: str | None = None) -> None:
        File.count += 1
        self.data, self.mtime_ns, self.ctime_ns, self.mode, self.number = data, now_ns, now_ns, mode, File.count
        self.safe: bytes | None = None
        self.links = 1
        self.target = target  # of a symbolic link
        self.parsed: object = None  # for judges: what they read out of ``data``

    @property
    def torn(self) -> bool:
        """True if a power cut now would damage the bytes."""
        return self.safe is None or (self.safe is not self.data and self.safe != self.data)


class Dir:
    """A directory: its names now, all its states since the last fsync (the oldest first), and when either changed."""

    __slots__ = ("history", "names", "stamp")

    def __init__(self) -> None:
        self.names: dict[str, File | Dir] = {}
        self.history: list[dict[str, File | Dir]] = [{}]
        self.stamp = 0


class SimWriter:
    def __init__(self, fs: SimFs, path: str, file: File) -> None:
        self._fs, self._path, self._file = fs, path, file

    def write(self, data: bytes | memoryview) -> None:
        self._fs.call("put", self._path)
        self._file.data += bytes(data)
        self._file.mtime_ns = self._fs.now_ns()

    def fsync(self) -> None:
        self._fs.call("fsync", self._path)
        self._file.safe = self._file.data

    def seal(self) -> None:
        self._fs.call("seal", self._path)
        self._file.mtime_ns, self._file.mode = SEALED_MTIME_S * 10**9, SEALED_MODE

    def stamp(self, mtime_ns: int) -> None:
        self._fs.call("stamp", self._path)
        self._file.mtime_ns = mtime_ns

    def close(self) -> None:
        """Closing an open file asks nothing of the disk."""


class SimFs:
    """``Fs`` over directories in memory. Paths are absolute."""

    def __init__(self) -> None:
        self.dirs: dict[str, Dir] = {"/": Dir()}
        self.locked: set[str] = set()
        self.hook: Callable[[str, str, str], Callable[[], None] | None] = lambda call, path, other: None
        self.now_ns: Callable[[], int] = lambda: 1_700_000_000 * 10**9
        self.version = 0  # counts changes of directories and of what is durable of them

    # ---- inside --------------------------------------------------------------------------------------------------

    def call(self, name: str, path: str, other: str = "") -> Callable[[], None]:
        """Announce a call. The hook may switch, raise, or return what must happen after the effect."""
        return self.hook(name, path, other) or _nothing

    def _parent(self, path: str) -> tuple[Dir, str]:
        parent, _, name = path.rpartition("/")
        home = self.dirs.get(parent or "/")
        if home is None:
            raise _error(errno.ENOTDIR if self._is_file(parent) else errno.ENOENT, path)
        return home, name

    def _is_file(self, path: str) -> bool:
        while path not in ("", "/"):
            parent, _, name = path.rpartition("/")
            if (parent or "/") in self.dirs:
                return isinstance(self.dirs[parent or "/"].names.get(name), File)
            path = parent
        return False

    def _file(self, path: str, *, follow: bool = True) -> File:
        home, name = self._parent(path)
        found = home.names.get(name)
        if found is None:
            raise _error(errno.ENOENT, path)
        if isinstance(found, Dir):
            raise _error(errno.EISDIR, path)
        if follow and found.target is not None:
            return self._file(os.path.normpath(os.path.join(path.rpartition("/")[0], found.target)))
        return found

    def _add(self, path: str, what: File | Dir) -> None:
        home, name = self._parent(path)
        if name in home.names:
            raise _error(errno.EEXIST, path)
        home.names[name] = what
        self._change(home)

    def _change(self, *homes: Dir) -> None:
        self.version += 1
        for home in homes:
            home.history.append(dict(home.names))
            home.stamp = self.version

    # ---- files ---------------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes, *, sealed: bool = False) -> None:
        after = self.call("write", path)
        file = File(bytes(data), self.now_ns())
        self._add(path, file)
        if sealed:
            file.mtime_ns, file.mode = SEALED_MTIME_S * 10**9, SEALED_MODE
        after()

    def create(self, path: str, *, early: bool = True) -> SimWriter:
        after = self.call("create", path)
        file = File(b"", self.now_ns())
        self._add(path, file)
        after()
        return SimWriter(self, path, file)

    def append(self, path: str, data: bytes) -> None:
        after = self.call("append", path)
        home, name = self._parent(path)
        if name not in home.names:
            self._add(path, File(b"", self.now_ns()))
        file = self._file(path)
        file.data += bytes(data)
        file.mtime_ns = self.now_ns()
        after()

    def truncate(self, path: str, size: int) -> None:
        after = self.call("truncate", path)
        file = self._file(path)
        file.data = file.data[:size].ljust(size, b"\0")
        file.mtime_ns = self.now_ns()
        after()

    def read(self, path: str) -> bytes:
        self.call("read", path)
        return self._file(path).data

    def open(self, path: str) -> BinaryIO:
        self.call("open", path)
        return io.BytesIO(self._file(path).data)

    def stat(self, path: str) -> Stat:
        self.call("stat", path)
        if path in self.dirs:
            return Stat(0, 0, 0, 0, 2, statmode.S_IFDIR | 0o755)
        return _stat(self._file(path))

    def lstat(self, path: str) -> Stat:
        self.call("stat", path)
        if path in self.dirs:
            return Stat(0, 0, 0, 0, 2, statmode.S_IFDIR | 0o755)
        return _stat(self._file(path, follow=False))

    def read_link(self, path: str) -> str:
        self.call("read_link", path)
        target = self._file(path, follow=False).target
        if target is None:
            raise _error(errno.EINVAL, path)
        return target

    def touch(self, path: str) -> None:
        after = self.call("touch", path)
        self._file(path).mtime_ns = self.now_ns()
        after()

    def stamp(self, path: str, mtime_ns: int) -> None:
        after = self.call("stamp", path)
        self._file(path, follow=False).mtime_ns = mtime_ns
        after()

    def clone(self, source: str, target: str) -> bool:
        self.call("clone", source, target)
        return False  # a file system without reflinks

    # ---- names ---------------------------------------------------------------------------------------------------

    def list(self, path: str) -> list[str]:
        self.call("list", path)
        home = self.dirs.get(path)
        if home is None:
            raise _error(errno.ENOTDIR if self._is_file(path) else errno.ENOENT, path)
        return list(home.names)

    def make_dir(self, path: str) -> bool:
        after = self.call("make_dir", path)
        if path in self.dirs:
            return False
        parent = path.rpartition("/")[0] or "/"
        if parent not in self.dirs and not self._is_file(parent):
            self.make_dir(parent)
        made = Dir()
        self._add(path, made)
        self.dirs[path] = made
        after()
        return True

    def rename(self, source: str, target: str) -> None:
        self._rename("rename", source, target, replace=True)

    def rename_new(self, source: str, target: str) -> None:
        self._rename("rename_new", source, target, replace=False)

    def _rename(self, call: str, source: str, target: str, *, replace: bool) -> None:
        after = self.call(call, source, target)
        (old_home, old), (new_home, new) = self._parent(source), self._parent(target)
        moved = old_home.names.get(old)
        if moved is None:
            raise _error(errno.ENOENT, source)
        there = new_home.names.get(new)
        if there is not None and not replace:
            raise _error(errno.EEXIST, target)
        if isinstance(there, Dir) or (isinstance(moved, Dir) and there is not None):
            raise _error(errno.ENOTEMPTY if isinstance(moved, Dir) else errno.EISDIR, target)
        if there is moved:
            return  # rename(2): two names of one file, nothing happens
        if there is not None:
            there.links -= 1
        del old_home.names[old]
        new_home.names[new] = moved
        if isinstance(moved, Dir):
            for path in [p for p in self.dirs if p == source or p.startswith(source + "/")]:
                self.dirs[target + path[len(source) :]] = self.dirs.pop(path)
        else:
            moved.ctime_ns = self.now_ns()
        self._change(*{id(home): home for home in (new_home, old_home)}.values())
        after()

    def link(self, source: str, target: str) -> None:
        after = self.call("link", source, target)
        file = self._file(source)
        self._add(target, file)
        file.links += 1
        after()

    def symlink(self, source: str, target: str) -> None:
        after = self.call("symlink", source, target)
        self._add(target, File(b"", self.now_ns(), 0o777, source))
        after()

    def unlink(self, path: str) -> None:
        after = self.call("unlink", path)
        file = self._file(path, follow=False)
        home, name = self._parent(path)
        del home.names[name]
        file.links -= 1
        self._change(home)
        after()

    def remove_dir(self, path: str) -> None:
        after = self.call("remove_dir", path)
        found = self.dirs.get(path)
        if found is None:
            raise _error(errno.ENOENT, path)
        if found.names:
            raise _error(errno.ENOTEMPTY, path)
        home, name = self._parent(path)
        del home.names[name], self.dirs[path]
        self._change(home)
        after()

    # ---- durability ----------------------------------------------------------------------------------------------

    def fsync(self, path: str) -> None:
        after = self.call("fsync", path)
        file = self._file(path)
        file.safe = file.data
        after()

    def fsync_dir(self, path: str) -> None:
        after = self.call("fsync_dir", path)
        home = self.dirs.get(path)
        if home is None:
            raise _error(errno.ENOENT, path)
        self.version += 1
        home.history, home.stamp = [dict(home.names)], self.version
        after()

    def sync(self, path: str) -> None:
        after = self.call("sync", path)
        self.version += 1
        for home in self.dirs.values():
            home.history, home.stamp = [dict(home.names)], self.version
            for what in home.names.values():
                if isinstance(what, File):
                    what.safe = what.data
        after()

    # ---- the rest ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[None]:
        self.call("lock", path)
        while path in self.locked:
            self.call("lock", path)
        self.locked.add(path)
        try:
            yield
        finally:
            self.locked.discard(path)

    def real_path(self, path: str) -> str | None:
        return None

    # ---- for tests -----------------------------------------------------------------------------------------------

    def copy(self) -> SimFs:
        """Another file system in the same state, histories included."""
        twins: dict[int, File | Dir] = {}

        def twin(what: File | Dir) -> File | Dir:
            made = twins.get(id(what))
            if made is None:
                made = twins[id(what)] = _twin_file(what) if isinstance(what, File) else Dir()
                if isinstance(what, Dir) and isinstance(made, Dir):
                    made.names = {name: twin(inner) for name, inner in what.names.items()}
                    made.history = [{name: twin(inner) for name, inner in state.items()} for state in what.history]
            return made

        other = SimFs()
        other.now_ns = self.now_ns
        for path, home in self.dirs.items():
            made = twin(home)
            assert isinstance(made, Dir)
            other.dirs[path] = made
        return other

    def after_power_cut(self, chosen: dict[str, int], tear: Callable[[bytes], bytes]) -> SimFs:
        """What is there after the power came back.

        Args:
            chosen: directory -> which state of its history it fell back to; a directory not named keeps its newest.
            tear: what has become of bytes that were not fsynced.
        """
        other = SimFs()
        other.now_ns = self.now_ns
        files: dict[int, File] = {}
        waiting = [("/", self.dirs["/"], other.dirs["/"])]
        while waiting:
            path, before, made = waiting.pop()
            for name, what in before.history[chosen.get(path, -1)].items():
                inner = f"{path.rstrip('/')}/{name}"
                if isinstance(what, Dir):
                    made.names[name] = other.dirs[inner] = Dir()
                    waiting.append((inner, what, other.dirs[inner]))
                    continue
                if id(what) not in files:
                    files[id(what)] = _twin_file(what)
                    files[id(what)].data = what.data if not what.torn else tear(what.data)
                    files[id(what)].safe = files[id(what)].data
                    files[id(what)].links = 0
                files[id(what)].links += 1
                made.names[name] = files[id(what)]
            made.history = [dict(made.names)]
        return other


def _twin_file(file: File) -> File:
    made = File(file.data, file.ctime_ns, file.mode, file.target)
    made.mtime_ns, made.safe, made.links, made.parsed = file.mtime_ns, file.safe, file.links, file.parsed
    return made


def _stat(file: File) -> Stat:
    kind = statmode.S_IFLNK if file.target is not None else statmode.S_IFREG
    size = len(file.data)
    return Stat(size, file.mtime_ns, file.ctime_ns, file.number, file.links, kind | file.mode, -(-size // 512) * 512)


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def _nothing() -> None:
    return None
