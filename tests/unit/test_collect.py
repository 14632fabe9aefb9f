"""Collection: what goes, what stays and why, and that nothing goes that anybody may still need (SPEC "Protocol")."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from upkeep_support import DAY_S, OTHER, RUN, World, data_of, digest, flip

from dreamlake.blobs.memory import MemoryBlobs
from dreamlake.catalog.memory import MemoryCatalog
from dreamlake.content import reading
from dreamlake.errors import ClaimRevoked, Corrupt, InvalidInput, NotFound, UnsupportedFormat
from dreamlake.operations import collect as collecting
from dreamlake.operations import collection, retention, tree
from dreamlake.operations.collect import collect
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.upload import Attributes, upload_file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "lake")


def at(phase: str, act: Callable[[], Any]) -> Callable[[str, int, int], None]:
    """A progress callback that does something once, when a phase is first reported."""
    done: list[str] = []

    def progress(now: str, count: int, total: int) -> None:
        if now == phase and not done:
            done.append(now)
            act()

    return progress


# ---- what goes and what stays --------------------------------------------------------------------------------------


def test_nothing_that_is_live_or_history_goes(world: World) -> None:
    for data in data_of(5):
        world.upload("/m.pth", data)
    before = world.names()
    report = world.collect(now=True, keep_deleted_s=0)
    assert world.names() == before
    assert report.stay["live"].count == 1 and report.stay["history"].count == 4
    assert report.freed.count == report.condemned.count == 0


def test_a_deleted_file_stays_restorable_then_goes(world: World) -> None:
    world.upload("/m.pth", b"weights")
    world.delete("/m.pth")
    world.pass_time(6.9 * DAY_S)
    report = world.collect(now=True)
    assert report.stay["deleted"].count == 1 and world.live() == {digest(b"weights")}
    tree.restore(world.store, RUN, "/m.pth")
    world.delete("/m.pth")
    world.pass_time(6.9 * DAY_S)
    world.collect(now=True)  # the days count from the last deletion
    assert world.live() == {digest(b"weights")}
    world.pass_time(0.2 * DAY_S)
    report = world.collect(now=True)
    assert report.let_go["deleted"].count == 1 and report.freed.count == 1 and report.freed.bytes == 7
    assert world.names() == []
    with pytest.raises(NotFound):
        tree.restore(world.store, RUN, "/m.pth")


def test_kept_until_says_when_deleted_versions_may_go(world: World) -> None:
    world.upload("/m.pth", b"weights")
    world.delete("/m.pth")
    (first, last) = world.collect(dry_run=True).kept_until
    world.pass_time(7 * DAY_S - 1)
    assert world.collect(dry_run=True).let_go["deleted"].count == 0
    world.pass_time(1.1)
    assert world.collect(dry_run=True).let_go["deleted"].count == 1
    assert first == last


def test_shared_content_stays_and_only_exclusive_bytes_count_as_freed(world: World) -> None:
    world.upload("/a", b"x" * 1000)
    world.upload("/b", b"y" * 10)
    tree.copy(world.store, RUN, "/a", "/a", to_session=world.session(OTHER))
    world.delete("/a")
    world.delete("/b")
    plan = world.collect(dry_run=True, now=True, keep_deleted_s=0)
    report = world.collect(now=True, keep_deleted_s=0)
    assert report.let_go["deleted"].bytes == plan.let_go["deleted"].bytes == 1010
    assert report.freed.bytes == plan.freed.bytes == 10
    assert reading.read_all(world.store.blobs, digest(b"x" * 1000), 1000) == b"x" * 1000


def test_a_dropped_session_goes_after_the_days_for_deleted_files(world: World) -> None:
    world.upload("/m.pth", b"weights")
    world.upload("/m.pth", b"more weights")
    commit(world.store, RUN, [{"op": "drop"}])
    world.pass_time(6 * DAY_S)
    world.collect(now=True)
    assert len(world.live()) == 2
    world.pass_time(2 * DAY_S)
    world.collect(now=True)
    assert world.names() == []


def test_a_write_protected_session_keeps_everything(world: World) -> None:
    world.upload("/m.pth", b"weights")
    world.upload("/n.pth", b"other")
    world.delete("/n.pth")
    retention.set_rules(world.store, RUN, 1)
    world.session(write_protected=True)
    report = world.collect(now=True, keep_deleted_s=0)
    assert len(world.live()) == 2 and report.stay["deleted"].count == 1 and report.kept_until is None


def test_retention_is_applied_and_tagged_aliased_and_current_versions_stay(world: World) -> None:
    made = [world.upload("/m.pth", data, tags=["keep"] if i == 2 else []) for i, data in enumerate(data_of(6))]
    commit(world.store, RUN, [{"op": "alias", "path": "/m.pth", "name": "best", "id": made[0].id}])
    retention.set_rules(world.store, RUN, {"last": 2})
    plan = world.collect(dry_run=True, now=True)
    assert [(gone.version, gone.why) for gone in plan.details] == [(2, "retention"), (4, "retention")]
    report = world.collect(now=True)
    assert report.let_go["retention"].count == 2 and report.freed.count == 2
    assert [v.number for v in tree.history(world.store.catalog.view(RUN), "/m.pth")] == [6, 5, 3, 1]
    assert world.live() == {made[i].digest for i in (0, 2, 4, 5)}


def test_rules_that_cannot_be_read_keep_everything_in_their_session(world: World) -> None:
    for data in data_of(3):
        world.upload("/m.pth", data)
    world.orphan(b"orphan")
    world.session(retention=[{"path": "/**", "median": 3}])
    report = world.collect(now=True)
    assert len(world.live()) == 3 and report.freed.count == 1
    assert "newer release" in report.notes[0] and "vision/run-1" in report.notes[0]


# ---- plan ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_foresees_the_run(world: World) -> None:
    for i, data in enumerate(data_of(8)):
        world.upload(f"/{i}.pth", data)
    for i in range(3):
        world.delete(f"/{i}.pth")
    world.orphan(b"orphan")
    world.of_process(77).catalog.claim(RUN, [digest(b"never came")], [{"op": "read"}])
    world.dead.add(77)
    before = world.snapshot()
    plan = world.collect(dry_run=True, now=True, keep_deleted_s=0)
    assert world.snapshot() == before
    report = world.collect(now=True, keep_deleted_s=0)
    a, b = plan.record(), report.record()
    for field in ("dryRun", "batch"):
        assert a.pop(field) != b.pop(field)
    assert a == b
    assert report.revoked == 1 and report.freed.count == 4
    json.dumps(report.record(), allow_nan=False)


def test_details_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "MAX_DETAILS", 2)
    for i, data in enumerate(data_of(4)):
        world.upload(f"/{i}", data)
    world.delete("/")
    plan = world.collect(dry_run=True, keep_deleted_s=0)
    assert len(plan.details) == 2 and plan.let_go["deleted"].count == 4
    assert plan.details[0].session == "vision/run-1" and plan.details[0].why == "deleted"


# ---- trash ---------------------------------------------------------------------------------------------------------


def test_the_trash_keeps_content_readable_for_a_day(world: World) -> None:
    key = world.orphan(b"orphan")
    report = world.collect()
    assert (report.condemned.count, report.freed.count, report.trash.count) == (1, 0, 1)
    assert world.live() == set() and world.condemned() == {key}
    assert reading.read_all(world.store.blobs, key, 6) == b"orphan"
    world.pass_time(0.9 * DAY_S)
    assert world.collect().freed.count == 0
    world.pass_time(0.2 * DAY_S)
    plan = world.collect(dry_run=True)
    assert plan.freed.count == 1
    assert world.collect().freed.bytes == 6
    assert world.names() == []


def test_uploading_from_the_trash_brings_it_back(world: World) -> None:
    world.orphan(b"orphan")
    world.collect()
    world.upload("/again", b"orphan")
    assert digest(b"orphan") in world.live()
    world.pass_time(2 * DAY_S)
    world.collect()
    assert world.names() == [digest(b"orphan")]


def test_a_condemned_copy_never_replaces_a_live_one(world: World) -> None:
    """The copy in the trash may be the damaged one that the live one healed."""
    key = world.orphan(b"orphan")
    world.collect()
    (bad,) = (world.root / ".dreamlake" / "blobs" / key[:2]).iterdir()
    bad.chmod(0o644)
    bad.write_bytes(flip(b"orphan"))
    world.upload("/healed", b"orphan")
    report = world.collect()
    assert report.restored.count == 1 and world.names() == [key]
    assert reading.read_all(world.store.blobs, key, 6) == b"orphan"


def test_what_a_dead_collection_left_condemned_is_adopted(world: World) -> None:
    version = world.upload("/m.pth", b"weights")
    orphan = world.orphan(b"orphan")
    for key in (version.digest, orphan):  # as if it had died after condemning both, wrongly
        assert world.store.blobs.condemn(key, "20200101T000000Z-dead") is not None
    report = world.collect()
    assert report.restored.count == 1 and report.freed.count == 1
    assert world.names() == [version.digest]


def test_a_batch_without_a_readable_time_waits_for_now(world: World) -> None:
    key = world.orphan(b"orphan")
    world.store.blobs.condemn(key, "who-knows")
    world.pass_time(400 * DAY_S)
    assert world.collect().trash.count == 1
    assert world.collect(now=True).freed.count == 1


# ---- claims and scratch --------------------------------------------------------------------------------------------


def test_a_claim_keeps_what_it_names(world: World) -> None:
    key = world.orphan(b"orphan")
    claim = world.store.catalog.claim(RUN, [key], [{"op": "read"}])
    report = world.collect(now=True)
    assert world.live() == {key} and report.stay["pending"].count == 1 and report.claims == 1
    world.store.catalog.revoke(claim.token)
    assert world.collect(now=True).freed.count == 1


def test_claims_of_the_dead_and_of_the_silent_are_revoked_and_cannot_commit(world: World) -> None:
    key = world.orphan(b"orphan")
    dead, silent, alive = (world.of_process(pid) for pid in (71, 72, 73))
    claims = [store.catalog.claim(RUN, [key], [{"op": "noop"}]) for store in (dead, silent, alive)]
    world.dead.add(71)
    assert world.collect(now=True).revoked == 1
    world.pass_time(25 * 3600)
    alive.catalog.touch(claims[2])  # the kernel's clock stamps it now, which the world's clock has left behind
    report = world.collect(now=True, claim_age_s=2 * 25 * 3600)
    assert report.revoked == 0 and world.live() == {key}
    report = world.collect(now=True)
    assert report.revoked == 2 and report.freed.count == 1
    for store, claim in zip((dead, silent, alive), claims, strict=True):
        with pytest.raises(ClaimRevoked):
            store.catalog.commit(claim)


def test_an_unreadable_claim_stops_it_until_it_is_old(world: World) -> None:
    world.orphan(b"orphan")
    torn = world.root / ".dreamlake" / "pending" / "torn.json"
    torn.write_bytes(b'{"v":1,"tok":"to')
    for options in ({"now": True}, {"dry_run": True}):
        with pytest.raises(Corrupt, match=r"torn\.json"):
            world.collect(**options)
    assert world.live() == {digest(b"orphan")}
    world.pass_time(25 * 3600)
    report = world.collect(now=True)
    assert report.revoked == 1 and report.freed.count == 1 and not torn.exists()


def test_a_claim_of_a_newer_format_stops_it_whatever_its_age(world: World) -> None:
    world.orphan(b"orphan")
    body = b'{"v":2,"what":"who knows"'
    sealed = body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'
    (world.root / ".dreamlake" / "pending" / "newer.json").write_bytes(sealed)
    world.pass_time(1000 * DAY_S)
    with pytest.raises(UnsupportedFormat):
        world.collect(now=True)
    assert world.live() == {digest(b"orphan")}


def test_scratch_of_the_dead_and_of_the_silent_is_removed(world: World) -> None:
    scratch = world.root / ".dreamlake" / "tmp"
    for pid in (81, 82):
        stager = world.of_process(pid).blobs.stage()
        stager.write(b"half an upload")
        stager.finish()  # sealed: its modification time is the tamper mark, not its age
    world.dead.add(81)
    plan = world.collect(dry_run=True)
    assert plan.scratch.count == 1 and len(list(scratch.iterdir())) == 2
    report = world.collect()
    assert (report.scratch.count, report.scratch.bytes) == (1, 14) and len(list(scratch.iterdir())) == 1
    world.pass_time(25 * 3600)
    assert world.collect().scratch.count == 1 and list(scratch.iterdir()) == []


def test_an_uploader_whose_scratch_was_taken_starts_again(world: World) -> None:
    stager = world.store.blobs.stage()
    stager.write(b"bytes")
    staged = stager.finish()
    world.pass_time(25 * 3600)
    world.collect()
    with pytest.raises(ClaimRevoked):
        world.store.blobs.publish(digest(b"bytes"), staged)


# ---- failing closed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["damaged", "missing", "newer", "first"])
def test_a_log_that_does_not_read_stops_it(world: World, harm: str) -> None:
    for i, data in enumerate(data_of(4)):
        world.upload(f"/{i}", data)
    world.orphan(b"orphan")
    file = world.log(RUN, 1 if harm == "first" else 3)
    if harm == "missing":
        file.unlink()
    else:
        body = file.read_bytes()
        file.chmod(0o644)
        if harm == "newer":
            head = body.rpartition(b',"sum":"')[0].replace(b'{"v":1', b'{"v":2')
            body = head + b',"sum":"' + hashlib.sha256(head).hexdigest()[:32].encode() + b'"}\n'
        else:
            body = flip(body)
        file.write_bytes(body)
    names = world.names()
    world.lake = world.open()
    with pytest.raises((Corrupt, UnsupportedFormat)):
        world.collect(now=True, keep_deleted_s=0)
    assert world.names() == names


def test_a_log_that_breaks_while_it_runs_leaves_everything_readable(world: World) -> None:
    world.upload("/m.pth", b"weights")
    key = world.orphan(b"orphan")

    def gap() -> None:  # record 4 without record 3
        world.upload("/n", b"n")
        world.log(RUN, 3).rename(world.log(RUN, 4))

    with pytest.raises(Corrupt):
        world.collect(now=True, progress=at("recheck", gap))
    assert reading.read_all(world.store.blobs, key, 6) == b"orphan"


# ---- the brake -----------------------------------------------------------------------------------------------------


@pytest.fixture
def touchy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "BRAKE_BLOBS", 3)


@pytest.mark.usefixtures("touchy")
def test_it_refuses_to_take_most_of_a_lake_that_nobody_deleted(world: World) -> None:
    world.upload("/m.pth", b"w" * 100)
    for data in data_of(4):
        world.orphan(data)
    names = world.names()
    assert "refused" in str(world.collect(dry_run=True).refused)
    with pytest.raises(InvalidInput, match="--force"):
        world.collect(now=True)
    assert world.names() == names
    assert world.collect(now=True, brake_share=0.9).freed.count == 4


@pytest.mark.usefixtures("touchy")
def test_force_overrules_the_brake(world: World) -> None:
    for data in data_of(5):
        world.orphan(data)
    assert world.collect(now=True, force=True).freed.count == 5


@pytest.mark.usefixtures("touchy")
def test_retention_can_be_braked_before_anything_is_forgotten(world: World) -> None:
    for data in data_of(9):
        world.upload("/m.pth", data)
    retention.set_rules(world.store, RUN, 1)
    with pytest.raises(InvalidInput):
        world.collect(now=True)
    assert len(tree.history(world.store.catalog.view(RUN), "/m.pth")) == 9


@pytest.mark.usefixtures("touchy")
def test_what_a_user_deleted_is_never_braked(world: World) -> None:
    for i, data in enumerate(data_of(9)):
        world.upload(f"/{i}", data)
    commit(world.store, RUN, [{"op": "drop"}])
    world.pass_time(8 * DAY_S)
    assert world.collect(now=True).freed.count == 9


def test_small_lakes_have_no_brake(world: World) -> None:
    for data in data_of(20):
        world.orphan(data)
    assert world.collect(now=True).freed.count == 20


# ---- beside others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["scan", "list", "condemn", "recheck"])
def test_an_upload_of_the_same_content_while_it_runs_is_safe(world: World, phase: str) -> None:
    world.upload("/m.pth", b"weights")
    for data in data_of(30):  # several shards, so that some are condemned when the phase begins and some are not
        world.orphan(data)
    wanted = list(data_of(30))
    other = world.open().store

    def upload_all() -> None:
        for i, data in enumerate(wanted):
            world.upload(f"/again/{i}", data, store=other)

    world.collect(now=True, progress=at(phase, upload_all))
    for data in wanted:
        assert reading.read_all(world.store.blobs, digest(data), len(data)) == data
    assert world.collect(now=True).freed.count == 0


@pytest.mark.parametrize("phase", ["list", "condemn", "recheck"])
def test_a_restore_while_it_runs_is_safe(world: World, phase: str) -> None:
    data = list(data_of(30))
    for i, content in enumerate(data):
        world.upload(f"/{i}", content)
        world.upload(f"/{i}", content + b" newer")
    world.delete("/")
    world.pass_time(8 * DAY_S)
    other = world.open().store
    back: list[str] = []

    def restore_all() -> None:
        for i in range(30):
            try:
                tree.restore(other, RUN, f"/{i}")
            except NotFound:
                continue  # it was forgotten a moment before: the restore says so
            back.append(f"/{i}")

    world.collect(now=True, progress=at(phase, restore_all))
    assert len(back) == (30 if phase == "list" else 0)
    for path in back:
        for version in tree.history(world.store.catalog.view(RUN), path):
            assert len(reading.read_all(world.store.blobs, version.digest, version.size_bytes)) == version.size_bytes
        assert len(tree.history(world.store.catalog.view(RUN), path)) == 2


def test_an_alias_set_while_it_runs_keeps_its_version(world: World) -> None:
    made = [world.upload("/m.pth", data) for data in data_of(5)]
    retention.set_rules(world.store, RUN, 1)
    other = world.open().store
    entry = {"op": "alias", "path": "/m.pth", "name": "best", "id": made[1].id}
    report = world.collect(now=True, progress=at("list", lambda: commit(other, RUN, [entry])))
    assert report.freed.count == 3
    assert world.live() == {made[1].digest, made[4].digest}


def test_write_protection_while_it_runs_keeps_everything(world: World) -> None:
    made = [world.upload("/m.pth", data) for data in data_of(5)]
    retention.set_rules(world.store, RUN, 1)
    other = world.open().store
    protect = {"op": "session", "write_protected": True}
    world.collect(now=True, progress=at("list", lambda: commit(other, RUN, [protect])))
    assert world.live() == {version.digest for version in made}


def test_two_collections_at_once_do_each_others_work(world: World) -> None:
    for data in data_of(30):
        world.orphan(data)
    world.upload("/m.pth", b"weights")
    other = world.open().store
    for phase in ("list", "condemn", "recheck", "remove"):
        inner: list[Any] = []
        outer = world.collect(now=True, progress=at(phase, lambda: inner.append(collect(other, now=True))))  # noqa: B023
        assert world.names() == [digest(b"weights")]
        assert outer.freed.count + inner[0].freed.count == 30
        for data in data_of(30):
            world.orphan(data)


def test_it_may_die_at_any_call_and_the_next_one_finishes(tmp_path: Path) -> None:
    class Death(BaseException):
        pass

    def prepared(name: str, fs: Any = None) -> World:
        world = World(tmp_path / name)
        for i, data in enumerate(data_of(4)):
            world.upload(f"/{i}", data)
        world.upload("/0", b"newer")
        world.delete("/1")
        world.delete("/2")
        world.orphan(b"orphan")
        return world

    calls = 0
    number = 0
    while True:
        number += 1
        world = prepared(str(number))
        mortal = _Mortal(world.ports.fs, number, Death)
        store = world.open(fs=mortal).store
        mortal.armed = True
        try:
            collect(store, now=True, keep_deleted_s=0)
        except Death:
            calls += 1
        else:
            break
        kept = [b"newer", *list(data_of(4))[:1], list(data_of(4))[3]]
        for data in kept:
            assert reading.read_all(world.store.blobs, digest(data), len(data)) == data
        world.collect(now=True, keep_deleted_s=0)
        assert world.names() == sorted(map(digest, kept))
        number += 4  # every fifth call, from another start each time the protocol grows: the simulation tries all
    assert calls > 10


class _Mortal:
    """A file system whose process dies before the n-th call; dead processes call nothing any more."""

    def __init__(self, fs: Any, number: int, death: type[BaseException]) -> None:
        self._fs, self._left, self._death, self.armed = fs, number, death, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._fs, name)

        def call(*args: Any, **options: Any) -> Any:
            if self.armed:
                self._left -= 1
                if self._left < 0:
                    raise self._death
            return real(*args, **options)

        return call


# ---- rules that must not be left out -------------------------------------------------------------------------------


def race(world: World, phase: str) -> bool:
    """True if an upload that came between was lost."""
    for data in data_of(30):
        world.orphan(data)
    other = world.open().store
    wanted = list(data_of(30))
    world.collect(
        now=True, progress=at(phase, lambda: [world.upload(f"/{i}", d, store=other) for i, d in enumerate(wanted)])
    )
    return not {digest(data) for data in wanted} <= world.live()


def test_without_condemning_first_an_upload_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not race(world, "list")
    monkeypatch.setattr(collecting, "CONDEMN", False)
    world.delete("/")
    world.collect(now=True, keep_deleted_s=0)
    assert race(world, "list")


def test_without_rechecking_last_an_upload_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not race(world, "condemn")
    monkeypatch.setattr(collecting, "RECHECK_AFTER_CONDEMN", False)
    world.delete("/")
    world.collect(now=True, keep_deleted_s=0)
    assert race(world, "condemn")


@pytest.mark.parametrize("pending_first", [True, False])
def test_reading_commits_before_claims_loses_an_upload(
    world: World, monkeypatch: pytest.MonkeyPatch, pending_first: bool
) -> None:
    monkeypatch.setattr(collecting, "PENDING_FIRST", pending_first)
    world.session()
    key, other = world.orphan(b"orphan"), world.open().store
    catalog, passes = world.store.catalog, []
    pending = catalog.pending

    def slow_pending() -> Any:
        passes.append(0)
        if len(passes) == 3:  # clean, survey, recheck
            other.catalog.commit(claims[0])
        return pending()

    claims: list[Any] = []
    put = {"op": "put", "id": "1", "path": "/m", "digest": key, "size": 6, "type": "text/plain"}

    def claim_and_look() -> None:
        claims.append(other.catalog.claim(RUN, [key], [put]))
        assert other.blobs.look(key, 6, reading.proof(key))

    monkeypatch.setattr(catalog, "pending", slow_pending)
    world.collect(now=True, progress=at("list", claim_and_look))
    assert (world.live() == {key}) is pending_first


def test_the_barrier_comes_before_anything_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.orphan(b"orphan")
    seen: list[list[str]] = []
    monkeypatch.setattr(world.store.catalog, "barrier", lambda: seen.append(world.names()))
    world.collect(now=True)
    assert len(seen) == 1 and "~" in seen[0][0]
    monkeypatch.setattr(collecting, "BARRIER", False)
    world.orphan(b"orphan")
    world.collect(now=True)
    assert len(seen) == 1


# ---- the rest ------------------------------------------------------------------------------------------------------


def test_on_a_network_file_system_it_waits_between_condemning_and_rechecking(tmp_path: Path) -> None:
    world = World(tmp_path / "lake", is_local=lambda path: False)
    world.collect(now=True)
    assert world.slept == []  # nothing to do, nothing to wait for
    world.orphan(b"orphan")
    phases: list[str] = []
    world.collect(now=True, progress=lambda phase, done, total: phases.append(phase))
    assert world.slept == [150.0]
    assert phases.index("condemn") < phases.index("settle") < phases.index("recheck") < phases.index("remove")


def test_threads_give_the_same_result(world: World) -> None:
    for data in data_of(200):
        world.orphan(data)
    world.upload("/m.pth", b"weights")
    with ThreadPoolExecutor(4) as pool:
        report = world.collect(now=True, executor=pool)
    assert report.freed.count == 200 and report.freed.bytes == 200 * 100
    assert world.names() == [digest(b"weights")]


def test_large_sessions_are_released_and_still_synced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamlake.operations.references.HELD_FILES", 2)
    for n in range(4):
        key = RUN._replace(name=f"run-{n}")
        for i, data in enumerate(data_of(3)):
            world.upload(f"/{i}", data + bytes([n]), key)
        world.delete("/0", key)
    world.lake = world.open()
    world.orphan(b"orphan")
    synced: list[str] = []
    real = world.store.catalog._fs
    fsync_dir = type(real).fsync_dir
    monkeypatch.setattr(type(real), "fsync_dir", lambda fs, path: (synced.append(path), fsync_dir(fs, path))[1])
    report = world.collect(now=True)
    assert report.freed.count == 1
    assert len({path for path in synced if "/log/" in path}) == 4


def test_the_protocol_is_the_same_in_memory(world: World) -> None:
    store = Store(world.ports, MemoryCatalog(world.ports), MemoryBlobs())
    commit(store, RUN, [{"op": "session"}])
    for i, data in enumerate(data_of(3)):
        upload_file(store, RUN, data, f"/{i}", Attributes())
    tree.delete(store, RUN, [store.catalog.view(RUN).current_at("/1")])  # type: ignore[list-item]
    report = collect(store, now=True, keep_deleted_s=0)
    assert report.freed.count == 1
    assert {key for key, _ in store.blobs.held} == {digest(data) for i, data in enumerate(data_of(3)) if i != 1}  # type: ignore[attr-defined]
