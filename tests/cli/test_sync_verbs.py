"""``push``, ``pull`` and ``sync``: what they print, what they exit with, and that a dry run changes nothing."""

from __future__ import annotations

from cli_process import Cli


def test_there_and_back(cli: Cli) -> None:
    assert cli.fails(3, "push", "team", "--create", "--dry-run")  # a dry run makes no lake
    assert not (cli.cwd / "team").exists()
    sent = cli.ok("push", "team", "--create").lines
    assert sent and all(line.startswith("sent ") for line in sent)
    assert cli.ok("push", "team").lines[0].startswith("nothing to do")
    received = cli.ok("--lake", "other", "pull", "team").lines
    assert [line.partition(" ")[2] for line in received] == [line.partition(" ")[2] for line in sent]
    assert cli.ok("--lake", "other", "sync", "experiments").lines[0].startswith("nothing to do")
    assert cli.ok("--lake", "other", "ls").lines == cli.ok("ls").lines


def test_a_dry_run_says_and_changes_nothing(cli: Cli) -> None:
    cli.ok("push", "team", "vision/run 1", "--create")
    with cli.session() as session:
        session.files().upload(b"new", filename="new.txt")
    would = cli.ok("sync", "team", "vision/run 1", "--dry-run").lines
    assert would[0].startswith("would send vision/run 1: 1 version, 1 content of 3 B")
    assert cli.ok("sync", "team", "vision/run*", "--dry-run").lines == would
    assert cli.ok("sync", "team", "vision/run 1").lines[0].startswith("sent vision/run 1: 1 version, 1 content of 3 B")


def test_json(cli: Cli) -> None:
    cli.ok("push", "team", "--create")
    [record] = cli.ok("sync", "team", "--json").json
    assert record["exitCode"] == 0 and not record["dryRun"]
    assert record["sent"]["changed"] is record["received"]["changed"] is False
    assert {session["error"] for session in record["sessions"]} == {None}


def test_what_is_not_there(cli: Cli) -> None:
    assert "no lake in" in cli.fails(3, "push", "team")
    cli.ok("push", "team", "--create")
    assert "no session or workspace is called 'nothing'" in cli.fails(3, "sync", "team", "nothing")
    assert "both source and target" in cli.fails(2, "sync", "experiments")
    assert "password" in cli.fails(2, "push", "mongodb://user:secret@host/lake")


def test_damage_is_told_and_the_rest_goes_on(cli: Cli) -> None:
    with cli.session("whole", "other") as session:
        session.files().upload(b"whole", filename="whole.txt")
    with cli.session("damaged", "other") as session:
        record = session.files().upload(b"damaged", filename="damaged.txt")
    blob = cli.root / ".dreamlake/blobs" / record["checksum"][:2] / record["checksum"]
    blob.chmod(0o644)
    blob.write_bytes(b"changed")
    done = cli("push", "team", "other", "--create")
    assert done.code == 5 and "other/damaged was left as it is: " in done.err
    assert done.lines[0].startswith("sent other/whole: 1 version, 1 content of 5 B, 5 B as stored")
    assert "other/whole" in cli.ok("--lake", "team", "ls").out and "damaged" not in cli.ok("--lake", "team", "ls").out
