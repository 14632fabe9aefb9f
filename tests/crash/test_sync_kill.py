"""Real processes that synchronise two folders, killed at any moment, while both lakes are used and collected."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sync_support import side, told

from dreamlake import Session, open_lake

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
import dreamlake.operations.sync_blobs as blobs
from dreamlake import open_lake
blobs.WAVE_BLOBS = 2
print("ready", flush=True)
for line in sys.stdin:
    done = open_lake(sys.argv[1]).sync(sys.argv[2])
    print(len(done.failed), flush=True)
"""


def start(here: Path, there: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(here), str(there)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def use(root: Path, number: int, rng: random.Random) -> dict[str, bytes]:
    made = {}
    with Session("s", "w", local_path=root, capture=False) as run:
        for n in range(6):
            data = rng.randbytes(20_000)
            made[run.files().upload(data, filename=f"{n}.bin")["id"]] = data
        run.log(f"{root.name} {number}")
        run.track("x").append_batch([{"v": n} for n in range(20)])
        run.parameters().set({f"{root.name}.{number}": number})
    return made


def test_killed_at_any_moment(tmp_path):
    rng = random.Random(7)
    here, there = tmp_path / "here", tmp_path / "there"
    made: dict[str, bytes] = {}
    for number in range(8):
        made |= use(here, number, rng) | use(there, number, rng)
        process = start(here, there)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(rng.uniform(0.005, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for root in rng.sample([here, there], rng.randint(0, 2)):
            open_lake(root).collect(now=True, force=True)
            assert open_lake(root).verify(deep=True).findings == []
    first, second = open_lake(here), open_lake(there)
    assert not first.sync(second).failed
    assert told(side(first)) == told(side(second))
    kept = {version.id: version for version in first.store.catalog.view(first.store.session("w", "s")).versions()}
    assert made.keys() <= kept.keys()
    with Session("s", "w", local_path=here, capture=False) as run:
        rows = [entry["message"] for entry in run.logs()]
    assert sorted(rows) == sorted(f"{root.name} {number}" for root in (here, there) for number in range(8))
    for root in (here, there):  # what the killed left behind goes
        open_lake(root).collect(now=True, force=True)
        assert [list((root / ".dreamlake" / name).iterdir()) for name in ("pending", "tmp")] == [[], []]
