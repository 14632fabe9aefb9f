"""The package as others get it: what the wheel holds and says about itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import dreamlake

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "experiments")
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_typed_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in names} == {"dreamlake"}
    assert "dreamlake/py.typed" in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dreamlake").rglob("*.py")}
    assert sources == {name for name in names if name.endswith(".py")}


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["Name"] == "dreamlake"
    assert metadata["Version"] == dreamlake.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "# DreamLake" in str(metadata.get_payload())
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "dreamlake = dreamlake.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_wheel_requires_no_framework(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    required = message_from_bytes(wheel.read(f"{info}/METADATA")).get_all("Requires-Dist") or []
    plain = {line.partition(">")[0].strip() for line in required if "extra ==" not in line}
    assert plain == {"blake3", "click", "numpy", "tomli", "tqdm", "zstandard"}
