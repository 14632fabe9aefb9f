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
