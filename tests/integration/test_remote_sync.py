"""Push, pull and sync with a remote lake on real servers: a run moves to the team's lake, and to another folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sync_support import side, told

import dreamlake.remote as remote_module
from dreamlake import Session, open_lake
from dreamlake.lake import Lake

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def place(mongo_url, s3_place) -> dict[str, Any]:
    return {"mongodb": mongo_url, "s3": s3_place, "namespace": "ana"}


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """Counts what is asked of the database and of the object store."""
    counted: Counter[str] = Counter()

    class Counted:
        def __init__(self, inner: Any, what: str) -> None:
            self._inner, self._what = inner, what

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._inner, name)
            if callable(found) and name != "close":
                counted[f"{self._what}.{name}"] += 1
            return found

    docs, objects = remote_module.CLIENTS
    clients = remote_module.Clients(lambda url: Counted(docs(url), "docs"), lambda s: Counted(objects(s), "objects"))
    monkeypatch.setattr(remote_module, "CLIENTS", clients)
    return counted


def fill(lake: Lake, steps: int = 3) -> None:
    weights = np.random.default_rng(1).standard_normal(400_000).astype(np.float32)
    with Session("run 1", "vision", local_path=lake.root, tags=["x"], capture=False) as run:
        for step in range(steps):
            run.files().save_numpy(weights + np.float32(step * 1e-4), "w.npy", path="/models", metadata={"step": step})
        run.files().upload(b"notes", filename="notes.txt")
        run.files().alias("/models/w.npy@v1", "first")
        run.parameters().set(lr=0.1)
        for number in range(20):
            run.log(f"line {number}")
        run.track("train/loss").append_batch([{"value": n} for n in range(500)])


def tree(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.glob("vision/**/*.*") if path.is_file()}


def test_from_a_folder_to_the_team_and_to_another_folder(place, tmp_path, calls):
    here, other = open_lake(tmp_path / "here", create=True), open_lake(tmp_path / "other", create=True)
    fill(here)
    with open_lake(place, create=True) as team:
        done = here.push(team)
        assert not done.failed and done.sent.versions == 4
        assert done.sent.stored_bytes < done.sent.content_bytes / 2, "differences did not travel as differences"
        assert [key.full for key in team.store.sessions()] == ["ana/vision/run 1"]
        assert other.pull(team).received.versions == 4
        assert told(side(team)) == told(side(here)) == told(side(other))
        for lake in (here, other):
            lake.materialize()
        trees = [tree(Path(lake.root)) for lake in (here, other)]
        assert trees[0] == trees[1] and any(path.name == "w.npy" for path in trees[0])
        calls.clear()
        again = here.sync(team)
        assert not again.sent.changed and not again.received.changed
        assert sum(n for name, n in calls.items() if name.startswith("objects.")) <= 2, calls  # store ids
        assert sum(calls.values()) <= 25, calls
        with Session("run 1", "vision", local_path=other.root, capture=False) as run:
            run.files().upload(b"from the other", filename="notes.txt")
            run.log("from the other")
        other.push(team)
        here.sync(team)
        assert told(side(team)) == told(side(here)) == told(side(other))
        assert team.verify(deep=True).findings == [] and here.verify(deep=True).findings == []


def test_sessions_in_processes_of_their_own(place, tmp_path):
    here = open_lake(tmp_path / "here", create=True)
    for number in range(4):
        with Session(f"run {number}", "vision", local_path=here.root, capture=False) as run:
            run.files().upload(b"%d" % number, filename="n.txt")
    with open_lake(place, create=True) as team, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert here.push(team, executor=pool).sent.versions == 4
        assert told(side(team)) == told(side(here))


def test_collection_in_the_middle(place, tmp_path, monkeypatch):
    from dreamlake.operations import sync_blobs

    here = open_lake(tmp_path / "here", create=True)
    fill(here, steps=2)
    with open_lake(place, create=True) as team, open_lake(place) as collector:
        real = sync_blobs.Courier._send

        def send(self: Any, wave: Any, claimed: Any) -> None:
            real(self, wave, claimed)
            collector.collect(now=True, force=True)

        monkeypatch.setattr(sync_blobs.Courier, "_send", send)
        monkeypatch.setattr(sync_blobs, "WAVE_BLOBS", 1)
        assert not here.push(team).failed
        assert told(side(team)) == told(side(here))


def test_killed_in_the_middle_and_run_again(place, tmp_path):
    here = open_lake(tmp_path / "here", create=True)
    rng = np.random.default_rng(2)
    with Session("run 1", "vision", local_path=here.root, capture=False) as run:
        for number in range(24):
            run.files().upload(rng.bytes(500_000), filename=f"{number}.bin")
    with open_lake(place, create=True) as team:
        code = (
            "import json, sys, dreamlake.operations.sync_blobs as blobs\n"
            "from dreamlake import open_lake\n"
            "blobs.WAVE_BLOBS = 2\n"
            "open_lake(sys.argv[1]).push(json.loads(sys.argv[2]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(here.root), json.dumps(place)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 60
        while sum(1 for _ in team.store.blobs.copies()) < 4 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = sum(1 for _ in team.store.blobs.copies())
        assert 4 <= there < 24, "not killed in the middle"
        assert team.sessions() == [], "half of it is visible"
        done = here.push(team)
        assert not done.failed and done.sent.versions == 24
        assert done.sent.blobs <= 24 - there + 2
        assert told(side(team)) == told(side(here))


def test_a_run_moves_with_one_command_and_back(place, tmp_path):
    here = open_lake(tmp_path / "here", create=True)
    fill(here)
    before = told(side(here))
    config = tmp_path / "config.toml"
    secrets = {name: place["s3"][name] for name in ("access_key_id", "secret_access_key") if name in place["s3"]}
    settings = {name: value for name, value in place["s3"].items() if name not in secrets}
    settings.update({f"{name}_env": f"TEST_{name.upper()}" for name in secrets})
    s3 = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    config.write_text(
        f'[profiles.team]\nmongodb = "{place["mongodb"]}"\nnamespace = "ana"\n[profiles.team.s3]\n{s3}\n', "utf-8"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DREAMLAKE_CONFIG": str(config)}
    env.update({f"TEST_{name.upper()}": value for name, value in secrets.items()})

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dreamlake", "--lake", str(here.root), *arguments],
            env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("push", "team", "--create").startswith("sent vision/run 1: 4 versions")
    shutil.rmtree(here.root)
    assert run("pull", "team").startswith("received vision/run 1: 4 versions")
    assert told(side(open_lake(here.root))) == before
    assert run("sync", "team").startswith("nothing to do")
