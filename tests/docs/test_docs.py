"""README and docs say what is true: every block of code runs as it stands, and shown output is what appears.

    python      a program of its own, in an empty folder; a ``text`` block right after it is its output
    console     commands after ``$ `` and what they print; the blocks of one page share a folder, in order
    bash        commands of the README, run in a copy of the checkout, where its console blocks follow
    toml, json  must parse
    text        is not run

The blocks of ``remote.md`` have a fresh remote lake in their environment. Ids, checksums, times and durations may
differ; a line of three dots stands for any lines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SPEC.md", *(ROOT / "docs").rglob("*.md")])
LANGUAGES = {"python", "console", "bash", "toml", "json", "text"}
TEST_COMMAND = "python3 tools/test.py"
_NOT_COPIED = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "experiments", "build", "dist", "*.egg-info")
_CHANGING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<checksum>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,16}\b"), "<short>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|MB/s|MiB/s|GB/s|GiB/s)(?!\w)"), "<speed>"),
)


class Block(NamedTuple):
    """One fenced block: where it starts, its language, its lines, and whether it directly follows another."""

    page: Path
    line: int
    language: str
    text: str
    adjacent: bool

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    inside: list[str] | None = None
    start, language, end = 0, "", -1
    lines = page.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            if inside is not None:
                inside.append(line)
            continue
        if inside is None:
            adjacent = not any(lines[i].strip() for i in range(end, number - 1)) if end >= 0 else False
            inside, start, language = [], number, line[3:].strip()
        else:
            found.append(Block(page, start, language, "\n".join(inside) + "\n", adjacent))
            inside, end = None, number
    assert inside is None, f"{page}:{start}: the block does not end"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
CONSOLE = [page for page in PAGES if any(b.page == page and b.language == "console" for b in BLOCKS)]


def environment(tmp_path: Path, *path: Path) -> dict[str, str]:
    """What a newcomer's shell has: no settings of DreamLake, a home of its own, no display."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DREAMLAKE_")}
    places = [*map(str, path), str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]
    return {
        **kept,
        "PATH": os.pathsep.join(places),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "MPLBACKEND": "Agg",
        "PYTHONPATH": "",
        "COLUMNS": "120",
        "TZ": "UTC",
    }


def remote_of(page: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """For the page about remote lakes: one on real servers, and its credentials, in environment variables."""
    if page.name != "remote.md":
        return {}
    s3 = request.getfixturevalue("s3_place")
    named = {name: s3[name] for name in ("endpoint", "region", "addressing")}
    options = urlencode({"mongodb": request.getfixturevalue("mongo_url"), **named})
    return {
        "DREAMLAKE_REMOTE": f"s3://{s3['bucket']}/{s3['prefix']}?{options}",
        "AWS_ACCESS_KEY_ID": s3["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3["secret_access_key"],
        "XDG_CACHE_HOME": str(request.getfixturevalue("tmp_path") / "cache"),
    }


def same(shown: str, printed: str) -> bool:
    """Whether printed output is the shown one, up to what changes from run to run."""
    first, *more = re.split(r"(?m)^ *\.\.\.\n", shown)
    pieces = [re.escape(normal(piece)) if piece or not more else "" for piece in (first, *more)]
    return re.fullmatch("(?s:.*)".join(pieces), normal(printed)) is not None


def normal(text: str) -> str:
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


def without_numbers(text: str) -> str:
    """Accuracies and stored sizes differ a little from machine to machine and from release to release."""
    return re.sub(r" *\d[\d.]*%?", " #", text)


def test_every_block_names_a_known_language() -> None:
    assert BLOCKS
    assert [block.name for block in BLOCKS if block.language not in LANGUAGES] == []


def test_bash_blocks_are_in_the_readme_only() -> None:
    assert {block.page.name for block in BLOCKS if block.language == "bash"} == {"README.md"}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("toml", "json")], ids=lambda b: b.name)
def test_data_block_parses(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
        return
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: b.name)
def test_python_block_runs_in_an_empty_folder(block: Block, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=empty,
        env={**environment(tmp_path), **remote_of(block.page, request)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{block.name} failed:\n{done.stderr}"
    assert done.stderr == "", f"{block.name} prints to stderr:\n{done.stderr}"
    following = BLOCKS[(BLOCKS.index(block) + 1) % len(BLOCKS)]
    if following.page == block.page and following.language == "text" and following.adjacent:
        assert same(following.text, done.stdout), f"{block.name} prints:\n{done.stdout}"


@pytest.mark.parametrize("page", [p for p in CONSOLE if p.name != "README.md"], ids=lambda p: p.name)
def test_console_blocks_of_a_page(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    if page.name == "remote.md":
        (folder / "report.json").write_text('{"accuracy": 0.93}\n')
    variables = {**environment(tmp_path), **remote_of(page, request)}
    for block in BLOCKS:
        if block.page == page and block.language == "console":
            run_console(block, folder, variables)


@pytest.mark.timeout(900)
def test_readme_commands_as_printed(tmp_path: Path) -> None:
    copy = tmp_path / "dreamlake"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    variables = environment(tmp_path, copy / ".venv" / "bin")
    commands = []
    for block in BLOCKS:
        if block.page.name != "README.md":
            continue
        if block.language == "console":
            run_console(block, copy, variables)
        elif block.language == "bash" and block.text.strip() != TEST_COMMAND:
            done = subprocess.run(
                ["bash", "-e", "-c", block.text], cwd=copy, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.name}:\n{done.stdout}\n{done.stderr}"
            following = next(b for b in BLOCKS[BLOCKS.index(block) + 1 :] if b.language == "text")
            assert same(without_numbers(following.text), without_numbers(done.stdout)), done.stdout
        if block.language == "bash":
            commands.append(block.text.strip())
    assert commands.index(TEST_COMMAND) == 1, "the second command of the README runs all tests"


def test_ci_runs_the_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) == 1
    assert commands[0].endswith(f"&& exec {TEST_COMMAND}")


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example_runs_in_an_empty_folder(script: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=empty,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") >= 3, "an example shows what it did"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            aim = (page.parent / file).resolve() if file else page
            assert aim.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(aim), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"(?m)^#+ +(.*?)\s*$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_console(block: Block, folder: Path, variables: dict[str, str]) -> None:
    """Run the commands of one block one after the other; ``$?`` is the exit code of the one before."""
    code = 0
    steps = steps_of(block)
    for number, (command, shown) in enumerate(steps):
        done = subprocess.run(
            ["bash", "-c", f"(exit {code}); {command}"],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=240,
            check=False,
        )
        code = done.returncode
        asked = number + 1 < len(steps) and steps[number + 1][0] == "echo $?"
        assert code == 0 or asked, f"{block.name}: `{command}` exits with {code}:\n{done.stdout}"
        printed = done.stdout.replace(str(folder), f"/home/me/{folder.name}")
        assert same(shown, printed), f"{block.name}: `{command}` prints:\n{printed}\ninstead of:\n{shown}"


def steps_of(block: Block) -> list[tuple[str, str]]:
    """(command, shown output) pairs; ``> `` continues a command."""
    steps: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        else:
            command, shown = steps[-1]
            steps[-1] = (f"{command}\n{line[2:]}", shown) if line.startswith("> ") else (command, f"{shown}{line}\n")
    return steps
