"""What the tests of the public API share: other file systems, other users, raw looks at the store."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

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
