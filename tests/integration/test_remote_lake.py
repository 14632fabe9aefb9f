"""A remote lake on a real S3 server and a real MongoDB-wire server: the API from end to end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamlake import Session, open_lake
from dreamlake.content.assembled import find_recipe, part_needs
from dreamlake.doctor import FAILED, examine
from dreamlake.errors import AccessDenied, Unavailable, UnsupportedFormat

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def place(mongo_url, s3_place) -> dict[str, Any]:
    return {"mongodb": mongo_url, "s3": s3_place, "namespace": "ana"}


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs this code, with ``place`` and ``argv``."""
    head = "import json, sys\nfrom dreamlake import Session, open_lake\nplace, *argv = map(json.loads, sys.argv[1:])\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(json.dumps, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_a_session_from_end_to_end(place, tmp_path, monkeypatch):
    with Session("run 1", "vision", remote=place, tags=["x"], metadata={"lr": 0.1}) as session:
        session.parameters().set(lr=0.1, model={"depth": 3})
        session.log("hello", metadata={"epoch": 1})
        session.track("train/loss").append_batch([{"value": n} for n in range(1000)])
        session.files().upload(b"small", filename="a.txt", path="/data", tags=["t"])
        weights = np.arange(600_000, dtype="f4").reshape(600, 1000)
        session.files().save_numpy(weights, "w.npy", path="/models")
        session.files().save_numpy(weights + 1, "w.npy", path="/models")
        big = tmp_path / "big.bin"
        big.write_bytes(os.urandom(12 << 20))
        session.files().upload(big)
        session.files().alias("/models/w.npy@v1", "first")
    with Session("run 1", "vision", remote=place) as session:
        assert session.metadata == {"lr": 0.1} and session.tags == ["x"] and session.namespace == "ana"
        assert session.parameters().get() == {"lr": 0.1, "model.depth": 3}
        assert session.logs()[0]["message"] == "hello"
        track = session.track("train/loss")
        assert track.read(998)["data"][-1]["data"] == {"value": 999} and track.stats()["totalDataPoints"] == 1000
        files = session.files()
        assert files.read_bytes("/data/a.txt") == b"small"
        assert (files.tensor("/models/w.npy") == weights + 1).all()
        assert (files.tensor("/models/w.npy@first") == weights).all()
        assert Path(files.download("/big.bin", tmp_path / "back.bin")).read_bytes() == big.read_bytes()
        assert [r["filename"] for r in files.find(tags=["t"])] == ["a.txt"]
        assert session.local_path is None and session.id == "vision/run 1"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", place["s3"]["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", place["s3"]["secret_access_key"])
    with open_lake(place["mongodb"], namespace="ana") as lake:
        assert "ana" not in repr(lake) and [str(info.key) for info in lake.sessions()] == ["vision/run 1"]


def test_upkeep_says_the_same_words(place, tmp_path):
    with Session("s", "w", remote=place) as session:
        kept, gone = os.urandom(70_000), os.urandom(90_000)
        session.files().upload(kept, filename="kept")
        session.files().upload(gone, filename="gone")
        session.files().delete("/gone")
    with open_lake(place) as lake:
        assert lake.verify(deep=True).findings == []
        assert lake.stats().blobs == 2
        found = lake.collect(dry_run=True, now=True, keep_deleted=0)
        assert (found.let_go["deleted"].count, found.condemned.bytes) == (1, 90_000)
        assert lake.collect(now=True, keep_deleted=0).freed.bytes == 90_000
        assert (lake.stats().blobs, lake.stats().stored_bytes) == (1, 70_000)
        assert lake.repair().healed == []
        made = lake.materialize("w/s", to=tmp_path / "tree")
        assert made.complete and (tmp_path / "tree/w/s/files/kept").read_bytes() == kept
        assert lake.materialize("w/s", to=tmp_path / "tree").unchanged == 1


