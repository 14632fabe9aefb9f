"""Reading files: records, references, listings, streams, downloads, and what damaged content does."""

from __future__ import annotations

import io
import os
import socket
import stat
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from api_support import overwrite, run_powerless, stored, tree

from dreamlake import Session
from dreamlake.errors import Corrupt, InvalidInput, InvalidType, NotFound

KEYS = {
    "id", "sessionId", "path", "filename", "description", "tags", "contentType", "sizeBytes", "checksum", "metadata",
    "uploadedAt", "updatedAt", "deletedAt", "version",
}  # fmt: skip


@pytest.fixture
def tmp_path(memory_path):
    return memory_path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def files(root, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with Session("s", "w", local_path=root) as session:
        yield session.files()


@pytest.fixture
def some(files):
    files.upload(b"one", filename="a.pth", path="/models", tags=["x"])
    files.upload(b"two", filename="b.pth", path="/models/deep", tags=["x", "y"])
    files.upload(b"three", filename="c.txt", path="/models2", tags=["z"])
    files.upload(b"four", filename="d", path="/")
    return files


def names(records):
    return [record["filename"] for record in records]


# ---- records -----------------------------------------------------------------------------------------------------


def test_every_method_gives_records_with_all_keys(some):
    records = [
        some.get("d"),
        some.update("d", tags=["t"]),
        some.move("d", "/e"),
        some.copy("/e", "/f"),
        some.alias("/f", "best"),
        *some.list(),
        *some.find("*.pth"),
        *some.history("/e"),
        some.restore("/e@v1"),
        some.save_text("x", "x"),
    ]
    for record in records:
        assert set(record) >= KEYS
        assert len(record["id"]) == 32
        assert record["sessionId"] == "w/s"
        assert type(record["tags"]) is list
        assert type(record["sizeBytes"]) is int
        assert len(record["checksum"]) == 64
        assert set(record["checksum"]) <= set("0123456789abcdef")
        for key in ("uploadedAt", "updatedAt"):
            assert record[key].endswith("Z")
            assert datetime.fromisoformat(record[key][:-1] + "+00:00").tzinfo is not None


def test_records_are_the_callers_own(some):
    for take in (lambda: some.get("/models/a.pth"), lambda: some.list()[0], lambda: some.find("a.pth")[0]):
        record = take()
        record["tags"].append("mine")
        record["metadata"]["mine"] = [1]
        record["filename"] = "mine"
        assert take()["tags"] == ["x"]
        assert take()["metadata"] == {}
        assert take()["filename"] == "a.pth"


# ---- list --------------------------------------------------------------------------------------------------------


def test_list_is_in_upload_order(some):
    assert names(some.list()) == ["a.pth", "b.pth", "c.txt", "d"]
    some.upload(b"new", filename="a.pth", path="/models")
    assert names(some.list()) == ["b.pth", "c.txt", "d", "a.pth"]
    some.delete("c.txt" if some.exists("c.txt") else "/models2/c.txt")
    assert names(some.list()) == ["b.pth", "d", "a.pth"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, "abcd"),
        ("/", "abcd"),
        ("", "abcd"),
        ("/models", "ab"),
        ("models", "ab"),
        ("/models/", "ab"),
        ("/models/deep", "b"),
        ("/models2", "c"),
        ("/model", ""),
        ("/Models", ""),
        ("/models/a.pth", ""),
        ("/unknown/deeper", ""),
    ],
)
def test_list_of_a_folder(some, path, expected):
    assert "".join(name[0] for name in names(some.list(path=path))) == expected


