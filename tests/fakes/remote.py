"""Remote lakes without servers: databases and buckets of this process, in the place of the real clients."""

from __future__ import annotations

from typing import Any

from dreamlake import remote
from dreamlake.services.s3_calling import S3Settings
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects


class FakeServers:
    """Databases by URL and buckets by (endpoint, bucket, prefix)."""

    def __init__(self) -> None:
        self.databases: dict[str, MemoryDocs] = {}
        self.buckets: dict[tuple[str | None, str, str], MemoryObjects] = {}

    def install(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(remote, "CLIENTS", remote.Clients(self.docs, self.objects))

    def docs(self, url: str) -> MemoryDocs:
        return self.databases.setdefault(url, MemoryDocs())

    def objects(self, settings: S3Settings) -> MemoryObjects:
        place = (settings.endpoint, settings.bucket, settings.prefix)
        return self.buckets.setdefault(place, MemoryObjects())
