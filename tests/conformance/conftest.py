"""Worlds for the conformance suites of the two seams: open a store, open it once more as another process would, and
read what is stored without the store's help."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects
from simulation.simfs import SimFs

from dreamlake.blobs import Blobs
from dreamlake.blobs.folder import FolderBlobs
from dreamlake.blobs.memory import MemoryBlobs
from dreamlake.blobs.objects import INDEXES as COPY_INDEXES
from dreamlake.blobs.objects import ObjectBlobs
from dreamlake.catalog import Catalog, Record
from dreamlake.catalog import record as records
from dreamlake.catalog.documents import INDEXES, DocumentCatalog
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.catalog.memory import MemoryCatalog
from dreamlake.model import SessionKey
from dreamlake.ports import OsFs, Owner, Ports
from dreamlake.services.docs import Doc, Docs
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.objects import Objects

SUBDIRS = ("tmp", "pending", "blobs", "sessions", "quarantine")


def strict(data: bytes) -> Any:
    """JSON as a parser reads it that knows neither NaN nor Infinity."""

    def refuse(literal: str) -> Any:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(data, parse_constant=refuse)


def checked_record(data: bytes) -> dict[str, Any]:
    """A record read by the letter of SPEC "Records", not by the store's own code."""
    body, _, tail = data.rpartition(b',"sum":"')
    assert tail == hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'
    raw = strict(data)
    assert raw["v"] == 1
    return dict(raw)


# ---- catalogs ------------------------------------------------------------------------------------------------------


class MemoryCatalogWorld:
    def __init__(self, tmp_path: Path) -> None:
        self.catalog: Catalog = MemoryCatalog(Ports())

    def again(self) -> Catalog:
        return self.catalog

    def log(self, session: SessionKey) -> list[dict[str, Any]]:
        return [_raw(record) for record in self.catalog._logs.get(session, [])]

    def claims(self) -> dict[str, dict[str, Any]]:
        return {token: _raw(record) for token, (record, _) in self.catalog._claims.items()}

    def age(self, token: str, seconds: float) -> None:
        record, _ = self.catalog._claims[token]
        self.catalog._claims[token] = (record, time.time() - seconds)


def _raw(record: Record) -> dict[str, Any]:
    return checked_record(records.encode(record))


class NoSync(OsFs):
    """The operating system without waiting for the disk: what survives a power cut is tested on ``SimWorld``."""

    def fsync(self, path: str) -> None:
        os.stat(path)

    def fsync_dir(self, path: str) -> None:
        os.listdir(path)

    def sync(self, path: str) -> None:
        os.stat(path)


class FolderCatalogWorld:
    SIZES: ClassVar[dict[str, int]] = {}

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        for name in SUBDIRS:
            (tmp_path / name).mkdir()
        self.catalog: Catalog = self.again()

    def again(self) -> Catalog:
        return FolderCatalog(Ports(fs=NoSync()), str(self.root), **self.SIZES)

    def log(self, session: SessionKey) -> list[dict[str, Any]]:
        files = {int(f.stem): f for f in (self.root / "sessions" / session.sid / "log").glob("*/*.json")}
        assert sorted(files) == list(range(1, len(files) + 1)), "gap"
        return [checked_record(files[n].read_bytes()) for n in sorted(files)]

    def claims(self) -> dict[str, dict[str, Any]]:
        return {f.stem: checked_record(f.read_bytes()) for f in (self.root / "pending").iterdir()}

    def age(self, token: str, seconds: float) -> None:
        os.utime(self.root / "pending" / f"{token}.json", (time.time() - seconds,) * 2)

    # what only a folder has

    def record_file(self, session: SessionKey, number: int) -> Path:
        (found,) = (self.root / "sessions" / session.sid / "log").glob(f"*/{number}.json")
        return found

    def checkpoints(self, session: SessionKey) -> list[Path]:
        return sorted((self.root / "sessions" / session.sid / "ckpt").glob("[0-9]*.sqlite"), key=lambda f: int(f.stem))

    def scratch(self) -> list[str]:
        return sorted(f.name for f in (self.root / "tmp").iterdir())


class SmallFolderCatalogWorld(FolderCatalogWorld):
    """Three records a directory and a checkpoint after every fourth: borders everywhere."""

    SIZES: ClassVar[dict[str, int]] = {"fanout": 3, "checkpoint_every": 20}


