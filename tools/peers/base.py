"""What a peer is to the comparison, and the two ways of driving one: by its command, or by a script in its own venv.

Command peers are timed as whole commands, one command a file, as a training script would call them. Library peers are
timed inside their process, without the start of the interpreter and the imports, which a training script pays once.
"""

from __future__ import annotations

import abc
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 3600.0


class PeerError(Exception):
    """A peer could not be installed or one of its commands failed; the message says which and how."""


@dataclass(frozen=True)
class Item:
    """One file of a series, to be stored in its turn."""

    source: Path
    name: str
    sha256: str
    size_bytes: int


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        PeerError: it is missing, takes longer than an hour, or ends with an exit code other than 0.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{words[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PeerError(f"{' '.join(words[:3])} ended with {done.returncode}: {' | '.join(said[-3:])}")
    return done.stdout


def tree_bytes(folder: Path) -> int:
    """Sum of the lengths of all regular files below `folder` (an inode once, links not followed)."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(f"{parent}/{name}")
            if stat.S_ISLNK(status.st_mode) or (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total


class Peer(abc.ABC):
    """A store under comparison. `home` is where its installation lives; `folder` is the room of one measurement."""

    name: ClassVar[str]
    versioned: ClassVar[bool] = True

    def __init__(self, home: Path) -> None:
        self.home = home

    @abc.abstractmethod
    def version(self) -> str | None:
        """The installed version, or None when it is not installed."""

    @abc.abstractmethod
    def install(self) -> None:
        """Install it. Raises PeerError when that cannot be done here."""

    def create(self, folder: Path) -> None:
        """Make an empty store in `folder`/store; not timed."""
        (folder / "store").mkdir()

    @abc.abstractmethod
    def ingest(self, folder: Path, items: list[Item]) -> float:
        """Store the items one after another; returns the seconds it took."""

    def stored_bytes(self, folder: Path) -> int:
        """Bytes of everything the store keeps on disk, its own metadata included, caches in its home not."""
        return tree_bytes(folder / "store")

    @abc.abstractmethod
    def read_back(self, folder: Path, items: list[Item], dest: Path) -> float | None:
        """Write the items' contents below `dest`; returns the seconds, or None where that needs a server."""

    def environment(self, folder: Path) -> dict[str, str]:
        """A small environment whose home (and so every cache) lies in the measurement's folder."""
        home = folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
        }


class CommandPeer(Peer):
    """A peer that is a command of a Debian package."""

    command: ClassVar[str]
    package: ClassVar[str]
    version_words: ClassVar[tuple[str, ...]] = ("--version",)

    def version(self) -> str | None:
        if shutil.which(self.command) is None:
            return None
        return run([self.command, *self.version_words]).splitlines()[0].strip()

    def install(self) -> None:
        if shutil.which("apt-get") is None:
            raise PeerError(f"install the Debian package {self.package}, or {self.command} by other means")
        run(["apt-get", "install", "-y", "-q", self.package])

    def ingest(self, folder: Path, items: list[Item]) -> float:
        env = self.environment(folder)
        start = time.perf_counter()
        for number, item in enumerate(items):
            self.add(folder, env, item, number)
        return time.perf_counter() - start

    def read_back(self, folder: Path, items: list[Item], dest: Path) -> float | None:
        env = self.environment(folder)
        start = time.perf_counter()
        for number, item in enumerate(items):
            self.restore(folder, env, item, number, dest / str(number))
        return time.perf_counter() - start

    @abc.abstractmethod
    def add(self, folder: Path, env: dict[str, str], item: Item, number: int) -> None:
        """Store one item with one command."""

    @abc.abstractmethod
    def restore(self, folder: Path, env: dict[str, str], item: Item, number: int, dest: Path) -> None:
        """Write one item below `dest`, which does not exist yet."""


class LibraryPeer(Peer):
    """A peer that is a Python library in a venv of its own, driven by its module of this package run as a script."""

    packages: ClassVar[tuple[str, ...]]
    distribution: ClassVar[str]
    module: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    readable: ClassVar[bool] = True

    @property
    def python(self) -> Path:
        """The interpreter that has the library."""
        return self.home / self.module.rsplit(".", 1)[1] / "bin" / "python"

    def version(self) -> str | None:
        if not self.python.exists():
            return None
        words = f"import importlib.metadata as m; print(m.version({self.distribution!r}))"
        try:
            return f"{self.distribution} {run([self.python, '-c', words]).strip()}"
        except PeerError:
            return None

    def install(self) -> None:
        folder = self.python.parents[1]
        run([sys.executable, "-m", "venv", folder])
        run([self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *self.packages])

    def ingest(self, folder: Path, items: list[Item]) -> float:
        return self._drive("ingest", folder, items, None)

    def read_back(self, folder: Path, items: list[Item], dest: Path) -> float | None:
        return self._drive("read", folder, items, dest) if self.readable else None

    def _drive(self, verb: str, folder: Path, items: list[Item], dest: Path | None) -> float:
        request = {
            "store": str(folder / "store"),
            "items": [[str(item.source), item.name, item.sha256] for item in items],
            "dest": None if dest is None else str(dest),
            "options": self.options,
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        said = run(
            [self.python, "-m", self.module, verb, folder / "request.json"], cwd=folder, env=self.environment(folder)
        )
        return float(json.loads(said.splitlines()[-1])["seconds"])


Work = Callable[[dict[str, Any]], Callable[[], None]]


def drive(ingest: Work, read: Work) -> None:
    """The script side of a LibraryPeer: `VERB REQUEST.json` from the command line; prints {"seconds": ...}.

    `ingest` and `read` get the request and return the work to time; imports and connections are made before.
    """
    verb, file = sys.argv[1:3]
    request = json.loads(Path(file).read_text(encoding="utf-8"))
    work = (ingest if verb == "ingest" else read)(request)
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds}))
