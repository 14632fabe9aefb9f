"""``Session``: life, resuming, protection, names, ``session.json``, several at once. Sentence by sentence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from api_support import PACKAGE_ROOT, FailingFs, FoldingFs, scratch, tree

import dreamlake
from dreamlake import InvalidInput, InvalidType, NotFound, Session, StateError, dreamlake_session, open_lake
from dreamlake.bulk import paused_gc
from dreamlake.ports import Ports


@pytest.fixture
def tmp_path(memory_path):
    return memory_path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


def session(root, name="s", workspace="w", **options):
    return Session(name, workspace, local_path=root, **options)


def records(root: Path) -> int:
    """How many records all sessions of a lake have."""
    return sum(1 for path in (root / ".dreamlake/sessions").rglob("log/*/*.json"))


# ---- making one --------------------------------------------------------------------------------------------------


def test_name_and_workspace_by_position_or_keyword(root):
    for made in (
        Session("s", "w", local_path=root),
        Session("s", workspace="w", local_path=root),
        Session(workspace="w", name="s", local_path=root),
    ):
        assert (made.name, made.workspace, made.id, made.local_path) == ("s", "w", "w/s", str(root))
    assert not root.exists()  # nothing is created before open


@pytest.mark.parametrize(
    "call",
    [
        lambda: Session(),
        lambda: Session("s"),
        lambda: Session("s", "w", "description"),
        lambda: Session("s", "w", colour="red"),
        lambda: Session("s", "w", desciption="typo"),
        lambda: dreamlake_session("s", "w", colour="red"),
        lambda: dreamlake_session("s"),
    ],
)
def test_wrong_arguments_are_type_errors(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        call()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"description": 5}, InvalidType, "description must be text"),
        ({"description": "x" * 70_000}, InvalidInput, "description has 70,000 bytes"),
        ({"tags": "best"}, InvalidType, r"write tags=\['best'\]"),
        ({"tags": [1]}, InvalidType, "tag 1 must be text"),
        ({"folder": "../up"}, InvalidInput, "leave its folder"),
        ({"folder": "a\\b"}, InvalidInput, "reserved character"),
        ({"folder": 5}, InvalidType, "path must be text"),
        ({"metadata": 5}, InvalidType, "metadata must be a mapping"),
        ({"metadata": {"a": object()}}, InvalidType, r"metadata\['a'\] is a builtins.object"),
        ({"write_protected": 1}, InvalidType, "write_protected must be True or False, not 1"),
        ({"write_protected": None}, InvalidType, "write_protected must be True or False"),
    ],
)
def test_wrong_values_create_nothing(options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        Session("s", "w", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "bad", ["", " ", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\nb", "\ud800", "x" * 256, ".dreamlake"]
)
def test_bad_names_create_nothing(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ((bad, "w"), ("s", bad)):
        with pytest.raises(ValueError, match=r"session name|workspace"):
            Session(*arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["run 1", "日本語", "é", "e\u0301", "a" * 255, "-x", "~", "*?", "con", ".hidden", "👩‍🔬"]
)
def test_good_names_work_whatever_they_are(name, root):
    with session(root, name, name) as made:
        made.files().upload(b"x", filename="x")
        made.parameters().set(a=1)
        made.log("hello")
        made.track("t").append(v=1)
    assert json.loads((root / name / name / "session.json").read_text("utf-8"))["name"] == name
    with session(root, name, name) as made:
        assert made.files().read_bytes("x") == b"x"
        assert made.parameters().get() == {"a": 1}
    assert [info.key for info in open_lake(root).sessions()] == [(name, name, "")]


# ---- life --------------------------------------------------------------------------------------------------------


def test_with_block(root):
    with session(root) as made:
        assert isinstance(made, Session)
        assert made.is_open
        made.files().upload(b"x", filename="x")
    assert not made.is_open
    assert repr(made) == "Session('s', 'w', closed)"


def test_open_and_close_may_be_repeated(root):
    made = session(root)
    made.close()  # never opened
    assert made.open() is made
    assert made.open() is made
    made.files().upload(b"x", filename="x")
    made.close()
    made.close()
    assert made.open().files().read_bytes("x") == b"x"
    with made as again:
        assert again is made
    assert not made.is_open


ACCESSORS = [
    lambda s: s.files,
    lambda s: s.files(),
    lambda s: s.files.list(),
    lambda s: s.parameters(),
    lambda s: s.params(a=1),
    lambda s: s.log("x"),
    lambda s: s.log(metadata={}),
    lambda s: s.logs(),
    lambda s: s.track("t"),
    lambda s: s.tracks(),
    lambda s: s.file(file_path="x"),
    lambda s: s.info,
    lambda s: s.description,
    lambda s: s.tags,
    lambda s: s.folder,
    lambda s: s.metadata,
    lambda s: s.write_protected,
    lambda s: s.flush(),
    lambda s: s.inputs(),
    lambda s: s.runs(),
    lambda s: s.use(s.files.upload(b"x", filename="x")),
]


@pytest.mark.parametrize("access", ACCESSORS, ids=range(len(ACCESSORS)))
def test_accessors_need_an_open_session(root, access):
    made = session(root)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"session w/s is not open; use it in a `with` block, or call open\(\)"):
            access(made)
        with made:
            access(made)


def test_every_accessor_is_tested():
    names = {n for n, value in vars(Session).items() if not n.startswith("_")}
    free = {"open", "close", "name", "workspace", "namespace", "id", "local_path", "is_open"}
    tested = {"files", "parameters", "params", "log", "logs", "track", "tracks", "file", "info", "description", "tags"}
    tested |= {"folder", "metadata", "write_protected", "flush", "use", "inputs", "runs"}
    assert names == free | tested


def test_parts_kept_from_before_stop_with_the_session(root):
    made = session(root).open()
    files, parameters, track = made.files(), made.parameters(), made.track("t")
    made.close()
    for use in (
        lambda: files.list(),
        lambda: files.upload(b"x", filename="x"),
        lambda: files.save_text("x", "x"),
        lambda: files.find(),
        lambda: files.exists("x"),
        lambda: files.open("x"),
        lambda: files.download("x"),
        lambda: files.aliases("x"),
        lambda: parameters.get(),
        lambda: parameters.set(a=1),
        lambda: track.append(v=1),
        lambda: track.read(),
    ):
        with pytest.raises(RuntimeError, match="is not open"):
            use()


def test_documented_forms(root):
    with session(root) as made:
        assert made.files is made.files() is made.files()()
        made.files.upload(b"x", filename="x")
        assert made.parameters().set(a=1).get() == {"a": 1}
        assert made.params(b=2).get() == {"a": 1, "b": 2}
        assert made.log("hello")["sequenceNumber"] == 0
        assert made.log(metadata={"k": 1}).error("bad")["level"] == "error"
        assert int(made.track("train/loss").append(value=0.5)["index"]) == 0
        assert [t["name"] for t in made.tracks().list_all()] == ["train/loss"]


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom("x"), ValueError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_exception_in_the_body_propagates_unchanged(root, error):
    with pytest.raises(type(error)) as caught, session(root) as made:
        made.files().upload(b"x", filename="x")
        made.parameters().set(a=1)
        made.log("before")
        made.track("t").append(v=1)
        raise error
    assert caught.value is error
    assert not made.is_open
    with session(root) as again:
        assert again.files().read_bytes("x") == b"x"
        assert again.parameters().get() == {"a": 1}
        assert [entry["message"] for entry in again.logs()] == ["before"]
        assert again.track("t").read()["total"] == 1


def test_failure_to_close_does_not_hide_the_bodys_exception(root, monkeypatch):
    made = session(root).open()
    monkeypatch.setattr(made._journal, "close", lambda: 1 / 0)
    with pytest.raises(Boom), made:
        raise Boom
    assert not made.is_open
    made.open()
    monkeypatch.setattr(made._journal, "close", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.close()
    assert not made.is_open


def test_killed_process_loses_nothing(root):
    code = """
