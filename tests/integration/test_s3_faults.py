"""A network that fails, servers and clients that are killed: what the object store's client makes of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamlake.blobs import sending
from dreamlake.blobs.objects import INDEXES, ObjectBlobs
from dreamlake.errors import AccessDenied, Conflict, NotFound, OutcomeUnknown, Unavailable
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.objects import MIN_PART_BYTES
from dreamlake.services.s3 import S3Objects, S3Settings
from dreamlake.services.s3_calling import Caller
from integration.proxy import Fault, Proxy
from tools.servers.processes import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

DATA = os.urandom(100_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def net(s3_place: dict[str, Any]) -> Iterator[Proxy]:
    port = int(s3_place["endpoint"].rpartition(":")[2])
    with Proxy(port) as proxy:
        yield proxy


@pytest.fixture
def place(net: Proxy, s3_place: dict[str, Any]) -> dict[str, Any]:
    return {**s3_place, "endpoint": f"http://127.0.0.1:{net.port}", "patience_s": 5.0, "read_timeout_s": 5.0}


@pytest.fixture
def objects(place: dict[str, Any]) -> Iterator[S3Objects]:
    made = S3Objects(S3Settings(**place))
    yield made
    made.close()


# ---- a network that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lose", "cut", "tear", "refuse", "repeat"])
def test_an_object_is_stored_once_whatever_becomes_of_requests_and_replies(net, objects, kind):
    fault = net.arm(Fault(kind, match=b"PUT /", times=2 if kind != "repeat" else 1, after=20))
    etag = objects.put("k", DATA, sha256=sha(DATA))
    assert fault.hits == fault.times
    assert objects.read("k") == DATA
    assert [(info.key, info.etag) for info in objects.list()] == [("k", etag)]
    with pytest.raises(Conflict):
        objects.put("k", DATA[::-1], sha256=sha(DATA[::-1]))


@pytest.mark.parametrize("kind", ["lose", "repeat", "refuse"])
def test_an_object_in_parts_is_completed_once(net, objects, kind):
    upload = objects.begin("k")
    pieces = [os.urandom(MIN_PART_BYTES), b"end"]
    parts = [objects.put_part("k", upload, n, piece, sha256=sha(piece)) for n, piece in enumerate(pieces, 1)]
    fault = net.arm(Fault(kind, match=b"POST /"))
    etag = objects.complete("k", upload, parts)
    assert fault.hits == 1
    assert objects.head("k").etag == etag
    assert objects.read("k") == b"".join(pieces)


def test_a_download_goes_on_where_it_was_cut(net, objects):
    data = os.urandom(3 << 20)
    objects.put("k", data, sha256=sha(data))
    before = net.requests
    fault = net.arm(Fault("cut", match=b"GET /", times=2, after=100_000))
    with objects.stream("k") as stream:
        pieces = []
        while piece := stream.read(1 << 16):
            pieces.append(piece)
    assert b"".join(pieces) == data
    assert fault.hits == 2
    assert net.requests - before == 3


def test_a_connection_that_stands_still_is_noticed(net, place):
    objects = S3Objects(S3Settings(**{**place, "read_timeout_s": 0.5}))
    objects.put("k", DATA, sha256=sha(DATA))
    fault = net.arm(Fault("delay", match=b"GET /", seconds=5.0))
    began = time.monotonic()
    assert objects.read("k") == DATA
    assert fault.hits == 1
    assert 0.5 <= time.monotonic() - began < 4.0
    objects.close()


def test_replies_that_are_lost_again_and_again_leave_doubt_and_the_next_try_clears_it(net, place):
    objects = S3Objects(S3Settings(**{**place, "patience_s": 0.5}))
    net.arm(Fault("lose", match=b"PUT /", times=99))
    with pytest.raises(OutcomeUnknown, match=r"cut or stood still"):
        objects.put("k", DATA, sha256=sha(DATA))
    net.faults.clear()
    objects.put("k", DATA, sha256=sha(DATA))
    assert objects.read("k") == DATA
    objects.close()


def test_a_store_that_cannot_be_reached_is_told_with_its_name(net, place):
    objects = S3Objects(S3Settings(**{**place, "patience_s": 0.5}))
    net.down = True
    net.cut_all()
    with pytest.raises(Unavailable, match=rf"s3://{BUCKET}/.* at 127\.0\.0\.1"):
        objects.head("k")
    nobody = S3Objects(S3Settings(**{**place, "endpoint": "http://127.0.0.1:9", "patience_s": 0.5}))
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        nobody.put("k", DATA, sha256=sha(DATA))
    assert not isinstance(caught.value, OutcomeUnknown)
    objects.close()


@pytest.mark.parametrize("wrong", [{"secret_access_key": "a-wrong-secret"}, {"access_key_id": "nobody"}])
def test_wrong_credentials_are_told_with_the_cure_and_without_the_secret(place, wrong):
    objects = S3Objects(S3Settings(**{**place, **wrong}))
    for call in (
        lambda: objects.put("k", DATA, sha256=sha(DATA)),
        lambda: objects.read("k"),
        lambda: objects.head("k"),
    ):
        with pytest.raises(AccessDenied, match="check the keys") as caught:
            call()
        assert not {"a-wrong-secret", "nobody", SECRET_KEY} & set(str(caught.value).split())
    objects.close()


def test_a_bucket_that_is_not_there(place):
    objects = S3Objects(S3Settings(**{**place, "bucket": "nobody-made-this"}))
    with pytest.raises(Unavailable, match="there is no bucket for s3://nobody-made-this"):
        objects.read("k")
    objects.close()


# ---- clients and servers that are killed -----------------------------------------------------------------------------


class Counting(S3Objects):
    """Counts its requests to S3."""

    def __init__(self, settings: S3Settings) -> None:
        super().__init__(settings)
        self.requests: Counter[str] = Counter()
        call = self._caller.call

        def counted(operation: str, *args: Any, **options: Any) -> dict[str, Any]:
            self.requests[operation] += 1
            return call(operation, *args, **options)

        self._caller.call = counted  # type: ignore[method-assign]


def test_an_upload_whose_client_was_killed_is_taken_up_without_sending_finished_parts_again(
    net, place, s3_place, mongo_url, tmp_path
):
    data = os.urandom(4 * sending.PART_BYTES + 1000)
    digest, file = sha(data), tmp_path / "file"
    file.write_bytes(data)
    docs = MongoDocs(mongo_url)
    docs.ensure(INDEXES)
    for number in (3, 4):  # these two parts are never answered: the process hangs, and is killed
        for after in "& ":  # the order of a query changes from one version of the client library to the next
            net.arm(Fault("delay", match=f"partNumber={number}{after}".encode(), seconds=60.0, times=9))
    command = [
        sys.executable,
        str(Path(__file__).with_name("s3_uploader.py")),
        json.dumps({**place, "read_timeout_s": 60}),
    ]
    client = subprocess.Popen([*command, mongo_url, str(file), str(tmp_path)], stdout=subprocess.PIPE)
    store = Counting(S3Settings(**s3_place))
    done: set[int] = set()
    deadline = time.monotonic() + 150
    while not {1, 2, 5} <= done and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(NotFound):  # it is being begun
            done = {part.number for upload in store.uploads() for part in store.parts(upload.key, upload.id)}
    os.kill(client.pid, signal.SIGKILL)
    client.communicate()
    net.cut_all()
    done = {part.number for upload in store.uploads() for part in store.parts(upload.key, upload.id)}
    assert {1, 2, 5} <= done
    store.requests.clear()
    blobs = ObjectBlobs(Ports(), docs, store, str(tmp_path))
    _, staged = blobs.stage_file(str(file), b"", len(data), digest)
    assert blobs.publish(digest, staged)
    expected = {"list_parts": 1, "upload_part": 5 - len(done), "complete_multipart_upload": 1}
    assert dict(store.requests) == {name: count for name, count in expected.items() if count}
    with blobs.open(digest) as stream:
        assert sha(stream.read()) == digest
    assert list(store.uploads()) == []
    assert len(list(store.list("blobs/"))) == 1
    blobs.close()
    docs.close()
    store.close()


def test_uploads_outlive_a_server_that_is_killed_and_comes_back(mongo_url, tmp_path):
    """It takes 12 to 18 seconds to come back; whoever waits so long notices nothing else."""
    docs = MongoDocs(mongo_url)
    docs.ensure(INDEXES)
    with S3Server(tmp_path / "s3") as server:
        where = S3Settings(
            BUCKET, endpoint=server.endpoint, region="us-east-1", access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY, read_timeout_s=10.0,
        )  # fmt: skip
        store = S3Objects(where)
        blobs = ObjectBlobs(Ports(), docs, store, str(tmp_path / "scratch"))
        large = os.urandom(2 * sending.PART_BYTES)
        (tmp_path / "large").write_bytes(large)
        published: list[str] = []
        errors: list[BaseException] = []
        going = threading.Event()

        def upload(number: int) -> None:
            try:
                for i in range(20):
                    data = os.urandom(50_000) + bytes([number, i])
                    item = blobs.stage()
                    item.write(data)
                    blobs.publish(sha(data), item.finish())
                    published.append(sha(data))
                    if len(published) > 10:
                        going.set()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=upload, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        assert going.wait(60)
        server.kill()
        server.start()
        _, staged = blobs.stage_file(str(tmp_path / "large"), b"", len(large), sha(large))
        blobs.publish(sha(large), staged)
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(published) == 60
        for digest in [*published, sha(large)]:
            with blobs.open(digest) as stream:
                assert sha(stream.read()) == digest
        assert all(copy.sealed for copy in blobs.copies())
        blobs.close()
        store.close()
    docs.close()


# ---- what an upload costs --------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch) -> Counter[str]:
    """Requests to the object store, by operation."""
    found: Counter[str] = Counter()
    call = Caller.call

    def counting(self: Caller, operation: str, *args: Any, **options: Any) -> dict[str, Any]:
        found[operation] += 1
        return call(self, operation, *args, **options)

    monkeypatch.setattr(Caller, "call", counting)
    return found


def test_requests_per_upload(counted, mongo_url, s3_place, tmp_path, monkeypatch):
    """A new small file: one request to the object store. A duplicate: none, whatever its size. A checkpoint: one for
    each part that is new, and one for its recipe."""
    import numpy as np
    import safetensors.numpy

    from dreamlake import Session

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Session("w", "s", remote={"mongodb": mongo_url, "s3": s3_place}) as session:
        counted.clear()
        session.files().upload(b"a small one", filename="a.txt")
        assert dict(counted) == {"put_object": 1}
        counted.clear()
        session.files().upload(b"a small one", filename="b.txt")
        assert dict(counted) == {}
        rng = np.random.default_rng(0)
        tensors = {f"layer{i}": rng.standard_normal((1 << 18) * 3, dtype=np.float32) for i in range(30)}  # 90 MiB
        safetensors.numpy.save_file(tensors, tmp_path / "c.safetensors")
        session.files().upload(str(tmp_path / "c.safetensors"), path="/c")
        first, parts = dict(counted), len(tensors)
        assert set(first) == {"put_object"} and parts + 1 <= first["put_object"] <= parts + 3
        counted.clear()
        tensors["layer3"] += 1
        safetensors.numpy.save_file(tensors, tmp_path / "d.safetensors")
        session.files().upload(str(tmp_path / "d.safetensors"), path="/c")
        assert counted["put_object"] <= 4 and sum(counted.values()) <= 6  # what it is compared with is read
        counted.clear()
        session.files().upload(str(tmp_path / "d.safetensors"), path="/again")
        assert sum(counted.values()) <= 2  # its recipe is read
        noise = os.urandom(40 << 20)
        (tmp_path / "noise").write_bytes(noise)
        counted.clear()
        session.files().upload(str(tmp_path / "noise"))
        assert dict(counted) == {"create_multipart_upload": 1, "upload_part": 3, "complete_multipart_upload": 1}
        counted.clear()
        session.files().upload(str(tmp_path / "noise"), path="/again")
        assert dict(counted) == {}
        assert session.files().read_bytes("/noise") == noise
