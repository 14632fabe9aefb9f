"""What every ``Objects`` promises (see its docstrings), checked on each implementation."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from conformance.objects_worlds import MemoryWorld, MotoWorld, fresh_place, moto_url  # noqa: F401

from dreamlake.errors import Conflict, Corrupt, NotFound
from dreamlake.services.objects import MIN_PART_BYTES, Objects, Part

DATA = b"some weights" * 50


@pytest.fixture(params=["memory", "moto"])
def world(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    made = MotoWorld(fresh_place(request.getfixturevalue("moto_url")))
    yield made
    made.objects.close()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(objects: Objects, key: str, data: bytes = DATA) -> str:
    return objects.put(key, data, sha256=sha(data))


def send(objects: Objects, key: str, upload: str, number: int, data: bytes) -> Part:
    return objects.put_part(key, upload, number, data, sha256=sha(data))


# ---- whole objects ---------------------------------------------------------------------------------------------------


def test_what_was_put_is_there_whole_and_listed_at_once(world):
    assert world.objects.head("blobs/aa/k") is None
    before = time.time()
    etag = put(world.objects, "blobs/aa/k")
    other = world.again()
    assert other.read("blobs/aa/k") == DATA
    found = other.head("blobs/aa/k")
    assert (found.key, found.size, found.etag) == ("blobs/aa/k", len(DATA), etag)
    assert before - 5 < found.modified < time.time() + 5
    assert [(info.key, info.size, info.etag) for info in other.list()] == [("blobs/aa/k", len(DATA), etag)]


@pytest.mark.parametrize("data", [b"", b"x", memoryview(b"abcdef")[1:4], bytes(range(256)) * 8192])
def test_any_bytes_can_be_put(world, data):
    world.objects.put("k", data, sha256=sha(bytes(data)))
    assert world.objects.read("k") == bytes(data)
    assert world.objects.stream("k").read() == bytes(data)
    assert world.objects.head("k").size == len(data)


def test_a_taken_key_is_never_overwritten(world):
    put(world.objects, "k")
    with pytest.raises(Conflict, match="k"):
        put(world.again(), "k", b"other")
    with pytest.raises(Conflict):
        put(world.again(), "k", DATA[::-1])
    assert world.objects.read("k") == DATA


def test_putting_the_same_again_counts_once(world):
    """A reply may be lost: then the sender's second attempt meets its own first one."""
    assert put(world.objects, "k") == put(world.again(), "k")
    assert [info.key for info in world.objects.list()] == ["k"]


