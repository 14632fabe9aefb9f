"""Many runs of one race: every schedule up to a bound, or random ones, until something breaks or the budget ends."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

from dreamlake.catalog import record as records
from simulation.scheduler import Changes, Enumerated, Fault, Randomized, Scheduler, enumerate_schedules
from simulation.simfs import SimFs
from simulation.world import World


class Campaign:
    """Runs of the same people.

    Attributes:
        error: what the first bad run broke, None while there is none; ``label`` and ``trace`` repeat and show it.
        runs, steps, seconds: what it cost.
    """

    kind = World

    def __init__(self, *people: str, **options: Any) -> None:
        self.people, self.options = people, options
        self.finished: set[int] = set()
        self.error: str | None = None
        self.label = self.trace = ""
        self.runs = self.steps = 0
        self.seconds = 0.0

    def world(self, people: tuple[str, ...] | None = None, **more: Any) -> World:
        chosen = self.people if people is None else people
        return self.kind(*chosen, finished=self.finished, **{**self.options, **more})

    def _take(self, world: World, error: str | None, label: str) -> None:
        self.runs += 1
        self.steps += len(world.scheduler.trace)
        if error is not None and self.error is None:
            self.error, self.label, self.trace = error, label, world.trace()

    def systematic(
        self, preemptions: int, *, free: bool = True, budget: int = 10**9, shuffle: int | None = None
    ) -> Campaign:
        """All schedules with at most so many pre-emptions; at most ``budget`` of them."""

        def run(changes: Changes) -> Scheduler:
            world = self.world()
            self._take(world, world.run(Enumerated(changes)), f"schedule {changes}")
            return world.scheduler

        with self._timed():
            for count in enumerate_schedules(run, preemptions, free=free, shuffle=shuffle):
                if self.error is not None or count >= budget:
                    break
        return self

    def random(self, seeds: range, *, steps: int, kills: bool = True) -> Campaign:
        with self._timed():
            for seed in seeds:
                world = self.world()
                choose = Randomized(seed, world.scheduler, steps=steps, kills=kills)
                self._take(world, world.run(choose), f"seed {seed}")
                if self.error is not None:
                    break
        return self

    def faults(self, kind: str, error: int = errno.ENOSPC) -> Campaign:
        """The one person alone, with a fault at the first call, at the second, ... until there is no such call."""
        (person,) = self.people
        with self._timed():
            for call in itertools.count(1):
                world = self.world(faults={person: Fault(kind, call, error)})
                self._take(world, world.run(Enumerated(())), f"{kind} at call {call}")
                if self.error is not None or world.scheduler.processes[0].calls < call:
                    return self
        return self

    def power_cuts(self) -> Campaign:
        """The one person alone, with the power going off after every call, and every disk that this could leave."""
        world = self.world(faults={self.people[0]: Fault()})
        seen: set[int] = set()

        def cut() -> None:
            for disk in disks_after_power_cut(world.fs):
                after = self.world(fs=disk, people=())
                after.judge.acked = set(world.judge.acked)
                after.judge.healing = set(world.judge.healing)
                if after.state() not in seen and self.error is None:
                    seen.add(after.state())
                    self._take(after, after.run(Enumerated(())), f"power cut after {world.scheduler.trace[-1:]}")

        with self._timed():
            world.scheduler.run(Enumerated(()), cut)
            world.scheduler.close()
        return self

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        with mock.patch.object(records, "decode", lru_cache(maxsize=4096)(records.decode)):  # the same few records
            yield
        self.seconds += time.monotonic() - began

    def __str__(self) -> str:
        cost = f"{self.runs:,} runs, {self.steps:,} calls, {self.seconds:.1f} s"
        return f"{' '.join(self.people)}: {cost}" + (
            f"\n{self.error}\n{self.label}\n{self.trace}" if self.error else ""
        )


def disks_after_power_cut(fs: SimFs) -> Iterator[SimFs]:
    """Every disk that a power cut now could leave, with two kinds of damage to bytes that were not synced.

    Of private scratch only what is there now and what was there at the last sync are told apart: nobody else reads it.
    """
    histories = {}
    for path, home in fs.dirs.items():
        states = {tuple(sorted((n, id(w)) for n, w in state.items())): i for i, state in enumerate(home.history)}
        found = sorted(states.values())
        histories[path] = [found[0], found[-1]] if path.endswith("/tmp") and len(found) > 2 else found
    open_ones = [path for path, found in histories.items() if len(found) > 1]
    for chosen in itertools.product(*(histories[path] for path in open_ones)):
        for tear in (_zeros, _nothing):
            yield fs.after_power_cut(dict(zip(open_ones, chosen, strict=True)), tear)


def _zeros(data: bytes) -> bytes:
    return bytes(len(data))


def _nothing(data: bytes) -> bytes:
    return b""
