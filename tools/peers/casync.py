"""casync: content-defined chunks, each a file compressed with zstd. One `casync make` a file."""

from __future__ import annotations

from pathlib import Path

from tools.peers.base import CommandPeer, Item, run


class Casync(CommandPeer):
    """casync on single files (blob indexes), with its default chunk sizes."""

    name = "casync"
    command = "casync"
    package = "casync"

    def add(self, folder: Path, env: dict[str, str], item: Item, number: int) -> None:
        index = folder / "store" / f"{number}.caibx"
        run([self.command, "make", f"--store={folder / 'store' / 'default.castr'}", index, item.source], env=env)

    def restore(self, folder: Path, env: dict[str, str], item: Item, number: int, dest: Path) -> None:
        index = folder / "store" / f"{number}.caibx"
        run([self.command, "extract", f"--store={folder / 'store' / 'default.castr'}", index, dest], env=env)
