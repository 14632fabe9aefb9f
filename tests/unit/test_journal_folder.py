"""The folder journal's own promises: the files people see, damaged and torn files, write-back, cost of reading."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamlake.errors import Corrupt
from dreamlake.journal import LOGS, PARAMETERS, TRACKS
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.later import BATCH
from dreamlake.ports import OsFs, Ports

LOSS = TRACKS + "loss"


class SpyFs(OsFs):
    """Notes durable calls as ("fsync", "tracks/loss/data.jsonl"), counts bytes read, fails on demand."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls, self.bytes_read = str(root), [], 0
        self.fail: dict[str, OSError] = {}

    def note(self, name: str, path: str) -> None:
        self.calls.append((name, os.path.relpath(path, self.root)))
        if name in self.fail:
            raise self.fail[name]

    def write(self, path, data, *, sealed=False):
        self.note("write", path)
        super().write(path, data, sealed=sealed)

    def append(self, path, data):
        if "append" in self.fail:  # a full disk takes some of it
            super().append(path, data[: len(data) // 2])
        self.note("append", path)
        super().append(path, data)

    def fsync(self, path):
        self.note("fsync", path)
        super().fsync(path)

    def fsync_dir(self, path):
        self.note("fsync_dir", path)
        super().fsync_dir(path)

    def sync(self, path):
        self.note("sync", path)
        super().sync(path)

    def rename(self, source, target):
        self.note("rename", target)
        super().rename(source, target)

    def open(self, path):
        fs, stream = self, super().open(path)

        class Counting:
            def __enter__(self):
                return self

            def __exit__(self, *exc):
                stream.close()

            def seek(self, *args):
                return stream.seek(*args)

            def read(self, size):
                data = stream.read(size)
                fs.bytes_read += len(data)
                return data

        return Counting()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "work space" / "sessión"


@pytest.fixture
def journal(folder):
    journal = FolderJournal(Ports(), str(folder))
    yield journal
    journal.close()


def reopened(folder: Path) -> FolderJournal:
    return FolderJournal(Ports(), str(folder))


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_files_are_where_the_documentation_says(journal, folder):
    assert not folder.exists()
    journal.update_document(PARAMETERS, lambda old: {"data": {"lr": 0.1}})
    journal.append(LOGS, [{"message": "hé"}])
    journal.append(TRACKS + "train/loss", [{"data": {"v": 1}}, {"data": {"v": 2}}])
    journal.update_document(TRACKS + "train/loss", lambda old: {"name": "train/loss"})
    assert tree(folder) == {
        ".lock",
        "parameters.json",
        "logs/logs.jsonl",
        "tracks/train/loss/data.jsonl",
        "tracks/train/loss/metadata.json",
    }
    assert (folder / "parameters.json").read_text() == '{\n  "data": {\n    "lr": 0.1\n  }\n}\n'
    assert (folder / "logs/logs.jsonl").read_text("utf-8") == '{"sequenceNumber":0,"message":"hé"}\n'
    lines = '{"index":0,"data":{"v":1}}\n{"index":1,"data":{"v":2}}\n'
    assert (folder / "tracks/train/loss/data.jsonl").read_text() == lines
    assert (folder / ".lock").stat().st_size == 0


def test_reading_creates_nothing(journal, folder):
    assert journal.read(LOGS, 0, 1) == []
    assert journal.read_document(PARAMETERS) is None
    assert journal.streams() == []
    assert journal.extent(LOSS).total == 0
    journal.sync()
    assert not folder.exists()


def test_reading_needs_no_write_permission_and_takes_no_lock(journal, folder):
    journal.append(LOSS, [{"v": 1}])
    held = Ports().fs.lock(str(folder / "tracks/loss/data.jsonl"))
    with held:
        assert reopened(folder).read(LOSS, 0, 5) == [{"index": 0, "v": 1}]
        assert reopened(folder).extent(LOSS).total == 1


def test_names_without_a_place_are_a_programming_error(journal):
    for name in ("other", "tracks/", "tracks"):
        with pytest.raises(ValueError, match="no place"):
            journal.append(name, [{"v": 1}])


def test_a_folder_removed_by_hand_comes_back(journal, folder):
    import shutil

    journal.append(LOSS, [{"v": 1}])
    journal.update_document(PARAMETERS, lambda old: {})
    shutil.rmtree(folder)
    journal.sync()
    assert journal.append(LOSS, [{"v": 2}]) == 0
    journal.update_document(PARAMETERS, lambda old: {"was": old})
    assert journal.read_document(PARAMETERS) == {"was": None}
    assert journal.read(LOSS, 0, 5) == [{"index": 0, "v": 2}]


def test_foreign_files_among_the_tracks_are_no_streams(journal, folder):
    journal.append(TRACKS + "a/b", [{"v": 1}])
    (folder / "tracks/notes.txt").write_text("mine")
    (folder / "tracks/empty").mkdir()
    (folder / "tracks/a/data.jsonl").write_text("")
    (folder / "tracks/a/loop").symlink_to(folder / "tracks/a")
    assert TRACKS + "a/b" in journal.streams(TRACKS)
    assert not [name for name in journal.streams() if name in (TRACKS + "a", TRACKS + "empty", TRACKS + "notes.txt")]


# ---- torn and damaged streams ----------------------------------------------------------------------------------------


def test_a_torn_last_line_is_skipped_by_readers_and_cut_off_by_the_next_append(folder):
    row = b'{"index":2,"data":{"value":0.25,"text":"\xc3\xa9"}}\n'
    whole = b'{"index":0,"data":{}}\n{"index":1,"data":{}}\n'
    file = folder / "tracks/loss/data.jsonl"
    file.parent.mkdir(parents=True)
    for cut in range(len(row)):
        file.write_bytes(whole + row[:cut])
        complete = 3 if cut == len(row) - 1 else 2  # only the newline is missing: the row is whole
        journal = reopened(folder)
        assert journal.extent(LOSS).total == complete
        assert [r["index"] for r in journal.read(LOSS, 0, 9)] == list(range(complete))
        assert file.read_bytes() == whole + row[:cut]  # reading repairs nothing
        assert journal.append(LOSS, [{"v": "next"}]) == complete
        journal.close()
        lines = file.read_bytes().splitlines()
        assert [json.loads(line)["index"] for line in lines] == list(range(complete + 1))


def test_a_torn_first_line(journal, folder):
    file = folder / "tracks/loss/data.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b'{"index":0,"da')
    assert journal.read(LOSS, 0, 5) == [] and journal.streams() == []
    assert journal.append(LOSS, [{"v": 1}]) == 0
    assert file.read_bytes() == b'{"index":0,"v":1}\n'


def test_zero_bytes_after_a_power_cut_are_no_rows(journal, folder):
    journal.append(LOSS, [{"v": 1}, {"v": 2}])
    file = folder / "tracks/loss/data.jsonl"
    whole = file.read_bytes()
    for rest in (b"\0" * 5000, b"\0" * 100 + b'"v":3}\n', b"\0\n\0\n", b"\0" * 70 + b'}\n{"index":3'):
        file.write_bytes(whole + rest)
        assert [row["v"] for row in journal.read(LOSS, 0, 9)] == [1, 2]
        assert journal.extent(LOSS).total == 2
    assert journal.append(LOSS, [{"v": 3}]) == 2
    assert file.read_bytes() == whole + b'{"index":2,"v":3}\n'


def test_what_an_editor_does_to_the_end_of_the_file(journal, folder):
    journal.append(LOGS, [{"message": "a"}, {"message": "b"}])
    file = folder / "logs/logs.jsonl"
    whole = file.read_bytes()
    for edited in (whole.rstrip(b"\n"), whole + b"\n\n", whole + b"  ", whole.replace(b"\n", b"\r\n"), b"\n" + whole):
        file.write_bytes(edited)
        assert [row["message"] for row in journal.read(LOGS, 0, 9)] == ["a", "b"]
        assert journal.append(LOGS, [{"message": "c"}]) == 2
        assert [row["message"] for row in reopened(folder).read(LOGS, 0, 9)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", [b'{"index":7,"v":#}', b"\0" * 17, b"", b"7", b'{"v":7}', b'{"index":-7}', b"\xff"])
def test_damage_in_the_middle_is_reported_only_to_those_who_ask_for_it(journal, folder, damage):
    journal.append(LOSS, [{"v": n} for n in range(2000)])
    file = folder / "tracks/loss/data.jsonl"
    lines = file.read_bytes().split(b"\n")
    offset = sum(len(line) + 1 for line in lines[:1000])
    lines[1000] = damage
    file.write_bytes(b"\n".join(lines))
    assert [row["v"] for row in journal.read(LOSS, 0, 1000)] == list(range(1000))
    assert [row["v"] for row in journal.read(LOSS, 1001, 5000)] == list(range(1001, 2000))
    for start, limit in ((1000, 1), (0, 1001), (999, 3)):
        with pytest.raises(Corrupt, match=r"data\.jsonl is damaged at byte \d+") as caught:
            journal.read(LOSS, start, limit)
        assert caught.value.path == str(file)
        assert f"byte {offset if damage else offset + 1}" in str(caught.value)
    assert journal.append(LOSS, [{"v": 2000}]) == 2000


def test_missing_and_repeated_rows_are_damage(journal, folder):
    journal.append(LOSS, [{"v": n} for n in range(10)])
    file = folder / "tracks/loss/data.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4] + lines[6:]))
    assert len(journal.read(LOSS, 0, 4)) == 4 and len(journal.read(LOSS, 6, 9)) == 4
    with pytest.raises(Corrupt, match="index is 6 where 4 should be"):
        journal.read(LOSS, 3, 2)
    file.write_bytes(b"".join(lines[:5] + lines[4:]))
    assert len(journal.read(LOSS, 0, 5)) == 5 and len(journal.read(LOSS, 5, 9)) == 5
    with pytest.raises(Corrupt, match="index is 4 where 5 should be"):
        journal.read(LOSS, 0, 9)


def test_a_damaged_last_line_is_never_overwritten(journal, folder):
    journal.append(LOSS, [{"v": 1}])
    file = folder / "tracks/loss/data.jsonl"
    file.write_bytes(file.read_bytes() + b"my notes\n")
    before = file.read_bytes()
    for call in (lambda: journal.append(LOSS, [{"v": 2}]), lambda: journal.extent(LOSS)):
        with pytest.raises(Corrupt, match=r"byte 18.*not a row"):
            call()
    assert file.read_bytes() == before


def test_an_endless_line_is_refused_and_not_read_into_memory(journal, folder):
    file = folder / "tracks/loss/data.jsonl"
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        stream.truncate(2 << 30)  # sparse
    with pytest.raises(Corrupt, match="longer than"):
        journal.append(LOSS, [{"v": 1}])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_damaged_document_is_reported_and_never_replaced(journal, folder, content):
    folder.mkdir(parents=True)
    (folder / "parameters.json").write_bytes(content)
    for call in (
        lambda: journal.read_document(PARAMETERS),
        lambda: journal.update_document(PARAMETERS, lambda old: {}),
    ):
        with pytest.raises(Corrupt, match=r"parameters\.json"):
            call()
    assert (folder / "parameters.json").read_bytes() == content


def test_a_scratch_file_left_by_a_dead_writer_is_no_obstacle(journal, folder):
    folder.mkdir(parents=True)
    (folder / ".parameters.json.new").write_text("half")
    journal.update_document(PARAMETERS, lambda old: {"old": old})
    assert journal.read_document(PARAMETERS) == {"old": None}
    assert tree(folder) == {".lock", "parameters.json"}


# ---- failing writes --------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_none_of_the_rows(folder, tmp_path):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder))
    journal.append(LOSS, [{"v": 1}])
    file = folder / "tracks/loss/data.jsonl"
    before = file.read_bytes()
    fs.fail["append"] = OSError(errno.ENOSPC, "full")
    with pytest.raises(OSError, match="full"):
        journal.append(LOSS, [{"v": 2}, {"v": 3}, {"v": "x" * 1000}])
    assert file.read_bytes() == before
    fs.fail["append"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        journal.append(LOSS, [{"v": 2}, {"v": 3}])
    assert file.read_bytes() == before
    fs.fail.clear()
    assert journal.append(LOSS, [{"v": 2}]) == 1
    journal.close()


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_document_that_cannot_be_written_leaves_the_old_one(folder, step):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder))
    journal.update_document(PARAMETERS, lambda old: {"n": 1})
    fs.fail[step] = OSError(errno.ENOSPC, "full")
    with pytest.raises(OSError, match="full"):
        journal.update_document(PARAMETERS, lambda old: {"n": 2})
    assert tree(folder) == {".lock", "parameters.json"}
    fs.fail.clear()
    assert journal.read_document(PARAMETERS) == {"n": 1}


# ---- durability ------------------------------------------------------------------------------------------------------


def test_a_document_is_durable_before_the_update_returns(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder))
    journal.update_document(TRACKS + "a/b", lambda old: {})
    assert fs.calls[-8:] == [
        ("write", "tracks/a/b/.metadata.json.new"),
        ("fsync", "tracks/a/b/.metadata.json.new"),
        ("rename", "tracks/a/b/metadata.json"),
        ("fsync_dir", "tracks/a/b"),
        ("fsync_dir", "tracks/a"),
        ("fsync_dir", "tracks"),
        ("fsync_dir", "."),
        ("fsync_dir", ".."),
    ]
    assert not threading_timers()


def test_only_the_first_write_of_a_document_syncs_the_folders_above(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder))
    for _ in range(2):
        journal.update_document(TRACKS + "a/b", lambda old: {})
    assert fs.calls[-4:] == [
        ("write", "tracks/a/b/.metadata.json.new"),
        ("fsync", "tracks/a/b/.metadata.json.new"),
        ("rename", "tracks/a/b/metadata.json"),
        ("fsync_dir", "tracks/a/b"),
    ]


