"""Real processes on a real disk: many writers of one session, kill -9 at any moment, forks and threads.

``DREAMLAKE_CRASH_S`` makes the trials with SIGKILL longer (seconds; 8 by default).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dreamlake.blobs.folder import FolderBlobs
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.content import reading
from dreamlake.model import SessionKey
from dreamlake.operations import tree
from dreamlake.operations.collect import collect
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.ports import Ports

SECONDS = float(os.environ.get("DREAMLAKE_CRASH_S", "8"))
KEY = SessionKey("w", "s")
SUBDIRS = ("tmp", "pending", "blobs", "sessions", "quarantine")
FORK = multiprocessing.get_context("fork")


def lay_out(root: Path) -> str:
    for name in SUBDIRS:
        (root / name).mkdir(parents=True)
    for shard in range(256):
        (root / "blobs" / f"{shard:02x}").mkdir()
    return str(root)


def open_store(root: str) -> Store:
    """Small directories and frequent checkpoints: their borders are crossed all the time."""
    ports = Ports()
    return Store(ports, FolderCatalog(ports, root, fanout=50, checkpoint_every=200), FolderBlobs(ports, root))


def content(worker: int, i: int) -> bytes:
    return b"shared content" if i % 4 == 0 else f"content {worker} {i}".encode() * 20


def put(store: Store, worker: int, i: int) -> None:
    upload_file(store, KEY, content(worker, i), f"/{worker}/{i}", Attributes(metadata={"i": i}))


def numbers(root: str) -> list[int]:
    """Record numbers as the directories list them, without the store's code."""
    return sorted(int(f.stem) for f in (Path(root) / "sessions" / KEY.sid / "log").glob("*/*.json"))


def check_all(root: str, expected: set[tuple[int, int]], *, allowed: set[tuple[int, int]] = frozenset()) -> None:
    """A newcomer finds every expected file with its bytes, perhaps some allowed ones, and no gap."""
    found = numbers(root)
    assert found == list(range(1, len(found) + 1))
    store = open_store(root)
    live = {v.key: v for v in store.catalog.view(KEY).live()}
    for worker, i in expected:
        version = live[f"/{worker}/{i}"]
        assert version.digest == hashlib.sha256(content(worker, i)).hexdigest()
    known = {f"/{worker}/{i}" for worker, i in expected | allowed}
    assert set(live) <= known
    for version in live.values():
        assert reading.read_all(store.blobs, version.digest, version.size_bytes)


