"""Simulated processes, one system call at a time, in an order that a test decides.

Each process is a greenlet of plain blocking code. It hands control back at every call that others could notice; a
*step* is the effect of that call and everything up to the next one. Schedules are data, so every failure is repeated
by its label: ``{step: process}`` for enumerated ones, a seed for random ones.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import greenlet

from simulation.simfs import SPACE, SimFs

MAX_STEPS = 3000  # nobody waits for anybody (I6): a run that takes longer does not end


class Killed(BaseException):
    """kill -9: raised at a call and at every later one, so that no ``finally`` reaches the disk any more."""


# ("read" | "change" | "sync" | "peek", a path; with a slash at its end the names in a directory). A peek sees some name
# of a directory: who acts on what it saw may rely on something that is not durable yet.
Access = tuple[str, str]


class Option(NamedTuple):
    """One step of a run: who could run, who ran last (None if it has ended), who was chosen, and what the one that ran
    last was about to do."""

    alive: list[int]
    current: int | None
    chosen: int
    ahead: frozenset[Access]


class Late(Exception):
    """Raised by a hook: the call arrives later. ``send`` gets what it will do; ``error`` is what the caller sees."""

    def __init__(self, send: Callable[[Callable[[], object]], None], error: BaseException) -> None:
        super().__init__("late")
        self.send, self.error = send, error


class Fault(NamedTuple):
    """What happens at the ``call``-th call of a process (from 1; 0: never).

    ``kind``: "kill" before it; "error" instead of it; "lost" after it, when its effect is there but the reply is an
    error; "full" from it on, for every call that needs space. Of a call to a service: "late" like "lost", but its
    effect comes at some later time; "late kill", likewise, of one that dies.
    """

    kind: str = "none"
    call: int = 0
    error: int = 28


class Process:
    def __init__(self, name: str, work: Callable[[], None], fault: Fault) -> None:
        self.name, self.fault = name, fault
        self.dead = False
        self.error: BaseException | None = None
        self.calls = 0
        self.next: tuple[str, str, str] = ("start", "", "")
        self.thread = greenlet.greenlet(lambda: self._run(work))

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Killed:
            pass
        except Exception as error:
            self.error = error
        self.dead = True


class Scheduler:
    """Runs processes on a simulated file system. ``hidden`` tells calls that no other process could notice."""

    def __init__(self, fs: SimFs, hidden: Callable[[str, str, str], bool]) -> None:
        self._fs, self._hidden = fs, hidden
        self._main = greenlet.getcurrent()
        self.running: Process | None = None
        self.processes: list[Process] = []
        self.trace: list[tuple[str, str]] = []
        self.options: list[Option] = []
        self.accesses: list[set[Access]] = []  # of each process: what its calls read and change
        self.watch: Callable[[Process, str, str, str], None] = lambda process, call, path, other: None
        fs.hook = self._call

    def spawn(self, name: str, work: Callable[[], None], fault: Fault | None = None) -> None:
        self.processes.append(Process(name, work, fault or Fault()))
        self.accesses.append(set())

    def _call(self, call: str, path: str, other: str) -> Callable[[], None] | None:
        me = self.running
        if me is None or greenlet.getcurrent() is self._main:
            return None  # the judge looks
        if me.dead:
            raise Killed
        me.calls += 1
        if not self._hidden(call, path, other):
            me.next = (call, path, other)
            self._main.switch()
            if me.dead:
                raise Killed
            self.accesses[self.processes.index(me)] |= accesses(call, path, other, path in self._fs.dirs)
        self.trace.append((me.name, f"{call} {path}{' -> ' + other if other else ''}"))
        after = self._fault(me, call, path)
        self.watch(me, call, path, other)  # only of what happens now
        return after

    def _fault(self, me: Process, call: str, path: str) -> Callable[[], None] | None:
        kind, at, code = me.fault
        if kind == "full" and me.calls >= at > 0 and call in SPACE:
            raise OSError(code, "No space left on device", path)
        if me.calls != at:
            return None
        if kind == "kill" or (kind == "late kill" and not changes(call)):
            me.dead = True
            raise Killed
        if kind in ("late", "late kill") and changes(call):
            me.dead = kind == "late kill"
            seen = Killed() if me.dead else self.failure(call, path, code, True)
            raise Late(lambda effect: self._ghost(me, call, path, effect), seen)
        if kind in ("error", "late"):
            raise self.failure(call, path, code, False)
        if kind == "lost":

            def lose_the_reply() -> None:
                raise self.failure(call, path, code, True)

            return lose_the_reply
        return None

    def failure(self, call: str, path: str, code: int, happened: bool) -> Exception:
        """What a caller sees of a call that failed, or whose reply was lost."""
        return OSError(code, "injected after the effect" if happened else "injected", path)

    def _ghost(self, me: Process, call: str, path: str, effect: Callable[[], object]) -> None:
        """A process that does nothing but let a call arrive."""

        def arrive() -> None:
            self._call(call, path, "")
            with contextlib.suppress(Exception):
                effect()

        self.spawn(f"{me.name}'s", arrive)

    def run(self, choose: Callable[[int, list[int], int | None], int], check: Callable[[], None]) -> None:
        """Until all have ended. ``choose`` gets the step, who is alive, and who ran last (None if it has ended)."""
        current: int | None = None
        for step in range(MAX_STEPS):
            alive = [i for i, process in enumerate(self.processes) if not process.dead]
            if not alive:
                return
            if current not in alive:
                current = None
            chosen = choose(step, alive, current)
            alive = [i for i in alive if not self.processes[i].dead]  # choose may have killed one
            if chosen not in alive:
                continue
            ahead = self.processes[current].next if current is not None else ("start", "", "")
            self.options.append(Option(alive, current, chosen, accesses(*ahead, ahead[1] in self._fs.dirs)))
            current = chosen
            self.running = self.processes[chosen]
            self.running.thread.switch()
            check()
        raise AssertionError("I6: a run that does not end")

    def lead(self, number: int, until: str, check: Callable[[], None]) -> None:
        """Before ``run``: one process alone, up to the call that begins with ``until``; "end": to its end."""
        self.running = process = self.processes[number]
        while not process.dead and not " ".join(process.next).startswith(until):
            process.thread.switch()
            check()
        assert process.dead == (until == "end"), f"{process.name} never came to {until!r}"

    def kill(self, number: int) -> None:
        """kill -9, before the call that the process is about to make."""
        process = self.processes[number]
        if process.dead:
            return
        process.dead = True
        self.trace.append((process.name, f"KILLED before: {process.next[0]} {process.next[1]}"))
        if process.thread:  # it has begun: let it unwind
            self.running = process
            process.thread.switch()

    def close(self) -> None:
        for number in range(len(self.processes)):
            self.kill(number)
        self.running = None  # from here on it is the judge who looks


class Enumerated:
    """The schedule that differs from "whoever runs goes on" exactly at the given steps."""

    def __init__(self, changes: tuple[tuple[int, int], ...]) -> None:
        self.changes = dict(changes)

    def __call__(self, step: int, alive: list[int], current: int | None) -> int:
        if step in self.changes:
            return self.changes[step]
        return current if current is not None else alive[0]


class Randomized:
    """PCT: random priorities, and a few random moments at which the one that runs becomes the last; perhaps a kill."""

    def __init__(self, seed: int, scheduler: Scheduler, *, steps: int, kills: bool) -> None:
        rng = self._rng = random.Random(seed)
        self._order = list(range(len(scheduler.processes)))
        rng.shuffle(self._order)
        self._demote = {rng.randrange(steps) for _ in range(rng.randrange(1, 5))}
        self._kill = {rng.randrange(steps) for _ in range(rng.randrange(3))} if kills else set()
        self._scheduler = scheduler

    def __call__(self, step: int, alive: list[int], current: int | None) -> int:
        for ghost in [i for i in alive if i not in self._order]:
            self._order.insert(self._rng.randrange(len(self._order) + 1), ghost)
        first = next(i for i in self._order if i in alive)
        if step in self._demote:
            self._order.remove(first)
            self._order.append(first)
        elif step in self._kill and len(alive) > 1:
            self._scheduler.kill(first)
            alive = [i for i in alive if i != first]
        return next(i for i in self._order if i in alive)


def changes(call: str) -> bool:
    """True if a call to a service changes anything there."""
    return call not in ("read", "list")


@cache
def accesses(call: str, path: str, other: str, is_dir: bool) -> frozenset[Access]:
    """What a call reads, changes, or makes durable."""
    names = path.rpartition("/")[0] + "/"
    if call in ("read", "open", "stat", "read_link", "fsync") or (call == "make_dir" and is_dir):
        return frozenset({("read", path), ("peek", names)})
    if call == "list":
        return frozenset({("read", path + "/"), ("peek", path + "/")})
    if call == "fsync_dir":
        return frozenset({("sync", path + "/")})
    if call in ("rename", "rename_new"):
        return frozenset(
            {("change", path), ("change", other), ("change", names), ("change", other.rpartition("/")[0] + "/")}
        )
    if call in ("link", "symlink"):
        return frozenset({("read", path), ("change", other), ("change", other.rpartition("/")[0] + "/")})
    return frozenset({("change", path), ("change", names)})


_NOTICED = {"read": {"change"}, "change": {"read", "change", "sync"}, "sync": {"change", "peek"}, "peek": set[str]()}


class Conflicts:
    """Which accesses of which processes were ever seen, and so which calls others could notice."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, set[str]]] = {}

    def learn(self, scheduler: Scheduler) -> bool:
        """True if anything new was seen."""
        new = False
        for number, found in enumerate(scheduler.accesses):
            for kind, what in found:
                kinds = self._seen.setdefault(what, {}).setdefault(number, set())
                new |= kind not in kinds
                kinds.add(kind)
        return new

    def noticed(self, number: int, ahead: frozenset[Access]) -> bool:
        """True if another process reads what this call changes, or changes what it reads, or either of them in a
        directory that it makes durable."""
        for kind, what in ahead:
            for other, kinds in self._seen.get(what, {}).items():
                if other != number and not kinds.isdisjoint(_NOTICED[kind]):
                    return True
        return False