def test_a_document_may_become_durable_with_the_rows(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=60)
    journal.update_document(TRACKS + "a", lambda old: {"n": 1}, durable=False)
    assert fs.calls == [  # whole after a power cut, though perhaps not there
        ("write", "tracks/a/.metadata.json.new"),
        ("fsync", "tracks/a/.metadata.json.new"),
        ("rename", "tracks/a/metadata.json"),
    ]
    journal.append(TRACKS + "a", [{"v": 1}])
    journal.close()
    assert fs.calls[4:] == [
        ("fsync", "tracks/a/data.jsonl"),
        *[("fsync_dir", name) for name in ("tracks/a", "tracks", ".", "..")],
    ]
    assert not threading_timers()


def test_a_document_alone_becomes_durable_later_too(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=0.01)
    journal.update_document(PARAMETERS, lambda old: {}, durable=False)
    wait_for(lambda: fs.calls[3:] == [("fsync_dir", "."), ("fsync_dir", "..")])
    journal.close()


def test_folders_that_had_to_be_made_again_become_durable_again(folder):
    import shutil

    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=60)
    chain = [("fsync_dir", name) for name in ("tracks/loss", "tracks", ".", "..")]

    def append() -> None:
        journal.append(LOSS, [{"v": 1}])
        journal.sync()

    def update() -> None:
        journal.update_document(LOSS, lambda old: {})

    for write in (append, update):
        write()
        assert fs.calls[-4:] == chain
        write()
        assert fs.calls[-4:] != chain
        shutil.rmtree(folder / "tracks")
        write()
        assert fs.calls[-4:] == chain
    append()
    (folder / "tracks/loss/data.jsonl").unlink()
    append()
    assert fs.calls[-4:] == chain
    journal.close()


