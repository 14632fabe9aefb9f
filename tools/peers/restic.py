"""restic: content-defined chunks, compressed with zstd and encrypted, in packs. One `restic backup` a file."""

from __future__ import annotations

from pathlib import Path

from tools.peers.base import CommandPeer, Item, run


class Restic(CommandPeer):
    """restic with its defaults (a repository of version 2 compresses by itself)."""

    name = "restic"
    command = "restic"
    package = "restic"
    version_words = ("version",)

    def environment(self, folder: Path) -> dict[str, str]:
        return {
            **super().environment(folder),
            "RESTIC_REPOSITORY": str(folder / "store"),
            "RESTIC_PASSWORD": "measured",
            "RESTIC_CACHE_DIR": str(folder / "home" / "cache"),
        }

    def create(self, folder: Path) -> None:
        run([self.command, "init", "--repository-version", "2"], env=self.environment(folder))

    def add(self, folder: Path, env: dict[str, str], item: Item, number: int) -> None:
        run([self.command, "backup", "--quiet", "--tag", f"n{number}", item.source], env=env)

    def restore(self, folder: Path, env: dict[str, str], item: Item, number: int, dest: Path) -> None:
        run([self.command, "restore", "latest", "--tag", f"n{number}", "--target", dest], env=env)
