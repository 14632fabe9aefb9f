"""Runs the sides of a benchmark in alternation and keeps what they measured.

Owns: fresh child processes and their answers, alternation, medians, the verdict. A child that fails makes its benchmark
a failure with the child's words; no run is left out of the medians.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHILD_TIMEOUT_S = 1800.0
SUBJECT = "dreamlake"


class BenchError(Exception):
    """A benchmark could not be carried out; the message says which child failed and how."""


@dataclass(frozen=True)
class Sample:
    """What one run of one side took."""

    seconds: float
    peak_bytes: int = 0


Side = Callable[[], Sample]


@dataclass(frozen=True)
class Target:
    """What must be reached: `kind` is `ratio` (times the baseline), `seconds`, `extra` (seconds over it) or `bytes`."""

    kind: str
    value: float

    def reached(self, result: Result) -> bool:
        """Whether the medians of `result` are within the target."""
        return self.measured(result) <= self.value

    def measured(self, result: Result) -> float:
        """The figure that the target speaks of."""
        subject, baseline = result.median(SUBJECT), result.median(result.baseline)
        if self.kind == "bytes":
            return float(max(sample.peak_bytes for sample in result.samples[SUBJECT]))
        return {"ratio": subject / baseline, "seconds": subject, "extra": subject - baseline}[self.kind]

    def __str__(self) -> str:
        shown = {
            "ratio": f"{self.value:g} x",
            "seconds": f"{seconds_text(self.value)}",
            "extra": f"+ {seconds_text(self.value)}",
            "bytes": f"{self.value / 2**20:.0f} MiB",
        }
        return shown[self.kind]


@dataclass
class Result:
    """One row: all samples by side, in the order of the runs."""

    name: str
    work: str
    target: Target
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def baseline(self) -> str:
        """The side compared with: the one with the best median of those that are not dreamlake."""
        others = [side for side in self.samples if side != SUBJECT]
        return min(others, key=self.median)

    def median(self, side: str) -> float:
        """Median seconds of one side."""
        return statistics.median(sample.seconds for sample in self.samples[side])

    def document(self) -> dict[str, Any]:
        """The row as JSON types."""
        result = asdict(self)
        if self.error is None:
            subject, baseline = self.median(SUBJECT), self.median(self.baseline)
            result |= {"baseline": self.baseline, "baseline_s": baseline, "dreamlake_s": subject}
            result |= {"ratio": subject / baseline, "reached": self.target.reached(self)}
        return result


@dataclass
class Room:
    """Where and how thoroughly a benchmark runs."""

    folder: Path
    runs: int
    quick: bool
    seed: int = 0

    def size(self, full: int, quick: int) -> int:
        """The amount of work: the full one, or a small one with --quick."""
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        """An empty folder of this name, with nothing left to write back of what was removed for it."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settle(self.folder)
        return folder

    def alternate(self, result: Result, sides: Mapping[str, Side], *, runs: int | None = None) -> Result:
        """Run the sides in turn, `runs` times over, with the disk at rest before each; fills and returns `result`."""
        for _ in range(runs or self.runs):
            for name, side in sides.items():
                settle(self.folder)
                result.samples.setdefault(name, []).append(side())
        return result


def settle(folder: Path) -> None:
    """Write back what earlier runs left, so that the next one does not wait for it."""
    command(["sync", "-f", str(folder)])


def command(words: list[str], *, cwd: Path | None = None) -> Sample:
    """Run a command to its end; the sample is the time of the whole process.

    Raises:
        BenchError: it fails or takes longer than half an hour.
    """
    start = time.perf_counter()
    _run(words, cwd)
    return Sample(time.perf_counter() - start)


def child(module: str, verb: str, request: Mapping[str, Any]) -> Sample:
    """Run `python -m tools.bench.<module> VERB REQUEST` in a fresh process; the sample is what it measured inside."""
    answer = answer_of(module, verb, request)
    return Sample(answer["seconds"], answer["peak_bytes"])


def answer_of(module: str, verb: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Like `child`, with everything the child answered."""
    said = _run([sys.executable, "-m", f"tools.bench.{module}", verb, json.dumps(dict(request))], ROOT)
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def counted(module: str, verb: str, request: Mapping[str, Any], expected: int) -> Sample:
    """Like `child`, for work that answers with a `count`.

    Raises:
        BenchError: it failed, or did another amount of work than `expected`: its time would mean nothing.
    """
    answer = answer_of(module, verb, request)
    if answer["count"] != expected:
        raise BenchError(f"{verb} dealt with {answer['count']:,} of {expected:,}")
    return Sample(answer["seconds"], answer["peak_bytes"])


def _run(words: list[str], cwd: Path | None) -> str:
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{words[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"{' '.join(words[:4])} ended with {done.returncode}: {' | '.join(said[-3:])}")
    return done.stdout


Verb = Callable[[dict[str, Any]], Callable[[], Any]]


def serve(verbs: Mapping[str, Verb]) -> None:
    """The child's side: look up the verb, prepare, time the work, answer with one line of JSON.

    A verb gets the request and returns the work to time; imports and the like happen before. The work may return a
    mapping, which is added to the answer.
    """
    verb, request = sys.argv[1], json.loads(sys.argv[2])
    work = verbs[verb](request)
    start = time.perf_counter()
    more = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), **(more or {})}))


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    From /proc where there is one: the figure of getrusage includes the parent's memory when a process was spawned.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def seconds_text(seconds: float) -> str:
    """Seconds for people: three digits, in ms below one second."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def table(results: list[Result]) -> str:
    """The results as Markdown; a failed benchmark is a row with its error."""
    lines = [
        "| work | baseline | baseline | dreamlake | ratio | must reach | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        if result.error is not None:
            lines.append(f"| {result.work} | | | | | | FAILED: {result.error} |")
            continue
        subject, baseline = result.median(SUBJECT), result.median(result.baseline)
        shown = "reached" if result.target.reached(result) else "missed"
        if result.target.kind == "bytes":
            shown += f" ({result.target.measured(result) / 2**20:.0f} MiB)"
        cells = [
            result.work,
            result.baseline,
            seconds_text(baseline),
            seconds_text(subject),
            f"{subject / baseline:.2f} x",
        ]
        lines.append("| " + " | ".join([*cells, str(result.target), shown]) + " |")
    return "\n".join(lines)
