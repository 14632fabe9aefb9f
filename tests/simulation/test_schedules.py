"""Every schedule of a few people with a bounded number of pre-emptions, and random ones of many with kills.

Whatever the order of their system calls, no invariant breaks: neither on the disk as it is, nor on any disk that a
power cut at that moment could leave. Bounds are chosen so that this folder takes at most four minutes on one core;
``DREAMLAKE_SIMULATION=100`` makes a hundred times as many random runs (by hand, at night).
"""

from __future__ import annotations

import os
import random

import pytest

from simulation.campaign import Campaign

MORE = int(os.environ.get("DREAMLAKE_SIMULATION", "1"))


def always(owner: object) -> bool:
    """A collector that takes everybody for dead, all the time."""
    return True


SYSTEMATIC = {
    # what is raced for                        people                             pre-emptions  lake and options
    "hit against collection": ("up dele gc", 2, {}),
    "hit against collection, every call": ("up gc", 2, {"lake": "dead"}),
    "hit against collection, deeper": ("up gc", 3, {"lake": "dead", "steps": "changes"}),
    "hit on garbage, two collectors": ("again gc1 gc2", 2, {"lake": "garbage", "steps": "changes"}),
    "new content twice": ("fresh1 fresh2 gc", 1, {}),
    "new content twice, changes": ("fresh1 fresh2 gc", 2, {"steps": "changes"}),
    "restore against collection": ("restorer gc", 2, {"lake": "gone"}),
    "restore against collection, deeper": ("restorer gc", 3, {"lake": "gone", "steps": "changes"}),
    "restore, two collectors": ("restorer gc1 gc2", 1, {"lake": "gone"}),
    "copy against deletion": ("copier dele gc", 1, {}),
    "copy against deletion, changes": ("copier dele gc", 2, {"steps": "changes"}),
    "deletion, two collectors": ("dele gc1 gc2", 2, {"steps": "changes"}),
    "rename against deletion": ("mover dele", 3, {}),
    "rename, copy and deletion": ("mover copier dele", 1, {}),
    "rename against collection": ("mover gc", 2, {}),
    "next number, new directory": ("up1 up2", 3, {}),
    "next number, three writers": ("up1 fresh copier", 1, {}),
    "next number, checkpoints": ("up1 up2", 2, {"checkpoint_every": 15}),
    "checkpoints and collection": ("up dele gc", 1, {"checkpoint_every": 15}),
    "heal": ("again gc", 3, {"lake": "damaged", "steps": "changes"}),
    "heal twice": ("again1 again2 gc", 1, {"lake": "damaged"}),
    "hostile revocation": ("up gc", 2, {"lake": "dead", "stale": always}),
    "hostile revocation of new content": ("fresh gc", 2, {"stale": always}),
    "read meanwhile": ("reader dele gc", 1, {}),
    "four at once": ("up copier dele gc", 1, {"steps": "changes"}),
}


@pytest.mark.parametrize("name", SYSTEMATIC)
def test_every_schedule(name):
    people, preemptions, options = SYSTEMATIC[name]
    done = Campaign(*people.split(), **options).systematic(preemptions)
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 10


@pytest.mark.parametrize("people", ["up1 up2 restorer dele gc1 gc2", "gc1 dele up1 gc2 restorer up2"])
def test_two_uploaders_a_deleter_a_restorer_and_two_collectors(people):
    """Six processes: all schedules with one change from this order (by hand: two)."""
    done = Campaign(*people.split(), lake="gone", steps="changes").systematic(2 if MORE > 9 else 1, free=False)
    print(done)
    assert done.error is None, str(done)


EVERYBODY = "up1 up2 fresh copier mover restorer dele gc1 gc2 reader"


@pytest.mark.parametrize("checkpoint_every", [10**9, 15])
def test_random_schedules_of_everybody_with_kills(checkpoint_every):
    """Ten people, two of them collectors who often take the living for dead; up to two of them are killed."""
    rng = random.Random(7)
    done = Campaign(
        *EVERYBODY.split(), lake="gone", checkpoint_every=checkpoint_every, stale=lambda owner: rng.random() < 0.1
    ).random(range(300 * MORE), steps=300)
    print(done)
    assert done.error is None, str(done)


DAMAGED = "again1 again2 again3 gc1 gc2 reader"


def test_random_schedules_around_a_damaged_copy():
    rng = random.Random(7)
    done = Campaign(*DAMAGED.split(), lake="damaged", stale=lambda owner: rng.random() < 0.1).random(
        range(300 * MORE), steps=150
    )
    print(done)
    assert done.error is None, str(done)
