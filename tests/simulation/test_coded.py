"""Recipes, shared parts and difference bases under every schedule with few pre-emptions, faults and power cuts.

The people upload, copy, restore, delete, re-encode and collect; whatever the order of their calls, every committed
content decodes byte for byte from what is on the disk, or would be after a power cut at that moment (I1).
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from dreamlake.content import presence
from dreamlake.content.ingest import Coded
from dreamlake.operations import collect as collecting
from dreamlake.operations import forms, marking
from simulation.coded import CodedCampaign
from simulation.miniatures import committing, tiny
from simulation.scheduler import Enumerated

MORE = int(os.environ.get("DREAMLAKE_SIMULATION", "1"))


@pytest.fixture(autouse=True)
def miniatures():
    with tiny():
        yield


def always(owner: object) -> bool:
    """A collector that takes everybody for dead, all the time."""
    return True


CONDEMNING = "rename /lake/blobs"  # a collector that has ended its survey
PUBLISHING = "rename_new /lake/tmp"  # an uploader that has claimed and looked at everything
OF_A_DEAD_TURN = (  # a collector has seen a turned part without its recipe and claim; then these come, and one looks
    ("gc", "list /lake/blobs"),
    ("halfway", PUBLISHING),
    ("halfway", "rename /lake/tmp"),
    ("gc", CONDEMNING),
    ("halfway", "end"),
    ("turner", "rename /lake/tmp"),
)

SYSTEMATIC = {
    # what is raced for                        people       pre-emptions (by hand)  lake and options
    "a base that goes": ("next dele gc", 1, 1, {"lake": "first"}),
    "a base that goes, moves": ("next dele gc", 2, 3, {"lake": "first", "steps": "moves"}),
    "a hit on what is condemned": ("next gc", 2, 3, {"lake": "gone", "steps": "moves"}),
    "two uploads share a part": ("twin next", 2, 3, {"lake": "first", "steps": "changes"}),
    "two uploads share a part, a collection": ("twin other gc", 1, 2, {"lake": "gone", "steps": "moves"}),
    "three uploads of one part": ("twin other renamed", 1, 2, {"lake": "first", "steps": "changes"}),
    "a copy": ("copier delp gc", 1, 1, {"lake": "base gone"}),
    "a copy, moves": ("copier delp gc", 2, 3, {"lake": "base gone", "steps": "moves"}),
    "a restore": ("restorer gc", 1, 2, {"lake": "gone"}),
    "recode and drop": ("optimizer gc", 1, 2, {"lake": "whole"}),
    "recode, drop, and a base that goes": ("optimizer dele gc", 1, 2, {"lake": "whole", "steps": "moves"}),
    "recode beside an upload": ("optimizer twin gc", 1, 1, {"lake": "whole", "steps": "moves"}),
    "two optimizers": ("optimizer1 optimizer2 gc", 1, 2, {"lake": "whole", "steps": "moves"}),
    "a recode that died": (
        "lost optimizer gc",
        3,
        3,
        {"lake": "whole, base garbage", "steps": "moves", "lead": {"gc": CONDEMNING, "lost": "end"}},
    ),
    "a reader beside a drop": ("reader optimizer", 1, 2, {"lake": "whole", "steps": "changes"}),
    "a chain turned round": ("turner gc", 1, 2, {"lake": "chain"}),
    "a chain turned round, moves": ("turner gc", 2, 3, {"lake": "chain", "steps": "moves"}),
    "a chain turned round, its ends go": ("turner dele delp gc", 1, 2, {"lake": "chain", "steps": "moves"}),
    "a chain turned round by two": ("turner1 turner2 gc", 1, 2, {"lake": "chain", "steps": "moves"}),
    "a chain turned round beside an upload": ("turner twin gc", 1, 2, {"lake": "chain", "steps": "moves"}),
    "a chain turned round beside a hit": ("turner renamed gc", 1, 2, {"lake": "chain", "steps": "moves"}),
    "a chain turned round beside a copy": ("turner copier delp gc", 1, 1, {"lake": "chain", "steps": "moves"}),
    "a chain turned round again": ("turner other delp gc", 1, 2, {"lake": "turned", "steps": "moves"}),
    "a chain turned round, not collected": (
        "next dele twin gc",
        1,
        2,
        {"lake": "turned, slots taken", "steps": "moves"},
    ),
    "a reader beside a turn": ("reader turner gc", 1, 2, {"lake": "chain", "steps": "moves"}),
    "a turn that died": (
        "halfway turner gc",
        1,
        2,
        {"lake": "chain", "steps": "moves", "lead": OF_A_DEAD_TURN},
    ),
    "a part stored anew": ("rebaser gc", 2, 3, {"lake": "base gone"}),
    "a part stored anew, an upload": ("rebaser twin gc", 1, 2, {"lake": "base gone", "steps": "moves"}),
    "a reader beside a part stored anew": ("reader rebaser gc", 1, 2, {"lake": "base gone", "steps": "changes"}),
    "another base, two collections": ("twin gc1 gc2", 1, 1, {"lake": "choice", "steps": "moves"}),
    "another base beside a condemned copy": ("sideways gc1 gc2", 1, 1, {"lake": "left", "steps": "moves"}),
    "the same, one surveyed before": (
        "sideways gc1 gc2",
        1,
        2,
        {"lake": "left", "steps": "moves", "lead": {"gc1": CONDEMNING, "sideways": PUBLISHING}},
    ),
    "bases in opposite directions": ("forward backward", 2, 3, {"lake": "pair", "steps": "changes"}),
    "the same beside a collection": (
        "forward backward gc",
        2,
        2,
        {"lake": "pair", "steps": "moves", "lead": {"gc": CONDEMNING}},
    ),
    "hostile revocation of a recipe": ("renamed gc", 2, 2, {"lake": "chain", "steps": "changes", "stale": always}),
    "hostile revocation of parts": ("twin gc", 2, 2, {"lake": "first", "steps": "changes", "stale": always}),
    "hostile revocation of a recode": ("optimizer gc", 1, 2, {"lake": "whole", "stale": always}),
    "hostile revocation of a turn": ("turner gc", 1, 2, {"lake": "chain", "stale": always}),
}


@pytest.mark.parametrize("name", SYSTEMATIC)
def test_every_schedule(name):
    people, quick, deep, options = SYSTEMATIC[name]
    done = CodedCampaign(*people.split(), **options).systematic(deep if MORE > 9 else quick)
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 10


EVERYBODY = "next twin other renamed copier restorer dele delp optimizer turner rebaser gc1 gc2 reader"


@pytest.mark.parametrize("lake", ["chain", "whole", "gone", "left", "turned, slots taken"])
def test_random_schedules_of_everybody_with_kills(lake):
    """Fourteen people, two of them collectors who often take the living for dead; up to two of them are killed."""
    rng = random.Random(7)
    done = CodedCampaign(*EVERYBODY.split(), lake=lake, stale=lambda owner: rng.random() < 0.1).random(
        range(40 * MORE), steps=800
    )
    print(done)
    assert done.error is None, str(done)


OPERATIONS = {
    "next": "first",
    "twin": "choice",
    "renamed": "chain",
    "copier": "chain",
    "restorer": "gone",
    "optimizer": "whole",
    "turner": "chain",
    "rebaser": "base gone",
    "gc": "gone",
}
KINDS = {
    "killed": ("kill", 0),
    "no space": ("error", errno.ENOSPC),
    "input/output error": ("error", errno.EIO),
    "lost reply": ("lost", errno.EIO),
    "disk full from then on": ("full", errno.ENOSPC),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("person", OPERATIONS)
def test_a_fault_at_every_call(person, kind):
    done = CodedCampaign(person, lake=OPERATIONS[person]).faults(*KINDS[kind])
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 10


@pytest.mark.parametrize("person", OPERATIONS)
def test_the_power_goes_off_after_every_call(person):
    """All directories fall back independently, claims that were not synced are torn; then the lake is opened again."""
    done = CodedCampaign(person, lake=OPERATIONS[person]).power_cuts()
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 5 or person == "rebaser"


# ---- rules that are switched off ------------------------------------------------------------------------------------


def parts_are_not_looked_at(patch):
    """A hit on a recipe is taken for one on its parts."""
    patch(presence, "rely_on_parts", lambda blobs, parts, resurrect=True: {part: [part[0]] for part in parts})
    patch(committing, "rely_on_part", lambda blobs, key, size, resurrect=True: [key])


def bases_are_not_looked_at(patch):
    """A hit on a part is taken for one on its base."""
    patch(presence, "parts_needs", lambda blobs, keys: [[] for _ in keys])


def claims_do_not_name_bases(patch):
    gone, keys = committing._relies_on_gone, Coded.keys
    patch(Coded, "keys", lambda coded: list(dict.fromkeys(key for key in keys(coded) if key not in _bases_of(coded))))
    patch(committing, "_relies_on_gone", lambda store, coded: gone(store, Named(coded, keys(coded))))


def own_recipe_is_trusted(patch):
    """A recipe that an earlier try has published is not looked at again."""
    gone = committing._relies_on_gone
    patch(committing, "_relies_on_gone", lambda store, coded: gone(store, Named(coded, coded.keys(), own="published")))


def dropped_before_the_look(patch):
    """A whole copy goes without a look at the coded form after it was hidden."""
    look, seen = committing.rely_on_recipe, {}

    def once(blobs, digest, size, *, resurrect=True, places=None):
        if not resurrect:
            seen[digest] = look(blobs, digest, size, resurrect=False, places=places)
        return seen[digest]

    patch(committing, "rely_on_recipe", once)


class Named:
    """A coded content that claims other keys, or whose recipe is still in hand."""

    def __init__(self, coded, keys, own=None):
        self.parts, self._keys = coded.parts, keys
        self.recipe = replace(coded.recipe, staged=own or coded.recipe.staged)

    def keys(self):
        return self._keys


def _bases_of(coded):
    return {need for form in coded.parts if form.staged is not None for need in form.needs}


def switch_off(home, name):
    return lambda patch: patch(home, name, False)


class Mutation(NamedTuple):
    break_it: Any
    people: str
    preemptions: int
    budget: int
    options: dict[str, Any]
    breaks: str = "I1"


MOVES, CHANGES = {"steps": "moves"}, {"steps": "changes"}
MUTATIONS = {
    "parts are not looked at": Mutation(
        parts_are_not_looked_at, "copier delp gc", 2, 1000, {"lake": "chain", **CHANGES}
    ),
    "bases are not looked at": Mutation(
        bases_are_not_looked_at, "copier delp gc", 2, 1000, {"lake": "base gone", **CHANGES}
    ),
    "claims do not name bases": Mutation(
        claims_do_not_name_bases, "next dele gc", 2, 500, {"lake": "first", **CHANGES}
    ),
    "an own recipe is trusted": Mutation(
        own_recipe_is_trusted, "renamed gc", 2, 100, {"lake": "chain", "stale": always, **MOVES}
    ),
    "a whole copy is dropped before the look": Mutation(
        dropped_before_the_look,
        "lost optimizer gc",
        3,
        300,
        {"lake": "whole, base garbage", "lead": {"gc": CONDEMNING, "lost": "end"}, **MOVES},
    ),
    "an old recipe is dropped before the look": Mutation(
        dropped_before_the_look,
        "halfway turner gc",
        3,
        500,
        {"lake": "chain", "lead": OF_A_DEAD_TURN, **MOVES},
    ),
    "a difference replaces a copy": Mutation(
        switch_off(committing, "REPLACE_WHOLE_FORMS_ONLY"), "forward backward", 2, 10, {"lake": "pair", **CHANGES}
    ),
    "any live copy does for a condemned one": Mutation(
        switch_off(forms, "KEEP_UNTIL_SERVED"),
        "forward backward gc",
        2,
        1000,
        {"lake": "pair", "lead": {"gc": CONDEMNING, "backward": PUBLISHING}, **MOVES},
    ),
    "a collector follows one copy": Mutation(
        switch_off(marking, "FOLLOW_EVERY_COPY"),
        "sideways gc1 gc2",
        2,
        1500,
        {
            "lake": "left",
            "lead": {"gc1": CONDEMNING, "sideways": PUBLISHING},
            "stale": always,
            "power": False,
            **MOVES,
        },
    ),
    "no barrier for forms": Mutation(
        switch_off(collecting, "FORM_BARRIER"),
        "rebaser gc",
        2,
        100,
        {"lake": "base gone", **CHANGES},
        "I1 after a power cut",
    ),
    "no claim before the look": Mutation(
        switch_off(committing, "CLAIM_FIRST"), "copier delp gc", 2, 1000, {"lake": "chain", **CHANGES}
    ),
    "a collector does not look again": Mutation(
        switch_off(collecting, "RECHECK_AFTER_CONDEMN"), "next gc", 2, 500, {"lake": "gone", **MOVES}
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_rule_that_is_switched_off_is_noticed(monkeypatch, name):
    mutation = MUTATIONS[name]
    campaign = CodedCampaign(*mutation.people.split(), **mutation.options)
    campaign.world()  # the lake before the race is laid out by the rules
    mutation.break_it(monkeypatch.setattr)
    done = campaign.systematic(mutation.preemptions, budget=mutation.budget, shuffle=1)
    print(f"{name}: {done.runs} runs, {done.seconds:.1f} s: {done.error}")
    assert done.error is not None, f"{name}: not noticed in {done.runs} runs"
    assert done.error.startswith(mutation.breaks), str(done)


# ---- what it found --------------------------------------------------------------------------------------------------


def test_scratch_that_is_taken_while_a_file_is_coded():
    """The upload stages it again. ("hostile revocation of a recode" is the same for an optimization.)"""
    world = CodedCampaign("twin", "gc", lake="first", stale=always, steps="changes").world()
    assert world.run(Enumerated(((5, 1),))) is None
    swept = [what for name, what in world.scheduler.trace if name == "gc" and what.startswith("unlink /lake/tmp")]
    assert swept, "this schedule takes no scratch any more: record another"


def test_a_whole_copy_that_is_dropped_while_it_is_opened():
    """Whoever reads it goes on with the recipe."""
    done = CodedCampaign("optimizer1", "optimizer2", lake="whole", steps="changes").systematic(1)
    assert done.error is None, str(done)
