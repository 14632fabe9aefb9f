"""Creating and opening remote lakes: what must match, what a bucket must be able to do, and what is said otherwise."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects
from fakes.remote import FakeServers

from dreamlake import Session, open_lake
from dreamlake.capabilities import MAX_SKEW_S, try_clock, try_objects
from dreamlake.errors import AccessDenied, Conflict, InvalidInput, NotFound, Unavailable, UnsupportedFormat
from dreamlake.location import remote_address
from dreamlake.ports import Ports
from dreamlake.remote import attach, indexes

URL = "mongodb://user:secret@h/lake"
S3 = {"bucket": "our-lake", "prefix": "p", "endpoint": "https://s3.example.org", "secret_access_key": "hidden"}
AT = {"mongodb": URL, "s3": {**S3, "access_key_id": "AK"}}


@pytest.fixture
def servers(monkeypatch, tmp_path) -> FakeServers:
    made = FakeServers()
    made.install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def opened(at: Any = AT, *, create: bool = False) -> Any:
    return attach(Ports(), remote_address(at, namespace="ana"), create=create)


def bucket(servers: FakeServers) -> MemoryObjects:
    (found,) = servers.buckets.values()
    return found


def database(servers: FakeServers) -> MemoryDocs:
    return servers.databases[URL]


# ---- creating and finding --------------------------------------------------------------------------------------------


def test_nothing_is_created_by_looking(servers):
    with pytest.raises(NotFound, match=r"no lake in mongodb://h/lake; it is created by the first Session or upload"):
        opened()
    assert database(servers).tables == {} and servers.buckets == {}
    with pytest.raises(InvalidInput, match="does not say where its blobs are to be: add a bucket"):
        opened(URL, create=True)
    assert database(servers).tables == {}


def test_a_new_lake_says_where_its_blobs_are_and_nothing_secret(servers):
    made = opened(create=True)
    (meta,) = database(servers).tables["meta"].values()
    assert meta["format"] == 1 and meta["store_id"] == made.store_id
    expected = {"kind": "s3", "bucket": "our-lake", "prefix": "p", "endpoint": "https://s3.example.org", "region": None}
    assert meta["blobs"] == {**expected, "addressing": "auto"}
    assert "secret" not in str(meta) and "hidden" not in str(meta) and "AK" not in str(meta)
    assert list(bucket(servers).held) == ["store.json"]
    head = json.loads(bucket(servers).held["store.json"].data)
    assert head == {"format": 1, "store_id": made.store_id, "created_at": meta["created_at"]}
    assert database(servers).missing(indexes()) == []
    assert opened().store_id == opened(create=True).store_id == made.store_id


def test_an_existing_lake_is_found_by_its_database_alone(servers):
    made = opened(create=True)
    servers.buckets["https://s3.example.org", "our-lake", "p"] = bucket(servers)
    again = opened(URL)
    assert again.store_id == made.store_id and again.objects is made.objects


def test_of_many_creators_one_wins(servers):
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(opened(create=True).store_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8 and len(set(found)) == 1
    assert json.loads(bucket(servers).held["store.json"].data)["store_id"] == found[0]


def test_a_creation_that_died_is_finished_by_the_next(servers):
    made = opened(create=True)
    del bucket(servers).held["store.json"]
    assert opened().store_id == made.store_id
    assert "store.json" in bucket(servers).held


# ---- what belongs together -----------------------------------------------------------------------------------------


def test_blobs_of_another_lake_are_refused(servers):
    opened(create=True)
    other = {**AT, "mongodb": "mongodb://h/other"}
    with pytest.raises(UnsupportedFormat, match=r"s3://our-lake/p at s3.example.org holds the blobs of another lake"):
        opened(other, create=True)
    assert servers.databases["mongodb://h/other"].tables["meta"] == {}  # so that another bucket can be given
    bucket(servers).held["store.json"] = (
        bucket(servers).held["store.json"]._replace(data=b'{"format":1,"store_id":"x"}')
    )
    with pytest.raises(UnsupportedFormat, match=r"another lake \(x, not [0-9a-f]{32}\): use the database that belongs"):
        opened()


def test_a_wrong_prefix_is_refused_once_there_are_blobs(servers):
    opened(create=True)
    database(servers).insert("copies", [{"_id": "blobs/aa/x/1", "state": "live"}])
    with pytest.raises(UnsupportedFormat, match=r"holds no store\.json although the lake has blobs"):
        opened({**AT, "s3": {**AT["s3"], "prefix": "typo"}})
    assert all(not made.held for place, made in servers.buckets.items() if place[2] == "typo")


def test_another_kind_of_place_is_refused(servers, tmp_path):
    opened(create=True)
    with pytest.raises(InvalidInput, match=f"keeps its blobs in s3://our-lake/p, not in {tmp_path}"):
        opened({"mongodb": URL, "folder": str(tmp_path)})


def test_a_newer_format_is_refused(servers):
    opened(create=True)
    database(servers).update("meta", {"_id": "store"}, {"$set": {"format": 2}})
    with pytest.raises(UnsupportedFormat, match="the database has store format 2; this release reads format 1"):
        opened()


def test_a_shared_folder(servers, tmp_path):
    at = {"mongodb": URL, "folder": str(tmp_path / "shared")}
    made = opened(at, create=True)
    assert made.objects is None and made.folder == f"{tmp_path}/shared/.dreamlake-blobs"
    assert json.loads(Path(made.folder, "store.json").read_text())["store_id"] == made.store_id
    assert opened(URL).folder == made.folder
    with pytest.raises(NotFound, match="which is not there: mount it"):
        opened({"mongodb": URL, "folder": str(tmp_path / "elsewhere")})
    with pytest.raises(UnsupportedFormat, match="holds the blobs of another lake"):
        opened({"mongodb": "mongodb://h/other", "folder": str(tmp_path / "shared")}, create=True)
    assert not (tmp_path / "shared/.dreamlake").exists()  # nobody can take it for a lake of its own


def test_a_store_that_is_exchanged_is_noticed_before_anything_is_removed(servers, tmp_path):
    at = {"mongodb": URL, "folder": str(tmp_path / "shared")}
    with Session("s", "w", remote=at) as session:
        session.files().upload(b"x", filename="x")
    lake = open_lake(at)
    (tmp_path / "shared/.dreamlake-blobs/store.json").write_text('{"format": 1, "store_id": "other"}')
    for act in (lake.collect, lake.verify, lake.repair):
        with pytest.raises(UnsupportedFormat, match="holds the blobs of another lake"):
            act()
    database(servers).update("meta", {"_id": "store"}, {"$set": {"store_id": "third"}})
    with pytest.raises(UnsupportedFormat, match="is another lake now"):
        lake.collect()


def test_settings_are_the_lakes(servers, tmp_path):
    at = {"mongodb": URL, "folder": str(tmp_path / "shared")}
    open_lake(at, create=True).configure(encoding="raw")
    assert open_lake(URL).store.encoding == "raw"


def test_connections_are_given_back_when_opening_fails_and_when_a_session_is_closed(servers, tmp_path, monkeypatch):
    closed: list[str] = []
    monkeypatch.setattr(MemoryDocs, "close", lambda self: closed.append("docs"))
    monkeypatch.setattr(MemoryObjects, "close", lambda self: closed.append("objects"))
    with pytest.raises(NotFound):
        opened()
    assert closed == ["docs"]
    session = Session("s", "w", remote={"mongodb": URL, "folder": str(tmp_path / "shared")}).open()
    assert closed == ["docs"]
    session.close()
    session.close()
    assert closed == ["docs", "docs"]


# ---- what a bucket must be able to do ------------------------------------------------------------------------------


class Careless(MemoryObjects):
    """Ignores what it is asked to heed."""

    def __init__(self, flaw: str = "") -> None:
        super().__init__()
        self.flaw = flaw

    def put(self, key, data, *, sha256):
        if self.flaw == "put":
            self.held.pop(key, None)
        if self.flaw == "checksum":
            sha256 = hashlib.sha256(data).hexdigest()
        if self.flaw == "lying" and key in self.held:
            self.held[key] = self.held[key]._replace(data=bytes(data))
            raise Conflict("taken")
        return super().put(key, data, sha256=sha256)

    def complete(self, key, upload, parts):
        if self.flaw == "multipart":
            self.held.pop(key, None)
        return super().complete(key, upload, parts)

    def list(self, prefix="", **options):
        return iter(()) if self.flaw == "late" else super().list(prefix, **options)


FLAWS = {
    "put": "overwrites an object although asked not to .*; use a store that supports them",
    "lying": "overwrote an object and reported a conflict",
    "multipart": "a multipart upload overwrites an object although asked not to",
    "checksum": "stores bytes that do not match the SHA-256 sent with them; use a store that checks it",
    "late": "what was just written is not seen; use a consistent store",
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_bucket_that_cannot_do_what_is_needed_is_refused_and_nothing_is_left(servers, flaw):
    place = ("https://s3.example.org", "our-lake", "p")
    servers.buckets[place] = Careless(flaw)
    with pytest.raises(UnsupportedFormat, match=FLAWS[flaw]):
        opened(create=True)
    assert database(servers).tables.get("meta", {}) == {}
    assert servers.buckets[place].held == {} and servers.buckets[place].open_uploads == {}


def test_a_good_bucket_is_tried_once_for_each_endpoint(servers, monkeypatch):
    opened(create=True)
    tried: list[str] = []
    real = MemoryObjects.put
    monkeypatch.setattr(
        MemoryObjects, "put", lambda self, key, *a, **k: (tried.append(key), real(self, key, *a, **k))[1]
    )
    opened()
    assert tried == []
    elsewhere = ("http://10.0.0.1", "our-lake", "p")
    servers.buckets[elsewhere] = bucket(servers)
    at = {**AT, "s3": {**AT["s3"], "endpoint": "http://10.0.0.1"}}
    opened(at)
    assert len(tried) == 4
    opened(at)
    assert len(tried) == 4
    assert list(servers.buckets[elsewhere].held) == ["store.json"]


def test_who_may_only_read_opens_a_lake_at_a_new_endpoint(servers, monkeypatch):
    opened(create=True)
    servers.buckets["http://10.0.0.1", "our-lake", "p"] = bucket(servers)

    def denied(self, *arguments, **options):
        raise AccessDenied("PutObject is refused")

    monkeypatch.setattr(MemoryObjects, "put", denied)
    assert opened({**AT, "s3": {**AT["s3"], "endpoint": "http://10.0.0.1"}}).objects is not None


def test_a_missing_unique_index_is_told(servers):
    opened(create=True)
    del database(servers).indexes["records"]["sid_1_n_1"]
    with pytest.raises(UnsupportedFormat, match=r"lacks the unique index records\.sid_1_n_1, .* --create-indexes"):
        opened()


def test_all_capabilities_are_told():
    objects = MemoryObjects()
    assert [tried.name for tried in try_objects(objects, "t") if tried.ok] == [
        "read after write",
        "conditional writes",
        "conditional multipart uploads",
        "SHA-256 of what arrives",
    ]
    assert objects.held == {} and objects.open_uploads == {}


def test_the_clock():
    assert try_clock(MemoryObjects(), "t").ok
    for late in (-MAX_SKEW_S - 60, MAX_SKEW_S + 60):
        wrong = try_clock(MemoryObjects(clock=lambda late=late: time.time() + late), "t")
        assert not wrong.ok and "differ by 360 seconds" in wrong.problem and "NTP" in wrong.cure


def test_a_database_that_is_away_is_told(servers, monkeypatch):
    def away(self, *arguments, **options):
        raise Unavailable("mongodb://h/lake cannot be reached")

    monkeypatch.setattr(MemoryDocs, "find", away)
    with pytest.raises(Unavailable, match="cannot be reached"), Session("s", "w", remote=AT):
        pass