class DocsCatalogWorld:
    """A catalog in a database; ``docs`` goes behind its back."""

    SIZES: ClassVar[dict[str, int]] = {}

    def __init__(self, docs: Docs, tmp_path: Path) -> None:
        self.docs, self.cache = docs, tmp_path / "views"
        docs.ensure(INDEXES)
        self.catalog: Catalog = self.again()

    def again(self) -> Catalog:
        return DocumentCatalog(Ports(fs=NoSync()), self.docs, cache=str(self.cache), **self.SIZES)

    def rows(self, collection: str = "records", **where: Any) -> list[dict[str, Any]]:
        return list(self.docs.find(collection, where))

    def text(self, row: dict[str, Any]) -> str:
        if "text" in row:
            return str(row["text"])
        texts = {piece["_id"]: piece["text"] for piece in self.rows("record_pieces")}
        return "".join(texts[name] for name in row["pieces"])

    def log(self, session: SessionKey) -> list[dict[str, Any]]:
        rows = {row["n"]: row for row in self.rows(sid=session.sid, state="committed")}
        assert sorted(rows) == list(range(1, len(rows) + 1)), "gap"
        assert all("open" not in row for row in rows.values())
        return [checked_record(self.text(rows[n]).encode()) for n in sorted(rows)]

    def claims(self) -> dict[str, dict[str, Any]]:
        return {row["_id"]: checked_record(self.text(row).encode()) for row in self.rows(open=True)}

    def age(self, token: str, seconds: float) -> None:
        assert self.docs.update("records", {"_id": token}, {"$set": {"beat": time.time() - seconds}})


class SmallDocsCatalogWorld(DocsCatalogWorld):
    """A checkpoint after every fourth record."""

    SIZES: ClassVar[dict[str, int]] = {"checkpoint_every": 20}


CATALOGS: dict[str, Any] = {
    "memory": MemoryCatalogWorld,
    "folder": FolderCatalogWorld,
    "folder-small": SmallFolderCatalogWorld,
    "docs": lambda tmp_path: DocsCatalogWorld(MemoryDocs(), tmp_path),
    "docs-small": lambda tmp_path: SmallDocsCatalogWorld(MemoryDocs(), tmp_path),
}


