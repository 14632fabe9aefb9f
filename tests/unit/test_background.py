"""Uploads in the background: order, bounds, errors, the end of a program, forks."""

from __future__ import annotations

import concurrent.futures
import io
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from api_support import PACKAGE_ROOT

from dreamlake import Session
from dreamlake.background import Background, PendingUpload, hold
from dreamlake.errors import InvalidInput, StateError, UploadsFailed


@pytest.fixture
def session(memory_path: Path):
    with Session("s", "w", local_path=memory_path) as opened:
        yield opened


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # a warning of 3.12 and later about forks beside threads is what one of these tests is about
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )


class Gate:
    """A job that waits until the test lets it go."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self) -> dict[str, str]:
        self.started.set()
        assert self.go.wait(30)
        return {"id": "gate"}


def test_the_future_gives_the_record_that_upload_gives(session, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"weights")
    future = session.files.upload(tmp_path / "m.bin", path="/models", tags=["a"], metadata={"x": 1}, wait=False)
    assert isinstance(future, concurrent.futures.Future)
    record = future.result(30)
    assert record == session.files.get("/models/m.bin")
    assert (record["tags"], record["metadata"]) == (["a"], {"x": 1})
    assert future.exception(0) is None and "m.bin" in repr(future)


def test_versions_of_one_path_come_in_the_order_of_the_calls(session):
    futures = [session.files.upload(b"%d" % i, filename="n", wait=False) for i in range(40)]
    session.flush()
    assert [f.result(0)["version"] for f in futures] == list(range(1, 41))
    assert [session.files.read_bytes(f"/n@v{i + 1}") for i in range(40)] == [b"%d" % i for i in range(40)]


def test_what_is_in_memory_is_taken_as_it_is_at_the_call(session):
    data, stream = bytearray(b"first"), io.BytesIO(b"streamed")
    gate = Gate()
    session.files._queue().submit("gate", gate)
    session.files.upload(data, filename="a", wait=False)
    session.files.upload(stream, filename="b", wait=False)
    data[:] = b"later"
    stream.close()
    gate.go.set()
    session.flush()
    assert (session.files.read_bytes("/a"), session.files.read_bytes("/b")) == (b"first", b"streamed")


@pytest.mark.parametrize("change", ["other content", "same size", "removed", "another file"])
def test_a_file_that_changes_before_its_turn_is_refused(session, tmp_path, change):
    file = tmp_path / "m.bin"
    file.write_bytes(b"epoch 1")
    gate = Gate()
    session.files._queue().submit("gate", gate)
    future = session.files.upload(file, wait=False)
    if change == "removed":
        file.unlink()
    elif change == "another file":
        (tmp_path / "new").write_bytes(b"epoch 1")
        os.utime(tmp_path / "new", ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
        os.replace(tmp_path / "new", file)
    else:
        file.write_bytes(b"epoch 2" if change == "same size" else b"something else")
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1_000_000))
    gate.go.set()
    with pytest.raises(InvalidInput, match=r"m\.bin was (changed|removed) before .* wait=True"):
        future.result(30)
    assert session.files.list() == []
    session.flush()  # the error was seen


def test_a_folder_is_one_commit_and_counts_its_files(session, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    done = session.files.upload(tmp_path, path="/f", wait=False).result(30)
    assert (done["count"], [f["filename"] for f in done["files"]]) == (2, ["a", "b"])


def test_bad_input_is_an_error_of_the_call(session, tmp_path):
    for call in (
        lambda: session.files.upload(tmp_path / "none", wait=False),
        lambda: session.files.upload(b"", filename="../x", wait=False),
        lambda: session.files.upload(b"", filename="x", tags="tag", wait=False),
        lambda: session.files.upload(b"", filename="x", keep={"nonsense": 1}, wait=False),
        lambda: session.files.upload(tmp_path, wait=False),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert session.files._background is None or session.files._background.pending == 0


def test_savers_take_wait(session):
    session.files.save_json({"a": 1}, "a.json", wait=False)
    session.files.save_text("text", "t.txt", wait=False)
    session.flush()
    assert [f["filename"] for f in session.files.list()] == ["a.json", "t.txt"]


# ---- errors ------------------------------------------------------------------------------------------------------


def test_close_raises_every_error_that_nobody_saw(memory_path):
    session = Session("s", "w", local_path=memory_path).open()
    session.files.upload(b"1", filename="file")
    futures = [session.files.upload(b"x", path="/file", filename=name, wait=False) for name in "abc"]
    with pytest.raises(ValueError, match="is a file"):
        futures[1].result(30)
    with pytest.raises(UploadsFailed, match=r"2 background uploads failed: /file/a: .*; /file/c: ") as caught:
        session.close()
    assert [type(e) for e in caught.value.errors] == [type(futures[0].exception()), type(futures[2].exception())]
    assert caught.value.__cause__ is caught.value.errors[0]
    assert not session.is_open
    session.close()  # told once


def test_flush_tells_once_and_the_session_goes_on(session):
    session.files.upload(b"1", filename="file")
    session.files.upload(b"x", path="/file", filename="a", wait=False)
    with pytest.raises(UploadsFailed, match="a background upload failed"):
        session.flush()
    session.flush()
    assert session.files.upload(b"2", filename="file", wait=False).result(30)["version"] == 2


def test_an_exception_of_the_body_wins_and_the_failure_is_logged(memory_path, caplog):
    with pytest.raises(KeyError), Session("s", "w", local_path=memory_path) as session:
        session.files.upload(b"1", filename="file")
        session.files.upload(b"x", path="/file", filename="a", wait=False)
        session.files.upload(b"2", filename="good", wait=False)
        raise KeyError("body")
    assert "a background upload failed: /file/a" in caplog.text
    with Session("s", "w", local_path=memory_path) as session:
        assert session.files.read_bytes("/good") == b"2"


def test_a_cancelled_upload_is_no_error_and_stores_nothing(session):
    gate = Gate()
    session.files._queue().submit("gate", gate)
    future = session.files.upload(b"x", filename="x", wait=False)
    assert future.cancel()
    gate.go.set()
    session.flush()
    assert session.files.list() == [] and future.cancelled()


def test_a_timeout_is_not_the_error_of_the_upload():
    queue, gate = Background(), Gate()
    future = queue.submit("gate", gate)
    with pytest.raises((TimeoutError, concurrent.futures.TimeoutError)):
        future.result(0.01)
    gate.go.set()
    assert future.result(30) == {"id": "gate"}
    failing = queue.submit("bad", lambda: {}["missing"])
    concurrent.futures.wait([failing], 30)
    with pytest.raises(UploadsFailed):
        queue.flush()


# ---- bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "size"), [((2, 1 << 40), 0), ((1000, 100), 60)])
def test_a_full_queue_makes_the_caller_wait(limits, size):
    queue, gate = Background(*limits), Gate()
    queue.submit("gate", gate, size_bytes=size)
    assert gate.started.wait(30)
    if not size:
        queue.submit("second", dict)
    added = threading.Event()
    thread = threading.Thread(target=lambda: (queue.submit("third", dict, size_bytes=size), added.set()))
    thread.start()
    assert not added.wait(0.1)
    gate.go.set()
    assert added.wait(30)
    thread.join()
    queue.flush()


def test_something_larger_than_the_queue_goes_alone():
    queue = Background(max_files=1, max_bytes=10)
    assert queue.submit("large", lambda: {"id": "x"}, size_bytes=1000, files=50).result(30) == {"id": "x"}


def test_no_thread_is_left_when_there_is_nothing_to_do():
    queue = Background()
    for _ in range(3):
        queue.submit("x", dict)
        queue.flush()
    for thread in threading.enumerate():
        if thread.name == "dreamlake-background":
            thread.join(30)
    assert all(thread.name != "dreamlake-background" for thread in threading.enumerate())


def test_many_threads_share_one_queue():
    queue, done = Background(max_files=3), []

    def work(i: int) -> None:
        for k in range(20):
            queue.submit(f"{i}", lambda k=k: done.append((i, k)) or {})

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.flush()
    assert sorted(done) == [(i, k) for i in range(4) for k in range(20)]
    assert all([k for j, k in done if j == i] == list(range(20)) for i in range(4))


def test_a_large_stream_waits_outside_of_memory():
    held = hold(io.BytesIO(b"x" * (65 << 20)))
    stream = held.take()
    assert held.size_bytes == 65 << 20 and stream._rolled and stream.read(3) == b"xxx"
    held.drop()
    assert stream.closed


# ---- the end of a program, and forks -----------------------------------------------------------------------------


def test_nothing_is_lost_at_the_end_of_a_program(tmp_path):
    done = run(
        """
        import sys
        from dreamlake import Session
        session = Session("s", "w", local_path=sys.argv[1]).open()
        for i in range(30):
            session.files.upload(b"%d" % i * 100, filename=f"f{i}", wait=False)
        import os
        os.makedirs(sys.argv[2])
        for i in range(20):
            open(f"{sys.argv[2]}/{i}", "w").write(str(i))
        import numpy
        for i in range(2):
            numpy.save(f"{sys.argv[2]}/w{i}.npy", numpy.arange(i, 2_000_000 + i, dtype="float32"))
        session.files.upload(sys.argv[2], path="/folder", wait=False)  # uses pools of threads
        """,
        tmp_path / "lake",
        tmp_path / "src",
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        assert len(session.files.list()) == 52
        assert session.files.tensors("/folder/w1.npy")[0]["shape"] == [2_000_000]


def test_errors_are_told_at_the_end_of_a_program(tmp_path):
    done = run(
        """
        import sys
        from dreamlake import Session
        session = Session("s", "w", local_path=sys.argv[1]).open()
        session.files.upload(b"1", filename="file")
        session.files.upload(b"x", path="/file", filename="a", wait=False)
        session.files.upload(b"x", path="/file", filename="b", wait=False)
        seen = session.files.upload(b"x", path="/file", filename="seen", wait=False)
        seen.exception()
        """,
        tmp_path / "lake",
    )
    assert "UploadsFailed: 2 background uploads failed: /file/a: " in done.stderr
    assert "/file/b" in done.stderr and "/file/seen" not in done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_finish_their_uploads_and_tell_errors(tmp_path, method):
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
        import multiprocessing, sys
        from dreamlake import Session

        def work(root, number):
            session = Session("s", "w", local_path=root).open()
            session.files.upload(b"%d" % number * 1000, filename=f"f{number}", wait=False)
            session.files.upload(b"x", path="/file", filename="inside", wait=False)

        if __name__ == "__main__":
            multiprocessing.set_start_method(sys.argv[2])
            with Session("s", "w", local_path=sys.argv[1]) as session:
                session.files.upload(b"1", filename="file", wait=False).result()
            workers = [multiprocessing.Process(target=work, args=(sys.argv[1], i)) for i in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            print([worker.exitcode for worker in workers])
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(tmp_path / "work.py"), str(tmp_path / "lake"), method],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )  # fmt: skip
    assert done.stdout == "[0, 0]\n"
    assert done.stderr.count("UploadsFailed: a background upload failed: /file/inside") == 2
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        assert sorted(f["filename"] for f in session.files.list()) == ["f0", "f1", "file"]


def test_a_forked_child_starts_without_the_queue_of_its_parent(tmp_path):
    done = run(
        """
        import os, sys, threading
        from dreamlake import Session
        session = Session("s", "w", local_path=sys.argv[1]).open()
        go, started = threading.Event(), threading.Event()
        session.files._queue().submit("gate", lambda: (started.set(), go.wait(30)) and {})
        mine = session.files.upload(b"parent", filename="parent", wait=False)
        started.wait(30)
        child = os.fork()
        if child == 0:
            try:
                mine.result(1)
                print("no error")
            except RuntimeError as error:
                print(error)
            session.files.upload(b"child", filename="child", wait=False)
            sys.exit(0)
        print("child", os.waitpid(child, 0)[1])
        go.set()
        """,
        tmp_path / "lake",
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "the upload of /parent belongs to the parent process, which goes on with it",
        "child 0",
    ]
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        assert sorted(f["filename"] for f in session.files.list()) == ["child", "parent"]


def test_a_future_that_was_done_before_a_fork_is_still_known_after_it():
    future = PendingUpload("x")
    future.settle({"id": "1"}, None)
    future._pid += 1
    assert future.result(0) == {"id": "1"}
    other = PendingUpload("y")
    other._pid += 1
    for ask in (other.result, other.exception):
        with pytest.raises(StateError):
            ask(0)
