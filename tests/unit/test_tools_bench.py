"""tools.bench: sides alternate, the best baseline counts, failures and missed targets show."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tools.bench import __main__ as bench
from tools.bench import harness, inputs, workloads
from tools.bench.baselines import LOOPS, one_pass
from tools.bench.harness import (
    SUBJECT,
    BenchError,
    Result,
    Room,
    Sample,
    Target,
    answer_of,
    child,
    command,
    counted,
    table,
)


def row(subject: list[float], baseline: list[float], target: Target) -> Result:
    samples = {"plain": [Sample(s) for s in baseline], SUBJECT: [Sample(s, 100 << 20) for s in subject]}
    return Result("name", "some work", target, samples)


@pytest.fixture(scope="module")
def random_bytes() -> bytes:
    """Enough for the write-back to start early, which it does every 32 MiB."""
    return random.Random(0).randbytes(33 << 20)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [0, 4 << 20, (4 << 20) + 1, 33 << 20])
def test_plain_loops_copy_and_hash_alike(tmp_path: Path, random_bytes: bytes, loop: str, size: int) -> None:
    data = random_bytes[:size]
    (tmp_path / "source").write_bytes(data)
    second_thread, early = LOOPS[loop]
    digest = one_pass(
        str(tmp_path / "source"), str(tmp_path / "target"), second_thread=second_thread, early=early, durable=True
    )
    assert digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "target").read_bytes() == data
    assert not (tmp_path / "target.part").exists()


def test_sides_alternate_and_every_run_is_kept(tmp_path: Path) -> None:
    order: list[str] = []

    def side(name: str, seconds: float) -> Any:
        def run() -> Sample:
            order.append(name)
            return Sample(seconds)

        return run

    result = Result("name", "work", Target("ratio", 1))
    Room(tmp_path, runs=3, quick=True).alternate(result, {"A": side("A", 2), "B": side("B", 1), SUBJECT: side("S", 3)})
    assert order == ["A", "B", "S"] * 3
    assert [len(samples) for samples in result.samples.values()] == [3, 3, 3]
    assert result.baseline == "B"
    assert result.document()["ratio"] == 3


@pytest.mark.parametrize(
    ("target", "subject", "reached"),
    [
        (Target("ratio", 1.5), [1.4, 9.0, 1.5], True),
        (Target("ratio", 1.5), [1.6, 1.6, 0.1], False),
        (Target("seconds", 0.05), [0.05], True),
        (Target("seconds", 0.05), [0.051], False),
        (Target("extra", 0.5), [1.4], True),
        (Target("extra", 0.5), [1.6], False),
        (Target("bytes", 128 << 20), [1.0], True),
        (Target("bytes", 64 << 20), [1.0], False),
    ],
)
def test_targets_judge_medians(target: Target, subject: list[float], reached: bool) -> None:
    result = row(subject, [1.0], target)
    assert target.reached(result) is reached
    assert ("| reached" if reached else "| missed") in table([result])


def test_table_never_shows_a_time_without_its_baseline() -> None:
    (line,) = table([row([0.3], [0.1], Target("seconds", 1))]).splitlines()[2:]
    assert line == "| some work | plain | 100 ms | 300 ms | 3.00 x | 1 s | reached |"


def test_failed_benchmark_is_a_row_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    def failing(room: Room) -> Result:
        """Work that fails."""
        command(["sh", "-c", "echo out of space >&2; exit 9"])
        raise AssertionError("not reached")

    def fine(room: Room) -> Result:
        """Work that is done."""
        return row([1.0], [2.0], Target("ratio", 1))

    monkeypatch.setattr(bench, "BENCHMARKS", {"failing": failing, "fine": fine})
    file = tmp_path / "out.json"
    assert bench.main(["--json", str(file), "--dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAILED: sh -c" in said and "out of space" in said and "| reached |" in said
    rows = json.loads(file.read_text())["results"]
    assert [entry["error"] is None for entry in rows] == [False, True]
    assert rows[1]["ratio"] == 0.5
    assert bench.main(["fine", "--dir", str(tmp_path)]) == 0


def test_check_turns_a_missed_target_into_an_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(room: Room) -> Result:
        """Too slow."""
        return row([3.0], [1.0], Target("ratio", 2))

    monkeypatch.setattr(bench, "BENCHMARKS", {"slow": slow})
    assert bench.main(["--dir", str(tmp_path)]) == 0
    assert bench.main(["--check", "--dir", str(tmp_path)]) == 1


def test_unknown_benchmark_is_refused(capsys: Any) -> None:
    assert bench.main(["no-such-benchmark"]) == 2
    assert "large-upload" in capsys.readouterr().err


def test_every_benchmark_describes_itself() -> None:
    described = [workloads.describe(function) for function in workloads.BENCHMARKS.values()]
    assert len(set(described)) == len(described) and all(described)


def test_memory_is_that_of_the_child(tmp_path: Path) -> None:
    ballast = bytearray(random.Random(0).randbytes(200 << 20))
    (tmp_path / "source").write_bytes(b"x" * 1000)
    sample = child("baselines", "hash", {"source": str(tmp_path / "source")})
    assert len(ballast) == 200 << 20
    assert 1 << 20 < sample.peak_bytes < 100 << 20


def test_child_answers_what_its_work_returned(tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(json.dumps([{}] * 7))
    answer = answer_of("baselines", "read-json", {"file": str(tmp_path / "records.json")})
    assert answer["count"] == 7 and answer["seconds"] > 0


def test_another_amount_of_work_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(json.dumps([{}] * 7))
    assert counted("baselines", "read-json", {"file": str(tmp_path / "records.json")}, 7).seconds > 0
    with pytest.raises(BenchError, match="read-json dealt with 7 of 8"):
        counted("baselines", "read-json", {"file": str(tmp_path / "records.json")}, 8)


def test_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"tools\.bench\.baselines hash ended with 1: .*FileNotFoundError"):
        child("baselines", "hash", {"source": str(tmp_path / "missing")})


@pytest.mark.parametrize("name", ["again", "track"])
def test_real_quick_runs(name: str, tmp_path: Path, capsys: Any) -> None:
    assert bench.main([name, "--quick", "--runs", "1", "--dir", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()[2:]
    assert line.count("|") == 8 and " x |" in line
    assert not list(tmp_path.iterdir())


def test_inputs_come_out_the_same_for_a_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        inputs.text_folder(tmp_path / name, 300, seed=5)
    one, two = (sorted((tmp_path / name).rglob("*.txt")) for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
    assert len({file.read_bytes() for file in one}) == 300
    assert all(1000 <= file.stat().st_size <= 51_000 for file in one)


def test_tiny_files_are_all_different_and_halved(tmp_path: Path) -> None:
    inputs.tiny_folder(tmp_path, 4500)
    even, odd = (list((tmp_path / half).rglob("*.txt")) for half in ("even", "odd"))
    assert len(even) == len(odd) == 2250
    assert len({file.read_bytes() for file in even + odd}) == 4500


def test_stand_in_checkpoints_are_safetensors_that_drift(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    load_file = pytest.importorskip("safetensors.numpy").load_file
    first, second = (load_file(file) for file in inputs.checkpoints(tmp_path, 8 << 20, seed=0))
    assert first.keys() == second.keys() and len(first) == 2
    for key, value in first.items():
        moved = numpy.abs(second[key] - value)
        assert 0 < float(moved.mean()) < 1e-3 * 0.2


def test_large_file_has_the_size_and_no_repetition(tmp_path: Path) -> None:
    data = inputs.large_file(tmp_path / "large", (4 << 20) + 5, seed=1).read_bytes()
    assert len(data) == (4 << 20) + 5
    assert len({data[start : start + 4096] for start in range(0, 4 << 20, 4096)}) == 1024


def test_seconds_for_people() -> None:
    assert [harness.seconds_text(s) for s in (0.0123, 0.5, 1.0, 61.25)] == ["12.3 ms", "500 ms", "1 s", "61.2 s"]