import os, sys
from dreamlake import Session
session = Session("s", "w", local_path=sys.argv[1]).open()
session.files().upload(b"x", filename="x")
session.parameters().set(a=1)
session.log("hello")
session.track("t").append(v=1)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(root)], env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)})
    assert done.returncode == -9
    with session(root) as made:
        assert made.files().read_bytes("x") == b"x"
        assert made.parameters().get() == {"a": 1}
        assert len(made.logs()) == 1
        assert made.track("t").read()["total"] == 1


# ---- resuming ----------------------------------------------------------------------------------------------------

ABOUT = {"description": "baseline", "tags": ["a", "b"], "folder": "/exp", "metadata": {"seed": 1, "deep": {"x": [1]}}}


def test_resume_accumulates_and_keeps(root):
    with session(root, **ABOUT) as made:
        created = made.info["created_at"]
        made.files().upload(b"1", filename="1")
        made.log("one")
        made.track("t").append(v=1)
        made.parameters().set(a=1)
    with session(root) as made:
        info = made.info
        assert {k: info[k] for k in ABOUT} == ABOUT
        assert info["created_at"] == created
        made.files().upload(b"2", filename="2")
        made.log("two")
        made.track("t").append(v=2)
        made.parameters().set(b=2)
    with session(root, description="new", tags=[]) as made:
        assert (made.description, made.tags, made.folder, made.metadata) == ("new", [], "/exp", ABOUT["metadata"])
        assert made.info["created_at"] == created
        assert made.info["updated_at"] > created
        assert [r["filename"] for r in made.files().list()] == ["1", "2"]
        assert [entry["sequenceNumber"] for entry in made.logs()] == [0, 1]
        assert [p["data"]["v"] for p in made.track("t").read()["data"]] == [1, 2]
        assert made.parameters().get() == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "same",
    [
        {},
        ABOUT,
        {"tags": ("a", "b")},
        {"folder": "exp/"},
        {"metadata": {**ABOUT["metadata"]}},
        {"write_protected": False},
    ],
)
def test_resuming_without_news_costs_no_record(root, same):
    session(root, **ABOUT).open().close()
    before, view = records(root), (root / "w/s/session.json").stat()
    session(root, **same).open().close()
    assert records(root) == before
    assert (root / "w/s/session.json").stat().st_mtime_ns == view.st_mtime_ns


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, {"a": {}}])
def test_odd_metadata_is_the_same_again(root, value):
    session(root, metadata={"v": value}).open().close()
    before = records(root)
    session(root, metadata={"v": value}).open().close()
    assert records(root) == before
    session(root, metadata={"v": 1}).open().close()
    assert records(root) == before + 1


