"""Damaged and hostile input: parsers give up, decoders say Corrupt; nothing else ever happens."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamlake.content import codecs, frame, recipe, streams
from dreamlake.content.containers import detect, pickles
from dreamlake.content.containers.source import Odd
from dreamlake.content.tensors import read_tensor
from dreamlake.errors import Corrupt, UnsupportedFormat

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "content"
CONTAINERS = {file.name: file.read_bytes() for file in sorted((GOLDEN / "containers").iterdir())}
STORED = {file.stem: file.read_bytes() for file in sorted(GOLDEN.glob("*.bin"))}
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
MEMORY = 64 << 20  # bytes that handling a few kilobytes of hostile input may take at most

arrays = {"a": np.arange(300, dtype=np.float32).tobytes(), "b": bytes(64)}
text = json.dumps(
    {
        "a": {"dtype": "F32", "shape": [300], "data_offsets": [0, 1200]},
        "b": {"dtype": "U8", "shape": [64], "data_offsets": [1200, 1264]},
    }
).encode()
CONTAINERS["made.safetensors"] = len(text).to_bytes(8, "little") + text + b"".join(arrays.values())


@st.composite
def damaged(draw: st.DrawFn, originals: dict[str, bytes]) -> tuple[str, bytes]:
    """One of the originals with bytes changed, cut, repeated, or 32-bit and 64-bit fields set to extremes."""
    name = draw(st.sampled_from(sorted(originals)))
    data = bytearray(originals[name])
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["flip", "byte", "field", "cut", "remove", "insert", "copy"]))
        if kind == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            data[at] = draw(st.integers(0, 255))
        elif kind == "field":
            size = draw(st.sampled_from([2, 4, 8]))
            value = draw(st.sampled_from([0, 1, 0x7F, 0xFF, (1 << 8 * size) - 1, 1 << (8 * size - 1), len(data), at]))
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == "cut":
            del data[at:]
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 50))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=50))
        else:
            end = min(len(data), at + draw(st.integers(1, 100)))
            data[at:at] = data[at:end]
    return name, bytes(data)


def use(data: bytes) -> None:
    """What reading a container leads to: every tensor that was found must be readable."""
    layout = detect(data)
    if layout is None:
        return
    end = 0
    for run in layout.runs:
        assert run.offset >= end and run.length > 0
        end = run.offset + run.length
    assert end <= len(data)
    for tensor in layout.tensors:
        read_tensor(tensor, lambda offset, length: data[offset : offset + length])


@QUICK
@given(damaged(CONTAINERS))
def test_damaged_containers(case: tuple[str, bytes]) -> None:
    use(case[1])


@settings(QUICK, max_examples=300)
@given(
    st.sampled_from(
        [
            b"",
            b"PK\x03\x04",
            b"\x93NUMPY\x01\x00",
            b"GGUF\x03\x00\x00\x00",
            b"\x89HDF\r\n\x1a\n\x00",
            b"\x60" + bytes(7) + b"{",
        ]
    ),
    st.binary(max_size=600),
)
def test_noise_behind_a_known_beginning(head: bytes, rest: bytes) -> None:
    use(head + rest)


@settings(QUICK, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [bytes([c]) for c in b"}](.)NKQRbtuseaqhX\x85\x86\x87\x81\x88\x93\x94c0"]
            + [
                b"ctorch\nFloatStorage\n",
                b"X\x07\x00\x00\x00storage",
                b"ctorch._utils\n_rebuild_tensor_v2\n",
                b"ccollections\nOrderedDict\n",
            ]
        ),
        max_size=60,
    )
)
def test_any_pickle_program(program: list[bytes]) -> None:
    try:
        found = pickles.scan(b"\x80\x02" + b"".join(program) + b".")
    except Odd:
        return
    assert isinstance(found, list)


def decode(name: str, data: bytes) -> None:
    try:
        if name == "recipe":
            recipe.decode(data)
        else:
            size = SIZES[name]
            codecs.decode_part(data, size, lambda key, base_size: bytes(base_size))
            codecs.base_of(data)
    except (Corrupt, UnsupportedFormat):
        pass


SIZES = {name: frame.parse(data, len(data)).plain_size for name, data in STORED.items()}


@settings(QUICK, max_examples=400)
@given(damaged(STORED))
def test_damaged_stored_forms(case: tuple[str, bytes]) -> None:
    decode(*case)


@st.composite
def damaged_inside(draw: st.DrawFn) -> tuple[str, bytes]:
    """Damage behind a frame that is whole, so that it reaches the decoders."""
    name = draw(st.sampled_from(sorted(STORED)))
    found = frame.parse(STORED[name], len(STORED[name]))
    _, payload = draw(damaged({name: STORED[name][found.payload_start :]}))
    header = dict(found.header)
    if header and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(header)))
        header[key] = draw(st.sampled_from([0, -1, 1 << 70, 1 << 20, None, "x", [], {}, True, 1.5, [1, 2, 3], 2, 8]))
    return name, frame.pack(found.kind, found.plain_size, [payload], header)


@settings(QUICK, max_examples=600)
@given(damaged_inside())
def test_damage_behind_a_whole_frame(case: tuple[str, bytes]) -> None:
    decode(*case)


@settings(QUICK, max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 5000))
def test_any_bytes_as_a_stream(data: bytes, size: int) -> None:
    try:
        found, end = streams.unpack(memoryview(data), 0, size)
    except Corrupt:
        return
    assert len(found) == size and end <= len(data)


@pytest.mark.parametrize("name", sorted(STORED))
def test_claims_do_not_allocate(name: str) -> None:
    found = frame.parse(STORED[name], len(STORED[name]))
    lies = [frame.pack(found.kind, 1 << 40, [STORED[name][found.payload_start :]], found.header)]
    for key in ("sizes", "parts", "segments", "base_size"):
        if key in found.header:
            lie = [1 << 25] * 3 if key == "sizes" else 1 << 19
            lies.append(
                frame.pack(
                    found.kind, found.plain_size, [STORED[name][found.payload_start :]], {**found.header, key: lie}
                )
            )
    tracemalloc.start()
    try:
        for data in lies:
            decode(name, data)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
