"""Benchmarks of what is felt rather than waited for: imports, the shortest command, track points."""

from __future__ import annotations

import sys
from functools import partial

from tools.bench.harness import ROOT, SUBJECT, Result, Room, Sample, Side, Target, child, command

# What the installed `dreamlake` script does.
COMMAND = "import sys; from dreamlake.cli import main; sys.exit(main())"


def importing(room: Room) -> Result:
    """Start of an interpreter that imports dreamlake's Session."""
    return _start(room, "import", "from dreamlake import Session", ["-c", "from dreamlake import Session"], 0.06)


def version(room: Room) -> Result:
    """The shortest command."""
    return _start(room, "version", "dreamlake --version", ["-c", COMMAND, "--version"], 0.15)


def _start(room: Room, name: str, work: str, words: list[str], extra_s: float) -> Result:
    result = Result(name, f"`{work}`", Target("extra", extra_s))

    def python(*arguments: str) -> Sample:
        return command([sys.executable, *arguments], cwd=ROOT)

    python("-m", "compileall", "-q", "dreamlake")  # as installing does; a first start may be told not to keep it
    sides: dict[str, Side] = {"python -c pass": partial(python, "-c", "pass"), SUBJECT: partial(python, *words)}
    return room.alternate(result, sides, runs=4 * room.runs)


def track(room: Room) -> Result:
    """Track points appended one by one."""
    points = room.size(10_000, 2_000)
    result = Result("track", f"append {points:,} track points one by one", Target("seconds", room.size(20, 4) / 10))

    def lines() -> Sample:
        request = {"file": str(room.fresh("plain") / "data.jsonl"), "points": points}
        return child("baselines", "append-lines", request)

    sides: dict[str, Side] = {
        "write JSON lines to a file, one fsync": lines,
        SUBJECT: lambda: child("subject", "track", {"lake": str(room.fresh("lake")), "points": points}),
    }
    return room.alternate(result, sides)
