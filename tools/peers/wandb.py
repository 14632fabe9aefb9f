"""Weights & Biases offline: one artifact a file, as `wandb.log_artifact` stages it for a later sync."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.peers.base import LibraryPeer, drive


class Wandb(LibraryPeer):
    """wandb in offline mode. Staged artifacts cannot be read back without a server, so only ingest is timed."""

    name = "W&B (offline)"
    packages = ("wandb",)
    distribution = "wandb"
    module = "tools.peers.wandb"
    readable = False


def _ingest(request: dict[str, Any]) -> Callable[[], None]:
    store = request["store"]
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=store, WANDB_DATA_DIR=store)
    wandb = importlib.import_module("wandb")
    tracked = wandb.init(project="measured", dir=store)

    def work() -> None:
        for source, name, _ in request["items"]:
            artifact = wandb.Artifact(Path(name).stem, type="model")
            artifact.add_file(source)
            tracked.log_artifact(artifact)
        tracked.finish()

    return work


def _read(request: dict[str, Any]) -> Callable[[], None]:
    raise RuntimeError("artifacts of an offline run cannot be read back")


if __name__ == "__main__":
    drive(_ingest, _read)