def start(work: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def join(processes: list[multiprocessing.Process]) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


# ---- many at once ----------------------------------------------------------------------------------------------------


def upload_some(root: str, worker: int, count: int) -> None:
    store = open_store(root)
    for i in range(count):
        put(store, worker, i)


def test_sixteen_processes_with_forty_uploads_each_give_640_records(tmp_path):
    root = lay_out(tmp_path / "lake")
    join([start(upload_some, root, worker, 40) for worker in range(16)])
    assert numbers(root) == list(range(1, 641))
    check_all(root, {(worker, i) for worker in range(16) for i in range(40)})
    assert os.listdir(f"{root}/pending") == []
    assert os.listdir(f"{root}/tmp") == []


def test_threads_of_one_process_give_as_many_records(tmp_path):
    root = lay_out(tmp_path / "lake")
    store = open_store(root)
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i in range(20):
                put(store, worker, i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert numbers(root) == list(range(1, 161))
    check_all(root, {(worker, i) for worker in range(8) for i in range(20)})


# ---- forks -----------------------------------------------------------------------------------------------------------


def use_what_was_inherited(store: Store, worker: int, count: int) -> None:
    for i in range(count):
        put(store, worker, i)
        assert len(store.catalog.view(KEY).live()) > i


def test_children_may_go_on_with_the_store_they_inherit(tmp_path):
    """Its memory, open checkpoint included, is the parent's; the children write at the same time as the parent."""
    root = lay_out(tmp_path / "lake")
    store = open_store(root)
    for i in range(80):
        put(store, 99, i)
    assert store.catalog.view(KEY).base is not None  # a checkpoint is open
    children = [start(use_what_was_inherited, store, worker, 15) for worker in range(4)]
    use_what_was_inherited(store, 4, 15)
    join(children)
    expected = {(worker, i) for worker in range(5) for i in range(15)} | {(99, i) for i in range(80)}
    check_all(root, expected)
    assert len(numbers(root)) == len(expected)


def test_a_child_born_while_a_thread_holds_a_lock_is_not_stuck(tmp_path):
    root = lay_out(tmp_path / "lake")
    store = open_store(root)
    put(store, 0, 0)
    tail = store.catalog._tail(KEY)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with tail.lock, store.catalog._lock:
            held.set()
            let_go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(10)
        child = start(use_what_was_inherited, store, 1, 2)
        child.join(30)
        stuck = child.exitcode is None
        if stuck:
            child.kill()
            child.join()
    finally:
        let_go.set()
        thread.join()
    assert not stuck
    assert child.exitcode == 0
    check_all(root, {(0, 0), (1, 0), (1, 1)})


# ---- kill -9 ---------------------------------------------------------------------------------------------------------


def upload_for_ever(root: str, worker: int, first: int, pipe: Connection) -> None:
    """Says before each upload what it is about to do, and after it that it is done."""
    store = open_store(root)
    for i in range(first, first + 10**6):
        pipe.send(["begin", i])
        put(store, worker, i)
        pipe.send(["done", i])


def drain(pipe: Connection, worker: int, begun: set[tuple[int, int]], done: set[tuple[int, int]]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while pipe.poll():
            what, i = pipe.recv()
            (begun if what == "begin" else done).add((worker, i))


@pytest.mark.timeout(SECONDS * 3 + 240)
def test_kill_9_at_any_moment_loses_nothing_acknowledged(tmp_path):
    root = lay_out(tmp_path / "lake")
    begun: set[tuple[int, int]] = set()
    done: set[tuple[int, int]] = set()
    rng, kills, end = random.Random(os.urandom(8)), 0, time.monotonic() + SECONDS
    running: dict[int, tuple[multiprocessing.Process, Connection]] = {}

    def launch(worker: int) -> None:
        first = max((i for w, i in begun if w == worker), default=-1) + 1
        ours, theirs = FORK.Pipe(duplex=False)
        process = start(upload_for_ever, root, worker, first, theirs)
        theirs.close()
        running[worker] = (process, ours)

    def kill(worker: int) -> None:
        process, pipe = running.pop(worker)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        drain(pipe, worker, begun, done)
        pipe.close()

    for worker in range(4):
        launch(worker)
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.01, 0.25))
        for worker, (_, pipe) in running.items():
            drain(pipe, worker, begun, done)
        victim = rng.randrange(4)
        kill(victim)
        launch(victim)
        kills += 1
        if kills % 10 == 0:  # a newcomer reads in the middle of it all: what was acknowledged so far is there
            store, so_far = open_store(root), set(done)
            live = {v.key for v in store.catalog.view(KEY).live()}
            assert {f"/{w}/{i}" for w, i in so_far} <= live
    for worker in list(running):
        kill(worker)
    print(f"{kills} kills, {len(done)} acknowledged, {len(begun - done)} unfinished, {len(numbers(root))} records")
    assert kills > SECONDS
    assert len(done) > kills
    check_all(root, done, allowed=begun)
    after_the_storm(root, done, begun)


def after_the_storm(root: str, done: set[tuple[int, int]], begun: set[tuple[int, int]]) -> None:
    """What the dead left behind does no harm, and one collection removes it."""
    store = open_store(root)
    commit(store, KEY, [{"op": "noop"}])
    gone = min(done)
    tree.delete(store, KEY, [tree.resolve(store.catalog.view(KEY), f"/{gone[0]}/{gone[1]}")])
    collect(store, now=True, keep_deleted_s=0, force=True)
    assert os.listdir(f"{root}/pending") == []
    assert os.listdir(f"{root}/tmp") == []
    check_all(root, done - {gone}, allowed=begun)
    needed = {v.digest for v in open_store(root).catalog.view(KEY).versions()}
    stored = {f.name for f in (Path(root) / "blobs").glob("*/*")}
    assert stored == needed
    assert json.loads((Path(root) / "sessions" / KEY.sid / "log" / "0" / "1.json").read_bytes())["v"] == 1
