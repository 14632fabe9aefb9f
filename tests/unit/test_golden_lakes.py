"""Lakes that earlier states of the code wrote are readable for ever (SPEC "Golden lakes")."""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
from pathlib import Path

import pytest

from dreamlake import Session, open_lake
from dreamlake.content import frame
from dreamlake.rawio import read_up_to
from tools import golden_lake

LAKES = sorted((Path(__file__).resolve().parents[1] / "golden/lakes").glob("*/lake.tar.xz"))
NEWEST = LAKES[-1]


@pytest.fixture(params=LAKES, ids=lambda file: file.parent.name)
def golden(request, tmp_path):
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")  # ours; keeps modes and time stamps
    return tmp_path / "lake", json.loads(request.param.with_name("expected.json").read_text())


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_version_reads_back(golden):
    root, expected = golden
    with Session("run 1", "golden", local_path=root, capture=False) as session:
        files = session.files
        for path, digests in expected["versions"].items():
            for number, digest in enumerate(digests, 1):
                assert sha(files.read_bytes(f"{path}@v{number}")) == digest, f"{path}@v{number}"
        found = {f"{r['path'].rstrip('/')}/{r['filename']}": r for r in files.list()}
        assert sorted(found) == sorted(expected["versions"])
        assert files.get("/models/model.npz@best")["version"] == 2
        metadata = found["/models/model.npz"]["metadata"]
        assert math.isnan(metadata.pop("loss")) and metadata == {"number": 3, "nested": {"ok": True}}
        assert found["/models/model.npz"]["tags"] == ["t", "3"]
        files.restore("/gone/deleted.txt")
        assert sha(files.read_bytes("/gone/deleted.txt")) == expected["deleted"][0]
        assert session.description == "golden" and session.tags == ["a"]
        assert session.parameters().get() == {"lr": 0.1, "model.depth": 3, "limit": math.inf}
        assert [(line["level"], line["message"]) for line in session.logs()] == [
            ("info", "started"),
            ("warn", "careful"),
        ]
        points = session.track("train/loss").read()["data"]
        assert [point["data"] for point in points] == [{"step": i, "loss": 1 / (i + 1)} for i in range(5)]


def test_it_is_whole_and_goes_on_living(golden):
    root, expected = golden
    lake = open_lake(root)
    assert not lake.verify(deep=True).damaged
    lake.materialize()
    tree = root / "golden/run 1/files"
    made = {"/" + str(file.relative_to(tree)): sha(file.read_bytes()) for file in tree.rglob("*") if file.is_file()}
    assert made == {path: digests[-1] for path, digests in expected["versions"].items()}
    with Session("run 1", "golden", local_path=root, capture=False) as session:
        assert session.files.upload(b"new", filename="new.txt")["version"] == 1
    lake.collect(now=True, trash_time=0, force=True)
    lake.optimize()
    assert not list(open_lake(root).store.blobs.condemned())
    with Session("run 1", "golden", local_path=root, capture=False) as session:
        for path, digests in expected["versions"].items():
            for number, digest in enumerate(digests, 1):
                assert sha(session.files.read_bytes(f"{path}@v{number}")) == digest, f"{path}@v{number}"


def test_it_holds_every_stored_form(golden, request):
    turned = set() if "0001" in request.node.name else {"rt", "t3"}
    blobs = open_lake(golden[0]).store.blobs
    copies = list(blobs.copies())
    kinds = set()
    for copy in copies:
        with blobs.open_copy(copy) as stream:
            head = read_up_to(stream, frame.PREFIX_SIZE + frame.MAX_HEADER)
        kinds.add((copy.key.rpartition("-")[0], frame.parse(head, copy.size).kind if frame.is_framed(head) else None))
    assert {prefix for prefix, _ in kinds} == {"", "rc", "b3"} | turned
    assert len(kinds) >= 5, kinds
    assert [copy.batch for copy in copies if copy.batch] == ["20260101T000000Z-golden"]


def test_the_code_of_today_writes_the_same_records_and_blobs(tmp_path):
    """I12. On an intended change, keep the old lakes and add one more: ``python -m tools.golden_lake OUT.tar.xz``."""
    lake = golden_lake.make(tmp_path / "lake")
    with tarfile.open(NEWEST) as archive:
        members = [member for member in archive if member.isfile()]
        there = {member.name.partition("/")[2]: archive.extractfile(member).read() for member in members}
    made = {
        str(file.relative_to(tmp_path / "lake")): file.read_bytes()
        for file in (tmp_path / "lake").rglob("*")
        if file.is_file()
    }
    assert sorted(made) == sorted(there)
    for name, data in made.items():
        if "/blobs/" in name:  # compressed bytes differ between releases of zstandard, their plain bytes do not
            continue
        if name != ".dreamlake/store.json" and not name.startswith(".dreamlake/cache"):
            assert data == there[name], name
    assert json.loads(NEWEST.with_name("expected.json").read_text()) == golden_lake.expected()
    assert not lake.verify(deep=True).damaged
