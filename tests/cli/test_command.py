"""The command around the verbs: finding the lake, help, exit codes, pipes, signals, terminals, completion."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import RUN, Cli

from dreamlake import __version__, errors
from dreamlake.cli import SPELLINGS, VERBS
from dreamlake.cli.topics import TOPICS
from dreamlake.cli.trees import DIFFERS


@pytest.mark.parametrize("verb", [*VERBS, *SPELLINGS])
def test_every_verb_starts_in_a_process_of_its_own(lake: Cli, verb: str) -> None:
    calls: dict[str, list[str]] = {
        "ls": [], "tree": [], "info": [], "find": [], "materialize": ["--check"], "help": ["ls"], "completion": ["zsh"],
        "history": [f"{RUN}:/config.json"], "log": [f"{RUN}:/config.json"], "cat": [f"{RUN}:/config.json"],
        "alias": [f"{RUN}:/config.json"], "download": [f"{RUN}:/config.json", "-n"],
        "rm": [f"{RUN}:/config.json", "-n"],
        "upload": ["-", RUN, "--filename", "x", "-n"], "restore": [f"{RUN}:/notes/old.txt", "-n"],
        "mv": [f"{RUN}:/config.json", "/x", "-n"], "cp": [f"{RUN}:/config.json", "/x", "-n"],
    }  # fmt: skip
    args = [verb, *calls.get(verb, ["--help"])]
    real, forked = lake.real(*args), lake(*args)
    assert real == forked and real.code in (0, DIFFERS) and real.err == ""


def test_version_and_help(lake: Cli) -> None:
    assert lake.ok("--version").out == f"dreamlake {__version__}\n"
    bare, helped = lake.ok(), lake.ok("--help")
    assert bare.out == helped.out == lake.ok("-h").out
    for name, verb in VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(verb.help)}$", helped.out, re.MULTILINE)


def test_every_verb_has_help_with_its_options(lake: Cli) -> None:
    code = "from dreamlake.cli import VERBS, run\nfor name in VERBS: assert run([name, '--help']) == 0"
    done = subprocess.run(
        [sys.executable, "-c", code], env=lake.environment(), capture_output=True, text=True, check=True
    )
    pages = done.stdout.split("Usage: dreamlake ")[1:]
    assert [page.split()[0] for page in pages] == list(VERBS)
    for page in pages:
        name = page.split()[0]
        if name not in ("help", "completion", "remote"):  # remote: its own verbs have them
            assert "--json" in page and "--lake LAKE" in page
        changes = {
            "upload",
            "rm",
            "restore",
            "mv",
            "cp",
            "alias",
            "materialize",
            "download",
            "optimize",
            "settings",
            "gc",
            "retention",
            "repair",
            "import",
            "export",
        }
        assert ("--dry-run" in page) == (name in changes)


def test_topics(lake: Cli) -> None:
    for topic in TOPICS:
        assert lake.ok("help", topic).out == TOPICS[topic]
    assert lake.ok("help", "ls").out == lake.ok("ls", "--help").out
    assert "addresses" in lake.ok("help").out
    assert "nothing" in lake.fails(2, "help", "nothing")


def test_the_table_of_exit_codes_is_true() -> None:
    told = {int(code) for code in re.findall(r"^ +(\d+)  ", TOPICS["exit-codes"], re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LakeError)]
    assert told == {0, 130, 141, DIFFERS, *(kind.exit_code for kind in kinds)}


def test_wrong_use(lake: Cli) -> None:
    assert "did you mean 'upload'" in lake.fails(2, "uplaod", "x")
    assert "dreamlake --help" in lake.fails(2, "frobnicate")
    assert "--wrong" in lake.fails(2, "ls", "--wrong")
    assert "dreamlake cat --help" in lake.fails(2, "cat")
    assert "(extra)" in lake.fails(2, "ls", RUN, "extra")


# ---- which lake --------------------------------------------------------------------------------------------------


def test_the_lake_is_found(cli: Cli, tmp_path: Path) -> None:
    inside = cli.root / "vision" / "run 1"
    assert len(cli.ok("ls", cwd=inside).lines) == 5  # of the lake around the current folder
    away = tmp_path / "away"
    away.mkdir()
    assert "no lake in" in cli.fails(3, "ls", cwd=away)
    for args in (["--lake", str(cli.root), "ls"], ["ls", "--lake", str(cli.root)], ["ls", "--lake", "../experiments"]):
        assert len(cli.ok(*args, cwd=away).lines) == 5
    assert len(cli.ok("ls", cwd=away, env={"DREAMLAKE_LOCAL_PATH": str(cli.root)}).lines) == 5
    assert "no lake" in cli.fails(3, "ls", cwd=inside, env={"DREAMLAKE_LOCAL_PATH": str(away)})
    assert not (away / ".dreamlake").exists()


def test_what_is_no_lake(empty: Cli) -> None:
    (empty.cwd / "file").write_text("x")
    assert "is not a folder" in empty.fails(2, "--lake", "file", "ls")
    assert "is not a folder" in empty.fails(2, "ls", "--lake", "file")
    (empty.root / ".dreamlake").mkdir(parents=True)
    (empty.root / ".dreamlake/store.json").write_text('{"format": 99, "store_id": "x"}')
    assert "format" in empty.fails(7, "ls")


def test_looking_creates_nothing(cli: Cli) -> None:
    def everything() -> list[str]:
        return sorted(str(p) for p in cli.root.rglob("*") if "/ckpt" not in str(p))

    before = everything()
    for args in (
        ["ls"],
        ["ls", "vision/none"],
        ["cat", "vision/none:/x"],
        ["tree"],
        ["info", RUN],
        ["find"],
        ["rm", "x/y:/z"],
    ):
        cli(*args)
    assert everything() == before


# ---- pipes, signals, terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["cat", f"{RUN}:/big.bin"], ["ls", RUN, "--json"]])
def test_a_reader_that_goes_away_is_no_error(cli: Cli, args: list[str]) -> None:
    with cli.session() as session:
        session.files.upload(os.urandom(4 << 20), filename="big.bin")
        for number in range(300 if args[0] == "ls" else 0):
            session.files.upload(b"x", filename=f"{number}.txt", metadata={"filler": "x" * 1000})
    process = subprocess.Popen(
        cli.argv(*args), cwd=cli.cwd, env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_leaves_nothing_half_made(cli: Cli) -> None:
    process = subprocess.Popen(
        cli.argv("upload", "-", RUN, "--filename", "big.bin"), cwd=cli.cwd, env=cli.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )  # fmt: skip
    assert process.stdin is not None
    scratch = cli.root / ".dreamlake/tmp"
    process.stdin.write(os.urandom(9 << 20))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(scratch.glob("*.blob")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(scratch.glob("*.blob"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"dreamlake: interrupted\n")
    assert list(scratch.iterdir()) == [] and list((cli.root / ".dreamlake/pending").iterdir()) == []
    assert "big.bin" not in cli.ok("ls", RUN).out


def on_a_terminal(cli: Cli, *args: str) -> str:
    """Output of a run whose standard streams are a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        cli.argv(*args), cwd=cli.cwd, env=cli.environment(), stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    out = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(leader)
    assert process.wait(60) == 0
    return out.decode()


