"""dreamlake itself, in a process of its own: one `files().upload` a file, read back by `files().download`.

A row an encoding: the default, all content raw, every large file coded, and raw uploads followed by `optimize`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tools.peers.base import LibraryPeer, drive


class Lake(LibraryPeer):
    """dreamlake from this checkout, with the encoding it chooses by itself."""

    name = "dreamlake (default)"
    packages = ()
    distribution = "dreamlake"
    module = "tools.peers.lake"
    options: ClassVar[dict[str, Any]] = {"encoding": None, "optimize": False}

    @property
    def python(self) -> Path:
        return Path(sys.executable)

    def version(self) -> str | None:
        return super().version() or "this checkout"

    def install(self) -> None:
        """Nothing to install: it is this checkout."""


class LakeRaw(Lake):
    """dreamlake with coding turned off."""

    name = "dreamlake (raw)"
    options: ClassVar[dict[str, Any]] = {"encoding": "raw", "optimize": False}


class LakeCoded(Lake):
    """dreamlake coding every large file, containers of tensors or not."""

    name = "dreamlake (coded)"
    options: ClassVar[dict[str, Any]] = {"encoding": "coded", "optimize": False}


class LakeOptimized(Lake):
    """dreamlake after raw uploads and `optimize`; the time of both is the ingest time shown."""

    name = "dreamlake (optimized)"
    options: ClassVar[dict[str, Any]] = {"encoding": "raw", "optimize": True}


def _session(request: dict[str, Any]) -> Any:
    import dreamlake

    return dreamlake.Session("series", "measured", local_path=request["store"])


def _ingest(request: dict[str, Any]) -> Callable[[], None]:
    encoding, optimize = request["options"]["encoding"], request["options"]["optimize"]
    session = _session(request)

    def work() -> None:
        with session:
            for source, name, _ in request["items"]:
                # As the documented training script uploads: the folder in the lake, the name from the file.
                session.files().upload(source, path=f"/{Path(name).parent.as_posix()}", encoding=encoding)
        if optimize:
            import dreamlake

            dreamlake.open_lake(request["store"]).optimize()

    return work


def _read(request: dict[str, Any]) -> Callable[[], None]:
    session = _session(request)

    def work() -> None:
        with session:
            for number, (_, name, _) in enumerate(request["items"]):
                session.files().download(f"/{name}", str(Path(request["dest"]) / str(number)))

    return work


if __name__ == "__main__":
    drive(_ingest, _read)
