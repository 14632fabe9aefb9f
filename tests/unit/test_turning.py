"""Chains of differences that are turned round: what is stored then, what reads, what is left alone, and who dies."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.remote import FakeServers
from safetensors.numpy import save

from dreamlake import Session, open_lake
from dreamlake.blobs import check_key
from dreamlake.content import frame, recipe, streams
from dreamlake.content.assembled import find_recipe, part_needs
from dreamlake.content.frame import Kind
from dreamlake.content.names import PARTS, RECIPES, is_part, is_recipe, recipe_keys, twin
from dreamlake.content.recipe import PartRef, Recipe, Segment
from dreamlake.errors import Corrupt
from dreamlake.lake import Lake
from dreamlake.model import session_key
from dreamlake.operations import commit as committing
from dreamlake.operations import turning
from dreamlake.operations.turning import TURN_DEPTH

VALUES = 300_000  # float32: more than the smallest file that is stored as parts
RUN, OTHER = session_key("w", "run"), session_key("w", "other")


@lru_cache
def weights(step: int) -> np.ndarray:
    """Weights that drift a little with every step."""
    random = np.random.default_rng(step)
    if step == 0:
        return random.standard_normal(VALUES).astype(np.float32)
    return weights(step - 1) + np.float32(1e-4) * random.standard_normal(VALUES).astype(np.float32)


@lru_cache
def frozen() -> np.ndarray:
    return np.random.default_rng(1000).standard_normal(20_000).astype(np.float32)


def checkpoint(step: int, note: str = "") -> bytes:
    """A tensor that moves and one that never does; ``note`` changes the file, but not the tensors."""
    return save({"frozen": frozen(), "w": weights(step)}, metadata={"note": note})


@pytest.fixture
def lake(memory_path: Path) -> Lake:
    return open_lake(memory_path / "lake", create=True)


def session(lake: Lake, key: Any = RUN) -> Session:
    return Session(key.name, key.workspace, local_path=lake.root, capture=False)


def put(lake: Lake, *steps: int, key: Any = RUN, note: str = "") -> None:
    with session(lake, key) as run:
        for step in steps:
            run.files().upload(checkpoint(step, note), filename=f"{step}{note}.safetensors", path="/c")


def digest(step: int, note: str = "") -> str:
    return hashlib.sha256(checkpoint(step, note)).hexdigest()


def check(lake: Lake, *steps: int, key: Any = RUN, note: str = "") -> None:
    """These versions come back byte for byte, and nothing that is referenced is damaged."""
    with session(open_lake(lake.root), key) as run:
        for step in steps:
            assert run.files().read_bytes(f"/c/{step}{note}.safetensors") == checkpoint(step, note), step
    assert {finding.kind for finding in lake.verify(deep=True).findings} <= {"orphan"}


def stored(lake: Lake) -> dict[str, int]:
    """Key -> stored bytes of all live copies."""
    return {copy.key: copy.size for copy in lake.store.blobs.copies(seals=False) if copy.batch is None}


def recipes(lake: Lake, *steps: int) -> list[str]:
    """In which slots the recipes of these versions are."""
    keys = stored(lake)
    return ["".join(slot for slot in RECIPES if slot + digest(step) in keys) for step in steps]


def part_of(lake: Lake, step: int, note: str = "", tensor: int = 1) -> str:
    """The part of one of the two tensors (the second is the one that moves), as the recipe names it."""
    return find_recipe(lake.store.blobs, digest(step, note))[1].parts[tensor].key


def depth(lake: Lake, part: str) -> int:
    return max((1 + depth(lake, base) for base, _ in part_needs(lake.store.blobs, part)), default=0)


def depths(lake: Lake, *steps: int) -> list[int]:
    return [depth(lake, part_of(lake, step)) for step in steps]


def blob(lake: Lake, key: str) -> Path:
    return Path(str(lake.root)) / ".dreamlake" / "blobs" / key[-64:-62] / key


def gc(lake: Lake) -> Any:
    return lake.collect(now=True, keep_deleted=0, force=True)


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_the_newest_version_stands_alone_and_the_others_are_differences_to_newer_ones(lake: Lake) -> None:
    steps = range(6)
    put(lake, *steps)
    with session(lake) as run:
        before, records = stored(lake), run.files().list()
        assert depths(lake, *steps) == [0, 1, 2, 3, 4, 5]
        still = part_of(lake, 0, tensor=0)
        done = lake.optimize()
        assert (done.turned_chains, done.turned_versions, done.rebased_parts) == (1, 6, 0)
        assert depths(lake, *steps) == [5, 4, 3, 2, 1, 0]
        for step in steps[:-1]:
            assert {base for base, _ in part_needs(lake.store.blobs, part_of(lake, step))} <= {
                part_of(lake, newer) for newer in steps[step + 1 :]
            }
        assert recipes(lake, *steps) == ["rt-"] * 6
        assert {part_of(lake, step, tensor=0) for step in steps} == {twin(still)}
        check(lake, *steps)
        assert lake.optimize() == dataclasses.replace(done, **_nothing(done))
        assert gc(lake).freed.bytes == done.turned_bytes_before
        assert run.files().list() == records
    after = stored(lake)
    assert {key for key in after if key.startswith(("b3-", "rc-"))} == {still}
    assert after[twin(still)] < 0.02 * after[still]  # only says that it is the same
    assert sum(is_part(key) for key in after) == len(steps) + 2
    assert done.turned_bytes_after == sum(size for key, size in after.items() if key.startswith(("t3-", "rt-")))
    assert sum(after.values()) <= 1.1 * sum(before.values())
    check(lake, *steps)
    assert lake.verify(deep=True).findings == []
    again = lake.optimize()
    assert (again.turned_chains, again.rebased_parts, stored(lake)) == (0, 0, after)


def _nothing(done: Any) -> dict[str, int]:
    return {field.name: 0 for field in dataclasses.fields(done) if field.name != "dry_run"}


def test_it_is_turned_again_once_the_slots_are_free(lake: Lake) -> None:
    put(lake, *range(5))
    assert lake.optimize().turned_versions == 5
    put(lake, *range(5, 5 + TURN_DEPTH))
    steps = range(5 + TURN_DEPTH)
    assert depths(lake, *steps[4:]) == list(range(TURN_DEPTH + 1))
    taken = stored(lake)
    assert lake.optimize().turned_chains == 0
    assert stored(lake) == taken
    gc(lake)
    assert lake.optimize().turned_versions == len(steps)
    assert recipes(lake, *steps) == ["rc-"] * 5 + ["rt-"] * TURN_DEPTH
    assert [part_of(lake, step)[:3] for step in steps] == ["b3-"] * 5 + ["t3-"] * TURN_DEPTH
    assert depths(lake, *steps) == list(reversed(steps))
    check(lake, *steps)
    gc(lake)
    twice = {key: size for key, size in stored(lake).items() if is_part(key) and twin(key) in stored(lake)}
    assert set(twice) == {slot + part_of(lake, 0, tensor=0)[3:] for slot in PARTS}
    assert min(twice.values()) < 0.02 * max(twice.values())  # one is a difference to the other
    assert sum(is_part(key) for key in stored(lake)) == len(steps) + 2
    assert sum(is_recipe(key) for key in stored(lake)) == len(steps)
    check(lake, *steps)


def test_the_next_upload_is_a_difference_to_the_version_that_stands_alone(lake: Lake) -> None:
    put(lake, *range(4))
    lake.optimize()
    gc(lake)
    put(lake, 4)
    assert part_of(lake, 4).startswith("b3-") and depths(lake, 4) == [1]
    assert [base for base, _ in part_needs(lake.store.blobs, part_of(lake, 4))] == [part_of(lake, 3)]
    check(lake, *range(5))


@pytest.mark.parametrize("collected", [True, False])
def test_what_is_stored_in_either_slot_takes_next_to_nothing(lake: Lake, collected: bool) -> None:
    put(lake, *range(4))
    lake.optimize()
    if collected:
        gc(lake)
    before = stored(lake)
    put(lake, *range(4), key=OTHER, note="same")
    new = {key: size for key, size in stored(lake).items() if key not in before}
    assert {key for key in new if is_recipe(key)} == {recipe_keys(digest(step, "same"))[0] for step in range(4)}
    assert sum(new.values()) < 0.02 * sum(before.values())
    put(lake, *range(4), key=OTHER)  # the same files: not even recipes
    assert set(stored(lake)) == set(before) | set(new)
    gc(lake)
    check(lake, *range(4))
    check(lake, *range(4), key=OTHER, note="same")


def test_files_that_share_the_tensors_are_turned_with_them(lake: Lake) -> None:
    put(lake, *range(3))
    put(lake, 2, key=OTHER, note="copy")
    put(lake, 3, 4)
    assert lake.optimize().turned_versions == 6
    assert part_of(lake, 2, "copy") == part_of(lake, 2) == twin("b3-" + part_of(lake, 2)[3:])
    gc(lake)
    assert sum(is_part(key) for key in stored(lake)) == 7
    check(lake, *range(5))
    check(lake, 2, key=OTHER, note="copy")


def test_a_remote_lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeServers().install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    at = {"mongodb": "mongodb://h/lake", "s3": {"bucket": "our-lake"}, "namespace": "ana"}
    with Session("run", "w", remote=at, capture=False) as run:
        for step in range(5):
            run.files().upload(checkpoint(step), filename=f"{step}.safetensors", path="/c")
        lake = open_lake(at)
        assert lake.optimize().turned_versions == 5
        gc(lake)
        assert depths(lake, *range(5)) == [4, 3, 2, 1, 0]
        assert recipes(lake, *range(5)) == ["rt-"] * 5 and sum(is_part(key) for key in stored(lake)) == 7
        for step in range(5):
            assert run.files().read_bytes(f"/c/{step}.safetensors") == checkpoint(step)
        assert lake.verify(deep=True).findings == []


# ---- what is left alone ----------------------------------------------------------------------------------------------


def test_a_dry_run_only_counts(lake: Lake) -> None:
    put(lake, *range(5))
    before, records = stored(lake), len(list(lake.store.catalog.records(RUN)))
    would = lake.optimize(dry_run=True)
    assert stored(lake) == before and len(list(lake.store.catalog.records(RUN))) == records
    done = lake.optimize()
    assert (would.turned_chains, would.turned_versions) == (done.turned_chains, done.turned_versions) == (1, 5)
    assert would.turned_bytes_before == done.turned_bytes_before and would.turned_bytes_after == 0


def test_only_the_sessions_that_are_named(lake: Lake) -> None:
    put(lake, *range(5))
    put(lake, 10, key=OTHER)
    assert lake.optimize(OTHER).turned_chains == 0
    assert recipes(lake, *range(5)) == ["rc-"] * 5
    assert lake.optimize(RUN).turned_chains == 1
    assert recipes(lake, *range(5)) == ["rt-"] * 5
    check(lake, *range(5))


def test_a_shallow_chain_stays_as_it_is(lake: Lake) -> None:
    put(lake, *range(TURN_DEPTH))
    before = stored(lake)
    assert lake.optimize().turned_chains == 0 and stored(lake) == before
    put(lake, TURN_DEPTH)
    assert lake.optimize().turned_chains == 1


def test_deleted_versions_are_not_turned_and_stay_restorable(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "GROWTH", 1.0)
    put(lake, *range(6))
    with session(lake) as run:
        run.files().delete("/c/1.safetensors")
        assert lake.optimize().turned_versions == 5
        lake.collect(now=True, force=True)
        assert recipes(lake, 0, 1, 2) == ["rt-", "rc-", "rt-"]
        run.files().restore("/c/1.safetensors")
    check(lake, *range(6))


def test_a_long_chain_is_cut(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "MAX_VERSIONS", 4)
    monkeypatch.setattr(turning, "GROWTH", 1.0)
    put(lake, *range(7))
    assert lake.optimize().turned_versions == 4
    assert recipes(lake, *range(7)) == ["rc-"] * 3 + ["rt-"] * 4
    assert depths(lake, *range(7)) == [0, 1, 2, 3, 2, 1, 0]
    gc(lake)
    check(lake, *range(7))


@pytest.mark.parametrize("growth", [turning.GROWTH, 1.0])
def test_an_end_that_others_need_stays_and_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch, growth: float) -> None:
    """Turning five of six versions would store another keyframe beside the one that the oldest keeps."""
    monkeypatch.setattr(turning, "GROWTH", growth)
    put(lake, *range(6))
    put(lake, 0, key=OTHER, note="end")
    before = stored(lake)
    end = part_of(lake, 0)
    done = lake.optimize(RUN)
    if growth < 1:
        assert done.turned_chains == 0 and stored(lake) == before
        return
    assert done.turned_versions == 6
    gc(lake)
    assert end in stored(lake) and part_of(lake, 0, "end") == end
    check(lake, *range(6))
    check(lake, 0, key=OTHER, note="end")


def test_differences_of_another_session_keep_what_they_need(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "GROWTH", 1.0)
    put(lake, *range(6))
    put(lake, 2, key=OTHER, note="start")
    put(lake, 30, key=OTHER)
    assert part_of(lake, 2) in {base for base, _ in part_needs(lake.store.blobs, part_of(lake, 30))}
    needed = {part_of(lake, step) for step in (2, 30)} | {part_of(lake, 0, tensor=0)}
    assert lake.optimize(RUN).turned_versions == 6
    gc(lake)  # which stores the part of step 2 without the two that only it still needs
    needed.add("b3-" + part_of(lake, 0)[3:])  # on which the turned one leans
    assert {key for key in stored(lake) if key.startswith("b3-")} == needed
    check(lake, *range(6))
    check(lake, 30, key=OTHER)
    check(lake, 2, key=OTHER, note="start")


# ---- interrupted -----------------------------------------------------------------------------------------------------


class Died(Exception):
    """What a process that dies leaves is what is left when this is raised."""


def fails(monkeypatch: pytest.MonkeyPatch, name: str, number: int, how: Any) -> None:
    """A turn's step of this name returns False, or raises, on its ``number``-th call, and works again after it."""
    home = import_module("dreamlake.operations.commit") if name == "recode" else turning
    real, calls = getattr(home, name), [0]

    def step(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] != number:
            return real(*args)
        if how is False:
            return False
        raise how

    monkeypatch.setattr(home, name, step)


