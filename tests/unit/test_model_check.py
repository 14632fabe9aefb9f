"""tools.model: the protocol holds in every state of the small configurations, and every mutation is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.model import __main__ as command
from tools.model import runs
from tools.model.explorer import explore
from tools.model.parts_model import Lake
from tools.model.runs import BIG, HOLDS, MUTATIONS, Run
from tools.model.state import Rules

ALL = [*HOLDS, *MUTATIONS, *BIG]


@pytest.mark.parametrize("run", HOLDS, ids=lambda run: run.name)
def test_the_protocol_holds(run: Run) -> None:
    verdict = explore(run.make(), traced=False)
    assert verdict.wrong is None and verdict.complete, str(verdict)
    assert verdict.states > 20


@pytest.mark.parametrize("run", MUTATIONS, ids=lambda run: run.name)
def test_a_mutation_is_noticed(run: Run) -> None:
    assert run.breaks is not None
    lake = run.make()
    verdict = explore(lake)
    assert verdict.wrong is not None and verdict.wrong.startswith(run.breaks), str(verdict)
    state = lake.start()
    for label, after in verdict.trace:  # every step of the counter-example is one that the model allows
        assert (label, after) in list(lake.steps(state))
        assert lake.wrong(state) is None
        state = after
    assert lake.wrong(state) == verdict.wrong


def test_every_rule_is_switched_off_somewhere() -> None:
    off = {name for run in ALL for name, on in vars(run.make().rules).items() if not on}
    assert off == set(vars(Rules()))


def test_names_are_distinct() -> None:
    for kind in (HOLDS, MUTATIONS, BIG):
        assert len({run.name for run in kind}) == len(kind)


class Counter:
    """Counts up by one or by three, and must not reach seven."""

    def start(self) -> int:
        return 0

    def steps(self, state: int) -> Iterator[tuple[str, int]]:
        if state < 20:
            yield "one", state + 1
            yield "three", state + 3

    def wrong(self, state: int) -> str | None:
        return "seven" if state == 7 else None


class Unbounded(Counter):
    def wrong(self, state: int) -> str | None:
        return None


def test_the_explorer_finds_a_shortest_way() -> None:
    verdict = explore(Counter())
    assert verdict.wrong == "seven" and [state for _, state in verdict.trace][-1] == 7
    assert len(verdict.trace) == 3 and verdict.complete


def test_the_explorer_reaches_everything_and_says_when_it_was_cut_short() -> None:
    verdict = explore(Unbounded())
    assert (verdict.states, verdict.complete, verdict.wrong) == (23, True, None)
    assert not explore(Unbounded(), most=5).complete
    assert "cut short" in str(explore(Unbounded(), most=5))


def test_a_wrong_beginning_is_a_finding_without_steps() -> None:
    lake = Lake("X rX:P P", "rX:P", [], refs="X")
    verdict = explore(lake)
    assert verdict.wrong is not None and verdict.trace == []


def test_the_command_fails_when_a_run_surprises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = Run("quick", lambda: runs.trusting())
    caught = Run("caught", lambda: runs.trusting(rules=runs.without("parts_before_recipe", "look_at_parts")), "I1")
    monkeypatch.setattr(command, "HOLDS", [quick])
    monkeypatch.setattr(command, "MUTATIONS", [caught])
    assert command.main(["--traces"]) == 0
    assert "0 not as expected" in capsys.readouterr().out
    monkeypatch.setattr(command, "MUTATIONS", [quick._replace(breaks="I1")])
    assert command.main([]) == 1
    monkeypatch.setattr(command, "MUTATIONS", [caught])
    monkeypatch.setattr(command, "HOLDS", [caught._replace(breaks=None)])
    assert command.main([]) == 1
    assert "BAD" in capsys.readouterr().out
