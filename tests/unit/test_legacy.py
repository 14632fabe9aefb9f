"""The older spelling, ``session.file(...)`` with a verb at its end: the same records, errors and effects."""

from __future__ import annotations

import inspect

import pytest

from dreamlake import Session
from dreamlake.errors import InvalidInput, InvalidType, NotFound
from dreamlake.legacy import FileOperation


@pytest.fixture
def session(memory_path, monkeypatch):
    (memory_path / "here").mkdir()
    monkeypatch.chdir(memory_path / "here")
    (memory_path / "here/model.pth").write_bytes(b"weights")
    with Session("s", "w", local_path=memory_path / "lake") as made:
        yield made


def test_save(session):
    record = session.file(
        file_path="model.pth", prefix="/models", description="best", tags=["a"], metadata={"epoch": 3}
    ).save()
    assert record == session.files().get("/models/model.pth")
    assert (record["path"], record["description"], record["tags"], record["metadata"]) == (
        "/models", "best", ["a"], {"epoch": 3},
    )  # fmt: skip
    assert session.file(file_path="model.pth").save()["path"] == "/"
    assert session.file(file_path="model.pth", path="models/x").save()["path"] == "/models/x"
    assert session.file(file_path="model.pth", filename="other.pth").save()["filename"] == "other.pth"
    assert session.file(file_path="model.pth", prefix="/models").save()["version"] == 2


def test_list(session):
    session.file(file_path="model.pth", prefix="/models", tags=["a", "b"]).save()
    session.file(file_path="model.pth", prefix="/models2", tags=["c"]).save()
    files = session.files()
    assert session.file().list() == files.list()
    assert session.file(prefix="/models").list() == files.list(path="/models")
    assert session.file(tags=["c", "unknown"]).list() == files.list(path="/models2")
    assert session.file(prefix="/models", tags=["b"]).list() == files.list(path="/models")
    assert session.file(prefix="/models", tags=["c"]).list() == []
    assert session.file(tags=[]).list() == files.list()
    assert session.file(prefix="/none").list() == []


def test_download(session, memory_path):
    record = session.file(file_path="model.pth", prefix="/models").save()
    assert session.file(file_id=record["id"], dest_path="copy.pth").download() == "copy.pth"
    assert (memory_path / "here/copy.pth").read_bytes() == b"weights"
    (memory_path / "here/model.pth").unlink()
    assert session.file(file_id=record["id"]).download() == "model.pth"


def test_update(session):
    record = session.file(file_path="model.pth", description="old", tags=["a"], metadata={"k": 1}).save()
    assert session.file(file_id=record["id"], tags=["b"]).update()["tags"] == ["b"]
    after = session.files().get(record["id"])
    assert (after["description"], after["metadata"]) == ("old", {"k": 1})
    after = session.file(file_id=record["id"], metadata={"k": 2}, description="new").update()
    assert (after["description"], after["tags"], after["metadata"]) == ("new", ["b"], {"k": 2})
    assert session.file(file_id=record["id"], description=None, tags=[], metadata={}).update()["description"] is None


def test_delete(session):
    record = session.file(file_path="model.pth").save()
    gone = session.file(file_id=record["id"]).delete()
    assert gone["id"] == record["id"]
    assert gone["deletedAt"].endswith("Z")
    assert session.file().list() == []
    for verb in ("delete", "update", "download"):
        with pytest.raises(NotFound, match="was deleted"):
            getattr(session.file(file_id=record["id"]), verb)()


@pytest.mark.parametrize(
    ("options", "verb", "error", "message"),
    [
        ({}, "save", InvalidInput, r"save\(\) needs session.file\(file_path=...\)"),
        ({}, "download", InvalidInput, r"download\(\) needs session.file\(file_id=...\)"),
        ({}, "update", InvalidInput, r"update\(\) needs session.file\(file_id=...\)"),
        ({}, "delete", InvalidInput, r"delete\(\) needs session.file\(file_id=...\)"),
        ({"file_path": "missing"}, "save", NotFound, "no such file: missing"),
        ({"file_path": "model.pth", "prefix": ".."}, "save", InvalidInput, "leave its folder"),
        ({"file_path": "model.pth", "tags": "x"}, "save", InvalidType, "write tags="),
        ({"file_path": "model.pth", "metadata": {1: 2}}, "save", InvalidType, "keys must be text"),
        ({"file_path": b"x"}, "save", InvalidInput, "add filename="),
        ({"file_id": "0" * 32}, "download", NotFound, "no file '0000"),
        ({"file_id": "0" * 32}, "update", NotFound, "no file"),
        ({"file_id": "0" * 32}, "delete", NotFound, "no file"),
        ({"prefix": "a\\b"}, "list", InvalidInput, "reserved"),
    ],
    ids=range(13),
)
def test_wrong_use(session, options, verb, error, message):
    with pytest.raises(error, match=message):
        getattr(session.file(**options), verb)()
    assert session.files().list() == []


def test_wrong_options(session):
    with pytest.raises(TypeError, match="colour"):
        session.file(colour="red")
    with pytest.raises(InvalidInput, match="prefix= or path=, they mean the same"):
        session.file(prefix="/a", path="/a")
    with pytest.raises(TypeError):
        session.file("model.pth")


def test_the_documented_verbs_exist():
    verbs = {name for name, _ in inspect.getmembers(FileOperation, inspect.isfunction) if not name.startswith("_")}
    assert verbs == {"save", "list", "download", "update", "delete"}


def test_closed_session(session):
    operation = session.file(file_path="model.pth")
    session.close()
    with pytest.raises(RuntimeError, match="is not open"):
        operation.save()
    with pytest.raises(RuntimeError, match="is not open"):
        session.file(file_path="model.pth")
