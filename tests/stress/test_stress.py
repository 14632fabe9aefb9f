"""The protocol under SIGKILL with real processes, and the proof that this notices a broken one.

``DREAMLAKE_STRESS_S`` makes the first run longer (seconds).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = float(os.environ.get("DREAMLAKE_STRESS_S", "20"))
PROGRAM = Path(__file__).with_name("stress.py")


def campaign(folder: Path, seconds: float, *options: str, remote: dict[str, Any] | None = None) -> dict[str, Any]:
    package = str(PROGRAM.resolve().parents[2])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder / "lake"), str(seconds), *options],
        env={
            **os.environ,
            "PYTHONPATH": package,
            "DREAMLAKE_PROGRESS": "0",
            "DREAMLAKE_STRESS_REMOTE": json.dumps(remote),
        },
        capture_output=True,
        text=True,
        timeout=seconds + 240,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    result["status"], result["stderr"] = done.returncode, done.stderr
    return dict(result)


@pytest.mark.timeout(SECONDS + 300)
def test_nothing_acknowledged_is_ever_lost(tmp_path: Path) -> None:
    result = campaign(tmp_path, SECONDS)
    assert result["status"] == 0, result
    assert result["stderr"] == ""
    assert result["kills"] > SECONDS and result["acknowledged"] > 5 * SECONDS and result["restored"] > 0


@pytest.mark.timeout(SECONDS + 300)
def test_nothing_acknowledged_is_ever_lost_on_real_servers(
    tmp_path: Path, mongo_url: str, s3_place: dict[str, str]
) -> None:
    seconds = SECONDS * 0.75
    result = campaign(tmp_path, seconds, remote={"mongodb": mongo_url, "s3": s3_place})
    assert result["status"] == 0, result
    assert result["stderr"] == ""
    assert result["kills"] > seconds and result["acknowledged"] > seconds and result["restored"] > 0


def test_a_naive_protocol_loses_data_and_this_notices(tmp_path: Path) -> None:
    result = campaign(tmp_path, 60, "--naive")  # ends with the first loss, usually after a few seconds
    assert result["status"] == 1 and result["vanished"] > 0, result
