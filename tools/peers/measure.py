"""One measurement: a peer and the plain baseline on one series, alternating, in fresh folders on the same disk."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.peers.base import Item, Peer, PeerError, run
from tools.peers.plain import Plain


@dataclass
class Result:
    """What one peer did with one series. Seconds are one entry a run; ratios compare medians."""

    peer: str
    series: str
    logical_bytes: int
    stored_bytes: int | None = None
    ingest_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    plain_ingest_s: list[float] = field(default_factory=list)
    plain_read_s: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def stored(self) -> float | None:
        """Stored bytes by logical bytes."""
        return None if self.stored_bytes is None else self.stored_bytes / self.logical_bytes

    @property
    def ingest(self) -> float | None:
        """Time to store, by the baseline's."""
        return _ratio(self.ingest_s, self.plain_ingest_s)

    @property
    def read(self) -> float | None:
        """Time to read everything back, by the baseline's."""
        return _ratio(self.read_s, self.plain_read_s)

    def document(self) -> dict[str, Any]:
        """The result as JSON types, ratios included."""
        return {**asdict(self), "stored": self.stored, "ingest": self.ingest, "read": self.read}


def _ratio(times: list[float], baseline: list[float]) -> float | None:
    return statistics.median(times) / statistics.median(baseline) if times and baseline else None


def load(folder: Path) -> dict[str, list[Item]]:
    """The series of a folder made by tools.series.

    Raises:
        PeerError: there is no series.json, or a file it lists is missing or has another size.
    """
    manifest = folder / "series.json"
    if not manifest.exists():
        raise PeerError(f"{manifest} is missing: make the series with `python -m tools.series {folder}`")
    series: dict[str, list[Item]] = {}
    for name, entries in json.loads(manifest.read_text(encoding="utf-8"))["series"].items():
        series[name] = []
        for entry in entries:
            source = (folder / entry["file"]).resolve()
            if not source.exists() or source.stat().st_size != entry["bytes"]:
                raise PeerError(f"{source} is missing or has changed: make the series again")
            inside = entry["file"].split("/", 1)[1]
            series[name].append(Item(source, inside, entry["sha256"], entry["bytes"]))
    return series


def warm(items: list[Item]) -> None:
    """Read the files once, so that no run pays for the disk where another has the page cache."""
    for item in items:
        with item.source.open("rb", buffering=0) as stream:
            while stream.read(1 << 22):
                pass


def measure(peer: Peer, series: str, items: list[Item], *, runs: int, work: Path) -> Result:
    """Ingest and read back `items` `runs` times, each time next to the baseline; wrong content is an error.

    The time of ingest includes writing everything back to the disk, for all stores alike.
    """
    result = Result(peer.name, series, sum(item.size_bytes for item in items))
    try:
        for _ in range(runs):
            for each in (Plain(peer.home), peer):
                stored, ingest_s, read_s = _once(each, items, work)
                if each is peer:
                    result.stored_bytes = stored
                _note(result.ingest_s if each is peer else result.plain_ingest_s, ingest_s)
                _note(result.read_s if each is peer else result.plain_read_s, read_s)
    except PeerError as error:
        result.error = str(error)
    return result


def _note(times: list[float], seconds: float | None) -> None:
    if seconds is not None:
        times.append(seconds)


def _once(peer: Peer, items: list[Item], work: Path) -> tuple[int, float, float | None]:
    folder = Path(tempfile.mkdtemp(prefix="peer-", dir=work))
    try:
        peer.create(folder)
        run(["sync", "-f", folder])
        ingest_s = peer.ingest(folder, items)
        start = time.perf_counter()
        run(["sync", "-f", folder])
        ingest_s += time.perf_counter() - start
        stored = peer.stored_bytes(folder)
        dest = folder / "dest"
        dest.mkdir()
        read_s = peer.read_back(folder, items, dest)
        if read_s is not None:
            check(items, dest)
        return stored, ingest_s, read_s
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(items: list[Item], dest: Path) -> None:
    """Raise PeerError unless every item's content stands below `dest`, as often as it was stored."""
    found: collections.Counter[str] = collections.Counter()
    for parent, _, names in os.walk(dest):
        for name in names:
            with open(f"{parent}/{name}", "rb") as stream:
                digest = hashlib.sha256()
                while piece := stream.read(1 << 20):
                    digest.update(piece)
            found[digest.hexdigest()] += 1
    missing = collections.Counter(item.sha256 for item in items) - found
    if missing:
        raise PeerError(f"read back: {sum(missing.values())} of {len(items)} files are missing or differ")
