"""upload, download, cat: bytes in, the same bytes out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from cli_process import RUN, Cli


def stored(cli: Cli, session: str = "new", workspace: str = "ws") -> dict[str, bytes]:
    with cli.session(session, workspace) as opened:
        return {f"{r['path'].rstrip('/')}/{r['filename']}": opened.files.read_bytes(r) for r in opened.files.list()}


def folder(cli: Cli) -> Path:
    source = cli.cwd / "src"
    for name, data in {"a.txt": b"a", "b.tmp": b"b", "sub/c.txt": b"c", "sub/deep/d.bin": b"d" * 5000}.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return source


# ---- upload ------------------------------------------------------------------------------------------------------


def test_upload_creates_the_lake_and_the_session(empty: Cli) -> None:
    (empty.cwd / "m.pth").write_bytes(b"weights")
    done = empty.ok(
        "upload", "m.pth", "ws/new:/models", "-t", "best", "-t", "x", "-m", "loss=0.5", "-m", '{"a": [1]}', "-d", "mine"
    )
    assert done.out == "uploaded ws/new:/models/m.pth  v1  7 B\n"
    with empty.session("new", "ws") as session:
        record = session.files.get("/models/m.pth")
    assert record["tags"] == ["best", "x"] and record["metadata"] == {"loss": 0.5, "a": [1]}
    assert record["description"] == "mine" and record["checksum"] == hashlib.sha256(b"weights").hexdigest()
    assert (empty.root / "ws/new/session.json").exists()


def test_upload_again_is_a_new_version_and_prints_the_record(cli: Cli) -> None:
    (cli.cwd / "best.pth").write_bytes(b"third")
    (record,) = cli.ok("upload", "best.pth", f"{RUN}:/models", "--json").json
    assert (record["version"], record["path"], record["filename"]) == (3, "/models", "best.pth")
    with cli.session() as session:
        assert session.files.get("/models/best.pth") == record


def test_upload_of_several_and_under_another_name(empty: Cli) -> None:
    for name in ("a", "b"):
        (empty.cwd / name).write_text(name)
    assert len(empty.ok("upload", "a", "b", "ws/new").lines) == 2
    empty.ok("upload", "a", "ws/new:/x", "--filename", "other name.txt")
    assert stored(empty) == {"/a": b"a", "/b": b"b", "/x/other name.txt": b"a"}


def test_upload_of_a_folder_is_one_commit(empty: Cli) -> None:
    folder(empty)
    done = empty.ok("upload", "src", "ws/new:/data", "--ignore", "*.tmp")
    assert done.out == "uploaded 3 files to ws/new:/data: 4.9 KiB, 4.9 KiB of it new\n"
    assert set(stored(empty)) == {"/data/a.txt", "/data/sub/c.txt", "/data/sub/deep/d.bin"}
    again = empty.ok("upload", "src", "ws/new:/data", "--include", "*.txt", "--json").json
    assert again[0]["unchanged"] == 2 and again[0]["uploaded"] == 0 and len(again[0]["files"]) == 2
    assert "2 unchanged" in empty.ok("upload", "src/", "ws/new:/data", "--include", "*.txt").out


def test_upload_from_standard_input(empty: Cli) -> None:
    data = os.urandom(3 << 20)
    empty.ok("upload", "-", "ws/new:/logs", "--filename", "log.bin", stdin=data)
    empty.ok("upload", "-", "ws/new", "--filename", "nothing", stdin=b"")
    assert stored(empty) == {"/logs/log.bin": data, "/nothing": b""}


def test_upload_dry_run_creates_nothing(empty: Cli) -> None:
    folder(empty)
    done = empty.ok("upload", "src", "ws/new:/data", "--dry-run", "--ignore", "*.tmp")
    assert done.lines[0] == "would upload /data/a.txt  1 B" and len(done.lines) == 3
    assert not empty.root.exists()
    empty.ok("upload", "src/a.txt", "ws/new:/data")
    assert "(a new version after v1)" in empty.ok("upload", "src", "ws/new:/data", "-n").out
    (one,) = empty.ok("upload", "-", "ws/new", "-n", "--json", "--filename", "x").json
    assert one == {"action": "upload", "file": "/x", "sizeBytes": None, "replaces": None}
    assert len(stored(empty)) == 1


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nothing.txt", "ws/new"], 3, "nothing.txt"),
        (["a.txt", "ws"], 2, "names a workspace"),
        (["a.txt"], 2, "Missing"),
        (["a.txt", "ws/new:/../x"], 2, "'..'"),
        (["a.txt", 'ws/new:/x"y'], 2, "reserved character"),
        (["-", "ws/new"], 2, "--filename"),
        (["a.txt", "b.txt", "ws/new", "--filename", "x"], 2, "single file"),
        (["a.txt", "ws/new:/data/a.txt"], 2, "write :/data"),
        (["a.txt", "ws/new", "-m", "x"], 2, "NAME=VALUE"),
        (["fifo", "ws/new"], 2, "not a regular file"),
        (["a.txt", "ws/new", "--fast"], 2, "--fast"),
    ],
)
def test_upload_errors_change_nothing(empty: Cli, args: list[str], code: int, said: str) -> None:
    for name in ("a.txt", "b.txt"):
        (empty.cwd / name).write_text(name)
    os.mkfifo(empty.cwd / "fifo")
    assert said in empty.fails(code, "upload", *args)
    assert not list(empty.root.rglob("*.json")) or not stored(empty)


def test_upload_where_a_folder_is(cli: Cli) -> None:
    (cli.cwd / "models").write_text("x")
    for dry in ([], ["-n"]):
        assert "is a folder" in cli.fails(4, "upload", "models", f"{RUN}:/", *dry)
        assert "is a file" in cli.fails(4, "upload", "models", f"{RUN}:/config.json", *dry)


def test_upload_over_the_limit(empty: Cli) -> None:
    (empty.cwd / "a.txt").write_bytes(b"x" * 100)
    for dry in ([], ["-n"]):
        assert "limit is 99" in empty.fails(
            2, "upload", "a.txt", "ws/new", *dry, env={"DREAMLAKE_MAX_FILE_BYTES": "99"}
        )


def test_upload_to_a_write_protected_session(cli: Cli) -> None:
    with cli.session("locked", "ws", write_protected=True):
        pass
    (cli.cwd / "a.txt").write_text("a")
    assert "write-protected" in cli.fails(6, "upload", "a.txt", "ws/locked")
    assert "write-protected" in cli.fails(6, "upload", "a.txt", "ws/locked", "-n")


# ---- download ----------------------------------------------------------------------------------------------------


def files_below(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_download_of_a_file(cli: Cli) -> None:
    done = cli.ok("download", f"{RUN}:/models/best.pth")
    assert done.out == "downloaded /models/best.pth  10 B  to best.pth\n"
    assert (cli.cwd / "best.pth").read_bytes() == b"weights 22"
    cli.ok("download", f"{RUN}:/models/best.pth@first", "old.pth")
    cli.ok("download", f"{RUN}:/models/best.pth@v1", "into/")
    (cli.cwd / "there").mkdir()
    (record,) = cli.ok("download", f"{RUN}:/models/best.pth", "there", "--json").json
    assert record == {
        "file": "/models/best.pth", "dest": "there/best.pth", "sizeBytes": 10,
        "checksum": hashlib.sha256(b"weights 22").hexdigest(),
    }  # fmt: skip
    assert (cli.cwd / "old.pth").read_bytes() == (cli.cwd / "into/best.pth").read_bytes() == b"weights 1"


def test_download_replaces_a_file_only_by_whole_content(cli: Cli) -> None:
    (cli.cwd / "best.pth").write_bytes(b"mine")
    cli.ok("download", f"{RUN}:/models/best.pth", "-n")
    assert (cli.cwd / "best.pth").read_bytes() == b"mine"
    damage(cli, "/models/best.pth")
    assert "damaged" in cli.fails(5, "download", f"{RUN}:/models/best.pth")
    assert (cli.cwd / "best.pth").read_bytes() == b"mine"


def damage(cli: Cli, key: str) -> None:
    with cli.session() as session:
        digest = session.files.get(key)["checksum"]
    (blob,) = (cli.root / ".dreamlake/blobs").glob(f"*/{digest}")
    blob.chmod(0o644)
    blob.write_bytes(b"X" * blob.stat().st_size)


def test_download_of_folders_and_globs(cli: Cli) -> None:
    cli.ok("download", f"{RUN}:/notes", "notes")
    assert files_below(cli.cwd / "notes") == {"deep/ü 1.txt": "größe".encode()}
    cli.ok("download", f"{RUN}:/", "all")
    assert set(files_below(cli.cwd / "all")) == {"config.json", "models/best.pth", "notes/deep/ü 1.txt"}
    cli.ok("download", f"{RUN}:/**/*.txt", "texts")
    assert set(files_below(cli.cwd / "texts")) == {"notes/deep/ü 1.txt"}
    cli.ok("download", f"{RUN}:/models/b*", "some")
    assert set(files_below(cli.cwd / "some")) == {"best.pth"}
    plan = cli.ok("download", f"{RUN}:/notes", "dry", "-n", "--json").json
    assert plan[0]["action"] == "download" and plan[0]["dest"] == "dry/deep/ü 1.txt"
    assert not (cli.cwd / "dry").exists()


def test_download_errors(cli: Cli) -> None:
    assert "names a session" in cli.fails(2, "download", RUN)
    cli.fails(3, "download", f"{RUN}:/nothing")
    cli.fails(3, "download", f"{RUN}:/*.nothing")
    (cli.cwd / "file").write_text("mine")
    assert "is a file" in cli.fails(2, "download", f"{RUN}:/notes", "file")
    assert (cli.cwd / "file").read_text() == "mine"
    os.mkfifo(cli.cwd / "pipe")
    assert "not a regular file" in cli.fails(2, "download", f"{RUN}:/config.json", "pipe")


# ---- cat ---------------------------------------------------------------------------------------------------------


def test_cat_writes_the_bytes(cli: Cli) -> None:
    assert (
        cli.ok("cat", f"{RUN}:/models/best.pth@v1", f"{RUN}:/notes/deep/ü 1.txt").raw == b"weights 1" + "größe".encode()
    )
    data = os.urandom(3 << 20)
    with cli.session() as session:
        session.files.upload(data, filename="big.bin")
    assert cli.ok("cat", f"{RUN}:/big.bin").raw == data


def test_cat_errors(cli: Cli) -> None:
    cli.fails(3, "cat", f"{RUN}:/nothing")
    cli.fails(2, "cat", RUN)
    assert "info --json" in cli.fails(2, "cat", f"{RUN}:/config.json", "--json")
    damage(cli, "/models/best.pth")
    done = cli("cat", f"{RUN}:/models/best.pth")
    assert done.code == 5 and done.raw == b"" and "damaged" in done.err


def test_an_odd_name_is_itself_before_it_is_a_glob(cli: Cli) -> None:
    odd: Any = "what[1]?.txt"
    with cli.session() as session:
        for name in (odd, "what1x.txt"):
            session.files.upload(name.encode(), filename=name)
    assert cli.ok("cat", f"{RUN}:/{odd}").raw == odd.encode()
    cli.ok("download", f"{RUN}:/{odd}")
    assert [p.name for p in cli.cwd.glob("what*")] == [odd]
    cli.ok("rm", f"{RUN}:/{odd}")
    assert "/what1x.txt" in cli.ok("ls", RUN).out
