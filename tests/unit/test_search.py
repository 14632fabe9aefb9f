"""``find``: every condition, every order, every scope, and what a wrong condition says."""

from __future__ import annotations

import math
import time
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, InvalidType, NotFound, StateError
from dreamlake.model import SessionKey
from dreamlake.operations.globs import path_test
from dreamlake.operations.moments import moment


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def files(root):
    """Nine files; a session beside it in the same workspace and one in another."""
    with Session("s", "w", local_path=root) as session:
        files = session.files()
        put = files.save_bytes
        put(b"1", "a.pth", path="/models", tags=["x"], metadata={"loss": 0.5, "epoch": 1, "name": "beta"})
        put(b"22", "b.pth", path="/models", tags=["x", "y"], metadata={"loss": 0.3, "epoch": 2, "name": "alpha"})
        put(b"333", "c.txt", path="/models/deep", tags=["y"], metadata={"loss": math.nan, "cfg": {"lr": 0.1, "a.b": 1}})
        put(b"4444", "d.pth", path="/models2", tags=["z"], metadata={"loss": "high", "flag": True, "cfg": {"lr": 0.2}})
        put(b"55555", "e.PTH", path="/", metadata={"list": [1, "a", {"k": None}], "none": None, "cfg.lr": 0.9})
        put(b"666666", "f[1].txt", path="/odd", metadata={"flag": False, "epoch": 1.0})
        put(b"7", "gone.pth", path="/models")
        files.delete("/models/gone.pth")
        put(b"old", "h.txt", path="/odd", tags=["old"])
        put(b"new!", "h.txt", path="/odd", metadata={"when": datetime(2026, 1, 31, tzinfo=timezone.utc)})
        put(b"1", "same", path="/odd", metadata={"epoch": True, "loss": math.inf})
        with Session("t", "w", local_path=root) as other:
            other.files().save_bytes(b"other", "a.pth", path="/models", metadata={"loss": 0.1})
        with Session("s", "far", local_path=root) as other:
            other.files().save_bytes(b"far", "a.pth", path="/models", metadata={"loss": 0.4})
        yield files


def names(records):
    return [record["filename"][0] for record in records]


def find(files, *args, **conditions):
    """The first letters of what was found, in upload order: a b c d e f h s."""
    return "".join(names(files.find(*args, **conditions)))


def test_without_conditions_it_lists(files):
    assert find(files) == "abcdefhs"
    assert files.find() == files.list()


GLOBS = [
    ("*.pth", "abd"),
    ("*.[pP][tT][hH]", "abde"),
    ("?.pth", "abd"),
    ("[a-c].*", "abc"),
    ("[!a-c].*", "deh"),
    ("/models/*", "ab"),
    ("models/*", "ab"),
    ("/models/**", "abc"),
    ("/models/**/*.txt", "c"),
    ("/**/*.pth", "abd"),
    ("/**", "abcdefhs"),
    ("**/c.txt", "c"),
    ("/*/*", "abdfhs"),
    ("/*", "e"),
    ("/models?/*", "d"),
    ("/models[!x]/*", "d"),
    ("/models[!x]a.pth", ""),  # a class stays inside one folder, like ? and *
    ("/models[/]a.pth", ""),
    ("/odd/f[[]1].txt", "f"),
    ("f[[]1[]].txt", "f"),
    ("/odd/f[[]1[]].txt", "f"),
    ("/odd/f[1].txt", ""),
    ("/odd/[", ""),
    ("/models/a.pth", "a"),
    ("/models", ""),
    ("/MODELS/*", ""),
    ("/models/.*", ""),
    ("/models/a\\.pth", ""),
    ("", ""),
]


@pytest.mark.parametrize(("glob", "expected"), GLOBS)
def test_glob(files, glob, expected):
    assert find(files, glob) == expected


def test_glob_that_could_take_for_ever():
    matches = path_test("/" + "**/" * 200 + "x")
    start = time.monotonic()
    assert matches("/" + "a/" * 200 + "x")
    assert not matches("/" + "a/" * 200 + "y")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("glob", ["/[[a]", "/[a&&b]", "/[a||b]", "/[a--b]", "/[~~]", "/[]", "/[!]", "/[z-a]", "/[a-]x"])
def test_odd_classes_neither_fail_nor_warn(glob):
    assert path_test(glob)("/nothing like that") is False


