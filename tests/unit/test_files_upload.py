"""``upload``: what may be given, what comes back, what is refused and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import json
import math
import os
import socket
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from api_support import FailingFs, run_powerless, scratch, stored, tree

from dreamlake import Session
from dreamlake.errors import Conflict, InvalidInput, InvalidType, NotFound
from dreamlake.operations.taking import Taker
from dreamlake.ports import Ports

LARGE = 3 << 20  # beyond what is read at once


@pytest.fixture
def tmp_path(memory_path):
    return memory_path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def here(tmp_path, monkeypatch):
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def files(root, here):
    with Session("s", "w", local_path=root) as session:
        yield session.files()


def unchanged(files, root):
    """A snapshot of the lake, to compare with."""
    return tree(root), files.list()


# ---- what may be given -------------------------------------------------------------------------------------------


class Place:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.mark.parametrize("form", ["text", "relative", "dotted", "Path", "PathLike", "home", "link"])
def test_a_path(files, here, form, monkeypatch):
    (here / "model.pth").write_bytes(b"weights")
    monkeypatch.setenv("HOME", str(here))
    (here / "link").symlink_to("model.pth")
    given = {
        "text": str(here / "model.pth"),
        "relative": "model.pth",
        "dotted": "./../here/model.pth",
        "Path": here / "model.pth",
        "PathLike": Place(here / "model.pth"),
        "home": "~/model.pth",
        "link": "link",
    }[form]
    record = files.upload(given, path="/models")
    name = "link" if form == "link" else "model.pth"
    assert (record["path"], record["filename"]) == ("/models", name)
    assert files.read_bytes(record) == b"weights"
    assert (here / "model.pth").read_bytes() == b"weights"
    renamed = files.upload(given, path="/models", filename="final.pth")
    assert renamed["filename"] == "final.pth"


class Slow(io.RawIOBase):
    """A stream that cannot seek and gives little at a time."""

    def __init__(self, data):
        self.left = data

    def readable(self):
        return True

    def read(self, size=-1):
        piece, self.left = self.left[: min(size, 70_001)], self.left[min(size, 70_001) :]
        return piece


class NoStream:
    """The least that reading needs; gives other bytes-like objects."""

    def __init__(self, data):
        self.stream = io.BytesIO(data)

    def read(self, size):
        return bytearray(self.stream.read(size))


def spooled(data):
    file = tempfile.SpooledTemporaryFile(max_size=1000)  # noqa: SIM115 - the test closes it
    file.write(data)
    file.seek(0)
    return file


def zipped(data):
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data, 1)))


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, LARGE])
@pytest.mark.parametrize(
    "form", [bytes, bytearray, memoryview, io.BytesIO, Slow, NoStream, spooled, zipped], ids=lambda f: f.__name__
)
def test_content(files, root, form, size):
    data = os.urandom(size)
    given = form(data)
    record = files.upload(given, filename="x.bin")
    assert (record["sizeBytes"], record["checksum"]) == (size, hashlib.sha256(data).hexdigest())
    assert files.read_bytes(record) == data
    assert scratch(root) == []
    if hasattr(given, "close"):
        assert not given.closed  # it is the caller's
        given.close()


@pytest.mark.parametrize("size", [1000, LARGE])
def test_open_file_is_read_from_where_it_stands(files, here, size):
    data = os.urandom(size)
    (here / "x").write_bytes(data)
    with open("x", "rb") as file:
        file.read(10)
        assert files.read_bytes(files.upload(file, filename="rest")) == data[10:]
        assert file.tell() == size
    with open("x", "rb", buffering=0) as file:
        assert files.read_bytes(files.upload(file, filename="all")) == data


def test_pipe(files):
    data = os.urandom(LARGE)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        writer = threading.Thread(target=lambda: process.stdin.write(data) and process.stdin.close())
        writer.start()
        record = files.upload(process.stdout, filename="from-a-pipe")
        writer.join()
    assert files.read_bytes(record) == data


def test_content_that_looks_like_the_stores_own(files, root):
    from dreamlake.content import frame

    for size in (0, 100, LARGE):
        data = frame.raw_header() + bytes(size)
        assert files.read_bytes(files.upload(data, filename=f"{size}")) == data
        with files.open(str(size)) as stream:
            assert stream.read() == data


# ---- the record --------------------------------------------------------------------------------------------------


def test_record(files, here):
    (here / "model.pth").write_bytes(b"weights")
    before = datetime.now(timezone.utc)
    record = files.upload("model.pth", path="models/", description="best", tags=["a", "b"], metadata={"epoch": 3})
    after = datetime.now(timezone.utc)
    assert set(record) == {
        "id", "sessionId", "path", "filename", "description", "tags", "contentType", "sizeBytes", "checksum",
        "metadata", "uploadedAt", "updatedAt", "deletedAt", "version",
    }  # fmt: skip
    assert (record["sessionId"], record["path"], record["filename"]) == ("w/s", "/models", "model.pth")
    assert (record["description"], record["tags"], record["metadata"]) == ("best", ["a", "b"], {"epoch": 3})
    assert (record["sizeBytes"], record["checksum"]) == (7, hashlib.sha256(b"weights").hexdigest())
    assert (record["contentType"], record["version"], record["deletedAt"]) == ("application/octet-stream", 1, None)
    assert record["uploadedAt"] == record["updatedAt"]
    assert before <= datetime.fromisoformat(record["uploadedAt"].replace("Z", "+00:00")) <= after
    assert files.get("/models/model.pth") == record
    assert files.list() == [record]


def test_record_without_attributes(files):
    record = files.upload(b"x", filename="x")
    assert (record["description"], record["tags"], record["metadata"], record["path"]) == (None, [], {}, "/")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pth", "application/octet-stream"),
        ("a.PT", "application/octet-stream"),
        ("a.safetensors", "application/octet-stream"),
        ("a.npz", "application/octet-stream"),
        ("a.json", "application/json"),
        ("a.yaml", "application/yaml"),
        ("a.csv", "text/csv"),
        ("a.txt", "text/plain"),
        ("a.log", "text/plain"),
        ("a.md", "text/markdown"),
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.pdf", "application/pdf"),
        ("a.html", "text/html"),
        ("a.unknown-suffix", "application/octet-stream"),
        ("noname", "application/octet-stream"),
        (".json", "application/octet-stream"),
    ],
)
def test_content_type(files, name, kind):
    assert files.upload(b"x", filename=name)["contentType"] == kind


# ---- paths that are no text, and sources that are no files ---------------------------------------------------


def test_logical_paths_of_pathlib(files):
    record = files.upload(b"x", filename="a.txt", path=PurePosixPath("/models/deep"))
    assert record["path"] == "/models/deep"
    here = PurePosixPath("/models")
    assert files.list(path=here) == files.find(path=here) == [record]
    assert files.get(here / "deep/a.txt") == record
    assert files.read_bytes(Path("/models/deep/a.txt")) == b"x"
    assert files.move(here / "deep/a.txt", here / "b.txt")["path"] == "/models"
    assert files.exists(here / "b.txt")
    with pytest.raises(InvalidType, match="path must be text, not BytesPath"):
        files.upload(b"x", filename="c", path=BytesPath())
    with pytest.raises(InvalidInput, match="leave its folder"):
        files.upload(b"x", filename="c", path=PurePosixPath("../up"))


class BytesPath:
    def __fspath__(self):
        return b"/models"


@pytest.mark.parametrize("source", [3, None, 1.5, ["x"], io.StringIO("text")], ids=range(5))
@pytest.mark.parametrize("named", [{}, {"filename": "x"}])
def test_source_that_is_no_source(files, source, named):
    kind = type(source).__name__
    with pytest.raises(InvalidType, match=f"path, bytes or a file opened in binary mode .* not {kind}"):
        files.upload(source, **named)


# ---- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        ("/models", "/models"),
        ("models", "/models"),
        ("/models/", "/models"),
        ("//models//", "/models"),
        ("./models/.", "/models"),
        ("/", "/"),
        ("", "/"),
        (".", "/"),
        ("a/b c/日本", "/a/b c/日本"),
        ("/" + "/".join("x" * 1 for _ in range(63)), "/" + "/".join("x" for _ in range(63))),
    ],
)
def test_path_is_normalised(files, path, reported):
    record = files.upload(b"x", filename="f", path=path)
    assert record["path"] == reported
    assert files.get(f"{reported}/f") == record
    assert files.list(path=path) == [record]


BAD_PATHS = [
    "..",
    "/..",
    "a/../b",
    "../../etc",
    "a\0b",
    "a\\b",
    "..\\..",
    "C:",
    "C:/x",
    "C:\\x",
    "a\nb",
    "\x7f",
    "\ud800",
]
BAD_PATHS += [f"a{char}b" for char in '<>:"|?*'] + ["a/" * 64, "x" * 256, ".dreamlake", "/.DREAMLAKE/tmp"]


@pytest.mark.parametrize("path", BAD_PATHS, ids=range(len(BAD_PATHS)))
def test_bad_path_writes_nothing_anywhere(files, root, here, path):
    (here / "x").write_bytes(b"x")
    before, around = unchanged(files, root), set(os.listdir(root.parent))
    for call in (
        lambda: files.upload("x", path=path),
        lambda: files.upload(b"x", filename="x", path=path),
        lambda: files.upload(here, path=path),
        lambda: files.save_text("x", "x", path=path),
    ):
        with pytest.raises(ValueError, match=r"path|folders deep"):
            call()
    assert unchanged(files, root) == before
    assert set(os.listdir(root.parent)) == around


BAD_NAMES = ["", " ", ".", "..", "a/b", "/abs", "../x", "a\\b", "a\0", "a\n", "\ud800", "x" * 256, ".dreamlake"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_bad_filename_writes_nothing(files, root, here, name):
    (here / "x").write_bytes(b"x")
    before = unchanged(files, root)
    for given in ("x", b"x", io.BytesIO(b"x")):
        with pytest.raises(InvalidInput, match="filename"):
            files.upload(given, filename=name)
    assert unchanged(files, root) == before


# ---- what is no file ---------------------------------------------------------------------------------------------


def special(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "device":
        path.symlink_to("/dev/zero")


KINDS = {
    "fifo": (InvalidInput, "x is not a regular file .a FIFO, socket or device cannot be uploaded"),
    "socket": (InvalidInput, "x is not a regular file"),
    "device": (InvalidInput, "x is not a regular file"),
    "loop": (InvalidInput, "not a usable path: 'x' .Too many levels of symbolic links"),
    "dangling": (NotFound, "no such file: x"),
    "missing": (NotFound, "no such file: x"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file(files, root, here, kind):
    special(Path("x"), kind)
    before = unchanged(files, root)
    error, message = KINDS[kind]
    with pytest.raises(error, match=message) as caught:
        files.upload("x")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FileNotFoundError) == (error is NotFound)
    assert unchanged(files, root) == before


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "loop", "dangling"])
def test_what_is_no_file_in_a_folder(files, root, here, kind):
    (here / "a/sub").mkdir(parents=True)
    (here / "a/fine").write_bytes(b"fine")
    os.chdir(here / "a/sub")
    special(Path("x[1]"), kind)
    before = unchanged(files, root)
    with pytest.raises(InvalidInput, match=r"sub/x\[1\].*leave it out with ignore=\['sub/x\[\[\]1\]'\]"):
        files.upload(here / "a")
    assert unchanged(files, root) == before
    done = files.upload(here / "a", ignore=["sub/x[[]1]"])  # as the error said
    assert [record["filename"] for record in done["files"]] == ["fine"]


def test_other_paths_that_cannot_be(files, here):
    (here / "file").write_bytes(b"x")
    for path, message in (
        ("file/inside", "not a usable path: 'file/inside'"),
        ("file/", "not a usable path: 'file/'"),
        ("missing/inside", "no such file: missing/inside"),
        ("x" * 250 + "/" + "y" * 250 + "/z" * 2000, "not a usable path"),
        ("", "file_path is empty"),
        ("a\0b", "file_path .* contains a NUL"),
    ):
        with pytest.raises(ValueError, match=message):
            files.upload(path)
    assert files.list() == []


def test_file_that_may_not_be_read(files, root, here):
    (here / "a/closed").mkdir(parents=True)
    (here / "a/secret").write_bytes(b"x")
    (here / "a/secret").chmod(0)
    (here / "a/closed").chmod(0)
    before = tree(root)
    code = """
        from dreamlake import Session
        with Session("s", "w", local_path=sys.argv[1]) as session:
            tries = [("a/secret", ""), ("a/closed/x", ""), ("a", "secret"), ("a", "closed"), ("a/closed", "")]
            for path, ignore in tries:
                try:
                    session.files().upload(path, ignore=[ignore])
                except PermissionError as error:
                    print(error.filename)
        """
    printed = run_powerless(code, root)
    (here / "a/closed").chmod(0o755)
    assert printed.splitlines() == ["a/secret", "a/closed/x", "a/closed", "a/secret", "a/closed"]
    assert tree(root) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be a path, bytes or a file opened in binary mode .'rb'., not NoneType"),
        (5, "not int"),
        (["x"], "not list"),
        (io.StringIO("x"), "not StringIO"),
        (object(), "not object"),
        (np.zeros(2), "not ndarray"),
    ],
    ids=range(6),
)
def test_source_of_another_type(files, given, message):
    with pytest.raises(InvalidType, match=message):
        files.upload(given, filename="x")
    with pytest.raises((InvalidInput, InvalidType)):
        files.upload(given)
    assert files.list() == []


def test_bytes_need_a_name(files):
    for given in (b"x", bytearray(b"x"), io.BytesIO(b"x")):
        with pytest.raises(InvalidInput, match=f"content given as {type(given).__name__} has no name.*filename="):
            files.upload(given)


def test_text_file_is_refused(files, here):
    (here / "x").write_text("x")
    with open("x", encoding="utf-8") as file, pytest.raises(InvalidType, match="'rb'"):
        files.upload(file, filename="x")


class Odd:
    """A stream that fails in its third read."""

    def __init__(self, last):
        self.reads, self.last = 0, last

    def read(self, size):
        self.reads += 1
        if self.reads < 3:
            return b"x" * size
        if isinstance(self.last, Exception):
            raise self.last
        return self.last(size) if callable(self.last) else self.last


@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (OSError(errno.EIO, "broken"), OSError, "broken"),
        ("text", InvalidInput, r"/x is not a binary stream .*gives str.*'rb'"),
        (None, InvalidInput, "gives NoneType"),
        (5, InvalidInput, "gives int"),
        (lambda size: b"x" * (size + 1), InvalidInput, "that is no stream"),
    ],
    ids=range(5),
)
def test_stream_that_breaks(files, root, last, error, message):
    before = unchanged(files, root)
    with pytest.raises(error, match=message):
        files.upload(Odd(last), filename="x")
    assert unchanged(files, root) == before
    assert scratch(root) == []


def test_filename_for_a_folder(files, here):
    with pytest.raises(InvalidInput, match="is a folder; filename='x' is for a single file"):
        files.upload(here, filename="x")


@pytest.mark.parametrize(
    "wrong", [{"colour": 1}, {"prefix": "/x"}, {"encoding": "best"}, {"include": 5}, {"ignore": [5]}], ids=range(5)
)
def test_wrong_keyword(files, here, wrong):
    (here / "x").write_bytes(b"x")
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        files.upload(here, **wrong)
    with pytest.raises(TypeError):
        files.upload("x", "/models")  # path is a keyword
    assert files.list() == []


# ---- the limit ---------------------------------------------------------------------------------------------------


def test_five_gib_by_default_before_any_hashing(files, root, here, monkeypatch):
    with open("huge", "wb") as file:
        file.truncate(5 * 1024**3 + 1)  # takes no space
    before = unchanged(files, root)

    def refuse(*arguments):
        raise AssertionError("read")

    for name in ("whole", "large", "_coded"):
        monkeypatch.setattr(Taker, name, refuse)
    start = time.monotonic()
    for given in ("huge", here):
        with pytest.raises(
            InvalidInput, match=r"huge has 5,368,709,121 bytes; the limit is 5,368,709,120\. Raise it with"
        ):
            files.upload(given)
    with open("huge", "rb") as file, pytest.raises(InvalidInput, match="/x has 5,368,709,121 bytes"):
        files.upload(file, filename="x")
    assert time.monotonic() - start < 5
    monkeypatch.undo()
    assert unchanged(files, root) == before


@pytest.mark.parametrize("limit", [1000, 2 << 20])
def test_limit_is_exact_for_every_source(root, here, limit):
    with Session("s", "w", local_path=root, max_file_bytes=limit) as session:
        files = session.files()
        fits, over = os.urandom(limit), os.urandom(limit + 1)
        for number, form in enumerate((bytes, io.BytesIO, Slow, zipped, None)):
            name = f"{number}"
            if form is None:
                (here / "fits").write_bytes(fits)
                (here / "over").write_bytes(over)
            assert files.upload("fits" if form is None else form(fits), filename=name)["sizeBytes"] == limit
            with pytest.raises(ValueError, match=f"limit is {limit:,}. Raise it with max_file_bytes"):
                files.upload("over" if form is None else form(over), filename=name)
            assert files.get(name)["version"] == 1
        with pytest.raises(ValueError, match=r"over has .*ignore=\['over'\]"):
            files.upload(here)
    assert scratch(root) == []


# ---- a source that changes ---------------------------------------------------------------------------------------


def consistent(files, root, name, attempt):
    """Either the upload fails and nothing is there, or what is there has the checksum that it says."""
    try:
        record = attempt()
    except ValueError as error:
        assert "changed while" in str(error)
        assert name in str(error)
        assert not files.exists(name)
        return False
    data = files.read_bytes(name)  # verifies, too
    assert record["checksum"] == hashlib.sha256(data).hexdigest()
    assert record["sizeBytes"] == len(data)
    return True


def write(path, mode, times=None):
    with path.open(mode) as file:
        file.write(b"something new")
    if times is not None:
        os.utime(path, times)


CHANGES = {
    "append": lambda path: write(path, "ab"),
    "overwrite": lambda path: write(path, "r+b"),
    "truncate": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "with old times": lambda path: write(path, "r+b", (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("size", [100_000, LARGE])
def test_source_that_changes_in_the_middle(files, root, here, monkeypatch, change, size):
    """At the moment at which its first bytes have been read."""
    path = here / "x"
    path.write_bytes(os.urandom(size))
    time.sleep(0.02)
    state = {"changed": False}

    def reading(call):
        def read(*arguments):
            data = call(*arguments)
            if not state["changed"] and os.path.realpath(f"/proc/self/fd/{arguments[0]}") == str(path):
                state["changed"] = True
                change(path)
            return data

        return read

    for name in ("read", "readv"):
        monkeypatch.setattr(os, name, reading(getattr(os, name)))
    assert consistent(files, root, "x", lambda: files.upload(path, encoding="raw")) is False
    assert state["changed"]
    monkeypatch.undo()
    assert scratch(root) == []
    assert stored(root) == []
    assert files.upload(path)["sizeBytes"] == path.stat().st_size


@pytest.mark.parametrize("kind", ["small", "large", "checkpoint", "stream"])
def test_source_that_somebody_keeps_writing_to(files, root, here, kind):
    path = here / "x.pt"
    if kind == "checkpoint":
        torch.save({"w": torch.randn(1200, 1000)}, path)
    else:
        path.write_bytes(os.urandom(50_000 if kind == "small" else 8 << 20))
    stop = threading.Event()

    def write():
        with path.open("r+b") as file:
            while not stop.is_set():
                file.seek(int.from_bytes(os.urandom(2), "big") % 40_000)
                file.write(os.urandom(16))
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(6):
            if kind == "stream":
                with open(path, "rb") as file:
                    consistent(files, root, "x.pt", lambda file=file: files.upload(file, filename="x.pt"))
            else:
                consistent(files, root, "x.pt", lambda: files.upload(path))
            with contextlib.suppress(NotFound):
                files.delete("x.pt")
    finally:
        stop.set()
        writer.join()
    assert scratch(root) == []
    assert files.read_bytes(files.upload(path)) == path.read_bytes()


def test_file_replaced_by_a_fifo_does_not_hang(files, root, here, monkeypatch):
    """Between the look at it and the opening."""
    import dreamlake.operations.taking as taking

    real = taking.check_source

    def swap(path, limit):
        facts = real(path, limit)
        special(Path(path), "fifo")
        return facts

    monkeypatch.setattr(taking, "check_source", swap)
    for size in (10, LARGE):
        (here / "x").unlink(missing_ok=True)
        (here / "x").write_bytes(bytes(size))
        with pytest.raises(ValueError, match=r"x is not a regular file|no such file"):
            files.upload("x")
    assert scratch(root) == []


# ---- places that are taken ---------------------------------------------------------------------------------------


def test_file_where_a_folder_is(files, root):
    files.upload(b"x", filename="inside", path="/a/b")
    before = unchanged(files, root)
    for path, name in (("/", "a"), ("/a", "b")):
        with pytest.raises(
            Conflict, match=r"/a(/b)? is a folder in session w/s; a file cannot take its place"
        ) as caught:
            files.upload(b"y", filename=name, path=path)
        assert isinstance(caught.value, ValueError)
    assert unchanged(files, root) == before


def test_folder_where_a_file_is(files, root, here):
    files.upload(b"x", filename="a")
    (here / "tree/a").mkdir(parents=True)
    (here / "tree/a/x").write_bytes(b"x")
    before = unchanged(files, root)
    for path in ("/a", "/a/b/c"):
        with pytest.raises(Conflict, match=rf"/a is a file in session w/s; {path}/y cannot lie inside it"):
            files.upload(b"y", filename="y", path=path)
    with pytest.raises(Conflict, match="/a is a file in session w/s; /a/x cannot lie inside it"):
        files.upload(here / "tree")
    assert unchanged(files, root) == before


def test_place_is_free_after_a_deletion(files):
    files.upload(b"x", filename="a")
    files.delete("a")
    files.upload(b"y", filename="inside", path="/a")
    files.delete("/a", recursive=True)
    assert files.upload(b"z", filename="a")["path"] == "/"


def test_a_name_that_begins_like_another_is_no_conflict(files):
    for name in ("model", "model2", "model.pth"):
        files.upload(b"x", filename=name)
    files.upload(b"x", filename="model", path="/models")
    files.upload(b"x", filename="x", path="/models2")
    assert len(files.list()) == 5


def test_conflict_is_found_before_anything_is_read(files, here):
    files.upload(b"x", filename="inside", path="/a")
    stream = Odd(None)
    with pytest.raises(Conflict):
        files.upload(stream, filename="a")
    assert stream.reads == 0


# ---- tags and metadata -------------------------------------------------------------------------------------------


def test_values_are_converted(files):
    metadata = {
        "loss": np.float32(0.5),
        "epoch": np.int64(3),
        "flag": np.bool_(True),
        "zero": torch.tensor(0.25),
        "half": torch.tensor(2, dtype=torch.float16),
        "when": datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
        "where": Path("/data"),
        "nested": {"list": [1, (2, np.array(3))]},
    }
    expected = {
        "loss": 0.5, "epoch": 3, "flag": True, "zero": 0.25, "half": 2.0, "when": "2026-01-31T12:00:00Z",
        "where": "/data", "nested": {"list": [1, [2, 3]]},
    }  # fmt: skip
    record = files.upload(b"x", filename="x", metadata=metadata)
    assert record["metadata"] == expected
    assert {key: type(value) for key, value in record["metadata"].items()} == {k: type(v) for k, v in expected.items()}
    assert files.get("x") == record


@pytest.mark.parametrize("encoding", ["one", "checkpoint"])
def test_nonfinite_values_survive_and_the_manifest_stays_strict(root, encoding):
    with Session("s", "w", local_path=root) as session:
        files = session.files()
        files.upload(b"x", filename="x", metadata={"nan": math.nan, "inf": [np.float32("inf")], "$float": "nan"})
        (root.parent / "many").mkdir()
        for number in range(600 if encoding == "checkpoint" else 1):
            (root.parent / f"many/{number}").write_bytes(b"y")
        files.upload(root.parent / "many")
        files.delete("1") if encoding == "checkpoint" else None
    for path in root.rglob("*.json"):
        json.loads(path.read_bytes().partition(b"\n")[0] or b"0" if path.parent.name == "cache" else path.read_bytes(),
                   parse_constant=pytest.fail)  # fmt: skip
    assert (list(root.rglob("*.sqlite")) != []) == (encoding == "checkpoint")
    with Session("s", "w", local_path=root) as session:
        metadata = session.files().get("x")["metadata"]
    assert math.isnan(metadata["nan"])
    assert metadata["inf"] == [math.inf]
    assert metadata["$float"] == "nan"


def recursive():
    value: dict = {}
    value["self"] = value
    return value


BAD_ATTRIBUTES = [
    ({"metadata": {"a": object()}}, TypeError, r"metadata\['a'\] is a builtins.object"),
    ({"metadata": {"a": {1, 2}}}, TypeError, "builtins.set"),
    ({"metadata": {"a": np.zeros(2)}}, TypeError, "numpy.ndarray"),
    ({"metadata": {"a": torch.zeros(2)}}, TypeError, "torch.Tensor"),
    ({"metadata": {"a": b"x"}}, TypeError, "builtins.bytes"),
    ({"metadata": {1: 2}}, TypeError, "keys must be text"),
    ({"metadata": [("a", 1)]}, TypeError, "metadata must be a mapping, not list"),
    ({"metadata": "x"}, TypeError, "metadata must be a mapping, not str"),
    ({"metadata": recursive()}, ValueError, "deeper than 64 levels"),
    ({"metadata": {"a": "x" * (5 << 20)}}, ValueError, "metadata has .* limit"),
    ({"metadata": {"a": "\ud800"}}, ValueError, "lone surrogate"),
    ({"tags": "best"}, TypeError, r"write tags=\['best'\]"),
    ({"tags": [1]}, TypeError, "tag 1 must be text"),
    ({"tags": 5}, TypeError, "tags must be a list of text"),
    ({"tags": ["x" * 2000]}, ValueError, "2,000 bytes; the limit is 1,024"),
    ({"tags": dict.fromkeys(map(str, range(300))).keys()}, ValueError, "300 tags; the limit is 256"),
    ({"description": 5}, TypeError, "description must be text"),
    ({"description": "x" * 70_000}, ValueError, "description has 70,000 bytes"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD_ATTRIBUTES, ids=range(len(BAD_ATTRIBUTES)))
def test_wrong_attributes_leave_everything_as_it_was(files, root, here, wrong, error, message):
    (here / "x").write_bytes(b"x")
    files.upload(b"old", filename="x", tags=["kept"], metadata={"kept": 1})
    before = unchanged(files, root)
    for call in (
        lambda **k: files.upload("x", **k),
        lambda **k: files.upload(b"new", filename="x", **k),
        lambda **k: files.upload(here, **k),
        lambda **k: files.update("x", **k),
    ):
        with pytest.raises(error, match=message):
            call(**wrong)
        if "tags" in wrong and not isinstance(wrong["tags"], (list, str, int)):
            break  # a generator can be asked only once
    assert unchanged(files, root) == before


def test_attributes_at_their_limits(files):
    record = files.upload(
        b"x",
        filename="x",
        tags=[f"{n:01024}" for n in range(256)],
        description="ü" * 32768,
        metadata={"a": "x" * ((4 << 20) - 8)},
    )
    assert files.get("x") == record
    assert len(record["tags"]) == 256


# ---- versions ----------------------------------------------------------------------------------------------------


def test_same_path_again_is_a_new_version(files, root):
    first = files.upload(b"one", filename="m", path="/models", tags=["old"], metadata={"v": 1}, description="first")
    second = files.upload(b"two", filename="m", path="models/")
    assert (first["version"], second["version"]) == (1, 2)
    assert first["id"] != second["id"]
    assert files.list() == [second]
    assert (second["tags"], second["metadata"], second["description"]) == ([], {}, None)
    assert files.read_bytes("/models/m@v1") == b"one"
    assert [record["checksum"] for record in files.history("/models/m")] == [second["checksum"], first["checksum"]]
    assert files.restore("/models/m@v1")["version"] == 3
    assert files.read_bytes("/models/m") == b"one"
    assert len(stored(root)) == 2


@pytest.mark.parametrize("size", [10, LARGE])
def test_identical_bytes_again_are_not_stored_again(files, root, here, size):
    (here / "x").write_bytes(os.urandom(size))
    files.upload("x", tags=["old"], metadata={"v": 1})
    before = [(path, path.stat().st_ino) for path in stored(root)]
    for given in ("x", (here / "x").read_bytes(), io.BytesIO((here / "x").read_bytes())):
        record = files.upload(given, filename="x", tags=["new"], metadata={"v": 2})
        assert (record["tags"], record["metadata"]) == (["new"], {"v": 2})
    files.upload("x", filename="other")
    assert [(path, path.stat().st_ino) for path in stored(root)] == before
    assert scratch(root) == []


def test_identical_bytes_in_another_session(root, here):
    data = os.urandom(LARGE)
    for name in ("a", "b"):
        with Session(name, "w", local_path=root) as session:
            session.files().upload(data, filename="x")
    assert len(stored(root)) == 1


# ---- folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plots(here):
    folder = here / "plots"
    (folder / "deep/deeper").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("a.png", "b.png", "notes.txt", "deep/c.png", "deep/deeper/d.txt", ".hidden"):
        (folder / name).write_bytes(name.encode())
    return folder


def keys(result):
    return [f"{r['path'].rstrip('/')}/{r['filename']}" for r in result["files"]]


def records(root):
    return sum(1 for _ in (root / ".dreamlake/sessions").rglob("log/*/*.json"))


def test_the_files_of_a_folder_are_of_one_moment(files, plots):
    """So that no view as of a time shows a part of what became visible at once."""
    made = files.upload(str(plots), path="/plots")["files"]
    assert len(made) > 1
    assert len({record["uploadedAt"] for record in made}) == 1


def test_folder_in_one_record(files, root, plots):
    before = records(root)
    result = files.upload(plots, path="/out", tags=["t"], metadata={"run": 1}, description="all")
    assert records(root) == before + 1
    assert keys(result) == [
        "/out/.hidden", "/out/a.png", "/out/b.png", "/out/deep/c.png", "/out/deep/deeper/d.txt", "/out/notes.txt",
    ]  # fmt: skip
    assert (result["path"], result["count"], result["uploaded"], result["unchanged"]) == ("/out", 6, 6, 0)
    assert result["sizeBytes"] == sum(len(key) - len("/out/") for key in keys(result))
    for record in result["files"]:
        assert files.get(record["id"]) == record
        assert (record["tags"], record["metadata"], record["description"]) == (["t"], {"run": 1}, "all")
        assert files.read_text(record) == f"{record['path']}/{record['filename']}"[len("/out/") :]
    assert files.list(path="/out") == result["files"]


@pytest.mark.parametrize("given", ["plots", "plots/", "./plots", "."])
def test_folder_spellings(files, plots, given, monkeypatch):
    if given == ".":
        monkeypatch.chdir(plots)
    assert keys(files.upload(given))[0] == "/.hidden"
    assert len(files.list()) == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["*.png"]}, "a b c"),
        ({"include": "*.png"}, "a b c"),
        ({"include": ["*.png", "*.txt"]}, "a b c d notes"),
        ({"include": ["deep/*"]}, "c d"),
        ({"include": ["deep/c.png"]}, "c"),
        ({"ignore": ["*.txt", ".*"]}, "a b c"),
        ({"ignore": "deep"}, ".hidden a b notes"),
        ({"ignore": ["deep/"]}, ".hidden a b notes"),
        ({"ignore": ["deep/deeper"]}, ".hidden a b c notes"),
        ({"ignore": ["A.PNG"]}, ".hidden a b c d notes"),
        ({"include": ["*.png"], "ignore": ["deep"]}, "a b"),
    ],
)
def test_patterns(files, plots, options, expected):
    names = sorted(os.path.splitext(record["filename"])[0] for record in files.upload(plots, **options)["files"])
    assert names == sorted(expected.split())


def test_nothing_to_upload(files, root, here, plots):
    before = unchanged(files, root)
    (here / "none/deep").mkdir(parents=True)
    for call in (lambda: files.upload("none"), lambda: files.upload(plots, include=["*.jpg"])):
        with pytest.raises(InvalidInput, match="holds no files to upload"):
            call()
    assert unchanged(files, root) == before


def test_folder_again(files, root, plots):
    first = files.upload(plots, path="/out", metadata={"loss": math.nan})
    before = records(root)
    again = files.upload(plots, path="/out", metadata={"loss": math.nan})
    assert (again["uploaded"], again["unchanged"], again["newBytes"]) == (0, 6, 0)
    assert [r["id"] for r in again["files"]] == [r["id"] for r in first["files"]]
    assert records(root) == before
    (plots / "a.png").write_bytes(b"changed")
    (plots / "new.png").write_bytes(b"new")
    (plots / "b.png").unlink()
    third = files.upload(plots, path="/out", metadata={"loss": math.nan})
    assert (third["uploaded"], third["unchanged"], third["newBytes"]) == (2, 4, 10)
    assert records(root) == before + 1
    assert files.exists("/out/b.png")  # an upload removes nothing
    assert files.get("/out/a.png")["version"] == 2
    fourth = files.upload(plots, path="/out", tags=["new"])
    assert (fourth["uploaded"], fourth["newBytes"]) == (6, 0)


def test_links_in_a_folder(files, here, plots):
    (here / "outside").write_bytes(b"outside")
    (plots / "link.png").symlink_to(here / "outside")
    assert files.upload(plots)["count"] == 7
    assert files.read_bytes("/link.png") == b"outside"
    (here / "folder").mkdir()
    (plots / "away").symlink_to(here / "folder")
    with pytest.raises(
        InvalidInput, match=r"plots/away is a link to a folder; upload that folder itself .*ignore=\['away'\]"
    ):
        files.upload(plots, path="/again")
    (plots / "away").unlink()
    (plots / "deep/up").symlink_to(plots)
    with pytest.raises(InvalidInput, match="link to a folder"):
        files.upload(plots, path="/again")
    assert files.list(path="/again") == []
    (here / "root").symlink_to(plots, target_is_directory=True)
    (plots / "deep/up").unlink()
    assert files.upload("root", path="/through")["count"] == 7


def test_names_in_a_folder_that_cannot_be_stored(files, root, here, plots):
    before = unchanged(files, root)
    for name, message in (
        ("deep/a\nb", r"U\+000A"),
        ("de:ep/x", "reserved character ':'"),
        ("deep/.dreamlake/x", "reserved for the store"),
        ("deep/a\\b", "separator"),
        (os.fsdecode(b"deep/\xff"), r"U\+DCFF"),
    ):
        path = plots / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        with pytest.raises(InvalidInput, match=message) as caught:
            files.upload(plots)
        assert "leave it out with ignore=" in str(caught.value)
        assert os.path.basename(name)[-1:] in str(caught.value)
        path.unlink()
    assert unchanged(files, root) == before


def test_a_very_deep_tree_of_a_stranger(files, root, here):
    os.mkdir("deep")
    handle = os.open("deep", os.O_RDONLY)
    for _ in range(1500):  # deeper than a path can be written, and than Python calls itself
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    before = unchanged(files, root)
    try:
        with pytest.raises(InvalidInput, match="more than 64 folders deep"):
            files.upload("deep")
    finally:
        subprocess.run(["rm", "-rf", "deep"], check=True)
    assert unchanged(files, root) == before


def test_the_lake_itself_is_refused(files, root, here):
    with pytest.raises(InvalidInput, match=r"is reserved for the store itself .*ignore="):
        files.upload(root)
    assert files.list() == []


@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_file_of_a_folder_that_goes_or_changes_meanwhile(files, root, plots, monkeypatch, kind):
    import dreamlake.operations.folders as folders

    real = folders.scan_folder

    def scan(*arguments, **options):
        found = real(*arguments, **options)
        (plots / "b.png").unlink()
        if kind == "changed":
            (plots / "b.png").write_bytes(b"other content")
        return found

    monkeypatch.setattr(folders, "scan_folder", scan)
    before = unchanged(files, root)
    if kind == "missing":
        with pytest.raises(FileNotFoundError, match=r"b\.png"):
            files.upload(plots)
        assert unchanged(files, root) == before
    else:
        files.upload(plots)
        assert files.read_bytes("b.png") == b"other content"
    assert scratch(root) == []


def test_many_files(files, root, here):
    (here / "many").mkdir()
    for number in range(300):
        (here / f"many/{number:03}.txt").write_bytes(b"%d" % (number % 250))
    result = files.upload("many")
    assert (result["count"], len(stored(root))) == (300, 250)
    assert [r["filename"] for r in files.list()] == [f"{number:03}.txt" for number in range(300)]
    assert all(files.read_bytes(f"{number:03}.txt") == b"%d" % (number % 250) for number in range(0, 300, 7))
    assert scratch(root) == []


# ---- a disk that is full -----------------------------------------------------------------------------------------


def uploads(here):
    (here / "tree/sub").mkdir(parents=True)
    for number in range(4):
        (here / f"tree/sub/{number}").write_bytes(b"content %d" % number)
    (here / "large").write_bytes(os.urandom(LARGE))
    torch.save({"w": torch.randn(800, 800)}, here / "model.pth")
    return {
        "small": lambda files: files.upload(b"small", filename="small"),
        "large": lambda files: files.upload("large"),
        "checkpoint": lambda files: files.upload("model.pth"),
        "folder": lambda files: files.upload("tree"),
        "update": lambda files: files.update("old", tags=["new"]),
        "copy": lambda files: files.copy("old", "/copied"),
        "delete": lambda files: files.delete("old"),
    }


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("what", ["small", "large", "checkpoint", "folder", "update", "copy", "delete"])
def test_full_disk_at_every_step(root, here, monkeypatch, what, code):
    action = uploads(here)[what]
    fs = FailingFs(code)
    monkeypatch.setattr("dreamlake.lake.Ports", lambda: Ports(fs=fs))
    steps, failed = 1, 0
    while True:
        with Session(f"s{steps}", "w", local_path=root) as session:
            files = session.files()
            files.upload(b"old", filename="old")
            before = files.list()
            fs.calls, fs.failing = 0, steps
            try:
                action(files)
            except OSError as error:
                failed += 1
                assert error.errno == code
                assert str(root) in str(error.filename)
            else:
                break
            finally:
                fs.failing = None
            after = files.list()
            assert scratch(root) == []
            if after != before:  # the very last step: it is there, whole
                assert len(after) != len(before) or after[0]["tags"] == ["new"]
            for record in after:
                files.read_bytes(record)
            if what == "delete" and not after:
                files.restore("old")
            action(files)  # there is space again
            assert all(files.read_bytes(record) is not None for record in files.list())
            assert scratch(root) == []
        steps += 1
    assert failed >= 5


@pytest.mark.parametrize("what", ["small", "large", "checkpoint", "folder", "update"])
def test_interrupted_at_every_step(root, here, monkeypatch, what):
    action = uploads(here)[what]
    fs = FailingFs(KeyboardInterrupt)
    fs.forever = False
    monkeypatch.setattr("dreamlake.lake.Ports", lambda: Ports(fs=fs))
    steps = 1
    while True:
        with Session(f"s{steps}", "w", local_path=root) as session:
            files = session.files()
            files.upload(b"old", filename="old")
            fs.calls, fs.failing = 0, steps
            try:
                action(files)
            except KeyboardInterrupt:
                pass
            else:
                break
            finally:
                fs.failing = None
            assert scratch(root) == []
            assert all(files.read_bytes(record) is not None for record in files.list())
            action(files)
            assert all(files.read_bytes(record) is not None for record in files.list())
        steps += 1
    assert steps > 5


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/bin/mount"), reason="needs the right to mount")
def test_a_really_full_disk(here, tmp_path):
    mount = tmp_path / "small-disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        with Session("s", "w", local_path=mount / "lake") as session:
            files = session.files()
            kept = files.upload(os.urandom(1 << 20), filename="kept")
            (here / "large").write_bytes(os.urandom(8 << 20))
            (here / "tree").mkdir()
            for number in range(8):
                (here / f"tree/{number}").write_bytes(os.urandom(1 << 20))
            for attempt in (
                lambda: files.upload("large"),
                lambda: files.upload((here / "large").read_bytes(), filename="bytes"),
                lambda: files.upload("tree"),
                lambda: files.save_numpy(np.random.default_rng(0).random(1 << 20), "array.npy"),
            ):
                with pytest.raises(OSError, match="No space left on device") as caught:
                    attempt()
                assert caught.value.errno == errno.ENOSPC
                assert scratch(mount / "lake") == []
                assert files.list() == [kept]
            assert len(files.read_bytes("kept")) == 1 << 20
            with pytest.raises(OSError, match="No space left"):
                files.upload(b"x" * (1 << 20) * 4 + os.urandom(1 << 20), filename="fills")
            files.upload(os.urandom(1 << 20), filename="fits")
            assert [record["filename"] for record in files.list()] == ["kept", "fits"]
        with Session("s", "w", local_path=mount / "lake") as session:
            assert len(session.files().read_bytes("fits")) == 1 << 20
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
