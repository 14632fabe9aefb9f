"""A lake from a stranger: whatever its manifests say, nothing is read or written where it should not be (I8, I11)."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial

import pytest
from api_support import stored, tree

from dreamlake import Session, open_lake
from dreamlake.catalog import record as records
from dreamlake.errors import Corrupt, InvalidInput, LakeError, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.ports import this_process

DIGEST = hashlib.sha256(b"x").hexdigest()
PUT = {
    "op": "put", "id": "1" * 32, "path": "/f", "digest": DIGEST, "size": 1, "type": "text/plain", "description": None,
    "tags": [], "metadata": {}, "at": "2026-01-31T12:00:00.000000Z",
}  # fmt: skip


@pytest.fixture
def root(memory_path):
    path = memory_path / "outer/lake"
    path.parent.mkdir()
    with Session("s", "w", local_path=path) as session:
        session.files().upload(b"x", filename="kept")
    return path


def forge(root, *entries, session=("w", "s"), number=3):
    """A record whose checksum is right, as anybody can make it."""
    sid = SessionKey("w", "s").sid
    record = records.Record("0" * 32, this_process(), SessionKey(*session), "2026-01-31T12:00:00Z", (), entries)
    (root / f".dreamlake/sessions/{sid}/log/0/{number}.json").write_bytes(records.encode(record))


def open_session(root):
    return Session("s", "w", local_path=root).open()


def outside(root):
    """Everything beside the lake."""
    return {name: content for name, content in tree(root.parents[1]).items() if not name.startswith("outer/lake/")}


def test_a_forged_record_that_is_good_is_read(root):
    """The forgeries below are refused for what they say, not for how they were made."""
    forge(root, PUT)
    session = open_session(root)
    assert session.files().read_bytes("/f") == b"x"
    session.close()


PATHS = [
    "/../../evil",
    "/a/../../../evil",
    "/..",
    "/.",
    "//x",
    "",
    "x",
    "/a//b",
    "/a/",
    "/a\0b",
    "/a\\b",
    "/a\nb",
    5,
    None,
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_that_lead_away(root, path, memory_path):
    forge(root, {**PUT, "path": path})
    before = outside(root)
    with pytest.raises(Corrupt, match=r"3\.json.*(put: path|path is)"):
        open_session(root)
    lake = open_lake(root)
    for look in (
        lambda: lake.materialize("w/s"),
        lambda: lake.sessions(),
        lambda: lake.materialize(to=memory_path / "t"),
    ):
        with pytest.raises((Corrupt, LakeError)):
            look()
    assert {k: v for k, v in outside(root).items() if v is not None} == {
        k: v for k, v in before.items() if v is not None
    }


ENTRIES = [
    {"digest": "../../../etc/passwd"},
    {"digest": "A" * 64},
    {"digest": None},
    {"size": -1},
    {"size": True},
    {"size": "1"},
    {"id": 5},
    {"id": ""},
    {"tags": "x"},
    {"metadata": []},
    {"description": 5},
    {"type": None},
    {"at": 5},
    {"op": "move", "to": "/../x"},
    {"op": "alias", "name": 5},
    {"op": "trim", "ids": "x"},
    {"op": "session", "write_protected": "no"},
]


@pytest.mark.parametrize("change", ENTRIES, ids=range(len(ENTRIES)))
def test_fields_of_a_wrong_kind(root, change):
    forge(root, {**PUT, **change})
    with pytest.raises(Corrupt, match=r"3\.json: not a record"):
        open_session(root)


def test_missing_fields_and_unknown_operations(root):
    forge(root, {"op": "put", "path": "/f"})
    with pytest.raises(Corrupt, match=r"3\.json"):
        open_session(root)
    forge(root, {"op": "explode"})
    with pytest.raises(UnsupportedFormat, match=r"3\.json: unknown operation 'explode'; a newer release wrote it"):
        open_session(root)


@pytest.mark.parametrize("session", [("..", "x"), ("w", "../../x"), ("w", "other"), ("w", ""), (".dreamlake", "tmp")])
def test_record_of_another_session(root, session):
    before = outside(root)
    forge(root, PUT, session=session)
    with pytest.raises(Corrupt, match=r"3\.json"):
        open_session(root)
    sid = SessionKey("w", "s").sid
    forge(root, {"op": "session"}, session=session, number=1)
    with pytest.raises(LakeError):
        open_lake(root).sessions()
    assert outside(root) == before
    assert (root / f".dreamlake/sessions/{sid}").is_dir()


def test_records_that_are_no_records(root):
    sid = SessionKey("w", "s").sid
    path = root / f".dreamlake/sessions/{sid}/log/0/3.json"
    for data in (b"", b"{}", b"[" * 200_000, b"\xff" * 100, b'{"v":1}\n'):
        path.write_bytes(data)
        with pytest.raises(Corrupt, match=r"3\.json: damaged record"):
            open_session(root)
    body = b'{"v":1,"entries":' + b"[" * 100_000 + b"]" * 100_000
    path.write_bytes(body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n')
    with pytest.raises(Corrupt, match=r"3\.json: not a record .*nested too deeply"):
        open_session(root)


def test_record_that_says_another_size(root):
    """The size is of the user's data: reading must neither believe it nor fill the disk."""
    forge(root, {**PUT, "size": 10}, {**PUT, "id": "2" * 32, "path": "/g", "size": 0})
    session = open_session(root)
    for name in ("/f", "/g"):
        for read in (session.files().read_bytes, lambda n: session.files().download(n, root.parent / "out")):
            with pytest.raises(Corrupt, match=rf"^{name}@v1 in session w/s"):
                read(name)
    assert not (root.parent / "out").exists()
    session.close()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"format": 2, "store_id": "x"}, "store format 2; this release reads format 1"),
        ({"format": "1", "store_id": "x"}, "store format '1'"),
        ({"format": 1, "store_id": 5}, "store format"),
        ({"format": 1}, "damaged"),
        ([], "damaged"),
        ("x", "damaged"),
    ],
    ids=range(6),
)
def test_head_of_a_store(root, head, message):
    (root / ".dreamlake/store.json").write_text(json.dumps(head))
    before = tree(root)
    with pytest.raises(UnsupportedFormat, match=message):
        open_session(root)
    assert tree(root) == before


