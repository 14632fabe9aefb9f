"""ls, tree, info, history, find: what people see and what programs read."""

from __future__ import annotations

from cli_process import RUN, Cli

KEYS = {
    "id", "sessionId", "path", "filename", "description", "tags", "contentType", "sizeBytes", "checksum", "metadata",
    "uploadedAt", "updatedAt", "deletedAt", "version",
}  # fmt: skip


def names(done: object) -> list[str]:
    return [f"{r['path'].rstrip('/')}/{r['filename']}" for r in done.json]  # type: ignore[attr-defined]


def test_ls_lists_sessions(lake: Cli) -> None:
    done = lake.ok("ls")
    assert done.lines[0].split() == ["SESSION", "FILES", "SIZE", "UPDATED", "TAGS"]
    assert [line[:12].rstrip() for line in done.lines[1:-1]] == ["audio/other", "vision/b:2", "vision/run 1"]
    assert done.lines[-1] == "3 sessions, 5 files, 2.0 KiB"
    assert [r["sessionId"] for r in lake.ok("ls", "vision", "--json").json] == ["vision/b:2", "vision/run 1"]
    (other,) = lake.ok("ls", "audio", "--json").json
    assert other | {"createdAt": 0, "updatedAt": 0} == {
        "sessionId": "audio/other", "workspace": "audio", "name": "other", "description": None, "tags": [],
        "folder": None, "metadata": {}, "writeProtected": False, "createdAt": 0, "updatedAt": 0, "files": 1,
        "sizeBytes": 0,
    }  # fmt: skip


def test_ls_lists_files_in_an_aligned_table(lake: Cli) -> None:
    done = lake.ok("ls", RUN)
    assert done.lines[0].split() == ["PATH", "SIZE", "VERSION", "UPLOADED", "TAGS"]
    assert [line.split("  ")[0] for line in done.lines[1:]] == [
        "/models/best.pth", "/config.json", "/notes/deep/ü 1.txt", "3 files, 19 B",
    ]  # fmt: skip
    columns = {line.index(text) for line, text in zip(done.lines[1:3], ["v2", "v1"], strict=False)}
    assert len(columns) == 1


def test_ls_json_is_what_the_python_api_returns(lake: Cli) -> None:
    with lake.session() as session:
        expected = session.files.list()
    assert lake.ok("ls", RUN, "--json").json == expected
    assert set(expected[0]) == KEYS