def test_objects_under_documented_keys_and_links(place, tmp_path):
    """Copied by the server where content is raw, sent where it is coded; read without credentials by a link."""
    raw, weights = os.urandom(9 << 20), np.arange(400_000, dtype="f4")
    with Session("run 1", "vision", remote=place) as session:
        (tmp_path / "ü 1.bin").write_bytes(raw)
        session.files().upload(tmp_path / "ü 1.bin")
        session.files().save_numpy(weights, "w.npy", path="/models")
        with open_lake(place) as lake:
            done = lake.materialize("vision/run 1", bucket=True)
            assert (done.placed, done.links, done.complete) == (2, {"server": 1, "sent": 1}, True)
            assert lake.materialize("vision/run 1", bucket=True).unchanged == 2
            assert lake.verify(deep=True).findings == [] and lake.collect(now=True).freed.count == 0
            ids = {record["filename"]: record["id"] for record in session.files().list()}
            infos = {info.key: info.size for info in lake.store.bucket.objects.list("ana/vision/run 1/", files=True)}
            assert infos == {
                f"ana/vision/run 1/{ids['ü 1.bin']}/ü 1.bin": len(raw),
                f"ana/vision/run 1/{ids['w.npy']}/w.npy": len(session.files().read_bytes("/models/w.npy")),
            }
        for path in ("/ü 1.bin", "/models/w.npy"):
            with urllib.request.urlopen(session.files().link(path, expires_s=60), timeout=30) as answer:
                assert answer.read() == session.files().read_bytes(path)


def test_pools_of_processes_and_optimize(place, tmp_path):
    """Each process opens the lake for itself; what was stored whole becomes parts and differences."""
    with Session("s", "w", remote=place, encoding="raw") as session:
        for n in range(3):
            session.files().save_numpy(np.arange(400_000, dtype="f4") + n, "w.npy")
        session.files().upload(b"x" * 1000, filename="x")
    with open_lake(place) as lake, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert lake.verify(deep=True, executor=pool).findings == []
        assert lake.materialize("w/s", to=tmp_path / "tree", executor=pool).placed == 2
        before = lake.stats().stored_bytes
        assert lake.optimize().recoded == 3
        lake.collect(now=True)
        assert lake.stats().stored_bytes < before / 10 and lake.verify(deep=True).findings == []
        assert lake.materialize("w/s", to=tmp_path / "tree").unchanged == 2


def test_a_chain_is_turned_round(place):
    """The newest of five versions stands alone afterwards, and the bucket is emptied of what they were before."""
    random = np.random.default_rng(3)
    weights, digests = random.normal(0, 0.02, 400_000).astype("f4"), []
    with Session("s", "w", remote=place) as session:
        for _ in range(5):
            weights += random.normal(0, 1e-5, weights.size).astype("f4")
            digests.append(session.files().save_numpy({"w": weights}, "w.npz")["checksum"])
        with open_lake(place) as lake:
            before = lake.stats().stored_bytes
            assert lake.optimize().turned_versions == 5
            lake.collect(now=True, force=True)
            assert lake.stats().stored_bytes < 1.02 * before and lake.verify(deep=True).findings == []
            assert not part_needs(lake.store.blobs, find_recipe(lake.store.blobs, digests[-1])[1].parts[0].key)
        for number, digest in enumerate(digests, 1):
            assert hashlib.sha256(session.files().read_bytes(f"/w.npz@v{number}")).hexdigest() == digest


def test_sixteen_clients_in_one_workspace(place):
    """Processes that create the lake and one session at once, and write into it at the same time."""
    code = """
    who, = argv
    with Session("shared", "w", remote=place) as session:
        for n in range(2):
            session.log(f"{who}", metadata={"n": n})
            session.track("t").append(who=who, n=n)
            session.files().upload(b"same in all" * 100, filename=f"{who}-{n}.txt", path="/same")
            session.files().upload(f"{who} {n}".encode(), filename="one.txt")
        session.parameters().set({f"p{who}": who})
    """
    started = [child(code, place, who) for who in range(16)]
    for process in started:
        finished(process)
    with Session("shared", "w", remote=place) as session:
        rows = session.logs()
        assert [row["sequenceNumber"] for row in rows] == list(range(32))
        for who in range(16):
            assert [row["metadata"]["n"] for row in rows if row["message"] == str(who)] == [0, 1]
        assert session.track("t").stats()["totalDataPoints"] == 32
        assert session.parameters().get() == {f"p{who}": who for who in range(16)}
        assert len(session.files().list(path="/same")) == 32
        assert len(session.files().history("/one.txt")) == 32
    with open_lake(place) as lake:
        assert lake.verify(deep=True).findings == []
        assert lake.stats().blobs == 1 + 32


