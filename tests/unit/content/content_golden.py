"""Content of the golden files in tests/golden/content, and how they were made.

    python tests/unit/content/content_golden.py     writes what is missing, never what is there

A golden file is for ever: whatever a release has stored, every later one must read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from dreamlake.content import blocks, codecs, frame, kernels, recipe
from dreamlake.content.blocks import Past, Way
from dreamlake.content.codecs import Base, Known
from dreamlake.content.containers import Tensor
from dreamlake.content.frame import Kind
from dreamlake.content.recipe import PartRef, Recipe, Segment

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "content"
INDEX = FOLDER / "index.json"


def noise(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Well-mixed 64-bit words that every version of NumPy makes the same (splitmix64)."""
    z = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def weights(count: int, width: int, seed: int = 1) -> Any:
    """Words like those of trained weights: random signs and mantissas, few exponents."""
    h = noise(count, seed)
    low = sum(((h >> np.uint64(40)) & np.uint64((1 << k) - 1) == 0).astype(np.uint64) for k in range(1, 7))
    exponent_bits, mantissa_bits, top = {1: (4, 3, 8), 2: (8, 7, 121), 4: (8, 23, 121), 8: (11, 52, 1016)}[width]
    sign = (h & np.uint64(1)) << np.uint64(exponent_bits + mantissa_bits)
    exponent = (np.uint64(top) - np.minimum(low, np.uint64(top))) << np.uint64(mantissa_bits)
    mantissa = (h >> np.uint64(8)) & np.uint64((1 << mantissa_bits) - 1)
    return (sign | exponent | mantissa).astype(f"<u{width}")


def moved(words: Any, seed: int, bits: int = 9) -> Any:
    """The weights after an optimizer's steps: each moved by about the same amount, whatever its exponent."""
    width = words.dtype.itemsize
    shift = {2: 7, 4: 23, 8: 52}[width]
    exponent = ((words >> shift) & words.dtype.type(255)).astype(np.int64)
    drop = np.maximum(0, exponent - exponent.min())
    h = noise(len(words), seed).astype(np.int64)
    step = ((h & ((1 << bits) - 1)) - (1 << (bits - 1))) >> drop
    return (words.astype(np.uint64) + step.astype(np.uint64)).astype(words.dtype)


def text(count: int, seed: int = 0) -> bytes:
    """Lines as a log or table holds them."""
    values = noise(count, 7 + seed) % np.uint64(1000)
    return b"".join(b"step=%d,loss=0.%03d,rate=0.001\n" % (i, value) for i, value in enumerate(values.tolist()))


COUNT = 40_000


def plain_of(name: str) -> bytes:
    """The plain content behind a golden name."""
    if name == "raw-framed":
        return frame.MAGIC + b"content that begins like a frame"
    if name == "zstd":
        return text(2000)
    if name == "zstd-history":
        return text(2000).replace(b"step=77,", b"step=seventy-seven,")
    if name.startswith("planes"):
        width = int(name[-1])
        return weights(5000, width).tobytes() + b"tail"[: width - 1]
    base = weights(COUNT, 2 if name == "trend-2" else 4)
    if name in ("difference-4", "ordered-4"):
        return moved(base, 3).tobytes()
    if name == "extrapolation-4":
        return moved(moved(base, 3, 14), 3, 14).tobytes()
    if name == "trend-2":
        return moved(moved(base, 3, 4), 5, 4).tobytes()
    if name == "sparse-4":
        changed = weights(COUNT, 4)
        changed[::40] += np.uint32(3)
        return changed.tobytes()
    assert name in ("verbatim", "recipe"), name
    return text(500)