def test_short_work_on_a_terminal_shows_no_bar_and_no_colour(cli: Cli) -> None:
    out = on_a_terminal(cli, "materialize")
    assert out == f"placed 5 files, 2.0 KiB, in {cli.root}\r\n".replace("\r\n", "; 0 unchanged\r\n")
    assert "\x1b" not in on_a_terminal(cli, "ls", RUN)


def test_hostile_text_cannot_play_tricks_on_a_terminal(cli: Cli) -> None:
    with cli.session() as session:
        session.files.upload(b"x", filename="a\u202etxt.exe", tags=["\x1b[31mred"], description="two\nlines\x07")
    for args in (["ls", RUN], ["tree", RUN], ["history", f"{RUN}:/a\u202etxt.exe"], ["info", f"{RUN}:/a\u202etxt.exe"]):
        out = cli.ok(*args).out
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out), args
    (record,) = cli.ok("info", f"{RUN}:/a\u202etxt.exe", "--json").json
    assert record["tags"] == ["\x1b[31mred"]


def test_output_that_the_encoding_cannot_hold(cli: Cli) -> None:
    done = cli.real("ls", RUN, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.code == 0 and "/notes/deep/\\xfc 1.txt" in done.out


# ---- completion --------------------------------------------------------------------------------------------------


def complete(cli: Cli, *words: str) -> list[str]:
    """What zsh and fish are offered for the last word, after the line that says how to go on."""
    env = {"_DREAMLAKE_COMPLETE": "zsh_complete", "COMP_WORDS": "\n".join(words)}
    return cli(env=env).out.splitlines()


def test_completion(lake: Cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert f"{shell}_complete" in lake.ok("completion", shell).out
    lake.fails(2, "completion", "tcsh")
    assert [line.partition("\t")[0] for line in complete(lake, "dreamlake", "mat")] == ["space", "materialize"]
    assert complete(lake, "dreamlake", "mat")[1].startswith("materialize\tBuild the files of sessions")
    assert complete(lake, "dreamlake", "ls", "") == ["nospace", "audio/", "vision/"]
    assert complete(lake, "dreamlake", "ls", "vis") == ["space", "vision/b:2", "vision/run 1"]
    assert complete(lake, "dreamlake", "ls", "vision/r") == ["nospace", "vision/run 1", "vision/run 1:/"]
    assert complete(lake, "dreamlake", "ls", "vision/run 1:/") == [
        "nospace", "vision/run 1:/config.json", "vision/run 1:/models/", "vision/run 1:/notes/",
    ]  # fmt: skip
    assert complete(lake, "dreamlake", "cat", "vision/run 1:/models/best.pth@") == [
        "space", *(f"vision/run 1:/models/best.pth@{name}" for name in ("first", "v2", "v1")),
    ]  # fmt: skip
    assert complete(lake, "dreamlake", "cat", "none/x:/") == ["space"]
    assert "--order" in [line.partition("\t")[0] for line in complete(lake, "dreamlake", "find", "--o")]
    assert complete(lake, "dreamlake", "materialize", "--to", "") == ["folders"]
    assert lake(env={"_DREAMLAKE_COMPLETE": "tcsh_complete"}).code == 1


BASH_LINES = [
    ("dreamlake ls vision/r", ["vision/run\\ 1", "vision/run\\ 1:/"]),
    ("dreamlake ls vision/run\\ 1:/m", ["/models/"]),  # bash replaces only what follows the last colon
    ("dreamlake ls vision/b", ["vision/b:2", "vision/b:2:/"]),
    ("dreamlake ls vision/b:2:", ["/"]),
    ("dreamlake ls 'vision/run 1:/m", ["vision/run 1:/models/"]),
    ('dreamlake ls "vision/run 1:/models/b', ["vision/run 1:/models/best.pth"]),
    ("dreamlake cat vision/run\\ 1:/models/best.pth@v", ["v2", "v1"]),
    ("dreamlake --lake experiments ls vision/run\\ 1:/n", ["/notes/"]),
    ("dreamlake find -w x vision/run\\ 1:/notes/", ["/notes/deep/"]),
]


@pytest.mark.parametrize(("line", "expected"), BASH_LINES, ids=[line for line, _ in BASH_LINES])
def test_completion_in_bash(lake: Cli, line: str, expected: list[str]) -> None:
    """The real shell, with the colon among the characters at which it takes words apart."""
    script = f"""
        eval "$({sys.executable} -m dreamlake completion bash)"
        dreamlake() {{ {sys.executable} -m dreamlake "$@"; }}
        compopt() {{ :; }}
        COMP_LINE="$LINE"; COMP_POINT=${{#COMP_LINE}}
        _dreamlake_completion dreamlake
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**lake.environment(), "LINE": line, "COMP_WORDBREAKS": " \"'@><=;|&(:"}
    done = subprocess.run(["bash", "-c", script], cwd=lake.cwd, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts_read(lake: Cli, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    script = lake.ok("completion", shell).out
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_starts_without_what_it_does_not_need(lake: Cli) -> None:
    heavy = {"dreamlake.lake", "tqdm", "numpy"}
    code = f"import sys, dreamlake.cli as c; c.run(['--version']); print({heavy} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=lake.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("set()\n")
