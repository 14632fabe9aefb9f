"""DVC: whole files under their MD5. One `dvc add` a file in a project without Git; read back by `dvc checkout`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tools.peers.base import Item, LibraryPeer, run, tree_bytes


class Dvc(LibraryPeer):
    """DVC from PyPI in a venv, driven by its command."""

    name = "DVC"
    packages = ("dvc",)
    distribution = "dvc"
    module = "tools.peers.dvc"

    @property
    def command(self) -> Path:
        """The `dvc` of the venv."""
        return self.python.with_name("dvc")

    def environment(self, folder: Path) -> dict[str, str]:
        return {**super().environment(folder), "DVC_NO_ANALYTICS": "1"}

    def create(self, folder: Path) -> None:
        project = folder / "project"
        project.mkdir()
        run([self.command, "init", "--no-scm", "--quiet"], cwd=project, env=self.environment(folder))
        run([self.command, "config", "core.check_update", "false"], cwd=project, env=self.environment(folder))

    def ingest(self, folder: Path, items: list[Item]) -> float:
        env, seconds = self.environment(folder), 0.0
        for item in items:
            # DVC stores what stands in its project; getting the file there is what the training script does anyway.
            target = folder / "project" / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.source, target)
            start = time.perf_counter()
            run([self.command, "add", "--quiet", item.name], cwd=folder / "project", env=env)
            seconds += time.perf_counter() - start
        return seconds

    def stored_bytes(self, folder: Path) -> int:
        return tree_bytes(folder / "project" / ".dvc")

    def read_back(self, folder: Path, items: list[Item], dest: Path) -> float | None:
        env = self.environment(folder)
        for item in items:
            (folder / "project" / item.name).unlink()
        start = time.perf_counter()
        run([self.command, "checkout", "--quiet"], cwd=folder / "project", env=env)
        seconds = time.perf_counter() - start
        for number, item in enumerate(items):
            shutil.move(folder / "project" / item.name, dest / str(number))
        return seconds
