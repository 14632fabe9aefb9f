"""Files as objects under their documented keys, and links: on a bucket and a database in memory."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects
from fakes.remote import FakeServers

from dreamlake import Session, open_lake
from dreamlake.errors import Corrupt, InvalidInput, NotFound, Unavailable
from dreamlake.operations.planned import Options

AT = {"mongodb": "mongodb://h/lake", "s3": {"bucket": "our-lake"}, "namespace": "ana"}


class Watched(MemoryObjects):
    """Counts calls; ``dying`` makes one of them fail."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.dying: str | None = None

    def _note(self, name: str) -> None:
        self.calls[name] += 1
        if self.dying == name:
            raise Unavailable("away")

    def copy(self, key: str, target: str, **options: Any) -> Any:
        self._note("copy")
        return super().copy(key, target, **options)

    def put_file(self, target: str, source: Any, **options: Any) -> Any:
        self._note("put_file")
        return super().put_file(target, source, **options)


@pytest.fixture
def bucket(monkeypatch, tmp_path) -> Watched:
    servers = FakeServers()
    made = servers.buckets[None, "our-lake", ""] = Watched()
    servers.install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def files(bucket):
    with Session("run 1", "vision", remote=AT) as session:
        yield session.files()


@pytest.fixture
def raw(files) -> bytes:
    data = os.urandom(5000)
    files.upload(data, filename="a.bin", path="/data")
    return data


@pytest.fixture
def coded(files) -> bytes:
    files.save_numpy(np.arange(500_000, dtype="f4"), "w.npy")
    return files.read_bytes("/w.npy")


def run(**options: Any) -> Any:
    with open_lake(AT) as lake:
        return lake.materialize("vision/run 1", bucket=True, **options)


def test_objects_lie_under_the_documented_keys_with_their_content(bucket, files, raw, coded):
    done = run()
    assert (done.placed, done.complete, done.links) == (2, True, {"server": 1, "sent": 1})
    ids = {record["filename"]: record["id"] for record in files.list()}
    assert {key: held.data for key, held in bucket.files.items()} == {
        f"ana/vision/run 1/{ids['a.bin']}/a.bin": raw,
        f"ana/vision/run 1/{ids['w.npy']}/w.npy": coded,
    }
    assert {held.content_type for held in bucket.files.values()} == {record["contentType"] for record in files.list()}
    assert bucket.calls == {"copy": 1, "put_file": 1}


def test_a_second_run_changes_nothing_and_a_new_version_is_a_new_object(bucket, files, raw):
    run()
    assert (run().placed, run().unchanged) == (0, 1)
    assert bucket.calls == {"copy": 1}
    files.upload(b"second", filename="a.bin", path="/data")
    done = run()
    assert (done.placed, done.obsolete, done.removed) == (1, 1, 0)
    assert sorted(held.data for held in bucket.files.values()) == sorted([raw, b"second"])
    assert run(at=1).unchanged == 1
    assert run(delete=True).removed == 1
    assert [held.data for held in bucket.files.values()] == [b"second"]


def test_what_is_not_ours_is_neither_overwritten_nor_removed(bucket, files, raw):
    run()
    (target,) = bucket.files
    bucket.files["ana/vision/run 1/somebody/else.bin"] = bucket.files[target]._replace(data=b"else")
    bucket.files[target] = bucket.files[target]._replace(data=b"replaced")
    done = run()
    assert [problem.code for problem in done.conflicts] == ["edited"] and bucket.files[target].data == b"replaced"
    files.delete("/data/a.bin")
    assert [problem.code for problem in run(delete=True).conflicts] == ["edited"]
    assert len(bucket.files) == 2
    files.restore("/data/a.bin")
    assert run(force=True).placed == 1 and bucket.files[target].data == raw
    assert run(delete=True).removed == 0 and "ana/vision/run 1/somebody/else.bin" in bucket.files
    bucket.files["ana/vision/run 1/" + files.get("/data/a.bin")["id"] + "/x"] = bucket.files[target]
    with open_lake(AT) as lake:
        plan = lake.plan_materialize("vision/run 1", Options(), bucket=True, extras=True)
    assert len(plan.trees[0].extra) == 2 and not plan.in_order


@pytest.mark.parametrize("dying", ["copy", "put_file"])
def test_a_run_that_was_cut_off_goes_on(bucket, files, raw, coded, dying):
    bucket.dying = dying
    with pytest.raises(Unavailable):
        run()
    bucket.dying = None
    done = run()
    assert done.complete and done.placed + done.unchanged == 2
    assert sorted(held.data for held in bucket.files.values()) == sorted([raw, coded])
    assert run().unchanged == 2