def test_empty_values_given_at_first_cost_no_second_record(root):
    session(root).open().close()
    session(root, tags=[], metadata={}).open().close()
    assert records(root) == 1


def test_two_objects_see_each_other(root):
    with session(root) as one, session(root) as two:
        one.files().upload(b"x", filename="x")
        assert two.files().read_bytes("x") == b"x"
        two.parameters().set(a=1)
        assert one.parameters().get() == {"a": 1}
        two.files().delete("x")
        assert one.files().list() == []
        with session(root, description="third"):
            assert one.description == two.description == "third"


def test_what_is_handed_out_is_the_callers_own(root):
    with session(root, **ABOUT) as made:
        made.info["metadata"]["deep"]["x"].append(2)
        made.metadata["deep"]["x"].append(2)
        made.tags.append("mine")
        made.info["tags"].append("mine")
        assert made.metadata == ABOUT["metadata"]
        assert made.info["tags"] == made.tags == ["a", "b"]


# ---- write protection --------------------------------------------------------------------------------------------

WRITES = [
    lambda s: s.files().upload(b"y", filename="y"),
    lambda s: s.files().save_json({}, "y.json"),
    lambda s: s.files().update("x", tags=["t"]),
    lambda s: s.files().move("x", "/z"),
    lambda s: s.files().copy("x", "/z"),
    lambda s: s.files().delete("x"),
    lambda s: s.files().restore("gone"),
    lambda s: s.files().alias("x", "best"),
    lambda s: s.parameters().set(a=2),
    lambda s: s.params(a=2),
    lambda s: s.log("x"),
    lambda s: s.log(metadata={"k": 1}).info("x"),
    lambda s: s.track("t").append(v=1),
    lambda s: s.track("t").append_batch([{"v": 1}]),
    lambda s: s.file(file_path=__file__).save(),
]


def fill(made):
    made.files().upload(b"x", filename="x")
    made.files().upload(b"gone", filename="gone")
    made.files().delete("gone")
    made.parameters().set(a=1)
    made.log("hello")
    made.track("t").append(v=0)


