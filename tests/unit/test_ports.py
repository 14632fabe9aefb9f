"""The port to the file system: what ``Fs`` promises, on the operating system and on the simulated disk alike, so that
the fake cannot drift away from the real thing; and whose scratch and claims are whose."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from simulation.simfs import SimFs

from dreamlake import ports as module
from dreamlake.ports import SEALED_MODE, OsFs, Owner, Ports, coarse_now_ns, iso, on_local_disk, scan, this_process


class Disk:
    """A file system and a folder on it."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    def __call__(self, *names: str) -> str:
        return "/".join([self.root, *names])

    def tree(self, folder: str = "") -> dict[str, bytes | None]:
        """Every path below the root: bytes of a file, None for a folder."""
        found: dict[str, bytes | None] = {}
        for name in self.fs.list(self(folder) if folder else self.root):
            path = f"{folder}/{name}" if folder else name
            try:
                found.update(self.tree(path))
                found[path] = None
            except NotADirectoryError:
                found[path] = self.fs.read(self(path))
        return found


@pytest.fixture(params=["os", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "os":
        return Disk(OsFs(), str(tmp_path))
    fs = SimFs()
    fs.make_dir("/root")
    return Disk(fs, "/root")


def code(caught: Any) -> str:
    return errno.errorcode[caught.value.errno]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_write_creates_and_never_overwrites(disk):
    disk.fs.write(disk("a"), b"one")
    with pytest.raises(FileExistsError):
        disk.fs.write(disk("a"), b"two")
    assert disk.tree() == {"a": b"one"}
    with pytest.raises(FileNotFoundError):
        disk.fs.write(disk("no", "a"), b"x")


def test_sealed_files_carry_the_tamper_mark_until_somebody_writes(disk):
    disk.fs.write(disk("a"), b"one", sealed=True)
    facts = disk.fs.stat(disk("a"))
    assert (facts.sealed, facts.mode & 0o777, facts.size) == (True, SEALED_MODE, 3)
    disk.fs.touch(disk("a"))
    assert not disk.fs.stat(disk("a")).sealed
    disk.fs.stamp(disk("a"), 1_000_000_000)
    assert disk.fs.stat(disk("a")).sealed


def test_a_writer_streams_into_a_new_file(disk):
    writer = disk.fs.create(disk("a"))
    writer.write(b"one ")
    writer.write(memoryview(b"two"))
    writer.fsync()
    writer.seal()
    writer.close()
    writer.close()
    assert disk.tree() == {"a": b"one two"}
    assert disk.fs.stat(disk("a")).sealed
    with pytest.raises(FileExistsError):
        disk.fs.create(disk("a"))


def test_append_and_truncate(disk):
    disk.fs.append(disk("a"), b"one")
    disk.fs.append(disk("a"), b" two")
    assert disk.fs.read(disk("a")) == b"one two"
    disk.fs.truncate(disk("a"), 3)
    assert disk.fs.read(disk("a")) == b"one"
    with pytest.raises(FileNotFoundError):
        disk.fs.truncate(disk("b"), 0)


def test_reading(disk):
    disk.fs.write(disk("a"), b"0123456789")
    with disk.fs.open(disk("a")) as stream:
        stream.seek(4)
        assert stream.read(3) == b"456"
        disk.fs.unlink(disk("a"))
        assert stream.read() == b"789"
    for call in (disk.fs.read, disk.fs.open, disk.fs.stat, disk.fs.lstat, disk.fs.touch, disk.fs.fsync):
        with pytest.raises(FileNotFoundError):
            call(disk("a"))


def test_a_name_below_a_file_is_not_a_directory(disk):
    disk.fs.write(disk("a"), b"")
    for call in (disk.fs.read, disk.fs.stat):
        with pytest.raises(NotADirectoryError):
            call(disk("a", "b"))
    with pytest.raises(NotADirectoryError):
        disk.fs.list(disk("a"))
    with pytest.raises(FileNotFoundError):
        disk.fs.list(disk("b"))


# ---- names -----------------------------------------------------------------------------------------------------------


def test_make_dir_says_who_made_it(disk):
    assert disk.fs.make_dir(disk("x", "y", "z"))
    assert not disk.fs.make_dir(disk("x", "y", "z"))
    assert not disk.fs.make_dir(disk("x"))
    assert disk.tree() == {"x": None, "x/y": None, "x/y/z": None}
    disk.fs.write(disk("a"), b"")
    with pytest.raises(FileExistsError):
        disk.fs.make_dir(disk("a"))


def test_rename_replaces_and_rename_new_does_not(disk):
    disk.fs.write(disk("a"), b"a")
    disk.fs.write(disk("b"), b"b")
    with pytest.raises(FileExistsError):
        disk.fs.rename_new(disk("a"), disk("b"))
    assert disk.tree() == {"a": b"a", "b": b"b"}
    disk.fs.rename(disk("a"), disk("b"))
    assert disk.tree() == {"b": b"a"}
    disk.fs.rename_new(disk("b"), disk("c"))
    assert disk.tree() == {"c": b"a"}
    for call in (disk.fs.rename, disk.fs.rename_new):
        with pytest.raises(FileNotFoundError):
            call(disk("a"), disk("d"))
        with pytest.raises(FileNotFoundError):
            call(disk("c"), disk("no", "d"))
    assert disk.tree() == {"c": b"a"}


def test_renaming_over_another_name_of_the_same_file_does_nothing(disk):
    disk.fs.write(disk("a"), b"a")
    disk.fs.link(disk("a"), disk("b"))
    disk.fs.rename(disk("a"), disk("b"))
    assert disk.tree() == {"a": b"a", "b": b"a"}


def test_folders_move_with_what_is_in_them(disk):
    disk.fs.make_dir(disk("x", "y"))
    disk.fs.write(disk("x", "y", "a"), b"a")
    disk.fs.rename(disk("x"), disk("z"))
    assert disk.tree() == {"z": None, "z/y": None, "z/y/a": b"a"}
    disk.fs.make_dir(disk("full"))
    disk.fs.write(disk("full", "a"), b"")
    with pytest.raises(OSError) as caught:
        disk.fs.rename(disk("z"), disk("full"))
    assert code(caught) == "ENOTEMPTY"


def test_a_link_is_a_second_name(disk):
    disk.fs.write(disk("a"), b"a")
    disk.fs.link(disk("a"), disk("b"))
    here, there = disk.fs.stat(disk("a")), disk.fs.stat(disk("b"))
    assert here.inode == there.inode
    assert here.links == there.links == 2
    with pytest.raises(FileExistsError):
        disk.fs.link(disk("a"), disk("b"))
    with pytest.raises(FileNotFoundError):
        disk.fs.link(disk("c"), disk("d"))
    disk.fs.unlink(disk("a"))
    assert disk.fs.stat(disk("b")).links == 1
    assert disk.tree() == {"b": b"a"}


def test_a_symbolic_link_points(disk):
    disk.fs.write(disk("a"), b"abc")
    disk.fs.symlink("a", disk("s"))
    assert disk.fs.read_link(disk("s")) == "a"
    assert disk.fs.stat(disk("s")).size == 3
    assert disk.fs.lstat(disk("s")).mode & 0o170000 == 0o120000
    with pytest.raises(FileExistsError):
        disk.fs.symlink("a", disk("s"))
    with pytest.raises(OSError) as caught:
        disk.fs.read_link(disk("a"))
    assert code(caught) == "EINVAL"
    disk.fs.unlink(disk("s"))
    assert disk.tree() == {"a": b"abc"}


def test_removing(disk):
    disk.fs.make_dir(disk("x"))
    disk.fs.write(disk("x", "a"), b"")
    with pytest.raises(OSError) as caught:
        disk.fs.remove_dir(disk("x"))
    assert code(caught) == "ENOTEMPTY"
    disk.fs.unlink(disk("x", "a"))
    with pytest.raises(FileNotFoundError):
        disk.fs.unlink(disk("x", "a"))
    disk.fs.remove_dir(disk("x"))
    with pytest.raises(FileNotFoundError):
        disk.fs.remove_dir(disk("x"))
    assert disk.tree() == {}


def test_clone_shares_or_says_that_it_cannot(disk):
    disk.fs.write(disk("a"), b"abc")
    if disk.fs.clone(disk("a"), disk("b")):
        assert disk.fs.read(disk("b")) == b"abc"
    else:
        assert disk.tree() == {"a": b"abc"}


def test_durable_calls_need_something_to_make_durable(disk):
    disk.fs.write(disk("a"), b"a")
    disk.fs.fsync(disk("a"))
    disk.fs.fsync_dir(disk.root)
    disk.fs.sync(disk.root)
    with pytest.raises(FileNotFoundError):
        disk.fs.fsync_dir(disk("no"))
    assert disk.tree() == {"a": b"a"}


def test_a_lock_is_held_and_let_go(disk):
    for _ in range(2):
        with disk.fs.lock(disk("l")):
            pass
    with pytest.raises(KeyError), disk.fs.lock(disk("l")):
        raise KeyError
    with disk.fs.lock(disk("l")):
        pass


def test_scan_lists_names_with_facts(disk):
    disk.fs.write(disk("a"), b"abc")
    disk.fs.write(disk("b"), b"", sealed=True)
    disk.fs.make_dir(disk("x"))
    found = dict(scan(disk.fs, disk.root))
    assert set(found) == {"a", "b", "x"}
    assert (found["a"].size, found["a"].sealed, found["b"].sealed) == (3, False, True)
    with pytest.raises(FileNotFoundError):
        list(scan(disk.fs, disk("no")))


# ---- the simulated disk forgets --------------------------------------------------------------------------------------


def test_the_simulated_disk_forgets_exactly_what_was_not_made_durable():
    fs = SimFs()
    fs.make_dir("/d")
    fs.sync("/")
    fs.write("/d/a", b"a")
    fs.fsync("/d/a")
    fs.fsync_dir("/d")
    fs.write("/d/b", b"b")
    fs.rename("/d/a", "/d/c")
    states = [set(fs.after_power_cut({"/d": i}, lambda data: b"").dirs["/d"].names) for i in range(3)]
    assert states == [{"a"}, {"a", "b"}, {"b", "c"}]
    after = fs.after_power_cut({}, lambda data: b"torn")
    assert after.read("/d/c") == b"a"
    assert after.read("/d/b") == b"torn"


def test_the_simulated_disk_forgets_folders_with_what_is_in_them():
    fs = SimFs()
    fs.make_dir("/d")
    fs.write("/d/a", b"a")
    fs.fsync("/d/a")
    fs.fsync_dir("/d")
    assert "/d" not in fs.after_power_cut({"/": 0}, bytes).dirs
    assert fs.after_power_cut({"/": -1, "/d": 0}, bytes).read("/d/a") == b"a"


def test_copies_of_a_simulated_disk_go_their_own_ways():
    fs = SimFs()
    fs.make_dir("/d")
    fs.write("/d/a", b"a")
    fs.link("/d/a", "/d/b")
    twin = fs.copy()
    twin.append("/d/a", b"!")
    fs.unlink("/d/b")
    assert (fs.read("/d/a"), twin.read("/d/b")) == (b"a", b"a!")
    assert len(twin.dirs["/d"].history) == 3


# ---- only on the operating system ------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(fd: int, data: Any) -> None:
        os.write(fd, bytes(data)[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write_all", full)
    with pytest.raises(OSError, match="No space"):
        OsFs().write(str(tmp_path / "a"), b"abc")
    assert list(tmp_path.iterdir()) == []


def test_rename_new_without_the_system_call(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_rename_new", lambda source, target: False)
    fs, a, b = OsFs(), str(tmp_path / "a"), str(tmp_path / "b")
    fs.write(a, b"a")
    fs.write(b, b"b")
    with pytest.raises(FileExistsError):
        fs.rename_new(a, b)
    fs.unlink(b)
    fs.rename_new(a, b)
    assert [f.name for f in tmp_path.iterdir()] == ["b"]


def test_files_larger_than_one_read(tmp_path):
    data = os.urandom(3 << 20)
    fs = OsFs()
    writer = fs.create(str(tmp_path / "a"))
    for start in range(0, len(data), 1 << 20):
        writer.write(data[start : start + (1 << 20)])
    writer.close()
    assert fs.read(str(tmp_path / "a")) == data


# ---- who is who ------------------------------------------------------------------------------------------------------


def test_this_process_is_alive_and_others_are_told_apart():
    me = this_process()
    assert me.pid == os.getpid()
    assert not me.dead()
    assert not Owner("elsewhere", me.boot, 1, "1").dead()  # cannot be known from here
    assert Owner(me.host, "another boot", me.pid, me.started).dead()
    assert Owner(me.host, me.boot, me.pid, "another start").dead()  # the pid was used again


def test_a_process_that_ended_is_dead():
    code = "from dreamlake.ports import this_process as p; o = p(); print(o.pid, o.started)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, started = done.stdout.split()
    me = this_process()
    assert Owner(me.host, me.boot, int(pid), started).dead()


def test_scratch_names_tell_whose_they_are():
    mine = Ports()
    name = mine.scratch_name("blob")
    assert name.endswith(".blob")
    assert "/" not in name
    assert name != mine.scratch_name("blob")
    assert not mine.scratch_is_abandoned(name)
    dead = Ports(owner=lambda: Owner(this_process().host, this_process().boot, os.getpid(), "1"))
    assert mine.scratch_is_abandoned(dead.scratch_name("claim"))
    rebooted = Ports(owner=lambda: Owner(this_process().host, "another", 1, "1"))
    assert mine.scratch_is_abandoned(rebooted.scratch_name("claim"))
    elsewhere = Ports(owner=lambda: Owner("elsewhere", "b", 1, "1"))
    assert not mine.scratch_is_abandoned(elsewhere.scratch_name("claim"))
    for stray in ("README", "a-b-c-d-e", "", "a-b-1-d", ".nfs0001"):
        assert not mine.scratch_is_abandoned(stray)


def test_a_forked_child_is_another_process():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, str(this_process().pid).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 100)) == pid != this_process().pid
    os.close(reader)
    os.close(writer)


def test_ports_travel_to_other_processes():
    found = pickle.loads(pickle.dumps(Ports()))
    assert len(found.new_id()) == 32
    assert found.new_id() != found.new_id()
    assert found.owner() == this_process()


# ---- clock -----------------------------------------------------------------------------------------------------------


def test_times_are_utc_with_microseconds():
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-01-02T01:04:05.000006Z"


def test_the_coarse_clock_never_runs_ahead_of_file_times(tmp_path):
    before = coarse_now_ns()
    (tmp_path / "a").write_bytes(b"")
    assert OsFs().stat(str(tmp_path / "a")).mtime_ns >= before


def test_a_pseudo_file_system_is_not_taken_for_a_disk():
    if not os.path.exists("/proc/self/mountinfo"):
        pytest.skip("no /proc here")
    assert not on_local_disk("/proc")
