"""The baseline: a plain store in a few lines, which hashes while it copies, names the copy by its hash and syncs it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.peers.base import LibraryPeer, drive

PIECE_BYTES = 1 << 20


class Plain(LibraryPeer):
    """Whole-file addressing by SHA-256, one pass, one fsync a file."""

    name = "plain copy + SHA-256"
    packages = ()
    distribution = ""
    module = "tools.peers.plain"

    @property
    def python(self) -> Path:
        return Path(sys.executable)

    def version(self) -> str | None:
        return "baseline"

    def install(self) -> None:
        """Nothing to install."""


def copy(source: str | Path, target: str | Path, *, durable: bool) -> str:
    """Copy a file and return the SHA-256 of what was copied; `durable` adds one fsync."""
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as reader, open(target, "wb", buffering=0) as writer:
        while piece := reader.read(PIECE_BYTES):
            digest.update(piece)
            writer.write(piece)
        if durable:
            os.fsync(writer.fileno())
    return digest.hexdigest()


def _ingest(request: dict[str, Any]) -> Callable[[], None]:
    store = Path(request["store"])

    def work() -> None:
        for source, _, _ in request["items"]:
            staged = store / "staged"
            os.rename(staged, store / copy(source, staged, durable=True))

    return work


def _read(request: dict[str, Any]) -> Callable[[], None]:
    store, dest = Path(request["store"]), Path(request["dest"])

    def work() -> None:
        for number, (_, _, sha256) in enumerate(request["items"]):
            if copy(store / sha256, dest / str(number), durable=False) != sha256:
                raise ValueError(f"{sha256} is damaged")

    return work


if __name__ == "__main__":
    drive(_ingest, _read)