def test_many_files_become_durable_with_one_barrier(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=60)
    for n in range(BATCH):
        journal.append(f"{TRACKS}{n}", [{"v": 1}])
    journal.sync()
    assert fs.calls[BATCH:] == [("sync", ".")]
    fs.calls.clear()
    journal.append(TRACKS + "0", [{"v": 1}])
    journal.close()
    assert fs.calls == [("append", "tracks/0/data.jsonl"), ("fsync", "tracks/0/data.jsonl")]


def test_close_makes_appends_and_the_names_of_new_files_durable(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=60)
    journal.append(TRACKS + "a", [{"v": 1}])
    journal.append(TRACKS + "a", [{"v": 2}])
    assert fs.calls == [("append", "tracks/a/data.jsonl")] * 2
    journal.close()
    assert fs.calls[2:] == [
        ("fsync", "tracks/a/data.jsonl"),
        *[("fsync_dir", name) for name in ("tracks/a", "tracks", ".", "..")],
    ]
    journal.append(TRACKS + "a", [{"v": 3}])
    journal.sync()
    assert fs.calls[-2:] == [("append", "tracks/a/data.jsonl"), ("fsync", "tracks/a/data.jsonl")]
    count = len(fs.calls)
    journal.close()
    assert len(fs.calls) == count  # nothing was dirty


