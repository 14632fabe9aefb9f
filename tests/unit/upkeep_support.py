"""What the tests of collection, verification and repair share: a lake with a clock of its own, and raw looks at it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from dreamlake.lake import Lake, open_lake
from dreamlake.model import SessionKey, Version, session_key
from dreamlake.operations import tree
from dreamlake.operations.collect import collect
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.ports import OsFs, Ports, iso, this_process

DAY_S = 86_400.0
RUN = session_key("vision", "run-1")
OTHER = session_key("vision", "run-2")


class QuickFs(OsFs):
    """The operating system without waiting for the disk: power cuts are the simulation's business."""

    def fsync(self, path: str) -> None:
        os.stat(path)

    def fsync_dir(self, path: str) -> None:
        os.stat(path)

    def sync(self, path: str) -> None:
        os.stat(path)


class World:
    """A lake in a folder. Time passes only by ``pass_time``, except for the time stamps that the kernel sets."""

    def __init__(self, root: Path, **ports: Any) -> None:
        self.root, self.now = root, datetime.now(timezone.utc)
        self.dead: set[int] = set()  # pids
        self.slept: list[float] = []
        self.ports = Ports(
            fs=QuickFs(), now=lambda: self.now, is_dead=lambda owner: owner.pid in self.dead, sleep=self.slept.append
        )
        self.ports = dataclasses.replace(self.ports, **ports)
        self.lake = self.open()

    @property
    def store(self) -> Store:
        return self.lake.store

    def open(self, **ports: Any) -> Lake:
        """The same lake as another process would see it."""
        return open_lake(self.root, create=True, ports=dataclasses.replace(self.ports, **ports))

    def of_process(self, pid: int) -> Store:
        """The same lake from a process of that pid."""
        return self.open(owner=lambda: dataclasses.replace(this_process(), pid=pid, started="1")).store

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # ---- acting ----------------------------------------------------------------------------------------------------

    def session(self, key: SessionKey = RUN, **fields: Any) -> SessionKey:
        commit(self.store, key, [{"op": "session", "at": iso(self.now), **fields}])
        return key

    def upload(
        self, path: str, data: bytes, key: SessionKey = RUN, *, store: Store | None = None, **attributes: Any
    ) -> Version:
        self.now += timedelta(milliseconds=1)
        store = store or self.store
        if not store.catalog.view(key).info.exists:
            self.session(key)
        return upload_file(store, key, io.BytesIO(data), path, Attributes(**attributes))

    def delete(self, path: str, key: SessionKey = RUN) -> None:
        view = self.store.catalog.view(key)
        tree.delete(self.store, key, view.live() if path == "/" else tree.select(view, path))

    def orphan(self, data: bytes) -> str:
        """A blob that nothing refers to, as an upload leaves it that dies before its commit."""
        stager = self.store.blobs.stage()
        stager.write(data)
        self.store.blobs.publish(digest(data), stager.finish())
        return digest(data)

    def collect(self, **options: Any) -> Any:
        return collect(self.store, **options)

    # ---- looking, behind the store's back --------------------------------------------------------------------------

    def blob(self, key: str) -> Path:
        return self.root / ".dreamlake" / "blobs" / key[-64:-62] / key

    def names(self) -> list[str]:
        """Names of all blobs, condemned ones with their batch."""
        return sorted(file.name for file in (self.root / ".dreamlake" / "blobs").glob("*/*"))

    def live(self) -> set[str]:
        return {name for name in self.names() if "~" not in name}

    def condemned(self) -> set[str]:
        return {name.partition("~")[0] for name in self.names() if "~" in name}

    def log(self, key: SessionKey, number: int) -> Path:
        return self.root / ".dreamlake" / "sessions" / key.sid / "log" / str(number // 1000) / f"{number}.json"

    def snapshot(self) -> dict[str, bytes]:
        """Every file below the root with its content: equal means that nothing was changed."""
        return {str(f.relative_to(self.root)): f.read_bytes() for f in sorted(self.root.rglob("*")) if f.is_file()}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def damage(file: Path, change: Callable[[bytes], bytes], *, stealthy: bool) -> None:
    """Write to a stored file. ``stealthy``: as failing hardware would, without a trace in its time stamps."""
    facts = file.stat()
    file.chmod(0o644)
    file.write_bytes(change(file.read_bytes()))
    file.chmod(stat.S_IMODE(facts.st_mode))
    if stealthy:
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def flip(data: bytes) -> bytes:
    """One bit of the middle byte turned round."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def data_of(count: int, size: int = 100) -> Iterable[bytes]:
    return (f"content {i} ".encode().ljust(size, b".") for i in range(count))