def _forced(name: str, width: int, way: Way, base: Base) -> bytes:
    """A stored form made in one given way, so that the golden files cover every way."""
    words = kernels.as_words(plain_of(name), width)
    before = None if base.before is None else kernels.as_words(base.before.plain, width)
    payload: list[bytes] = []
    blocks.encode_block(words, Past(kernels.as_words(base.plain, width), before), way, payload)
    header = {"width": width, "base": base.key, "base_size": len(base.plain), "depth": base.depth + 1}
    if way.needs > 1 and base.before is not None:
        header |= {"before": base.before.key, "before_size": len(base.before.plain)}
    return frame.pack(Kind.DIFFERENCE, words.nbytes, payload, header)


def base_of(name: str) -> Base:
    """The base that a golden stored form refers to."""
    if name == "zstd-history":
        return Base(codecs.part_key(text(2000)), text(2000))
    first = weights(COUNT, 2 if name == "trend-2" else 4)
    if name in ("extrapolation-4", "trend-2"):
        second = moved(first, 3, 14 if name == "extrapolation-4" else 4).tobytes()
        return Base(codecs.part_key(second), second, 1, Known(codecs.part_key(first.tobytes()), first.tobytes()))
    return Base(codecs.part_key(first.tobytes()), first.tobytes())


def golden_recipe() -> Recipe:
    """A recipe with every kind of segment, and tensors."""
    key = "b3-" + bytes(range(32)).hex()
    parts = (PartRef(key, 1000, 4, "0123456789abcdef"), PartRef("b3-" + "ab" * 32, 24, 0, "f" * 16))
    segments = (
        Segment(0, 10, -1, 0),
        Segment(10, 600, 0, 0),
        Segment(610, 6, -1, 10),
        Segment(616, 24, 1, 0),
        Segment(640, 400, 0, 600),
    )
    tensors = (Tensor("a.weight", "float32", (10, 15), 10, 600), Tensor("b", "bfloat16", (3, 2), 640, 12, (1, 3)))
    return Recipe(1040, "5" * 64, "torch", 1, parts, segments, b"glue glue sixty!", tensors)


MAKERS: dict[str, Callable[[], bytes]] = {
    "raw-framed": lambda: bytes(codecs.encode_part(plain_of("raw-framed"), 0).stored),
    "zstd": lambda: bytes(codecs.encode_part(plain_of("zstd"), 0).stored),
    "zstd-history": lambda: bytes(codecs.encode_part(plain_of("zstd-history"), 0, base_of("zstd-history")).stored),
    "planes-1": lambda: bytes(codecs.encode_part(plain_of("planes-1"), 1).stored),
    "planes-2": lambda: bytes(codecs.encode_part(plain_of("planes-2"), 2).stored),
    "planes-4": lambda: bytes(codecs.encode_part(plain_of("planes-4"), 4).stored),
    "planes-8": lambda: bytes(codecs.encode_part(plain_of("planes-8"), 8).stored),
    "verbatim": lambda: bytes(codecs.encode_part(plain_of("verbatim"), 4).stored),
    "difference-4": lambda: _forced("difference-4", 4, Way(blocks.DIFFERENCE), base_of("difference-4")),
    "ordered-4": lambda: _forced("ordered-4", 4, Way(blocks.DIFFERENCE | blocks.ORDERED, 23), base_of("ordered-4")),
    "extrapolation-4": lambda: _forced(
        "extrapolation-4", 4, Way(blocks.EXTRAPOLATION, 0, 12), base_of("extrapolation-4")
    ),
    "trend-2": lambda: _forced(
        "trend-2", 2, Way(blocks.DIFFERENCE | blocks.ORDERED | blocks.TREND, 7), base_of("trend-2")
    ),
    "sparse-4": lambda: _forced("sparse-4", 4, Way(blocks.DIFFERENCE), base_of("sparse-4")),
    "recipe": lambda: recipe.encode(golden_recipe()),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    for name, make in MAKERS.items():
        file = FOLDER / f"{name}.bin"
        if not file.exists():
            file.write_bytes(make())
            index[name] = {"zstd": list(zstandard.ZSTD_VERSION), "plain": codecs.part_key(plain_of(name))}
    INDEX.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
