"""``info``, ``history`` and ``why`` tell inputs, users, and what a run was made with."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from cli_process import Cli

from dreamlake import Session, open_lake
from dreamlake.model import session_key
from dreamlake.operations.retention import evaluate, get_rules


@pytest.fixture
def lake(empty: Cli) -> Cli:
    with Session("train", "w", local_path=empty.root) as session:
        for content in (b"one", b"two"):
            session.files.upload(content, path="/models", filename="m.bin")
    with Session("eval 1", "w", local_path=empty.root) as session:
        session.use("w/train/models/m.bin@v1")
    return empty


def test_info_tells_inputs_and_the_last_run(lake: Cli) -> None:
    lines = lake.ok("info", "w/eval 1").lines
    assert any(line.startswith("inputs") and "w/train:/models/m.bin@v1" in line for line in lines)
    for fact in ("last run", "command", "python"):
        assert any(line.startswith(fact) for line in lines), fact
    (value,) = lake.ok("info", "w/eval 1", "--json").json
    assert [i["path"] for i in value["inputs"]] == ["/models/m.bin"]
    assert value["runs"] == 1 and "pytest" in value["lastRun"]["packages"]


def test_users_are_told(lake: Cli) -> None:
    assert ["used", "by", "w/eval", "1"] in [x.split() for x in lake.ok("info", "w/train:/models/m.bin@v1").lines]
    assert all("used by" not in line for line in lake.ok("info", "w/train:/models/m.bin").lines)
    done = lake.ok("history", "w/train:/models/m.bin")
    assert "USED BY" in done.lines[0] and "w/eval 1" in done.lines[2] and "w/eval 1" not in done.lines[1]
    (value,) = lake.ok("info", "w/train:/models/m.bin@v1", "--json").json
    assert value["usedBy"] == ["w/eval 1"] and value["aliases"] == {}
    why = lake.ok("why", value["checksum"])
    assert "USED BY" in why.lines[0] and "w/eval 1" in why.lines[1] and "used-" not in why.out


def test_retention_says_why_an_input_stays(lake: Cli) -> None:
    with Session("train", "w", local_path=lake.root) as session:
        session.files.retention(path="/models/**", last=1)
    key, store = session_key("w", "train"), open_lake(lake.root).store
    made = evaluate(store.catalog.view(key), get_rules(store, key), datetime.now(timezone.utc))
    (decision,) = [d for d in made if d.version.number == 1]
    assert decision.reasons == ("is an input of a session",)
    assert lake.ok("gc", "--dry-run", "--json").json[-1]["letGo"]["retention"]["count"] == 0


def test_an_upload_by_the_command_is_no_run(empty: Cli, tmp_path) -> None:
    (tmp_path / "f").write_text("x")
    empty.ok("upload", str(tmp_path / "f"), "w/s")
    (value,) = empty.ok("info", "w/s", "--json").json
    assert (value["runs"], value["lastRun"], value["inputs"]) == (0, None, [])
