"""Side data under real processes: many writers at once, and writers that are killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamlake.journal.folder import FolderJournal
from dreamlake.logs import Logs
from dreamlake.parameters import Parameters
from dreamlake.ports import OsFs, Ports
from dreamlake.tracks import Tracks

PRELUDE = """
import os, sys
from dreamlake.journal.folder import FolderJournal
from dreamlake.logs import Logs
from dreamlake.parameters import Parameters
from dreamlake.ports import Ports
from dreamlake.tracks import Tracks
folder, who = sys.argv[1], int(sys.argv[2])
ports = Ports()
journal = FolderJournal(ports, folder, sync_delay_s=0.05)
parameters, logs, tracks = (kind(journal, lambda write: None, ports) for kind in (Parameters, Logs, Tracks))
"""

WRITER = (
    PRELUDE
    + """
for n in range(60):
    tracks.track("loss").append(who=who, n=n)
    logs.log(f"{who} {n}")
    if n % 6 == 0:
        tracks.track("batches").append_batch([{"who": who, "n": n, "part": part} for part in range(5)])
        parameters.set({f"writer{who}.p{n}": n, "shared": {f"last{who}": n}})
tracks.close()
journal.close()
"""
)

VICTIM = (
    PRELUDE
    + """
def acknowledge(kind, number, value):
    os.write(1, f"{kind} {number} {value}\\n".encode())
for n in range(1_000_000):
    value = f"{who}-{n}"
    acknowledge("loss", tracks.track("loss").append(value=value)["index"], value)
    batch = tracks.track("wide").append_batch([{"value": value, "filler": "x" * 4000}] * 40)
    acknowledge("wide", batch["startIndex"], value)
    acknowledge("log", logs.log("happened", value=value)["sequenceNumber"], value)
    parameters.set({"last": value, f"seen.w{who}": n})
    acknowledge("parameters", n, value)
    if n % 5 == 4:
        journal.sync()
"""
)


def views(folder: Path):
    ports = Ports()
    journal = FolderJournal(ports, str(folder))
    return tuple(kind(journal, lambda write: None, ports) for kind in (Parameters, Logs, Tracks))


def start(code: str, folder: Path, who: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(who)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_many_processes_lose_nothing_and_number_without_gaps(tmp_path):
    folder = tmp_path / "w" / "s"
    writers = [start(WRITER, folder, who) for who in range(6)]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert (writer.returncode, out, err) == (0, b"", b"")
    parameters, logs, tracks = views(folder)

    points = [json.loads(line) for line in (folder / "tracks/loss/data.jsonl").read_text().splitlines()]
    assert [point["index"] for point in points] == list(range(360))
    entries = [json.loads(line) for line in (folder / "logs/logs.jsonl").read_text().splitlines()]
    assert [entry["sequenceNumber"] for entry in entries] == list(range(360))
    for who in range(6):  # each writer's own order is kept
        assert [p["data"]["n"] for p in points if p["data"]["who"] == who] == list(range(60))
        assert [e["message"] for e in entries if e["message"].startswith(f"{who} ")] == [
            f"{who} {n}" for n in range(60)
        ]
    parts = [point["data"]["part"] for point in tracks.track("batches")]
    assert parts == [0, 1, 2, 3, 4] * 60  # batches are not mixed
    expected = {f"writer{who}.p{n}": n for who in range(6) for n in range(0, 60, 6)}
    assert parameters.get() == {**expected, **{f"shared.last{who}": 54 for who in range(6)}}
    stored = json.loads((folder / "parameters.json").read_text())
    assert stored["version"] == 60
    assert json.loads((folder / "tracks/loss/metadata.json").read_text())["totalDataPoints"] == 360
    assert len(logs.read()) == 360


def test_kill_at_any_moment_loses_nothing_acknowledged(tmp_path):
    folder = tmp_path / "w" / "s"
    acknowledged: dict[str, dict[int | str, str]] = {"loss": {}, "wide": {}, "log": {}, "parameters": {}}
    chance = random.Random(20250131)
    for trial in range(24):
        victims = [start(VICTIM, folder, 2 * trial + k) for k in range(1 + trial % 2)]
        answers = [b""] * len(victims)
        for number, victim in enumerate(victims):
            answers[number] = victim.stdout.readline()  # it is under way
        time.sleep(chance.random() * 0.05)
        for victim in victims:
            victim.kill()
        for number, victim in enumerate(victims):
            out, err = victim.communicate(timeout=60)
            assert (victim.returncode, err) == (-signal.SIGKILL, b"")
            for line in (answers[number] + out).split(b"\n")[:-1]:
                kind, position, value = line.decode().split()
                key = value if kind == "parameters" else int(position)
                assert key not in acknowledged[kind], "a number was given twice"
                acknowledged[kind][key] = value
        check(folder, acknowledged)
    assert min(len(numbers) for numbers in acknowledged.values()) >= 10

    parameters, logs, tracks = views(folder)  # and life goes on
    total = tracks.track("wide").read(0, 0)["total"]
    assert int(tracks.track("wide").append(value="alive")["index"]) == total
    tracks.track("loss").append(value="alive")
    assert logs.log("alive")["sequenceNumber"] == len(logs.read()) - 1
    for file in ("tracks/loss/data.jsonl", "tracks/wide/data.jsonl", "logs/logs.jsonl"):
        for line in (folder / file).read_bytes().splitlines():
            json.loads(line)  # also where a victim's last line had been torn
    assert parameters.set(alive=True).get("alive") is True


def check(folder: Path, acknowledged: dict[str, dict[int | str, str]]) -> None:
    parameters, logs, tracks = views(folder)
    loss = list(tracks.track("loss"))
    assert [point["index"] for point in loss] == list(range(len(loss)))
    for position, value in acknowledged["loss"].items():
        assert loss[position]["data"]["value"] == value
    wide = [point["data"]["value"] for point in tracks.track("wide")]
    for position, value in acknowledged["wide"].items():
        assert wide[position : position + 40] == [value] * 40
    entries = logs.read()
    for position, value in acknowledged["log"].items():
        assert entries[position]["metadata"] == {"value": value}
    stored = parameters.get()
    for value in acknowledged["parameters"].values():
        who, n = map(int, value.split("-"))
        assert stored[f"seen.w{who}"] >= n
    for entry in tracks.list_all():
        assert entry["name"] in ("loss", "wide") and entry["trackId"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_a_lock_is_held_does_not_keep_it(tmp_path):
    """A training script forks data loaders while another thread logs: neither the parent nor the child may hang."""
    fs, path = Ports().fs, str(tmp_path / "file")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with fs.lock(path):
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    gate, opened = os.pipe()
    pid = os.fork()
    if pid == 0:  # lives on with copies of all descriptors until the parent says so
        os.close(opened)
        os.read(gate, 1)
        os._exit(0)
    os.close(gate)
    release.set()
    thread.join(30)
    got = threading.Event()

    def take() -> None:
        with fs.lock(path):
            got.set()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    assert got.wait(20), "the child kept the parent's lock"
    os.close(opened)
    assert os.waitpid(pid, 0)[1] == 0


KILLED_HOLDER = """
import os, sys, threading
from dreamlake.ports import Ports
def hold():
    with Ports().fs.lock(sys.argv[1]):
        held.set()
        threading.Event().wait()
