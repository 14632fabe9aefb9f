"""Push, pull and sync between lakes: what travels, in which form, what is said, and what happens when it cannot."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sync_support import memory_side, side, told

import dreamlake.operations.sync as sync_module
from dreamlake import Session, open_lake
from dreamlake.content.assembled import part_needs
from dreamlake.errors import ClaimRevoked, Conflict, Corrupt, InvalidInput, NotFound
from dreamlake.lake import Lake
from dreamlake.operations import sync_blobs
from dreamlake.operations.sync import sync
from dreamlake.operations.sync_journals import joined


@pytest.fixture
def here(memory_path: Path) -> Lake:
    return open_lake(memory_path / "here", create=True)


@pytest.fixture
def there(memory_path: Path) -> Lake:
    return open_lake(memory_path / "there", create=True)


def session(lake: Lake, name: str = "run", **more: object) -> Session:
    return Session(name, "w", local_path=lake.root, capture=False, **more)  # type: ignore[arg-type]


def fill(lake: Lake, name: str = "run") -> None:
    """A session with something of everything."""
    with session(lake, name, description="d", tags=["x"], metadata={"k": [1, None]}) as run:
        files = run.files()
        files.upload(b"one", filename="a.txt", path="/m", tags=["t"], metadata={"loss": float("nan")})
        files.upload(b"two", filename="a.txt", path="/m", description="second")
        files.alias("/m/a.txt@v1", "best")
        gone = files.upload(b"gone", filename="gone.txt")
        files.delete(gone["id"])
        moved = files.upload(b"moved", filename="before.txt")
        files.move(moved["id"], "/after.txt")
        files.upload(b"", filename="empty")
        run.parameters().set(lr=0.1, model={"depth": 3})
        run.log("hello", metadata={"n": 1})
        run.log("world", level="warn")
        run.track("train/loss", description="the loss").append_batch([{"value": 0.5}, {"value": float("inf")}])


def counts(lake: Lake) -> int:
    return sum(1 for _ in lake.store.blobs.copies())


def test_a_pushed_session_is_the_same_there(here, there):
    fill(here)
    done = here.push(there)
    assert told(side(there)) == told(side(here))
    assert done.exit_code == 0 and not done.received.changed
    sent = done.sent
    assert (sent.files, sent.versions, sent.contents, sent.rows, sent.documents) == (4, 5, 5, 4, 2)
    assert sent.content_bytes == sum(map(len, (b"one", b"two", b"gone", b"moved", b"")))
    assert (Path(there.root) / "w/run/session.json").read_bytes() == (
        Path(here.root) / "w/run/session.json"
    ).read_bytes()
    for name in (
        "parameters.json",
        "logs/logs.jsonl",
        "tracks/train/loss/data.jsonl",
        "tracks/train/loss/metadata.json",
    ):
        assert (Path(there.root) / "w/run" / name).read_bytes() == (Path(here.root) / "w/run" / name).read_bytes()
    assert there.verify(deep=True).findings == []
    with session(there) as run:
        assert run.files().read_bytes("/m/a.txt@best") == b"one"
        assert [v["version"] for v in run.files().history("/m/a.txt")] == [2, 1]
        assert run.files().restore("/gone.txt")["checksum"]


def test_a_second_time_nothing_is_sent_and_nothing_is_written(here, there):
    fill(here)
    here.sync(there)
    before = [len(list(lake.store.catalog.records(lake.store.session("w", "run")))) for lake in (here, there)]
    for again in (here.sync(there), there.sync(here), here.push(there), here.pull(there)):
        assert not again.sent.changed and not again.received.changed
    after = [len(list(lake.store.catalog.records(lake.store.session("w", "run")))) for lake in (here, there)]
    assert after == before and after[1] == 1  # a history of any length arrives as one record


def test_without_the_memory_of_the_last_time_nothing_is_sent_either(here, there):
    fill(here)
    here.sync(there)
    for lake in (here, there):
        shutil.rmtree(f"{lake.root}/.dreamlake/cache/sync", ignore_errors=True)
    again = here.sync(there)
    assert not again.sent.changed and not again.received.changed


def test_both_sides_changed(here, there):
    fill(here)
    here.push(there)
    with session(here) as run:
        run.files().upload(b"from here", filename="a.txt", path="/m")
        run.files().upload(b"only here", filename="h.txt")
        run.parameters().set(lr=0.2)
        run.log("here")
    with session(there) as run:
        run.files().upload(b"from there", filename="a.txt", path="/m")
        run.files().update("/after.txt", tags=["new"])
        run.parameters().set({"model.depth": 4})
        run.log("there")
        run.track("train/loss").append(value=0.25)
    done = here.sync(there)
    assert told(side(there)) == told(side(here))
    assert [clash.path for clash in done.sessions[0].clashes] == ["/m/a.txt"]
    with session(here) as run:
        assert [v["version"] for v in run.files().history("/m/a.txt")] == [4, 3, 2, 1]
        assert run.files().read_bytes("/m/a.txt") == b"from there"
        assert run.files().read_bytes("/m/a.txt@v3") == b"from here"
        assert run.files().get("/after.txt")["tags"] == ["new"]
        assert run.parameters().get() == {"lr": 0.2, "model.depth": 4}
        assert [entry["message"] for entry in run.logs()] == ["hello", "world", "here", "there"]
    with session(there) as run:
        assert [entry["message"] for entry in run.logs()] == ["hello", "world", "there", "here"]
    again = here.sync(there)
    assert not again.sent.changed and not again.received.changed


def test_push_leaves_here_alone_and_pull_leaves_there_alone(here, there):
    fill(here, "mine")
    fill(there, "theirs")
    before = told(side(here))
    here.push(there)
    assert told(side(here)) == before and set(told(side(there))) == {"w/mine", "w/theirs"}
    before = told(side(there))
    here.pull(there)
    assert told(side(there)) == before == told(side(here))


def test_checkpoints_travel_as_parts_and_differences(here, there, memory_path):
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(600_000).astype(np.float32)
    with session(here) as run:
        for step in range(4):
            run.files().save_numpy(weights + np.float32(step * 1e-4), "w.npy")
    stored = sum(copy.size for copy in here.store.blobs.copies())
    sent = here.push(there).sent
    assert sent.stored_bytes == stored < sent.content_bytes / 2
    mine = {copy.key: copy.size for copy in here.store.blobs.copies()}
    assert {copy.key: copy.size for copy in there.store.blobs.copies()} == mine
    assert any(part_needs(there.store.blobs, key) for key in mine if key.startswith("b3-")), "no difference was tested"
    assert told(side(there)) == told(side(here))
    with session(here) as run:
        run.files().save_numpy(weights + np.float32(5e-4), "w.npy")
    second = here.push(there).sent
    assert second.contents == 1 and second.stored_bytes < weights.nbytes / 4
    assert told(side(there)) == told(side(here))


def test_only_the_parts_that_are_missing_are_sent(here, there):
    rng = np.random.default_rng(2)
    layers = {f"l{i}": rng.standard_normal(300_000).astype(np.float32) for i in range(4)}
    with session(there, "other") as run:
        run.files().upload(_npz(layers), filename="w.npz")
    layers["l0"] = rng.standard_normal(300_000).astype(np.float32)
    with session(here) as run:
        run.files().upload(_npz(layers), filename="w.npz")
    sent = here.push(there).sent
    assert sent.contents == 1 and sent.stored_bytes < 0.4 * sent.content_bytes
    assert set(told(side(there))) == {"w/other", "w/run"}


def _npz(layers: dict[str, np.ndarray]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **layers)
    return buffer.getvalue()


def test_a_base_that_lies_deeper_there_is_left_out(here, there, monkeypatch):
    rng = np.random.default_rng(3)
    weights = rng.standard_normal(400_000).astype(np.float32)
    with session(there) as run:  # there, the second is a difference to the first; here it stands alone
        run.files().save_numpy(weights, "w.npy")
        run.files().save_numpy(weights + np.float32(1e-4), "w.npy")
    with session(here) as run:
        run.files().save_numpy(weights + np.float32(1e-4), "w.npy")
        run.files().save_numpy(weights + np.float32(2e-4), "w.npy")
    here.push(there)
    told(side(there))  # reads everything
    parts = [copy.key for copy in there.store.blobs.copies() if copy.key.startswith("b3-")]
    assert len([key for key in parts if part_needs(there.store.blobs, key)]) == 1


def test_selection(here, there):
    for name in ("run-1", "run-2", "other"):
        fill(here, name)
    done = here.push(there, "w/run-*", dry_run=True)
    assert [s.session for s in done.sessions] == ["w/run-1", "w/run-2"]
    assert done.sent.versions == 10 and done.sent.contents == 10 and done.sent.stored_bytes == 0
    assert told(side(there)) == {}
    here.push(there, here.store.session("w", "other"))
    assert set(told(side(there))) == {"w/other"}
    here.push(there, "w")
    assert set(told(side(there))) == {"w/other", "w/run-1", "w/run-2"}
    with pytest.raises(NotFound, match=r"no session or workspace is called 'w/runn' in .*here"):
        here.push(there, "w/runn")
    with pytest.raises(NotFound, match="no session matches 'x/"):
        here.sync(there, "x/*")


def test_a_lake_and_itself(here, memory_path):
    (memory_path / "link").symlink_to(memory_path / "here")
    for other in (here, here.root, memory_path / "here/../here"):
        with pytest.raises(InvalidInput, match="both source and target"):
            here.sync(other)


def test_a_lake_that_is_not_there(here, memory_path):
    with pytest.raises(NotFound, match="no lake in"):
        here.push(memory_path / "new")
    fill(here)
    here.push(memory_path / "new", create=True)
    assert told(side(open_lake(memory_path / "new"))) == told(side(here))


def test_a_damaged_content_stops_its_session_only(here, there):
    fill(here, "good")
    with session(here, "bad") as run:
        record = run.files().upload(b"x" * 5000, filename="x.bin")
    [path] = Path(here.root).glob(f".dreamlake/blobs/*/{record['checksum']}")
    path.chmod(0o644)
    path.write_bytes(b"y" * 5000)
    done = here.push(there)
    assert [(s.session, type(s.error)) for s in done.failed] == [("w/bad", Corrupt)] and done.exit_code == 5
    assert set(told(side(there))) == {"w/good"}
    assert not any(Path(there.root).joinpath(".dreamlake/tmp").iterdir())
    assert not any(Path(there.root).joinpath(".dreamlake/pending").iterdir())


def test_deleted_here_and_uploaded_there(here, there):
    fill(here)
    here.sync(there)
    with session(here) as run:
        run.files().delete("/m/a.txt")
    with session(there) as run:
        run.files().upload(b"three", filename="a.txt", path="/m")
    done = here.sync(there)
    assert told(side(there)) == told(side(here))
    with session(here) as run:
        assert run.files().read_bytes("/m/a.txt") == b"three"
    assert "was deleted in one lake" in done.sessions[0].clashes[0].what


def test_a_file_here_and_a_folder_there(here, there):
    with session(here) as run:
        run.files().upload(b"file", filename="x")
    with session(there) as run:
        run.files().upload(b"inside", filename="y", path="/x")
    done = here.sync(there)
    assert told(side(there)) == told(side(here))
    with session(here) as run:
        assert run.files().read_bytes("/x/y") == b"inside"
        [other] = [r for r in run.files().list() if r["filename"].startswith("x~")]
        assert run.files().read_bytes(other["id"]) == b"file"
    assert [clash.path for clash in done.sessions[0].clashes] == ["/x"]


def test_one_path_here_and_there_becomes_one_file(here, there):
    for lake, data in ((here, b"here"), (there, b"there")):
        with session(lake) as run:
            run.files().upload(data, filename="x")
    here.sync(there)
    assert told(side(there)) == told(side(here))
    with session(here) as run:
        assert [v["version"] for v in run.files().history("/x")] == [2, 1]
        assert run.files().read_bytes("/x") == b"there"


def test_a_write_protected_session_takes_what_was_uploaded_elsewhere(here, there):
    fill(here)
    here.sync(there)
    with session(there) as run:
        run.files().upload(b"late", filename="late")
    with session(here, write_protected=True):
        pass
    done = here.sync(there)
    assert told(side(there)) == told(side(here))
    assert any("write-protected" in clash.what for clash in done.sessions[0].clashes)
    for lake in (here, there):
        with session(lake) as run, pytest.raises(RuntimeError, match="write-protected"):
            run.files().upload(b"no", filename="no")


def test_what_retention_let_go_goes_there_too(here, there):
    with session(here) as run:
        for step in range(4):
            run.files().upload(b"%d" % step, filename="x", keep={"last": 2})
    here.sync(there)
    here.collect(now=True)
    here.sync(there)
    assert told(side(there)) == told(side(here))
    with session(there) as run:
        assert [v["version"] for v in run.files().history("/x")] == [4, 3]
    assert there.collect(now=True).freed.count == 2
    assert told(side(there)) == told(side(here))


def test_a_session_that_changes_meanwhile_is_joined_again(here, there, monkeypatch):
    fill(here)
    here.push(there)
    with session(here) as run:
        run.files().upload(b"more", filename="more")
    real, writes = sync_blobs.Courier.deliver, []

    def deliver(self, parcels, alive):
        if len(writes) < 2:
            writes.append(1)
            with session(there) as run:
                run.files().upload(b"meanwhile %d" % len(writes), filename=f"meanwhile-{len(writes)}")
        return real(self, parcels, alive)

    monkeypatch.setattr(sync_blobs.Courier, "deliver", deliver)
    here.push(there)
    with session(there) as run:
        names = {record["filename"] for record in run.files().list()}
    assert {"more", "meanwhile-1", "meanwhile-2"} <= names
    monkeypatch.setattr(sync_module.Courier, "deliver", lambda self, p, alive: _touch(there) or real(self, p, alive))
    with session(here) as run:
        run.files().upload(b"still more", filename="more")
    done = here.push(there)
    assert isinstance(done.failed[0].error, Conflict) and "changes all the time" in str(done.failed[0].error)


def _touch(lake: Lake) -> None:
    with session(lake) as run:
        run.files().upload(b"again and again", filename="busy")


def test_a_revoked_claim_starts_again(here, there, monkeypatch):
    fill(here)
    real, revoked = sync_blobs.Courier.deliver, []

    def deliver(self, parcels, alive):
        real(self, parcels, alive)
        if len(revoked) < 3:
            revoked.append([there.store.catalog.revoke(pending.token) for pending in there.store.catalog.pending()])

    monkeypatch.setattr(sync_blobs.Courier, "deliver", deliver)
    sent = here.push(there).sent
    assert revoked == [[True]] * 3 and sent.contents == 0  # found in place by the fourth
    assert told(side(there)) == told(side(here))
    monkeypatch.setattr(sync_blobs.Courier, "deliver", lambda *a: _revoke_all(there))
    fill(here, "second")
    assert isinstance(here.push(there).failed[0].error, ClaimRevoked)


def _revoke_all(lake: Lake) -> None:
    for pending in lake.store.catalog.pending():
        lake.store.catalog.revoke(pending.token)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors(here, there, pool):
    for number in range(3):
        fill(here, f"run-{number}")
    options = {} if pool is ThreadPoolExecutor else {"mp_context": __import__("multiprocessing").get_context("spawn")}
    with pool(2, **options) as executor:
        done = here.sync(there, executor=executor)
    assert done.sent.versions == 15 and told(side(there)) == told(side(here))


def test_namespaces_and_lakes_in_memory(here):
    ana, bob = memory_side("ana", "ana"), memory_side("bob", "bob")
    fill(here)
    sync(side(here), ana)
    assert [key.full for key in ana.store.catalog.sessions()] == ["ana/w/run"]
    assert told(ana) == told(side(here))
    sync(ana, bob)
    assert [key.full for key in bob.store.catalog.sessions()] == ["bob/w/run"] and told(bob) == told(ana)
    again = sync(bob, ana)
    assert not again.sent.changed and not again.received.changed
    assert ana.place.shown


def test_many_files_take_several_records(here, there, monkeypatch):
    monkeypatch.setattr(sync_module, "PAGE_FILES", 5)
    with session(here) as run:
        for number in range(13):
            run.files().upload(b"%d" % number, filename=f"f{number:02d}")
    here.push(there)
    assert told(side(there)) == told(side(here))
    key = there.store.session("w", "run")
    assert len(list(there.store.catalog.records(key))) == 3


def test_many_rows_go_in_pages(here, there, monkeypatch):
    import dreamlake.operations.sync_journals as journals

    monkeypatch.setattr(journals, "PAGE_ROWS", 7)
    with session(here) as run:
        run.track("x").append_batch([{"v": n} for n in range(50)])
    here.push(there)
    with session(here) as run, session(there) as other:
        run.track("x").append_batch([{"v": n} for n in range(50, 75)])
        other.track("x").append_batch([{"v": -n} for n in range(20)])
    assert here.sync(there).sent.rows == 25
    assert told(side(there)) == told(side(here))
    assert here.sync(there).sent.rows == 0


def test_a_dropped_session(here, there):
    from dreamlake.operations.commit import commit

    fill(here)
    here.sync(there)
    commit(here.store, here.store.session("w", "run"), [{"op": "drop"}])
    fill(here, "never-seen")
    commit(here.store, here.store.session("w", "never-seen"), [{"op": "drop"}])
    here.sync(there)
    assert told(side(there)) == {} == told(side(here))
    assert [key.name for key in there.store.sessions()] == ["run"]


# ---- documents -----------------------------------------------------------------------------------------------------


def document(data: dict[str, object], at: str) -> dict[str, object]:
    return {"version": 1, "data": data, "createdAt": "2026-01-01", "updatedAt": at}


@pytest.mark.parametrize(
    ("base", "a", "b", "expected"),
    [
        ({"x": 1}, {"x": 1}, {"x": 2}, {"x": 2}),
        ({"x": 1}, {"x": 3}, {"x": 1}, {"x": 3}),  # b is written later, yet knows nothing of it
        ({"x": 1}, {"x": 3}, {"x": 2}, {"x": 2}),  # both: the later document
        ({"x": 1, "y": 1}, {"x": 1}, {"x": 1, "y": 1}, {"x": 1}),
        ({"x": 1}, {"x": 1, "y": 2}, {"x": 1, "z": 3}, {"x": 1, "y": 2, "z": 3}),
        (None, {"x": 1, "y": 2}, {"x": 2}, {"x": 2, "y": 2}),
        (None, {"g": 1}, {"g.a": 2}, {"g.a": 2}),
        (None, {"g.a": 1, "k": 0}, {"g": 2}, {"g": 2, "k": 0}),
        (None, {"x": float("nan")}, {"x": float("nan")}, {"x": float("nan")}),
    ],
)
def test_parameters_are_joined_name_by_name(base, a, b, expected):
    first, second = document(a, "2026-01-02"), document(b, "2026-01-03")
    made = joined(document(base, "2026-01-01") if base is not None else None, first, second)
    assert repr(made["data"]) == repr(expected) or made["data"] == expected
    other = joined(document(base, "2026-01-01") if base is not None else None, second, first)
    assert repr(sorted(other["data"].items())) == repr(sorted(made["data"].items()))
    assert made["updatedAt"] == "2026-01-03"


def test_a_parameter_that_both_changed_is_told(here, there):
    fill(here)
    here.sync(there)
    for lake, value in ((here, 1), (there, 2)):
        with session(lake) as run:
            run.parameters().set(lr=value)
    done = here.sync(there)
    assert [clash.what for clash in done.sessions[0].clashes] == ["parameter 'lr' was set differently in both; 2 stays"]
    assert told(side(there)) == told(side(here))
