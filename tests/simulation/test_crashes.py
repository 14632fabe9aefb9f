"""Whatever goes wrong at whatever call of whatever operation: nothing acknowledged is lost, and everything goes on.

After each fault another process comes, with the dead one's claims and scratch still there: it reads everything,
collects, finds exactly what is needed, and uploads. Who survived the fault tries again in the same process, memory of
the failed attempt and all.
"""

from __future__ import annotations

import errno

import pytest

from simulation.campaign import Campaign
from simulation.scheduler import Enumerated, Fault
from simulation.world import GONE, T, digest

OPERATIONS = {
    "up": {},
    "fresh": {},
    "again": {"lake": "damaged"},
    "dele": {},
    "copier": {},
    "mover": {},
    "restorer": {"lake": "gone"},
    "gc": {"lake": "gone"},
    "reader": {"lake": "gone"},
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
    done = Campaign(person, **OPERATIONS[person]).faults(*KINDS[kind])
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("person", ["up", "fresh", "dele"])
def test_a_fault_at_every_call_with_checkpoints(person, kind):
    done = Campaign(person, checkpoint_every=15).faults(*KINDS[kind])
    print(done)
    assert done.error is None, str(done)


@pytest.mark.parametrize("person", OPERATIONS)
def test_the_power_goes_off_after_every_call(person):
    """All directories fall back independently, claims that were not synced are torn; then the lake is opened again."""
    done = Campaign(person, **OPERATIONS[person]).power_cuts()
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 5 or person == "reader"


@pytest.mark.parametrize("person", ["up", "fresh"])
def test_the_power_goes_off_with_checkpoints(person):
    done = Campaign(person, checkpoint_every=15).power_cuts()
    print(done)
    assert done.error is None, str(done)


def test_a_collector_needs_no_space():
    """On a full disk garbage can still be collected: hiding and removing are renames in place and unlinks."""
    world = Campaign("gc", lake="garbage").world(faults={"gc": Fault("full", 1)})
    assert digest(GONE) in world.judge.stored()
    assert world.run(Enumerated(())) is None
    assert world.scheduler.processes[0].fault.kind == "full"  # the first attempt succeeded


def test_a_lost_reply_to_the_commit_is_no_second_record():
    """The link happened, its reply was an error: the operation notices, and is not repeated."""
    for call in range(1, 40):
        world = Campaign("up").world(faults={"up": Fault("lost", call, errno.EIO)})
        world.scheduler.run(Enumerated(()), world.judge.check)
        faulty = [what for _, what in world.scheduler.trace][call - 1 : call]
        if faulty and faulty[0].startswith("link"):
            assert world.scheduler.processes[0].error is None
            assert [path for path in world.judge.tree(T.sid) if path.startswith("/new")] == ["/new0"]
            links = [what for _, what in world.scheduler.trace if what.startswith("link")]
            assert len(links) == 1
            break
        world.scheduler.close()
    else:
        pytest.fail("no link was made")
