"""Borg: content-defined chunks in segments. One `borg create` a file; with its default compression and with zstd."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tools.peers.base import CommandPeer, Item, run


class Borg(CommandPeer):
    """Borg with lz4, its default."""

    name = "borg (lz4)"
    command = "borg"
    package = "borgbackup"
    compression: ClassVar[str] = "lz4"

    def environment(self, folder: Path) -> dict[str, str]:
        return {
            **super().environment(folder),
            "BORG_REPO": str(folder / "store"),
            "BORG_BASE_DIR": str(folder / "home"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def create(self, folder: Path) -> None:
        run([self.command, "init", "--encryption", "none"], env=self.environment(folder))

    def add(self, folder: Path, env: dict[str, str], item: Item, number: int) -> None:
        words = [self.command, "create", "--compression", self.compression, f"::n{number}", item.source.name]
        run(words, cwd=item.source.parent, env=env)

    def restore(self, folder: Path, env: dict[str, str], item: Item, number: int, dest: Path) -> None:
        dest.mkdir()
        run([self.command, "extract", f"::n{number}"], cwd=dest, env=env)


class BorgZstd(Borg):
    """Borg with zstd at its default level."""

    name = "borg (zstd)"
    compression = "zstd"