CONDITIONS = [
    ({"path": "/models"}, "abc"),
    ({"path": "models/"}, "abc"),
    ({"path": "/models/a.pth"}, ""),
    ({"path": "/"}, "abcdefhs"),
    ({"path": "/none"}, ""),
    ({"tags": ["x"]}, "ab"),
    ({"tags": "x"}, "ab"),
    ({"tags": ["x", "z"]}, "abd"),
    ({"tags": ["old"]}, ""),  # of a replaced version
    ({"tags": []}, "abcdefhs"),
    ({"tags": ["none"]}, ""),
    ({"all_tags": ["x", "y"]}, "b"),
    ({"all_tags": "y"}, "bc"),
    ({"all_tags": []}, "abcdefhs"),
    ({"min_size": 4}, "defh"),
    ({"max_size": 2}, "abs"),
    ({"min_size": 2, "max_size": 3}, "bc"),
    ({"min_size": np.int64(6)}, "f"),
    ({"max_size": 1e6}, "abcdefhs"),
    ({"path": "/models", "tags": ["y"], "max_size": 2}, "b"),
    ({"glob": "*.pth", "min_size": 2}, "bd"),
]


@pytest.mark.parametrize(("conditions", "expected"), CONDITIONS, ids=repr)
def test_condition(files, conditions, expected):
    assert find(files, **conditions) == expected


FIELDS = [
    ({"epoch": 1}, "af"),  # 1 and 1.0 are one number, True is none
    ({"epoch": True}, "s"),
    ({"epoch": np.float32(2)}, "b"),
    ({"flag": False}, "f"),
    ({"flag": 0}, ""),
    ({"loss": "high"}, "d"),
    ({"loss": {"<": 0.5}}, "b"),
    ({"loss": {"<=": 0.5}}, "ab"),
    ({"loss": {">": 0.3}}, "as"),
    ({"loss": {">=": 0.3, "<": 1}}, "ab"),
    ({"loss": {">": "a"}}, "d"),
    ({"loss": math.inf}, "s"),
    ({"loss": math.nan}, ""),
    ({"loss": {"!=": 0.5}}, "bcds"),
    ({"loss": {"exists": True}}, "abcds"),
    ({"loss": {"exists": False}}, "efh"),
    ({"flag": {"<": 1}}, ""),
    ({"epoch": {">": False}}, ""),
    ({"name": {"in": ["alpha", "gamma"]}}, "b"),
    ({"name": {"in": {"alpha", "beta"}}}, "ab"),
    ({"name": {"in": []}}, ""),
    ({"epoch": {"in": [1]}}, "af"),
    ({"name": {"contains": "et"}}, "a"),
    ({"name": {"contains": 1}}, ""),
    ({"list": {"contains": "a"}}, "e"),
    ({"list": {"contains": 1}}, "e"),
    ({"list": {"contains": True}}, ""),
    ({"list": {"contains": {"k": None}}}, "e"),
    ({"list": [1, "a", {"k": None}]}, "e"),
    ({"list": (1, "a", {"k": None})}, "e"),
    ({"list": [True, "a", {"k": None}]}, ""),
    ({"none": None}, "e"),
    ({"none": {"exists": True}}, "e"),
    ({"cfg.lr": 0.1}, "c"),
    ({"cfg.lr": {">": 0.1}}, "de"),  # "cfg.lr" may also be one key
    ({"cfg": {"lr": 0.2}}, "d"),
    ({"cfg": {"contains": "a.b"}}, "c"),
    ({"cfg.a.b": 1}, ""),
    ({"cfg.lr.x": 1}, ""),
    ({"when": datetime(2026, 1, 31, tzinfo=timezone.utc)}, "h"),
    ({"loss": {"exists": True}, "epoch": {"exists": True}}, "abs"),
    ({}, "abcdefhs"),
]


@pytest.mark.parametrize(("metadata", "expected"), FIELDS, ids=range(len(FIELDS)))
def test_metadata(files, metadata, expected):
    assert find(files, metadata=metadata) == expected


def test_checksum(files):
    full = files.get("/models/a.pth")["checksum"]
    for prefix in (full, full[:6], full[:12].upper()):
        assert find(files, checksum=prefix) == "as"
    assert find(files, checksum="0" * 64) == ""


