"""dreamlake materialize, as a user meets it."""

from __future__ import annotations

import os
from pathlib import Path

from cli_process import RUN, Cli


def below(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


TREE = {"config.json": b"{}", "models/best.pth": b"weights 22", "notes/deep/ü 1.txt": "größe".encode()}


def test_the_whole_lake_then_nothing_to_do(cli: Cli) -> None:
    done = cli.ok("materialize")
    assert done.out == f"placed 5 files, 2.0 KiB, in {cli.root}; 0 unchanged\n"
    assert below(cli.root / "vision/run 1/files") == TREE
    assert (cli.root / "vision/b:2/files/data/big.bin").exists() and (cli.root / "audio/other/files/empty.wav").exists()
    (again,) = cli.ok("materialize", "--json").json
    assert again == {
        "root": str(cli.root), "placed": 0, "sizeBytes": 0, "unchanged": 5, "removed": 0, "obsolete": 0, "links": {},
        "conflicts": [], "missing": [],
    }  # fmt: skip


def test_scopes_patterns_and_places(cli: Cli) -> None:
    cli.ok("materialize", RUN, "--to", "one")
    assert below(cli.cwd / "one") == {f"vision/run 1/files/{k}": v for k, v in TREE.items()}
    cli.ok("materialize", "audio", "--to", "two")
    assert list(below(cli.cwd / "two")) == ["audio/other/files/empty.wav"]
    cli.ok("materialize", "--path", "*.txt", "--to", "three")
    assert list(below(cli.cwd / "three")) == ["vision/run 1/files/notes/deep/ü 1.txt"]
    cli.ok("materialize", f"{RUN}:/models", "--to", "four")
    assert list(below(cli.cwd / "four")) == ["vision/run 1/files/models/best.pth"]
    cli.ok("materialize", f"{RUN}:/config.json", "--to", "five")
    assert list(below(cli.cwd / "five")) == ["vision/run 1/files/config.json"]


def test_dry_run_and_check_change_nothing(cli: Cli) -> None:
    done = cli.ok("materialize", RUN, "--dry-run")
    assert done.lines[0] == "would place vision/run 1/files/models/best.pth"
    assert done.lines[-1] == f"would place 3 files, 19 B, in {cli.root}; 0 unchanged"
    assert not (cli.root / "vision/run 1/files").exists()
    (plan,) = cli.ok("materialize", RUN, "-n", "--json").json
    assert plan["dryRun"] and {a["action"] for a in plan["actions"]} == {"place"} and len(plan["actions"]) == 3
    checked = cli("materialize", RUN, "--check", "--json")
    assert checked.code == 9 and len(checked.json[0]["missing"]) == 3
    cli.ok("materialize", RUN)
    assert cli.ok("materialize", RUN, "--check").out == f"3 files in order in {cli.root}\n"


def test_edits_are_reported_and_survive_without_force(cli: Cli) -> None:
    cli.ok("materialize")
    edited = cli.root / "vision/run 1/files/config.json"
    edited.write_text("my edit")
    (cli.root / "vision/run 1/files/mine.txt").write_text("mine")
    done = cli("materialize")
    assert done.code == 4 and done.err.startswith(f"dreamlake: conflict: {edited} was edited") and "--force" in done.err
    assert edited.read_text() == "my edit"
    done = cli("materialize", "--json")
    assert done.code == 4 and done.err == ""
    assert done.json[0]["conflicts"][0] | {"reason": ""} == {
        "code": "edited", "sessionId": RUN, "file": "/config.json", "path": str(edited), "reason": "",
    }  # fmt: skip
    assert cli("materialize", "-n").code == 4
    done = cli("materialize", "--check")
    assert done.code == 9 and done.lines[:2] == [
        "edited    vision/run 1/files/config.json",
        "extra     vision/run 1/files/mine.txt",
    ]
    cli.ok("materialize", "--force")
    assert edited.read_bytes() == b"{}" and (cli.root / "vision/run 1/files/mine.txt").read_text() == "mine"


def test_delete_follows_the_tree(cli: Cli) -> None:
    cli.ok("materialize", RUN)
    cli.ok("rm", f"{RUN}:/models/best.pth")
    assert "--delete removes them" in cli.ok("materialize", RUN).out
    assert cli.ok("materialize", RUN, "--delete", "-n").lines[0] == "would remove vision/run 1/files/models/best.pth"
    assert "1 removed" in cli.ok("materialize", RUN, "--delete").out
    assert sorted(os.listdir(cli.root / "vision/run 1/files")) == ["config.json", "notes"]


def test_links(cli: Cli) -> None:
    assert "3 by hardlink" in cli.ok("materialize", RUN, "--link", "hardlink").out
    assert (cli.root / "vision/run 1/files/config.json").stat().st_nlink == 2
    cli.ok("materialize", RUN, "--link", "symlink")
    assert (cli.root / "vision/run 1/files/config.json").is_symlink()
    cli.ok("materialize", RUN, "--link", "copy")
    assert below(cli.root / "vision/run 1/files") == TREE
    assert "hard" in cli.fails(2, "materialize", "--link", "harder")


def test_as_it_was(cli: Cli) -> None:
    uploaded = cli.ok("info", f"{RUN}:/models/best.pth@v1", "--json").json[0]["uploadedAt"]
    cli.ok("materialize", RUN, "--at", uploaded, "--to", "then")
    assert below(cli.cwd / "then") == {"vision/run 1/files/models/best.pth": b"weights 1"}
    cli.ok("materialize", RUN, "--at", "v1", "--to", "first")
    assert (cli.cwd / "first/vision/run 1/files/models/best.pth").read_bytes() == b"weights 1"
    assert "ISO-8601" in cli.fails(2, "materialize", RUN, "--at", "yesterday")


def test_missing_and_damaged_content(cli: Cli) -> None:
    checksum = cli.ok("info", f"{RUN}:/config.json", "--json").json[0]["checksum"]
    (blob,) = (cli.root / ".dreamlake/blobs").glob(f"*/{checksum}")
    blob.chmod(0o644)
    blob.write_bytes(b"!!")
    done = cli("materialize", RUN)
    assert done.code == 5 and "damaged" in done.err and "2 files" in done.out and "1 missing" in done.out
    blob.unlink()
    assert cli("materialize", RUN).code == 3
    assert set(below(cli.root / "vision/run 1/files")) == {"models/best.pth", "notes/deep/ü 1.txt"}


def test_materialize_errors(cli: Cli) -> None:
    cli.fails(3, "materialize", "none")
    cli.fails(3, "materialize", "vision/none")
    (cli.cwd / "file").write_text("x")
    assert "not a folder" in cli.fails(2, "materialize", "--to", "file/x/y")
    assert "'file' is a file" in cli.fails(2, "materialize", "--to", "file")
    assert "inside the store" in cli.fails(2, "materialize", "--to", cli.root / ".dreamlake/x")
    assert "two patterns" in cli.fails(2, "materialize", f"{RUN}:/models", "--path", "*")