@pytest.mark.parametrize("how", [False, Died()], ids=["refused", "died"])
@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("name", ["recode", "drop_form"])
def test_an_interrupted_turn_is_finished_by_the_next_ones(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, name: str, number: int, how: Any
) -> None:
    """Before a new form is published, or between that and dropping the old one."""
    steps = range(5)
    put(lake, *steps)
    fails(monkeypatch, name, number, how)
    if how is False:
        assert lake.optimize().turned_versions == number - 1
    else:
        with pytest.raises(Died):
            lake.optimize()
    monkeypatch.undo()
    doubled = [step for step, slots in zip(steps, recipes(lake, *steps), strict=True) if slots == "rc-rt-"]
    assert doubled == ([5 - number] if name == "drop_form" else [])
    check(lake, *steps)
    lake.optimize()
    assert not {"rc-rt-", ""} & set(recipes(lake, *steps))
    check(lake, *steps)
    gc(lake)
    lake.optimize()
    assert depths(lake, 4) == [0]
    gc(lake)
    assert max(depths(lake, *steps)) <= 4 and len({key[3:] for key in stored(lake) if is_part(key)}) == 6
    check(lake, *steps)
    assert lake.verify(deep=True).findings == []


def test_of_two_recipes_the_one_that_takes_more_goes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake, *range(5))
    fails(monkeypatch, "drop_form", 5, Died())
    with pytest.raises(Died):
        lake.optimize()
    monkeypatch.undo()
    assert recipes(lake, 0) == ["rc-rt-"] and depths(lake, 0) == [0]
    assert lake.optimize().turned_versions == 0
    assert recipes(lake, *range(5)) == ["rt-"] * 5 and depths(lake, 0) == [4]


