"""The command as users run it: a real process, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dreamlake import Session

PACKAGE = Path(__file__).resolve().parents[2]
RUN = "vision/run 1"


class Done(NamedTuple):
    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> list[Any]:
        """The objects printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Warm:
    """A process that forks for every command (``warm.py``), so that hundreds of them do not start Python anew."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def run(self, argv: list[str], cwd: Path, env: Mapping[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
        files = {name: self._scratch / name for name in ("in", "out", "err")}
        for name, path in files.items():
            path.write_bytes(stdin if name == "in" else b"")
        request = {"argv": argv, "cwd": str(cwd), "env": dict(env), **{k: str(v) for k, v in files.items()}}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return code, files["out"].read_bytes(), files["err"].read_bytes()

    def close(self) -> None:
        self._process.communicate(timeout=60)


class Cli:
    """Runs the command in a folder of its own. ``root`` is the lake that it finds there.

    Called, it forks from a warm process; ``real`` starts ``python -m dreamlake`` as a user's shell would.
    """

    def __init__(self, cwd: Path, warm: Warm) -> None:
        self.cwd, self.root, self._warm = cwd, cwd / "experiments", warm

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DREAMLAKE_", "XDG_"))}
        base = {"HOME": str(self.cwd), "TZ": "UTC", "PYTHONPATH": str(PACKAGE), "COLUMNS": "200"}
        return {**env, **base, **(extra or {})}

    def argv(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "dreamlake", *map(str, args)]

    def __call__(
        self, *args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Done:
        argv = [str(arg) for arg in args]
        return _done(*self._warm.run(argv, cwd or self.cwd, self.environment(env), stdin))

    def real(self, *args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            self.argv(*args), input=stdin, capture_output=True, cwd=self.cwd, env=self.environment(env), timeout=120
        )
        return _done(done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str | Path, **options: Any) -> Done:
        """Run it; it must succeed without a word on standard error."""
        done = self(*args, **options)
        assert (done.code, done.err) == (0, ""), done
        return done

    def fails(self, code: int, *args: str | Path, **options: Any) -> str:
        """Run it; it must fail with this code and exactly one line on standard error, which is returned."""
        done = self(*args, **options)
        assert done.code == code, done
        assert done.err.startswith("dreamlake: error: ") and done.err.count("\n") == 1, done.err
        return done.err.removeprefix("dreamlake: error: ").rstrip("\n")

    def session(self, name: str = "run 1", workspace: str = "vision", **options: Any) -> Session:
        return Session(name, workspace, local_path=self.root, **options)


def _done(code: int, out: bytes, err: bytes) -> Done:
    said = err.decode()
    assert "Traceback" not in said, said
    return Done(code, out.decode("utf-8", "replace"), said, out)


def fill(cli: Cli) -> None:
    """Two sessions with files, versions, an alias and a deleted file."""
    with cli.session(description="the first", tags=["demo"], metadata={"lr": 0.1}) as session:
        files = session.files
        files.upload(
            b"weights 1", filename="best.pth", path="/models", tags=["best"], metadata={"loss": 0.5, "epoch": 1}
        )
        files.upload(
            b"weights 22",
            filename="best.pth",
            path="/models",
            tags=["best", "final"],
            metadata={"loss": 0.25, "epoch": 2},
            description="the best one",
        )
        files.upload(b"{}", filename="config.json", path="/")
        files.upload("größe".encode(), filename="ü 1.txt", path="/notes/deep")
        files.upload(b"old", filename="old.txt", path="/notes")
        files.delete("/notes/old.txt")
        files.alias("/models/best.pth@v1", "first")
    with cli.session("b:2", "vision") as session:
        session.files.upload(b"x" * 2048, filename="big.bin", path="/data", metadata={"loss": 0.1, "name": "resnet"})
    with cli.session("other", "audio") as session:
        session.files.upload(b"", filename="empty.wav")
