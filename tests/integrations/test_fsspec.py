"""The file system ``dreamlake://``: fsspec's own suite, and what is special about a lake."""

from __future__ import annotations

import hashlib
import pickle
import re
import subprocess
import sys
import threading
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path

import fsspec
import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, StateError
from dreamlake.integrations.fsspec import DreamLakeFileSystem, Place

fsspec.register_implementation("dreamlake", DreamLakeFileSystem, clobber=True)


@pytest.fixture
def fs(root):
    made = fsspec.filesystem("dreamlake", local_path=str(root), skip_instance_cache=True)
    made.mkdir("w/s")
    return made


class Fixtures(AbstractFixtures):
    @pytest.fixture
    def fs(self, root):
        made = fsspec.filesystem("dreamlake", local_path=str(root), skip_instance_cache=True)
        made.mkdir("w/s")
        return made

    @pytest.fixture
    def fs_path(self):
        return "w/s"

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestCopy(Fixtures, AbstractCopyTests):
    pass


class TestGet(Fixtures, AbstractGetTests):
    pass


class TestPut(Fixtures, AbstractPutTests):
    pass


class TestOpen(Fixtures, AbstractOpenTests):
    pass


class TestPipe(Fixtures, AbstractPipeTests):
    pass


# ---- names and looking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("dreamlake://w/s/a/b.pth", "w/s/a/b.pth"),
        ("dreamlake:///w//s/./a/", "w/s/a"),
        ("w/s", "w/s"),
        ("/w/s/x@v2", "w/s/x@v2"),
        ("dreamlake://", ""),
        (["dreamlake://w", "x"], ["w", "x"]),
    ],
)
def test_names(url, name):
    assert DreamLakeFileSystem._strip_protocol(url) == name


def test_places():
    assert Place.of("") == ("", "", "")
    assert Place.of("w") == ("w", "", "")
    assert Place.of("w/s") == ("w", "s", "/")
    assert Place.of("w/s/a/b") == ("w", "s", "/a/b")
    assert str(Place.of("w/s/a")) == "dreamlake://w/s/a"


