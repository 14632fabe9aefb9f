"""What is the same in a remote lake: uploads in the background, captured runs, inputs, imports, exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes.remote import FakeServers

from dreamlake import Session, open_lake
from dreamlake.blobs import fetching
from dreamlake.content import reading
from dreamlake.errors import UploadsFailed
from dreamlake.imports import import_into
from dreamlake.operations.exporting import export

GOLDEN = Path(__file__).resolve().parents[1] / "golden/imports"
AT = {
    "mongodb": "mongodb://h/lake",
    "s3": {"bucket": "our-lake", "endpoint": "https://s3.example.org"},
    "namespace": "ana",
}


@pytest.fixture(autouse=True)
def servers(monkeypatch, tmp_path) -> FakeServers:
    made = FakeServers()
    made.install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DREAMLAKE_CAPTURE", raising=False)
    return made


def test_uploads_in_the_background_and_runs(tmp_path):
    with Session("s", "w", remote=AT) as session:
        (tmp_path / "f").write_text("file")
        first = session.files.upload(tmp_path / "f", wait=False)
        futures = [session.files.upload(b"%d" % i, filename="n", wait=False) for i in range(5)]
        assert first.result(30)["filename"] == "f"
        session.flush()
        assert [f.result(0)["version"] for f in futures] == [1, 2, 3, 4, 5]
        assert [run["index"] for run in session.runs()] == [0] and "pytest" in session.runs()[0]["packages"]
    with pytest.raises(UploadsFailed), Session("s", "w", remote=AT) as session:
        session.files.upload(b"x", path="/n", filename="inside", wait=False)


def test_inputs_are_kept_from_retention():
    with Session("train", "w", remote=AT) as session:
        for content in (b"one", b"two", b"three"):
            session.files.upload(content, filename="m")
        session.files.retention(path="/**", last=1)
    with Session("eval", "w", remote=AT) as session:
        used = session.use("w/train/m@v1")
        assert used.read_bytes() == b"one" and session.inputs()[0]["checksum"] == used.checksum
    open_lake(AT).collect(now=True, trash_time=0, force=True)
    with Session("train", "w", remote=AT) as session:
        assert [r["version"] for r in session.files.history("/m")] == [3, 1]
        assert session.files.used_by("/m") == {1: ["w/eval"]}


@pytest.mark.parametrize("kind", ["dreamlake", "mlflow"])
def test_imports_are_the_same_as_into_a_folder(tmp_path, kind):
    source = GOLDEN / ("mlflow-3.17" if kind == "mlflow" else "dreamlake-0.4.17")
    dry = import_into(AT, kind, source, dry_run=True)
    remote = import_into(AT, kind, source)
    local = import_into(tmp_path / "lake", kind, source)
    assert {**remote.record(), "storedBytes": 0} == {**local.record(), "storedBytes": 0}
    assert {**dry.record(), "dryRun": False} == {**local.record(), "storedBytes": 0}
    again = import_into(AT, kind, source)
    assert (again.files, again.points, again.log_lines, again.parameters) == (0, 0, 0, 0)


def test_an_export_is_the_same_as_from_a_folder(tmp_path):
    made = []
    for number, at in enumerate([AT, tmp_path / "lake"]):
        import_into(at, "dreamlake", GOLDEN / "dreamlake-0.2.4")
        lake = open_lake(at)
        key = lake.store.session("vision", "run 1")
        versions = lake.store.catalog.view(key).live()
        export(lake.store, key, versions, str(tmp_path / f"out{number}"), journal=lake.journal(key))
        folder = tmp_path / f"out{number}"
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        manifest = json.loads(files.pop("manifest.json"))
        files = {name: data for name, data in files.items() if name not in ("SHA256SUMS", "parameters.json")}
        made.append((files, [{k: v for k, v in f.items() if k not in ("id", "updatedAt")} for f in manifest["files"]]))
    assert made[0] == made[1]


@pytest.mark.parametrize("way", ["open", "download"])
def test_a_reader_goes_on_when_an_optimizer_drops_the_whole_copy(tmp_path, monkeypatch, way):
    monkeypatch.setattr(fetching, "RANGE_BYTES", 1 << 20)
    monkeypatch.setattr(fetching, "AHEAD", 1)
    first, second = (np.random.default_rng(0).standard_normal((3, 1 << 20)) + d for d in (0, 1e-9))
    with Session("s", "w", remote=AT) as session:
        for weights in (first, second):
            session.files.save_numpy(weights, "m.npy", encoding="raw")
        kept = open_lake(AT)
        content = session.files.read_bytes("m.npy")

        def optimize() -> None:
            done = kept.optimize()
            assert done.dropped == 2, "both whole copies are gone"

        if way == "open":
            with session.files.open("m.npy") as stream:
                start = stream.read(3 << 20)
                optimize()
                assert start + stream.read() == content
                assert stream.seek(8 << 20) and stream.read(9) == content[8 << 20 :][:9]
            return
        stored = reading._Lasting.readinto
        calls = []

        def counted(self, buffer):
            calls.append(1)
            if len(calls) == 3:
                optimize()
            return stored(self, buffer)

        monkeypatch.setattr(reading._Lasting, "readinto", counted)
        session.files.download("m.npy", tmp_path / "m.npy")
        assert len(calls) > 3 and (tmp_path / "m.npy").read_bytes() == content
