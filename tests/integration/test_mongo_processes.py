"""Many client processes, a server that is killed in the middle of their work, and one that hangs."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.test_catalog import KEY, put

from dreamlake.catalog.documents import INDEXES, DocumentCatalog
from dreamlake.errors import Unavailable
from dreamlake.lake import open_lake
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs
from dreamlake.session import Session

COMMITTER = str(Path(__file__).with_name("committer.py"))


class Committers:
    """So many processes, and what they have been told was committed: name -> number."""

    def __init__(self, url: str, processes: int, commits: int) -> None:
        self.acknowledged: dict[str, int] = {}
        self._processes = [
            subprocess.Popen(
                [sys.executable, COMMITTER, url, f"p{n}", str(commits)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for n in range(processes)
        ]
        self.errors: dict[int, str] = {}
        self._threads = [
            threading.Thread(target=run, args=(process,))
            for process in self._processes
            for run in (self._hear, self._see)
        ]
        for thread in self._threads:
            thread.start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            name, number = line.split()
            self.acknowledged[name] = int(number)

    def _see(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.errors[process.pid] = process.stderr.read()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline, "the committers stand still"
            time.sleep(0.01)

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(120)
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()
        assert [process.returncode for process in self._processes] == [0] * len(self._processes), self.errors


@pytest.fixture
def committers() -> Iterator[list[Committers]]:
    running: list[Committers] = []
    yield running
    for one in running:
        for process in one._processes:
            process.kill()


def check_log(url: str, acknowledged: dict[str, int]) -> collections.Counter[str]:
    """No gap, and every acknowledged commit under the number that was told. Returns how often each name is there."""
    docs = MongoDocs(url)
    found: dict[int, str] = {}
    for number, record in DocumentCatalog(Ports(), docs).records(KEY):
        found[number] = record.entries[0]["path"].lstrip("/")
    docs.close()
    assert sorted(found) == list(range(1, len(found) + 1))
    lost = {name: number for name, number in acknowledged.items() if found.get(number) != name}
    assert lost == {}
    return collections.Counter(found.values())


def test_sixteen_processes_commit_to_one_session(mongo_url, committers):
    docs = MongoDocs(mongo_url)
    docs.ensure(INDEXES)
    docs.close()
    running = Committers(mongo_url, 16, 6)
    committers.append(running)
    running.finish()
    assert len(running.acknowledged) == 16 * 6
    assert set(check_log(mongo_url, running.acknowledged).values()) == {1}


def test_what_was_acknowledged_survives_the_servers_death(own_mongo, committers):
    """kill -9 in the middle of commits, twice: nothing acknowledged is lost, and what was sent again counts once.

    A commit may be there twice only if its client was told that nobody knows (``OutcomeUnknown``), and began again.
    """
    url = own_mongo.database("lake")
    docs = MongoDocs(url)
    docs.ensure(INDEXES)
    docs.close()
    running = Committers(url, 4, 60)
    committers.append(running)
    for level in (40, 120):
        running.wait_for(level)
        own_mongo.kill()
        time.sleep(0.3)
        own_mongo.start()
    running.finish()
    assert len(running.acknowledged) == 4 * 60
    times = check_log(url, running.acknowledged)
    assert not any("ClaimRevoked" in text for text in running.errors.values()), running.errors  # nobody revokes any
    told = sum(text.count("OutcomeUnknown") for text in running.errors.values())
    assert sum(times.values()) - len(times) <= told, running.errors


def test_a_server_that_hangs_is_waited_for(own_mongo, committers):
    url = own_mongo.database("lake")
    docs = MongoDocs(url)
    docs.ensure(INDEXES)
    docs.close()
    running = Committers(url, 2, 30)
    committers.append(running)
    running.wait_for(10)
    own_mongo.suspend()
    time.sleep(1.5)
    own_mongo.resume()
    running.finish()
    assert set(check_log(url, running.acknowledged).values()) == {1}


def test_uploads_survive_the_death_of_the_database(own_mongo, tmp_path):
    """Through the public API, blobs in a shared folder: what ``upload`` returned for is there, and reads right."""
    remote = {"mongodb": own_mongo.database("lake"), "folder": str(tmp_path / "blobs")}
    done: dict[str, bytes] = {}

    def die_and_rise() -> None:
        for level in (10, 30):
            while len(done) < level:
                time.sleep(0.005)
            own_mongo.kill()
            own_mongo.start()

    killer = threading.Thread(target=die_and_rise)
    with Session("run", workspace="w", remote=remote, namespace="ann") as session:
        killer.start()
        while len(done) < 50:
            name, data = f"{len(done)}.bin", os.urandom(20_000 + len(done))
            with contextlib.suppress(Unavailable):  # asked again, as a user would
                session.files.upload(data, path="/data", filename=name)
                done[f"/data/{name}"] = data
        killer.join()
        for path, data in done.items():
            assert session.files.read_bytes(path) == data
    lake = open_lake(remote, namespace="ann")
    assert [info.key.full for info in lake.sessions()] == ["ann/w/run"]
    assert list(lake.store.catalog.pending()) == []
    lake.close()


def test_a_forked_child_uses_its_own_connections(mongo_url):
    docs = MongoDocs(mongo_url)
    docs.ensure(INDEXES)
    catalog = DocumentCatalog(Ports(), docs)
    catalog.commit(catalog.claim(KEY, [], [put("/0", "0")]))
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for i in range(5):
                    catalog.commit(catalog.claim(KEY, [], [put(f"/c{n}/{i}", f"{n}-{i}")]))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    for i in range(5):
        catalog.commit(catalog.claim(KEY, [], [put(f"/p/{i}", f"p-{i}")]))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert len(catalog.view(KEY).live()) == 21
    docs.close()
