"""The keeper: a process that runs a pair of servers for as long as another process lives, and no longer.

Who wants servers starts a keeper (``kept``) and names the process to watch. The keeper ends the servers and removes
their data when that process ends, however it ends; when the keeper itself is killed, the kernel ends the servers
(Linux, ``tied.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from tools.servers.environment import ROOT
from tools.servers.processes import ACCESS_KEY, BUCKET, SECRET_KEY, MongoServer, S3Server

REGION = "us-east-1"
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes free in memory, for the servers' data to go there


def settings(mongo: MongoServer, s3: S3Server) -> dict[str, str]:
    """The environment that leads the tests to a pair of servers."""
    return {
        "DREAMLAKE_TEST_MONGODB": mongo.url,
        "DREAMLAKE_TEST_S3": s3.endpoint,
        "DREAMLAKE_TEST_BUCKET": BUCKET,
        "DREAMLAKE_TEST_ACCESS_KEY": ACCESS_KEY,
        "DREAMLAKE_TEST_SECRET_KEY": SECRET_KEY,
    }


def for_users(found: dict[str, str]) -> dict[str, str]:
    """``settings`` and what makes ``dreamlake`` itself, and any S3 tool, use these servers."""
    url = quote(found["DREAMLAKE_TEST_MONGODB"].replace("/?", "/dreamlake?"), safe="")
    endpoint = quote(found["DREAMLAKE_TEST_S3"], safe="")
    place = f"s3://{found['DREAMLAKE_TEST_BUCKET']}/lake"
    return {
        **found,
        "DREAMLAKE_REMOTE": f"{place}?mongodb={url}&endpoint={endpoint}&region={REGION}&addressing=path",
        "AWS_ACCESS_KEY_ID": found["DREAMLAKE_TEST_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": found["DREAMLAKE_TEST_SECRET_KEY"],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": found["DREAMLAKE_TEST_S3"],
    }


def keep(watched: int) -> None:
    """Run a pair until process ``watched`` ends (0: until a signal); says where they are, as one line of JSON.

    Goes on as a grandchild of whoever started it: nobody has to wait for it.
    """
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the watched one; it still needs its servers
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="dreamlake-servers-", dir=_MEMORY if roomy else None))
    mongo, s3 = MongoServer(folder / "mongo"), S3Server(folder / "s3")
    try:
        for server in (s3, mongo):
            server.begin()
        for server in (mongo, s3):
            server.wait()
        print(json.dumps({"pid": os.getpid(), **settings(mongo, s3)}), flush=True)
        _wait_for(watched)
    finally:
        mongo.kill()
        s3.kill()
        shutil.rmtree(folder, ignore_errors=True)


def kept(watched: int, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Start a keeper; returns ``settings`` (and its ``pid``) when both servers are ready.

    Raises:
        RuntimeError: they did not start; says why.
    """
    command = [sys.executable, "-m", "tools.servers", "keep", str(watched)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout:
            line = process.stdout.readline()
        process.wait()
        if not line:
            errors.seek(0)
            raise RuntimeError(f"the servers did not start: {errors.read().decode(errors='replace')}")
    found: dict[str, Any] = json.loads(line)
    return {name: str(value) for name, value in found.items()}


def end(pid: int, patience_s: float = 20.0) -> None:
    """End a keeper and wait until its servers are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while _lives(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # where orphans are adopted it is our child, and would stay a zombie
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _wait_for(watched: int) -> None:
    if watched and hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(watched)
        except ProcessLookupError:
            return
        select.select([descriptor], [], [])
        return
    while not watched or _lives(watched):
        time.sleep(0.5)
