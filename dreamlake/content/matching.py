"""Which part of an earlier version a new part is best coded against."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import Protocol

__all__ = ["Described", "match"]


class Described(Protocol):
    """What is known of a part without its content: ``PlannedPart`` and ``PartRef`` both are."""

    @property
    def size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def label(self) -> str: ...


def match(new: Sequence[Described], old: Sequence[Described]) -> list[int | None]:
    """For each new part the number of its earlier version in ``old``, or None.

    First by label (the same tensors), then among the rest by element width and size (renamed tensors), equal ones in
    order; then a part of no known counterpart takes the one behind its neighbour's (a tensor that grew, bytes edited).
    """
    found: list[int | None] = [None] * len(new)
    for feature in (_label, _shape):
        taken = set(found)
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for number, part in enumerate(old):
            if number not in taken:
                waiting[feature(part)].append(number)
        for number, part in enumerate(new):
            if found[number] is None and waiting[feature(part)]:
                found[number] = waiting[feature(part)].popleft()
    taken = set(found)
    for number, part in enumerate(new):
        neighbour = found[number - 1] if number else -1
        behind = len(old) if found[number] is not None or neighbour is None else neighbour + 1
        if behind < len(old) and behind not in taken and old[behind].width == part.width:
            found[number] = behind
            taken.add(behind)
    return found


def _label(part: Described) -> Hashable:
    return part.label, part.width


def _shape(part: Described) -> Hashable:
    return part.width, part.size