def test_upload_time(files):
    stamps = [record["uploadedAt"] for record in files.list()]
    third = stamps[2]
    assert find(files, after=third) == "cdefhs"
    assert find(files, before=third) == "ab"
    assert find(files, after=stamps[1], before=stamps[3]) == "bc"
    moment_of_third = datetime.fromisoformat(third.replace("Z", "+00:00"))
    assert find(files, after=moment_of_third.astimezone(timezone(timedelta(hours=-7)))) == "cdefhs"
    assert find(files, after=moment_of_third.astimezone().replace(tzinfo=None)) == "cdefhs"  # local time
    assert find(files, after=third[:-1]) == "cdefhs"  # text without a zone is UTC
    assert find(files, after=date.today() - timedelta(days=1)) == "abcdefhs"
    assert find(files, after=date.today() + timedelta(days=2)) == ""


def test_moment_without_a_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert moment(datetime(2026, 1, 31, 9)) == datetime(2026, 1, 31, tzinfo=timezone.utc)
        assert moment(date(2026, 1, 31)) == datetime(2026, 1, 30, 15, tzinfo=timezone.utc)
        assert moment("2026-01-31T09:00:00") == datetime(2026, 1, 31, 9, tzinfo=timezone.utc)
        with pytest.raises(InvalidInput, match="does not exist in UTC"):
            moment(datetime.min)
    finally:
        monkeypatch.undo()
        time.tzset()


ORDERS = [
    ("uploaded", "abcdefhs"),
    ("-uploaded", "shfedcba"),
    ("size", "asbcdhef"),
    ("-size", "fedhcbas"),
    ("+sizeBytes", "asbcdhef"),
    ("path", "eabcdfhs"),
    ("-path", "shfdcbae"),
    ("name", "abcdefhs"),
    ("-version", "habcdefs"),
    ("type,-path", "sdbaehfc"),
    (["type", "-path"], "sdbaehfc"),
    ("metadata.loss", "basdcefh"),  # numbers, then text, then what has none (NaN included)
    ("-metadata.loss", "sabdcefh"),
    ("metadata.name", "bacdefhs"),
    ("-metadata.name", "abcdefhs"),
    ("-metadata.name, size", "abscdhef"),
    ("metadata.cfg.lr", "cdeabfhs"),
    ("-metadata.cfg.lr", "edcabfhs"),
    ('metadata.cfg."lr"', "cdabefhs"),  # not the key "cfg.lr"
    ("metadata.none", "abcdefhs"),
]


@pytest.mark.parametrize(("order", "expected"), ORDERS, ids=repr)
def test_order(files, order, expected):
    assert find(files, order=order) == expected


def test_order_by_update(root):
    with Session("updated", "own", local_path=root) as session:
        for name in "abc":
            session.files().upload(b"x", filename=name)
        session.files().update("a", tags=["t"])
        assert find(session.files(), order="updated") == "bca"
        assert find(session.files(), order="uploaded") == "abc"


def test_limit(files):
    assert find(files, limit=2) == "ab"
    assert find(files, limit=0) == ""
    assert find(files, limit=100) == "abcdefhs"
    assert find(files, limit=np.int64(1), order="-size") == "f"
    assert find(files, limit=1, metadata={"loss": {"exists": True}}, order="metadata.loss") == "b"


def test_scope(files):
    def found(scope, **more):
        return [r["sessionId"] for r in files.find("/models/a.pth", scope=scope, **more)]

    assert found("session") == ["w/s"]
    assert found("workspace") == ["w/s", "w/t"]  # in the order of upload
    assert found("lake") == ["w/s", "w/t", "far/s"]
    assert found("lake", order="metadata.loss") == ["w/t", "far/s", "w/s"]
    assert found("lake", order="metadata.loss", limit=1) == ["w/t"]
    assert found("lake", order="-uploaded") == ["far/s", "w/t", "w/s"]
    assert found("lake", order="session") == ["far/s", "w/s", "w/t"]
    assert found("lake", order=["-workspace", "metadata.loss"]) == ["w/t", "w/s", "far/s"]
    assert found("lake", where="workspace:w and session:s") == ["w/s"]
    assert found("lake", where="session = 'w/t' or session:far/*") == ["w/t", "far/s"]
    assert found("workspace", where="workspace != w") == []