def test_protected_session_refuses_every_write_and_stays_readable(root):
    with session(root) as made:
        fill(made)
    with session(root, write_protected=True) as made:
        assert made.write_protected
    before = tree(root)
    with session(root) as made:  # protected on disk, not in the argument
        for write in WRITES:
            with pytest.raises(RuntimeError, match="session w/s is write-protected"):
                write(made)
        assert made.files().read_bytes("x") == b"x"
        assert [r["filename"] for r in made.files().list()] == ["x"]
        assert made.files().history("x")[0]["version"] == 1
        assert made.parameters().get() == {"a": 1}
        assert len(made.logs()) == made.track("t").read()["total"] == 1
    assert tree(root) == before
    assert scratch(root) == []
    assert json.loads((root / "w/s/session.json").read_text())["write_protected"] is True


def test_protection_applies_at_once_to_who_has_it_open(root):
    with session(root) as made:
        fill(made)
        session(root, write_protected=True).open().close()
        for write in WRITES:
            with pytest.raises(RuntimeError, match="write-protected"):
                write(made)


def test_protection_cannot_be_taken_back(root):
    session(root, **ABOUT, write_protected=True).open().close()
    path = root / "w/s/session.json"
    path.write_text(path.read_text().replace('"write_protected": true', '"write_protected": false'))
    with session(root, write_protected=False) as made, pytest.raises(StateError):
        made.log("x")
    assert '"write_protected": true' in path.read_text()
    path.unlink()
    with session(root) as made, pytest.raises(StateError):
        made.log("x")


def test_protected_session_can_be_resumed_as_it_is_but_not_changed(root):
    session(root, **ABOUT, write_protected=True).open().close()
    for same in (ABOUT, {"tags": ["a", "b"]}, {"write_protected": True}):
        session(root, **same).open().close()
    for change in ({"description": "new"}, {"tags": []}, {"metadata": {}}, {"folder": "/"}):
        with pytest.raises(RuntimeError, match=f"w/s is write-protected; its {next(iter(change))} cannot be changed"):
            session(root, **change).open()
    with session(root) as made:
        assert {k: made.info[k] for k in ABOUT} == ABOUT


def test_files_can_be_copied_out_of_a_protected_session_but_not_in(root):
    with session(root) as made:
        fill(made)
    session(root, write_protected=True).open().close()
    with session(root, "other") as other, session(root) as made:
        assert made.files().copy("x", "/taken", session="w/other")["sessionId"] == "w/other"
        assert other.files().read_bytes("/taken") == b"x"
        with pytest.raises(RuntimeError, match="session w/s is write-protected"):
            other.files().copy("/taken", "/back", session="w/s")
        assert len(made.files().list()) == 1


# ---- the decorator -----------------------------------------------------------------------------------------------


def test_decorator(root):
    @dreamlake_session(name="s", workspace="w", local_path=root, tags=["t"])
    def train(epochs, *, session, lr=0.1):
        """Trains."""
        session.parameters().set(lr=lr)
        return session, epochs, session.is_open

    assert train.__name__ == "train"
    assert train.__doc__ == "Trains."
    first, epochs, was_open = train(3, lr=0.5)
    assert (epochs, was_open, first.is_open) == (3, True, False)
    second, *_ = train(epochs=4)
    assert second is not first
    with session(root) as made:
        assert made.parameters().get() == {"lr": 0.1}
        assert made.tags == ["t"]


def test_decorator_lets_exceptions_through(root):
    @dreamlake_session("s", "w", local_path=root)
    def train(session):
        session.log("before")
        raise Boom

    with pytest.raises(Boom):
        train()
    with session(root) as made:
        assert len(made.logs()) == 1


def test_decorated_coroutine(root):
    @dreamlake_session("s", "w", local_path=root)
    async def train(session):
        await asyncio.sleep(0)
        session.log("later")
        return session

    assert inspect.iscoroutinefunction(train)
    assert not asyncio.run(train()).is_open
    with session(root) as made:
        assert len(made.logs()) == 1


def test_decorated_generators(root):
    @dreamlake_session("s", "w", local_path=root)
    def steps(session):
        for n in range(3):
            session.log(str(n))
            got = yield n
            assert got is None or got == "sent"
        return session

    assert list(steps()) == [0, 1, 2]
    running = steps()
    assert next(running) == 0
    assert running.send("sent") == 1
    running.close()

    @dreamlake_session("s", "w", local_path=root)
    async def later(session):
        for n in range(2):
            await asyncio.sleep(0)
            session.log(str(n))
            yield n

    async def collect():
        return [n async for n in later()]

    assert asyncio.run(collect()) == [0, 1]
    with session(root) as made:
        assert len(made.logs()) == 3 + 2 + 2