def test_a_collection_of_what_an_interrupted_turn_left_keeps_both_forms(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, *range(5))
    fails(monkeypatch, "drop_form", 3, Died())
    with pytest.raises(Died):
        lake.optimize()
    monkeypatch.undo()
    gc(lake)
    assert recipes(lake, *range(5)) == ["rc-", "rc-", "rc-rt-", "rt-", "rt-"]
    check(lake, *range(5))
    with session(lake) as run:
        assert committing.drop_form(
            run.files()._store, RUN, digest(2), len(checkpoint(2)), recipe_keys(digest(2))[1]
        ), "the form that is kept must be complete"
    check(lake, *range(5))


def test_damaged_content_is_not_turned(lake: Lake) -> None:
    put(lake, *range(6))
    lost = blob(lake, part_of(lake, 1))
    lost.rename(Path(str(lake.root)) / "elsewhere")
    assert lake.optimize().turned_chains == 0
    assert recipes(lake, *range(6)) == ["rc-"] * 6
    (Path(str(lake.root)) / "elsewhere").rename(lost)
    assert lake.optimize().turned_chains == 1
    check(lake, *range(6))


# ---- readers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "head"), [(0, 0), (2, 1000), (3, 500_000), (4, 0)])
def test_a_stream_opened_before_reads_on_after_the_old_form_is_gone(lake: Lake, step: int, head: int) -> None:
    put(lake, *range(5))
    with session(lake) as run, run.files().open(f"/c/{step}.safetensors") as stream:
        start = stream.read(head)
        assert lake.optimize().turned_versions == 5
        gc(lake)
        assert not {key for key in stored(lake) if key.startswith("rc-")}
        assert start + stream.read() == checkpoint(step)


