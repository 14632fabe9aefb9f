"""Hugging Face Xet's client against its own local store (endpoint local://): chunks in compressed xorbs, no network.

One commit a file, as one upload a checkpoint to a hub would make; the chunk index of the store makes later files find
the chunks of earlier ones.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.peers.base import LibraryPeer, drive


class Xet(LibraryPeer):
    """The `hf-xet` wheel with its defaults."""

    name = "Hugging Face Xet (local)"
    packages = ("hf-xet",)
    distribution = "hf-xet"
    module = "tools.peers.xet"


def _ingest(request: dict[str, Any]) -> Callable[[], None]:
    xet = importlib.import_module("hf_xet")
    session, endpoint = xet.XetSession(), "local://" + request["store"]
    # What a hub's repository would keep: the hash that stands for each file.
    pointers = Path(request["store"]) / "pointers.json"

    def work() -> None:
        kept = []
        for source, _, _ in request["items"]:
            with session.new_upload_commit(endpoint=endpoint) as commit:
                handle = commit.start_upload_file(source)
            info = handle.result().xet_info
            kept.append([info.hash, info.file_size])
        pointers.write_text(json.dumps(kept), encoding="utf-8")

    return work


def _read(request: dict[str, Any]) -> Callable[[], None]:
    xet = importlib.import_module("hf_xet")
    session, endpoint = xet.XetSession(), "local://" + request["store"]
    pointers = json.loads((Path(request["store"]) / "pointers.json").read_text(encoding="utf-8"))

    def work() -> None:
        for number, (key, size) in enumerate(pointers):
            with session.new_file_download_group(endpoint=endpoint) as group:
                group.start_download_file(
                    xet.XetFileInfo(key, file_size=size), str(Path(request["dest"]) / str(number))
                )

    return work


if __name__ == "__main__":
    drive(_ingest, _read)
