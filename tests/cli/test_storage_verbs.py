"""``dreamlake optimize``, ``settings`` and ``upload --encoding``, as real processes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save


@pytest.fixture
def call(tmp_path):
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dreamlake", "--lake", str(tmp_path / "lake"), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    start = np.random.default_rng(0).standard_normal(800_000).astype(np.float32)
    for step in range(3):
        drift = np.random.default_rng(step + 1).standard_normal(800_000).astype(np.float32)
        (folder / f"step_{step}.safetensors").write_bytes(save({"w": start + np.float32(1e-4 * step) * drift}))
    return folder


def sizes(tmp_path) -> dict[str, int]:
    return {f.name: f.stat().st_size for f in (tmp_path / "lake" / ".dreamlake" / "blobs").glob("*/*")}


def stored(tmp_path) -> list[str]:
    return list(sizes(tmp_path))


def test_optimize_codes_what_was_uploaded_raw(call, checkpoints, tmp_path):
    assert call("upload", str(checkpoints), "w/s:/c", "--encoding", "raw").returncode == 0
    assert all(len(name) == 64 for name in stored(tmp_path))
    dry = call("optimize", "--dry-run")
    assert dry.returncode == 0 and "would look at 3 large files" in dry.stdout
    assert all(len(name) == 64 for name in stored(tmp_path))
    done = json.loads(call("optimize", "--json", "w/s").stdout)
    assert (done["recoded"], done["dropped"]) == (3, 3) and done["bytesAfter"] < 0.7 * done["bytesBefore"]
    assert not [name for name in stored(tmp_path) if len(name) == 64]
    data = (checkpoints / "step_2.safetensors").read_bytes()
    call("download", "w/s:/c/step_2.safetensors", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert "0 files coded" in call("optimize").stdout


def test_optimize_of_what_does_not_exist(call, checkpoints):
    call("upload", str(checkpoints), "w/s:/c")
    assert call("optimize", "w/other").returncode == 3
    wrong = call("optimize", "w/s:/c")
    assert wrong.returncode == 2 and "not a file" in wrong.stderr


def test_settings_decide_how_uploads_are_stored(call, checkpoints, tmp_path):
    one = str(checkpoints / "step_0.safetensors")
    call("upload", one, "w/s:/a")
    assert any(name.startswith("rc-") for name in stored(tmp_path))
    assert call("settings").stdout.split() == ["encoding", "auto"]
    assert call("settings", "--encoding", "raw", "--dry-run").returncode == 0
    assert json.loads(call("settings", "--json").stdout) == {"encoding": "auto"}
    assert call("settings", "--encoding", "raw").returncode == 0
    assert json.loads(call("settings", "--json").stdout) == {"encoding": "raw"}
    call("upload", str(checkpoints / "step_1.safetensors"), "w/s:/a")
    assert sum(name.startswith("rc-") for name in stored(tmp_path)) == 1
    assert call("settings", "--encoding", "zip").returncode == 2


def test_optimize_turns_chains_round(call, checkpoints, tmp_path):
    start = np.random.default_rng(0).standard_normal(800_000).astype(np.float32)
    drift = np.random.default_rng(9).standard_normal(800_000).astype(np.float32)
    for step in range(4):  # one after the other: each is a difference to the one before
        data = save({"w": start + np.float32(1e-4 * step) * drift})
        (tmp_path / "step.safetensors").write_bytes(data)
        assert call("upload", str(tmp_path / "step.safetensors"), "w/s:/c").returncode == 0
    assert "would turn round 1 chain of 4 versions" in call("optimize", "--dry-run").stdout
    would = json.loads(call("optimize", "--dry-run", "--json").stdout)
    assert (would["turnedChains"], would["turnedVersions"], would["turnedBytesAfter"]) == (1, 4, 0)
    assert would["turnedBytesBefore"] == sum(name.startswith("b3-") and size for name, size in sizes(tmp_path).items())
    assert not [name for name in stored(tmp_path) if name.startswith("t3-")]
    said = call("optimize", "w/s").stdout
    assert "1 chain of 4 versions turned round, the newest reads fastest" in said
    assert sum(name.startswith("rt-") for name in stored(tmp_path)) == 4
    assert call("download", "w/s:/c/step.safetensors", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == data
    assert call("gc", "--now", "--force").returncode == 0
    assert not [name for name in stored(tmp_path) if name.startswith(("b3-", "rc-"))]
