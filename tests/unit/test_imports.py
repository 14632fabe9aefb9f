"""Importing: folders, hostile tars, MLflow runs, trees of earlier releases. Nothing twice or outside, all told."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.imports import import_into
from dreamlake.operations.importing import storing, tars

GOLDEN = Path(__file__).resolve().parents[1] / "golden/imports"


@pytest.fixture
def root(memory_path: Path) -> Path:
    return memory_path / "lake"


def opened(root: Path, name: str) -> Session:
    workspace, _, session = name.partition("/")
    return Session(session, workspace, local_path=root, capture=False)


def contents(root: Path, name: str = "w/s") -> dict[str, bytes]:
    with opened(root, name) as session:
        return {
            f"{f['path'].rstrip('/')}/{f['filename']}": session.files.read_bytes(f["id"]) for f in session.files.list()
        }


def again(root: Path, *arguments, **options) -> None:
    """A second import adds nothing: no version, no record, no row, no byte."""
    before = {p: p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and "cache" not in p.parts}
    done = import_into(root, *arguments, **options)
    assert (done.files, done.bytes, done.stored_bytes) == (0, 0, 0)
    assert (done.parameters, done.log_lines, done.points) == (0, 0, 0)
    after = {p: p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and "cache" not in p.parts}
    changed = {p.name for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert not changed - {"session.json"}, changed


# ---- folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/deep.txt").write_text("deep")
    (folder / "a/x.bin").write_bytes(os.urandom(3 << 20))
    (folder / "top.json").write_text("{}")
    (folder / "empty").mkdir()
    return folder


def test_a_folder(root, tree):
    done = import_into(root, "folder", tree, session="w/s", path="/in")
    assert (done.files, done.unchanged, done.skipped, done.sessions) == (3, 0, [], ["w/s"])
    assert done.bytes == 4 + (3 << 20) + 2 == done.stored_bytes
    assert contents(root) == {
        "/in/a/b/deep.txt": b"deep",
        "/in/a/x.bin": (tree / "a/x.bin").read_bytes(),
        "/in/top.json": b"{}",
    }
    again(root, "folder", tree, session="w/s", path="/in")
    (tree / "top.json").write_text("[1]")
    assert import_into(root, "folder", tree, session="w/s", path="/in").files == 1
    with opened(root, "w/s") as session:
        assert session.files.get("/in/top.json")["version"] == 2


def test_a_dry_run_changes_nothing_and_counts_the_same(root, tree):
    done = import_into(root, "folder", tree, session="w/s", dry_run=True)
    assert (done.files, done.bytes, done.dry_run) == (3, 6 + (3 << 20), True) and not root.exists()
    import_into(root, "folder", tree, session="w/s")
    (tree / "new").write_text("new")
    before = sorted(root.rglob("*"))
    done = import_into(root, "folder", tree, session="w/s", dry_run=True)
    assert (done.files, done.bytes, done.unchanged) == (1, 3, 3) and sorted(root.rglob("*")) == before


def test_what_a_lake_cannot_hold_is_left_out_and_told(root, tree):
    (tree / "link").symlink_to(tree / "top.json")
    (tree / "loop").symlink_to(tree)
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    (tree / "odd:folder").mkdir()
    (tree / "odd:folder/f").write_text("x")
    (tree / "back\\slash").write_text("x")
    (tree / os.fsdecode(b"\xff")).write_text("x")
    done = import_into(root, "folder", tree, session="w/s")
    assert done.files == 3
    told = {os.path.basename(where): why for where, why in done.skipped}
    assert [told[name] for name in ("link", "loop", "dangling", "fifo")] == ["is a symbolic link"] * 3 + ["is a FIFO"]
    assert "contains the reserved character ':'" in told["f"]
    assert "contains a separator" in told["back\\slash"]
    assert "unprintable character U+DCFF" in told[os.fsdecode(b"\xff")]
    assert done.skipped_count == 7 and done.record()["skippedCount"] == 7


def test_a_file_that_is_in_the_way_is_told(root, tree):
    with opened(root, "w/s") as session:
        session.files.upload(b"a file", filename="a")
        session.files.upload(b"x", path="/top.json", filename="x")
    done = import_into(root, "folder", tree, session="w/s")
    assert done.files == 0 and done.skipped_count == 3
    assert import_into(root, "folder", tree, session="w/s", dry_run=True).skipped_count == 3


def test_batches(root, tree, monkeypatch):
    monkeypatch.setattr(storing, "BATCH_FILES", 2)
    for i in range(7):
        (tree / f"f{i}").write_text(str(i))
    assert import_into(root, "folder", tree, session="w/s").files == 10
    assert len(list((root / ".dreamlake/sessions").rglob("log/*/*.json"))) == 1 + 5


@pytest.mark.parametrize(
    ("kind", "source", "options", "error", "text"),
    [
        ("folder", "none", {"session": "w/s"}, NotFound, "no such folder"),
        ("folder", "file", {"session": "w/s"}, InvalidInput, "is not a folder"),
        ("folder", "tree", {}, InvalidInput, "goes into a session"),
        ("tar", "none", {"session": "w/s"}, NotFound, "no such file"),
        ("tar", "tree", {"session": "w/s"}, InvalidInput, "is not a file"),
        ("tar", "file", {"session": "w/s"}, InvalidInput, "is no tar"),
        ("zip", "file", {"session": "w/s"}, InvalidInput, "kind='zip'"),
        ("mlflow", "tree", {}, InvalidInput, "holds no MLflow runs"),
        ("dreamlake", "tree", {}, InvalidInput, r"holds no sessions of DreamLake 0\.2 to 0\.4"),
        ("dreamlake", "none", {}, NotFound, "no such folder"),
        ("mlflow", "tree", {"session": "w/s"}, InvalidInput, "makes sessions of its own"),
    ],
)
def test_wrong_use(root, tree, tmp_path, kind, source, options, error, text):
    (tmp_path / "file").write_text("not a tar")
    with pytest.raises(error, match=text):
        import_into(root, kind, tmp_path / source, **options)


# ---- tars --------------------------------------------------------------------------------------------------------


def make_tar(file: Path, fill: Callable[[tarfile.TarFile], object], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as tar:
        fill(tar)
    return file


def add(tar: tarfile.TarFile, name: str, data: bytes = b"x", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(root, tree, tmp_path, mode):
    archive = make_tar(tmp_path / "t.tar", lambda tar: tar.add(tree, "./top"), mode)
    done = import_into(root, "tar", archive, session="w/s", path="/in")
    assert (done.files, done.skipped) == (3, []) and done.bytes == 6 + (3 << 20)
    assert contents(root)["/in/top/a/x.bin"] == (tree / "a/x.bin").read_bytes()
    with opened(root, "w/s") as session:
        uploaded = session.files.get("/in/top/top.json")["uploadedAt"]
    assert uploaded[:19] == session_time((tree / "top.json").stat().st_mtime)
    again(root, "tar", archive, session="w/s", path="/in")
    dry = import_into(root, "tar", archive, session="w/s", path="/in", dry_run=True)
    assert (dry.files, dry.unchanged) == (0, 3)


def session_time(seconds: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def test_checkpoints_in_a_tar_are_stored_as_parts(root, tmp_path):
    numpy = pytest.importorskip("numpy")
    data = io.BytesIO()
    numpy.savez(data, w=numpy.random.default_rng(0).normal(size=(300, 1000)).astype("float32"))

    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "a.npz", data.getvalue())

    import_into(root, "tar", make_tar(tmp_path / "t.tgz", fill, "w:gz"), session="w/s")
    stored = [p.name for p in (root / ".dreamlake/blobs").rglob("*") if p.is_file()]
    assert any(name.startswith("rc-") for name in stored)
    assert contents(root)["/a.npz"] == data.getvalue()


def test_hostile_members_are_refused_and_the_rest_is_stored(root, tmp_path):
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "good")
        add(tar, "/etc/absolute")
        add(tar, "../outside")
        add(tar, "a/../../outside")
        add(tar, "a\\..\\b")
        add(tar, "soft", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "soft/through", b"y")
        add(tar, "hard", b"", type=tarfile.LNKTYPE, linkname="good")
        add(tar, "device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add(tar, "block", b"", type=tarfile.BLKTYPE)
        add(tar, "fifo", b"", type=tarfile.FIFOTYPE)
        add(tar, "odd:name/x")
        add(tar, "", b"no name")
        add(tar, "good/inside", b"below a file")
        add(tar, "last", b"last")

    done = import_into(root, "tar", make_tar(tmp_path / "t.tar", fill), session="w/s")
    assert contents(root) == {"/good": b"x", "/soft/through": b"y", "/last": b"last"}
    told = {where.partition(":")[2]: why for where, why in done.skipped}
    for name in ("/etc/absolute", "../outside", "a/../../outside", "a\\..\\b"):
        assert told[name] == "leads out of the archive's tree"
    assert told["soft"] == "is a link to /etc/passwd" and told["hard"] == "is a link to good"
    for name in ("device", "block", "fifo"):
        assert told[name] == "is a device, a FIFO or of an unknown type"
    assert "reserved character" in told["odd:name/x"] and "file and a folder" in told["good/inside"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.tar"]


def test_names_that_come_twice_become_versions_once(root, tmp_path):
    def fill(tar: tarfile.TarFile) -> None:
        for content in (b"one", b"two", b"one", b"three"):
            add(tar, "f", content)

    archive = make_tar(tmp_path / "t.tar", fill)
    done = import_into(root, "tar", archive, session="w/s")
    assert (done.files, done.unchanged) == (3, 1) and contents(root) == {"/f": b"three"}
    again(root, "tar", archive, session="w/s")


def test_bombs_are_refused(root, tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "EXPANSION_FROM", 1 << 20)
    zeros = make_tar(tmp_path / "z.tgz", lambda tar: add(tar, "zeros", bytes(12 << 20)), "w:gz")
    monkeypatch.setattr(tars, "MAX_EXPANSION", 100)
    with pytest.raises(InvalidInput, match="100 times its size: refused as a bomb"):
        import_into(root, "tar", zeros, session="w/s")
    monkeypatch.setattr(tars, "MAX_MEMBERS", 3)
    many = make_tar(tmp_path / "m.tar", lambda tar: [add(tar, f"f{i}") for i in range(5)])
    with pytest.raises(InvalidInput, match="more than 3 members"):
        import_into(root, "tar", many, session="w/s")
    with pytest.raises(InvalidInput, match="unpacks to more than 10 bytes"):
        list(tars.members_of(str(zeros), "/", lambda *a: None, max_file_bytes=1 << 40, max_total_bytes=10))


def test_a_file_over_the_limit_is_told(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMLAKE_MAX_FILE_BYTES", "5")
    archive = make_tar(tmp_path / "t.tar", lambda tar: [add(tar, "large", b"123456"), add(tar, "small", b"12345")])
    done = import_into(root, "tar", archive, session="w/s")
    assert done.files == 1 and done.skipped == [("t.tar:large", "has 6 bytes; the limit is 5")]


@pytest.mark.parametrize("kind", [b"x", b"L", b"g", b"K"])
def test_a_huge_header_is_not_read_into_memory(root, tmp_path, kind):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 40
    file = tmp_path / "t.tar"
    with open(file, "wb") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT))
        out.truncate(1 << 20)
    with pytest.raises(InvalidInput, match="a header of 1,099,511,627,776 bytes"):
        import_into(root, "tar", file, session="w/s")


def test_headers_without_end(root, tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", 0
    file = tmp_path / "t.tar"
    file.write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 20_000)
    with pytest.raises(InvalidInput, match="is no tar, or is damaged"):
        import_into(root, "tar", file, session="w/s")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_torn_archive_keeps_what_came_before(root, tmp_path, mode):
    data = os.urandom(100_000)
    archive = make_tar(tmp_path / "t.tar", lambda tar: [add(tar, f"f{i}", data) for i in range(4)], mode)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) * 5 // 8])
    with pytest.raises(InvalidInput, match=r"is no tar, or is damaged|too early"):
        import_into(root, "tar", archive, session="w/s")
    assert set(contents(root)) <= {"/f0", "/f1"}
    archive.write_bytes(whole)
    import_into(root, "tar", archive, session="w/s")
    assert len(contents(root)) == 4


def test_a_sparse_member_is_refused(root, tmp_path):
    if shutil.which("tar") is None:
        pytest.skip("needs the program tar")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(50 << 20)
        file.seek(25 << 20)
        file.write(b"x")
    os.system(f"cd {tmp_path} && tar --sparse -cf t.tar sparse")
    done = import_into(root, "tar", tmp_path / "t.tar", session="w/s")
    assert done.files == 0 and done.skipped[0][1] == "is a sparse file"


# ---- earlier releases --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "name"),
    [("dreamlake-0.2.4", "vision/run 1"), ("dreamlake-0.3.3", "group/run-1"), ("dreamlake-0.4.17", "group/run-1")],
)
def test_a_tree_of_an_earlier_release(root, release, name):
    done = import_into(root, "dreamlake", GOLDEN / release)
    assert done.files == 2 and done.parameters == 4 and done.log_lines == 3
    assert [why for _, why in done.skipped] == ["was deleted"]
    assert name in done.sessions
    with opened(root, name) as session:
        assert (session.description, session.tags, session.metadata) == ("baseline", ["a", "b"], {"seed": 1})
        assert session.parameters().get() == {"lr": 0.1, "model.kind": "mlp", "model.hidden": [64, 64], "epochs": 3}
        model = session.files.get("/models/model.pth")
        assert session.files.read_bytes(model) == b"weights version 2"
        assert (model["tags"], model["metadata"]) == (["best"], {"loss": 0.25})
        records = json.loads((GOLDEN / release / name / "files/.files_metadata.json").read_text())["files"]
        assert model["uploadedAt"] == records[0]["uploadedAt"] and model["checksum"] == records[0]["checksum"]
        assert session.files.read_text("notes.txt") == "hello\n" and not session.files.exists("/old/gone.bin")
        logs = session.logs()
        assert [(e["level"], e["message"]) for e in logs] == [
            ("info", "started"), ("warn", "slow"), ("error", "broke"),
        ]  # fmt: skip
        first = json.loads((GOLDEN / release / name / "logs/logs.jsonl").read_text().splitlines()[0])
        assert (logs[0]["timestamp"], logs[0]["metadata"]) == (first["timestamp"], {"gpu": 0})
        tracks = {t["name"]: t for t in session.tracks().list_all()}
    if release == "dreamlake-0.2.4":
        assert session_folder_of(root, name) == "/exp"
        assert {n: t["totalDataPoints"] for n, t in tracks.items()} == {"acc": 1, "train loss": 7}
        assert (tracks["train loss"]["description"], tracks["train loss"]["tags"]) == ("per step", ["t"])
        assert tracks["train loss"]["metadata"] == {"unit": "nats"}
    else:
        assert {n: t["totalDataPoints"] for n, t in tracks.items()} == {"robot/pose": 2, "train/loss": 7}
    again(root, "dreamlake", GOLDEN / release)
    dry = import_into(root, "dreamlake", GOLDEN / release, dry_run=True)
    assert (dry.files, dry.unchanged, dry.points, dry.log_lines, dry.parameters) == (0, 2, 0, 0, 0)


def test_a_tree_of_the_first_release(root):
    """0.2.1 kept files under their ids alone, whatever their path."""
    done = import_into(root, "dreamlake", GOLDEN / "dreamlake-0.2.1")
    assert (done.files, done.parameters, done.log_lines, done.points, done.skipped) == (2, 1, 1, 2, [])
    assert contents(root, "vision/run 1") == {"/models/model.pth": b"weights v1", "/notes.txt": b"hello\n"}
    again(root, "dreamlake", GOLDEN / "dreamlake-0.2.1")


def session_folder_of(root: Path, name: str) -> str | None:
    with opened(root, name) as session:
        return session.folder


def test_points_of_each_release(root):
    for release, workspace in (("dreamlake-0.2.4", "a"), ("dreamlake-0.3.3", "b"), ("dreamlake-0.4.17", "c")):
        import_into(root, "dreamlake", GOLDEN / release, workspace=workspace)
    with opened(root, "a/run 1") as session:
        points = session.track("train loss").read()["data"]
        assert points[1]["data"] == {"step": 1, "value": 0.5, "name": "x"}
        assert points[1]["createdAt"].startswith("2026-") and points[6]["data"] == {"step": 6, "value": 2.0}
    with opened(root, "b/run-1") as session, opened(root, "c/run-1") as packed:
        for track in ("train/loss", "robot/pose"):
            plain = [p["data"] for p in session.track(track).read()["data"]]
            columns = [p["data"] for p in packed.track(track).read()["data"]]
            for data in (*plain, *columns):
                if track == "train/loss":
                    data.pop("_ts", None)
            assert plain == columns
        assert packed.track("robot/pose").read()["data"][1]["createdAt"] == "1970-01-01T00:00:02.500000Z"
    with opened(root, "c/run-5") as session:
        rows = [p["data"] for p in session.track("mixed").read()["data"]]
        assert [row["a"] for row in rows] == [1, None, 2.5, None, 1, None]
        assert rows[2]["c"] == {"d": [1, 2]} and rows[1]["b"] == "x" and rows[3]["e"] is True and rows[5]["b"] == 2


def test_the_folder_of_one_session_can_be_given(root):
    assert import_into(root, "dreamlake", GOLDEN / "dreamlake-0.3.3/group/run-1").sessions == ["group/run-1"]


def test_a_session_that_went_on_elsewhere_is_continued(root, tmp_path):
    tree = tmp_path / "old"
    shutil.copytree(GOLDEN / "dreamlake-0.3.3", tree)
    import_into(root, "dreamlake", tree)
    with open(tree / "group/run-1/logs/logs.jsonl", "a") as file:
        file.write(
            '{"sequenceNumber": 3, "timestamp": "2026-12-01T00:00:00Z", "level": "CRITICAL", "message": "more"}\n'
        )
        file.write("{torn")
    done = import_into(root, "dreamlake", tree)
    assert (done.log_lines, done.files) == (1, 0)
    assert any("does not read" in why for _, why in done.skipped)
    with opened(root, "group/run-1") as session:
        assert session.logs()[-1]["level"] == "fatal"
        session.log("of its own")
    assert all("has others already" not in why for _, why in import_into(root, "dreamlake", tree).skipped)
    (tree / "group/run-1/logs/logs.jsonl").write_text('{"level": "odd", "message": "other"}\n')
    done = import_into(root, "dreamlake", tree)
    assert done.log_lines == 0 and any("has others already" in why for _, why in done.skipped)


def test_damaged_and_hostile_trees(root, tmp_path):
    tree = tmp_path / "old"
    shutil.copytree(GOLDEN / "dreamlake-0.2.4", tree)
    run = tree / "vision/run 1"
    (tmp_path / "secret").write_text("secret")
    records = json.loads((run / "files/.files_metadata.json").read_text())["files"]
    model = run / "files/models" / records[0]["id"] / "model.pth"
    model.write_bytes(b"damaged")
    notes = run / "files" / records[1]["id"] / "notes.txt"
    notes.unlink()
    notes.symlink_to(tmp_path / "secret")
    records += [
        {**records[1], "path": "/../../..", "filename": "secret", "id": "x"},
        {**records[1], "id": "../../../../secret", "filename": "secret"},
        {**records[1], "filename": "a/b"},
        {**records[1], "tags": [1]},
        {"id": 3},
        "nonsense",
    ]
    (run / "files/.files_metadata.json").write_text(json.dumps({"files": records}))
    (run / "files/stray.bin").write_text("stray")
    (run / "parameters.json").write_text('{"data": {"a": 1, "a.b": 2, "": 3, "ok": 4}}')
    (tree / "vision/broken").mkdir()
    (tree / "vision/broken/session.json").write_text("{")
    (tree / "vision/bad").mkdir()
    (tree / "vision/bad/session.json").write_text('{"name": "..", "workspace": "w"}')
    done = import_into(root, "dreamlake", tree)
    assert done.files == 0 and done.parameters == 2
    told = "\n".join(f"{where}: {why}" for where, why in done.skipped)
    for text in (
        "is damaged: its SHA-256 is", "has no content on disk", "is not usable", "no record names it", "no JSON object",
        "cannot be below it", "does not read", "parameter ",
    ):  # fmt: skip
        assert text in told, text
    assert b"secret" not in b"".join(contents(root, "vision/run 1").values())


# ---- MLflow ------------------------------------------------------------------------------------------------------


def test_mlflow_runs(root):
    done = import_into(root, "mlflow", GOLDEN / "mlflow-3.17")
    assert len(done.sessions) == 2 and done.files == 2
    assert any(why == "the run was deleted" for _, why in done.skipped)
    assert any("'model' is a value" in why for _, why in done.skipped)
    run = next(s for s in done.sessions if s.startswith("digits: first/baseline-9a8f"))
    with opened(root, run) as session:
        about = session.metadata["mlflow"]
        assert session.description == "the first one"
        assert (about["experiment"], about["status"], about["user"]) == ("digits: first", "FINISHED", "user")
        assert about["tags"]["kind"] == "test" and about["started_at"].startswith("2026-")
        assert session.parameters().get() == {"lr": "0.1", "model": "x", "opt/momentum": "0.9"}
        points = session.track("loss").read()["data"]
        assert [p["data"] for p in points] == [{"step": i, "value": 1 / (i + 1)} for i in range(3)]
        assert points[0]["createdAt"].startswith("2026-11-25T")
        assert str(session.track("val/acc").read()["data"][0]["data"]["value"]) == "nan"
        assert session.track("big: one").read()["data"][0]["data"]["value"] == 1e300
        assert session.files.read_bytes("/weights/w.bin") == bytes(range(200))
        assert session.files.read_text("/notes.txt") == "notes"
    again(root, "mlflow", GOLDEN / "mlflow-3.17")


def test_one_workspace_for_all_runs_and_one_experiment(root):
    (experiment,) = [p for p in (GOLDEN / "mlflow-3.17").iterdir() if p.is_dir() and p.name[0] != "."]
    done = import_into(root, "mlflow", experiment, workspace="mine")
    assert all(name.startswith("mine/baseline-") for name in done.sessions)
    assert {str(info.key) for info in open_lake(root).sessions()} == set(done.sessions)


def test_odd_runs_are_told(root, tmp_path):
    tree = tmp_path / "mlruns"
    shutil.copytree(GOLDEN / "mlflow-3.17", tree)
    (experiment,) = [p for p in tree.iterdir() if p.is_dir() and p.name[0] != "."]
    run = next(p for p in experiment.iterdir() if p.name.startswith("9a8f"))
    (run / "metrics/loss").write_text("nonsense\n1 2\n")
    (run / "params/bytes").write_bytes(b"\xff\xfe")
    (run / "params/link").symlink_to("/etc/passwd")
    (run / "meta.yaml").write_text((run / "meta.yaml").read_text().replace("file:///", "s3://bucket/"))
    shutil.rmtree(run / "artifacts")
    for name, text in (("b1", "a: ["), ("b2", "!!python/object/apply:os.system ['true']"), ("b3", "run_name: '..'\n")):
        (experiment / name).mkdir()
        (experiment / name / "meta.yaml").write_text(text)
    done = import_into(root, "mlflow", tree)
    told = "\n".join(f"{where}: {why}" for where, why in done.skipped)
    for text in (
        "is no point of a metric",
        "params/bytes",
        "is a symbolic link",
        "artifacts are elsewhere (s3://bucket/",
    ):
        assert text in told, text
    assert "b1" in told and "b2" in told
    assert "root:" not in str(contents(root, done.sessions[0]))


def test_checksums_of_what_was_imported(root, tree):
    import_into(root, "folder", tree, session="w/s")
    with opened(root, "w/s") as session:
        for file in session.files.list():
            local = tree / file["path"].lstrip("/") / file["filename"]
            assert hashlib.sha256(local.read_bytes()).hexdigest() == file["checksum"]