@pytest.mark.parametrize("gone", [0, 2, 5])
def test_a_stream_opened_before_reads_on_while_the_old_form_goes(lake: Lake, gone: int) -> None:
    """The old chain down to what is gone, and the new one from there on, are more than may be on top of each other."""
    put(lake, *range(8))
    with session(lake) as run, run.files().open("/c/7.safetensors") as stream:
        old = part_of(lake, gone)
        assert lake.optimize().turned_versions == 8
        blob(lake, old).unlink()
        assert stream.read() == checkpoint(7)


def test_a_part_that_is_only_in_the_other_slot_is_read_and_kept(lake: Lake) -> None:
    put(lake, *range(5))
    lake.optimize()
    lost = part_of(lake, 4)
    blob(lake, lost).unlink()
    check(lake, *range(5))  # the recipe of the newest names it, and differences do
    gc(lake)
    assert {twin(lost), *(base for base, _ in part_needs(lake.store.blobs, twin(lost)))} <= set(stored(lake))
    check(lake, *range(5))
    with session(lake, OTHER) as other:  # a new reference does not rely on that: looks are strict
        other.files().upload(checkpoint(3), filename="m.safetensors")
        assert other.files().read_bytes("m.safetensors") == checkpoint(3)
    check(lake, *range(5))