def test_ls_of_folders_files_globs_and_options(lake: Cli) -> None:
    assert names(lake.ok("ls", f"{RUN}:/models", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("ls", f"{RUN}:/models/best.pth@first", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("ls", f"{RUN}:/*.json", "--json")) == ["/config.json"]
    assert names(lake.ok("ls", RUN, "--tag", "final", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("ls", RUN, "--sort", "path", "--limit", "1", "--json")) == ["/config.json"]
    assert names(lake.ok("ls", RUN, "--sort", "size", "--reverse", "--limit", "1", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("ls", RUN, "--deleted", "--json")) == ["/notes/old.txt"]
    assert names(lake.ok("ls", f"{RUN}:/models", "--deleted", "--json")) == []


def test_ls_errors(lake: Cli) -> None:
    assert "did you mean 'vision'" in lake.fails(3, "ls", "visoin")
    assert "did you mean 'vision/run 1'" in lake.fails(3, "ls", "vision/run 2")
    assert "/nothing" in lake.fails(3, "ls", f"{RUN}:/nothing")
    assert "no file matches" in lake.fails(3, "ls", f"{RUN}:/*.nothing")
    assert "'speed'" in lake.fails(2, "ls", RUN, "--sort", "speed")
    assert "'vision/run 1:/models'" in lake.fails(2, "ls", f"{RUN}/models")


def test_tree_draws_folders(lake: Cli) -> None:
    assert lake.ok("tree", RUN).lines == [
        "vision/run 1",
        "├── config.json             2 B",
        "├── models/",
        "│   └── best.pth           10 B  v2    best, final",
        "└── notes/",
        "    └── deep/",
        "        └── ü 1.txt         7 B",
        "3 files, 19 B",
    ]


def test_tree_of_more_and_of_less(lake: Cli) -> None:
    assert [line for line in lake.ok("tree").lines if "/" in line and "──" not in line] == [
        "audio/other", "vision/b:2", RUN,
    ]  # fmt: skip
    lines = lake.ok("tree", "vision", "--depth", "1").lines
    assert "└── data/      2.0 KiB  1 file" in lines
    assert not any("big.bin" in line for line in lines)
    assert lake.ok("tree", f"{RUN}:/models").lines[0] == f"{RUN}:/models"
    assert names(lake.ok("tree", RUN, "--json")) == names(lake.ok("ls", RUN, "--json"))
    lake.fails(3, "tree", "nothing")
    lake.fails(2, "tree", RUN, "--depth", "0")


def test_info_of_everything(lake: Cli) -> None:
    assert lake.ok("info").lines[0] == f"lake        {lake.root}"
    (whole,) = lake.ok("info", "--json").json
    assert (whole["workspaces"], whole["sessions"], whole["files"]) == (2, 3, 5) and len(whole["storeId"]) == 32
    assert lake.ok("info", "vision", "--json").json == [
        {"workspace": "vision", "sessions": 2, "files": 4, "sizeBytes": 2067}
    ]
    lines = lake.ok("info", RUN).lines
    assert lines[:4] == [
        "session      vision/run 1", "description  the first", "tags         demo", "metadata     lr = 0.1",
    ]  # fmt: skip
    assert lines[-1] == f"on disk      {lake.root}/vision/run 1"
    assert lake.ok("info", f"{RUN}:/notes", "--json").json == [
        {"sessionId": RUN, "path": "/notes", "files": 1, "sizeBytes": 7}
    ]


def test_info_of_a_file(lake: Cli) -> None:
    lines = lake.ok("info", f"{RUN}:/models/best.pth").lines
    assert "metadata     loss = 0.25" in lines and "             epoch = 2" in lines
    assert "aliases      first = v1" in lines and "size         10 B (10 bytes)" in lines
    (record,) = lake.ok("info", f"{RUN}:/models/best.pth@v1", "--json").json
    assert set(record) == KEYS | {"aliases", "usedBy"} and record["version"] == 1 and record["aliases"] == {"first": 1}
    assert "deleted" in lake.fails(3, "info", f"{RUN}:/notes/old.txt")
    lake.fails(3, "info", f"{RUN}:/models/best.pth@v9")
    lake.fails(3, "info", "vision/none")
    lake.fails(3, "info", "none")


def test_history(lake: Cli) -> None:
    done = lake.ok("history", f"{RUN}:/models/best.pth")
    assert done.lines[0].split() == ["VERSION", "SIZE", "UPLOADED", "CHECKSUM", "ALIASES", "TAGS", "DESCRIPTION"]
    assert done.lines[1].split()[0] == "v2" and done.lines[1].endswith("the best one")
    assert done.lines[2].split()[0] == "v1" and "first" in done.lines[2]
    with lake.session() as session:
        expected = [{**row, "usedBy": []} for row in session.files.history("/models/best.pth")]
    assert lake.ok("log", f"{RUN}:/models/best.pth", "--json").json == expected
    (gone,) = lake.ok("history", f"{RUN}:/notes/old.txt", "--json").json
    assert gone["deletedAt"]
    lake.fails(3, "history", f"{RUN}:/nothing")
    assert "names a session" in lake.fails(2, "history", RUN)


def test_find_everywhere(lake: Cli) -> None:
    done = lake.ok("find", "--metadata", "loss<0.3", "--sort", "metadata.loss")
    assert [line.split("  ")[0] for line in done.lines[1:-1]] == [
        "vision/b:2:/data/big.bin", "vision/run 1:/models/best.pth",
    ]  # fmt: skip
    assert names(lake.ok("find", "vision", "-m", "name=resnet", "--json")) == ["/data/big.bin"]
    assert names(lake.ok("find", RUN, "--tag", "best", "--tag", "x", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("find", RUN, "-T", "best", "-T", "x", "--json")) == []
    assert names(lake.ok("find", f"{RUN}:/notes", "--json")) == ["/notes/deep/ü 1.txt"]
    assert names(lake.ok("find", f"{RUN}:/**/*.txt", "--json")) == ["/notes/deep/ü 1.txt"]
    assert names(lake.ok("find", "--glob", "*.wav", "--json")) == ["/empty.wav"]
    assert names(lake.ok("find", "--min-size", "1K", "--max-size", "1M", "--json")) == ["/data/big.bin"]
    assert names(lake.ok("find", "--after", "2999-01-01", "--json")) == []
    assert len(names(lake.ok("find", "--before", "2999-01-01", "--limit", "2", "--json"))) == 2
    checksum = lake.ok("info", f"{RUN}:/config.json", "--json").json[0]["checksum"]
    assert names(lake.ok("find", "--checksum", checksum[:10], "--json")) == ["/config.json"]
    assert names(lake.ok("find", "-w", "size >= 1K and size <= 1M", "--json")) == ["/data/big.bin"]
    assert names(lake.ok("find", "-w", "tag:best or name:*.wav", "-w", "size>0", "--json")) == ["/models/best.pth"]
    assert names(lake.ok("find", "-w", "metadata.loss", "--order=-metadata.loss", "--limit", "1", "--json")) == names(
        lake.ok("find", "-m", "loss", "--sort", "metadata.loss", "--reverse", "--limit", "1", "--json")
    )
    assert names(lake.ok("find", "-m", "loss>0", "-m", "loss<0.3", "--json")) == names(
        lake.ok("find", "-w", "metadata.loss > 0 and metadata.loss < 0.3", "--json")
    )
    everything = names(lake.ok("find", "--json"))
    assert names(lake.ok("find", "--reverse", "--json")) == everything[::-1] and len(everything) == 5


def test_find_errors(lake: Cli) -> None:
    lake.fails(3, "find", "none")
    lake.fails(3, "find", "vision/none")
    assert "ISO-8601" in lake.fails(2, "find", "--after", "soon")
    assert "hexadecimal" in lake.fails(2, "find", "--checksum", "xyz")
    assert "condition" in lake.fails(2, "find", "-m", "<")
    assert "order='speed'; use uploaded" in lake.fails(2, "find", "--order", "speed")
    assert "expression, column 7: size 'many' is none" in lake.fails(2, "find", "-w", "size>=many")
    assert "expression, column" in lake.fails(2, "find", "-w", "tag:x", "-w", "or")
    assert "two patterns" in lake.fails(2, "find", f"{RUN}:/*.txt", "--glob", "*.x")