def test_deep_head_of_a_store(root):
    (root / ".dreamlake/store.json").write_text("[" * 200_000)
    with pytest.raises(UnsupportedFormat, match="damaged"):
        open_session(root)


def test_session_json_does_not_lead_away(root):
    """It says whose a folder is; a false one must not make a session write elsewhere."""
    before = outside(root)
    for name in ("../../../evil", "..", "/etc", "x/y", 5, None, "\0"):
        document = {"name": name, "workspace": "w"}
        (root / "w/s/session.json").write_text(json.dumps(document))
        with Session("s", "w", local_path=root) as session:
            session.log("hello")
    assert outside(root) == before
    assert os.listdir(root / "w") == ["s"]
    (root / "w/s/session.json").write_text(json.dumps({"name": "other", "workspace": "w"}))
    with Session("s", "w", local_path=root) as session:  # as if the disk took the two names for one
        session.log("hello")
        assert session.files().read_bytes("kept") == b"x"
    assert len(os.listdir(root / "w")) == 2
    assert outside(root) == before


def test_extra_files_everywhere_are_ignored(root):
    sid = SessionKey("w", "s").sid
    store = root / ".dreamlake"
    for place in (
        "sessions/not-a-session", f"sessions/{sid}/log/x", f"sessions/{sid}/log/0/x", f"sessions/{sid}/ckpt/9.sqlite",
        "blobs/README", "blobs/zz", "pending/note.txt", "tmp/old", "cache/old.json", "something-else",
    ):  # fmt: skip
        (store / place).parent.mkdir(exist_ok=True)
        (store / place).write_bytes(b"\xff garbage")
    with Session("s", "w", local_path=root) as session:
        assert session.files().read_bytes("kept") == b"x"
        session.files().upload(b"y", filename="y")
        assert [r["filename"] for r in session.files().list()] == ["kept", "y"]
    assert [info.key for info in open_lake(root).sessions()] == [SessionKey("w", "s")]


