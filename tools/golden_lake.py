"""Makes a golden lake: ``python -m tools.golden_lake OUT.tar.xz`` writes a small lake with every stored form.

A lake that a release wrote must be readable for ever, so ``tests/golden/lakes`` keeps one of each store format, as an
archive (git keeps neither time stamps nor modes, and the tamper mark is one). Clock, ids, contents are fixed: the same
code makes the same records and the same blobs. What must come out is ``expected()``, computed from what went in.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import sys
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from dreamlake.content.frame import raw_header
from dreamlake.files import Files
from dreamlake.lake import Lake, open_lake
from dreamlake.logs import Logs
from dreamlake.model import SessionKey
from dreamlake.operations.commit import commit
from dreamlake.operations.turning import TURN_DEPTH, turn
from dreamlake.parameters import Parameters
from dreamlake.ports import Owner, Ports
from dreamlake.tracks import Tracks

KEY = SessionKey("golden", "run 1")
ROWS = 40_000  # of 8 float32: a little more than the smallest file that is coded


def fixed_ports() -> Ports:
    """A clock that moves by a second a look, counted ids, and a process that is nobody."""
    seconds, ids = itertools.count(), itertools.count(1)
    return Ports(
        now=lambda: datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=next(seconds)),
        new_id=lambda: f"{next(ids):032x}",
        owner=lambda: Owner("golden", "boot", 1, "1"),
        is_dead=lambda owner: False,
    )


def weights(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of one checkpoint: sparse and of few bits, so that the archive is small; a few change with each step."""
    random = np.random.default_rng(7)
    layer = (random.integers(-8, 8, (ROWS, 8)) * (random.random((ROWS, 8)) < 0.05) / 64).astype(np.float32)
    for number in range(step):
        chosen = np.random.default_rng(number).integers(0, layer.size, 2_000)
        layer.reshape(-1)[chosen] += np.float32(2**-20)
    return {"layer": layer, "bias": np.arange(64, dtype=np.float16), "steps": np.array([step], dtype=np.int64)}


def dense(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """A tensor with values everywhere, all of which move by a few units in the last places with each step."""
    random = np.random.default_rng(11)
    layer = (1 + random.integers(0, 8, ROWS * 8) / 8).astype(np.float32) * np.float32(2.0) ** random.integers(
        -2, 1, ROWS * 8
    ).astype(np.float32)
    bits = layer.view(np.int32)
    for number in range(step):
        bits += np.random.default_rng(100 + number).integers(-1, 2, bits.size).astype(np.int32)
    return {"dense": layer}


def drifting(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """A sparse tensor, a few values of which move a little with each step."""
    random = np.random.default_rng(13)
    layer = (random.integers(-8, 8, ROWS * 8) * (random.random(ROWS * 8) < 0.05) / 64).astype(np.float32)
    for number in range(step):
        chosen = np.random.default_rng(200 + number).integers(0, layer.size, 2_000)
        layer[chosen] += np.float32(2**-20)
    return {"drifting": layer}


def npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """An uncompressed archive with fixed time stamps."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def contents() -> dict[str, list[bytes]]:
    """Path -> its versions, the oldest first, as they are uploaded."""
    other = {"copy": weights(2)["layer"], "extra": np.zeros(16, dtype=np.float64)}
    return {
        "/series/turned.npz": [npz(drifting(step)) for step in range(TURN_DEPTH + 1)],
        "/models/model.npz": [npz(weights(step)) for step in range(3)],
        "/models/dense.npz": [npz(dense(step)) for step in range(3)],
        "/models/shared.npz": [npz(other)],
        "/notes/readme.txt": [b"first\n", b"second\n"],
        "/notes/framed.bin": [raw_header() + b" looks like a frame"],
        "/notes/empty": [b""],
        "/raw/model.npz": [npz(weights(5))],
        "/gone/deleted.txt": [b"deleted, but kept"],
    }


def fill(lake: Lake) -> None:
    """Everything that a lake may hold."""
    store = lake.store
    commit(store, KEY, [{"op": "session", "at": "2026-01-01T00:00:00Z", "description": "golden", "tags": ["a"]}])
    files = Files(store, KEY, lambda write: None)
    for path, versions in contents().items():
        folder, _, name = path.rpartition("/")
        for number, data in enumerate(versions, 1):
            about = {"number": number, "loss": float("nan"), "nested": {"ok": True}}
            encoding = "raw" if folder == "/raw" else "auto"
            files.upload(data, path=folder, filename=name, tags=["t", str(number)], metadata=about, encoding=encoding)
        if folder == "/series":  # the others come later, and are not turned round
            assert turn(store).versions == len(versions)
    files.alias("/models/model.npz@v2", "best")
    files.copy("/notes/readme.txt", "/notes/copy.txt")
    files.move("/notes/empty", "/notes/nothing")
    files.delete("/gone/deleted.txt")
    journal = lake.journal(KEY)
    Parameters(journal, lambda write: None, store.ports).set(lr=0.1, model={"depth": 3}, limit=float("inf"))
    logs = Logs(journal, lambda write: None, store.ports)
    logs.log("started", gpus=1)
    logs.log("careful", "warn")
    tracks = Tracks(journal, lambda write: None, store.ports)
    tracks.track("train/loss").append_batch([{"step": i, "loss": 1 / (i + 1)} for i in range(5)])
    tracks.close()
    journal.close()
    lake.home.show(lake.info(KEY))
    condemned = hashlib.sha256(contents()["/notes/readme.txt"][0]).hexdigest()
    assert store.blobs.condemn(condemned, "20260101T000000Z-golden") is not None


def expected() -> dict[str, Any]:
    """What a reader must find, from what went in."""
    found = {path: [hashlib.sha256(data).hexdigest() for data in data] for path, data in contents().items()}
    found["/notes/copy.txt"] = found["/notes/readme.txt"][-1:]
    found["/notes/nothing"] = found.pop("/notes/empty")
    deleted = found.pop("/gone/deleted.txt")
    return {"versions": dict(sorted(found.items())), "deleted": deleted}


def make(root: Path) -> Lake:
    """A new golden lake in an empty folder."""
    lake = open_lake(root, create=True, ports=fixed_ports(), encoding="auto")
    fill(lake)
    return lake


def main(out: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "lake"
        make(root)
        with tarfile.open(out, "w:xz") as archive:
            archive.add(root, "lake")
    Path(out).with_name("expected.json").write_text(json.dumps(expected(), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
