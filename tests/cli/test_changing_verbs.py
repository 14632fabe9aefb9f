"""rm, restore, mv, cp, alias: what changes, what --dry-run says, what is refused."""

from __future__ import annotations

from typing import Any

from cli_process import RUN, Cli


def keys(cli: Cli, session: str = "run 1", workspace: str = "vision") -> list[str]:
    with cli.session(session, workspace) as opened:
        return sorted(f"{r['path'].rstrip('/')}/{r['filename']}" for r in opened.files.list())


ALL = ["/config.json", "/models/best.pth", "/notes/deep/ü 1.txt"]


def test_rm(cli: Cli) -> None:
    assert cli.ok("rm", f"{RUN}:/config.json", "-n").out == "would delete vision/run 1:/config.json\n"
    assert keys(cli) == ALL
    assert cli.ok("rm", f"{RUN}:/config.json").out == "deleted vision/run 1:/config.json\n"
    assert keys(cli) == ALL[1:]
    (record,) = cli.ok("rm", f"{RUN}:/models/best.pth", "--json").json
    assert set(record) == {"sessionId", "id", "deletedAt", "path", "filename"} and record["deletedAt"]


def test_rm_of_folders_and_globs_in_one_commit(cli: Cli) -> None:
    assert "-r" in cli.fails(2, "rm", f"{RUN}:/notes")
    log = cli.root / ".dreamlake/sessions"
    before = len(list(log.glob("*/log/*/*.json")))
    cli.ok("rm", "-r", f"{RUN}:/notes", f"{RUN}:/mod*/**", "vision/b:2:/data/big.bin")
    assert len(list(log.glob("*/log/*/*.json"))) == before + 2  # one record a session
    assert keys(cli) == ["/config.json"] and keys(cli, "b:2") == []
    assert "-r" in cli.fails(2, "rm", f"{RUN}:/")
    plan = cli.ok("rm", "-r", f"{RUN}:/", "-n", "--json").json
    assert [p["filename"] for p in plan] == ["config.json"] and plan[0]["action"] == "rm"
    cli.ok("rm", "-r", f"{RUN}:/")
    assert keys(cli) == []


def test_rm_errors_change_nothing(cli: Cli) -> None:
    cli.fails(3, "rm", f"{RUN}:/config.json", f"{RUN}:/nothing")
    cli.fails(3, "rm", f"{RUN}:/*.nothing")
    cli.fails(3, "rm", "vision/none:/x")
    assert "older version" in cli.fails(2, "rm", f"{RUN}:/models/best.pth@v1")
    assert "names a session" in cli.fails(2, "rm", RUN)
    assert keys(cli) == ALL


def test_restore(cli: Cli) -> None:
    assert cli.ok("restore", f"{RUN}:/notes/old.txt", "-n").out == "would restore vision/run 1:/notes/old.txt\n"
    assert keys(cli) == ALL
    assert cli.ok("restore", f"{RUN}:/notes/old.txt").out == "restored vision/run 1:/notes/old.txt  v1\n"
    assert "/notes/old.txt" in keys(cli)


def test_restore_of_versions(cli: Cli) -> None:
    (record,) = cli.ok("restore", f"{RUN}:/models/best.pth@first", "--json").json
    assert record["version"] == 3 and record["sizeBytes"] == 9
    cli.ok("restore", f"{RUN}:/models/best.pth", "--version", "2")
    assert cli.ok("cat", f"{RUN}:/models/best.pth").raw == b"weights 22"
    assert cli.ok("restore", f"{RUN}:/models/best.pth@v1", "-n").out.endswith("/models/best.pth@v1\n")


def test_restore_of_folders_and_globs(cli: Cli) -> None:
    cli.ok("rm", "-r", f"{RUN}:/")
    cli.ok("restore", f"{RUN}:/*.json")
    assert keys(cli) == ["/config.json"]
    assert len(cli.ok("restore", f"{RUN}:/notes", "-n", "--json").json) == 2
    cli.ok("restore", f"{RUN}:/notes")
    assert keys(cli) == ["/config.json", "/notes/deep/ü 1.txt", "/notes/old.txt"]


def test_restore_errors(cli: Cli) -> None:
    for dry in ([], ["-n"]):
        assert "not deleted" in cli.fails(4, "restore", f"{RUN}:/config.json", *dry)
        cli.fails(3, "restore", f"{RUN}:/nothing", *dry)
        cli.fails(3, "restore", f"{RUN}:/*.nothing", *dry)
    cli.fails(3, "restore", f"{RUN}:/models/best.pth@v9")


def test_mv(cli: Cli) -> None:
    plan = cli.ok("mv", f"{RUN}:/models/best.pth", "/final/", "-n").out
    assert plan == "would move vision/run 1:/models/best.pth to vision/run 1:/final/best.pth\n"
    assert keys(cli) == ALL
    done = cli.ok("mv", f"{RUN}:/models/best.pth", "/final/").out
    assert done == "moved vision/run 1:/models/best.pth to vision/run 1:/final/best.pth\n"
    (record,) = cli.ok("mv", f"{RUN}:/final/best.pth", f"{RUN}:/renamed.pth", "--json").json
    assert record["filename"] == "renamed.pth" and record["version"] == 2
    assert [r["version"] for r in cli.ok("history", f"{RUN}:/renamed.pth", "--json").json] == [2, 1]