@pytest.mark.parametrize("kind", ["empty", "garbage", "another database", "cut"])
def test_checkpoints_that_lie(memory_path, kind):
    import sqlite3

    root = memory_path / "lake"
    (memory_path / "many").mkdir()
    for number in range(600):
        (memory_path / f"many/{number}").write_bytes(b"y")
    with Session("s", "w", local_path=root) as session:
        session.files().upload(memory_path / "many")
        session.files().upload(b"x", filename="x")
        expected = session.files().list()
    checkpoints = list(root.rglob("*.sqlite"))
    assert checkpoints != []
    for path in checkpoints:
        data = path.read_bytes()
        path.unlink()
        if kind == "another database":
            db = sqlite3.connect(path)
            db.execute("CREATE TABLE meta (name, value)")
            db.execute("INSERT INTO meta VALUES ('format', '1')")
            db.commit()
            db.close()
        else:
            path.write_bytes({"empty": b"", "garbage": b"SQLite format 3\0" + b"\xff" * 5000, "cut": data[:9000]}[kind])
    with Session("s", "w", local_path=root) as session:
        try:
            assert session.files().list() == expected
        except Corrupt as error:  # good enough to be opened, and damaged further on
            assert "delete its folder, the log has everything" in str(error)
            assert kind == "cut"
            for path in root.rglob("*.sqlite"):
                path.unlink()
    with Session("s", "w", local_path=root) as session:
        assert session.files().list() == expected
        assert session.files().read_bytes("x") == b"x"
    assert len(stored(root)) == 2


# ---- symbolic links: nothing is read or written through one, but the way to the root is the user's own -----------


def move_out(root, place):
    """Put a link where something of the lake was; what it leads to lies outside."""
    target = root.parents[1] / "elsewhere"
    if place.exists():
        place.rename(target)
    else:
        target.mkdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def use_all_of(session):
    """Calls of everything that reads or writes below a session's folder."""
    return [
        lambda: session.parameters().set(lr=0.5),
        lambda: session.parameters().get(),
        lambda: session.log("hello"),
        lambda: session.logs(),
        lambda: session.track("train/loss").append(value=1.0),
        lambda: session.track("train/loss").append_batch([{"value": 1.0}]),
        lambda: session.track("train/loss").read(),
        lambda: session.tracks().list_all(),
    ]


SIDE_DATA = [
    ("parameters.json", False), ("logs", True), ("logs/logs.jsonl", False), ("tracks", True), ("tracks/train", True),
    ("tracks/train/loss", True), ("tracks/train/loss/data.jsonl", False), ("tracks/train/loss/metadata.json", False),
    (".lock", False),
]  # fmt: skip


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize(("name", "folder"), SIDE_DATA)
def test_links_in_a_session_folder(root, name, folder, dangling):
    with Session("s", "w", local_path=root) as session:
        for call in use_all_of(session):
            call()
    place = root / "w/s" / name
    move_out(root, place)
    if dangling:
        elsewhere = root.parents[1] / "elsewhere"
        elsewhere.rename(root.parents[1] / "not here any more")
    before = outside(root)
    refused = 0
    session = open_session(root)
    upload = partial(session.files().upload, b"y", filename="y")  # what does not lie there is not concerned
    for call in (*use_all_of(session), upload, session.close):
        try:
            call()
        except InvalidInput as error:
            assert call is not upload
            assert f"{place} is a symbolic link (to " in str(error)
            assert "If it is yours, move what it leads to into its place; if not, remove it" in str(error)
            refused += 1
    assert not session.is_open
    assert refused >= 2
    assert outside(root) == before
    assert place.is_symlink()


