"""Verify: finds everything that is missing or damaged, says what it touches, and changes nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from upkeep_support import OTHER, RUN, World, damage, data_of, digest, flip

from dreamlake.catalog.folder import FolderCatalog
from dreamlake.content import reading
from dreamlake.content.names import recipe_key
from dreamlake.errors import Corrupt, InvalidInput
from dreamlake.lake import open_lake
from dreamlake.operations import tree
from dreamlake.operations import verify as verifying
from dreamlake.operations.download import download
from dreamlake.operations.findings import KINDS, Finding, exit_code
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.operations.verify import verify
from dreamlake.session import Session


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "lake")


def kinds(report: Any) -> Counter[str]:
    return Counter(finding.kind for finding in report.findings)


def only(report: Any) -> Finding:
    (finding,) = report.findings
    return finding  # type: ignore[no-any-return]


# ---- what it finds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_a_healthy_lake_has_no_findings(world: World, deep: bool) -> None:
    for i, data in enumerate(data_of(20)):
        world.upload(f"/{i}", data)
    world.upload("/0", b"newer")
    world.delete("/1")
    before = world.snapshot()
    report = verify(world.store, deep=deep)
    assert report.findings == [] and report.exit_code == 0 and not report.damaged
    assert (report.sessions, report.records, report.copies) == (1, 23, 21)
    assert report.hashed == (21 if deep else 0)
    assert world.snapshot() == before


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_blob(world: World, deep: bool) -> None:
    version = world.upload("/m.pth", b"weights")
    tree.copy(world.store, RUN, "/m.pth", "/again.pth", to_session=world.session(OTHER))
    world.blob(version.digest).unlink()
    report = verify(world.store, deep=deep)
    finding = only(report)
    assert (finding.kind, finding.where, finding.count, finding.bytes) == ("blob-missing", version.digest, 2, 7)
    assert finding.affected == ("vision/run-1:/m.pth@v1", "vision/run-2:/again.pth@v1")
    assert report.exit_code == Corrupt.exit_code == 5
    assert "upload the file again" in finding.text() and "1 more" in finding.text()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_quick_sees_another_size(world: World, change: Any) -> None:
    version = world.upload("/m.pth", b"weights")
    damage(world.blob(version.digest), change, stealthy=True)
    assert only(verify(world.store)).kind == "blob-damaged"


def test_quick_sees_a_broken_tamper_mark_and_deep_tells_whether_it_matters(world: World) -> None:
    good, bad = world.upload("/good.pth", b"weights"), world.upload("/bad.pth", b"other weights")
    damage(world.blob(good.digest), lambda data: data, stealthy=False)
    damage(world.blob(bad.digest), flip, stealthy=False)
    report = verify(world.store)
    finding = only(report)
    assert (finding.kind, finding.where, finding.count) == ("blob-unsealed", "2 blobs", 2)
    assert report.exit_code == 0
    for report in (verify(world.store, deep=True), verify(world.store, prove=True)):
        assert {(f.kind, f.where) for f in report.findings} == {
            ("blob-unsealed", good.digest),
            ("blob-damaged", bad.digest),
        }
        assert report.exit_code == 5


def test_only_deep_sees_bit_rot(world: World) -> None:
    version = world.upload("/m.pth", b"weights")
    damage(world.blob(version.digest), flip, stealthy=True)
    assert verify(world.store).findings == []
    finding = only(verify(world.store, deep=True))
    assert finding.kind == "blob-damaged" and finding.affected == ("vision/run-1:/m.pth@v1",)


def test_damage_that_nothing_refers_to_is_a_warning(world: World) -> None:
    key = world.orphan(b"orphan")
    assert kinds(verify(world.store, deep=True)) == {"orphan": 1}
    damage(world.blob(key), flip, stealthy=True)
    report = verify(world.store, deep=True)
    assert kinds(report) == {"orphan": 1, "orphan-damaged": 1} and report.exit_code == 0


def test_content_that_is_only_in_the_trash_is_a_note(world: World) -> None:
    version = world.upload("/m.pth", b"weights")
    world.store.blobs.condemn(version.digest, "20200101T000000Z-x")
    report = verify(world.store)
    assert kinds(report) == {"trash": 1, "blob-condemned": 1} and report.exit_code == 0
    damage(next(world.blob(version.digest).parent.iterdir()), flip, stealthy=True)
    assert "blob-damaged" in kinds(verify(world.store, deep=True))


def test_scratch_quarantine_and_old_claims_are_told(world: World) -> None:
    world.session()
    world.store.blobs.stage().write(b"half")
    (world.root / ".dreamlake" / "quarantine" / "old").write_bytes(b"bad bytes")
    (world.root / ".dreamlake" / "pending" / "torn.json").write_bytes(b"{")
    report = verify(world.store)
    assert kinds(report) == {"scratch": 1, "quarantine": 1, "claim-damaged": 1} and report.exit_code == 0


def test_records_that_do_not_read(world: World) -> None:
    for key in (RUN, OTHER):
        for i, data in enumerate(data_of(3)):
            world.upload(f"/{i}", data, key)
    damage(world.log(RUN, 2), flip, stealthy=True)
    world.log(OTHER, 3).unlink()
    lake = world.open()
    found = {(f.kind, f.where) for f in verify(lake.store).findings if f.severity == "damage"}
    assert found == {("record-damaged", "vision/run-1"), ("record-missing", "vision/run-2")}
    damage(world.log(RUN, 1), flip, stealthy=True)
    found = {(f.kind, f.where) for f in verify(world.open().store).findings if f.severity == "damage"}
    assert ("record-damaged", str(world.log(RUN, 1))) in found


def test_what_a_newer_release_wrote_has_an_exit_code_of_its_own(world: World) -> None:
    world.session()
    body = world.log(RUN, 1).read_bytes().rpartition(b',"sum":"')[0].replace(b'{"v":1', b'{"v":2')
    sealed = body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'
    (world.log(RUN, 1).parent / "2.json").write_bytes(sealed)
    report = verify(world.open().store)
    assert only(report).kind == "record-newer" and report.exit_code == 7


def test_a_version_that_was_deleted_while_it_looked_is_no_finding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = world.upload("/m.pth", b"weights")
    world.blob(version.digest).unlink()
    other = world.open()
    explained = verifying.explained

    def meanwhile(store: Any, problems: Any) -> Any:
        world.delete("/m.pth")
        world.collect(now=True, keep_deleted_s=0)
        return explained(store, problems)

    monkeypatch.setattr(verifying, "explained", meanwhile)
    assert verify(other.store).findings == []


def test_it_may_run_while_blobs_move(world: World) -> None:
    for i, data in enumerate(data_of(200)):
        world.upload(f"/{i}", data)
    stop = threading.Event()
    other = world.open().store

    def shake() -> None:
        while not stop.is_set():
            for copy in list(other.blobs.copies()):
                if copy.batch is None and (found := other.blobs.condemn(copy.key, "20200101T000000Z-shake")):
                    other.blobs.settle(found, keep=True)

    thread = threading.Thread(target=shake)
    thread.start()
    try:
        for deep in (False, True, True):
            assert not verify(world.store, deep=deep).damaged
    finally:
        stop.set()
        thread.join()


# ---- content stored as recipes -----------------------------------------------------------------------------------


@pytest.fixture
def coded(world: World) -> tuple[World, list[bytes]]:
    """Three versions of a file of numbers, stored as recipes over parts that are differences of each other."""
    import io

    import numpy as np

    rng = np.random.default_rng(7)
    numbers = rng.standard_normal(400_000).astype("f4")
    made = []
    world.session()
    for _ in range(3):
        numbers = numbers + rng.standard_normal(400_000).astype("f4") * np.float32(1e-4)
        buffer = io.BytesIO()
        np.save(buffer, numbers)
        made.append(buffer.getvalue())
        file = world.root.parent / "n.npy"
        file.write_bytes(made[-1])
        upload_file(world.store, RUN, str(file), "/n.npy", Attributes())
    assert any(name.startswith("rc-") for name in world.names())
    assert any(name.startswith("b3-") for name in world.names())
    return world, made


def parts(world: World) -> list[str]:
    return [name for name in world.names() if name.startswith("b3-")]


@pytest.mark.parametrize("deep", [False, True])
def test_coded_content_is_verified_through_its_recipe(coded: tuple[World, list[bytes]], deep: bool) -> None:
    world, _ = coded
    assert verify(world.store, deep=deep).findings == []
    for name in parts(world):
        away = world.root.parent / "away"
        world.blob(name).rename(away)
        report = verify(world.store, deep=deep)
        (missing,) = [f for f in report.findings if f.kind == "blob-missing"]
        assert missing.where == name and missing.affected and report.exit_code == 5
        away.rename(world.blob(name))


def test_bit_rot_in_parts_and_recipes(coded: tuple[World, list[bytes]]) -> None:
    world, made = coded
    for name in (parts(world)[0], recipe_key(digest(made[1]))):
        damage(world.blob(name), flip, stealthy=True)
        report = verify(world.store, deep=True)
        assert name in {f.where for f in report.findings if f.kind == "blob-damaged"}
        damage(world.blob(name), flip, stealthy=True)
    assert verify(world.store, deep=True).findings == []


def test_a_lost_recipe_is_missing_content(coded: tuple[World, list[bytes]]) -> None:
    world, made = coded
    world.blob(recipe_key(digest(made[1]))).unlink()
    (finding,) = [f for f in verify(world.store).findings if f.severity == "damage"]
    assert (finding.kind, finding.where) == ("blob-missing", digest(made[1]))
    assert finding.affected == ("vision/run-1:/n.npy@v2",)


# ---- collection keeps what recipes need --------------------------------------------------------------------------


def test_collection_keeps_parts_and_bases_of_what_stays_and_frees_the_rest(coded: tuple[World, list[bytes]]) -> None:
    world, made = coded
    world.collect(now=True, keep_deleted_s=0)
    for data in made:
        assert reading.read_all(world.store.blobs, digest(data), len(data)) == data
    before = set(parts(world))
    tree.restore(world.store, RUN, "/n.npy", number=1)  # the first version again, the others let go
    from dreamlake.operations.retention import set_rules

    set_rules(world.store, RUN, 1)
    world.collect(now=True)
    assert reading.read_all(world.store.blobs, digest(made[0]), len(made[0])) == made[0]
    assert set(parts(world)) < before
    world.delete("/n.npy")
    world.collect(now=True, keep_deleted_s=0)
    assert world.names() == []


@pytest.mark.parametrize("harm", ["recipe damaged", "recipe lost", "part damaged"])
def test_collection_keeps_every_part_while_a_recipe_cannot_be_followed(
    coded: tuple[World, list[bytes]], harm: str
) -> None:
    world, made = coded
    recipe = world.blob(recipe_key(digest(made[2])))
    if harm == "recipe lost":
        recipe.unlink()
    else:
        first = recipe if harm == "recipe damaged" else world.blob(_difference(world))
        damage(first, lambda data: data[:20] + flip(data[20:60]) + data[60:], stealthy=True)
    world.orphan(b"orphan")
    before = parts(world)
    if harm != "part damaged":  # let go every version but the last, whose recipe does not tell what it needs
        from dreamlake.operations.retention import set_rules

        set_rules(world.store, RUN, 1)
    report = world.collect(now=True)
    assert parts(world) == before
    assert digest(b"orphan") not in world.names()
    assert "every part is kept" in report.notes[0]


def _difference(world: World) -> str:
    from dreamlake.content.assembled import part_needs

    return next(key for key in parts(world) if part_needs(world.store.blobs, key))


# ---- shards, executors, resuming ---------------------------------------------------------------------------------


def test_shards_see_everything_exactly_once(world: World) -> None:
    for key in (RUN, OTHER):
        for i, data in enumerate(data_of(40)):
            world.upload(f"/{i}", data + str(key).encode(), key)
    for name in world.names()[:10]:
        damage(world.blob(name), flip, stealthy=True)
    damage(world.log(OTHER, 5), flip, stealthy=True)
    world.lake = world.open()
    whole = verify(world.store, deep=True)
    shares = [verify(world.store, deep=True, shard=(i, 3)) for i in (1, 2, 3)]
    key = lambda f: (f.kind, f.where)  # noqa: E731
    assert sorted((f for share in shares for f in share.findings if f.kind != "orphan"), key=key) == sorted(
        (f for f in whole.findings if f.kind != "orphan"), key=key
    )
    for field in ("sessions", "records", "copies", "hashed", "hashed_bytes"):
        assert sum(getattr(share, field) for share in shares) == getattr(whole, field)


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_shard_that_does_not_exist_is_refused(world: World, shard: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="shard"):
        verify(world.store, shard=shard)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor(world: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for i, data in enumerate(data_of(50)):
        world.upload(f"/{i}", data)
    bad = world.names()[7]
    damage(world.blob(bad), flip, stealthy=True)
    monkeypatch.setattr("dreamlake.operations.hashing.BATCH_COPIES", 1)
    if kind == "threads":
        pool: Any = concurrent.futures.ThreadPoolExecutor(3)
    else:
        import multiprocessing

        pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        report = open_lake(world.root).verify(deep=True, executor=pool)
    found = [f.where for f in report.findings if f.kind == "blob-damaged"]
    assert found == [bad] and report.hashed == 50


def test_it_goes_on_where_it_was_killed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, data in enumerate(data_of(120)):
        world.upload(f"/{i}", data)
    names = world.names()
    early, late = names[3], names[-3]
    damage(world.blob(early), flip, stealthy=True)
    damage(world.blob(late), flip, stealthy=True)
    file = str(tmp_path / "progress.json")
    hashed: list[str] = []
    from dreamlake.operations import hashing

    check = hashing.check_copy

    class Killed(BaseException):
        pass

    def counting(store: Any, copy: Any) -> Any:
        hashed.append(copy.key)
        if len(hashed) == 60:
            raise Killed
        return check(store, copy)

    monkeypatch.setattr(hashing, "check_copy", counting)
    with pytest.raises(Killed):
        verify(world.store, deep=True, resume=file)
    first = len(hashed)
    assert verify(world.store, deep=True, resume=file + "-another").hashed == 120  # other files are not looked at
    del hashed[first:]
    report = verify(world.store, deep=True, resume=file)
    assert len(hashed) - first < 70 and report.hashed == 120
    assert {f.where for f in report.findings if f.kind == "blob-damaged"} == {early, late}
    assert not os.path.exists(file)


def test_progress_of_another_run_or_nonsense_is_ignored(world: World, tmp_path: Path) -> None:
    world.upload("/m.pth", b"weights")
    file = tmp_path / "progress.json"
    for text in ("", "[1]", json.dumps({"format": 1, "lake": "elsewhere", "deep": True, "shard": [1, 1], "done": []})):
        file.write_text(text)
        assert verify(world.store, deep=True, resume=str(file)).hashed == 1
    with pytest.raises(InvalidInput, match="no such folder"):
        verify(world.store, deep=True, resume=str(tmp_path / "nowhere" / "p.json"))


# ---- reading damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [flip, lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
@pytest.mark.parametrize("size", [100, 3 << 20])
def test_reading_damage_raises_and_leaves_the_destination_alone(
    world: World, tmp_path: Path, change: Any, size: int
) -> None:
    version = world.upload("/m.bin", os.urandom(size))
    damage(world.blob(version.digest), change, stealthy=True)
    dest = tmp_path / "mine.bin"
    dest.write_bytes(b"my own bytes")
    with pytest.raises(Corrupt):
        download(world.store, version, str(dest))
    assert dest.read_bytes() == b"my own bytes" and sorted(os.listdir(tmp_path)) == ["lake", "mine.bin"]


# ---- sessions whose folders were touched by hand, copied lakes ---------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        with Session(name, "ws", local_path=tmp_path / "lake") as session:
            session.parameters().set(lr=1)
            session.files().upload(name.encode(), filename="m.pth")
    return tmp_path / "lake"


def folder_findings(root: Path) -> dict[str, str]:
    found = open_lake(root).verify().findings
    return {os.path.relpath(f.where, root): f.kind for f in found if f.kind.startswith("session-")}


def test_session_folders_as_they_should_be(home: Path) -> None:
    assert open_lake(home).verify().findings == []


def test_removed_session_folders_are_told_and_come_back(home: Path) -> None:
    shutil.rmtree(home / "ws" / "one")
    (home / "ws" / "two" / "session.json").unlink()
    assert folder_findings(home) == {"ws/one": "session-folder-missing", "ws/two/session.json": "session-file-missing"}
    for name in ("one", "two"):
        with Session(name, "ws", local_path=home) as session:
            assert session.files().read_bytes("/m.pth") == name.encode()
    assert folder_findings(home) == {}


def test_moved_copied_and_foreign_session_folders_are_told(home: Path, tmp_path: Path) -> None:
    shutil.move(home / "ws" / "one", home / "ws" / "eins")
    shutil.copytree(home / "ws" / "two", home / "ws" / "two-backup")
    with Session("three", "elsewhere", local_path=tmp_path / "other"):
        pass
    shutil.copytree(tmp_path / "other" / "elsewhere", home / "elsewhere")
    (home / "ws" / "two" / "session.json").write_text("{")
    assert folder_findings(home) == {
        "ws/one": "session-folder-moved",
        "ws/two/session.json": "session-file-damaged",
        "ws/two-backup": "session-folder-copied",
        "elsewhere/three": "session-folder-unknown",
    }
    with Session("one", "ws", local_path=home) as session:  # still whole, and opening it works
        assert session.files().read_bytes("/m.pth") == b"one"


@pytest.mark.parametrize("how", ["cp", "cp -a", "log first", "blobs first"])
def test_a_lake_copied_while_in_use_opens_again(tmp_path: Path, how: str) -> None:
    source, target = tmp_path / "lake", tmp_path / "copy"
    busy = subprocess.Popen([sys.executable, "-c", _BUSY, str(source)], stdout=subprocess.PIPE, text=True)
    try:
        assert busy.stdout is not None
        for _ in range(30):
            assert busy.stdout.readline().strip() == "uploaded"
        if how.startswith("cp"):  # scratch files that vanish under its hands make it complain, and go on
            command = ["cp", "-a"] if how == "cp -a" else ["cp", "-r"]
            subprocess.run([*command, source, target], stderr=subprocess.DEVNULL)
        else:
            first, rest = ("sessions", "blobs") if how == "log first" else ("blobs", "sessions")
            _copy(source, target, shutil.ignore_patterns(rest))
            for _ in range(30):
                busy.stdout.readline()
            _copy(source / ".dreamlake" / rest, target / ".dreamlake" / rest, None)
            assert (target / ".dreamlake" / first).exists()
    finally:
        busy.kill()
        busy.wait()
        assert busy.stdout is not None
        busy.stdout.close()
    lake = open_lake(target)
    report = lake.verify(deep=True)
    damaged = {f.where for f in report.findings if f.severity == "damage"}
    assert how == "blobs first" or not any(f.kind.startswith("record") for f in report.findings)
    if how == "log first":
        assert damaged == set()
    with Session("busy", "ws", local_path=target) as session:
        files = session.files().list()
        assert len(files) >= 30
        for file in files:
            if file["checksum"] not in damaged:
                assert session.files().read_bytes(file["id"])
        session.files().upload(b"life goes on", filename="new.txt")
    assert lake.repair(source).exit_code == 0
    assert open_lake(target).verify(deep=True).exit_code == 0


def _copy(source: Path, target: Path, ignore: Any) -> None:
    with contextlib.suppress(shutil.Error):  # files that vanish meanwhile; the rest was copied
        shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)


_BUSY = """
import sys
from dreamlake import Session
with Session("busy", "ws", local_path=sys.argv[1]) as session:
    for i in range(100000):
        session.files().upload(f"content {i}".encode() * 20, filename=f"{i % 40}.bin")
        print("uploaded", flush=True)
