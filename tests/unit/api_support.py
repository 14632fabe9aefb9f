"""What the tests of the public API share: other file systems, other users, raw looks at the store."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

from dreamlake.ports import OsFs

PACKAGE_ROOT = Path(__file__).resolve().parents[2]

# Root may write to everything, whatever the mode says, until it gives its capabilities away for good.
_POWERLESS = """
import ctypes, os, sys
if os.geteuid() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0, ctypes.get_errno()
"""


def run_powerless(code: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Run Python code as a user who has no right but those that the modes of files give; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _POWERLESS + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder: relative path -> content, None for folders and what is no file."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def stored(root: Path) -> list[Path]:
    """All stored copies of a lake."""
    return sorted(path for path in (root / ".dreamlake/blobs").rglob("*") if path.is_file())


def scratch(root: Path) -> list[str]:
    """What is left in the places where a lake prepares things: must be empty when nothing is under way."""
    store = root / ".dreamlake"
    return [f"{name}/{file}" for name in ("tmp", "pending") for file in os.listdir(store / name)]


def overwrite(path: Path, data: bytes, *, keep_mark: bool) -> None:
    """Damage a stored copy behind the store's back; ``keep_mark``: so that its tamper mark still looks intact."""
    facts = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(facts.st_mode & 0o777)
    if keep_mark:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


class FoldingFs:
    """A file system that takes names for one that differ only in case or Unicode form, as those of macOS do.

    Names keep the spelling that they were made with.
    """

    def __init__(self) -> None:
        self._fs = OsFs()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._fs, name)
        paths = 2 if name in ("rename", "rename_new", "link", "symlink", "clone") else 1

        def folded(*arguments: Any, **options: Any) -> Any:
            return call(*map(self._actual, arguments[:paths]), *arguments[paths:], **options)

        return folded

    def _actual(self, path: str) -> str:
        """The path with every part in the spelling that is there."""
        actual = ""
        for part in path.split("/")[1:]:
            try:
                names = os.listdir(actual or "/")
            except OSError:
                names = []
            same = [name for name in names if _fold(name) == _fold(part)] if part not in names else [part]
            actual += "/" + (same[0] if same else part)
        return actual


def _fold(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


class FailingFs:
    """The ``failing``-th durable call from now on fails, and so do those after it if ``forever``; the rest works."""

    CALLS = frozenset(
        """
        write create append truncate make_dir fsync fsync_dir sync rename rename_new link symlink clone lock
        """.split()  # noqa: SIM905 - as a list it would fill a column
    )

    def __init__(self, code: int | type[BaseException] = errno.ENOSPC) -> None:
        self._fs, self._code = OsFs(), code
        self.failing: int | None = None
        self.forever = True
        self.calls = 0

    def _count(self, path: str) -> None:
        self.calls += 1
        if self.failing is not None and (self.calls == self.failing or (self.forever and self.calls > self.failing)):
            raise OSError(self._code, os.strerror(self._code), path) if isinstance(self._code, int) else self._code

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._fs, name)
        if name not in self.CALLS:
            return call

        def counted(path: str, *arguments: Any, **options: Any) -> Any:
            self._count(path)
            made = call(path, *arguments, **options)
            return FailingWriter(self, path, made) if name == "create" else made

        return counted


class FailingWriter:
    def __init__(self, fs: FailingFs, path: str, writer: Any) -> None:
        self._fs, self._path, self._writer = fs, path, writer

    def write(self, data: bytes | memoryview) -> None:
        self._fs._count(self._path)
        self._writer.write(data)

    def fsync(self) -> None:
        self._fs._count(self._path)
        self._writer.fsync()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