@pytest.mark.parametrize("name", ["w", "w/s", "w/s/session.json"])
def test_links_on_the_way_to_a_session(root, name):
    move_out(root, root / name)
    before = outside(root)
    with pytest.raises(InvalidInput, match=rf"{root / name} is a symbolic link"):
        open_session(root)
    assert outside(root) == before
    lake = open_lake(root)
    assert [info.key for info in lake.sessions()] == [SessionKey("w", "s")]  # the lake itself is well
    result = lake.materialize("w/s")
    assert [p.code for p in result.conflicts] == ([] if name.endswith("json") else ["symlink"])
    assert outside(root) == before


def test_link_where_a_new_session_would_be(root):
    (root.parents[1] / "elsewhere").mkdir()
    (root / "new").symlink_to(root.parents[1] / "elsewhere")
    before = outside(root)
    with pytest.raises(InvalidInput, match=r"/new is a symbolic link"):
        Session("s", "new", local_path=root).open()
    assert outside(root) == before
    assert [info.key for info in open_lake(root).sessions()] == [SessionKey("w", "s")]


SID = SessionKey("w", "s").sid
STORE = [
    "", "/blobs", "/blobs/2d", "/pending", "/sessions", "/tmp", "/quarantine", "/cache", "/placed", f"/sessions/{SID}",
    f"/sessions/{SID}/log", f"/sessions/{SID}/log/0", f"/sessions/{SID}/ckpt",
]  # fmt: skip


@pytest.mark.parametrize("name", STORE)
def test_links_in_the_store(root, name):
    place = root / f".dreamlake{name}"
    move_out(root, place)
    before = outside(root)
    with pytest.raises(InvalidInput, match=rf"{place} is a symbolic link"):
        open_session(root)
    assert outside(root) == before


def test_link_to_nowhere_in_place_of_a_store(memory_path):
    (memory_path / "lake").mkdir()
    (memory_path / "lake/.dreamlake").symlink_to(memory_path / "nowhere")
    before = tree(memory_path)
    with pytest.raises(InvalidInput, match=r"\.dreamlake is a symbolic link"):
        open_session(memory_path / "lake")
    assert tree(memory_path) == before


@pytest.mark.parametrize("link", ["lake itself", "folder above", "both, relative"])
def test_root_reached_through_links(root, memory_path, link):
    """The way to the root is the user's own, and may be a link."""
    if link == "lake itself":
        (memory_path / "way").symlink_to(root)
        way = memory_path / "way"
    elif link == "folder above":
        (memory_path / "way").symlink_to(root.parent)
        way = memory_path / "way/lake"
    else:
        (memory_path / "up").symlink_to("outer")
        (memory_path / "outer/again").symlink_to("lake")
        way = memory_path / "up/again"
    with Session("s", "w", local_path=way) as session:
        for call in use_all_of(session):
            call()
        session.files().upload(b"y", filename="y")
    with Session("s", "w", local_path=root) as session:
        assert session.parameters().get() == {"lr": 0.5}
        assert len(session.logs()) == 1
        assert session.track("train/loss").read()["total"] == 2
    done = open_lake(way).materialize()
    assert (done.placed, done.conflicts) == (2, [])
    assert (root / "w/s/files/y").read_bytes() == b"y"


def test_what_was_placed_does_not_lead_away(root, memory_path):
    """The memory of materialize is a file of the lake, too: folders that it names are removed only inside the root."""
    lake = open_lake(root)
    lake.materialize()
    for name in ("empty", "outer/empty", "elsewhere/empty"):
        (memory_path / name).mkdir(parents=True)
    (root / "w/s/files/link").symlink_to(memory_path / "elsewhere")
    (memo,) = (root / ".dreamlake/placed").iterdir()
    lies = [["dir", "../../empty"], ["dir", "../empty"], ["dir", "w/../../empty"], ["dir", "w/s/files/link/empty"],
            ["dir", ""], ["dir", "/"], ["file", "/../../../../kept", DIGEST, 1, 1, 1, 1, "copy", "auto"]]  # fmt: skip
    memo.write_text(memo.read_text() + "".join(json.dumps(line) + "\n" for line in lies))
    before = outside(root)
    lake.materialize(delete=True)
    assert outside(root) == before
    assert (memory_path / "elsewhere/empty").is_dir()