@pytest.mark.parametrize(
    ("tags", "match", "expected"),
    [
        (None, "any", "abcd"),
        ([], "any", "abcd"),
        ([], "all", "abcd"),
        (["x"], "any", "ab"),
        (["x", "z"], "any", "abc"),
        (("y",), "any", "b"),
        (["x", "y"], "all", "b"),
        (["x", "z"], "all", ""),
        (["unknown"], "any", ""),
        (["X"], "any", ""),
    ],
)
def test_list_by_tags(some, tags, match, expected):
    assert "".join(name[0] for name in names(some.list(tags=tags, match=match))) == expected
    assert names(some.list(path="/models2", tags=["z"])) == ["c.txt"]
    assert some.list(path="/models", tags=["z"]) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": ".."}, InvalidInput, "leave its folder"),
        ({"path": "a\\b"}, InvalidInput, "reserved"),
        ({"path": 5}, InvalidType, "path must be text"),
        ({"tags": "x"}, InvalidType, r"write tags=\['x'\]"),
        ({"tags": [5]}, InvalidType, "tag 5 must be text"),
        ({"match": "some"}, InvalidInput, "match='some'; use 'any' or 'all'"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_wrong_list(some, arguments, error, message):
    with pytest.raises(error, match=message):
        some.list(**arguments)


# ---- references --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/models/a.pth", "models/a.pth", "//models//a.pth", "./models/./a.pth", "models/a.pth/"]
)
def test_spellings_of_a_path(some, path):
    assert some.read_bytes(path) == b"one"
    assert some.exists(path)


def test_id_and_record_name_the_newest_version(some):
    record = some.get("/models/a.pth")
    assert some.get(record["id"]) == some.get(record) == record
    newer = some.upload(b"1.2", filename="a.pth", path="/models")
    for old in (record, record["id"]):
        with pytest.raises(
            NotFound, match=r"a\.pth with id .* was replaced by version 2 .* old one is /models/a\.pth@v1"
        ):
            some.get(old)
        assert not some.exists(old)
    assert some.read_bytes(newer["id"]) == b"1.2"
    assert some.read_bytes("/models/a.pth@v1") == b"one"
    some.delete(newer)
    for gone in (newer, newer["id"], "/models/a.pth", "/models/a.pth@v1", "/models/a.pth@v2"):
        with pytest.raises(NotFound, match=r"/models/a\.pth was deleted from session w/s; restore\('/models/a\.pth'\)"):
            some.get(gone)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, what: f.get(what),
        lambda f, what: f.open(what),
        lambda f, what: f.read_bytes(what),
        lambda f, what: f.read_text(what),
        lambda f, what: f.download(what),
        lambda f, what: f.history(what),
        lambda f, what: f.aliases(what),
        lambda f, what: f.update(what, tags=[]),
        lambda f, what: f.move(what, "/new"),
        lambda f, what: f.copy(what, "/new"),
        lambda f, what: f.delete(what),
        lambda f, what: f.restore(what),
        lambda f, what: f.alias(what, "best"),
    ],
)
@pytest.mark.parametrize(
    "what", ["/unknown", "/models/unknown?.pth", "0" * 32, "/models/a.pth@best", "/models/a.pth@v7", "@v1"]
)
def test_unknown_is_file_not_found(some, call, what, tmp_path):
    before = some.list()
    with pytest.raises(FileNotFoundError) as caught:
        call(some, what)
    assert what.partition("@")[0].strip("/") in str(caught.value)
    assert "w/s" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert some.list() == before
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f.get("/models"),
        lambda f: f.read_bytes("models/"),
        lambda f: f.open("/"),
        lambda f: f.update("/", tags=[]),
    ],
)
def test_folder_where_a_file_is_meant(some, call):
    with pytest.raises(NotFound, match=r"is a folder in session w/s, and a file is needed; list it with path='/"):
        call(some)
    assert not some.exists("/models")
    assert not some.exists("/")


def test_root_of_an_empty_session(files):
    with pytest.raises(NotFound, match="no file '/'"):
        files.get("/")
    assert files.list(path="/") == []


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("", InvalidInput, "path of the file is empty"),
        ("..", InvalidInput, "leave its folder"),
        ("/models/../d", InvalidInput, "leave its folder"),
        ("a\0", InvalidInput, r"U\+0000"),
        ("a\\b", InvalidInput, "separator"),
        ("C:/x", InvalidInput, "reserved character ':'"),
        (None, InvalidType, "by its path, its id or its record, not by a NoneType"),
        (5, InvalidType, "not by a int"),
        (b"/d", InvalidType, "not by a bytes"),
        ({"path": "/d"}, InvalidInput, "not a file record: it has no 'id'"),
        ({"id": 5}, InvalidType, "not by a int"),
    ],
)
def test_reference_that_is_none(some, what, error, message):
    for call in (some.get, some.exists, some.read_bytes, some.delete, some.history, some.restore):
        with pytest.raises(error, match=message):
            call(what)
    assert len(some.list()) == 4


