"""Benchmarks of large files: upload, again, materialize, coded checkpoints, memory.

A function makes its input, alternates the sides and returns the row. Everything that is not the work itself (making
input, removing what a run left) happens between the timed parts.
"""

from __future__ import annotations

from pathlib import Path

from tools.bench import inputs
from tools.bench.harness import SUBJECT, Result, Room, Sample, Side, Target, child
from tools.bench.sides import MIB, loops, materialize, upload


def large_upload(room: Room) -> Result:
    """One large new file, raw, durable."""
    size = room.size(2048, 64) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    result = Result("large-upload", f"upload one new file of {size // MIB} MiB, raw, durable", Target("ratio", 1.15))
    sides = {**loops(room, [source], durable=True), SUBJECT: lambda: upload(room, [source], "raw")}
    return room.alternate(result, sides)


def checkpoints_upload(room: Room) -> Result:
    """Eight checkpoints one after another, raw, each durable before the next."""
    size, folder = room.size(90, 8) * MIB, room.fresh("input")
    sources = [inputs.large_file(folder / f"checkpoint_{n}.pth", size, room.seed + n) for n in range(8)]
    result = Result(
        "checkpoints", f"upload 8 files of {size // MIB} MiB in turn, raw, each durable", Target("ratio", 1.3)
    )
    sides = {**loops(room, sources, durable=True), SUBJECT: lambda: upload(room, sources, "raw")}
    return room.alternate(result, sides)


def coded_upload(room: Room) -> Result:
    """Two versions of a checkpoint with everything on."""
    size = room.size(256, 16) * MIB
    sources = inputs.checkpoints(room.fresh("input"), size, room.seed)
    work = f"upload 2 versions of a checkpoint of {size // MIB} MiB, default encoding, durable"
    result = Result("coded-upload", work, Target("ratio", 1.5))
    sides = {**loops(room, sources, durable=True), SUBJECT: lambda: upload(room, sources, None)}
    return room.alternate(result, sides)


def upload_again(room: Room) -> Result:
    """The same unchanged file again, in a fresh process."""
    size = room.size(2048, 64) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    upload(room, [source], "raw")
    result = Result("again", f"the same unchanged file of {size // MIB} MiB again", Target("seconds", 0.05))
    request = {"lake": str(room.folder / "lake"), "source": str(source), "encoding": "raw"}
    sides: dict[str, Side] = {
        "hash the file (SHA-256)": lambda: child("baselines", "hash", {"source": str(source)}),
        SUBJECT: lambda: child("subject", "upload-open", request),
    }
    return room.alternate(result, sides)


def materialize_large(room: Room) -> Result:
    """One large raw file, copied and verified."""
    return _materialize_large(room, "materialize-large", "copy", Target("ratio", 1.15))


def materialize_link(room: Room) -> Result:
    """One large raw file, as a hard link."""
    return _materialize_large(room, "materialize-link", "hardlink", Target("seconds", 0.05))


def _materialize_large(room: Room, name: str, link: str, target: Target) -> Result:
    size = room.size(2048, 64) * MIB
    source = inputs.large_file(room.fresh("input") / "large.bin", size, room.seed)
    upload(room, [source], "raw")
    result = Result(name, f"materialize one raw file of {size // MIB} MiB, {link}", target)
    return room.alternate(result, {**loops(room, [source], durable=False), SUBJECT: lambda: materialize(room, link, 1)})


def coded_read(room: Room) -> Result:
    """The newest of two coded versions of a checkpoint, read back and verified."""
    size = room.size(256, 16) * MIB
    sources = inputs.checkpoints(room.fresh("input"), size, room.seed)
    upload(room, sources, None)
    work = f"read back the second of two coded checkpoints of {size // MIB} MiB, verified"
    return _read_newest(room, Result("coded-read", work, Target("ratio", 2)), sources)


def coded_newest(room: Room) -> Result:
    """The newest of eight coded versions of a checkpoint after `optimize`, read back and verified."""
    size = room.size(90, 16) * MIB
    sources = inputs.checkpoints(room.fresh("input"), size, room.seed, versions=8)
    upload(room, sources, None)
    child("subject", "optimize", {"lake": str(room.folder / "lake")})
    work = f"read back the newest of 8 coded checkpoints of {size // MIB} MiB after optimize, verified"
    return _read_newest(room, Result("coded-newest", work, Target("ratio", 2)), sources)


def _read_newest(room: Room, result: Result, sources: list[Path]) -> Result:
    def read() -> Sample:
        request = {
            "lake": str(room.folder / "lake"),
            "paths": [f"/{sources[-1].name}"],
            "dest": str(room.fresh("tree")),
        }
        return child("subject", "download", request)

    return room.alternate(result, {**loops(room, sources[-1:], durable=False), SUBJECT: read})


def memory_raw(room: Room) -> Result:
    """Peak memory of a large raw upload."""
    return _memory(room, "memory-raw", "raw", Target("bytes", 128 * MIB))


def memory_coded(room: Room) -> Result:
    """Peak memory of uploading two versions of a large checkpoint with coding."""
    return _memory(room, "memory-coded", None, Target("bytes", 512 * MIB))


def _memory(room: Room, name: str, encoding: str | None, target: Target) -> Result:
    size, folder = room.size(2048, 64) * MIB, room.fresh("input")
    if encoding == "raw":
        sources = [inputs.large_file(folder / "large.bin", size, room.seed)]
    else:
        sources = inputs.checkpoints(folder, size, room.seed)
    result = Result(name, f"peak memory: upload {len(sources)} x {size // MIB} MiB, {encoding or 'coded'}", target)
    first = next(iter(loops(room, sources, durable=True).items()))
    # Memory does not scatter from run to run as times do: one run is enough.
    return room.alternate(result, {first[0]: first[1], SUBJECT: lambda: upload(room, sources, encoding)}, runs=1)