def test_appends_become_durable_by_themselves_and_the_thread_ends(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=0.02)
    for round_ in range(2):
        fs.calls.clear()
        journal.append(LOSS, [{"v": round_}])
        wait_for(lambda: ("fsync", "tracks/loss/data.jsonl") in fs.calls)
        wait_for(lambda: not threading_timers())
    journal.close()


def test_an_append_during_a_write_back_gets_its_own(folder):
    entered, go_on = threading.Event(), threading.Event()

    class SlowFs(SpyFs):
        def fsync(self, path):
            self.note("fsync", path)
            entered.set()
            assert go_on.wait(20)

    fs = SlowFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=0.01)
    journal.append(LOSS, [{"v": 1}])
    assert entered.wait(20)
    journal.append(LOSS, [{"v": 2}])
    assert fs.calls.count(("fsync", "tracks/loss/data.jsonl")) == 1
    go_on.set()
    wait_for(lambda: fs.calls.count(("fsync", "tracks/loss/data.jsonl")) == 2)
    journal.close()


def test_no_thread_outlives_close(folder):
    journal = FolderJournal(Ports(), str(folder), sync_delay_s=60)
    for n in range(3):
        journal.append(LOSS, [{"v": n}])
        assert len(threading_timers()) == 1
        assert all(thread.daemon for thread in threading_timers())
        journal.close()
        assert not threading_timers()