"""


def test_a_checkpoint_that_knows_more_than_the_log_is_ignored(world: World) -> None:
    """As in a copy whose log was read before its checkpoints: continuing from it would leave a gap for ever."""
    world.session()
    for n in range(10):
        world.upload(f"/{n}", b"content")
    store = world.open().store
    catalog = FolderCatalog(world.ports, str(world.root / ".dreamlake"), checkpoint_every=1)
    assert catalog.view(RUN).n == 11
    assert (world.log(RUN, 1).parents[2] / "ckpt" / "11.sqlite").exists()
    for number in (9, 10, 11):
        world.log(RUN, number).unlink()
    fresh = world.open().store
    assert fresh.catalog.view(RUN).n == 8
    upload_file(fresh, RUN, b"more", "/more", Attributes())
    assert fresh.catalog.view(RUN).n == 9 and verify(fresh).exit_code == 0
    again = world.open().store.catalog.view(RUN)
    assert {v.key for v in again.live()} == {"/more", *(f"/{n}" for n in range(7))}
    assert store.catalog.view(RUN).session == RUN


def test_a_checkpoint_of_another_history_is_ignored(world: World) -> None:
    """As after restoring the log from a backup: the numbers fit, the records do not."""
    world.session()
    for n in range(5):
        world.upload(f"/{n}", b"content")
    FolderCatalog(world.ports, str(world.root / ".dreamlake"), checkpoint_every=1).view(RUN)
    world.log(RUN, 6).unlink()
    lean = FolderCatalog(world.ports, str(world.root / ".dreamlake"), checkpoint_every=10**9)
    lean.commit(lean.claim(RUN, [], [{"op": "session", "description": "another sixth record"}]))
    assert world.log(RUN, 6).exists()
    fresh = world.open().store.catalog.view(RUN)
    assert fresh.info.description == "another sixth record"
    assert {v.key for v in fresh.live()} == {f"/{n}" for n in range(4)}


# ---- findings as data --------------------------------------------------------------------------------------------


def test_every_kind_has_a_severity_a_meaning_and_a_remedy() -> None:
    for kind, (severity, meaning, remedy) in KINDS.items():
        finding = Finding(kind, "somewhere")
        assert severity in ("note", "warning", "damage") and meaning and remedy
        assert finding.text().startswith(severity) and remedy in finding.text()
        json.dumps(finding.record(), allow_nan=False)
    assert exit_code([]) == 0
    assert exit_code([Finding("record-newer", "x"), Finding("blob-missing", "y")]) == 5


def test_the_same_through_lake(world: World) -> None:
    version = world.upload("/m.pth", b"weights")
    world.blob(version.digest).unlink()
    assert partial(open_lake, world.root)().verify().exit_code == 5