@pytest.mark.parametrize("group", ["fsspec.specs", "universal_pathlib.implementations"])
def test_is_an_entry_point_of_the_package(group):
    """As pyproject.toml says; a checkout that is not installed has no entry points, so the tests register by hand."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    found = re.search(rf'\[project.entry-points."{group}"\]\ndreamlake = "([\w.]+):(\w+)"', text)
    assert found is not None
    made = getattr(import_module(found[1]), found[2])
    assert made.__name__ == found[2] and made.__module__ == found[1]
    assert fsspec.get_filesystem_class("dreamlake") is DreamLakeFileSystem


def test_looking_around(fs, root):
    with Session("s", "w", local_path=root) as session:
        session.files().upload(b"one", filename="a.txt", path="/m", tags=["t"], metadata={"n": 1})
        session.files().upload(b"two!", filename="a.txt", path="/m")
        session.files().alias("/m/a.txt@v1", "first")
        session.files().upload(b"", filename="empty", path="/m/deep/er")
    with Session("t 1", "w", local_path=root), Session("s", "far", local_path=root):
        pass
    assert fs.ls("", detail=False) == ["far", "w"]
    assert fs.ls("dreamlake://w", detail=False) == ["w/s", "w/t 1"]
    assert fs.ls("w/t 1") == []
    assert fs.ls("w/s/m", detail=False) == ["w/s/m/a.txt", "w/s/m/deep"]
    assert fs.ls("w/s/m/a.txt", detail=False) == ["w/s/m/a.txt"]
    assert [(e["name"], e["type"]) for e in fs.ls("w/s")] == [("w/s/m", "directory")]
    info = fs.info("w/s/m/a.txt")
    assert (info["size"], info["type"], info["version"]) == (4, "file", 2)
    assert info["checksum"] == hashlib.sha256(b"two!").hexdigest() == fs.ukey("w/s/m/a.txt")
    assert fs.checksum("w/s/m/a.txt") == int(info["checksum"], 16)
    assert abs((fs.created("w/s/m/a.txt") - datetime.now(timezone.utc)).total_seconds()) < 60
    assert fs.modified("w/s/m/a.txt") == info["modified"]
    old = fs.info("w/s/m/a.txt@v1")
    assert (old["size"], old["tags"], old["metadata"]) == (3, ["t"], {"n": 1})
    assert fs.info("w/s/m/a.txt@first")["id"] == old["id"]
    assert fs.cat("w/s/m/a.txt@first") == b"one"
    assert fs.isdir("w") and fs.isdir("w/s") and fs.isdir("w/s/m/deep") and fs.isdir("")
    assert fs.isfile("w/s/m/a.txt") and not fs.isfile("w/s/m") and not fs.isdir("w/s/m/a.txt")
    for nothing in ("x", "w/x", "w/s/x", "w/s/m/a.txt/x", "w/s/m/a.txt@v9", "w/s/m/a.txt@none"):
        assert not fs.exists(nothing)
        with pytest.raises(FileNotFoundError):
            fs.info(nothing)
        with pytest.raises(FileNotFoundError):
            fs.ls(nothing)
        with pytest.raises(FileNotFoundError):
            fs.open(nothing)
    assert fs.find("w/s") == ["w/s/m/a.txt", "w/s/m/deep/er/empty"]
    assert fs.find("") == fs.find("w/s")
    assert fs.glob("dreamlake://w/s/**/*.txt") == ["w/s/m/a.txt"]
    assert fs.glob("w/*/m/*") == ["w/s/m/a.txt", "w/s/m/deep"]
    assert fs.du("w/s") == 4
    assert [names for _, _, names in fs.walk("w/s")] == [[], ["a.txt"], [], ["empty"]]


def test_no_lake_yet(root):
    fs = fsspec.filesystem("dreamlake", local_path=str(root), skip_instance_cache=True)
    assert not fs.exists("w/s/x")
    assert not root.exists()
    fs.pipe("w/s/x", b"1")
    assert fs.cat("w/s/x") == b"1"
    assert open_lake(root).find()[0]["sessionId"] == "w/s"


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_writes_are_versions(fs):
    for text in ("one", "two", "three"):
        with fs.open("w/s/a/b.txt", "w", tags=[text], metadata={"length": len(text)}) as file:
            file.write(text)
    assert fs.info("w/s/a/b.txt")["version"] == 3
    assert fs.info("w/s/a/b.txt")["tags"] == ["three"]
    assert [fs.cat(f"w/s/a/b.txt@v{n}") for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    with fs.open("w/s/a/b.txt", "a") as file:
        file.write("!")
    assert fs.read_text("w/s/a/b.txt") == "three!"
    with fs.open("w/s/new", "ab") as file:
        file.write(b"begin")
    assert fs.cat("w/s/new") == b"begin"
    fs.touch("w/s/new", truncate=False)
    assert fs.cat("w/s/new") == b"begin" and fs.info("w/s/new")["version"] == 2
    fs.touch("w/s/new")
    assert fs.cat("w/s/new") == b""
    with fs.open("w/s/z.gz", "wb", compression="gzip") as file:
        file.write(b"zipped")
    with fs.open("w/s/z.gz", "rb", compression="infer") as file:
        assert file.read() == b"zipped"


def test_a_file_that_is_written_can_be_used_like_one(fs):
    with fs.open("w/s/x", "wb") as file:
        assert file.writable() and file.seekable() and file.readable()
        assert file.write(memoryview(b"hello world")) == 11
        assert file.write(b"") == 0
        assert file.seek(6) == 6
        file.write(b"W")
        assert file.tell() == 7
        file.seek(0)
        assert file.read(5) == b"hello"
        assert file.truncate(9) == 9
        assert file.path == "w/s/x"
        assert not fs.exists("w/s/x")  # only when it is closed
    file.close()
    assert fs.cat("w/s/x") == b"hello Wor"
    assert fs.info("w/s/x")["version"] == 1
    big = bytes(range(256)) * (40 << 10)  # more than is kept in memory
    with fs.open("w/s/big", "wb") as file:
        file.write(big)
    assert fs.cat("w/s/big") == big
    assert fs.cat_file("w/s/big", start=1 << 20, end=(1 << 20) + 5) == big[1 << 20 : (1 << 20) + 5]
    assert fs.cat_ranges(["w/s/big"], [3], [6]) == [big[3:6]]
    assert fs.tail("w/s/big", 4) == big[-4:]
    with fs.open("w/s/big") as file:
        assert file.size == len(big)
        file.seek(-3, 2)
        assert file.read() == big[-3:]


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_an_exception_while_writing_leaves_the_lake_as_it_was(fs, mode):
    fs.pipe("w/s/x", b"before")
    with pytest.raises(ZeroDivisionError), fs.open("w/s/x", mode) as file:
        file.write(b"half" if mode == "wb" else "half")
        raise ZeroDivisionError
    assert file.closed
    assert fs.cat("w/s/x") == b"before" and fs.info("w/s/x")["version"] == 1


def test_what_cannot_be_written(fs, root):
    fs.pipe("w/s/dir/x", b"1")
    for path, error in [
        ("w/s/dir", IsADirectoryError),
        ("w/s", IsADirectoryError),
        ("w", IsADirectoryError),
        ("", IsADirectoryError),
        ("w/s/dir/x@v1", InvalidInput),
        ("w/s/a\\b", InvalidInput),
        ("w/s/../x", InvalidInput),
        ("w/s/.dreamlake", InvalidInput),
    ]:
        with pytest.raises(error):
            fs.open(path, "wb")
    with pytest.raises(InvalidInput, match="mode 'r\\+b'"):
        fs.open("w/s/dir/x", "r+b")
    with pytest.raises(InvalidInput, match="x is a file"):
        fs.pipe("w/s/dir/x/y", b"1")
    with pytest.raises(FileExistsError):
        fs.pipe_file("w/s/dir/x", b"2", mode="create")
    with pytest.raises(TypeError, match="tags must be a list"):
        fs.open("w/s/y", "wb", tags=5)
    with Session("s", "w", local_path=root, write_protected=True):
        pass
    for change in (
        lambda: fs.pipe("w/s/y", b"1"),
        lambda: fs.rm("w/s/dir/x"),
        lambda: fs.mv("w/s/dir/x", "w/s/z"),
        lambda: fs.cp("w/s/dir/x", "w/s/z"),
    ):
        with pytest.raises(StateError, match="write-protected"):
            change()
    assert fs.find("w/s") == ["w/s/dir/x"]


def test_transactions(fs):
    """All at once and in one record, or nothing."""
    fs.pipe("w/s/a", b"old")
    lake = fs._lake()
    before = lake.store.catalog.view(lake.store.session("w", "s")).n
    with fs.transaction:
        fs.pipe("w/s/a", b"new")
        fs.pipe("w/s/b", b"1")
        with fs.open("w/s/b", "w") as file:
            file.write("2")
        fs.pipe("w/t/c", b"3")
        assert fs.cat("w/s/a") == b"old"
        assert fs.find("w") == ["w/s/a"]
    assert {name: fs.cat(name) for name in fs.find("w")} == {"w/s/a": b"new", "w/s/b": b"2", "w/t/c": b"3"}
    assert lake.store.catalog.view(lake.store.session("w", "s")).n == before + 1
    with pytest.raises(ZeroDivisionError), fs.transaction:
        fs.pipe("w/s/a", b"never")
        fs.put_file(__file__, "w/s/never")
        raise ZeroDivisionError
    assert fs.cat("w/s/a") == b"new" and not fs.exists("w/s/never")
    with pytest.raises(InvalidInput), fs.transaction:
        fs.pipe("w/s/good", b"1")
        fs.pipe("w/s/a/inside", b"1")  # a is a file: nothing of this session is stored
    assert not fs.exists("w/s/good")
    fs.start_transaction()
    fs.pipe("w/s/late", b"1")
    assert not fs.exists("w/s/late")
    fs.end_transaction()
    assert fs.cat("w/s/late") == b"1"
    fs.pipe("w/s/after", b"1")
    assert fs.exists("w/s/after")


# ---- changing the tree -----------------------------------------------------------------------------------------------


def test_folders_are_where_files_are(fs, root):
    fs.mkdir("new/session/deep/er")
    assert fs.isdir("new/session") and not fs.exists("new/session/deep")
    with pytest.raises(FileExistsError):
        fs.mkdir("w/s")
    fs.makedirs("w/s", exist_ok=True)
    with pytest.raises(FileExistsError):
        fs.makedirs("w/s")
    fs.mkdir("w/other/x", create_parents=False)
    assert not fs.exists("w/other")
    fs.mkdir("w/other", create_parents=False)
    assert fs.isdir("w/other")
    fs.pipe("w/s/d/x", b"1")
    with pytest.raises(FileExistsError):
        fs.makedirs("w/s/d/x", exist_ok=True)
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("w/s/d")
    fs.rmdir("w/other")
    fs.rm("w/s/d/x")
    assert not fs.exists("w/s/d") and fs.isdir("w/s")


def test_removing(fs, root):
    fs.pipe({"w/s/a": b"1", "w/s/d/b": b"2", "w/s/d/e/c": b"3", "w/t/x": b"4"})
    with pytest.raises(IsADirectoryError):
        fs.rm("w/s/d")
    with pytest.raises(IsADirectoryError):
        fs.rm_file("w/s/d")
    for nothing in ("w/s/none", "none"):
        with pytest.raises(FileNotFoundError):
            fs.rm(nothing)
        with pytest.raises(FileNotFoundError):
            fs.rm_file(nothing)
    fs.rm("w/s/d", recursive=True, maxdepth=1)
    assert fs.find("w") == ["w/s/a", "w/s/d/e/c", "w/t/x"]
    fs.rm(["w/s/a", "w/s/d"], recursive=True)
    assert fs.find("w") == ["w/t/x"]
    fs.pipe({"w/s/1.txt": b"1", "w/s/2.txt": b"2", "w/s/3.bin": b"3"})
    fs.rm("w/s/*.txt")
    assert fs.find("w/s") == ["w/s/3.bin"]
    fs.rm("w", recursive=True)
    assert fs.find("w") == [] and fs.ls("w", detail=False) == ["w/s", "w/t"]
    with Session("s", "w", local_path=root) as session:  # deleted, not lost
        assert session.files().restore("/d/e/c")["filename"] == "c"


def test_moving_and_copying(fs, root):
    fs.pipe("w/s/a", b"1")
    fs.pipe("w/s/a", b"2")
    fs.mv("w/s/a", "w/s/b")
    assert (fs.cat("w/s/b"), fs.cat("w/s/b@v1")) == (b"2", b"1")  # with its history
    fs.mv("w/s/b", "w/s/d/")
    assert fs.find("w/s") == ["w/s/d/b"]
    fs.mv("w/s/d", "w/s/e", recursive=True)
    assert fs.cat("w/s/e/b@v1") == b"1"
    fs.mv("w/s/e/b", "w/t/b")  # to another session, which is created: a copy
    assert fs.find("") == ["w/t/b"] and fs.cat("w/t/b") == b"2"
    fs.cp("w/t/b", "w/s/c")
    fs.cp("w/s/c@v1", "w/s/old")
    fs.pipe("w/s/c", b"3")
    fs.mv("w/s/c", "w/s/old")  # over another file
    assert fs.cat("w/s/old") == b"3" and fs.cat("w/s/old@v1") == b"2"
    with pytest.raises(IsADirectoryError):
        fs.cp_file("w/t/b", "w/t")
    with pytest.raises(FileNotFoundError):
        fs.cp("w/s/none", "w/s/x")
    with pytest.raises(FileNotFoundError):
        fs.mv("w/s/none", "w/s/x")
    fs.cp("w/t", "w/u", recursive=True)
    assert fs.find("w/u") == ["w/u/b"]


def test_local_files(fs, tmp_path):
    (tmp_path / "in").write_bytes(b"local")
    fs.put_file(tmp_path / "in", "w/s/put", tags=["t"])
    assert fs.info("w/s/put")["tags"] == ["t"]
    with pytest.raises(FileExistsError):
        fs.put_file(tmp_path / "in", "w/s/put", mode="create")
    with pytest.raises(FileNotFoundError):
        fs.put_file(tmp_path / "none", "w/s/x")
    seen = []
    callback = fsspec.callbacks.Callback(hooks={"see": lambda size, value: seen.append((size, value))})
    fs.get_file("w/s/put@v1", tmp_path / "deep/er/out", callback=callback)
    assert (tmp_path / "deep/er/out").read_bytes() == b"local"
    assert seen[-1] == (5, 5)
    with open(tmp_path / "stream", "wb") as out:
        fs.get_file("w/s/put", out)
    assert (tmp_path / "stream").read_bytes() == b"local"
    with pytest.raises(FileNotFoundError):
        fs.get_file("w/s/none", tmp_path / "out")


# ---- instances -------------------------------------------------------------------------------------------------------


def test_pickled_in_another_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fs = fsspec.filesystem("dreamlake", local_path="lake")
    fs.pipe("w/s/x", b"1")
    assert pickle.loads(pickle.dumps(fs)).cat("w/s/x") == b"1"
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).cat('w/s/x'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(fs), capture_output=True, cwd="/", check=True
    )
    assert done.stdout == b"b'1'\n"
    assert fsspec.filesystem("dreamlake", local_path="lake") is fs


def test_of_many_threads(fs):
    def work(number):
        for step in range(5):
            fs.pipe(f"w/s/{number}/{step}", b"x" * number)
            assert fs.info(f"w/s/{number}/{step}")["size"] == number

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fs.find("w/s")) == 20


def test_environment_says_which_lake(root, monkeypatch):
    monkeypatch.setenv("DREAMLAKE_LOCAL_PATH", str(root))
    with fsspec.open("dreamlake://w/s/x", "w", skip_instance_cache=True) as file:
        file.write("hello")
    assert open_lake(root).find()[0]["filename"] == "x"


# ---- other libraries -------------------------------------------------------------------------------------------------


@pytest.fixture
def options(root):
    return {"local_path": str(root)}


def test_pandas_and_pyarrow(fs, options):
    import pandas as pd
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"year": [2024, 2024, 2025], "loss": [0.5, 0.25, 0.125]})
    url = "dreamlake://w/s/data/train"
    frame.to_parquet(f"{url}.parquet", storage_options=options)
    pd.testing.assert_frame_equal(pd.read_parquet(f"{url}.parquet", storage_options=options), frame)
    frame.to_csv(f"{url}.csv.gz", index=False, storage_options=options)
    pd.testing.assert_frame_equal(pd.read_csv(f"{url}.csv.gz", storage_options=options), frame)
    frame.to_parquet("dreamlake://w/s/parts", partition_cols=["year"], storage_options=options)
    assert len(fs.glob("w/s/parts/year=2024/*.parquet")) == 1
    table = pq.read_table("w/s/parts", filesystem=fs)
    assert sorted(table["loss"].to_pylist()) == [0.125, 0.25, 0.5]
    assert pq.ParquetFile(fs.open("w/s/data/train.parquet")).metadata.num_rows == 3


def test_torch(fs):
    import torch

    with fs.open("w/s/models/net.pth", "wb") as file:
        torch.save({"w": torch.arange(6).reshape(2, 3)}, file)
    with fs.open("w/s/models/net.pth@v1", "rb") as file:
        assert torch.equal(torch.load(file, weights_only=True)["w"], torch.arange(6).reshape(2, 3))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="zarr 3 needs Python 3.11")
def test_zarr(fs, options):
    import numpy as np
    import zarr

    store = zarr.storage.FsspecStore.from_url("dreamlake://w/s/arrays", storage_options=options)
    group = zarr.group(store=store)
    array = group.create_array("x", shape=(8, 8), chunks=(4, 4), dtype="f4")
    array[:] = np.arange(64).reshape(8, 8)
    again = zarr.open_group(zarr.storage.FsspecStore.from_url("dreamlake://w/s/arrays", storage_options=options))
    assert np.array_equal(again["x"][2:6, 2:6], np.arange(64).reshape(8, 8)[2:6, 2:6])
    assert len(fs.glob("w/s/arrays/x/c/*/*")) == 4


@pytest.mark.filterwarnings("ignore:UPath .* not explicitly implemented")
def test_universal_pathlib(fs, options):
    import warnings

    from upath import UPath
    from upath.registry import register_implementation

    from dreamlake.integrations.upath import DreamLakePath

    register_implementation("dreamlake", DreamLakePath, clobber=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(UPath("dreamlake://w/s/notes", **options)) is DreamLakePath
    here = UPath("dreamlake://w/s/notes", **options)
    (here / "deep/a.txt").write_text("hello")
    assert (here / "deep/a.txt").read_text() == "hello"
    assert [path.name for path in here.iterdir()] == ["deep"]
    assert (here / "deep").is_dir() and not (here / "none").exists()
    assert (here / "deep/a.txt").stat().st_size == 5
    assert [path.path for path in here.rglob("*.txt")] == ["w/s/notes/deep/a.txt"]
    (here / "deep/a.txt").rename(here / "b.txt")
    assert pickle.loads(pickle.dumps(here / "b.txt")).read_bytes() == b"hello"
    (here / "b.txt").unlink()
    assert fs.find("w/s") == []
