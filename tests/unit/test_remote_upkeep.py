"""Collection, verification and repair of remote lakes whose records, documents and objects somebody has damaged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects
from fakes.remote import FakeServers

from dreamlake import Session, open_lake
from dreamlake.errors import Corrupt, LakeError, NotFound, UnsupportedFormat
from dreamlake.lake import Lake
from dreamlake.services.s3_calling import S3Settings

AT = {"mongodb": "mongodb://h/lake", "s3": {"bucket": "our-lake"}, "namespace": "ana"}
CONTENT = {"/a.bin": os.urandom(3000), "/b.bin": os.urandom(4000)}


class Remote:
    """A remote lake with two raw files and a checkpoint, and raw looks at what is stored."""

    def __init__(self, servers: FakeServers) -> None:
        self.docs: MemoryDocs = servers.docs("mongodb://h/lake")
        self.objects: MemoryObjects = servers.objects(S3Settings("our-lake"))
        with Session("s", "w", remote=AT) as session:
            for path, data in CONTENT.items():
                session.files().upload(data, filename=path[1:])
            session.files().save_numpy(np.arange(400_000, dtype="f4"), "w.npy")
            self.digests = {record["filename"]: record["checksum"] for record in session.files().list()}

    def lake(self) -> Lake:
        return open_lake(AT)

    def object_of(self, name: str) -> str:
        digest = self.digests[name]
        (found,) = [key for key in self.objects.held if f"/{digest}/" in key]
        return found

    def damage(self, key: str, data: bytes) -> None:
        self.objects.held[key] = self.objects.held[key]._replace(data=data)

    def read(self, name: str) -> bytes:
        with Session("s", "w", remote=AT) as session:
            return session.files().read_bytes(name)


@pytest.fixture
def remote(monkeypatch, tmp_path) -> Remote:
    servers = FakeServers()
    servers.install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Remote(servers)


def kinds(lake: Lake, **options: Any) -> Counter[str]:
    return Counter(finding.kind for finding in lake.verify(**options).findings)


def test_a_whole_lake_has_no_findings(remote):
    assert kinds(remote.lake()) == kinds(remote.lake(), deep=True) == {}


def test_a_lost_object_is_found_and_healed_from_a_folder(remote, tmp_path):
    del remote.objects.held[remote.object_of("a.bin")]
    assert kinds(remote.lake(), deep=True) == {"blob-damaged": 1}  # there is a document of it, and nothing else
    with pytest.raises(LakeError):
        remote.read("/a.bin")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/any name").write_bytes(CONTENT["/a.bin"])
    assert remote.lake().repair(tmp_path / "copy", deep=True).left == []
    assert remote.read("/a.bin") == CONTENT["/a.bin"]
    assert kinds(remote.lake(), deep=True) in ({}, {"quarantine": 1})


@pytest.mark.parametrize("size", ["same", "shorter"])
def test_bit_rot_is_found_and_healed_from_another_lake(remote, tmp_path, size):
    key = remote.object_of("b.bin")
    data = bytearray(CONTENT["/b.bin"])
    data[3000] ^= 1  # not among the first bytes, which the document has, too
    remote.damage(key, bytes(data) if size == "same" else bytes(data[:-1]))
    assert "blob-damaged" in kinds(remote.lake(), deep=True)
    with pytest.raises((Corrupt, NotFound)):
        remote.read("/b.bin")
    with Session("other", "w", local_path=tmp_path / "lake") as session:
        session.files().upload(CONTENT["/b.bin"], filename="x")
    done = remote.lake().repair(str(tmp_path / "lake"), deep=True)
    assert done.left == [] and len(done.healed) == 1
    assert remote.read("/b.bin") == CONTENT["/b.bin"]
    assert "blob-damaged" not in kinds(remote.lake(), deep=True)


def test_a_remote_lake_heals_a_folder(remote, tmp_path):
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        session.files().upload(CONTENT["/a.bin"], filename="a.bin")
        weights = remote.read("/w.npy")
        session.files().upload(weights, filename="w.npy")
    for blob in (tmp_path / "lake/.dreamlake/blobs").glob("*/*"):
        blob.unlink()
    with open_lake(tmp_path / "lake") as lake:
        assert lake.verify().damaged
        assert lake.repair(remote.lake()).left == []
        assert not lake.verify(deep=True).damaged
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        assert session.files().read_bytes("/w.npy") == weights


def test_uploading_the_content_again_heals_it(remote):
    del remote.objects.held[remote.object_of("a.bin")]
    assert len(remote.lake().repair(deep=True).left) == 1  # from now on nobody relies on it
    with Session("s", "w", remote=AT) as session:
        session.files().upload(CONTENT["/a.bin"], filename="again.bin")
    assert remote.read("/a.bin") == CONTENT["/a.bin"]


@pytest.mark.parametrize("harm", ["damaged", "missing", "newer"])
def test_a_record_that_does_not_read_stops_collections_and_is_found(remote, harm):
    with Session("s", "w", remote=AT) as session:
        session.files().delete("/a.bin")
    (record,) = [doc for doc in remote.docs.tables["records"].values() if doc.get("n") == 2]
    if harm == "missing":
        del remote.docs.tables["records"][record["_id"]]
    else:
        record["text"] = record["text"].replace('"v":1', '"v":9') if harm == "newer" else record["text"][:-40]
    forget_cache()
    before = dict(remote.objects.held)
    with pytest.raises((Corrupt, UnsupportedFormat)):
        remote.lake().collect(now=True, keep_deleted=0)
    assert remote.objects.held == before
    found = remote.lake().verify()
    assert found.damaged and {finding.kind for finding in found.findings} & {"record-damaged", "record-missing"}


def forget_cache() -> None:
    """As on another machine: nothing is known of earlier records."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def test_what_killed_uploads_leave_behind_is_swept(remote):
    """A claim, a document without an object, an object without a document, and an upload in parts."""
    now = remote.lake().store.ports.now().timestamp()
    remote.objects.put("blobs/aa/" + "a" * 64 + "/stray", b"x", sha256=sha(b"x"))
    remote.objects.held["blobs/aa/" + "a" * 64 + "/stray"] = remote.objects.held[
        "blobs/aa/" + "a" * 64 + "/stray"
    ]._replace(modified=now - 40 * 86_400)
    remote.objects.open_uploads["files/ana/w/s/x/y", "u1"] = (now - 2 * 86_400, {})
    remote.objects.open_uploads["files/ana/w/s/x/z", "u2"] = (now, {})
    before = set(remote.objects.held)
    remote.lake().collect(now=True)
    assert before - set(remote.objects.held) == {"blobs/aa/" + "a" * 64 + "/stray"}
    assert set(remote.objects.open_uploads) == {("files/ana/w/s/x/z", "u2")}
    assert kinds(remote.lake(), deep=True) == {}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_lost_parts_of_a_checkpoint_are_found(remote):
    part = next(key for key in remote.objects.held if "/b3-" in key)
    del remote.objects.held[part]
    found = remote.lake().verify(deep=True)
    assert found.damaged and any("/w.npy" in text for finding in found.findings for text in finding.affected)


def test_verification_goes_on_where_it_was_stopped_and_in_shards(remote, tmp_path):
    file = tmp_path / "progress"
    first = remote.lake().verify(deep=True, resume=file)
    second = remote.lake().verify(deep=True, resume=file)
    assert first.hashed == first.copies > 3
    assert (second.hashed, second.findings) == (first.hashed, [])
    assert sum(remote.lake().verify(shard=(i, 3)).copies for i in (1, 2, 3)) == first.copies
