"""``dreamlake info`` on a session whose folder was touched by hand."""

from __future__ import annotations

import shutil

import pytest
from cli_process import RUN, Cli


def test_a_healthy_session_has_no_findings(lake: Cli) -> None:
    done = lake.ok("info", RUN, "--json")
    assert done.json[0]["findings"] == [] and done.err == ""


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("removed", "session-folder-missing"),
        ("moved", "session-folder-moved"),
        ("copied", "session-folder-copied"),
        ("file removed", "session-file-missing"),
        ("file damaged", "session-file-damaged"),
    ],
)
def test_what_was_done_to_its_folder_is_told(cli: Cli, harm: str, kind: str) -> None:
    home = cli.root / RUN
    if harm == "removed":
        shutil.rmtree(home)
    elif harm == "moved":
        home.rename(home.with_name("elsewhere"))
    elif harm == "copied":
        shutil.copytree(home, home.with_name("backup"))
    elif harm == "file removed":
        (home / "session.json").unlink()
    else:
        (home / "session.json").write_text("{")
    (finding,) = cli.ok("info", RUN, "--json").json[0]["findings"]
    assert finding["kind"] == kind and finding["severity"] == "warning" and finding["remedy"]
    shown = cli("info", RUN)
    assert shown.code == 0 and finding["remedy"] in shown.err and RUN in shown.out
