"""``scan`` and ``diff`` on the command line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_process import RUN, Cli

ROWS = 100_000


def weights(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(ROWS, 4)).astype(np.float32), "b": np.zeros(3), "n": np.int64(seed)}


def checkpoints(folder: Path) -> None:
    """Three versions of which the second is the first again, and two small files."""
    folder.mkdir()
    first, third = weights(0), weights(0)
    third["w"] += np.float32(0.0001)
    for number, arrays in enumerate((first, first, third), 1):
        np.savez(folder / f"epoch_{number}.npz", **arrays)
    (folder / "a.json").write_text("{}")
    (folder / "b.json").write_text("{}")


def seconds(text: str) -> str:
    return re.sub(r"in [0-9.]+ s \(.*/s\)", "in N s (N/s)", text)


def tables(text: str) -> list[list[str]]:
    """The words of every line, sizes in one word."""
    return [re.sub(r"(?<=[0-9]) (?=[KMGi]*B\b)", "_", line).split() for line in text.splitlines()]


# ---- scan ------------------------------------------------------------------------------------------------------------


def test_scan_prints_aligned_tables(empty: Cli) -> None:
    checkpoints(empty.cwd / "runs")
    out = seconds(empty.ok("scan", "runs").out)
    rows = tables(out)
    assert rows[0] == ["STORED", "SIZE", "RATIO", "SAVED"]
    assert rows[1] == ["as", "it", "is", "4.6_MiB", "1.000"]
    assert rows[2] == ["each", "file", "once", "3.1_MiB", "0.667", "1.5_MiB"]
    assert rows[3][:3] == ["each", "tensor", "once"] and rows[3][3] == "3.1_MiB"
    assert rows[4][0] == "differences" and float(rows[4][2]) < 0.55
    assert rows[6] == ["KIND", "FILES", "SIZE", "FILE", "ONCE", "TENSOR", "ONCE", "DIFFERENCES", "RATIO"]
    assert rows[7][:4] == [".npz", "(npz)", "3", "4.6_MiB"]
    assert rows[8] == [".json", "2", "4_B", "2_B", "2_B", "2_B", "0.500"]
    assert rows[10][:3] == ["SAVES", "MOST", "SIZE"]
    assert rows[11] == ["epoch_2.npz", "1.5_MiB", "0_B", "0_B", "0_B", "0.000"]
    assert [row[0] for row in rows[12:15]] == ["epoch_3.npz", "epoch_1.npz", "b.json"]
    assert out.splitlines()[-1] == "5 files, 4.6 MiB; 4.6 MiB read in N s (N/s)"
    ends = [line.rindex("RATIO") + 5 for line in out.splitlines() if line.endswith("RATIO")]
    kinds = out.splitlines()[6:9]
    assert len({len(line) for line in kinds}) == 1 and ends == [len(kinds[0]), len(out.splitlines()[10])]


def test_scan_as_json(empty: Cli) -> None:
    checkpoints(empty.cwd / "runs")
    (value,) = empty.ok("scan", "runs", "--json", "--top", "1").json
    assert list(value) == [
        "root", "quick", "files", "sizeBytes", "storedBytes", "ratio", "kinds", "top", "skipped", "skippedCount",
        "links", "readBytes", "seconds",
    ]  # fmt: skip
    assert (value["root"], value["quick"], value["files"], value["skipped"]) == ("runs", False, 5, [])
    size = (empty.cwd / "runs" / "epoch_1.npz").stat().st_size
    assert value["sizeBytes"] == 3 * size + 4 and value["storedBytes"]["files"] == 2 * size + 2
    assert value["storedBytes"]["tensors"] <= 2 * size + 2
    assert value["ratio"]["differences"] == round(value["storedBytes"]["differences"] / value["sizeBytes"], 4) < 0.55
    assert [(kind["suffix"], kind["kind"], kind["files"]) for kind in value["kinds"]] == [
        (".npz", "npz", 3), (".json", "", 2),
    ]  # fmt: skip
    assert value["top"] == [
        {
            "path": "epoch_2.npz", "kind": "npz", "sizeBytes": size,
            "storedBytes": {"files": 0, "tensors": 0, "differences": 0},
        }
    ]  # fmt: skip


def test_scan_quick_says_that_it_estimates(empty: Cli) -> None:
    checkpoints(empty.cwd / "runs")
    out = empty.ok("scan", "--quick", "runs", "--sort", "stored").out
    assert "~3.1 MiB" in out and "TAKES MOST" in out and out.rstrip().endswith("; ~ is estimated")
    assert empty.ok("scan", "--quick", "runs", "--json").json[0]["quick"] is True


def test_scan_options(empty: Cli) -> None:
    checkpoints(empty.cwd / "runs")
    text = "".join(f"line {i} of a log that repeats itself\n" for i in range(60_000))
    (empty.cwd / "runs" / "log.txt").write_text(text)
    plain, coded = (empty.ok("scan", "runs", "--encoding", e, "--json").json[0] for e in ("auto", "coded"))
    assert coded["storedBytes"]["differences"] < plain["storedBytes"]["differences"] - len(text) / 2
    out = empty.ok("scan", "runs", "--top", "0").out
    assert "SAVES MOST" not in out
    assert empty.ok("scan", "runs", "--sort", "size", "--top", "1", "--workers", "1").out.count("epoch_") == 0


def test_scan_notes_what_it_leaves_out(empty: Cli) -> None:
    folder = empty.cwd / "runs"
    folder.mkdir()
    (folder / "x.txt").write_text("x")
    (folder / "link").symlink_to("x.txt")
    os.mkfifo(folder / "pipe")
    done = empty("scan", "runs")
    assert done.code == 0
    assert done.err == "dreamlake: skipped pipe: not a regular file\ndreamlake: 1 link not followed\n"
    (value,) = empty("scan", "runs", "--json").json
    assert (value["links"], value["skippedCount"]) == (1, 1)
    assert value["skipped"] == [{"path": "pipe", "reason": "not a regular file"}]


def test_scan_of_many_kinds_adds_up_the_rest(empty: Cli) -> None:
    (empty.cwd / "runs").mkdir()
    for i in range(25):
        (empty.cwd / "runs" / f"f.{'abcdefghijklmnopqrstuvwxyz'[i]}").write_bytes(b"x" * (25 - i))
    rows = tables(empty.ok("scan", "runs").out)
    assert ["5", "more", "kinds", "5", "15_B", "15_B", "15_B", "15_B", "1.000"] in rows
    assert len(empty.ok("scan", "runs", "--json").json[0]["kinds"]) == 25


def test_scan_of_nothing_and_of_no_folder(empty: Cli) -> None:
    (empty.cwd / "runs").mkdir()
    out = empty.ok("scan", "runs").out
    assert tables(out)[1] == ["as", "it", "is", "0_B", "-"] and "0 files, 0 B; 0 B read" in out
    assert empty.fails(3, "scan", "nowhere") == "no folder nowhere"
    assert "is no folder" in empty.fails(2, "scan", "/dev/null")
    assert not (empty.cwd / "experiments").exists()


def test_scan_survives_names_that_are_no_text(empty: Cli) -> None:
    (empty.cwd / "runs").mkdir()
    name = os.fsencode(empty.cwd) + b"/runs/a\xff\x1b[31m.npy"
    np.save(io := Path(os.fsdecode(name)), np.arange(200_000.0))
    assert io.exists()
    assert r"a\xff\x1b[31m.npy" in empty.ok("scan", "runs").out.replace(r"\udcff", r"\xff")
    assert empty.ok("scan", "runs", "--json").json[0]["files"] == 1


# ---- diff ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(cli: Cli) -> Cli:
    """Sessions vision/a and vision/b, which differ in every way."""
    changed = weights(0)
    changed["w"][0, 0] = np.nan
    changed["n"] = np.int64(1)
    for name, arrays in (("a", weights(0)), ("b", changed)):
        np.savez(cli.cwd / f"{name}.npz", **arrays)
        with cli.session(name) as session:
            session.files.upload(cli.cwd / f"{name}.npz", path="/models", filename="m.npz")
            session.files.upload(b"same", filename="same.txt")
            session.files.upload(b"moved", filename="moved.txt", path=f"/{name}")
            session.files.upload(name.encode(), filename=f"only-{name}.txt")
    return cli


def test_diff_of_sessions(pair: Cli) -> None:
    rows = tables(pair.ok("diff", "vision/a", "vision/b").out)
    assert rows == [
        ["CHANGE", "FILE", "BEFORE", "AFTER", "SHARED", "TENSORS"],
        ["changed", "models/m.npz", "1.5_MiB", "1.5_MiB", "24_B", "2", "changed,", "1", "same"],
        ["moved", "a/moved.txt", "->", "b/moved.txt", "5_B", "5_B"],
        ["added", "only-b.txt", "1_B"],
        ["removed", "only-a.txt", "1_B"],
        [],
        ["TENSOR", "OF", "models/m.npz", "CHANGE", "DTYPE", "SHAPE", "CHANGED", "MAX", "ABS", "REL", "L2", "NAN"],
        ["w", "changed", "float32", "100000x4", "<0.1%", "0", "0", "0", "->", "1"],
        ["n", "changed", "int64", "scalar", "100.0%", "1", "-"],
        [],
        ["1", "changed,", "1", "added,", "1", "removed,", "1", "moved,", "1", "the", "same;", "33_B", "of", "1.5_MiB",
         "shared", "(<0.1%)"],
    ]  # fmt: skip


def test_diff_as_json(pair: Cli) -> None:
    (value,) = pair.ok("diff", "vision/a", "vision/b", "--json").json
    assert list(value) == [
        "a", "b", "differs", "same", "added", "removed", "changed", "moved", "sizeBytes", "sharedBytes", "files",
        "skipped",
    ]  # fmt: skip
    assert (value["a"], value["b"], value["differs"]) == ("vision/a", "vision/b", True)
    assert [value[name] for name in ("same", "added", "removed", "changed", "moved")] == [1] * 5
    size = (pair.cwd / "a.npz").stat().st_size
    assert value["sizeBytes"] == {"a": size + 10, "b": size + 10} and value["sharedBytes"] == 33
    changed, moved, added, removed = value["files"]
    assert changed["sizeBytes"] == {"before": size, "after": size} and changed["sameTensors"] == 1
    assert changed["tensors"][1] == {
        "name": "n", "change": "changed", "dtype": {"before": "int64", "after": "int64"},
        "shape": {"before": [], "after": []}, "elements": 1, "changedElements": 1, "maxAbs": 1.0, "relativeL2": None,
        "nan": {"before": 0, "after": 0}, "inf": {"before": 0, "after": 0},
    }  # fmt: skip
    assert changed["tensors"][0]["nan"] == {"before": 0, "after": 1}
    assert (moved["movedFrom"], moved["path"], moved["tensors"]) == ("a/moved.txt", "b/moved.txt", None)
    assert moved["checksum"]["before"] == moved["checksum"]["after"] != added["checksum"]["after"]
    assert (added["sizeBytes"], removed["sizeBytes"]) == ({"before": None, "after": 1}, {"before": 1, "after": None})


def test_diff_exit_codes(pair: Cli) -> None:
    assert pair("diff", "vision/a", "vision/b").code == 0
    assert pair("diff", "vision/a", "vision/b", "--exit-code").code == 1
    assert pair("diff", "vision/a", "vision/b", "--exit-code", "--json").json[0]["differs"] is True
    done = pair.ok("diff", "vision/a", "vision/a", "--exit-code")
    assert done.out == "no difference: 4 files, 1.5 MiB\n"
    assert pair.fails(3, "diff", "vision/a", "vision/nowhere", "--exit-code").startswith("no session 'vision/nowhere'")
    assert "did you mean 'vision/b'" in pair.fails(3, "diff", "vision/a", "vision/bb")
    assert pair.fails(2, "diff", "vision", "vision/a").startswith("'vision' names a workspace")
    assert "is a file and" in pair.fails(2, "diff", "vision/a:/same.txt", "vision/a")
    assert "no ':'" in pair.fails(2, "diff", "vision/a/models", "vision/b")


def test_diff_of_versions_and_folders(cli: Cli) -> None:
    out = cli.ok("diff", f"{RUN}:/models/best.pth@first", f"{RUN}:/models/best.pth").out
    assert tables(out)[1] == ["changed", "/models/best.pth", "9_B", "10_B"]
    assert cli.ok("diff", f"{RUN}:/models", f"{RUN}:/models/").out == "no difference: 1 file, 10 B\n"
    assert tables(cli.ok("diff", f"{RUN}:/notes", f"{RUN}:/models").out)[1:3] == [
        ["added", "best.pth", "10_B"], ["removed", "deep/ü", "1.txt", "7_B"],
    ]  # fmt: skip


def test_diff_options(pair: Cli) -> None:
    out = pair.ok("diff", "vision/a", "vision/b", "--files-only").out
    assert "TENSOR" not in out.replace("TENSORS", "") and "changed  models/m.npz" in out
    assert "TENSOR OF" not in pair.ok("diff", "vision/a", "vision/b", "--top", "0").out
    short = pair.ok("diff", "vision/a", "vision/b", "--top", "1").lines
    assert short[-3] == "... 1 more tensor (--top 2 shows all)"


def test_diff_with_files_on_disk(pair: Cli) -> None:
    done = pair.ok("diff", "vision/b:/models/m.npz", "./b.npz", "--exit-code")
    assert done.out == "no difference: 1 file, 1.5 MiB\n"
    rows = tables(pair.ok("diff", "--local", "a.npz", "b.npz", "--top", "1").out)
    assert rows[1] == ["changed", "b.npz", "1.5_MiB", "1.5_MiB", "24_B", "2", "changed,", "1", "same"]
    assert rows[4][0] == "w"  # NaN first
    assert pair.fails(3, "diff", "--local", "a.npz", "nowhere.npz") == "no file or folder nowhere.npz"
    assert pair.fails(3, "diff", "vision/a:/models", "../nowhere") == "no file or folder ../nowhere"
    absolute = pair.ok("diff", str(pair.cwd / "a.npz"), "~/b.npz", env={"HOME": str(pair.cwd)}).out
    assert "2 changed, 1 same" in absolute


def test_local_files_need_no_lake(empty: Cli) -> None:
    for name in ("x", "y"):
        (empty.cwd / name).mkdir()
        (empty.cwd / name / "f.txt").write_text(name)
    assert "1 changed; 0 B of 1 B shared (0.0%)" in empty.ok("diff", "--local", "x", "y").out
    assert not empty.root.exists()
    (empty.cwd / "x" / ".dreamlake").mkdir()
    assert empty("diff", "./x", "./y").err == "dreamlake: skipped ./x/.dreamlake: the store of a lake\n"
    assert "no lake in" in empty.fails(3, "diff", "vision/a", "vision/b")


def test_names_of_strangers_play_no_tricks(empty: Cli) -> None:
    for name, value in (("x", 1.0), ("y", 2.0)):
        np.savez(empty.cwd / f"{name}.npz", **{"w\x1b[31m": np.full(2, value)})
    out = empty.ok("diff", "./x.npz", "./y.npz").out
    assert r"w\x1b[31m" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("dreamlake diff vision/a:/mo", "vision/a:/models/"), ("dreamlake diff ./", "files"),
     ("dreamlake diff --local vis", "files")],
)  # fmt: skip
def test_completion_knows_addresses_and_files(pair: Cli, words: str, wanted: str) -> None:
    env = {"_DREAMLAKE_COMPLETE": "zsh_complete", "COMP_WORDS": words.replace(" ", "\n")}
    assert wanted in pair.real(env=env).out.splitlines()
