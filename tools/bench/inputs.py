"""What the benchmarks work on: files made from a seed, so that two runs measure the same work."""

from __future__ import annotations

import json
import random
import struct
import sysconfig
from pathlib import Path

PIECE_BYTES = 4 << 20


def large_file(target: Path, size_bytes: int, seed: int) -> Path:
    """A file of random bytes: nothing in it compresses or repeats."""
    draw = random.Random(seed)
    with target.open("wb") as stream:
        left = size_bytes
        while left:
            piece = draw.randbytes(min(left, PIECE_BYTES))
            stream.write(piece)
            left -= len(piece)
    return target


def text_folder(folder: Path, count: int, seed: int) -> Path:
    """`count` text files of 1 to 50 KB (most are small), 250 a subfolder, cut from the standard library's sources."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(source.read_bytes() for source in sources)
    draw = random.Random(seed)
    for number in range(count):
        if number % 250 == 0:
            (folder / f"part_{number // 250:04d}").mkdir()
        length = int(1000 * 50 ** draw.random())
        start = draw.randrange(len(text) - length)
        body = b"file %d\n" % number + text[start : start + length]
        (folder / f"part_{number // 250:04d}" / f"note_{number:06d}.txt").write_bytes(body)
    return folder


def tiny_folder(folder: Path, count: int) -> Path:
    """`count` different files of a few bytes, 1,000 a subfolder, the even ones below even/, the odd ones below odd/."""
    for number in range(count):
        parent = folder / ("odd" if number % 2 else "even") / f"{number // 2000:04d}"
        if number % 2000 in (0, 1):
            parent.mkdir(parents=True)
        (parent / f"{number:06d}.txt").write_bytes(b"content of file %d\n" % number)
    return folder


def checkpoints(folder: Path, size_bytes: int, seed: int, versions: int = 2) -> list[Path]:
    """Versions of one safetensors file of fp32 weights: normally distributed, each moved a little from the one before.

    A stand-in with the statistics of fine-tuning for when no real series is at hand (tools.series makes those).
    """
    import numpy

    draw = numpy.random.default_rng(seed)
    rows = 1024
    tensors = max(1, size_bytes // (4 * rows * rows))
    weights = [draw.normal(0, 0.04, (rows, rows)).astype(numpy.float32) for _ in range(tensors)]
    step = 4 * rows * rows
    header = {
        f"layer.{index}.weight": {
            "dtype": "F32",
            "shape": [rows, rows],
            "data_offsets": [index * step, (index + 1) * step],
        }
        for index in range(tensors)
    }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    files = []
    for version in range(versions):
        target = folder / f"model_{version}.safetensors"
        with target.open("wb") as stream:
            stream.write(struct.pack("<Q", len(encoded)) + encoded)
            for index, weight in enumerate(weights):
                moved = weight + draw.normal(0, 1e-4, weight.shape).astype(numpy.float32)
                weights[index] = moved
                stream.write(moved.tobytes())
        files.append(target)
    return files
