"""Bytes on their way in: one pass, the digest of what was staged, nothing left behind on any error."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from dreamlake.blobs.folder import FolderBlobs
from dreamlake.blobs.memory import MemoryBlobs
from dreamlake.content import frame, staging
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.ports import Ports

SMALL = staging.SMALL_BYTES
SIZES = [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL + 7]


@pytest.fixture(params=["folder", "memory"])
def blobs(request, memory_path):
    if request.param == "memory":
        return MemoryBlobs()
    for name in ("tmp", "quarantine", *(f"blobs/{n:02x}" for n in range(256))):
        (memory_path / "store" / name).mkdir(parents=True)
    return FolderBlobs(Ports(), str(memory_path / "store"))


def left(blobs, memory_path) -> list[str]:
    """Scratch that nobody dropped."""
    if isinstance(blobs, MemoryBlobs):
        return []
    return os.listdir(memory_path / "store/tmp")


def published(blobs, plain) -> bytes:
    blobs.secure(plain.waiting)
    blobs.publish(plain.digest, plain.staged)
    with blobs.open(plain.digest) as stream:
        return stream.read()


def sources(data, memory_path):
    (memory_path / "source").write_bytes(data)
    return {"path": str(memory_path / "source"), "bytes": data, "stream": io.BytesIO(data)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["path", "bytes", "stream"])
def test_digest_and_bytes(blobs, memory_path, kind, size):
    data = os.urandom(size)
    progress = []
    plain = staging.take(sources(data, memory_path)[kind], blobs, limit=size, shown="x", progress=progress.append)
    assert (plain.digest, plain.size) == (hashlib.sha256(data).hexdigest(), size)
    assert sum(progress) == size
    assert published(blobs, plain) == data
    assert (plain.facts is not None) == (kind == "path")


@pytest.mark.parametrize("size", [0, 10, 2 * SMALL])
@pytest.mark.parametrize("kind", ["path", "bytes", "stream"])
def test_what_begins_like_a_frame_is_framed(blobs, memory_path, kind, size):
    data = frame.raw_header() + bytes(size)
    plain = staging.take(sources(data, memory_path)[kind], blobs, limit=1 << 30, shown="x")
    assert (plain.digest, plain.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert published(blobs, plain) == frame.raw_header() + data


@pytest.mark.parametrize("size", [s for s in SIZES if s])
@pytest.mark.parametrize("kind", ["path", "bytes", "stream"])
def test_limit(blobs, memory_path, kind, size):
    with pytest.raises(InvalidInput, match=rf"x has {size:,} bytes; the limit is {size - 1:,}") as caught:
        staging.take(sources(bytes(size), memory_path)[kind], blobs, limit=size - 1, shown="x")
    assert caught.value.path == "x"
    assert left(blobs, memory_path) == []


def test_endless_stream_stops_at_the_limit(blobs, memory_path):
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(InvalidInput, match="the limit is 5,000,000"):
        staging.take(stream, blobs, limit=5_000_000, shown="x")
    assert stream.given < 64 << 20
    assert left(blobs, memory_path) == []


@pytest.mark.parametrize("kind", ["path", "bytes", "stream"])
def test_known_small_content_is_not_staged(blobs, memory_path, kind):
    asked = []

    def known(digest, size):
        asked.append((digest, size))
        return True

    plain = staging.take(sources(b"abc", memory_path)[kind], blobs, limit=10, shown="x", known=known)
    assert asked == [(hashlib.sha256(b"abc").hexdigest(), 3)]
    assert plain.waiting == []
    assert left(blobs, memory_path) == []
    staging.stage_again(plain, blobs, limit=10, shown="x")
    assert published(blobs, plain) == b"abc"


def test_stage_again_notices_a_change(blobs, memory_path):
    path = memory_path / "source"
    path.write_bytes(b"abc")
    plain = staging.take(str(path), blobs, limit=10, shown="x", known=lambda digest, size: True)
    path.write_bytes(b"abd")
    with pytest.raises(InvalidInput, match="x changed while it was uploaded; nothing was stored"):
        staging.stage_again(plain, blobs, limit=10, shown="x")
    assert left(blobs, memory_path) == []
    path.unlink()
    with pytest.raises(NotFound, match="no such file"):
        staging.stage_again(plain, blobs, limit=10, shown="x")


def test_a_large_stream_cannot_be_staged_again(blobs, memory_path):
    plain = staging.take(io.BytesIO(bytes(2 * SMALL)), blobs, limit=1 << 30, shown="x")
    with pytest.raises(InvalidInput, match="x cannot be read a second time; upload it again"):
        staging.stage_again(plain, blobs, limit=1 << 30, shown="x")
    plain.discard()
    plain.discard()
    assert left(blobs, memory_path) == []


def test_discard_drops_what_was_staged(blobs, memory_path):
    for size in (10, 2 * SMALL):
        plain = staging.take(os.urandom(size), blobs, limit=1 << 30, shown="x")
        assert plain.waiting != []
        plain.discard()
        assert plain.waiting == []
    assert left(blobs, memory_path) == []


class Breaks:
    """A stream that gives good pieces up to a point, and then something else."""

    def __init__(self, good, last):
        self.good, self.last = good, last

    def read(self, size):
        self.good -= size
        if self.good > 0:
            return bytes(size)
        if isinstance(self.last, BaseException):
            raise self.last
        return self.last


@pytest.mark.parametrize("good", [0, 2 * SMALL])
@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("text", InvalidInput),
        (None, InvalidInput),
        (7, InvalidInput),
        (b"x" * (32 << 20), InvalidInput),
        (OSError("broken"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["text", "none", "number", "too much", "error", "interrupt"],
)
def test_stream_that_breaks_leaves_nothing(blobs, memory_path, good, last, error):
    with pytest.raises(error):
        staging.take(Breaks(good, last), blobs, limit=1 << 30, shown="x")
    assert left(blobs, memory_path) == []


@pytest.mark.parametrize("size", [100, 2 * SMALL])
def test_full_disk_leaves_nothing(memory_path, blobs, size, monkeypatch):
    real = blobs.stage

    def stage():
        stager = real()
        write = stager.write

        def fail(data):
            write(data)
            raise OSError(28, "No space left on device")

        stager.write = fail
        return stager

    monkeypatch.setattr(blobs, "stage", stage)
    with pytest.raises(OSError, match="No space left"):
        staging.take(os.urandom(size), blobs, limit=1 << 30, shown="x")
    assert left(blobs, memory_path) == []


def test_source_facts_tell_any_write(memory_path):
    path = memory_path / "x"
    path.write_bytes(b"abc")
    before = staging.SourceStat.of(str(path))
    assert staging.SourceStat.of(str(path)) == before
    with open(path, "rb") as file:
        assert staging.SourceStat.of(file.fileno()) == before
    os.utime(path, ns=(before[1], before[1] + 1))
    assert staging.SourceStat.of(str(path)) != before
    other = memory_path / "y"
    other.write_bytes(b"abc")
    os.utime(other, ns=(before[1], before[1]))
    assert staging.SourceStat.of(str(other)) != before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file: .*x"),
        (lambda path: path.mkdir(), "x is a folder; give a file here"),
        (lambda path: os.mkfifo(path), "x is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "x is not a regular file"),
        (lambda path: path.symlink_to(path), "not a usable path.*Too many levels"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
    ],
    ids=["missing", "folder", "fifo", "device", "loop", "dangling"],
)
def test_sources_that_are_no_files(memory_path, make, message):
    path = memory_path / "x"
    make(path)
    with pytest.raises(ValueError, match=message):
        staging.check_source(str(path), 10)
    with pytest.raises((ValueError, OSError)):
        os.close(staging.open_source(str(path)))  # never waits


def test_descriptors_are_closed(memory_path, blobs):
    path = memory_path / "x"
    path.write_bytes(os.urandom(2 * SMALL))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for _ in range(20):
        staging.take(str(path), blobs, limit=1 << 30, shown="x").discard()
        with pytest.raises(InvalidInput):
            staging.take(str(path), blobs, limit=10, shown="x")
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
    assert left(blobs, memory_path) == []
