"""Inputs of a session: recorded exactly, readable for ever, kept from retention, told in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, InvalidType, NotFound, StateError
from dreamlake.model import session_key
from dreamlake.operations import lineage


def write(root: Path, *contents: bytes, name: str = "train", best: int | None = None) -> None:
    with Session(name, "w", local_path=root) as session:
        for content in contents:
            session.files.upload(content, path="/models", filename="m.bin", metadata={"n": len(content)})
        if best is not None:
            session.files.alias(f"/models/m.bin@v{best}", "best")


def test_an_input_is_the_version_that_was_meant_then(memory_path, tmp_path):
    write(memory_path, b"one", b"two", best=1)
    with Session("eval", "w", local_path=memory_path) as session:
        used = session.use("w/train/models/m.bin@best")
        assert (used.session, used.path, used.version, used.size_bytes) == ("w/train", "/models/m.bin", 1, 3)
        write(memory_path, b"three", best=3)
        assert used.read_bytes() == b"one" and used.read_text() == "one" and used.metadata == {"n": 3}
        with used.open() as stream:
            assert stream.read() == b"one"
        assert Path(used.download(tmp_path)).read_bytes() == b"one"
        assert used.download(tmp_path / "x.bin") == str(tmp_path / "x.bin")
        (record,) = session.inputs()
        assert {k: record[k] for k in ("session", "path", "version", "checksum", "reference")} == {
            "session": "w/train",
            "path": "/models/m.bin",
            "version": 1,
            "checksum": used.checksum,
            "reference": "w/train/models/m.bin@best",
        }
        assert session.use("w/train/models/m.bin@best").version == 3
        assert [r["version"] for r in session.inputs()] == [1, 3]
    assert repr(used) == "Input(w/train/models/m.bin@v1)"
    with pytest.raises(StateError):
        used.read_bytes()


@pytest.mark.parametrize("form", ["plain", "scheme", "version", "own", "record", "old record"])
def test_ways_to_name_an_input(memory_path, form):
    write(memory_path, b"one", b"two")
    with Session("train", "w", local_path=memory_path) as other:
        newest, oldest = other.files.history("/models/m.bin")
        if form == "own":
            used = other.use("/models/m.bin@v1")
            assert (used.version, other.inputs()[0]["session"]) == (1, "w/train")
            return
    named = {
        "plain": "w/train/models/m.bin",
        "scheme": "dreamlake://w/train/models/m.bin",
        "version": "w/train/models/m.bin@v1",
        "record": newest,
        "old record": oldest,
    }[form]
    with Session("eval", "w", local_path=memory_path) as session:
        used = session.use(named)
        assert used.read_bytes() == (b"one" if form in ("version", "old record") else b"two")


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("w/none/x", NotFound),
        ("w/train/none", NotFound),
        ("w/train/models/m.bin@v9", NotFound),
        ("w/train/models/m.bin@worst", NotFound),
        ("w/train/models", NotFound),
        ("w/train", InvalidInput),
        ("train", InvalidInput),
        ("", InvalidInput),
        (7, InvalidType),
    ],
)
def test_what_is_no_input_is_refused_and_changes_nothing(memory_path, reference, error):
    write(memory_path, b"one")
    with Session("eval", "w", local_path=memory_path) as session:
        with pytest.raises(error):
            session.use(reference)
        assert session.inputs() == []
    with Session("train", "w", local_path=memory_path) as session:
        assert session.files.used_by("/models/m.bin") == {}


def test_using_again_adds_nothing(memory_path):
    write(memory_path, b"one")
    with Session("eval", "w", local_path=memory_path) as session:
        session.use("w/train/models/m.bin")
        records = len(list(memory_path.rglob("log/*/*.json")))
        session.use("w/train/models/m.bin@v1")
        assert len(list(memory_path.rglob("log/*/*.json"))) == records and len(session.inputs()) == 1


def test_retention_keeps_what_is_used(memory_path):
    write(memory_path, b"one", b"two", b"three")
    with Session("train", "w", local_path=memory_path) as session:
        session.files.retention(path="/models/**", last=1)
    with Session("eval", "w", local_path=memory_path) as session:
        session.use("w/train/models/m.bin@v1")
    lake = open_lake(memory_path)
    lake.collect(now=True, trash_time=0, force=True)
    with Session("train", "w", local_path=memory_path) as session:
        assert [r["version"] for r in session.files.history("/models/m.bin")] == [3, 1]
        assert session.files.read_bytes("/models/m.bin@v1") == b"one"
        assert session.files.used_by("/models/m.bin") == {1: ["w/eval"]}
        assert session.files.aliases("/models/m.bin") == {}, "marks are no aliases of the user's"
        session.files.move("/models/m.bin", "/other.bin")
        assert session.files.used_by("/other.bin") == {1: ["w/eval"]}


def test_a_write_protected_source_can_be_used(memory_path):
    write(memory_path, b"one")
    with Session("train", "w", local_path=memory_path, write_protected=True):
        pass
    with Session("eval", "w", local_path=memory_path) as session:
        assert session.use("w/train/models/m.bin").read_bytes() == b"one"
        assert len(session.inputs()) == 1


def test_a_write_protected_session_uses_nothing(memory_path):
    write(memory_path, b"one")
    protected = Session("eval", "w", local_path=memory_path, write_protected=True)
    with protected as session, pytest.raises(StateError, match="write-protected"):
        session.use("w/train/models/m.bin")
    with Session("train", "w", local_path=memory_path) as session:
        assert session.files.used_by("/models/m.bin") == {}


def test_two_users_do_not_disturb_each_other(memory_path):
    write(memory_path, b"one", b"two")
    for name in ("a", "b"):
        with Session(name, "w", local_path=memory_path) as session:
            session.use("w/train/models/m.bin@v1")
            session.use("w/train/models/m.bin@v2")
    with Session("train", "w", local_path=memory_path) as session:
        assert session.files.used_by("/models/m.bin") == {1: ["w/a", "w/b"], 2: ["w/a", "w/b"]}


def test_inputs_have_a_limit(memory_path, monkeypatch):
    write(memory_path, b"one", b"two")
    monkeypatch.setattr(lineage, "MAX_USES", 1)
    with Session("eval", "w", local_path=memory_path) as session:
        session.use("w/train/models/m.bin@v1")
        session.use("w/train/models/m.bin@v1")
        with pytest.raises(InvalidInput, match="has 1 inputs; the limit is 1"):
            session.use("w/train/models/m.bin@v2")


def test_a_file_that_moves_at_the_same_time_is_marked_where_it_went(memory_path, monkeypatch):
    write(memory_path, b"one")
    lake = open_lake(memory_path)
    store, eval_key = lake.store, session_key("w", "eval")
    real, moved = lineage.commit, []

    def racing(given, session, entries, *more, **options):
        if entries[0]["op"] == "alias" and not moved:
            moved.append(True)
            with Session("train", "w", local_path=memory_path) as other:
                other.files.move("/models/m.bin", "/moved.bin")
                other.files.upload(b"new", path="/models", filename="m.bin")
        return real(given, session, entries, *more, **options)

    monkeypatch.setattr(lineage, "commit", racing)
    with Session("eval", "w", local_path=memory_path):
        pass
    lineage.use(store, eval_key, "w/train/models/m.bin")
    with Session("train", "w", local_path=memory_path) as session:
        assert session.files.used_by("/moved.bin") == {1: ["w/eval"]}
        assert session.files.used_by("/models/m.bin") == {}
