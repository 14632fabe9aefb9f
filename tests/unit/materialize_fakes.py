"""File systems with a twist, for the tests of materialize: all behave like the real one except for one thing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from typing import Any

from dreamlake.operations.survey import fold
from dreamlake.ports import OsFs, Writer

CHANGING = ("write", "create", "append", "make_dir", "rename", "rename_new", "link", "symlink", "clone", "unlink",
            "remove_dir", "touch", "stamp")  # fmt: skip


class Killed(BaseException):
    """The process ends here: nothing it does afterwards happens."""


class WatchedFs(OsFs):
    """Calls ``before`` with the name and arguments of every call, and counts the calls."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.before: Callable[..., None] = lambda name, *args: None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or not callable(value) or name == "before":
            return value

        def call(*args: Any, **options: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            self.before(name, *args)
            return value(*args, **options)

        return call

    @property
    def changes(self) -> int:
        return sum(self.calls.get(name, 0) for name in CHANGING)


class MortalFs(WatchedFs):
    """Dies before its n-th changing call below ``root``, and stays dead. ``tear``: a write before it is cut short."""

    def __init__(self, root: str, last: int) -> None:
        super().__init__()
        self._root, self._left, self._dead = root, last, False
        self.before = self._count  # type: ignore[method-assign]

    def _count(self, name: str, *args: Any) -> None:
        if self._dead:
            raise Killed
        if name in CHANGING and any(str(a).startswith(self._root) for a in args):
            self._left -= 1
            if self._left < 0:
                self._dead = True
                raise Killed

    def create(self, path: str, *, early: bool = True) -> Writer:
        return _MortalWriter(self, super().create(path, early=early), path)


class _MortalWriter:
    """Half a write, then the end."""

    def __init__(self, fs: MortalFs, writer: Writer, path: str) -> None:
        self._fs, self._writer, self._path = fs, writer, path

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._fs._count("write", self._path)
        except Killed:
            self._writer.write(memoryview(data)[: len(data) // 2])
            self._writer.close()
            raise
        self._writer.write(data)

    def fsync(self) -> None:
        self._writer.fsync()

    def seal(self) -> None:
        self._writer.seal()

    def stamp(self, mtime_ns: int) -> None:
        self._writer.stamp(mtime_ns)

    def close(self) -> None:
        self._writer.close()


class FailingFs(WatchedFs):
    """Raises an ``OSError`` for chosen calls whose first path argument contains a text."""

    def __init__(self, code: int, names: tuple[str, ...], where: str) -> None:
        super().__init__()
        self._code, self._names, self._where = code, names, where
        self.before = self._check  # type: ignore[method-assign]

    def _check(self, name: str, *args: Any) -> None:
        if name in self._names and any(self._where in str(a) for a in args):
            raise OSError(self._code, os.strerror(self._code), args[0])


class CloningFs(OsFs):
    """Reflinks on a file system that has none: a plain copy is what a user sees of one."""

    def clone(self, source: str, target: str) -> bool:
        shutil.copyfile(source, target)
        return True


class RigidFs(OsFs):
    """No reflinks, and no hard links out of the store (another device)."""

    def clone(self, source: str, target: str) -> bool:
        return False

    def link(self, source: str, target: str) -> None:
        if "/blobs/" in source:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
        super().link(source, target)


class FoldingFs(OsFs):
    """Takes names below ``root`` that differ only in case or Unicode form for one, like a Mac's disk.

    A new name keeps the spelling it was made with; every other spelling finds it.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def _find(self, path: str) -> str:
        if not path.startswith(self._root + "/"):
            return path
        here = self._root
        for part in path[len(self._root) + 1 :].split("/"):
            names = os.listdir(here) if os.path.isdir(here) else []
            here = f"{here}/{next((n for n in names if fold(n) == fold(part)), part)}"
        return here

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or not callable(value):
            return value
        if name == "symlink":
            return lambda source, target: value(source, self._find(target))
        return lambda *args, **options: value(*(self._find(a) if isinstance(a, str) else a for a in args), **options)