@pytest.fixture(params=[*CATALOGS, "mongo"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param in CATALOGS:
        yield CATALOGS[request.param](tmp_path)
        return
    docs = MongoDocs(request.getfixturevalue("mongo_url"))
    yield SmallDocsCatalogWorld(docs, tmp_path)
    docs.close()


@pytest.fixture(params=["folder", "folder-small"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return CATALOGS[request.param](tmp_path)


# ---- blobs ---------------------------------------------------------------------------------------------------------


class BlobsWorld:
    blobs: Blobs
    readers_keep = True  # what they have opened, although it is removed
    rewriting_shows = True  # also with the same bytes

    def noticed(self, key: str) -> None:
        """What verify and repair do where a look alone does not meet the stored bytes."""

    def close(self) -> None:
        return None


class MemoryBlobsWorld(BlobsWorld):
    def __init__(self, tmp_path: Path) -> None:
        self.blobs: Blobs = MemoryBlobs()

    def again(self) -> Blobs:
        return self.blobs

    def stored(self) -> dict[tuple[str, str | None], bytes]:
        return dict(self.blobs.held)

    def scratch(self) -> int:
        return len(self.blobs.staged)

    def take_scratch(self) -> None:
        self.blobs.staged.clear()

    def damage(self, key: str, data: bytes, batch: str | None = None) -> None:
        self.blobs.held[key, batch] = data
        self.blobs.distrusted.add(key)

    def quarantined(self) -> list[bytes]:
        return list(self.blobs.quarantined.values())


class FolderBlobsWorld(BlobsWorld):
    SHARDS = True

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        for name in SUBDIRS:
            (tmp_path / name).mkdir()
        for shard in range(256 if self.SHARDS else 0):
            (tmp_path / "blobs" / f"{shard:02x}").mkdir()
        self.blobs: Blobs = self.again()

    def again(self) -> Blobs:
        return FolderBlobs(Ports(fs=NoSync()), str(self.root))

    def stored(self) -> dict[tuple[str, str | None], bytes]:
        found = {}
        for file in (self.root / "blobs").glob("*/*"):
            key, _, batch = file.name.partition("~")
            assert file.parent.name == key[-64:-62]
            assert file.stat().st_mode & 0o777 == 0o444
            found[key, batch or None] = file.read_bytes()
        return found

    def scratch(self) -> int:
        return len(list((self.root / "tmp").iterdir()))

    def take_scratch(self) -> None:
        for file in (self.root / "tmp").iterdir():
            file.unlink()

    def damage(self, key: str, data: bytes, batch: str | None = None) -> None:
        file = self.root / "blobs" / key[-64:-62] / (key if batch is None else f"{key}~{batch}")
        file.chmod(0o644)
        file.write_bytes(data)  # as somebody who edits a hard-linked file does: the time stamps change
        file.chmod(0o444)

    def quarantined(self) -> list[bytes]:
        return [file.read_bytes() for file in (self.root / "quarantine").iterdir()]


class BareFolderBlobsWorld(FolderBlobsWorld):
    """A lake copied by a tool that leaves out empty folders."""

    SHARDS = False


class ObjectBlobsWorld(BlobsWorld):
    """A database and an object store of this process; ``objects`` and ``docs`` may be real ones (integration)."""

    readers_keep = False
    rewriting_shows = False

    def __init__(self, tmp_path: Path) -> None:
        self.docs, self.objects = self.servers()
        self.docs.ensure(COPY_INDEXES)
        self.folder = tmp_path / "scratch"
        self.made: list[ObjectBlobs] = []
        self.blobs: Blobs = self.again()

    def servers(self) -> tuple[Docs, Objects]:
        return MemoryDocs(), MemoryObjects()

    def again(self) -> Blobs:
        made = ObjectBlobs(Ports(fs=NoSync()), self.docs, self.objects, str(self.folder))
        if self.made:  # bytes that wait are this process's
            made._waiting = made._publisher._waiting = self.made[0]._waiting
        self.made.append(made)
        return made

    def close(self) -> None:
        for blobs in self.made:
            blobs.close()

    def documents(self, state: str) -> list[Doc]:
        return [doc for doc in self.docs.find("copies", {}) if doc["state"] == state]

    def stored(self) -> dict[tuple[str, str | None], bytes]:
        found = {}
        known = {}
        for doc in [*self.documents("live"), *self.documents("condemned")]:
            assert (doc["state"] == "live") == (doc.get("batch") is None) == (doc.get("off") is None)
            assert doc["_id"].startswith(f"blobs/{doc['key'][-64:-62]}/{doc['key']}/")
            assert (doc["key"], doc.get("batch")) not in found
            found[doc["key"], doc.get("batch")] = known[doc["_id"]] = self.objects.read(doc["_id"])
        aside = {doc["_id"] for doc in self.documents("quarantined")}
        assert {info.key for info in self.objects.list("blobs/")} == known.keys() | aside
        return found

    def scratch(self) -> int:
        assert self.documents("uploading") == self.documents("deleting") == []
        files = len(list(self.folder.iterdir())) if self.folder.exists() else 0
        return max(files, len(self.made[0]._waiting.items))

    def take_scratch(self) -> None:
        self.made[0]._waiting.items.clear()

    def damage(self, key: str, data: bytes, batch: str | None = None) -> None:
        """As somebody does who writes into the bucket by hand."""
        state = {"state": "live"} if batch is None else {"state": "condemned", "batch": batch}
        (doc,) = self.docs.find("copies", {"key": key, **state})
        self.objects.delete([doc["_id"]])
        self.objects.put(doc["_id"], data, sha256=hashlib.sha256(data).hexdigest())

    def noticed(self, key: str) -> None:
        if not self.blobs.sealed(key):
            self.blobs.distrust(key)

    def quarantined(self) -> list[bytes]:
        return [self.objects.read(doc["_id"]) for doc in self.documents("quarantined")]


BLOBS = {
    "memory": MemoryBlobsWorld,
    "folder": FolderBlobsWorld,
    "folder-bare": BareFolderBlobsWorld,
    "objects": ObjectBlobsWorld,
}


@pytest.fixture(params=BLOBS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    world = BLOBS[request.param](tmp_path)
    yield world
    world.close()


# ---- a folder whose power can be cut -------------------------------------------------------------------------------


class SimWorld:
    """Catalog and blobs on a simulated disk. ``power_cut`` leaves as little as a power cut can leave."""

    ROOT = "/lake"

    def __init__(self) -> None:
        self.fs = SimFs()
        for name in SUBDIRS:
            self.fs.make_dir(f"{self.ROOT}/{name}")
        for shard in range(256):
            self.fs.make_dir(f"{self.ROOT}/blobs/{shard:02x}")
        self.fs.sync("/")
        self.ids = 0

    def ports(self) -> Ports:
        return Ports(fs=self.fs, new_id=self._new_id, owner=lambda: Owner("h", "b", 1, "1"), is_local=lambda path: True)

    def _new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:032x}"

    def catalog(self) -> FolderCatalog:
        return FolderCatalog(self.ports(), self.ROOT, fanout=3, checkpoint_every=20)

    def blobs(self) -> FolderBlobs:
        return FolderBlobs(self.ports(), self.ROOT)

    def power_cut(self) -> None:
        oldest = dict.fromkeys(self.fs.dirs, 0)
        self.fs = self.fs.after_power_cut(oldest, lambda data: bytes(len(data)))

    def files(self, folder: str) -> dict[str, bytes]:
        names = self.fs.dirs[f"{self.ROOT}/{folder}"].names
        return {name: file.data for name, file in names.items() if hasattr(file, "data")}


@pytest.fixture
def sim() -> Iterator[SimWorld]:
    yield SimWorld()
