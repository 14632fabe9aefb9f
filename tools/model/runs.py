"""The explorations: configurations in which the protocol must hold, and mutations that must be noticed.

Contents are X and Y, their recipes rX and rY, parts P, A, B, C; ``P:B`` is P as a difference to B. Those with second
slots are in ``turned``. A collector with ``surveyed`` keys has ended its survey before anything was referenced, and
is about to condemn them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tools.model.collectors import Collector
from tools.model.optimizers import Dropper, Rebaser, Recoder
from tools.model.parts_model import Actor, Lake
from tools.model.state import Rules
from tools.model.turned import (
    DROP,
    back,
    both_ways,
    either_slot,
    lean,
    leaner,
    one_turner,
    turn,
    turn_one,
    turned_under,
)
from tools.model.uploads import Uploader

ONE = "X rX:P P P:B B"
TWO = "X rX:P P P:B P:C B C Y rY:P"
CIRCLE = "X rX:A A A:B B B:A Y rY:B"
EITHER_SLOT = "recipes over parts of either slot, one name"


class Run(NamedTuple):
    """``breaks``: the invariant that must be reported; None when everything must hold."""

    name: str
    make: Callable[[], Lake]
    breaks: str | None = None


def one(*, rules: Rules | None = None, surveyed: str = "", **options: Any) -> Lake:
    """One upload of X, coded against B, and one collection."""
    options = {"forms": ONE, "live": "P:B B", "coarse": True, **options}
    return Lake(actors=[Uploader("uploader", "X", "P:B rX:P"), Collector(1, surveyed)], rules=rules, **options)


def restore(*, rules: Rules | None = None, **options: Any) -> Lake:
    """A copy or restore of X, without bytes, and one collection that has surveyed before."""
    options = {"coarse": True, "refs": "X", **options}
    actors: list[Actor] = [Uploader("restorer", "X", bytes_in_hand=False), Collector(1)]
    return Lake(ONE, "rX:P P:B B", actors, rules=rules, **options)


def both(*, rules: Rules | None = None, **options: Any) -> Lake:
    """X and Y share P; one uploader codes it against B, the other against C."""
    actors: list[Actor] = [
        Uploader("first", "X", "P:B rX:P"),
        Uploader("second", "Y", "P:C rY:P"),
        Collector(1, "P B C"),
    ]
    return Lake(TWO, "P:B B C", actors, rules=rules, coarse=True, **options)


def opposite(*, rules: Rules | None = None, collectors: int = 1, **options: Any) -> Lake:
    """Two versions that two uploaders store in opposite orders."""
    uploaders: list[Actor] = [Uploader("first", "X", "A:B rX:A"), Uploader("second", "Y", "B:A rY:B")]
    others: list[Actor] = [Collector(1, "A B"), Collector(2)]
    return Lake(CIRCLE, "A B", [*uploaders, *others[:collectors]], rules=rules, coarse=True, **options)


def again(*, rules: Rules | None = None, **options: Any) -> Lake:
    """Y is uploaded against C while two collections have P, as a difference to B, before them."""
    actors: list[Actor] = [Uploader("uploader", "Y", "P:C rY:P"), Collector(1), Collector(2)]
    return Lake(TWO, "P:B B C", actors, rules=rules, coarse=True, **options)


def leftover(*, rules: Rules | None = None) -> Lake:
    """X relies on a copy that a dead collection left condemned; an uploader, who may die, takes its name."""
    actors: list[Actor] = [Uploader("uploader", "Y", "P:C rY:P"), Collector(1), Collector(2)]
    return Lake(TWO, "rX:P B C", actors, condemned="P:B", refs="X", delete=False, mortal=True, rules=rules, coarse=True)


def optimize(*, rules: Rules | None = None, **options: Any) -> Lake:
    """X is recoded and its whole copy dropped, beside a collection whose survey is older than the recipe."""
    actors: list[Actor] = [Recoder("recoder", "X", "P:B rX:P"), Dropper("dropper", "X", DROP), Collector(1, "P B")]
    return Lake(ONE, "X P:B B", actors, refs="X", rules=rules, coarse=True, **options)


def rebase(*, rules: Rules | None = None, **options: Any) -> Lake:
    """P is stored anew without B while it is uploaded again, beside a collection."""
    actors: list[Actor] = [Rebaser("rebaser", "P"), Uploader("uploader", "Y", "P:B rY:P"), Collector(1)]
    return Lake("X rX:P P P:B B Y rY:P", "rX:P P:B B", actors, refs="X", rules=rules, coarse=True, **options)


def rebase_alone(*, rules: Rules | None = None, **options: Any) -> Lake:
    actors: list[Actor] = [Rebaser("rebaser", "P"), Collector(1)]
    return Lake(ONE, "rX:P P:B B", actors, refs="X", rules=rules, coarse=True, delete=False, **options)


def rebase_into_circle(*, rules: Rules | None = None) -> Lake:
    """A needs nothing and B is a difference to it; A is rewritten."""
    return Lake(CIRCLE, "rX:A A B:A rY:B", [Rebaser("rebaser", "A", "A:B")], refs="X Y", rules=rules)


def trusting(*, rules: Rules | None = None) -> Lake:
    """Two uploads of the same content, no collection."""
    actors: list[Actor] = [Uploader("first", "X", "P rX:P"), Uploader("second", "X", bytes_in_hand=False)]
    return Lake("X rX:P P", "", actors, rules=rules)


def durable(*, rules: Rules | None = None) -> Lake:
    """Two uploads of one content; the power may go off."""
    actors: list[Actor] = [Uploader("first", "X", "P rX:P"), Uploader("second", "X", "P rX:P")]
    return Lake("X rX:P P", "", actors, rules=rules, power=True, coarse=True, revoke=False)


def two_cuts() -> Lake:
    """Recipes of one content over different parts, as two versions of the splitter would make them."""
    actors: list[Actor] = [Uploader("first", "X", "P rX:P"), Uploader("second", "X", "Q rX:Q"), Collector(1, "P Q")]
    return Lake("X rX:P rX:Q P Q", "P Q", actors, coarse=True)


def others_need(**options: Any) -> Lake:
    """X is turned while Y needs its part, so that the turned one may be a difference to it."""
    return turn_one(Collector(1), live="rX:A A rY:A", refs="X Y", **options)


def without(*names: str) -> Rules:
    return Rules(**dict.fromkeys(names, False))


HOLDS = [
    Run("an upload, a collection, every call; I7", lambda: one(coarse=False, clean=True)),
    Run("the same, surveyed before", lambda: one(coarse=False, surveyed="P B", clean=True)),
    Run("a restore, a collection, every call; I7", lambda: restore(coarse=False, clean=True)),
    Run("two uploads in opposite orders", lambda: opposite(collectors=0)),
    Run("the same beside a collection", lambda: opposite(mortal=True)),
    Run("the same, and any revocation", opposite),
    Run("two uploads share a part, a collection", lambda: both(mortal=True)),
    Run("a copy left condemned, an upload, two collections", leftover),
    Run("recode and drop beside a collection; I7", lambda: optimize(clean=True)),
    Run("rebase, an upload, a collection; I7", lambda: rebase(clean=True)),
    Run("two uploads of one content", trusting),
    Run("recipe before its parts, but all looked at", lambda: trusting(rules=without("parts_before_recipe"))),
    Run("a chain is turned round; I7", lambda: turn(clean=True)),
    Run("a chain is turned round, a collection", lambda: turn(Collector(1))),
    Run(
        "turned and uploaded again, a collection",
        lambda: turn_one(Uploader("uploader", "X", "A rX:A"), Collector(1), plans="a tX:a"),
    ),
    Run(
        "two turners of one content, a collection",
        lambda: turn_one(*one_turner("second", "X", "a tX:a", "rX", DROP + 1), Collector(1), plans="a tX:a"),
    ),
    Run("an upload leans on the twin, a collection; I7", lambda: lean(surveyed="", coarse=False, clean=True)),
    Run("the same, two collections, any revocation", lambda: lean(Collector(2))),
    Run("two uploads lean, a collection", lambda: lean(leaner("second"), surveyed="A a", mortal=True)),
    Run("an upload leans, its twin is turned, bases end", lambda: turned_under(leaner(), depth=1)),
    Run("a turned part leans on one that stays; I7", lambda: others_need(mortal=False, clean=True)),
    Run("two drop each other's recipe, a collection", both_ways),
    Run("power: an upload, a collection", lambda: one(power=True)),
    Run("power: two uploads of one content", durable),
    Run("power: rebase, a collection", lambda: rebase_alone(power=True)),
    Run("power: an upload leans, a collection", lambda: lean(power=True)),
    Run("power: a turned part leans", lambda: others_need(power=True, revoke=False)),
    Run("power: recode and drop, a collection", lambda: optimize(power=True, revoke=False)),
]

MUTATIONS = [
    Run("a hit on a recipe is one on its parts", lambda: restore(rules=without("look_at_parts")), "I1"),
    Run("a hit on a part is one on its base", lambda: restore(rules=without("look_at_bases")), "I1"),
    Run("claims name the content only", lambda: one(surveyed="P B", rules=without("flat_claims", "follow_new")), "I1"),
    Run("claims do not name bases", lambda: one(live="B", surveyed="B", rules=without("name_bases")), "I1"),
    Run("a difference replaces a copy", lambda: opposite(collectors=0, rules=without("whole_replaces_only")), "I1"),
    Run(
        "recipe before parts, and trusted",
        lambda: trusting(rules=without("parts_before_recipe", "look_at_parts")),
        "I1",
    ),
    Run("a recipe of an earlier try is not looked at", lambda: one(rules=without("look_at_own_recipe")), "I1"),
    Run("a whole copy is dropped without a look", lambda: optimize(rules=without("look_before_drop")), "I1"),
    Run("a whole copy is dropped without a claim", lambda: optimize(rules=without("claim_before_drop")), "I1"),
    Run("a part is rewritten into a difference", lambda: rebase_into_circle(rules=without("rebase_to_whole")), "I1"),
    Run(
        "no barrier for forms", lambda: rebase_alone(power=True, rules=without("form_barrier")), "I1 after a power cut"
    ),
    Run("acknowledged before it is durable", lambda: durable(rules=without("log_barrier")), "I4 after a power cut"),
    Run("what others left condemned stays", lambda: one(clean=True, rules=without("adopt")), "I7"),
    Run("no barrier for hits", lambda: durable(rules=without("hit_barrier")), "I1 after a power cut"),
    Run("any live copy does for a condemned one", lambda: opposite(revoke=False, rules=without("keep_better")), "I1"),
    Run("a reader tries one copy only", lambda: opposite(revoke=False, rules=without("read_every_copy")), "I1"),
    Run("a collector follows one copy only", lambda: leftover(rules=without("follow_every_copy")), "I1"),
    Run("recipes of two splitters under one name", two_cuts, "I1"),
    Run("a recipe is dropped without a look", lambda: both_ways(rules=without("look_before_drop")), "I1"),
    Run(
        "a collector follows one recipe only",
        lambda: turn(Collector(1), rules=without("follow_both_recipes")),
        "no form",
    ),
    Run("no look at the twin that is leaned on", lambda: lean(rules=without("look_at_bases")), "I1"),
    Run("parts lean on each other", lambda: turn_one(*back(), rules=without("whole_replaces_only")), "I1"),
    Run(EITHER_SLOT, lambda: either_slot(collectors=1, strict=True), "no form"),
]

BIG = [
    Run(f"{EITHER_SLOT}: lost", either_slot, "I1"),
    Run("two uploads lean, any revocation", lambda: lean(leaner("second"), surveyed="A a")),
    Run("two uploads lean, two collections, deaths", lambda: lean(leaner("second"), Collector(2), mortal=True)),
    Run("turned and uploaded again, leaning, a collection", lambda: turn_one(leaner(), Collector(1))),
    Run("turned there and back, a collection", lambda: turn_one(*back(), Collector(1))),
    Run("a turner and two collections", lambda: turn_one(Collector(1), Collector(2))),
    Run("an upload leans, its twin is turned", lambda: turned_under(leaner())),
    Run(
        "a restore leans, its twin is turned",
        lambda: turned_under(Uploader("restorer", "X", bytes_in_hand=False), live="rX:A A:a tY:a a:b b"),
    ),
    Run("two uploads share a part, any revocation", both),
    Run("an upload, two collections, deaths", lambda: again(mortal=True)),
    Run("the same, and any revocation", again),
    Run("the same, and no revocation", lambda: again(revoke=False)),
    Run("opposite orders, two collections, deaths", lambda: opposite(collectors=2, mortal=True)),
]