def test_an_append_while_the_interpreter_ends_is_synced_at_once(folder, monkeypatch):
    def refuse(timer):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=60)
    for n in range(2):
        journal.append(LOSS, [{"v": n}])
        assert fs.calls.count(("fsync", "tracks/loss/data.jsonl")) == n + 1
    journal.close()


def test_a_failed_write_back_is_told_once(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder), sync_delay_s=0.01)
    fs.fail["fsync"] = OSError(errno.EIO, "disk on fire")
    journal.append(LOSS, [{"v": 1}])
    wait_for(lambda: not threading_timers())
    with pytest.raises(OSError, match="disk on fire"):
        journal.append(LOSS, [{"v": 2}])
    assert journal.extent(LOSS).total == 1
    fs.fail.clear()
    assert journal.append(LOSS, [{"v": 2}]) == 1
    journal.close()
    for call in ("fsync", "fsync_dir"):
        fs.fail = {call: OSError(errno.EIO, "again")}
        journal.append(TRACKS + call, [{"v": 3}])
        with pytest.raises(OSError, match="again"):
            journal.close()
        assert not threading_timers()
        journal.close()
        fs.fail.clear()
        fs.calls.clear()
        journal.append(TRACKS + call, [{"v": 4}])
        journal.close()
        assert ("fsync_dir", f"tracks/{call}") in fs.calls  # what failed is not taken for done
    fs.fail = {"fsync": OSError(errno.EIO, "third")}
    journal.append(LOSS, [{"v": 5}])
    wait_for(lambda: not threading_timers())
    fs.fail.clear()
    with pytest.raises(OSError, match="third"):
        journal.update_document(PARAMETERS, lambda old: {"n": 1})
    assert journal.read_document(PARAMETERS) is None


def test_a_session_that_was_never_closed_is_synced_at_exit(folder):
    code = """
import sys
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.later import BATCH
from dreamlake.ports import OsFs, Ports
class Spy(OsFs):
    def fsync(self, path):
        print("fsync", path, flush=True)
        super().fsync(path)
journal = FolderJournal(Ports(fs=Spy()), sys.argv[1], sync_delay_s=600)
journal.append("logs", [{"message": "last words"}])
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == f"fsync {folder}/logs/logs.jsonl\n"
    assert time.monotonic() - start < 60


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_reading_a_few_points_does_not_read_the_file(folder):
    fs = SpyFs(folder)
    journal = FolderJournal(Ports(fs=fs), str(folder))
    for start in range(0, 50_000, 10_000):
        journal.append(LOSS, [{"data": {"value": n / 7}} for n in range(start, start + 10_000)])
    size = journal.extent(LOSS).size_bytes
    assert size > 2_000_000
    for start in (0, 1, 25_000, 40_321, 49_990, 49_999):
        fs.bytes_read = 0
        rows = journal.read(LOSS, start, 10)
        assert [row["index"] for row in rows] == list(range(start, min(start + 10, 50_000)))
        assert fs.bytes_read < 120_000
    fs.bytes_read = 0
    assert journal.extent(LOSS).last["index"] == 49_999
    assert fs.bytes_read <= 4096
    journal.close()


def test_an_append_after_another_writer_reads_only_the_end(folder):
    fs = SpyFs(folder)
    mine, other = FolderJournal(Ports(fs=fs), str(folder)), reopened(folder)
    other.append(LOSS, [{"data": n} for n in range(20_000)])
    fs.bytes_read = 0
    assert mine.append(LOSS, [{"data": 0}]) == 20_000
    assert fs.bytes_read <= 4096
    fs.bytes_read = 0
    assert mine.append(LOSS, [{"data": 0}]) == 20_001
    assert fs.bytes_read == 0  # nobody else wrote: the end is known
    other.append(LOSS, [{"data": 0}])
    assert mine.append(LOSS, [{"data": 0}]) == 20_003
    mine.close()
    other.close()


def threading_timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.fixture(autouse=True)
def no_timers_of_other_tests():
    wait_for(lambda: not threading_timers())
    yield


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.005)