def test_one_tensor_a_diff_and_why(lake: Lake) -> None:
    put(lake, *range(5))
    lake.optimize()
    gc(lake)
    with session(lake) as run:
        assert run.files().tensor("/c/0.safetensors", "w").tobytes() == weights(0).tobytes()
        assert run.files().tensor("/c/4.safetensors", "frozen").tobytes() == frozen().tobytes()
        assert [row["name"] for row in run.files().tensors("/c/2.safetensors")] == ["frozen", "w"]
    (pair,) = lake.diff("w/run:/c/0.safetensors", "w/run:/c/4.safetensors").changes
    assert pair.tensors is not None
    assert {tensor.name: tensor.change for tensor in pair.tensors} == {"frozen": "same", "w": "changed"}
    part = part_of(lake, 0)
    assert part.startswith("t3-")
    assert {(link.reason, link.path) for link in lake.why(part)} == {("live", "/c/0.safetensors")}
    newest = {link.path for link in lake.why(part_of(lake, 4)[:20])}
    assert newest == {f"/c/{step}.safetensors" for step in range(5)}
    assert {link.path for link in lake.why(digest(3)[:20])} == {"/c/3.safetensors"}
    (row,), total = lake.du(), sum(stored(lake).values())
    assert (row.files, row.stored, row.exclusive) == (5, total, total)
    with session(lake) as run:
        run.files().delete("/c/3.safetensors")
    lake.collect(keep_deleted=0, force=True)
    assert {link.reason for link in lake.why(digest(3)[:20])} == {"trash"}


# ---- between lakes ---------------------------------------------------------------------------------------------------


