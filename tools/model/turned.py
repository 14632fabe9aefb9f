"""Configurations with two slots: chains that are turned round, and parts that are differences to their own twins.

tX, a, b are rX, A and B in their second slots. A recipe names parts of its own slot; what those need may lie in either.
"""

from __future__ import annotations

from typing import Any

from tools.model.collectors import Collector
from tools.model.optimizers import Dropper, Turner
from tools.model.parts_model import Actor, Lake
from tools.model.state import Rules
from tools.model.uploads import Uploader

DROP = 80  # the batch of a dropper
CHAIN = "X rX:A tX:a A a a:b Y rY:B tY:b B B:A b"
PAIR = "X rX:A tX:a A A:a a a:A Y rY:A tY:a"  # a content in both slots, and another over the same part
DEEP = "X rX:A A A:a a a:b b Y tY:a rY:A"
EITHER = "X rX:A rX:a A a"
FIRST = "A rX:A / A:a rX:A"  # how X is stored in the first slots: its part alone, or as a difference to the twin
SECOND = "a tX:a / a:A tX:a"


def turner() -> list[Actor]:
    """Turns A <- B:A round, into b <- a:b: the newer version first, each under two records."""
    newer = Turner("turner of Y", "Y", "b tY:b")
    drop = Dropper("turner drops rY", "Y", DROP, "rY", newer)
    older = Turner("turner of X", "X", "a:b tX:a", drop)
    return [newer, drop, older, Dropper("turner drops rX", "X", DROP + 1, "rX", older)]


def turn(*others: Actor, rules: Rules | None = None, **options: Any) -> Lake:
    """Two versions are turned round beside others."""
    options = {"refs": "X Y", "mortal": True, "coarse": True, "strict": True, **options}
    return Lake(CHAIN, "rX:A A rY:B B:A", [*turner(), *others], rules=rules, **options)


def turn_one(*others: Actor, plans: str = SECOND, rules: Rules | None = None, **options: Any) -> Lake:
    """A content is turned beside others."""
    options = {"live": "rX:A A", "refs": "X", "mortal": True, "coarse": True, "strict": True, **options}
    return Lake(PAIR, actors=[*one_turner("turner", "X", plans, "rX"), *others], rules=rules, **options)


def one_turner(name: str, content: str, plans: str, old: str, batch: int = DROP) -> list[Actor]:
    recode = Turner(name, content, plans)
    return [recode, Dropper(f"{name} drops {old}", content, batch, old, recode)]


def back() -> list[Actor]:
    """Turns X into the other direction."""
    return one_turner("back", "X", FIRST, "tX", DROP + 1)


def both_ways(*, rules: Rules | None = None, **options: Any) -> Lake:
    """Two drop each other's recipe of one content, beside a collection."""
    droppers: list[Actor] = [Dropper("first", "X", DROP, "rX"), Dropper("second", "X", DROP + 1, "tX")]
    options = {"refs": "X", "coarse": True, "strict": True, **options}
    return Lake(PAIR, "rX:A tX:a A a", [*droppers, Collector(1)], rules=rules, **options)


def lean(*others: Actor, surveyed: str = "a", rules: Rules | None = None, **options: Any) -> Lake:
    """X is uploaded while only the twin of its part is stored, beside a collection.

    Args:
        surveyed: empty when the collection begins later; then Y refers to the twin.
    """
    begin = {"live": "a"} if surveyed else {"live": "tY:a a", "refs": "Y"}
    options = {"coarse": True, "strict": True, **begin, **options}
    return Lake(PAIR, actors=[leaner(), *others, Collector(1, surveyed)], rules=rules, **options)


def leaner(name: str = "uploader") -> Actor:
    return Uploader(name, "X", FIRST)


def turned_under(*others: Actor, rules: Rules | None = None, **options: Any) -> Lake:
    """X is uploaded against the twin of its part, while Y, to which that one belongs, is turned back and dropped."""
    options = {"live": "tY:a a:b b", "refs": "Y", "mortal": True, "coarse": True, "strict": True, **options}
    turning = one_turner("turner", "Y", "A rY:A / A:a rY:A", "tY")
    return Lake(DEEP, actors=[*turning, *others, Collector(1)], rules=rules, **options)


def either_slot(*, collectors: int = 2, **options: Any) -> Lake:
    """Two uploads of one content that name its part in different slots: two recipes under one name."""
    actors: list[Actor] = [Uploader("first", "X", "rX:A"), Uploader("second", "X", "rX:a"), Collector(1, "a")]
    others: list[Actor] = [Collector(2)]
    return Lake(EITHER, "A a", [*actors, *others[: collectors - 1]], mortal=True, coarse=True, **options)
