"""The splitter: the same tensors give the same parts, whatever stands around them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from content_containers import npz, safetensors
from content_golden import noise, text, weights

from dreamlake.content import cdc, chunking, codecs, matching
from dreamlake.content.chunking import JOINED, MIN_FILE, SMALL, SOLO, SPLIT, TINY, PlannedPart, gather, plan_file
from dreamlake.content.containers import Layout, Run, detect


def parts_of(data: bytes) -> dict[str, int]:
    """Key -> bytes of all parts; checks that the plan is sound."""
    plan = plan_file(data)
    assert plan is not None and plan.size == len(data)
    covered = sorted(piece for part in plan.parts for piece in part.pieces)
    end = 0
    for offset, length in covered:
        assert offset >= end and length > 0
        end = offset + length
    assert end <= len(data)
    assert all(part.size <= codecs.MAX_PART for part in plan.parts)
    assert plan == plan_file(io.BytesIO(data))
    for part in plan.parts:
        assert gather(data, part) == gather(io.BytesIO(data), part)
    return {codecs.part_key(gather(data, part)): part.size for part in plan.parts}


def shared(one: dict[str, int], other: dict[str, int]) -> float:
    """Share of the bytes of ``one`` that ``other`` has, too."""
    return sum(size for key, size in one.items() if key in other) / sum(one.values())


def model(layers: int, hidden: int, seed: int = 1) -> dict[str, Any]:
    """Weights as a transformer has them: matrices, with biases and norms between."""
    made: dict[str, Any] = {"embed": weights(hidden * 3000, 4, seed).view(np.float32).reshape(3000, hidden)}
    for i in range(layers):
        for j, name in enumerate("qkvo"):
            made[f"layers.{i}.{name}.weight"] = weights(hidden * hidden, 4, seed + 10 * i + j).view(np.float32)
            made[f"layers.{i}.{name}.bias"] = weights(hidden, 4, seed + 10 * i + j + 4).view(np.float32)
        made[f"layers.{i}.ff"] = weights(4 * hidden * hidden, 4, seed + 10 * i + 8).view(np.float32)
    return made


@pytest.mark.parametrize("hidden", [192, 256, 512])
def test_the_same_tensors_beside_others_are_the_same_parts(hidden: int) -> None:
    weights_only = model(3, hidden)
    moments = {f"z.optimizer.{name}": array[::-1].copy() for name, array in weights_only.items()}
    alone = parts_of(safetensors(weights_only, {"format": "pt", "name": "a" * 100}))
    assert shared(alone, parts_of(safetensors(weights_only))) == 1
    assert shared(alone, parts_of(safetensors({**weights_only, **moments}))) > 0.97
    assert shared(alone, parts_of(npz(**weights_only))) == 1


def test_torch_files_under_another_name_and_beside_optimizer_state() -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array.copy()) for name, array in model(3, 256).items()}
    moments = {i: {"step": torch.tensor(3.0), "exp_avg": value * 2} for i, value in enumerate(state.values())}

    def saved(value: Any, name: str) -> bytes:
        file = io.BytesIO()
        file.name = name  # torch takes the stem of every entry from it
        torch.save(value, file)
        return file.getvalue()

    alone = parts_of(saved(state, "checkpoint_epoch_10.pth"))
    assert shared(alone, parts_of(saved(state, "best_model.pth"))) == 1
    assert shared(alone, parts_of(saved({"epoch": 1, "model": state, "optimizer": {"state": moments}}, "x.pt"))) == 1
    assert shared(alone, parts_of(saved({"optimizer": {"state": moments}, "model": state}, "x.pt"))) == 1


def planned(*runs: Run) -> tuple[PlannedPart, ...]:
    size = max(run.offset + run.length for run in runs)
    plan = chunking.plan_layout(Layout("test", size, runs))
    assert plan is not None
    return plan.parts


def back_to_back(*lengths: int, width: int = 4, groups: str = "") -> list[Run]:
    runs, at = [], 0
    for i, length in enumerate(lengths):
        runs.append(Run(at, length, width, f"t{i}", groups[i : i + 1]))
        at += length
    return runs


def test_large_runs_are_cut_at_fixed_offsets() -> None:
    parts = planned(*back_to_back(2 * SPLIT + 5 * SOLO, 3 * SOLO))
    assert [part.size for part in parts] == [SPLIT, SPLIT, 5 * SOLO, 3 * SOLO]
    assert len({part.label for part in parts}) == 4


def test_middling_runs_are_joined_until_a_border() -> None:
    half = SOLO // 2
    assert [part.size for part in planned(*back_to_back(*[half] * 20))] == [JOINED, JOINED, 20 * half - 2 * JOINED]
    assert [part.size for part in planned(*back_to_back(half, half, SOLO, half))] == [SOLO, SOLO, half]
    assert [part.size for part in planned(*back_to_back(*[half] * 5, groups="aabbb"))] == [SOLO, 3 * half]


def test_small_runs_are_joined_across_large_ones() -> None:
    parts = planned(*back_to_back(SOLO, SMALL - 4, SOLO, SMALL - 4, SOLO))
    small = next(part for part in parts if len(part.pieces) == 2)
    assert small.size == 2 * SMALL - 8 and [part.size for part in parts].count(SOLO) == 3


def test_tiny_runs_are_glue() -> None:
    parts = planned(*back_to_back(SOLO, TINY - 1, SOLO))
    assert sum(part.size for part in parts) == 2 * SOLO


def test_widths_do_not_mix() -> None:
    runs = back_to_back(*[SOLO // 4] * 8)
    mixed = [run._replace(width=8 if i % 2 else 4) for i, run in enumerate(runs)]
    assert sorted((part.width, part.size) for part in planned(*mixed)) == [(4, SOLO), (8, SOLO)]


def test_large_gaps_become_parts() -> None:
    runs = [Run(5 * SMALL, 2 * SOLO, 4), Run(5 * SMALL + 2 * SOLO + 100, SOLO, 4)]
    parts = planned(*runs)
    assert parts[0].pieces[0] == (0, 5 * SMALL) and parts[0].width == 0
    assert len(parts) == 3


def test_small_files_and_files_with_few_numbers_are_not_split() -> None:
    assert plan_file(safetensors({"a": np.zeros(1000, np.float32)})) is None
    assert chunking.plan_layout(Layout("test", 10 * MIN_FILE, (Run(0, 2 * MIN_FILE, 4),))) is None
    assert plan_file(b"") is None


def test_a_file_of_numbers_is_cut_at_fixed_places() -> None:
    data = b"header of another format" + weights(SPLIT // 4 + 300_000, 4).tobytes()
    plan = plan_file(data)
    assert plan is not None and plan.kind == "numbers"
    assert [part.size for part in plan.parts] == [SPLIT, len(data) - SPLIT] and {p.width for p in plan.parts} == {4}


def test_other_files_are_cut_by_content() -> None:
    data = noise(1 << 20, 1).tobytes() + text(20_000)
    plan = plan_file(data)
    assert plan is not None and plan.kind == "bytes" and {part.width for part in plan.parts} == {0}
    assert sum(part.size for part in plan.parts) == len(data)
    sizes = [part.size for part in plan.parts]
    assert len(sizes) > 4 and max(sizes) <= cdc.MAX and min(sizes[:-1]) >= cdc.MIN


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "prepended": lambda data: b"a new first line\n" + data,
    "appended": lambda data: data + b"a new last line\n" * 5000,
    "inserted": lambda data: data[: len(data) // 2] + b"in the middle" + data[len(data) // 2 :],
    "removed": lambda data: data[:1000] + data[1500:],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("kind", ["noise", "text"])
def test_an_edit_changes_few_parts(kind: str, edit: Callable[[bytes], bytes]) -> None:
    data = noise(2 << 20, 3).tobytes() if kind == "noise" else text(600_000)
    assert shared(parts_of(data), parts_of(edit(data))) > 0.7


def slow_candidates(data: bytes) -> list[int]:
    """The definition, place by place."""
    found = []
    for i in range(cdc.WINDOW, len(data) + 1):
        if (3 * data[i - 1] + 5 * data[i - 2] + 7 * data[i - 3] + 11 * data[i - 4]) % 256 == 29:
            words = [int.from_bytes(data[i - 32 + 8 * k : i - 24 + 8 * k], "little") for k in range(4)]
            factors = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
            total = sum(word * factor for word, factor in zip(words, factors, strict=True)) % (1 << 64)
            if total >> 52 == 0:
                found.append(i)
    return found


def test_candidates_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(1 << 19, 8).tobytes()
    (place,) = cdc.candidates(data)[:1]
    near = data[max(0, place - 3000) : place + 3000]
    assert slow_candidates(near) == cdc.candidates(near) != []
    whole = cdc.candidates(data)
    monkeypatch.setattr(cdc, "_PIECE", 5000)
    assert cdc.candidates(data) == whole


def test_places_do_not_depend_on_how_the_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(1 << 17, 9).tobytes()
    whole = parts_of(data)
    monkeypatch.setattr(chunking, "_READ", 100_003)
    assert parts_of(data) == whole


@pytest.mark.parametrize("byte", [0, 1, 32, 255])
def test_constant_content_is_cut_at_the_limits(byte: int) -> None:
    data = bytes([byte]) * (9 << 20)
    plan = plan_file(data)
    assert plan is not None and all(cdc.MIN <= part.size <= cdc.MAX for part in plan.parts[:-1])


def test_cuts() -> None:
    assert list(cdc.cuts(iter([]), 0)) == []
    assert list(cdc.cuts(iter([10, cdc.MIN, cdc.MIN + 5]), cdc.MIN + 10)) == [cdc.MIN, cdc.MIN + 10]
    assert list(cdc.cuts(iter([2 * cdc.MAX + 5]), 3 * cdc.MAX)) == [cdc.MAX, 2 * cdc.MAX, 3 * cdc.MAX]


def test_labels_find_the_earlier_version() -> None:
    old = plan_file(safetensors(model(2, 256)))
    new = plan_file(safetensors({**model(2, 256, seed=50), "new": np.zeros(1 << 19, np.float32)}))
    assert old is not None and new is not None
    pairs = matching.match(new.parts, old.parts)
    assert sorted(i for i in pairs if i is not None) == list(range(len(old.parts)))
    for part, number in zip(new.parts, pairs, strict=True):
        assert number is None or old.parts[number].label == part.label


def part(size: int, width: int = 4, label: str = "") -> PlannedPart:
    return PlannedPart((chunking.Piece(0, size),), width, label)


def test_matching_without_labels() -> None:
    old = [part(5, label="a"), part(5, label="b"), part(7, label="c")]
    assert matching.match([part(5, label="x"), part(7, label="y"), part(5, label="z")], old) == [0, 2, 1]
    assert matching.match([part(5, label="b"), part(5, label="n")], old) == [1, 0]
    assert matching.match([part(5, 8, label="a")], old) == [None]
    assert matching.match([], old) == []
    grown = [part(5, label="a"), part(5, label="b"), part(9, label="c2")]
    assert matching.match(grown, old) == [0, 1, 2]
    assert matching.match([part(6, label="first")], [part(5, label="old")]) == [0]


def test_layouts_of_containers_and_plans_agree() -> None:
    data = safetensors(model(1, 256))
    layout, plan = detect(data), plan_file(data)
    assert layout is not None and plan is not None and plan.tensors == layout.tensors and plan.kind == "safetensors"