def test_of_many_who_put_one_key_one_wins(world):
    outcomes: list[object] = []

    def work(data: bytes) -> None:
        try:
            put(world.objects, "k", data)
            outcomes.append(data)
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=work, args=(b"%d" % i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert world.objects.read("k") == winner


def test_parts_of_an_object_can_be_read(world):
    put(world.objects, "k", bytes(range(100)))
    assert world.objects.read("k", 10, 20) == bytes(range(10, 20))
    assert world.objects.read("k", 90) == bytes(range(90, 100))
    assert world.objects.read("k", 90, 1000) == bytes(range(90, 100))
    assert world.objects.read("k", 5, 5) == b""
    assert world.objects.read("k", 100) == b""
    assert world.objects.read("k", 1000, 2000) == b""
    with world.objects.stream("k", 40) as stream:
        assert stream.read(5) == bytes(range(40, 45))
        assert stream.read() == bytes(range(45, 100))
        assert stream.read(1) == b""


def test_what_is_not_there_is_not_found(world):
    for call in (
        lambda: world.objects.read("k"),
        lambda: world.objects.read("k", 3, 9),
        lambda: world.objects.stream("k"),
        lambda: world.objects.copy("k", "target"),
    ):
        with pytest.raises(NotFound, match="k"):
            call()
    assert world.objects.head("k") is None
    assert list(world.objects.list()) == []


def test_delete_is_done_once_and_may_be_repeated(world):
    for i in range(5):
        put(world.objects, f"k{i}", b"%d" % i)
    world.objects.delete(["k1", "k3", "unknown"])
    world.again().delete(["k1"])
    world.again().delete([])
    assert [info.key for info in world.objects.list()] == ["k0", "k2", "k4"]
    put(world.objects, "k1", b"new")


def test_keys_are_listed_in_order_by_prefix_and_from_anywhere(world):
    keys = [f"blobs/{i:02x}/x" for i in range(8)] + ["quarantine/y", "store.json"]
    for key in reversed(keys):
        put(world.objects, key)
    assert [info.key for info in world.objects.list()] == sorted(keys)
    assert [info.key for info in world.objects.list("blobs/")] == keys[:8]
    assert [info.key for info in world.objects.list("blobs/", after="blobs/03/x")] == keys[4:8]
    assert [info.key for info in world.objects.list("blobs/03")] == ["blobs/03/x"]
    assert list(world.objects.list("nothing/")) == []


# ---- objects in parts ------------------------------------------------------------------------------------------------


def test_an_object_in_parts_is_visible_whole_or_not_at_all(world):
    first, last = bytes(MIN_PART_BYTES), b"the end"
    upload = world.objects.begin("k")
    parts = [send(world.objects, "k", upload, 2, last), send(world.objects, "k", upload, 1, first)]
    assert world.objects.head("k") is None
    assert list(world.objects.list()) == []
    assert [(u.key, u.id) for u in world.objects.uploads()] == [("k", upload)]
    if world.dates_uploads:
        assert abs(next(iter(world.objects.uploads("k"))).started - time.time()) < 60
    stored = world.again().parts("k", upload)
    assert [part[:3] for part in stored] == [part[:3] for part in reversed(parts)]
    assert all(part.sha256 in (None, sha(data)) for part, data in zip(stored, (first, last), strict=True))
    etag = world.again().complete("k", upload, parts[::-1])
    assert world.objects.read("k") == first + last
    assert world.objects.head("k")[1::2] == (len(first) + len(last), etag)
    assert list(world.objects.uploads()) == []


def test_a_part_may_be_sent_again(world):
    upload = world.objects.begin("k")
    send(world.objects, "k", upload, 1, b"first try")
    part = send(world.objects, "k", upload, 1, b"second try")
    world.objects.complete("k", upload, [part])
    assert world.objects.read("k") == b"second try"


def test_completing_never_overwrites(world):
    upload = world.objects.begin("k")
    part = send(world.objects, "k", upload, 1, b"parts")
    put(world.again(), "k", b"other")
    with pytest.raises(Conflict):
        world.objects.complete("k", upload, [part])
    assert world.objects.read("k") == b"other"
    world.objects.abort("k", upload)
    assert list(world.objects.uploads()) == []


def test_what_was_aborted_is_gone(world):
    upload = world.objects.begin("k")
    part = send(world.objects, "k", upload, 1, b"data")
    world.objects.abort("k", upload)
    if not world.knows_aborted:
        pytest.skip("moto answers with status 500")
    world.again().abort("k", upload)
    for call in (
        lambda: send(world.objects, "k", upload, 2, b"more"),
        lambda: world.objects.parts("k", upload),
        lambda: world.objects.complete("k", upload, [part]),
    ):
        with pytest.raises(NotFound):
            call()
    assert world.objects.head("k") is None


def test_uploads_are_listed_by_prefix(world):
    ids = {world.objects.begin(key): key for key in ("blobs/01/x", "blobs/01/x", "blobs/02/y", "other")}
    assert {u.id: u.key for u in world.objects.uploads()} == ids
    assert sorted(u.key for u in world.objects.uploads("blobs/01/")) == ["blobs/01/x", "blobs/01/x"]
    for upload, key in ids.items():
        world.objects.abort(key, upload)


# ---- materialized files ----------------------------------------------------------------------------------------------


def test_files_lie_beside_the_objects_and_are_replaced(world):
    put(world.objects, "k")
    made = world.objects.copy("k", "team/run/id/model ü.pt", content_type="application/x-model")
    assert (made.key, made.size) == ("team/run/id/model ü.pt", len(DATA))
    assert world.content_type("team/run/id/model ü.pt") == "application/x-model"
    assert [info.key for info in world.objects.list("team/", files=True)] == ["team/run/id/model ü.pt"]
    assert [info.key for info in world.objects.list("k")] == ["k"]
    replaced = world.objects.put_file("team/run/id/model ü.pt", io.BytesIO(b"other"), content_type="text/plain")
    assert replaced.size == 5
    assert [info.size for info in world.objects.list(files=True)] == [5]
    world.objects.delete(["k"])
    assert len(list(world.objects.list(files=True))) == 1
    world.objects.delete_files(["team/run/id/model ü.pt", "unknown"])
    assert list(world.objects.list(files=True)) == []


def test_a_presigned_url_reads_without_credentials(world):
    put(world.objects, "k")
    url = world.objects.presign("k", expires_s=60, filename="best model.pt")
    assert "testsecret123" not in url
    if url.startswith("http"):
        with urllib.request.urlopen(url, timeout=10) as reply:
            assert reply.read() == DATA
            assert "best%20model.pt" in reply.headers["Content-Disposition"]


def test_bytes_that_are_not_those_meant_are_refused(world):
    if not world.checks_digests:
        pytest.skip("moto takes any digest")
    with pytest.raises(Corrupt):
        world.objects.put("k", DATA, sha256=sha(b"other"))
    upload = world.objects.begin("k")
    with pytest.raises(Corrupt):
        world.objects.put_part("k", upload, 1, DATA, sha256=sha(b"other"))
    world.objects.abort("k", upload)
    assert list(world.objects.list()) == []