def test_a_killed_client_loses_nothing_that_was_acknowledged(place):
    code = """
    with Session("s", "w", remote=place) as session:
        for n in range(10_000):
            session.files().upload(f"content {n}".encode() * 50, filename=f"f{n}")
            session.log(str(n))
            print(n, flush=True)
    """
    process = child(code, place)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(8)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    with Session("s", "w", remote=place) as session:
        for n in told:
            assert session.files().read_bytes(f"/f{n}") == f"content {n}".encode() * 50
        rows = session.logs()
        assert [row["message"] for row in rows] == [str(n) for n in range(len(rows))] and len(rows) >= len(told)
        session.files().upload(b"more", filename="after")
    with open_lake(place) as lake:
        lake.collect(now=True)
        assert not lake.verify(deep=True).damaged


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_session_of_its_parent(place):
    """As workers of a data loader do."""
    with Session("s", "w", remote=place) as session:
        session.files().upload(b"content", filename="x")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                session.log("from the child")
                os.write(writer, session.files().read_bytes("/x"))
            finally:
                os._exit(0)
        os.close(writer)
        assert os.read(reader, 100) == b"content"
        os.close(reader)
        assert os.waitpid(pid, 0)[1] == 0
        session.log("from the parent")
        assert [row["message"] for row in session.logs()] == ["from the child", "from the parent"]


def test_blobs_in_a_shared_folder(mongo_url, tmp_path):
    place = {"mongodb": mongo_url, "folder": str(tmp_path / "shared"), "namespace": "ana"}
    with Session("s", "w", remote=place) as session:
        session.files().upload(b"x" * 10_000, filename="x")
        session.log("hello")
    with Session("s", "w", remote=mongo_url, namespace="ana") as session:
        assert session.files().read_bytes("x") == b"x" * 10_000
    with open_lake(mongo_url, namespace="bob") as lake:
        assert lake.sessions() == [] and lake.stats().sessions == 1
        assert lake.verify(deep=True).findings == []
        assert lake.collect(now=True).freed.count == 0


def test_namespaces_do_not_see_each_other_and_share_content(place):
    for who in ("ana", "bob"):
        with Session("run", "w", remote=place, namespace=who) as session:
            session.files().upload(b"shared content" * 1000, filename="x")
            session.files().upload(who.encode(), filename="me")
    with Session("run", "w", remote=place, namespace="bob") as session:
        assert session.files().read_bytes("/me") == b"bob"
        assert len(session.files().find(scope="lake")) == 2
    with open_lake(place) as lake:
        assert (lake.stats().sessions, lake.stats().blobs) == (2, 3)
        assert {link.session for link in lake.why(session_digest())} == {"ana/w/run", "bob/w/run"}


def session_digest() -> str:
    return hashlib.sha256(b"shared content" * 1000).hexdigest()


def test_what_is_wrong_is_said_in_a_sentence(place, tmp_path):
    with Session("s", "w", remote=place):
        pass
    assert not [check for check in examine(place) if check.state == FAILED]
    wrong_key = {**place, "s3": {**place["s3"], "secret_access_key": "wrong"}}
    with pytest.raises(AccessDenied) as caught:
        open_lake(wrong_key)
    assert "wrong" not in str(caught.value)
    assert {check.name for check in examine(wrong_key) if check.state == FAILED} == {"store ids", "bucket"}
    with pytest.raises(Unavailable, match=r"there is no bucket for s3://no-such-bucket.*; create it"):
        open_lake({**place, "s3": {**place["s3"], "bucket": "no-such-bucket"}})
    other = place["mongodb"].replace("/test-", "/test-other-")
    with pytest.raises(UnsupportedFormat, match="holds the blobs of another lake"):
        Session("s", "w", remote={**place, "mongodb": other}).open()


def test_a_database_that_is_away(s3_place):
    at = {"mongodb": "mongodb://127.0.0.1:9/lake?serverSelectionTimeoutMS=300", "s3": s3_place}
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        Session("s", "w", remote=at).open()
    assert time.monotonic() - began < 20
    (failed,) = [check for check in examine(at) if check.state == FAILED]
    assert failed.name == "database"
