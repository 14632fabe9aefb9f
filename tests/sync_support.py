"""What the tests of synchronisation share: lakes in memory beside lakes in folders, and what a lake says in all."""

from __future__ import annotations

from typing import Any

from dreamlake import values
from dreamlake.blobs.memory import MemoryBlobs
from dreamlake.catalog.memory import MemoryCatalog
from dreamlake.content import reading
from dreamlake.journal import PARAMETERS, TRACKS, Journal, number_key
from dreamlake.journal.memory import MemoryJournal
from dreamlake.lake import Lake
from dreamlake.model import SessionInfo, SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.sync import Side
from dreamlake.ports import Ports

_TOTALS = ("totalDataPoints", "bufferedDataPoints", "updatedAt")  # a summary that the next close brings up to date


class MemoryPlace:
    """What a lake in memory has besides its store."""

    def __init__(self, name: str) -> None:
        self.where = name
        self.journals: dict[SessionKey, MemoryJournal] = {}
        self.shown: dict[SessionKey, SessionInfo] = {}

    def journal(self, key: SessionKey) -> Journal:
        return self.journals.setdefault(key, MemoryJournal())

    def prepare(self, key: SessionKey, *, new: bool) -> Any:
        return lambda: None

    def show(self, info: SessionInfo) -> None:
        self.shown[info.key] = info


def memory_side(name: str, namespace: str = "") -> Side:
    ports = Ports()
    store = Store(ports=ports, catalog=MemoryCatalog(ports), blobs=MemoryBlobs(), namespace=namespace)
    return Side(store, MemoryPlace(name), name)


def side(lake: Lake) -> Side:
    return Side(lake.store, lake.home, lake.store_id)


def told(where: Side, *, read: bool = True) -> dict[str, Any]:
    """All that a lake says, so that two can be compared: sessions that exist, whole histories, contents, side data."""
    found: dict[str, Any] = {}
    for key in where.store.sessions():
        fold = where.store.catalog.view(key)
        if not fold.info.exists:
            continue
        files = sorted((f for f in fold.files() if f.versions), key=lambda f: f.file_id)
        found[str(key)] = {
            "info": values.encode({**fold.info._asdict(), "key": None, "tags": list(fold.info.tags)}),
            "files": [
                (f.file_id, f.key, f.primary, [values.encode(v._asdict()) for v in f.versions], dict(f.aliases))
                for f in files
            ],
            "live": [v.id for v in fold.live()],
            **_side_data(where.place.journal(key)),
        }
        for file in files if read else ():
            for version in file.versions:
                for _ in reading.pieces(where.store.blobs, version.digest, version.size_bytes):
                    pass  # raises when it is not whole
    return found


def _side_data(journal: Journal) -> dict[str, Any]:
    streams = journal.streams()
    rows = {}
    for stream in streams:
        number = number_key(stream)
        read = journal.read(stream, 0, 1_000_000)
        assert [row[number] for row in read] == list(range(len(read))), "numbers have gaps"
        rows[stream] = sorted(values.encode({k: v for k, v in row.items() if k != number}) for row in read)
    documents = {}
    for name in [PARAMETERS, *(s for s in streams if s.startswith(TRACKS))]:
        document = journal.read_document(name)
        documents[name] = document and {k: v for k, v in document.items() if k not in _TOTALS}
    return {"rows": rows, "documents": values.encode(documents)}
