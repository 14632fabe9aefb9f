"""``dreamlake gc``, ``retention``, ``verify``, ``repair``, ``stats``, ``du`` and ``why``, as real processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from dreamlake import Session

BIG, GONE = os.urandom(300_000), os.urandom(200_000)


@pytest.fixture
def lake(tmp_path):
    root = tmp_path / "lake"
    with Session("one", "w", local_path=root) as session:
        session.files.upload(BIG, filename="big.bin", path="/m")
        session.files.upload(GONE, filename="gone.bin", path="/m")
        session.files.delete("/m/gone.bin")
        for number in range(3):
            session.files.upload(b"%d" % number, filename="v.txt", path="/t", metadata={"loss": number})
    with Session("two", "w", local_path=root) as session:
        session.files.upload(BIG, filename="same.bin")
    return root


@pytest.fixture
def call(lake):
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dreamlake", "--lake", str(lake), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def blob(lake, data: bytes):
    digest = hashlib.sha256(data).hexdigest()
    return lake / ".dreamlake" / "blobs" / digest[:2] / digest


def test_gc_keeps_what_was_deleted_lately_and_frees_it_when_told_to(call, lake):
    [plan] = lines(call("gc", "--now", "--keep-deleted", "0s", "--dry-run", "--json"))
    assert plan["dryRun"] and plan["freed"] == {"count": 1, "bytes": 200_000}
    assert blob(lake, GONE).exists()
    assert "nothing to collect" in call("gc").stdout and blob(lake, GONE).exists()
    done = call("gc", "--now", "--keep-deleted", "0s", "--list")
    assert done.returncode == 0 and "w/one:/m/gone.bin@v1" in done.stdout and "195.3 KiB" in done.stdout
    assert not blob(lake, GONE).exists() and blob(lake, BIG).exists()


def test_gc_refuses_a_bad_duration(call):
    done = call("gc", "--keep-deleted", "soon")
    assert done.returncode == 2 and "soon" in done.stderr and done.stderr.count("\n") == 1


def test_retention_is_declared_explained_applied_and_taken_back(call, lake):
    assert "no rules" in call("retention", "w/one").stdout
    assert call("retention", "w/one:/t", "--last", "1", "--dry-run").returncode == 0
    assert "no rules" in call("retention", "w/one").stdout
    [told] = lines(call("retention", "w/one:/t", "--last", "1", "--json"))
    assert told["retention"] == [{"path": "/t", "last": 1}]
    decided = {(d["path"], d["version"]): d for d in lines(call("retention", "w/one", "--explain", "--json"))}
    assert [decided["/t/v.txt", n]["keep"] for n in (1, 2, 3)] == [False, False, True]
    assert decided["/t/v.txt", 1]["reasons"] == ["/t: not among the last 1"]
    [done] = lines(call("gc", "--now", "--json"))
    assert done["letGo"]["retention"]["count"] == 2
    assert call("retention", "w/one", "--clear").stdout.startswith("no rules")


@pytest.mark.parametrize(
    "wrong", [["w/one:/t"], ["w/one", "--best", "2"], ["w/one", "--last", "0"], ["w/one:/t", "--last", "1", "--clear"]]
)
def test_a_wrong_rule_is_an_error_and_changes_nothing(call, wrong):
    assert call("retention", *wrong).returncode == 2
    assert "no rules" in call("retention", "w/one").stdout
    assert call("retention", "w/nobody").returncode == 3


def test_verify_finds_and_repair_heals(call, lake, tmp_path):
    assert call("verify", "--deep").returncode == 0
    copy = blob(lake, BIG)
    facts = copy.stat()
    copy.chmod(0o644)
    copy.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
    os.utime(copy, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    assert call("verify", "--quick").returncode == 0  # nothing shows from outside
    found = call("verify", "--deep", "--workers", "2", "--json")
    *findings, summary = lines(found)
    assert found.returncode == 5 == summary["exitCode"]
    assert [f["kind"] for f in findings] == ["blob-damaged"] and len(findings[0]["affected"]) == 2
    assert call("repair", "--deep").returncode == 5  # no good copy anywhere
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "any name").write_bytes(BIG)
    dry = call("repair", "--deep", "--from", str(tmp_path / "backup"), "--dry-run")
    assert "would heal" in dry.stdout and call("verify", "--deep").returncode == 5
    assert call("repair", "--deep", "--from", str(tmp_path / "backup")).returncode == 0
    assert call("verify", "--deep").returncode == 0 and copy.read_bytes() == BIG
    assert "nothing to repair" in call("repair").stdout


def test_shards_of_verify_cover_everything_once(call):
    copies = [lines(call("verify", "--shard", f"{i}/3", "--json"))[-1]["copies"] for i in (1, 2, 3)]
    assert sum(copies) == lines(call("verify", "--json"))[-1]["copies"] == 5
    assert call("verify", "--shard", "4/3").returncode == 2


def test_stats_and_du_add_up(call, lake):
    [totals] = lines(call("stats", "--json"))
    files = [f.stat().st_size for f in (lake / ".dreamlake" / "blobs").glob("*/*")]
    assert totals["storedBytes"] == sum(files) and totals["blobs"] == len(files)
    assert (totals["sessions"], totals["files"], totals["versions"], totals["deletedVersions"]) == (2, 3, 6, 1)
    rows = {row["group"]: row for row in lines(call("du", "--json"))}
    assert rows["w/one"]["sharedBytes"] == rows["w/two"]["sharedBytes"] == len(BIG)
    assert rows["w/two"]["exclusiveBytes"] == 0 and rows["w/one"]["exclusiveBytes"] == len(GONE) + 3
    [only] = lines(call("du", "w/one:/t", "--by", "path", "--json"))
    assert (only["group"], only["versions"]) == ("/t", 3)
    assert "FREED" in call("du").stdout


def test_why_names_everything_that_keeps_a_content(call):
    digest = hashlib.sha256(BIG).hexdigest()
    links = lines(call("why", digest[:10], "--json"))
    assert {(link["session"], link["path"], link["reason"]) for link in links} == {
        ("w/one", "/m/big.bin", "live"),
        ("w/two", "/same.bin", "live"),
    }
    assert call("why", "0" * 64).returncode == 3
    assert call("why", "xyz").returncode == 2
