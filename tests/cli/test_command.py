"""The command around the verbs: finding the lake, help, exit codes, pipes, signals, terminals, completion."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_process import RUN, Cli

from dreamlake import __version__, errors
from dreamlake.cli import SPELLINGS, VERBS, dreamlake
from dreamlake.cli.examples import EXAMPLES
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
            "push",
            "pull",
            "sync",
        }
        assert ("--dry-run" in page) == (name in changes)


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Verbs with their own verbs, by what is typed."""
    root = click.Context(dreamlake, info_name="dreamlake")
    for name in VERBS:
        command = dreamlake.get_command(root, name)
        assert command is not None
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=root)
            yield from ((f"{name} {sub}", command.get_command(inner, sub)) for sub in command.list_commands(inner))
        else:
            yield name, command


def test_every_verb_has_examples_that_parse() -> None:
    known = dict(every_command())
    assert set(EXAMPLES) <= set(known)
    for name, command in known.items():
        with click.Context(command, info_name=name) as context:
            text = command.get_help(context)
        line = rf"(?m)^ *(?:[a-z ]+: +(?:eval \"\$\()?)?dreamlake {name}(?=[ )\n]|$)(.*?)(?:  .*)?$"
        examples = re.findall(line, text)
        assert examples, f"{name} has no example"
        for example in examples if name in EXAMPLES else ():
            words = shlex.split(example.partition(" | ")[0])
            command.make_context(name, words, resilient_parsing=False).close()


def test_the_reference_page_is_current() -> None:
    from dreamlake.cli.reference import page

    committed = (Path(__file__).resolve().parents[2] / "docs/reference-cli.md").read_text("utf-8")
    assert committed == page(), "run: python -m dreamlake.cli.reference > docs/reference-cli.md"
    for name, command in every_command():
        assert f"### dreamlake {name}\n" in committed
        for option in command.params:
            if isinstance(option, click.Option):
                assert all(spelling in committed for spelling in option.opts)


def test_demo_is_a_tour_that_leaves_a_whole_lake(empty: Cli) -> None:
    out = empty.ok("demo", "tour").out
    assert "epoch 8: loss " in out and "\n$ dreamlake diff " in out and "nothing is damaged" in out
    for words in (["ls", "demo/byte-model"], ["stats"]):
        assert f"$ dreamlake {' '.join(words)}\n" in out
        assert empty.ok("--lake", "tour", *words).out
    losses = [float(text) for text in re.findall(r"loss (\d\.\d+), ", out)]
    assert len(losses) == 8 and losses == sorted(losses, reverse=True) and losses[0] > 1.2 * losses[-1]
    best = empty.ok("info", "demo/byte-model:/models/model.npz@best", "--json", "--lake", "tour").json[0]
    assert best["metadata"]["loss"] < 3 and best["version"] == 8
    assert "exists; the demo makes a folder of its own" in empty.fails(4, "demo", "tour")
    assert sorted(os.listdir(empty.cwd)) == ["tour"]


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


def on_a_terminal(cli: Cli, *args: str, code: int = 0, **variables: str) -> str:
    """Output of a run whose standard streams are a terminal."""
    leader, follower = pty.openpty()
    env = cli.environment({"TERM": "xterm", "LINES": "50", **variables})
    process = subprocess.Popen(cli.argv(*args), cwd=cli.cwd, env=env, stdin=follower, stdout=follower, stderr=follower)
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
    assert process.wait(60) == code
    return out.decode().replace("\r\n", "\n")


def test_short_work_on_a_terminal_shows_no_bar(cli: Cli) -> None:
    assert on_a_terminal(cli, "materialize") == f"placed 5 files, 2.0 KiB, in {cli.root}; 0 unchanged\n"


def test_colour_on_a_terminal_only_and_never_with_no_color(lake: Cli) -> None:
    out = on_a_terminal(lake, "ls", RUN)
    assert out.startswith("\x1b[1mPATH") and out.count("\x1b[") == 2  # the headings stand out, nothing else
    assert "\x1b[1;31merror:\x1b[0m no session" in on_a_terminal(lake, "ls", "vision/none", code=3)
    plain = lake.ok("ls", RUN).out
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert on_a_terminal(lake, "ls", RUN, **variables) == plain
        assert "\x1b" not in on_a_terminal(lake, "ls", "vision/none", code=3, **variables)
    assert "\x1b" not in plain


