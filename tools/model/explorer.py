"""Explores every state that a model can reach, breadth first, so that what it finds is a shortest counter-example.

A model says where it begins, which single steps lead on from a state, and what is wrong with a state. States are
hashable values. Nothing else is assumed, and nothing is sampled: a run that ends without a finding and was not cut
short has seen every reachable state.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Model(Protocol[S]):
    def start(self) -> S: ...

    def steps(self, state: S) -> Iterable[tuple[str, S]]:
        """(what happens, state after it) for every single step that anybody could make next."""
        ...

    def wrong(self, state: S) -> str | None:
        """The invariant that this state breaks, or None."""
        ...


class Verdict(NamedTuple):
    """What an exploration found.

    Attributes:
        wrong: the broken invariant, or None.
        trace: the shortest way there: what happens, and the state after it.
        states: how many different states were reached.
        depth: how many steps the farthest of them needs.
        complete: False when the search was cut short.
    """

    wrong: str | None
    trace: list[tuple[str, Any]]
    states: int
    depth: int
    seconds: float
    complete: bool = True

    def __str__(self) -> str:
        what = self.wrong or ("holds" if self.complete else "nothing found, cut short")
        steps = f" after {len(self.trace)} steps" if self.wrong else ""
        return f"{self.states:>9,} states, depth {self.depth:>2}, {self.seconds:5.1f} s: {what}{steps}"


def explore(model: Model[S], *, most: int | None = None, traced: bool = True) -> Verdict:
    """Every reachable state, the nearest first, until one is wrong.

    Args:
        most: give up after so many states.
        traced: remember how each state was reached. Without, a large exploration needs a third less memory, and a
            finding comes without its trace.
    """
    began = time.monotonic()
    first = model.start()
    came: dict[S, tuple[S, str] | None] = {first: None}
    layer, depth, wrong, found = [first], 0, model.wrong(first), first
    while layer and wrong is None and (most is None or len(came) < most):
        following: list[S] = []
        for after in _new(model, layer, came, traced):
            following.append(after)
            wrong = model.wrong(after)
            if wrong is not None:
                found = after
                break
        layer = following
        depth += bool(layer)
    trace = _trace(came, found) if wrong is not None else []
    return Verdict(wrong, trace, len(came), depth, time.monotonic() - began, wrong is not None or not layer)


def _new(model: Model[S], layer: list[S], came: dict[S, tuple[S, str] | None], traced: bool) -> Iterator[S]:
    """States one step beyond a layer that were not reached before."""
    for state in layer:
        for label, after in model.steps(state):
            if after not in came:
                came[after] = (state, label) if traced else None
                yield after


def _trace(came: dict[S, tuple[S, str] | None], state: S) -> list[tuple[str, S]]:
    steps = []
    while (step := came[state]) is not None:
        steps.append((step[1], state))
        state = step[0]
    return steps[::-1]