def test_decorated_method(root):
    class Trainer:
        @dreamlake_session("s", "w", local_path=root)
        def run(self, session):
            return self, session.id

    trainer = Trainer()
    assert trainer.run() == (trainer, "w/s")


PLACES = [
    "sp ace",
    "ü",
    "a?b#c%41&x=1",
    "x;y'\"z",
    "line\nbreak",
    "~",
    "-dash",
    "x" * 200,
    os.fsdecode(b"\xff\xfe"),
    "deep/er",
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_a_lake_may_be_anywhere(tmp_path, place):
    if sys.platform == "darwin" and "\udcff" in place:
        pytest.skip("names are text there")
    (tmp_path / "many").mkdir()
    for number in range(600):  # enough for a checkpoint
        (tmp_path / f"many/{number}").write_bytes(b"%d" % (number % 3))
    root = os.path.join(tmp_path, place)
    with Session("s", "w", local_path=root) as made:
        fill(made)
        made.files().upload(tmp_path / "many", path="/many")
        made.files().delete("/many/1")
    with Session("s", "w", local_path=root) as made:
        assert made.files().read_bytes("x") == b"x"
        assert len(made.files().list()) == 600
        assert made._need_open().store.catalog.view(made._key).base is not None  # the checkpoint is found and used
        made.files().download("x", os.path.join(root, "out"))
    assert open_lake(root).materialize("w/s").placed == 600


# ---- session.json ------------------------------------------------------------------------------------------------


def test_session_json(root):
    with session(root, **ABOUT) as made:
        info = made.info
    text = (root / "w/s/session.json").read_text("utf-8")
    document = json.loads(text)
    assert document == info
    assert list(document) == [
        "name", "workspace", "description", "tags", "folder", "metadata", "created_at", "updated_at", "write_protected",
    ]  # fmt: skip
    assert {k: document[k] for k in ABOUT} == ABOUT
    assert text.startswith('{\n  "name": "s",\n')  # indented, for people
    assert text.endswith("}\n")
    for key in ("created_at", "updated_at"):
        assert document[key].endswith("Z")
    session(root, "plain").open().close()
    plain = json.loads((root / "w/plain/session.json").read_text("utf-8"))
    assert [plain[k] for k in ABOUT] == [None, [], None, {}]


def test_session_json_is_strict_json(root):
    session(root, metadata={"best": float("inf"), "ü": "日本"}).open().close()
    text = (root / "w/s/session.json").read_text("utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["metadata"]["best"] == {"$float": "inf"}
    assert "日本" in text


DAMAGES = [None, b"", b"{", b"[]", b"{}", b"\xff", b'{"name": 5, "workspace": null}', b"[" * 100_000]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_session_json_is_only_a_view(root, damage):
    with session(root, **ABOUT) as made:
        made.files().upload(b"x", filename="x")
    path = root / "w/s/session.json"
    good = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with session(root) as made:
        assert path.read_bytes() == good  # at once
        assert {k: made.info[k] for k in ABOUT} == ABOUT
        assert made.files().read_bytes("x") == b"x"
    assert sorted(os.listdir(root / "w/s")) == ["runs.jsonl", "session.json"]


def test_removed_session_folder_costs_what_was_in_it_only(root):
    import shutil

    with session(root, **ABOUT) as made:
        fill(made)
        shutil.rmtree(root / "w")
        assert made.files().read_bytes("x") == b"x"
        made.files().upload(b"y", filename="y")
        made.log("new")
        made.track("t").append(v=1)
        made.parameters().set(b=2)
    assert (root / "w/s/session.json").is_file()
    shutil.rmtree(root / "w")
    with session(root) as made:
        assert made.description == "baseline"
        assert sorted(r["filename"] for r in made.files().list()) == ["x", "y"]
        assert made.parameters().get() == {}
        made.parameters().set(c=3)
    assert json.loads((root / "w/s/session.json").read_text())["description"] == "baseline"


@pytest.mark.parametrize("what", ["workspace file", "session file", "session link", "json folder", "json link"])
def test_something_in_the_way(root, what):
    session(root, "other").open().close()
    before = records(root)
    if what == "workspace file":
        (root / "new").write_bytes(b"mine")
    else:
        (root / "new").mkdir()
    place = root / "new/s"
    if what == "session file":
        place.write_bytes(b"mine")
    elif what == "session link":
        place.symlink_to(root / "nowhere")
    elif what.startswith("json"):
        place.mkdir()
        (place / "session.json").mkdir() if "folder" in what else (place / "session.json").symlink_to(root / "nowhere")
    seen = tree(root)
    why = " is a symbolic link" if "link" in what else " is in the way: a session needs this name; move it"
    with pytest.raises(InvalidInput, match=rf"/new.*{why}"):
        session(root, "s", "new").open()
    if what != "json folder":
        assert records(root) == before
        assert tree(root) == seen


def test_location_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for place in ("file", "file/inside"):
        with pytest.raises(InvalidInput, match=r"file.* is not a folder"):
            session(tmp_path / place).open()
    assert tree(tmp_path) == {"file": b"mine"}


# ---- names that a file system takes for one ----------------------------------------------------------------------

PAIRS = [
    (("Run", "w"), ("run", "w")),
    (("é", "w"), (unicodedata.normalize("NFD", "é"), "w")),
    (("s", "Work"), ("s", "WORK")),
    (("straße", "w"), ("STRASSE", "w")),
    (("x" * 255, "w"), ("X" * 255, "w")),
]


@pytest.fixture(params=[False, True], ids=["exact", "folding"])
def folding(request, monkeypatch):
    """Both kinds of file system: one that takes the names for different ones, and one that does not."""
    if request.param:
        monkeypatch.setattr("dreamlake.lake.Ports", lambda: Ports(fs=FoldingFs()))
    return request.param


def put_all(made, text):
    made.files().upload(text.encode(), filename="x")
    made.parameters().set(mine=text)
    made.log(text)
    made.track("t").append(v=text)


def all_of(made):
    return (
        made.files().read_text("x"),
        made.parameters().get(),
        [entry["message"] for entry in made.logs()],
        [point["data"]["v"] for point in made.track("t").read()["data"]],
        (made.info["name"], made.info["workspace"]),
    )


@pytest.mark.parametrize("pair", PAIRS, ids=["case", "form", "workspace", "sharp s", "long"])
def test_names_that_differ_in_case_or_form_do_not_damage_each_other(root, folding, pair):
    (first, second), wanted = pair, {}
    for key in pair:
        with session(root, *key) as made:
            put_all(made, "".join(key))
        wanted[key] = ("".join(key), {"mine": "".join(key)}, ["".join(key)], ["".join(key)], key)
    for key in (first, second, first):
        with session(root, *key) as made:
            assert all_of(made) == wanted[key]
    both = [session(root, *key).open() for key in pair]
    assert [all_of(made) for made in both] == [wanted[first], wanted[second]]
    for made in both:
        made.close()
    assert (root / first[1] / first[0] / "session.json").is_file()  # the first has the documented place
    if not folding:
        assert (root / second[1] / second[0] / "session.json").is_file()


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_names_that_fold_without_session_json(root, folding, damage):
    for name in ("Run", "run"):
        with session(root, name) as made:
            put_all(made, name)
    for path in list((root / "w").glob("*/session.json")):
        path.unlink() if damage == "removed" else path.write_bytes(b"{")
    for name in ("run", "Run", "run"):  # the younger one comes first
        with session(root, name) as made:
            assert all_of(made)[:4] == (name, {"mine": name}, [name], [name])


def test_name_that_looks_like_a_way_out(root, folding):
    """What a folded name is moved to may be the name of another session."""
    with session(root, "Run") as made:
        put_all(made, "Run")
    with session(root, "run") as made:
        put_all(made, "run")
        taken = f"run~{made._key.sid[:8]}"
        assert folding == (root / "w" / taken).is_dir()
    with session(root, taken) as made:
        assert made.parameters().get() == {}
        put_all(made, "third")
    for name, text in (("Run", "Run"), ("run", "run"), (taken, "third")):
        with session(root, name) as made:
            assert all_of(made)[:2] == (text, {"mine": text})


class Meeting(FoldingFs):
    """All threads meet when each is about to place its ``session.json``; one goes on, the others after it is open."""

    def __init__(self, count):
        super().__init__()
        self._barrier, self._met, self.opened = threading.Barrier(count), threading.local(), threading.Event()

    def fsync(self, path):
        if path.endswith(".session") and not hasattr(self._met, "once"):
            self._met.once = self._barrier.wait(30)
            assert self._met.once == 0 or self.opened.wait(30)
        self.__getattr__("fsync")(path)


def test_opened_at_the_same_time_on_a_folding_disk(root, monkeypatch):
    session(root, "first").open().close()
    names = ["Run", "rUn", "ruN", "RUN"]
    fs = Meeting(len(names))
    times = iter(datetime(2026, 1, 31, 12, tzinfo=timezone.utc) - timedelta(seconds=n) for n in range(1000))
    # clocks that make each later one the oldest in its own eyes
    monkeypatch.setattr("dreamlake.lake.Ports", lambda: Ports(fs=fs, now=lambda: next(times)))

    def work(name):
        with session(root, name) as made:
            fs.opened.set()
            put_all(made, name)

    run_threads(work, names)
    for name in names:
        with session(root, name) as made:
            assert all_of(made)[:4] == (name, {"mine": name}, [name], [name])


def test_workspace_cannot_be_the_store(root):
    session(root).open().close()
    for name in (".DREAMLAKE", ".DreamLake", ".dreamla\u212ae", ".dream\u200dlake"):
        with pytest.raises(ValueError, match="reserved for the store"):
            session(root, "blobs", name)


# ---- several at once ---------------------------------------------------------------------------------------------


def run_threads(work, items):
    errors = []

    def guarded(item):
        try:
            work(item)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_many_threads_use_one_session_object(root):
    with session(root) as made:

        def work(k):
            for i in range(15):
                made.files().upload(b"%d-%d" % (k, i), filename=f"{i}.txt", path=f"/t{k}", tags=[str(k)])
                made.files().list(path=f"/t{k}")
                if i % 3 == 0:
                    made.files().delete(f"/t{k}/{i}.txt")
                elif i % 5 == 1:
                    made.files().alias(f"/t{k}/{i}.txt", "best")
                    made.files().move(f"/t{k}/{i}.txt", f"/moved/{k}-{i}.txt")
                made.log(f"{k} {i}")
                made.track("t").append(k=k, i=i)
                made.parameters().set({f"p{k}.n{i}": i})

        run_threads(work, range(8))
        files = made.files()
        assert len(files.list()) == 8 * 10
        for k in range(8):
            mine = files.list(tags=[str(k)])
            assert len(mine) == 10
            assert all(files.read_bytes(r) == b"%d-%d" % (k, int(r["filename"].split("-")[-1][:-4])) for r in mine)
        assert sorted(entry["sequenceNumber"] for entry in made.logs()) == list(range(120))
        assert made.track("t").read()["total"] == 120
        assert len(made.parameters().get()) == 120
    assert scratch(root) == []


def test_threads_that_want_one_path(root):
    with session(root) as made:
        run_threads(lambda k: made.files().upload(b"%d" % k, filename="x"), range(12))
        history = made.files().history("x")
        assert [r["version"] for r in history] == list(range(12, 0, -1))
        assert sorted(made.files().read_bytes(f"x@v{n}") for n in range(1, 13)) == sorted(b"%d" % k for k in range(12))

        outcomes = []

        def delete(_):
            try:
                outcomes.append(made.files().delete("x")["id"])
            except NotFound:
                outcomes.append(None)

        run_threads(delete, range(6))
        assert len([o for o in outcomes if o]) == 1


def test_open_and_close_from_many_threads(root):
    made = session(root)

    def work(k):
        for _ in range(10):
            with contextlib.suppress(StateError):  # another thread closed it
                made.open().files().list()
            made.close()

    run_threads(work, range(6))
    assert not made.is_open


def child(root, number, shared):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shared.files().upload(b"c%d" % number, filename=f"{number}", path="/child")
        assert shared.files().read_bytes(f"/child/{number}") == b"c%d" % number
        assert len(shared.files().list(path="/child")) >= 1
        shared.log("child")
        shared.track("t").append(v=number)
        shared.parameters().set({f"c{number}": number})
        shared.close()
        with Session("own", "w", local_path=root) as own:
            own.log("own")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_in_the_middle(root):
    """Loaders of training data fork while other threads log and upload."""
    made = session(root).open()
    stop = threading.Event()

    def busy():
        number = 0
        while not stop.is_set():
            made.files().upload(os.urandom(8), filename=str(number % 20), path="/busy")
            made.files().list()
            made.log("parent")
            made.track("t").append(v=-1)
            number += 1

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    codes = []
    try:
        for number in range(12):
            process = context.Process(target=child, args=(root, number, made))
            process.start()
            process.join(60)
            if process.is_alive():
                process.kill()
                process.join()
            codes.append(process.exitcode)
            time.sleep(0.005)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert codes == [0] * 12
    assert len(made.files().list(path="/child")) == 12
    assert sum(entry["message"] == "child" for entry in made.logs()) == 12
    points = [point["data"]["v"] for point in made.track("t").read(limit=100_000)["data"]]
    assert sorted(v for v in points if v >= 0) == list(range(12))
    numbers = [entry["sequenceNumber"] for entry in made.logs()]
    assert sorted(numbers) == list(range(len(numbers)))
    assert len(made.parameters().get()) == 12
    made.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("enabled", [True, False])
def test_fork_while_garbage_collection_is_paused(enabled):
    """By a listing in another thread: the child collects again, unless its user had turned that off."""
    if not enabled:
        gc.disable()
    try:
        with paused_gc():
            assert not gc.isenabled()
            child = os.fork()
            if child == 0:
                os._exit(7 if gc.isenabled() else 8)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (7 if enabled else 8)


CREATOR = """
import sys, time
from dreamlake import Session
session = Session("s", "w", local_path=sys.argv[1], tags=[sys.argv[2]])
sys.stdin.read(1)
with session:
    session.files().upload(sys.argv[2].encode(), filename=sys.argv[2])
    session.log(sys.argv[2])
"""


def test_processes_that_create_one_lake_at_once(root):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    workers = [
        subprocess.Popen([sys.executable, "-c", CREATOR, str(root), str(n)], stdin=subprocess.PIPE, env=environment)
        for n in range(6)
    ]
    time.sleep(0.3)
    for worker in workers:
        worker.communicate(b"x")
    assert [worker.returncode for worker in workers] == [0] * 6
    with session(root) as made:
        assert sorted(r["filename"] for r in made.files().list()) == [str(n) for n in range(6)]
        assert sorted(entry["sequenceNumber"] for entry in made.logs()) == list(range(6))
        assert len(made.tags) == 1
    assert sorted(os.listdir(root)) == [".dreamlake", "w"]
    assert scratch(root) == []


# ---- a disk that is full -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [False, True], ids=["new lake", "new session"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
def test_full_disk_at_every_step_of_opening(tmp_path, monkeypatch, existing, forever):
    outcomes = set()
    for step in [*range(1, 12), *range(250, 290)] if not existing else range(1, 25):
        root = tmp_path / f"lake-{step}"
        if existing:
            session(root, "other").open().close()
        before = tree(root) if existing else {}
        fs = FailingFs()
        monkeypatch.setattr("dreamlake.lake.Ports", lambda fs=fs: Ports(fs=fs))
        fs.failing, fs.forever = step, forever
        try:
            session(root, **ABOUT).open()
            outcomes.add("opened")
        except OSError as error:
            assert error.errno == 28
            assert str(root.parent) in str(error)
            outcomes.add("failed")
            if existing:
                assert scratch(root) == []
                seen = {k: v for k, v in tree(root).items() if k not in before}
                assert "w/s/session.json" not in seen or open_lake(root).info(session(root)._key).exists
        monkeypatch.undo()
        with session(root, **ABOUT) as made:  # there is space again
            made.files().upload(b"x", filename="x")
            assert {k: made.info[k] for k in ABOUT} == ABOUT
        assert sorted(os.listdir(root)) == [".dreamlake", "w"]
    assert outcomes == {"opened", "failed"}


def test_full_disk_while_resuming_and_closing_is_no_obstacle_to_reading(root, monkeypatch):
    with session(root) as made:
        fill(made)
    (root / "w/s/session.json").unlink()
    fs = FailingFs()
    fs.failing = 1
    monkeypatch.setattr("dreamlake.lake.Ports", lambda: Ports(fs=fs))
    with session(root) as made:
        assert made.files().read_bytes("x") == b"x"
        assert made.parameters().get() == {"a": 1}
        for write in (
            lambda: made.files().upload(b"new", filename="n"),
            lambda: made.log("x"),
            lambda: made.params(a=2),
        ):
            with pytest.raises(OSError, match="No space left"):
                write()
        assert len(made.files().list()) == 1


def test_exported_names():
    assert {"Session", "dreamlake_session", "open_lake", "NotFound", "Corrupt"} <= set(dreamlake.__all__)
    assert all(getattr(dreamlake, name) is not None for name in dreamlake.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        _ = dreamlake.Sesion
