"""``import`` and ``export`` as users run them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cli_process import RUN, Cli

GOLDEN = Path(__file__).resolve().parents[1] / "golden/imports"


def test_import_tells_what_it_did(empty: Cli, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_text("aaa")
    (tmp_path / "src/link").symlink_to("a")
    done = empty.ok("import", "folder", "src", "w/s:/in", "--dry-run")
    assert done.lines == ["left out src/link: is a symbolic link", "would import 1 file: 3 B into 1 session"]
    assert not empty.root.exists()
    done = empty.ok("import", "folder", "src", "w/s:/in")
    assert done.lines[-1] == "imported 1 file: 3 B, 3 B of it stored into 1 session"
    (value,) = empty.ok("import", "folder", "src", "w/s:/in", "--json").json
    assert (value["files"], value["unchanged"], value["skippedCount"]) == (0, 1, 1)
    assert value["skipped"] == [{"where": "src/link", "why": "is a symbolic link"}]


def test_import_of_other_programs(empty: Cli) -> None:
    done = empty.ok("import", "dreamlake", str(GOLDEN / "dreamlake-0.3.3"))
    assert "2 files: 23 B, 23 B of it stored, 4 parameters, 3 log lines, 9 points into 1 session" in done.lines[-1]
    empty.ok("import", "mlflow", str(GOLDEN / "mlflow-3.17"), "mine")
    assert "mine/baseline-" in empty.ok("ls").out and "group/run-1" in empty.ok("ls").out
    assert "WORKSPACE only" in empty.fails(2, "import", "mlflow", str(GOLDEN / "mlflow-3.17"), "w/s")
    assert "goes into a session" in empty.fails(2, "import", "tar", "x.tar")
    empty.fails(3, "import", "tar", "none.tar", "w/s")
    assert "import [OPTIONS]" in empty.ok("import", "--help").out


def test_export(cli: Cli, tmp_path: Path) -> None:
    assert "would export" in cli.ok("export", RUN, "out", "-n").out and not (tmp_path / "out").exists()
    cli.ok("export", RUN, "out")
    assert (
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=False).returncode == 0
    )
    (value,) = cli.ok("export", f"{RUN}:/models", "models.tar.gz", "--json").json
    assert value["format"] == "tar.gz" and value["files"] >= 1 and (tmp_path / "models.tar.gz").is_file()
    assert "exists" in cli.fails(4, "export", RUN, "out")
    cli.fails(3, "export", f"{RUN}:/none", "x")
    cli.fails(3, "export", "vision/none", "x")
