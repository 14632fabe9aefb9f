"""The cache of digests: when it may answer, when it must not, and that damage costs time only."""

from __future__ import annotations

import os
import time

import pytest

from dreamlake import Session
from dreamlake.content.staging import SourceStat
from dreamlake.operations.statcache import StatCache, began, settled
from dreamlake.ports import Ports

FACTS = SourceStat((10, 5_000_000_001, 5_000_000_002, 7))
DIGEST = "ab" * 32
SIZE = 2 << 20  # smaller files are hashed without asking the cache


@pytest.fixture
def cache_dir(tmp_path):
    for name in ("store/cache", "store/tmp"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "store/cache"


def cache(cache_dir, folder="/data"):
    return StatCache(Ports(), str(cache_dir), folder)


def test_remembers_by_folder_and_name(cache_dir):
    cache(cache_dir).put({"a": (FACTS, DIGEST), "sub/b": (FACTS, "cd" * 32)})
    again = cache(cache_dir)
    assert again.get("a", FACTS) == DIGEST
    assert again.get("sub/b", FACTS) == "cd" * 32
    assert again.get("b", FACTS) is None
    assert cache(cache_dir, "/other").get("a", FACTS) is None
    assert os.listdir(cache_dir.parent / "tmp") == []


@pytest.mark.parametrize("field", range(4), ids=["size", "mtime", "ctime", "inode"])
def test_any_changed_fact_is_a_miss(cache_dir, field):
    cache(cache_dir).put({"a": (FACTS, DIGEST)})
    changed = SourceStat(value + (i == field) for i, value in enumerate(FACTS))
    assert cache(cache_dir).get("a", changed) is None
    assert cache(cache_dir).get("a", FACTS) == DIGEST


def test_a_later_put_replaces_and_keeps_the_others(cache_dir):
    cache(cache_dir).put({"a": (FACTS, DIGEST), "b": (FACTS, DIGEST)})
    cache(cache_dir).put({"a": (FACTS, "cd" * 32)})
    assert cache(cache_dir).get("a", FACTS) == "cd" * 32
    assert cache(cache_dir).get("b", FACTS) == DIGEST


def test_keeps_the_newest(cache_dir):
    cache(cache_dir).put({str(i): (FACTS, DIGEST) for i in range(5)})
    cache(cache_dir).put({"0": (FACTS, DIGEST), "new": (FACTS, DIGEST)}, keep=3)
    again = cache(cache_dir)
    assert [name for name in ["0", "1", "2", "3", "4", "new"] if again.get(name, FACTS)] == ["0", "4", "new"]


def test_without_a_folder_it_knows_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    StatCache(Ports(), None, "/data").put({"a": (FACTS, DIGEST)})
    assert StatCache(Ports(), None, "/data").get("a", FACTS) is None
    assert os.listdir(tmp_path) == []


def damage_by_flipping_a_digit(data: bytes) -> bytes:
    at = data.index(b"abab")
    return data[:at] + b"b" + data[at + 1 :]


DAMAGES = {
    "flipped digit": damage_by_flipping_a_digit,
    "cut": lambda data: data[:-70],
    "empty": lambda data: b"",
    "object": lambda data: b"{}",
    "list": lambda data: b"[]",
    "number": lambda data: b"5",
    "deep": lambda data: b"[" * 200_000,
    "bytes": lambda data: b"\xff\xfe\x00",
    "other lines": lambda data: b'{"files":{"a":[1]}}\n' + b"0" * 64,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_a_miss(cache_dir, damage):
    cache(cache_dir).put({"a": (FACTS, DIGEST)})
    (file,) = cache_dir.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    damaged = cache(cache_dir)
    assert damaged.get("a", FACTS) is None
    damaged.put({"a": (FACTS, DIGEST)})
    assert cache(cache_dir).get("a", FACTS) == DIGEST


def test_failure_to_write_is_no_error(cache_dir):
    cache_dir.rmdir()
    cache(cache_dir).put({"a": (FACTS, DIGEST)})
    assert cache(cache_dir).get("a", FACTS) is None
    assert os.listdir(cache_dir.parent / "tmp") == []


@pytest.mark.parametrize(
    ("times", "hashing_began", "answer"),
    [
        ((3_000_000_001, 3_000_000_001), 3_000_000_002, True),
        ((3_000_000_001, 3_000_000_001), 3_000_000_001, False),  # the same tick
        ((3_000_000_001, 3_000_000_005), 3_000_000_004, False),  # changed after that
        ((9_000_000_001, 3_000_000_001), 5_000_000_000, False),  # a time in the future
        ((3_000_000_000, 3_000_000_000), 4_000_000_000, False),  # may be a clock of whole seconds
        ((3_000_000_000, 3_000_000_000), 5_000_000_001, True),
    ],
)
def test_settled(times, hashing_began, answer):
    assert settled(SourceStat((1, *times, 1)), hashing_began) is answer


def test_began_is_not_after_the_clock_of_files(tmp_path):
    start = began()
    (tmp_path / "x").write_bytes(b"x")
    assert (tmp_path / "x").stat().st_mtime_ns >= start


# ---- through a session -------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        yield session.files()


def test_unchanged_file_is_not_read_again(files, tmp_path, monkeypatch):
    source = tmp_path / "model.pth"
    source.write_bytes(os.urandom(SIZE))
    first = files.upload(source)
    reads = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: (reads.append(os.fspath(path)), real(path, *a, **k))[1])
    second = files.upload(source)
    assert second["checksum"] == first["checksum"]
    assert second["version"] == 2
    assert str(source) not in reads
    source.write_bytes(source.read_bytes()[:-1] + b"!")
    assert files.upload(source)["checksum"] != first["checksum"]
    assert str(source) in reads  # the way of looking sees a read when there is one


@pytest.mark.parametrize("keep_mtime", [False, True])
def test_same_size_written_at_once_is_seen(files, tmp_path, keep_mtime):
    """The racy case: rewritten in the very tick of the upload, with the old mtime put back."""
    source = tmp_path / "model.pth"
    for number in range(5):
        source.write_bytes(bytes([number]) * SIZE)
        if keep_mtime:
            os.utime(source, ns=(1_000_000_007, 1_000_000_007))
        files.upload(source)
        assert files.read_bytes("model.pth") == bytes([number]) * SIZE


def test_replaced_by_another_file_of_the_same_times(files, tmp_path):
    source, other = tmp_path / "model.pth", tmp_path / "other"
    source.write_bytes(b"a" * SIZE)
    other.write_bytes(b"b" * SIZE)
    os.utime(source, (100, 100))
    os.utime(other, (100, 100))
    time.sleep(0.02)
    files.upload(source)
    os.replace(other, source)
    files.upload(source)
    assert files.read_bytes("model.pth") == b"b" * SIZE


def test_known_digest_whose_content_is_gone_is_stored_again(files, tmp_path):
    source = tmp_path / "model.pth"
    source.write_bytes(os.urandom(SIZE))
    record = files.upload(source)
    digest = record["checksum"]
    copies = [p for p in (tmp_path / "lake/.dreamlake/blobs").rglob("*") if p.is_file()]
    for copy in copies:
        copy.unlink()
    assert files.upload(source)["checksum"] == digest
    assert files.read_bytes("model.pth") == source.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_cache_never_fails_an_upload(files, tmp_path, damage):
    source = tmp_path / "model.pth"
    source.write_bytes(os.urandom(SIZE))
    digest = files.upload(source)["checksum"]
    (file,) = (tmp_path / "lake/.dreamlake/cache").iterdir()
    text = file.read_bytes().replace(digest.encode(), DIGEST.encode())
    file.write_bytes(damage(text))
    assert files.upload(source)["checksum"] == digest


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname != "Linux", reason="names that are no text")
def test_name_that_is_no_text_can_be_uploaded_under_another(files, tmp_path):
    source = os.fsencode(tmp_path) + b"/\xff.pth"
    with open(source, "wb") as out:
        out.write(b"z" * SIZE)
    record = files.upload(os.fsdecode(source), filename="ok.pth")
    assert files.read_bytes(record) == b"z" * SIZE
    with pytest.raises(ValueError, match=r"unprintable character U\+DCFF"):
        files.upload(os.fsdecode(source))
