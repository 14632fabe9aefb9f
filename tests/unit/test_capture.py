"""What is recorded of a run, what never is, and how to turn it off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from api_support import PACKAGE_ROOT

from dreamlake import Session, capture, config
from dreamlake.capture import environment, mask_command, mask_text
from dreamlake.errors import InvalidInput

SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def unset(monkeypatch, tmp_path):
    monkeypatch.delenv("DREAMLAKE_CAPTURE", raising=False)
    monkeypatch.setenv("DREAMLAKE_CONFIG", str(tmp_path / "config.toml"))


# ---- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--password", SECRET],
        ["--password", f"-{SECRET}"],
        ["--db-password", SECRET],
        [f"--token={SECRET}"],
        [f"--api_key={SECRET}"],
        ["--api-key", SECRET],
        ["-apikey", SECRET],
        ["--hf_token", SECRET],
        ["--wandb.key", SECRET],
        ["--client-secret-file", SECRET],
        ["--passphrase", SECRET],
        ["--auth", f"me:{SECRET}"],
        [f"db.password={SECRET}"],
        [f"+model.hub.token={SECRET}"],
        [f"PASSWORD={SECRET}"],
        ["-c", f"login(token='{SECRET}')"],
        ["-c", f'api_key = "{SECRET}"'],
        [f'{{"password": "{SECRET}", "a": 1}}'],
        ["-c", f"os.environ['API_KEY'] = '{SECRET}'"],
        ["-c", f'os.putenv("HF_TOKEN", "{SECRET}")'],
        ["-c", f"connect(user='me', passwd = '{SECRET}')"],
        [f"https://user:{SECRET}@host/repo.git"],
        [f"s3://host/x?access_token={SECRET}&y=1"],
        ["-H", f"Authorization: Bearer {SECRET}"],
        ["ghp_" + SECRET * 2],
        ["hf_" + SECRET * 2],
        ["sk-" + SECRET * 2],
        ["AKIAABCDEFGHIJKLMNOP".replace("ABC", "HUN")],
    ],
    ids=lambda a: a[0][:24],
)
def test_secrets_of_a_command_line_are_masked(arguments):
    shown = mask_command(["python", "train.py", *arguments, "--lr", "0.1"])
    assert "hunter2" not in " ".join(shown).lower() and "HUNDEF" not in " ".join(shown)
    assert capture.MASK in " ".join(shown)
    assert shown[:2] == ["python", "train.py"] and shown[-2:] == ["--lr", "0.1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-tokens", "512"],
        ["--tokenizer", "bert"],
        ["--keyboard", "qwerty"],
        ["--monkeys", "3"],
        ["--author", "me"],
        ["--bypass", "yes"],
        ["lr=0.1"],
        ["--data", "/path/to/keys/file"],
        ["--url", "https://host/path?x=1"],
        ["--sort-by", "key,loss"],
        ["-c", "for key, value in items: print(key, value)"],
    ],
    ids=lambda a: a[0],
)
def test_ordinary_arguments_are_kept(arguments):
    assert mask_command(arguments) == arguments


def test_long_command_lines_are_cut():
    shown = mask_command(["x" * 100_000] * 5000)
    assert len(shown) == capture.MAX_ARGUMENTS and len(shown[0]) == capture.MAX_ARGUMENT_CHARS
    assert mask_text(os.fsdecode(b"\xff")) == "?"
    for before in range(capture.MAX_ARGUMENT_CHARS - 40, 2 * capture.MAX_ARGUMENT_CHARS + 10, 7):
        shown = mask_text("x" * before + f" https://user:{SECRET}@host ghp_" + SECRET * 2 + " y" * 5000)
        assert "hunter2" not in shown


def test_variables_are_chosen_and_never_secrets():
    given = {
        "CUDA_VISIBLE_DEVICES": "0,1", "RANK": "3", "HOME": "/root", "MY_SEED": "7", "MY_TOKEN": SECRET,
        "TORCH_API_KEY": SECRET, "CUDA_PASSWORD": SECRET, "NCCL_SECRET": SECRET, "JAX_CREDENTIALS": SECRET,
        "MY_PROXY": f"http://u:{SECRET}@proxy",
    }  # fmt: skip
    found = environment(given, ["MY_*"])
    assert found == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "MY_PROXY": "http://***@proxy",
        "MY_SEED": "7",
        "RANK": "3",
    }


# ---- a run -------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(
        textwrap.dedent("""
        import sys
        from dreamlake import Session
        with Session("s", "w", local_path=sys.argv[1]) as session:
            session.log("hello")
            session.parameters().set(lr=0.1)
        """)
    )
    (folder / "model.py").write_text("x = 1\n")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def train(project: Path, lake: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(project / "train.py"), str(lake), *arguments],
        cwd=lake.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "RANK": "0"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_says_what_it_was_made_with(project, tmp_path):
    lake = tmp_path / "lake"
    train(project, lake, "--token", SECRET)
    (project / "model.py").write_text("x = 2\ny = 3\n")
    train(project, lake)
    with Session("s", "w", local_path=lake, capture=False) as session:
        first, second = session.runs()
    assert first["command"][1:] == [str(project / "train.py"), str(lake), "--token", "***"]
    assert first["folder"] == str(tmp_path) and first["environment"]["RANK"] == "0"
    assert first["git"] == {"commit": git(project, "rev-parse", "HEAD"), "branch": "trunk", "dirty": False}
    assert first["python"]["version"] == sys.version.split()[0] and first["platform"]["machine"] == os.uname().machine
    assert {"pytest", "numpy"} <= set(first["packages"])
    assert second["git"]["dirty"] is True and second["git"]["changed"] == ["model.py"]
    assert second["git"]["summary"] == "1 file changed, 2 insertions(+), 1 deletion(-)"
    assert SECRET.encode() not in (lake / "w/s/runs.jsonl").read_bytes()
    assert [json.loads(line)["index"] for line in (lake / "w/s/runs.jsonl").read_text().splitlines()] == [0, 1]


def test_versions_are_those_that_the_packages_tell():
    from importlib.metadata import version

    found = capture.taken()["packages"]
    for name in ("pytest", "numpy", "click"):
        assert found[name] == version(name)


def test_renamed_and_odd_files_are_named(project):
    git(project, "mv", "model.py", "näme with space.py")
    found = capture._git(str(project))
    assert found["changed"] == ["näme with space.py"]
    assert capture._git(str(project.parent)) is None


def test_a_repository_cannot_have_programs_run(project, tmp_path):
    marker = tmp_path / "ran"
    script = tmp_path / "monitor"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    git(project, "config", "core.fsmonitor", str(script))
    git(project, "config", "diff.external", str(script))
    (project / "model.py").write_text("x = 5\n")
    assert capture._git(str(project))["dirty"] is True
    assert not marker.exists()


def test_a_slow_git_costs_little(project, monkeypatch):
    calls = []

    def slow(folder, *arguments):
        calls.append(arguments[0])
        return None if arguments[0] == "status" else "abc\n"

    monkeypatch.setattr(capture, "_run_git", slow)
    assert capture._git(str(project)) == {"commit": "abc", "branch": None, "dirty": None}
    assert calls == ["status", "rev-parse"]


def test_nothing_is_captured_before_the_first_write(tmp_path):
    with Session("s", "w", local_path=tmp_path) as session:
        session.files.list()
        session.parameters().get()
        assert session.runs() == [] and not (tmp_path / "w/s/runs.jsonl").exists()
        session.log("x")
        session.log("y")
        assert len(session.runs()) == 1


@pytest.mark.parametrize("how", ["argument", "variable", "file"])
def test_it_can_be_turned_off(tmp_path, monkeypatch, how):
    options = {"capture": False} if how == "argument" else {}
    if how == "variable":
        monkeypatch.setenv("DREAMLAKE_CAPTURE", "0")
    if how == "file":
        (tmp_path / "config.toml").write_text("capture = false\n")
    with Session("s", "w", local_path=tmp_path / "lake", **options) as session:
        session.log("x")
        assert session.runs() == []


def test_the_argument_beats_the_variable_and_bad_values_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMLAKE_CAPTURE", "0")
    assert config.capture(True) is True and config.capture() is False
    monkeypatch.setenv("DREAMLAKE_CAPTURE", "sometimes")
    with pytest.raises(InvalidInput, match="DREAMLAKE_CAPTURE='sometimes' is neither true nor false"):
        Session("s", "w", local_path=tmp_path)
    monkeypatch.delenv("DREAMLAKE_CAPTURE")
    (tmp_path / "config.toml").write_text('capture_variables = "RANK"\n')
    with pytest.raises(InvalidInput, match="capture_variables must be a list"):
        config.capture_variables()


def test_further_variables_are_captured(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('capture_variables = ["MY_*"]\n')
    monkeypatch.setenv("MY_SEED", "7")
    with Session("s", "w", local_path=tmp_path / "lake") as session:
        session.log("x")
        assert session.runs()[0]["environment"]["MY_SEED"] == "7"


def test_a_full_disk_or_a_broken_file_does_not_fail_the_run(tmp_path):
    with Session("s", "w", local_path=tmp_path) as session:
        (tmp_path / "w/s/runs.jsonl").write_text("{broken\nmore\n")
        session.log("x")
        session.files.upload(b"x", filename="x")
        assert len(session.logs()) == 1


def test_it_takes_a_moment_only():
    code = """
    import time
    from dreamlake import Session
    begun = time.perf_counter()
    from dreamlake import capture
    capture.taken()
    print(time.perf_counter() - begun)
    """
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True,
                env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            ).stdout
        )
        for _ in range(3)
    ]  # fmt: skip
    assert min(times) < 0.5, "a hundred times what it should take"
