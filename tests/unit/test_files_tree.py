"""Organising: update, move, copy, delete, restore, aliases. Each is one atomic step and moves no bytes."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from api_support import scratch, stored

from dreamlake import Session
from dreamlake.errors import Conflict, InvalidInput, InvalidType, NotFound


@pytest.fixture
def root(memory_path):
    return memory_path / "lake"


@pytest.fixture
def files(root):
    with Session("s", "w", local_path=root) as session:
        yield session.files()


@pytest.fixture
def some(files):
    files.upload(b"a1", filename="a", path="/m", tags=["x"], metadata={"k": 1}, description="first")
    files.upload(b"b", filename="b", path="/m/deep")
    files.upload(b"c", filename="c")
    return files


def keys(records):
    return [f"{r['path'].rstrip('/')}/{r['filename']}" for r in records]


def content(files):
    return {key: files.read_bytes(key).decode() for key in keys(files.list())}


def records(root):
    return sum(1 for _ in (root / ".dreamlake/sessions").rglob("log/*/*.json"))


def refused(files, root, error, message, call):
    """The call fails with this error and changes nothing."""
    before, count = files.list(), records(root)
    with pytest.raises(error, match=message):
        call()
    assert files.list() == before
    assert records(root) == count
    assert scratch(root) == []


# ---- update ------------------------------------------------------------------------------------------------------


def test_update_keeps_what_is_left_out(some):
    before = some.get("/m/a")
    after = some.update("/m/a", tags=["y", "z"])
    assert after == {**before, "tags": ["y", "z"], "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] > before["updatedAt"]
    assert (after["uploadedAt"], after["id"], after["version"]) == (before["uploadedAt"], before["id"], 1)
    after = some.update("/m/a", metadata={"new": np.float32(0.5)}, description="second")
    assert (after["tags"], after["metadata"], after["description"]) == (["y", "z"], {"new": 0.5}, "second")
    after = some.update("/m/a", description=None, tags=[], metadata=None)
    assert (after["tags"], after["metadata"], after["description"]) == ([], {}, None)
    assert some.get("/m/a") == after
    assert some.read_bytes("/m/a") == b"a1"
    assert keys(some.list()) == ["/m/a", "/m/deep/b", "/c"]  # the order of upload stays


def test_update_by_every_reference(some):
    record = some.get("/m/a")
    for number, reference in enumerate(("/m/a", "m/a", record["id"], record, "/m/a@v1")):
        assert some.update(reference, metadata={"n": number})["metadata"] == {"n": number}
    some.alias("/m/a", "best")
    assert some.update("/m/a@best", tags=["by alias"])["tags"] == ["by alias"]


def test_update_with_nothing_to_change(some):
    before = some.get("/m/a")
    after = some.update("/m/a")
    assert {**after, "updatedAt": 0} == {**before, "updatedAt": 0}


def test_update_of_an_older_version(some, root):
    some.upload(b"a2", filename="a", path="/m")
    refused(some, root, InvalidInput, "/m/a@v1 is an older version", lambda: some.update("/m/a@v1", tags=["t"]))
    assert [r["tags"] for r in some.history("/m/a")] == [[], ["x"]]


def test_update_positional_is_refused(some):
    with pytest.raises(TypeError):
        some.update("/m/a", "description")


# ---- move --------------------------------------------------------------------------------------------------------


def test_move_takes_the_history_along(some, root):
    some.upload(b"a2", filename="a", path="/m")
    some.alias("/m/a@v1", "best")
    before = some.get("/m/a")
    blobs = stored(root)
    after = some.move("/m/a", "/new/place/z.bin")
    assert after == {**before, "path": "/new/place", "filename": "z.bin", "updatedAt": after["updatedAt"]}
    assert not some.exists("/m/a")
    assert some.get(before["id"]) == after
    assert [r["version"] for r in some.history("/new/place/z.bin")] == [2, 1]
    assert some.read_bytes("/new/place/z.bin@v1") == some.read_bytes("/new/place/z.bin@best") == b"a1"
    assert some.aliases("/new/place/z.bin") == {"best": 1}
    assert stored(root) == blobs
    assert keys(some.list()) == ["/m/deep/b", "/c", "/new/place/z.bin"]


@pytest.mark.parametrize(
    ("to", "key"),
    [
        ("/d", "/d"),
        ("d", "/d"),
        ("/x/y/", "/x/y/c"),
        ("/m", "/m/c"),  # a folder that is there
        ("/m/", "/m/c"),
        ("m/deep", "/m/deep/c"),
        ("/m2", "/m2"),
        ("/d:e?.txt", "/d:e?.txt"),  # a file name may hold what a folder may not
        ("/c", "/c"),  # where it is
        ("/", "/c"),
        (".", "/c"),
    ],
)
def test_where_a_file_goes(some, to, key):
    assert keys([some.move("/c", to)]) == [key]
    assert content(some) == {"/m/a": "a1", "/m/deep/b": "b", key: "c"}


def test_move_of_a_folder(some, root):
    count = records(root)
    assert keys(some.move("/m", "/n")) == ["/n/a", "/n/deep/b"]
    assert records(root) == count + 1
    assert content(some) == {"/n/a": "a1", "/n/deep/b": "b", "/c": "c"}
    some.upload(b"o", filename="o", path="/old")
    assert keys(some.move("/n", "/old")) == ["/old/n/a", "/old/n/deep/b"]  # into a folder that is there
    assert keys(some.move("/old/n/deep", "/fresh/")) == ["/fresh/deep/b"]
    assert keys(some.move("/", "/all")) == ["/all/old/n/a", "/all/fresh/deep/b", "/all/c", "/all/old/o"]
    assert keys(some.move("/all/old/n", "/")) == ["/n/a"]


def test_move_of_a_folder_with_one_file(files):
    files.upload(b"x", filename="x", path="/one")
    moved = files.move("/one", "/two")
    assert keys(moved) == ["/two/x"]
    assert isinstance(files.move("/two/x", "/y"), dict)


def test_media_type_follows_the_suffix(files):
    """The type of a file is what its name says; a name of the same kind changes nothing."""
    files.upload(b"{}", filename="a.txt", path="/m")
    files.upload(b"{}", filename="a.txt", path="/m")
    assert files.move("/m/a.txt", "/m/a.json")["contentType"] == "application/json"
    assert [r["contentType"] for r in files.history("/m/a.json")] == ["application/json", "text/plain"]
    assert files.move("/m/a.json", "/m/b.JSON")["contentType"] == "application/json"
    assert files.copy("/m/b.JSON", "/c.png")["contentType"] == "image/png"
    assert files.get("/m/b.JSON")["contentType"] == "application/json"
    assert files.move("/m", "/n")[0]["contentType"] == "application/json"
    assert files.move("/n/b.JSON", "/plain")["contentType"] == "application/octet-stream"


MOVES = [
    ("/c", "/m/a", Conflict, "/m/a exists in session w/s; delete it first or choose another name"),
    ("/c", "/m/a/x", Conflict, "/m/a is a file in session w/s; /m/a/x cannot lie inside it"),
    ("/m/a", "/m/a/x", Conflict, "/m/a cannot move inside itself"),
    ("/m", "/c", Conflict, "/c is a file in session w/s"),
    ("/m", "/c/deeper", Conflict, "/c is a file"),
    ("/c", "..", InvalidInput, "leave its folder"),
    ("/c", "a\\b", InvalidInput, "separator"),
    ("/c", "x:y/z", InvalidInput, "reserved character ':'"),
    ("/m", "x?", InvalidInput, "reserved character"),
    ("/c", "/.dreamlake", InvalidInput, "reserved for the store"),
    ("/c", "/" + "x" * 256, InvalidInput, "256 bytes"),
    ("/c", None, InvalidType, "to must be a logical path, not a NoneType"),
    ("/c", 5, InvalidType, "to must be a logical path, not a int"),
    ("/unknown", "/x", NotFound, "no file '/unknown' in session w/s"),
]


@pytest.mark.parametrize(("source", "to", "error", "message"), MOVES, ids=range(len(MOVES)))
def test_moves_that_are_refused(some, root, source, to, error, message):
    refused(some, root, error, message, lambda: some.move(source, to))


def test_move_of_an_older_version(some, root):
    some.upload(b"a2", filename="a", path="/m")
    refused(
        some, root, Conflict, "/m/a@v1 is an older version; copy it, or restore it", lambda: some.move("/m/a@v1", "/x")
    )


def test_move_onto_a_deleted_path(some):
    some.delete("/m/a")
    some.move("/c", "/m/a")
    assert some.read_bytes("/m/a") == b"c"
    assert [r["version"] for r in some.history("/m/a")] == [1]
    assert some.history("/m/a")[0]["id"] == some.get("/m/a")["id"]


def test_folder_moved_into_a_name_below_itself(some):
    assert keys(some.move("/m", "/m/sub")) == ["/m/sub/a", "/m/sub/deep/b"]
    assert keys(some.move("/m/sub", "/m")) == ["/m/sub/a", "/m/sub/deep/b"]  # "/m" is there: into it


def test_swap(some):
    some.move("/c", "/tmp")
    some.move("/m/a", "/c")
    some.move("/tmp", "/m/a")
    assert content(some) == {"/c": "a1", "/m/a": "c", "/m/deep/b": "b"}


# ---- copy --------------------------------------------------------------------------------------------------------


def test_copy_moves_no_bytes(some, root):
    blobs = [(path, path.stat().st_ino) for path in stored(root)]
    before = some.get("/m/a")
    made = some.copy("/m/a", "/copy")
    assert {key: made[key] for key in ("description", "tags", "metadata", "checksum", "sizeBytes", "version")} == {
        key: before[key] for key in ("description", "tags", "metadata", "checksum", "sizeBytes", "version")
    }
    assert made["id"] != before["id"]
    assert some.get("/m/a") == before
    assert [(path, path.stat().st_ino) for path in stored(root)] == blobs
    some.update("/copy", tags=["mine"])
    assert some.get("/m/a")["tags"] == ["x"]
    some.delete("/m/a")
    assert some.read_bytes("/copy") == b"a1"


def test_copy_of_any_version(some):
    some.upload(b"a2", filename="a", path="/m")
    some.alias("/m/a@v1", "best")
    for reference, text in (("/m/a", "a2"), ("/m/a@v1", "a1"), ("/m/a@best", "a1"), (some.get("/m/a")["id"], "a2")):
        assert some.read_text(some.copy(reference, "/out")) == text
    assert some.get("/out")["version"] == 4
    assert some.aliases("/out") == {}


def test_copy_onto_a_file_is_a_new_version_of_it(some):
    some.copy("/c", "/m/a")
    assert some.read_bytes("/m/a") == b"c"
    assert some.read_bytes("/m/a@v1") == b"a1"


def test_copy_of_a_folder(some, root):
    count = records(root)
    assert keys(some.copy("/m", "/n")) == ["/n/a", "/n/deep/b"]
    assert records(root) == count + 1
    assert keys(some.copy("/m", "/n")) == ["/n/m/a", "/n/m/deep/b"]
    assert keys(some.copy("/m/deep", "/x/")) == ["/x/deep/b"]
    assert keys(some.copy("/", "/all"))[:2] == ["/all/m/a", "/all/m/deep/b"]
    assert some.read_bytes("/all/n/m/deep/b") == b"b"


def test_copy_into_another_session(some, root):
    with Session("t", "w", local_path=root) as other:
        made = some.copy("/m/a", "/got", session="w/t")
        assert (made["sessionId"], made["version"]) == ("w/t", 1)
        assert other.files().get("/got") == made
        assert other.files().read_bytes("/got") == b"a1"
        assert not some.exists("/got")
        assert keys(some.copy("/m", "/", session="w/t")) == ["/m/a", "/m/deep/b"]
        assert keys([some.copy("/m/a", "/m/", session="w/t")]) == ["/m/a"]
        assert keys(some.copy("/", "/", session="w/t")) == ["/m/a", "/m/deep/b", "/c"]
        assert keys([some.copy("/m/a", "/mine", session="w/s")]) == ["/mine"]
    with Session("u", "x", local_path=root) as other:
        assert keys([some.copy("/c", "/m", session="x/u")]) == ["/m"]  # what is a folder here may be a file there


COPIES = [
    ({"to": "/x", "session": "w/none"}, NotFound, "no session w/none; open it once to create it"),
    ({"to": "/x", "session": "none"}, InvalidInput, "session 'none' must be 'workspace/name'"),
    ({"to": "/x", "session": "w/"}, InvalidInput, "session name is empty"),
    ({"to": "/x", "session": "a/b/c"}, InvalidInput, "separator"),
    ({"to": "/x", "session": "../x"}, InvalidInput, "leave its folder"),
    ({"to": "/x", "session": 5}, InvalidType, "session must be text .'workspace/name'., not int"),
    ({"to": "/m/a/x"}, Conflict, "/m/a is a file"),
    ({"to": ".."}, InvalidInput, "leave its folder"),
    ({"to": None}, InvalidType, "to must be a logical path"),
]


@pytest.mark.parametrize(("options", "error", "message"), COPIES, ids=range(len(COPIES)))
def test_copies_that_are_refused(some, root, options, error, message):
    refused(some, root, error, message, lambda: some.copy("/c", **options))


def test_copy_of_content_that_is_gone(some, root):
    for path in stored(root):
        path.unlink()
    refused(some, root, NotFound, "/m/a: its content was already collected", lambda: some.copy("/m/a", "/x"))


# ---- delete ------------------------------------------------------------------------------------------------------


def test_delete(some, root):
    record = some.get("/m/a")
    blobs = stored(root)
    gone = some.delete("/m/a")
    assert gone["id"] == record["id"]
    assert gone["deletedAt"].endswith("Z")
    assert (gone["path"], gone["filename"]) == ("/m", "a")
    assert keys(some.list()) == ["/m/deep/b", "/c"]
    assert not some.exists("/m/a")
    assert stored(root) == blobs  # it stays restorable
    for reference in ("/m/a", record["id"], record):
        with pytest.raises(NotFound, match="was deleted"):
            some.delete(reference)


def test_delete_by_every_reference(some):
    some.alias("/c", "best")
    for reference in ("/c@best", "/m/a@v1", some.get("/m/deep/b")["id"]):
        assert some.delete(reference)["deletedAt"]
    assert some.list() == []


def test_delete_of_an_older_version(some, root):
    some.upload(b"a2", filename="a", path="/m")
    message = "/m/a@v1 is an older version; versions go by retention, or delete the whole file"
    refused(some, root, InvalidInput, message, lambda: some.delete("/m/a@v1"))
    refused(some, root, InvalidInput, message, lambda: some.delete("/m/a@v1", recursive=True))


def test_delete_of_a_folder(some, root):
    message = "/m is a folder of 2 files; delete it with recursive=True"
    refused(some, root, InvalidInput, message, lambda: some.delete("/m"))
    count = records(root)
    gone = some.delete("/m/", recursive=True)
    assert records(root) == count + 1
    assert (gone["path"], gone["count"]) == ("/m", 2)
    assert keys(gone["files"]) == ["/m/a", "/m/deep/b"]
    assert {record["deletedAt"] for record in gone["files"]} == {gone["deletedAt"]}
    assert keys(some.list()) == ["/c"]
    assert some.list(path="/m") == []
    assert keys(some.delete("/", recursive=True)["files"]) == ["/c"]
    with pytest.raises(NotFound, match="no file '/'"):
        some.delete("/", recursive=True)


def test_delete_does_not_touch_what_begins_alike(files):
    for path in ("/m", "/m2", "/m/x"):
        files.upload(b"x", filename="f", path=path)
    files.delete("/m", recursive=True)
    assert keys(files.list()) == ["/m2/f"]


# ---- restore -----------------------------------------------------------------------------------------------------


def test_restore_brings_the_file_back_with_its_history(some):
    some.upload(b"a2", filename="a", path="/m", tags=["y"])
    some.alias("/m/a@v1", "best")
    before = some.get("/m/a")
    some.delete("/m/a")
    after = some.restore("/m/a")
    assert after == {**before, "updatedAt": after["updatedAt"]}
    assert after["deletedAt"] is None
    assert [r["version"] for r in some.history("/m/a")] == [2, 1]
    assert all(r["deletedAt"] is None for r in some.history("/m/a"))
    assert some.read_bytes("/m/a@v1") == some.read_bytes("/m/a@best") == b"a1"
    assert keys(some.list()) == ["/m/deep/b", "/c", "/m/a"]


@pytest.mark.parametrize("encoding", ["coded", "raw"])
def test_restore_of_checkpoints_with_their_history(root, encoding):
    """Content that is stored as parts comes back whole, older versions too."""
    with Session("s", "w", local_path=root, encoding=encoding) as session:
        files = session.files()
        states = [{"w": torch.randn(900, 900, generator=torch.Generator().manual_seed(n))} for n in range(3)]
        sums = [files.save_torch(state, "m.pth")["checksum"] for state in states]
        files.delete("m.pth")
        assert files.restore("m.pth")["checksum"] == sums[2]
        assert [record["deletedAt"] for record in files.history("m.pth")] == [None] * 3
        for number, state in enumerate(states, 1):
            with files.open(f"m.pth@v{number}") as stream:
                assert torch.equal(torch.load(stream, weights_only=True)["w"], state["w"])
        assert files.copy("m.pth@v1", "/copy")["checksum"] == sums[0]


@pytest.mark.parametrize("how", ["path", "id", "record", "deleted"])
def test_restore_by_every_reference(some, how):
    record = some.get("/m/a")
    gone = some.delete("/m/a")
    some.restore({"path": "m/a", "id": record["id"], "record": record, "deleted": gone}[how])
    assert some.read_bytes("/m/a") == b"a1"


def test_restore_of_what_is_there(some, root):
    refused(some, root, Conflict, r"/m/a in session w/s is not deleted; .* /m/a@vN", lambda: some.restore("/m/a"))


@pytest.mark.parametrize("how", ["reference", "argument", "alias"])
def test_restore_of_an_older_version(some, how):
    some.upload(b"a2", filename="a", path="/m")
    some.alias("/m/a@v1", "best")
    after = {
        "reference": lambda: some.restore("/m/a@v1"),
        "argument": lambda: some.restore("/m/a", version=np.int64(1)),
        "alias": lambda: some.restore("/m/a@best"),
    }[how]()
    assert (after["version"], after["tags"], after["metadata"], after["description"]) == (3, ["x"], {"k": 1}, "first")
    assert some.read_bytes("/m/a") == b"a1"
    assert some.read_bytes("/m/a@v2") == b"a2"


def test_restore_after_a_new_upload(some):
    some.delete("/m/a")
    again = some.upload(b"new", filename="a", path="/m")
    assert again["version"] == 2
    with pytest.raises(Conflict, match="is not deleted"):
        some.restore("/m/a")
    history = some.history("/m/a")
    assert [(r["version"], r["deletedAt"] is None) for r in history] == [(2, True), (1, False)]
    assert some.restore("/m/a@v1")["version"] == 3
    assert some.read_bytes("/m/a") == b"a1"
    assert some.read_bytes("/m/a@v2") == b"new"


def test_restore_of_an_older_version_of_a_deleted_file(some):
    some.upload(b"a2", filename="a", path="/m")
    some.delete("/m/a")
    assert some.restore("/m/a@v1")["version"] == 3
    assert some.read_bytes("/m/a") == b"a1"


def test_restore_when_another_file_has_its_place(some, root):
    old = some.delete("/m/a")
    some.move("/c", "/m/a")
    message = "/m/a exists again in session w/s; move it away first"
    refused(some, root, Conflict, message, lambda: some.restore(old["id"]))
    with pytest.raises(NotFound, match=rf"/m/a was deleted from session w/s; restore\('{old['id']}'\) brings it back"):
        some.get(old["id"])
    some.move("/m/a", "/away")
    assert some.restore(old["id"])["filename"] == "a"
    assert content(some) == {"/m/a": "a1", "/m/deep/b": "b", "/away": "c"}


def test_restore_when_its_place_became_a_folder(some, root):
    some.delete("/c")
    some.upload(b"x", filename="x", path="/c")
    refused(some, root, Conflict, "/c is a folder in session w/s", lambda: some.restore("/c"))
    some.delete("/m", recursive=True)
    some.upload(b"file", filename="m")
    refused(some, root, Conflict, "/m is a file in session w/s", lambda: some.restore("/m/a"))


def test_restore_of_content_that_is_gone(some, root):
    some.delete("/m/a")
    for path in stored(root):
        path.unlink()
    refused(some, root, NotFound, "/m/a: its content was already collected", lambda: some.restore("/m/a"))


@pytest.mark.parametrize(
    ("version", "error"), [("x", InvalidType), (1.5, InvalidType), (-1, InvalidInput), (9, NotFound)]
)
def test_restore_of_versions_that_are_not(some, root, version, error):
    refused(some, root, error, "version|has no 'v9'; it has v1", lambda: some.restore("/m/a", version=version))


def test_delete_and_restore_again_and_again(some):
    for _ in range(3):
        some.delete("/m/a")
        some.restore("/m/a")
    assert [r["version"] for r in some.history("/m/a")] == [1]
    some.move("/m/a", "/z")
    some.delete("/z")
    assert some.restore("/z")["path"] == "/"


# ---- aliases -----------------------------------------------------------------------------------------------------


def test_alias(some):
    some.upload(b"a2", filename="a", path="/m")
    assert some.alias("/m/a", "best")["version"] == 2
    assert some.alias("/m/a@v1", "first")["version"] == 1
    assert some.read_bytes("/m/a@best") == b"a2"
    assert some.read_bytes("/m/a@first") == b"a1"
    assert some.get("/m/a@first")["version"] == 1
    some.upload(b"a3", filename="a", path="/m")
    assert some.read_bytes("/m/a@best") == b"a2"  # it stays where it was put
    assert some.alias("/m/a@first", "best")["version"] == 1  # an alias of an alias' version
    assert some.read_bytes("/m/a@best") == b"a1"
    assert some.aliases("/m/a") == {"best": 1, "first": 1}
    assert some.alias("/m/a", "best", remove=True) is None
    assert some.aliases("/m/a") == {"first": 1}
    with pytest.raises(NotFound, match="/m/a in session w/s has no 'best'; it has v1, v2, v3, first"):
        some.get("/m/a@best")


def test_aliases_belong_to_one_file(some):
    some.alias("/m/a", "best")
    some.alias("/c", "best")
    assert some.read_bytes("/m/a@best") == b"a1"
    assert some.read_bytes("/c@best") == b"c"
    assert some.aliases("/m/deep/b") == {}


def test_aliases_wait_for_a_deleted_file(some):
    some.alias("/m/a", "best")
    some.delete("/m/a")
    for call in (lambda: some.get("/m/a@best"), lambda: some.aliases("/m/a"), lambda: some.alias("/m/a", "x")):
        with pytest.raises(NotFound, match="was deleted"):
            call()
    some.restore("/m/a")
    assert some.read_bytes("/m/a@best") == b"a1"


ALIASES = [
    ("/m/a", "v3", InvalidInput, "would hide the version"),
    ("/m/a", "a b", InvalidInput, "1 to 128 printable characters"),
    ("/m/a", "", InvalidInput, "1 to 128"),
    ("/m/a", "a\0", InvalidInput, "printable"),
    ("/m/a", None, InvalidType, "alias must be text"),
    ("/m", "best", NotFound, "is a folder"),
    ("/unknown", "best", NotFound, "no file"),
    ("/m/a@v2", "best", NotFound, "has no 'v2'; it has v1"),
]


@pytest.mark.parametrize(("file", "name", "error", "message"), ALIASES, ids=range(len(ALIASES)))
def test_aliases_that_are_refused(some, root, file, name, error, message):
    refused(some, root, error, message, lambda: some.alias(file, name))


def test_alias_that_is_not_there_cannot_be_removed(some, root):
    refused(some, root, NotFound, "/m/a has no alias 'best'", lambda: some.alias("/m/a", "best", remove=True))


# ---- across a checkpoint and another process ---------------------------------------------------------------------


def test_everything_survives_reopening_and_a_checkpoint(root):
    (root.parent / "many").mkdir()
    for number in range(600):
        (root.parent / f"many/{number}").write_bytes(b"%d" % number)
    with Session("s", "w", local_path=root) as session:
        files = session.files()
        files.upload(b"1", filename="a")
        files.upload(b"2", filename="a", tags=["t"])
        files.alias("a@v1", "best")
        files.upload(b"gone", filename="gone")
        files.delete("gone")
        files.upload(root.parent / "many", path="/many")
        files.move("a", "/b")
        files.copy("/b@v1", "/c")
        files.delete("/many/7")
        files.update("/many/8", tags=["eight"])
        seen = [
            files.list(),
            files.history("/b"),
            files.history("gone"),
            files.aliases("/b"),
            files.find(tags=["eight"]),
        ]
    assert list(root.rglob("*.sqlite")) != []
    with Session("s", "w", local_path=root) as session:
        files = session.files()
        again = [
            files.list(),
            files.history("/b"),
            files.history("gone"),
            files.aliases("/b"),
            files.find(tags=["eight"]),
        ]
        assert again == seen
        assert files.read_bytes("/b@best") == b"1"
        assert files.restore("gone")["version"] == 1
        assert files.restore("/many/7")["version"] == 1
        assert files.move("/many", "/few")[0]["path"] == "/few"
        assert files.list(path="/many") == []
        assert len(files.list(path="/few")) == 600
        assert files.delete("/few", recursive=True)["count"] == 600
        assert keys(files.list()) == ["/b", "/gone", "/c"]
    assert os.listdir(root / ".dreamlake/tmp") == []