Changes = tuple[tuple[int, int], ...]


def enumerate_schedules(
    run: Callable[[Changes], Scheduler], preemptions: int, *, free: bool = True, shuffle: int | None = None
) -> Iterator[int]:
    """Every schedule with at most so many pre-emptions, those with fewer first; yields how many were run.

    A pre-emption takes the processor from one that could go on; who goes first, and who follows one that has ended,
    is free. Before a call that no other process ever notices nobody is pre-empted: before the next call the outcome
    would be the same.

    Args:
        run: runs the schedule with these changes.
        free: False makes it cost as much as a pre-emption when another than the first in line goes first or follows.
        shuffle: a seed for the order within one number of pre-emptions.
    """
    waiting: list[list[Changes]] = [[] for _ in range(preemptions + 1)]
    waiting[0].append(())
    unnoticed: dict[tuple[int, frozenset[Access]], list[tuple[int, Changes, int, list[int]]]] = {}
    conflicts, rng, count = Conflicts(), random.Random(shuffle), 0
    while any(waiting):
        cost = next(i for i, bucket in enumerate(waiting) if bucket)
        bucket = waiting[cost]
        changes = bucket.pop(rng.randrange(len(bucket)) if shuffle is not None else -1)
        scheduler = run(changes)
        count += 1
        yield count
        if conflicts.learn(scheduler):
            for key in [key for key in unnoticed if conflicts.noticed(*key)]:
                for price, before, step, others in unnoticed.pop(key):
                    waiting[price] += [(*before, (step, other)) for other in others]
        for step in range(changes[-1][0] + 1 if changes else 0, len(scheduler.options)):
            alive, current, chosen, ahead = scheduler.options[step]
            others = [other for other in alive if other != chosen]
            if current is None and free:
                waiting[cost] += [(*changes, (step, other)) for other in others]
            elif cost < preemptions and others:
                if current is None or conflicts.noticed(current, ahead):
                    waiting[cost + 1] += [(*changes, (step, other)) for other in others]
                else:
                    unnoticed.setdefault((current, ahead), []).append((cost + 1, changes, step, others))


def describe(trace: list[tuple[str, str]], strip: str) -> str:
    """A trace for people, one call a line."""
    return "\n".join(f"  {name:>10}  {what.replace(strip, '')}" for name, what in trace)
