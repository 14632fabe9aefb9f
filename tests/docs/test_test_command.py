"""The test command itself: a run that tested less than it should, or left something running, must not look green."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import test as command

REPORT = """<testsuites><testsuite>
  <testcase classname="tests.conformance.test_blobs" name="test_publish[memory]"/>
  <testcase classname="tests.conformance.test_blobs" name="test_publish[folder]"><skipped/></testcase>
  <testcase classname="tests.conformance.test_docs" name="test_update[mongo]"/>
  <testcase classname="tests.unit.test_x" name="test_y[folder]"/>
  <testcase classname="tests.unit.test_x" name="test_z"><failure/></testcase>
  <testcase classname="tests.unit.test_x" name="test_setup"><error/></testcase>
</testsuite></testsuites>"""


def test_report_counts_and_stores(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert command.read_report(report) == command.Count(3, 2, 1, frozenset({"memory", "mongo"}))


def test_missing_report_counts_nothing(tmp_path: Path) -> None:
    assert command.read_report(tmp_path / "none.xml") == command.Count()


def test_store_that_did_not_run_is_a_failure() -> None:
    complaints = command.missing_stores(command.Count(stores=frozenset({"memory", "s3", "mongo"})))
    assert complaints == ["no conformance test ran on the folder store"]
    assert command.missing_stores(command.Count(stores=frozenset(command.REQUIRED_STORES))) == []


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_what_a_test_leaves_running_is_ended_and_named(tmp_path: Path) -> None:
    leave = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    program = f"""
import subprocess, sys
from tools import test as command
command.ORPHANS_MAY_LIVE_S = 0.2
command.adopt_orphans()
subprocess.run([sys.executable, "-c", {leave!r}], check=True)
print(command.end_orphans(), command.end_orphans())
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=command.ROOT, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.stdout == "['sleep 60 '] []\n", done.stderr
    assert time.monotonic() - begun < 50