def test_a_turned_lake_arrives_as_it_is(lake: Lake, memory_path: Path) -> None:
    put(lake, *range(5))
    lake.optimize()
    there = open_lake(memory_path / "there", create=True)
    assert lake.push(there).exit_code == 0  # the old parts, which are not collected yet, stay here
    gc(lake)
    assert stored(there) == stored(lake)
    check(there, *range(5))
    assert there.verify(deep=True).findings == []
    back = open_lake(memory_path / "back", create=True)
    assert back.pull(there).exit_code == 0
    assert stored(back) == stored(lake)


def test_a_lake_that_has_the_chain_as_uploaded_gets_what_newer_versions_need(lake: Lake, memory_path: Path) -> None:
    put(lake, *range(5))
    there = open_lake(memory_path / "there", create=True)
    lake.push(there)
    lake.optimize()
    gc(lake)
    put(lake, 5)
    assert lake.push(there).exit_code == 0
    assert recipes(there, *range(6)) == ["rc-"] * 6
    check(there, *range(6))
    there.optimize()
    gc(there)
    check(there, *range(6))


# ---- names and recipes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", [*RECIPES, *PARTS])
def test_a_twin_has_a_twin(slot: str) -> None:
    key = slot + "0a" * 32
    assert twin(twin(key)) == key != twin(key)
    assert (is_part(key), is_recipe(key)) == (is_part(twin(key)), is_recipe(twin(key)))
    assert is_part(key) != is_recipe(key)


@pytest.mark.parametrize("prefix", ["", "b3-", "t3-", "rc-", "rt-"])
def test_keys_of_every_kind(prefix: str) -> None:
    good = prefix + "0123456789abcdef" * 4
    assert check_key(good) == good
    for bad in (good[:-1], good + "0", good[:-1] + "G", good.upper(), good + "\n", "../" + good, prefix + good[1:]):
        if bad != good:
            with pytest.raises(ValueError, match="not a blob key"):
                check_key(bad)


@pytest.mark.parametrize("prefix", ["r3-", "tc-", "b3", "t3_", "rt-rc-", "b3-t3-", "b4-"])
def test_keys_of_no_kind(prefix: str) -> None:
    with pytest.raises(ValueError, match="not a blob key"):
        check_key(prefix + "0" * 64)


def written(widths: list[int]) -> bytes:
    """A recipe of parts of 8 bytes as SPEC says, with these width bytes, written by hand."""
    rows = [struct.pack("<32sIB8s", bytes([number]) * 32, 8, width, b"label678") for number, width in enumerate(widths)]
    rows += [struct.pack("<Q", 8) for _ in widths]
    rows += [struct.pack("<I", 1 + number) for number in range(len(widths))]
    table = b"".join(rows)
    coded = streams.deflate(table)
    header = {
        "sha256": "ab" * 32, "container": "npz", "splitter": 1, "parts": len(widths), "segments": len(widths),
        "sizes": [len(table), 0, 0], "coded": [len(coded), 0, 0],
    }  # fmt: skip
    return frame.pack(Kind.RECIPE, 8 * len(widths), [coded], header)


def refs(widths: list[int]) -> tuple[PartRef, ...]:
    slots = [PARTS[width >> 7] for width in widths]
    return tuple(
        PartRef(slot + f"{number:02x}" * 32, 8, width & 127, b"label678".hex())
        for number, (slot, width) in enumerate(zip(slots, widths, strict=True))
    )


@pytest.mark.parametrize("widths", [[0, 1, 2, 4, 8], [128, 129, 130, 132, 136], [4, 132, 0, 128]])
def test_recipes_of_parts_in_either_slot(widths: list[int]) -> None:
    segments = tuple(Segment(8 * number, 8, number, 0) for number in range(len(widths)))
    made = Recipe(8 * len(widths), "ab" * 32, "npz", 1, refs(widths), segments, b"")
    assert recipe.decode(written(widths)) == made
    assert recipe.decode(recipe.encode(made)) == made
    assert recipe.encode(made) == written(widths)


@pytest.mark.parametrize("width", [3, 16, 64, 127, 131, 144, 192, 255])
def test_a_width_that_is_none_is_damage(width: int) -> None:
    with pytest.raises(Corrupt, match="elements of"):
        recipe.decode(written([4, width]))