def test_an_object_that_was_written_but_not_remembered_is_written_again(bucket, files, raw, monkeypatch):
    real = MemoryDocs.update

    def update(self, collection, where, change, **options):
        if collection == "placed" and "etag" in change.get("$set", {}):
            raise Unavailable("away")
        return real(self, collection, where, change, **options)

    monkeypatch.setattr(MemoryDocs, "update", update)
    with pytest.raises(Unavailable):
        run()
    monkeypatch.setattr(MemoryDocs, "update", real)
    assert len(bucket.files) == 1
    assert run().placed == 1 and run().unchanged == 1


def test_an_object_that_is_gone_is_made_again_or_forgotten(bucket, files, raw):
    run()
    bucket.files.clear()
    assert run().placed == 1
    bucket.files.clear()
    files.delete("/data/a.bin")
    assert run(delete=True).removed == 0
    assert files._store.bucket.docs.tables["placed"] == {}


def test_only_what_the_glob_selects(bucket, files, raw, coded):
    assert run(path="*.npy").placed == 1
    assert [key.rpartition("/")[2] for key in bucket.files] == ["w.npy"]
    files.delete("/w.npy")
    assert run(path="/data/**", delete=True).removed == 0
    assert run(delete=True).removed == 1


def test_lost_content_is_reported_and_the_rest_is_placed(bucket, files, raw):
    files.upload(b"other", filename="b.bin")
    for key in [key for key, held in bucket.held.items() if held.data == raw]:
        del bucket.held[key]
    done = run()
    assert [problem.code for problem in done.missing] == ["gone"] and done.placed == 1


def test_a_key_that_is_too_long_is_a_conflict(bucket, files):
    with Session("s" * 255, "w" * 255, remote={**AT, "namespace": "n" * 255}) as session:
        session.files().upload(b"x", filename="f" * 255)
    with open_lake(AT, namespace="n" * 255) as lake:
        done = lake.materialize(bucket=True)
    assert [problem.code for problem in done.conflicts] == ["name"] and bucket.files == {}


def test_targets_that_make_no_sense(bucket, files, raw, tmp_path):
    for options, message in (
        ({"to": tmp_path}, "two targets"),
        ({"link": "hardlink"}, "objects in a bucket are copies"),
    ):
        with pytest.raises(InvalidInput, match=message):
            run(**options)
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        session.files().upload(b"x", filename="x")
        with pytest.raises(InvalidInput, match="not in a bucket"):
            session.files().link("/x")
    with open_lake(tmp_path / "lake") as lake, pytest.raises(InvalidInput, match="in a folder, not in a bucket"):
        lake.materialize(bucket=True)
    with open_lake(AT) as lake, pytest.raises(InvalidInput, match=r"no folder of its own; say where .*to="):
        lake.materialize()


def test_a_claim_keeps_content_while_it_is_copied(bucket, files, raw, monkeypatch):
    real, seen = Watched.copy, []

    def copy(self, key, target, **options):
        with open_lake(AT) as lake:
            seen.extend(claim.record.entries[0]["op"] for claim in lake.store.catalog.pending())
        return real(self, key, target, **options)

    monkeypatch.setattr(Watched, "copy", copy)
    run()
    assert seen == ["read"]
    with open_lake(AT) as lake:
        assert list(lake.store.catalog.pending()) == []


# ---- links -----------------------------------------------------------------------------------------------------------


def test_a_link_to_raw_content_is_to_the_blob_itself(bucket, files, raw):
    made = files.link("/data/a.bin", expires_s=60)
    assert made.startswith("memory://blobs/") and made.endswith("?expires=60&as=a.bin")
    assert bucket.files == {} and bucket.calls == {}


def test_a_link_to_coded_content_makes_its_object_once(bucket, files, coded):
    made = files.link("/w.npy")
    (target,) = bucket.files
    assert made == f"memory://files/{target}?expires=3600&as=w.npy" and bucket.files[target].data == coded
    assert files.link("/w.npy@v1") == made
    assert bucket.calls == {"put_file": 1}
    assert run().unchanged == 1


@pytest.mark.parametrize("expires", [0, -1, 7 * 86_400 + 1])
def test_links_for_too_long_or_no_time(files, raw, expires):
    with pytest.raises(InvalidInput, match=r"valid for 1 to 604,800 seconds|cannot be negative"):
        files.link("/data/a.bin", expires_s=expires)


def test_links_to_what_is_not_there(bucket, files, coded):
    with pytest.raises(NotFound):
        files.link("/none")
    bucket.held.clear()
    with pytest.raises((NotFound, Corrupt), match=r"/w\.npy@v1 in session vision/run 1"):
        files.link("/w.npy")