def test_tables_fit_the_terminal(lake: Cli) -> None:
    long = "/models/" + "a-very-long-folder-name/" * 4 + "checkpoint.pth"
    with lake.session() as session:
        session.files.upload(b"x", filename="checkpoint.pth", path=os.path.dirname(long), tags=["one", "two"])
    try:
        for columns in (60, 80, 140):
            lines = on_a_terminal(lake, "ls", RUN, COLUMNS=str(columns), NO_COLOR="1").splitlines()
            assert max(map(len, lines)) <= columns
            assert any("point.pth" in line and "1 B" in line for line in lines)
        assert long in lake.ok("ls", RUN).out  # elsewhere nothing is cut
    finally:
        lake.ok("rm", f"{RUN}:{long}")


def test_long_listings_go_through_a_pager(lake: Cli, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > '{seen}'\n")
    pager.chmod(0o755)
    plain = lake.ok("ls", RUN).out
    assert on_a_terminal(lake, "ls", RUN, LINES="50", PAGER=str(pager), NO_COLOR="1") == plain  # it fits
    assert on_a_terminal(lake, "ls", RUN, LINES="3", PAGER=str(pager), NO_COLOR="1") == ""
    assert seen.read_text() == plain
    for variables in ({"DREAMLAKE_PAGER": "cat"}, {"DREAMLAKE_PAGER": ""}, {"PAGER": "/no/such/pager"}):
        more = {"LINES": "3", "PAGER": str(pager), "NO_COLOR": "1", **variables}
        assert on_a_terminal(lake, "ls", RUN, **more) == plain
    assert on_a_terminal(lake, "ls", RUN, LINES="3", PAGER="true", NO_COLOR="1") == ""  # ended without reading
    seen.unlink()
    assert lake.ok("ls", RUN, env={"LINES": "3", "PAGER": str(pager)}).out == plain and not seen.exists()
    assert len(on_a_terminal(lake, "ls", RUN, "--json", LINES="3", PAGER=str(pager)).splitlines()) == 3


def test_quiet_and_verbose(cli: Cli) -> None:
    (cli.cwd / "x").write_bytes(b"x")
    for args in (["-q", "upload", "x", f"{RUN}:/q"], ["upload", "x", f"{RUN}:/q", "-q"], ["rm", "-q", f"{RUN}:/q/x"]):
        done = cli.ok(*args)
        assert (done.out, done.err) == ("", "")
    assert "/models" in cli.ok("ls", "-q", RUN).out  # what was asked for is shown
    assert cli.ok("upload", "-q", "--json", "x", f"{RUN}:/q").json[0]["filename"] == "x"
    assert "no file '/none'" in cli.fails(3, "rm", "-q", f"{RUN}:/none")
    said = cli("ls", "-v", RUN).err
    assert re.fullmatch(rf"dreamlake: ls on {re.escape(str(cli.root))} took \d+\.\d\d s\n", said)
    assert cli("-v", "ls", RUN).err.startswith("dreamlake: ls on ")
    said = subprocess.run(
        cli.argv("ls", "-v", "vision/none"), cwd=cli.cwd, env=cli.environment(), capture_output=True, text=True
    ).stderr
    assert "error: no session" in said and "Traceback" in said and "NotFound" in said
    assert "Traceback" not in cli("ls", "vision/none").err


def test_misspelt_names_get_a_hint(lake: Cli) -> None:
    assert "did you mean '/config.json'?" in lake.fails(3, "cat", f"{RUN}:/confg.json")
    assert "did you mean '/models'?" in lake.fails(3, "ls", f"{RUN}:/model")
    assert "did you mean 'vision/run 1'?" in lake.fails(3, "ls", "vision/rum 1")
    assert "did you mean 'vision'?" in lake.fails(3, "ls", "visoin")
    assert "did you mean 'history'?" in lake.fails(2, "histroy")
    assert "--order" in lake.fails(2, "find", "--ordr", "size")
    assert "did you mean" not in lake.fails(3, "cat", f"{RUN}:/quite-another-thing")


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
