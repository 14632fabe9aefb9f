"""Recipes: building, exact validation, random access, and tensors read through them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from content_containers import golden, safetensors
from content_golden import golden_recipe, noise, weights

from dreamlake.content import codecs, frame, recipe, streams
from dreamlake.content.chunking import MIN_FILE, Piece, Plan, PlannedPart, gather, plan_file
from dreamlake.content.containers import Tensor, detect
from dreamlake.content.recipe import Recipe, Segment
from dreamlake.content.tensors import read_tensor
from dreamlake.errors import Corrupt, UnsupportedFormat

ARRAYS = {
    "embed": weights(700_000, 4).view(np.float32).reshape(7000, 100),
    "bias": weights(100, 4).view(np.float32),
    "half": (weights(300_000, 4) >> np.uint32(16)).astype(np.uint16).reshape(3, 100_000),
    "norm": weights(1000, 4).view(np.float32),
}
DATA = safetensors(ARRAYS)


def made(data: bytes = DATA) -> tuple[Recipe, list[memoryview]]:
    plan = plan_file(data)
    assert plan is not None
    plain = [gather(data, part) for part in plan.parts]
    found = recipe.build(plan, [codecs.part_key(p) for p in plain], hashlib.sha256(data).hexdigest(), data)
    assert found is not None
    return found, plain


def test_a_recipe_rebuilds_the_file() -> None:
    found, plain = made()
    assert b"".join(recipe.assemble(found, 0, found.size, plain.__getitem__)) == DATA
    assert recipe.decode(recipe.encode(found)) == found
    assert found.glue.startswith(DATA[:8]) and len(found.glue) < 1000


def test_random_access_touches_only_what_it_needs() -> None:
    found, plain = made()
    places = (noise(400, 4) % np.uint64(found.size + 1)).tolist()
    for start, stop in zip(places[::2], places[1::2], strict=True):
        touched = set()

        def part(number: int, touched: set[int] = touched) -> memoryview:
            touched.add(number)
            return plain[number]

        assert b"".join(recipe.assemble(found, start, stop, part)) == DATA[start:stop]
        assert touched == {s.part for s in found.segments if max(s.start, start) < min(s.start + s.length, stop)} - {-1}
    assert list(found.between(5, 5)) == [] and list(found.between(found.size, found.size + 9)) == []
    assert b"".join(recipe.assemble(found, found.size - 3, found.size + 9, plain.__getitem__)) == DATA[-3:]


def test_a_tensor_is_read_alone() -> None:
    found, plain = made()

    def read(offset: int, length: int) -> bytes:
        return b"".join(recipe.assemble(found, offset, offset + length, plain.__getitem__))

    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert list(tensors) == list(ARRAYS)
    for name in ("embed", "norm", "bias"):
        assert (read_tensor(tensors[name], read).view(np.uint32) == ARRAYS[name].view(np.uint32)).all()
    assert tensors["half"].dtype == "bfloat16" and tensors["half"].shape == (3, 100_000)
    half = read_tensor(tensors["half"], read)
    assert (half.view(np.uint16) == ARRAYS["half"]).all() and half.flags.writeable


def test_tensors_of_a_torch_file_survive_in_the_recipe() -> None:
    layout = detect(golden("odd.pt"))
    assert layout is not None
    plan = Plan("torch", layout.size, (), layout.tensors)
    found = recipe.build(plan, [], "0" * 64, golden("odd.pt"))
    assert found is not None and found.glue == golden("odd.pt")
    again = recipe.decode(recipe.encode(found))
    assert again.tensors == layout.tensors
    transposed = next(tensor for tensor in again.tensors if tensor.name == "transposed")
    assert read_tensor(transposed, lambda at, n: again.glue[at : at + n]).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_tensor_cut_short_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="t: 3 of 4"):
        read_tensor(Tensor("t", "float32", (1,), 0, 4), lambda offset, length: b"123")


def test_parts_that_interleave() -> None:
    data = noise(100, 1).tobytes()
    plan = Plan(
        "test",
        800,
        (
            PlannedPart((Piece(10, 100), Piece(300, 50)), 4, "0" * 16),
            PlannedPart((Piece(120, 100), Piece(700, 100)), 2, "1" * 16),
        ),
    )
    plain = [gather(data, part) for part in plan.parts]
    found = recipe.build(plan, [codecs.part_key(p) for p in plain], "a" * 64, io.BytesIO(data))
    assert found is not None and len(found.segments) == 8
    assert b"".join(recipe.assemble(found, 0, 800, plain.__getitem__)) == data
    assert recipe.decode(recipe.encode(found)) == found


def test_too_much_glue_gives_no_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_file(DATA)
    assert plan is not None
    keys = ["b3-" + "0" * 64] * len(plan.parts)
    monkeypatch.setattr(recipe, "MAX_GLUE", 50)
    assert recipe.build(plan, keys, "0" * 64, DATA) is None
    monkeypatch.undo()
    monkeypatch.setattr(recipe, "MAX_SEGMENTS", 2)
    assert recipe.build(plan, keys, "0" * 64, DATA) is None


def stored_with(**changes: Any) -> bytes:
    return recipe.encode(replace(golden_recipe(), **changes))


BAD: dict[str, dict[str, Any]] = {
    "segments missing": {"segments": golden_recipe().segments[:-1]},
    "no segments": {"segments": ()},
    "larger file": {"size": 1041},
    "glue left over": {"glue": b"x" * 17},
    "part twice": {"segments": (*golden_recipe().segments, Segment(1040, 24, 1, 0)), "size": 1064},
    "unknown part": {"segments": (*golden_recipe().segments[:-1], Segment(640, 400, 2, 0))},
    "empty segment": {"segments": (*golden_recipe().segments, Segment(1040, 0, 1, 0))},
    "bad digest": {"sha256": "F" * 64},
    "long kind": {"container": "x" * 33},
    "splitter": {"splitter": -1},
    "part width": {"parts": (golden_recipe().parts[0]._replace(width=3), golden_recipe().parts[1])},
    "part size": {"parts": (golden_recipe().parts[0]._replace(size=codecs.MAX_PART + 1), golden_recipe().parts[1])},
    "tensor outside": {"tensors": (Tensor("a", "float32", (10,), 1030, 40),)},
    "tensor of another size": {"tensors": (Tensor("a", "float32", (11,), 0, 40),)},
    "tensor type": {"tensors": (Tensor("a", "object", (10,), 0, 40),)},
    "tensor of negative strides": {"tensors": (Tensor("a", "float32", (2, 5), 0, 40, (5, -1)),)},
    "tensor strides that leave it": {"tensors": (Tensor("a", "float32", (2, 5), 0, 40, (50, 1)),)},
    "tensor that repeats itself": {"tensors": (Tensor("a", "float32", (10**9, 10), 0, 40, (0, 1)),)},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_recipes_that_do_not_add_up(changes: dict[str, Any]) -> None:
    stored = stored_with(**changes)
    with pytest.raises(Corrupt):
        recipe.decode(stored)


def reframed(header: dict[str, Any], payload: bytes | None = None) -> bytes:
    stored = recipe.encode(golden_recipe())
    found = frame.parse(stored, len(stored))
    body = stored[found.payload_start :] if payload is None else payload
    return frame.pack(frame.Kind.RECIPE, 1040, [body], {**found.header, **header})


@pytest.mark.parametrize(
    "header",
    [
        {"parts": 1 << 40},
        {"parts": True},
        {"parts": 1},
        {"segments": 6},
        {"sizes": [1, 2]},
        {"sizes": None},
        {"sizes": [1 << 40, 16, 5]},
        {"sizes": [150, 16, -1]},
        {"coded": [1, 1, 1]},
        {"coded": [0, 0, 0]},
        {"sha256": 5},
        {"container": None},
    ],
)
def test_headers_are_not_believed(header: dict[str, Any]) -> None:
    with pytest.raises(Corrupt):
        recipe.decode(reframed(header))


@pytest.mark.parametrize("text", [b"{}", b"[[]]", b"[5]", b"[[1,2,[3],4,5,6]]", b"[" * 100_000, b"\xff"])
def test_lists_of_tensors_that_are_none(text: bytes) -> None:
    stored = recipe.encode(replace(golden_recipe(), tensors=()))
    found = frame.parse(stored, len(stored))
    coded = streams.deflate(text)
    header = {"sizes": [*found.header["sizes"][:2], len(text)], "coded": [*found.header["coded"][:2], len(coded)]}
    with pytest.raises(Corrupt):
        recipe.decode(
            frame.pack(frame.Kind.RECIPE, 1040, [stored[found.payload_start :], coded], {**found.header, **header})
        )


def test_only_recipes_are_recipes() -> None:
    with pytest.raises(Corrupt, match="planes"):
        recipe.decode(frame.pack(frame.Kind.PLANES, 5, [b"x"], {"width": 4}))
    with pytest.raises(Corrupt):
        recipe.decode(b"plain content")
    newer = bytearray(recipe.encode(golden_recipe()))
    newer[12] = 2
    with pytest.raises((UnsupportedFormat, Corrupt)):
        recipe.decode(bytes(newer))


def test_min_file_is_what_the_example_exceeds() -> None:
    assert len(DATA) > MIN_FILE
