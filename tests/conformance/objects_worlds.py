"""Object stores for the contract suites: in memory, moto in this process, or any server that speaks S3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.objects import MemoryObjects

from dreamlake.services.objects import Objects
from dreamlake.services.s3 import S3Objects, S3Settings

KEY, SECRET = "testkey", "testsecret123"  # those of every server that the tests start


def settings(endpoint: str, bucket: str, **changes: Any) -> S3Settings:
    given = {"region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET, "patience_s": 10.0, **changes}
    return S3Settings(bucket, endpoint=endpoint, **given)


def make_bucket(where: S3Settings) -> None:
    """Make the bucket if it is not there. Real servers set much aside for each: tests share one, by prefixes."""
    objects = S3Objects(where)
    try:
        objects._caller.client().create_bucket(Bucket=where.bucket)
    finally:
        objects.close()


class World:
    checks_digests = True
    dates_uploads = True
    knows_aborted = True


class MemoryWorld(World):
    def __init__(self) -> None:
        self.objects: Objects = MemoryObjects()

    def again(self) -> Objects:
        return self.objects

    def content_type(self, target: str) -> str | None:
        return self.objects.files[target].content_type


class S3World(World):
    """A fresh place in a bucket of its own."""

    def __init__(self, where: S3Settings) -> None:
        self.settings = where
        self.objects: Objects = self.again()

    def again(self) -> Objects:
        return S3Objects(self.settings)

    def content_type(self, target: str) -> str | None:
        place = {"Bucket": self.settings.bucket, "Key": f"{self.settings.prefix}/files/{target}".lstrip("/")}
        return str(self.again()._caller.client().head_object(**place)["ContentType"])


class MotoWorld(S3World):
    checks_digests = False
    dates_uploads = False  # all were begun in 2010
    knows_aborted = False  # to ask for one is answered with status 500


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    pytest.importorskip("moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    make_bucket(settings(url, "lake"))
    yield url
    server.stop()


def fresh_place(url: str, bucket: str = "lake", **changes: Any) -> S3Settings:
    """A place of its own in a bucket."""
    return settings(url, bucket, **{"prefix": f"some/{uuid.uuid4().hex}", **changes})
