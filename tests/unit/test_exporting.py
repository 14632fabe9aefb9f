"""Exporting: what comes out is what is stored, whole, checked by a stranger's sha256sum, or is not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from api_support import overwrite, stored

from dreamlake import Session, open_lake
from dreamlake.errors import Conflict, Corrupt, InvalidInput
from dreamlake.imports import import_into
from dreamlake.model import session_key
from dreamlake.operations.exporting import export

KEY = session_key("w", "s")


@pytest.fixture
def root(memory_path: Path) -> Path:
    with Session("s", "w", local_path=memory_path / "lake", tags=["t"], metadata={"seed": 1}, capture=False) as session:
        session.files.upload(
            b"weights", path="/models", filename="m.pth", tags=["best"], metadata={"loss": float("inf")}
        )
        session.files.upload(b"", filename="empty")
        session.files.upload(os.urandom(3 << 20), path="/a b/ü", filename="*odd: name?.bin")
        session.files.upload(b"own", filename="SHA256SUMS")
        session.parameters().set(lr=0.1)
        session.log("hello")
        session.track("train/loss").append(step=0, value=1.0)
    return memory_path / "lake"


def run(root: Path, dest: Path, **options):
    lake = open_lake(root)
    versions = lake.store.catalog.view(KEY).live()
    return export(lake.store, KEY, versions, str(dest), journal=lake.journal(KEY), **options)


def check_sums(folder: Path) -> None:
    if shutil.which("sha256sum"):
        done = subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    names = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert there == names | {"SHA256SUMS"}


EXPECTED = {
    "files/models/m.pth", "files/empty", "files/a b/ü/*odd: name?.bin", "files/SHA256SUMS",
    "parameters.json", "logs.jsonl", "tracks/train/loss.jsonl", "manifest.json", "SHA256SUMS",
}  # fmt: skip


def test_a_folder(root, tmp_path):
    done = run(root, tmp_path / "out")
    assert done.record() == {
        "dest": str(tmp_path / "out"), "format": "folder", "files": 4, "sizeBytes": 7 + (3 << 20) + 3,
    }  # fmt: skip
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()} == EXPECTED
    check_sums(tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["session"], manifest["tags"], manifest["metadata"]) == ("w/s", ["t"], {"seed": 1})
    (model,) = [f for f in manifest["files"] if f["path"] == "/models/m.pth"]
    assert (model["name"], model["tags"], model["sizeBytes"]) == ("files/models/m.pth", ["best"], 7)
    assert json.loads((tmp_path / "out/parameters.json").read_text())["data"] == {"lr": 0.1}


@pytest.mark.parametrize("name", ["out.tar", "out.tar.gz", "out.tgz"])
def test_a_tar(root, tmp_path, name):
    done = run(root, tmp_path / name)
    assert done.format == ("tar" if name == "out.tar" else "tar.gz")
    with tarfile.open(tmp_path / name) as tar:
        assert {m.name for m in tar} == EXPECTED and all(m.isreg() and m.mode == 0o644 for m in tar)
        tar.extractall(tmp_path / "x", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    check_sums(tmp_path / "x")
    run(root, tmp_path / f"second-{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"second-{name}").read_bytes()


def test_the_same_comes_back(root, tmp_path):
    run(root, tmp_path / "out.tar")
    import_into(tmp_path / "other", "tar", tmp_path / "out.tar", session="w/back")
    with Session("back", "w", local_path=tmp_path / "other", capture=False) as back:
        with Session("s", "w", local_path=root, capture=False) as session:
            for file in session.files.find("/[!t]*/**"):
                path = f"{file['path'].rstrip('/')}/{file['filename']}"
                assert back.files.get(f"/files{path}")["checksum"] == file["checksum"]
        assert back.files.exists("/manifest.json")


def test_nothing_is_overwritten(root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "file.tar").write_text("mine")
    (tmp_path / "link.tar").symlink_to("nowhere")
    for dest in ("full", "file.tar", "link.tar"):
        with pytest.raises(Conflict, match="exists"):
            run(root, tmp_path / dest)
    (tmp_path / "empty").mkdir()
    assert run(root, tmp_path / "empty").files == 4
    with pytest.raises(InvalidInput, match="format='zip'"):
        run(root, tmp_path / "x", format="zip")
    assert (tmp_path / "file.tar").read_text() == "mine"


@pytest.mark.parametrize("dest", ["out", "out.tar", "out.tar.gz"])
def test_damage_gives_nothing_that_looks_complete(root, tmp_path, dest):
    (blob,) = [p for p in stored(root) if p.read_bytes() == b"weights"]
    overwrite(blob, b"weighty", keep_mark=True)
    with pytest.raises(Corrupt):
        run(root, tmp_path / dest)
    assert not (tmp_path / dest / "SHA256SUMS").exists() and not (tmp_path / dest).is_file()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