held = threading.Event()
threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = os.fork()
if pid == 0:
    os.write(1, b"forked\\n")
    os.read(0, 1)  # outlives its parent
    os._exit(0)
threading.Event().wait()
"""


def test_a_killed_holder_loses_its_lock_even_if_its_child_lives(tmp_path):
    path = str(tmp_path / "file")
    holder = subprocess.Popen(
        [sys.executable, "-c", KILLED_HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"forked\n"
    holder.kill()
    holder.wait(30)
    got = threading.Event()

    def take() -> None:
        with Ports().fs.lock(path):
            got.set()

    threading.Thread(target=take, daemon=True).start()
    try:
        assert got.wait(20), "the orphan kept the lock of the dead"
    finally:
        holder.stdin.close()  # lets the orphan end
        holder.stdout.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_neither_hangs_nor_leaves_its_appends_unsynced(tmp_path):
    """At the fork another thread is inside the journal, and a timer is waiting that only the parent has."""
    synced = []

    class Spy(OsFs):
        def fsync(self, path: str) -> None:
            synced.append(path)
            super().fsync(path)

    journal = FolderJournal(Ports(fs=Spy()), str(tmp_path / "w" / "s"), sync_delay_s=0.3)
    journal.append("logs", [{"message": "parent"}])
    with journal._later._lock:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)  # a hang would end the child
                synced.clear()
                journal.append("logs", [{"message": "child"}])
                deadline = time.monotonic() + 15
                while not synced and time.monotonic() < deadline:
                    time.sleep(0.01)
                status = 0 if synced else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    journal.close()
    assert [row["message"] for row in journal.read("logs", 0, 9)] == ["parent", "child"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_goes_on_with_its_parents_journal(tmp_path, method):
    """The session object travels into the child (fork), or the child opens the folder itself (spawn)."""
    import multiprocessing

    folder = tmp_path / "w" / "s"
    journal = FolderJournal(Ports(), str(folder), sync_delay_s=60)
    tracks = Tracks(journal, lambda write: None, Ports())
    tracks.track("loss").append(v="parent")  # a timer is running, an end is cached
    context = multiprocessing.get_context(method)
    target = tracks if method == "fork" else str(folder)
    children = [context.Process(target=_append_in_child, args=(target,)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in range(20):
        tracks.track("loss").append(v="parent")
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    values = [point["data"]["v"] for point in tracks.track("loss")]
    assert (values.count("parent"), values.count("child")) == (21, 60)
    journal.close()


def _append_in_child(target: Tracks | str) -> None:
    if isinstance(target, str):
        target = Tracks(FolderJournal(Ports(), target), lambda write: None, Ports())
    for _ in range(20):
        target.track("loss").append(v="child")
    target._journal.close()
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