def test_names_with_at_signs(files):
    files.upload(b"plain", filename="a", path="/m")
    files.upload(b"old", filename="a@b.txt", path="/m")
    files.upload(b"new", filename="a@b.txt", path="/m")
    files.upload(b"folder", filename="x", path="/m@v1")
    files.upload(b"file", filename="a@best", path="/m")
    assert files.read_bytes("/m/a@b.txt") == b"new"
    assert files.read_bytes("/m/a@b.txt@v1") == b"old"
    assert files.read_bytes("/m@v1/x") == b"folder"
    files.alias("/m/a@b.txt@v1", "best")
    assert files.read_bytes("/m/a@b.txt@best") == b"old"
    files.alias("/m/a", "best")
    assert files.read_bytes("/m/a@best") == b"file"  # a file of that very name comes first
    assert files.aliases("/m/a") == {"best": 1}
    with pytest.raises(NotFound, match=r"/m/a in session w/s has no 'worst'; it has v1, best"):
        files.get("/m/a@worst")


@pytest.mark.parametrize(("name", "alias"), [("x" * 255, "best"), ("a", "é" * 128), ("é" * 127, "日" * 128)])
def test_long_names_with_long_aliases(files, name, alias):
    files.upload(b"old", filename=name, path="/m")
    files.upload(b"new", filename=name, path="/m")
    files.alias(f"/m/{name}@v1", alias)
    assert files.read_bytes(f"/m/{name}@{alias}") == files.read_bytes(f"m/{name}@v1") == b"old"
    with pytest.raises(NotFound, match="has no 'v3'; it has v1, v2"):
        files.get(f"/m/{name}@v3")
    with pytest.raises(InvalidInput, match="the limit is 255"):
        files.get(f"/m/{name}{'y' * 255}@v1")


def test_a_path_that_looks_like_an_id(files):
    record = files.upload(b"a", filename="a")
    files.upload(b"odd", filename=record["id"])
    assert files.read_bytes(record["id"]) == b"odd"


def test_history(files):
    ids = [files.upload(bytes([n]), filename="a", metadata={"n": n})["id"] for n in range(3)]
    history = files.history("a")
    assert [record["id"] for record in history] == ids[::-1]
    assert [record["version"] for record in history] == [3, 2, 1]
    assert [record["metadata"]["n"] for record in history] == [2, 1, 0]
    assert [files.read_bytes(f"/a@v{record['version']}") for record in history] == [b"\2", b"\1", b"\0"]
    files.delete("a")
    assert [(r["version"], r["deletedAt"] is not None) for r in files.history("a")] == [(3, True), (2, True), (1, True)]


# ---- content -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 1 << 20, (1 << 20) + 1, 5_000_003])
def test_content_comes_back(files, size, tmp_path):
    data = os.urandom(size)
    record = files.upload(data, filename="x.bin")
    assert files.read_bytes(record) == data
    with files.open(record) as stream:
        assert stream.read() == data
    assert Path(files.download(record, tmp_path / "out")).read_bytes() == data


