"""Repair: heals from wherever the right bytes are, keeps the bad ones, drops nothing, and says what is left."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upkeep_support import OTHER, RUN, World, damage, data_of, digest, flip

from dreamlake.content import reading
from dreamlake.content.names import recipe_key
from dreamlake.errors import Corrupt, NotFound
from dreamlake.lake import open_lake
from dreamlake.operations import tree
from dreamlake.operations.repair import repair
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.operations.verify import verify


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "lake")


def read(world: World, data: bytes) -> bytes:
    return reading.read_all(world.store.blobs, digest(data), len(data))


def quarantine(world: World) -> list[bytes]:
    return [file.read_bytes() for file in sorted((world.root / ".dreamlake" / "quarantine").iterdir())]


def cut(data: bytes) -> bytes:
    return data[:-1]


DATA = b"weights of some model, two hundred bytes or so".ljust(200, b".")
HARMS = {
    "missing": lambda file: file.unlink(),
    "cut": lambda file: damage(file, cut, stealthy=True),
    "written to": lambda file: damage(file, flip, stealthy=False),
    "bit rot": lambda file: damage(file, flip, stealthy=True),
}


@pytest.fixture(params=HARMS)
def harmed(world: World, request: pytest.FixtureRequest) -> tuple[World, str]:
    version = world.upload("/m.pth", DATA)
    harm: Callable[[Path], Any] = HARMS[request.param]
    harm(world.blob(version.digest))
    return world, request.param


# ---- sources -----------------------------------------------------------------------------------------------------


def test_from_a_folder_of_files_by_content(harmed: tuple[World, str], tmp_path: Path) -> None:
    world, harm = harmed
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "deep" / "whatever.bin").write_bytes(DATA)
    (tmp_path / "files" / "same size.bin").write_bytes(flip(DATA))
    os.mkfifo(tmp_path / "files" / "fifo")
    plan = repair(world.store, deep=True, folders=[str(tmp_path / "files")], dry_run=True)
    assert plan.healed == [(digest(DATA), str(tmp_path / "files" / "deep" / "whatever.bin"))]
    report = repair(world.store, deep=True, folders=[str(tmp_path / "files")])
    assert report.healed == plan.healed and report.left == [] and report.exit_code == 0
    assert read(world, DATA) == DATA
    assert verify(world.store, deep=True).exit_code == 0
    bad = {"missing": [], "cut": [cut(DATA)], "written to": [flip(DATA)], "bit rot": [flip(DATA)]}[harm]
    assert quarantine(world) == bad


def test_from_another_lake(harmed: tuple[World, str], tmp_path: Path) -> None:
    world, _ = harmed
    other = World(tmp_path / "other")
    other.upload("/some/where.bin", DATA)
    report = repair(world.store, deep=True, lakes=[other.store])
    assert report.healed == [(digest(DATA), f"lake {other.root}")]
    assert read(world, DATA) == DATA and verify(world.store, deep=True).exit_code == 0


def test_from_the_trash(harmed: tuple[World, str]) -> None:
    world, harm = harmed
    blob = world.blob(digest(DATA))
    condemned = blob.with_name(blob.name + "~20200101T000000Z-x")
    condemned.write_bytes(DATA)
    os.utime(condemned, (1, 1))
    report = repair(world.store, deep=True)
    assert len(report.healed) == 1 and "trash" in report.healed[0][1] and report.left == []
    assert read(world, DATA) == DATA
    world.collect(now=True)
    assert world.names() == [digest(DATA)] and verify(world.store, deep=True).exit_code == 0
    assert len(quarantine(world)) == (0 if harm == "missing" else 1)


def test_from_the_lakes_own_materialized_tree(harmed: tuple[World, str]) -> None:
    world, _ = harmed
    (world.root / "vision" / "run-1" / "files").mkdir(parents=True)
    (world.root / "vision" / "run-1" / "files" / "m.pth").write_bytes(DATA)
    assert len(repair(world.store, deep=True).healed) == 1
    assert read(world, DATA) == DATA


def test_a_damaged_source_heals_nothing(harmed: tuple[World, str], tmp_path: Path) -> None:
    world, _ = harmed
    other = World(tmp_path / "other")
    version = other.upload("/m.pth", DATA)
    damage(other.blob(version.digest), flip, stealthy=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "m.pth").write_bytes(flip(DATA))
    before = other.snapshot()
    report = repair(world.store, deep=True, lakes=[other.store], folders=[str(tmp_path / "files")])
    assert report.healed == [] and len(report.left) == 1 and report.exit_code == 5
    assert other.snapshot() == before
    assert list((world.root / ".dreamlake" / "tmp").iterdir()) == []


# ---- what cannot be healed ---------------------------------------------------------------------------------------


def test_without_a_source_it_is_reported_nothing_is_dropped_and_an_upload_heals_it(harmed: tuple[World, str]) -> None:
    world, harm = harmed
    report = repair(world.store, deep=True)
    (left,) = report.left
    assert left.where == digest(DATA) and left.affected == ("vision/run-1:/m.pth@v1",) and report.exit_code == 5
    assert [v.digest for v in tree.history(world.store.catalog.view(RUN), "/m.pth")] == [digest(DATA)]
    with pytest.raises(NotFound if harm == "missing" else Corrupt):
        read(world, DATA)
    world.upload("/again.pth", DATA)  # even bit rot that left no trace: it is no longer trusted
    assert read(world, DATA) == DATA
    assert verify(world.store, deep=True).exit_code == 0


@pytest.mark.parametrize("harm", ["missing", "cut", "written to"])
def test_a_later_upload_heals_visible_damage_by_itself(world: World, harm: str) -> None:
    version = world.upload("/m.pth", DATA)
    HARMS[harm](world.blob(version.digest))
    world.upload("/m.pth", DATA)
    assert read(world, DATA) == DATA and verify(world.store, deep=True).exit_code == 0


def test_bad_orphans_are_no_longer_trusted(world: World) -> None:
    key = world.orphan(DATA)
    damage(world.blob(key), flip, stealthy=True)
    repair(world.store, deep=True)
    world.upload("/m.pth", DATA)
    assert read(world, DATA) == DATA


# ---- tamper marks, trash -----------------------------------------------------------------------------------------


def test_broken_tamper_marks_over_right_content_are_renewed(world: World) -> None:
    for i, data in enumerate(data_of(5)):
        world.upload(f"/{i}", data)
    for name in world.names():
        damage(world.blob(name), lambda data: data, stealthy=False)
    assert repair(world.store, dry_run=True).resealed == 5
    assert verify(world.store).findings != []
    report = repair(world.store)
    assert report.resealed == 5 and report.healed == report.left == [] and quarantine(world) == []
    assert verify(world.store).findings == []


def test_content_that_is_only_in_the_trash_comes_back(world: World) -> None:
    version = world.upload("/m.pth", DATA)
    world.store.blobs.condemn(version.digest, "20200101T000000Z-x")
    assert repair(world.store).healed == [(version.digest, "the trash")]
    assert world.names() == [version.digest]


def test_a_dry_run_changes_nothing(harmed: tuple[World, str], tmp_path: Path) -> None:
    world, _ = harmed
    (tmp_path / "m.pth").write_bytes(DATA)
    before = world.snapshot()
    report = repair(world.store, deep=True, folders=[str(tmp_path / "m.pth")], dry_run=True)
    assert len(report.healed) == 1 and report.dry_run
    assert world.snapshot() == before
    json.dumps(report.record(), allow_nan=False)


def test_a_collection_meanwhile_does_not_take_what_is_healed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = world.upload("/m.pth", DATA)
    world.blob(version.digest).unlink()
    (tmp_path / "m.pth").write_bytes(DATA)
    other = world.open().store
    replace = type(world.store.blobs).replace

    def meanwhile(blobs: Any, key: str, staged: Any) -> bool:
        done = replace(blobs, key, staged)
        world.delete("/m.pth")
        from dreamlake.operations.collect import collect

        collect(other, now=True, keep_deleted_s=0)
        assert world.live() == {key}  # held by the claim of the repair
        return done

    monkeypatch.setattr(type(world.store.blobs), "replace", meanwhile)
    assert len(repair(world.store, folders=[str(tmp_path / "m.pth")]).healed) == 1
    assert list((world.root / ".dreamlake" / "pending").iterdir()) == []


def test_a_concurrent_upload_that_heals_is_not_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = world.upload("/m.pth", DATA)
    damage(world.blob(version.digest), flip, stealthy=False)
    distrust = type(world.store.blobs).distrust
    other = world.open().store

    def meanwhile(blobs: Any, key: str) -> bool:
        upload_file(other, RUN, DATA, "/m.pth", Attributes())
        return distrust(blobs, key)

    monkeypatch.setattr(type(world.store.blobs), "distrust", meanwhile)
    repair(world.store, deep=True)
    assert read(world, DATA) == DATA


# ---- content stored as recipes -----------------------------------------------------------------------------------


def numbers_file(world: World, count: int = 2) -> list[bytes]:
    import numpy as np

    rng = np.random.default_rng(11)
    numbers, made = rng.standard_normal(400_000).astype("f4"), []
    if not world.store.catalog.view(RUN).info.exists:
        world.session()
    for _ in range(count):
        numbers = numbers + rng.standard_normal(400_000).astype("f4") * np.float32(1e-4)
        buffer = io.BytesIO()
        np.save(buffer, numbers)
        made.append(buffer.getvalue())
        file = world.root.parent / "n.npy"
        file.write_bytes(made[-1])
        upload_file(world.store, RUN, str(file), "/n.npy", Attributes())
        file.unlink()
    return made


@pytest.mark.parametrize("source", ["files", "lake", "raw lake"])
@pytest.mark.parametrize("harm", ["part", "recipe", "both"])
def test_coded_content_is_healed(world: World, tmp_path: Path, source: str, harm: str) -> None:
    made = numbers_file(world)
    sources: dict[str, Any] = {}
    if source == "files":
        (tmp_path / "files").mkdir()
        for i, data in enumerate(made):
            (tmp_path / "files" / str(i)).write_bytes(data)
        sources["folders"] = [str(tmp_path / "files")]
    else:
        other = World(tmp_path / "other")
        if source == "lake":
            assert numbers_file(other) == made
        else:
            for i, data in enumerate(made):
                other.upload(f"/{i}", data)
        sources["lakes"] = [other.store]
    if harm in ("part", "both"):
        for name in world.names():
            if name.startswith("b3-"):
                damage(world.blob(name), flip, stealthy=True)
    if harm in ("recipe", "both"):
        world.blob(recipe_key(digest(made[0]))).unlink()
        damage(world.blob(recipe_key(digest(made[1]))), flip, stealthy=False)
    report = repair(world.store, deep=True, **sources)
    assert report.healed and report.left == []
    for data in made:
        assert read(world, data) == data
    assert verify(world.open().store, deep=True).exit_code == 0


def test_damaged_parts_without_a_source_are_reported_and_healed_by_uploading_again(world: World) -> None:
    made = numbers_file(world)
    for name in world.names():
        if name.startswith("b3-"):
            damage(world.blob(name), flip, stealthy=True)
    report = repair(world.store, deep=True)
    assert report.exit_code == 5 and all(finding.affected for finding in report.left)
    for i, data in enumerate(made):
        file = world.root.parent / "again.npy"
        file.write_bytes(data)
        upload_file(world.store, RUN, str(file), f"/again/{i}.npy", Attributes())
        assert read(world, data) == data


# ---- records -----------------------------------------------------------------------------------------------------


@pytest.fixture
def twins(world: World) -> tuple[World, Path]:
    """A lake and a copy of it made before it was harmed."""
    for key in (RUN, OTHER):
        for i, data in enumerate(data_of(4)):
            world.upload(f"/{i}", data, key)
    copy = world.root.parent / "copy"
    shutil.copytree(world.root, copy)
    return world, copy


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_lost_records_come_back_from_a_copy_of_the_lake(twins: tuple[World, Path], harm: str, number: int) -> None:
    world, copy = twins
    record = world.log(RUN, number).read_bytes()
    if harm == "damaged":
        damage(world.log(RUN, number), flip, stealthy=True)
    else:
        world.log(RUN, number).unlink()
    lake = world.open()
    report = lake.repair(copy)
    if harm == "missing" and number == 5:  # the newest record: nothing tells that there was one
        assert report.healed == [] and len(lake.store.catalog.view(RUN).live()) == 3
        return
    assert report.healed == [("vision/run-1", f"record {number} from a copy of this lake")] and report.left == []
    assert world.log(RUN, number).read_bytes() == record
    assert len(world.open().store.catalog.view(RUN).live()) == 4
    assert quarantine(world) == ([flip(record)] if harm == "damaged" else [])


def test_records_of_a_copy_that_went_its_own_way_are_not_taken(twins: tuple[World, Path]) -> None:
    world, copy = twins
    strange = World(copy)
    strange.upload("/theirs", b"theirs", RUN)
    world.upload("/ours", b"ours", RUN)
    world.upload("/ours too", b"ours too", RUN)
    damage(world.log(RUN, 6), flip, stealthy=True)
    report = world.open().repair(copy)
    assert report.healed == [] and report.exit_code == 5
    assert quarantine(world) == []


def test_a_gap_that_nobody_can_fill_is_closed_and_nothing_else_is_lost(world: World) -> None:
    for i, data in enumerate(data_of(4)):
        world.upload(f"/{i}", data)
    world.log(RUN, 3).unlink()
    lake = world.open()
    with pytest.raises(Corrupt):
        lake.store.catalog.view(RUN)
    assert lake.repair(dry_run=True).exit_code == 5
    assert lake.repair().exit_code == 0
    assert {v.key for v in world.open().store.catalog.view(RUN).live()} == {"/0", "/2", "/3"}


def test_a_damaged_record_without_a_copy_stays_as_it_is(world: World) -> None:
    for i, data in enumerate(data_of(4)):
        world.upload(f"/{i}", data)
    damage(world.log(RUN, 3), flip, stealthy=True)
    before = world.snapshot()
    report = world.open().repair()
    assert [f.kind for f in report.left] == ["record-damaged"] and report.exit_code == 5
    assert world.snapshot() == before


def test_healing_content_and_records_at_once(twins: tuple[World, Path]) -> None:
    world, copy = twins
    damage(world.log(RUN, 3), flip, stealthy=True)
    for name in world.names()[:2]:
        world.blob(name).unlink()
    report = world.open().repair(copy)
    assert len(report.healed) == 3 and report.exit_code == 0
    assert verify(world.open().store, deep=True).exit_code == 0


# ---- through Lake ------------------------------------------------------------------------------------------------


def test_sources_may_be_lakes_folders_files_and_must_exist(harmed: tuple[World, str], tmp_path: Path) -> None:
    world, _ = harmed
    lake = open_lake(world.root)
    with pytest.raises(NotFound, match="nowhere"):
        lake.repair(tmp_path / "nowhere")
    (tmp_path / "m.pth").write_bytes(DATA)
    assert len(lake.repair(str(tmp_path / "m.pth"), deep=True).healed) == 1
    other = World(tmp_path / "other")
    other.upload("/m.pth", DATA)
    world.blob(digest(DATA)).unlink()
    assert len(lake.repair(other.lake).healed) == 1
    world.blob(digest(DATA)).unlink()
    assert len(lake.repair(other.root).healed) == 1
    assert read(world, DATA) == DATA