def test_mv_of_folders_and_globs(cli: Cli) -> None:
    cli.ok("restore", f"{RUN}:/notes/old.txt")
    assert "2 files" in cli.ok("mv", f"{RUN}:/notes", "/archive").out
    assert keys(cli) == ["/archive/deep/ü 1.txt", "/archive/old.txt", "/config.json", "/models/best.pth"]
    assert "need a folder" in cli.fails(2, "mv", f"{RUN}:/archive/**", "/x")
    cli.ok("mv", f"{RUN}:/archive/**", "/flat/")
    assert keys(cli) == ["/config.json", "/flat/old.txt", "/flat/ü 1.txt", "/models/best.pth"]


def test_mv_errors_change_nothing(cli: Cli) -> None:
    for dry in ([], ["-n"]):
        assert "exists" in cli.fails(4, "mv", f"{RUN}:/config.json", "/models/best.pth", *dry)
        cli.fails(3, "mv", f"{RUN}:/nothing", "/x", *dry)
        assert "inside one session" in cli.fails(2, "mv", f"{RUN}:/config.json", "vision/b:2:/", *dry)
        cli.fails(2, "mv", f"{RUN}:/config.json", "/../x", *dry)
        cli.fails(4, "mv", f"{RUN}:/models/best.pth@v1", "/x", *dry)
    assert keys(cli) == ALL


def test_cp(cli: Cli) -> None:
    plan = cli.ok("cp", f"{RUN}:/models/best.pth@v1", "vision/b:2:/from/", "-n", "--json").json
    assert plan == [{"action": "copy", "from": "vision/run 1:/models/best.pth", "to": "vision/b:2:/from/best.pth"}]
    assert keys(cli, "b:2") == ["/data/big.bin"]
    done = cli.ok("cp", f"{RUN}:/models/best.pth@v1", "vision/b:2:/from/").out
    assert done == "copied vision/run 1:/models/best.pth@v1 to vision/b:2:/from/best.pth\n"
    assert cli.ok("cat", "vision/b:2:/from/best.pth").raw == b"weights 1"
    cli.ok("cp", f"{RUN}:/models", "/copy")
    cli.ok("cp", f"{RUN}:/**/*.txt", "audio/other:/")
    assert "/copy/best.pth" in keys(cli) and keys(cli, "other", "audio") == ["/empty.wav", "/ü 1.txt"]


def test_cp_errors(cli: Cli) -> None:
    for dry in ([], ["-n"]):
        cli.fails(3, "cp", f"{RUN}:/nothing", "/x", *dry)
        cli.fails(3, "cp", f"{RUN}:/config.json", "vision/none:/", *dry)
        assert "is a file" in cli.fails(4, "cp", f"{RUN}:/config.json", "/models/best.pth/x", *dry)
        assert "names a workspace" in cli.fails(2, "cp", f"{RUN}:/config.json", "vision", *dry)
    assert keys(cli) == ALL


def test_alias(cli: Cli) -> None:
    best = f"{RUN}:/models/best.pth"
    assert cli.ok("alias", best).out == "first = v1\n"
    assert cli.ok("alias", best, "best", "-n").out == "would set /models/best.pth@best = v2\n"
    assert cli.ok("alias", best, "--json").json == [{"alias": "first", "version": 1}]
    assert cli.ok("alias", best, "best").out == "set /models/best.pth@best = v2\n"
    (record,) = cli.ok("alias", f"{best}@v1", "best", "--json").json
    assert record["version"] == 1
    assert cli.ok("cat", f"{best}@best").raw == b"weights 1"
    assert cli.ok("alias", best, "best", "--remove").out == "removed /models/best.pth@best\n"
    assert cli.ok("alias", best, "--json").json == [{"alias": "first", "version": 1}]


def test_alias_errors(cli: Cli) -> None:
    best = f"{RUN}:/models/best.pth"
    for dry in ([], ["-n"]):
        cli.fails(3, "alias", f"{RUN}:/nothing", "x", *dry)
        cli.fails(3, "alias", f"{best}@v9", "x", *dry)
        assert "without spaces" in cli.fails(2, "alias", best, "a b", *dry)
        cli.fails(2, "alias", best, "v3", *dry)
        cli.fails(3, "alias", best, "none", "--remove", *dry)
    assert "NAME" in cli.fails(2, "alias", best, "--remove")


def test_a_write_protected_session_stays_as_it_is(cli: Cli) -> None:
    with cli.session(write_protected=True):
        pass
    calls: list[list[Any]] = [
        ["rm", f"{RUN}:/config.json"],
        ["restore", f"{RUN}:/notes/old.txt"],
        ["mv", f"{RUN}:/config.json", "/x"],
        ["cp", f"{RUN}:/config.json", "/x"],
        ["alias", f"{RUN}:/config.json", "x"],
    ]
    for call in calls:
        assert "write-protected" in cli.fails(6, *call)
        assert "write-protected" in cli.fails(6, *call, "-n")
    assert keys(cli) == ALL
