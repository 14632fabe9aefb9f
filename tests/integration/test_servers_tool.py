"""``tools/servers``: what it starts is there when it says so, and gone when it has to be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.servers.keeper import end, kept
from tools.servers.processes import MongoServer

ROOT = Path(__file__).resolve().parents[2]


def ports(found: dict[str, str]) -> list[int]:
    mongo = found["DREAMLAKE_TEST_MONGODB"].rpartition(":")[2].partition("/")[0]
    return [int(mongo), int(found["DREAMLAKE_TEST_S3"].rpartition(":")[2])]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def silent_within(found: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(answers(port) for port in found):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_pair_lives_as_long_as_who_it_is_for(tmp_path: Path) -> None:
    """The watched process is killed with -9: the servers end, and their data with them."""
    watched = subprocess.Popen(["sleep", "300"])
    try:
        found = kept(watched.pid, {**os.environ, "TMPDIR": str(tmp_path)})
        assert all(answers(port) for port in ports(found))
    finally:
        watched.kill()
        watched.wait()
    assert silent_within(ports(found), 10)
    end(int(found["pid"]))


@pytest.mark.parametrize("victim", ["starter", "tied"])
def test_a_server_ends_with_its_starter_however_that_ends(victim: str) -> None:
    tied = str(ROOT / "tools" / "servers" / "tied.py")
    program = f"""
import os, subprocess, sys, time
listen = '''
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
time.sleep(300)
'''
tied = subprocess.Popen([sys.executable, {tied!r}, str(os.getpid()), sys.executable, "-c", listen])
print("pid", tied.pid, flush=True)
time.sleep(300)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        told = dict(starter.stdout.readline().split() for _ in range(2))
        assert answers(int(told["port"]))
        os.kill(starter.pid if victim == "starter" else int(told["pid"]), signal.SIGKILL)
        assert silent_within([int(told["port"])], 5)
        starter.kill()


def test_run_gives_the_command_its_addresses_and_its_exit_code() -> None:
    program = "import os; print(os.environ['DREAMLAKE_REMOTE'], os.environ['AWS_ENDPOINT_URL_S3']); raise SystemExit(7)"
    done = subprocess.run(
        [sys.executable, "-m", "tools.servers", "run", "--", sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    remote, endpoint = done.stdout.split()
    assert remote.startswith("s3://dreamlake-test/lake?mongodb=mongodb%3A%2F%2F127.0.0.1%3A")
    assert not answers(int(endpoint.rpartition(":")[2]))


def test_a_wrong_word_is_answered_with_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.servers", "begin"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "run -- COMMAND" in done.stderr


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = MongoServer(tmp_path, options=["--no-such-option"])
    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()