def test_find_in_a_lake(files, root):
    lake = open_lake(root)

    def found(*args, **more):
        return [r["sessionId"] for r in lake.find(*args, **more)]

    assert found("/models/a.pth") == ["w/s", "w/t", "far/s"]
    assert found("/models/a.pth", scope="w") == ["w/s", "w/t"]
    assert found("/models/a.pth", scope="w/t") == found("/models/a.pth", scope=SessionKey("w", "t")) == ["w/t"]
    assert found(where="metadata.loss < 0.45", order="metadata.loss") == ["w/t", "w/s", "far/s"]
    assert found(order="metadata.loss", limit=1) == ["w/t"]
    assert [r["id"] for r in lake.find(scope="w/s")] == [r["id"] for r in files.find()]
    for scope in ("none", "w/none", "none/s"):
        with pytest.raises(NotFound, match=scope):
            lake.find(scope=scope)
    with pytest.raises(InvalidInput, match="expression, column 15"):
        lake.find(where="metadata.loss !")


def test_sessions_that_cannot_match_are_not_read(files, root):
    lake = open_lake(root)
    seen = []
    view = lake.store.catalog.view
    lake.store.catalog.view = lambda key: seen.append(str(key)) or view(key)
    assert [r["sessionId"] for r in lake.find(where="workspace:far and name:a.pth")] == ["far/s"]
    assert seen == ["far/s"]


WRONG = [
    ({"scope": "everything"}, InvalidInput, "scope='everything'; use session, workspace, lake"),
    ({"order": "colour"}, InvalidInput, "order='colour'; use uploaded, updated, path, name, .*or metadata.<field>"),
    ({"order": "tag"}, InvalidInput, "order='tag'; use uploaded"),
    ({"order": "metadata"}, InvalidInput, "order='metadata'; use uploaded"),
    ({"order": "--size"}, InvalidInput, "with '-' in front for descending"),
    ({"order": "size,"}, InvalidInput, "order='size,'; use"),
    ({"order": ""}, InvalidInput, "order=''; use"),
    ({"order": 5}, InvalidType, "order=5; write a field such as"),
    ({"order": [5]}, InvalidType, "order=.5.; write a field such as"),
    ({"order": []}, InvalidType, "or a list of them"),
    ({"where": 5}, InvalidType, "an expression is text such as 'metadata.loss < 0.5', not int"),
    ({"limit": -1}, InvalidInput, "limit is -1"),
    ({"limit": 1.5}, InvalidType, "limit is a whole number, not float"),
    ({"glob": 5}, InvalidType, "a glob is text, not int"),
    ({"path": ".."}, InvalidInput, "leave its folder"),
    ({"path": 5}, InvalidType, "path must be text"),
    ({"tags": 5}, InvalidType, "tags must be a list of text"),
    ({"all_tags": [5]}, InvalidType, "tag 5 must be text"),
    ({"metadata": 5}, InvalidType, "metadata must be a mapping of fields to conditions, not int"),
    ({"metadata": {5: 1}}, InvalidType, "metadata condition on 5: the name of a field is text"),
    ({"metadata": {"a": {"<": 1, "~": 2}}}, InvalidInput, "metadata condition on 'a': use only <, <=, >, >="),
    ({"metadata": {"a": {"in": "text"}}}, InvalidType, "'in' needs a list of values, not 'text'"),
    ({"metadata": {"a": {"in": 5}}}, InvalidType, "'in' needs a list of values, not 5"),
    ({"metadata": {"a": 1j}}, InvalidType, "metadata condition on 'a'.* has no JSON form"),
    ({"min_size": "1"}, InvalidType, "min_size is a number of bytes, not '1'"),
    ({"max_size": True}, InvalidType, "max_size is a number of bytes, not True"),
    ({"after": "yesterday"}, InvalidInput, "time 'yesterday' is not ISO-8601, e.g. 2026"),
    ({"before": 5}, InvalidType, "a time is ISO-8601 text or a datetime, not int"),
    ({"checksum": "abc"}, InvalidInput, "checksum 'abc' must be 6 to 64 hexadecimal digits"),
    ({"checksum": "g" * 64}, InvalidInput, "hexadecimal digits"),
    ({"checksum": 5}, InvalidInput, "checksum 5 must be"),
]


@pytest.mark.parametrize(("conditions", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_condition(files, conditions, error, message):
    with pytest.raises(error, match=message):
        files.find(**conditions)


def test_unknown_keyword(files):
    with pytest.raises(TypeError, match="colour"):
        files.find(colour="red")


def test_closed_session(root):
    session = Session("closed", "w", local_path=root).open()
    files = session.files()
    session.close()
    with pytest.raises(StateError, match="w/closed is not open"):
        files.find()
