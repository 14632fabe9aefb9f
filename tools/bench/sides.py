"""What several benchmarks share: the plain loops, and one run of an upload or a materialization."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tools.bench.baselines import LOOPS
from tools.bench.harness import Room, Sample, Side, child, counted

MIB = 1 << 20


def loops(room: Room, sources: list[Path], *, durable: bool) -> dict[str, Side]:
    """The variants of the plain one-pass loop over `sources`, each run into an empty folder."""

    def run(loop: str) -> Sample:
        request = {
            "loop": loop,
            "sources": list(map(str, sources)),
            "dest": str(room.fresh("plain")),
            "durable": durable,
        }
        return child("baselines", "copies", request)

    return {f"plain loop, {loop}": partial(run, loop) for loop in LOOPS}


def upload(room: Room, sources: list[Path], encoding: str | None, path: str = "/") -> Sample:
    """Upload the sources in turn into a new lake in lake/; `encoding` None is the lake's own choice."""
    lake = str(room.fresh("lake"))
    request = {"lake": lake, "sources": list(map(str, sources)), "encoding": encoding, "path": path}
    return child("subject", "upload", request)


def copy_tree(room: Room, source: Path, *, durable: bool) -> Sample:
    """`cp -r` of a folder, with `durable` followed by one sync of the file system."""
    request = {"source": str(source), "dest": str(room.fresh("plain") / "copy"), "durable": durable}
    return child("baselines", "copy-tree", request)


def materialize(room: Room, link: str, files: int) -> Sample:
    """Materialize the lake in lake/, which holds so many files, into an empty folder."""
    request = {"lake": str(room.folder / "lake"), "dest": str(room.fresh("tree")), "link": link}
    return counted("subject", "materialize", request, files)