def test_text(files):
    files.upload("ü\n".encode("utf-16"), filename="x.txt")
    assert files.read_text("x.txt", "utf-16") == "ü\n"
    with pytest.raises(UnicodeDecodeError):
        files.read_text("x.txt")


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_stream_is_a_seekable_binary_file(files, size):
    data = os.urandom(size)
    files.upload(data, filename="x.bin")
    with files.open("x.bin") as stream:
        assert stream.readable()
        assert stream.seekable()
        assert not stream.writable()
        assert stream.read(10) == data[:10]
        assert stream.tell() == 10
        assert stream.seek(-5, io.SEEK_END) == size - 5
        assert stream.read() == data[-5:]
        assert stream.read() == b""
        assert stream.seek(3) == 3
        assert stream.seek(4, io.SEEK_CUR) == 7
        buffer = bytearray(20)
        assert stream.readinto(buffer) == 20
        assert buffer == data[7:27]
        assert stream.readinto(bytearray(0)) == 0
        assert stream.seek(size + 10) == size + 10
        assert stream.read(1) == b""
        with pytest.raises(ValueError, match="negative seek"):
            stream.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            stream.write(b"x")
        for at in range(0, size, max(1, size // 37)):
            stream.seek(at)
            assert stream.read(13) == data[at : at + 13]
    with pytest.raises(ValueError, match="closed"):
        stream.read()


def test_stream_works_with_readers_that_jump(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
        archive.writestr("b.bin", os.urandom(200_000))
    files.upload(buffer.getvalue(), filename="x.zip")
    with files.open("x.zip") as stream, zipfile.ZipFile(stream) as archive:
        assert archive.testzip() is None
        assert archive.read("a.txt") == b"hello"


def test_open_stream_outlives_deletion_and_closing(root):
    session = Session("own", "w", local_path=root).open()
    files = session.files()
    files.upload(b"x" * 200_000, filename="a")
    stream = files.open("a")
    files.delete("a")
    session.close()
    assert stream.read() == b"x" * 200_000
    stream.close()


def test_lines_and_iteration(files):
    files.upload(b"one\ntwo\nthree", filename="x.txt")
    with files.open("x.txt") as stream:
        assert list(stream) == [b"one\n", b"two\n", b"three"]


# ---- damage ------------------------------------------------------------------------------------------------------


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


DAMAGES = {
    "flipped": flip,
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"!",
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("keep_mark", [False, True], ids=["marked", "unmarked"])
@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_damaged_content_never_reaches_the_user(files, root, damage, keep_mark, size, tmp_path):
    record = files.upload(os.urandom(size), filename="x.bin", path="/m")
    (copy,) = stored(root)
    overwrite(copy, damage(copy.read_bytes()), keep_mark=keep_mark)
    dest = tmp_path / "dest"
    dest.write_bytes(b"precious")
    for read in (
        lambda: files.read_bytes("/m/x.bin"),
        lambda: files.read_text("/m/x.bin"),
        lambda: files.download("/m/x.bin", dest),
        lambda: files.download("/m/x.bin", tmp_path / "new"),
        lambda: files.download("/m", tmp_path / "tree"),
    ):
        with pytest.raises(Corrupt, match=r"^/m/x\.bin@v1 in session w/s: .*damaged") as caught:
            read()
        assert isinstance(caught.value, ValueError)
        assert record["checksum"] in str(caught.value)
    assert dest.read_bytes() == b"precious"
    assert not (tmp_path / "new").exists()
    assert tree(tmp_path / "tree") == {}
    assert sorted(os.listdir(tmp_path)) == ["dest", "here", "lake", "tree"]
    if damage is not DAMAGES["longer"] or not keep_mark:  # with its mark kept, a copy is read as long as it should be
        with pytest.raises(ValueError, match=r"damaged|ends after"), files.open("/m/x.bin") as stream:
            stream.read()


def test_broken_mark_is_noticed_before_the_first_byte(files, root):
    files.upload(os.urandom(3_000_000), filename="x.bin")
    (copy,) = stored(root)
    overwrite(copy, flip(copy.read_bytes()), keep_mark=False)
    with pytest.raises(Corrupt, match=r"/x\.bin@v1"):
        files.open("x.bin")


def test_touched_but_whole_copy_is_read(files, root):
    files.upload(b"whole", filename="x")
    (copy,) = stored(root)
    overwrite(copy, copy.read_bytes(), keep_mark=False)
    assert files.read_bytes("x") == b"whole"
    with files.open("x") as stream:
        assert stream.read() == b"whole"


def test_lost_content_names_the_file_and_the_rest_stays_readable(some, root, tmp_path):
    for copy in stored(root):
        if copy.read_bytes() == b"one":
            copy.unlink()
    for read in (some.read_bytes, some.open, lambda f: some.download(f, tmp_path / "out")):
        with pytest.raises(NotFound, match=r"^/models/a\.pth@v1 in session w/s: no copy of .*dreamlake verify"):
            read("/models/a.pth")
    assert not (tmp_path / "out").exists()
    assert some.read_bytes("/models/deep/b.pth") == b"two"
    assert names(some.list()) == ["a.pth", "b.pth", "c.txt", "d"]


def test_uploading_again_heals(files, root):
    files.upload(b"content", filename="x")
    (copy,) = stored(root)
    overwrite(copy, b"CONTENT", keep_mark=False)
    files.upload(b"content", filename="y")
    assert files.read_bytes("x") == b"content"


# ---- download ----------------------------------------------------------------------------------------------------


def test_download_destinations(some, tmp_path, monkeypatch):
    here = tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert some.download("/models/a.pth") == "a.pth"
    assert some.download("/models/a.pth", "b") == "b"
    assert some.download("/models/a.pth", here / "c") == str(here / "c")
    assert some.download("/models/a.pth", "new/deep/") == "new/deep/a.pth"
    assert some.download("/models/a.pth", "new") == "new/a.pth"
    assert some.download("/models/a.pth", "other/name.bin") == "other/name.bin"
    assert some.download("/models/a.pth", "~/x") == str(tmp_path / "home/x")
    assert some.download("/models/a.pth@v1", "v1") == "v1"
    paths = ["a.pth", "b", "c", "new/deep/a.pth", "new/a.pth", "other/name.bin", "../home/x", "v1"]
    assert [(here / path).read_bytes() for path in paths] == [b"one"] * len(paths)
    assert sum(path.is_file() for path in here.rglob("*")) == len(paths) - 1  # nothing else


def test_download_replaces_a_file_but_keeps_a_link(some, tmp_path):
    target = tmp_path / "elsewhere" / "real"
    target.parent.mkdir()
    target.write_bytes(b"old and longer")
    link = tmp_path / "here" / "link"
    link.symlink_to(target)
    assert some.download("d", link) == str(link)
    assert link.is_symlink()
    assert target.read_bytes() == b"four"
    dangling = tmp_path / "here" / "dangling"
    dangling.symlink_to(tmp_path / "not yet" / "there")
    some.download("d", dangling)
    assert (tmp_path / "not yet" / "there").read_bytes() == b"four"
    to_folder = tmp_path / "here" / "folder"
    to_folder.symlink_to(tmp_path / "elsewhere")
    assert some.download("d", to_folder) == str(to_folder / "d")
    assert (tmp_path / "elsewhere" / "d").read_bytes() == b"four"


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_download_through_a_link_to_another_file_system(some, tmp_path):
    target = Path(f"/dev/shm/dreamlake-test-{os.getpid()}")
    link = tmp_path / "link"
    link.symlink_to(target)
    try:
        some.download("d", link)
        assert target.read_bytes() == b"four"
    finally:
        target.unlink(missing_ok=True)


def test_new_file_has_ordinary_permissions(some, tmp_path):
    before = os.umask(0o027)
    try:
        some.download("d", tmp_path / "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    (tmp_path / "x").write_bytes(b"mine now")  # a stored copy is never handed out as the user's file
    assert some.read_bytes("d") == b"four"


def test_download_of_a_folder(some, tmp_path):
    assert some.download("/models", tmp_path / "out") == str(tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.pth": b"one", "deep": None, "deep/b.pth": b"two"}
    assert some.download("/", f"{tmp_path}/all/") == f"{tmp_path}/all/"
    assert {k: v for k, v in tree(tmp_path / "all").items() if v is not None} == {
        "models/a.pth": b"one", "models/deep/b.pth": b"two", "models2/c.txt": b"three", "d": b"four",
    }  # fmt: skip
    assert some.download("/models") == "."
    assert tree(tmp_path / "here") == tree(tmp_path / "out")


def special(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    else:
        (path / "d").mkdir(parents=True)


@pytest.mark.parametrize("kind", ["fifo", "socket", "loop", "folder"])
def test_download_onto_what_is_no_file(some, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short name for the socket
    special(Path("x"), kind)
    with pytest.raises(InvalidInput, match=r"x(/d)? is not a regular file; choose another destination"):
        some.download("d", "x")
    with pytest.raises(InvalidInput, match="not a regular file"):
        some.download("d", "/dev/null")


@pytest.mark.parametrize(
    ("dest", "error", "message"),
    [
        ("", InvalidInput, "dest is empty"),
        ("a\0b", InvalidInput, "dest .* contains a NUL"),
        (5, InvalidType, "dest must be text or a path of text, not int"),
        (b"x", InvalidType, "dest must be text or a path of text, not bytes"),
        ("file/inside", InvalidInput, r"file/inside(/a\.pth)? cannot be made: a folder above it is a file"),
        ("file/", InvalidInput, "cannot be made: a folder above it is a file"),
        ("x" * 300, OSError, "File name too long"),
    ],
)
def test_wrong_destination(some, dest, error, message, tmp_path):
    (tmp_path / "here/file").write_bytes(b"mine")
    with pytest.raises(error, match=message):
        some.download("d", dest)
    with pytest.raises(error, match=message):
        some.download("/models", dest)
    assert tree(tmp_path / "here") == {"file": b"mine"}


def test_destination_without_permission(some, root, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    printed = run_powerless(
        """
        from dreamlake import Session
        with Session("s", "w", local_path=sys.argv[1]) as session:
            try:
                session.files().download("d", sys.argv[2] + "/x")
            except PermissionError as error:
                print(error.filename.startswith(sys.argv[2]))
        """,
        root,
        tmp_path / "closed",
    )
    assert printed == "True\n"
    assert os.listdir(tmp_path / "closed") == []


def test_interrupted_download_leaves_nothing(some, root, tmp_path, monkeypatch):
    from dreamlake.ports import OsWriter

    (tmp_path / "x").write_bytes(b"old")

    def interrupted(self, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(OsWriter, "write", interrupted)
    for dest in ("x", "y"):
        with pytest.raises(KeyboardInterrupt):
            some.download("d", tmp_path / dest)
    assert sorted(os.listdir(tmp_path)) == ["here", "lake", "x"]
    assert (tmp_path / "x").read_bytes() == b"old"


# ---- without the right to write ----------------------------------------------------------------------------------


def test_reading_needs_no_right_to_write(root):
    with Session("s", "w", local_path=root) as session:
        files = session.files()
        (root.parent / "many").mkdir()
        for number in range(600):  # enough for a checkpoint; some records follow it
            (root.parent / f"many/{number}.txt").write_bytes(b"%d" % number)
        files.upload(root.parent / "many", path="/many")
        files.delete("/many/7.txt")
        files.alias("/many/8.txt", "best")
        session.parameters().set(lr=0.1)
        session.log("hello")
        session.track("loss").append(value=1)
    assert list(root.rglob("*.sqlite")) != []
    before = tree(root)
    closed = [root, *(path for path in root.rglob("*") if path.is_dir())]
    try:
        for path in closed:
            path.chmod(0o555)
        for path in root.rglob("*.json*"):
            path.chmod(0o444)
        printed = run_powerless(
            """
            from dreamlake import Session, open_lake
            root = sys.argv[1]
            with Session("s", "w", local_path=root) as session:
                files = session.files()
                print(len(files.list()), len(files.find("/many/1*.txt")), files.read_text("/many/8.txt@best"))
                print(files.exists("/many/7.txt"), len(files.history("/many/7.txt")), files.open("/many/9.txt").read())
                print(session.parameters().get(), len(session.logs()), session.track("loss").read()["total"])
                print(session.info["name"], len(session.tracks().list_all()))
                for write in (
                    lambda: files.upload(b"x", filename="x"),
                    lambda: files.delete("/many/9.txt"),
                    lambda: session.parameters().set(lr=1),
                    lambda: session.log("no"),
                    lambda: session.track("loss").append(value=2),
                ):
                    try:
                        write()
                    except PermissionError as error:
                        print(str(error.filename).startswith(root), end=" ")
                print(len(files.list()))
            print([str(info.key) for info in open_lake(root).sessions()])
            try:
                Session("new", "w", local_path=root).open()
            except PermissionError:
                print("no new one")
            """,
            root,
        )
    finally:
        for path in closed:
            path.chmod(0o755)
    assert printed.splitlines() == [
        "599 111 8",
        "False 1 b'9'",
        "{'lr': 0.1} 1 1",
        "s 1",
        "True True True True True 599",
        "['w/s']",
        "no new one",
    ]
    assert tree(root) == before


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_reading_without_session_json_needs_no_right_to_write(root, damage):
    with Session("s", "w", local_path=root, description="about") as session:
        session.files().upload(b"x", filename="x")
    path = root / "w/s/session.json"
    path.unlink() if damage == "removed" else path.write_bytes(b"")
    closed = [root, *(path for path in root.rglob("*") if path.is_dir())]
    try:
        for folder in closed:
            folder.chmod(0o555)
        printed = run_powerless(
            """
            from dreamlake import Session
            with Session("s", "w", local_path=sys.argv[1]) as session:
                print(session.files().read_text("x"), session.description)
            """,
            root,
        )
    finally:
        for folder in closed:
            folder.chmod(0o755)
    assert printed == "x about\n"
