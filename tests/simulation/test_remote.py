"""Remote lakes under every schedule with few pre-emptions: the catalog in a database, the blobs in an object store.

The people and what they race for are those of a folder; the oracles look into the database and the bucket. Calls are
killed, lose their replies, and arrive late, perhaps after their sender has died and others have cleaned up behind it.
"""

from __future__ import annotations

import itertools

import pytest

from dreamlake.blobs.objects import ObjectBlobs
from dreamlake.blobs.publishing import Publisher
from dreamlake.blobs.sweeping import Sweep
from dreamlake.catalog.documents import DocumentCatalog
from simulation.miniatures import tiny
from simulation.remote import RemoteCampaign, RemoteCodedCampaign, small
from simulation.scheduler import Enumerated, Fault
from simulation.world import collecting, switched


@pytest.fixture(autouse=True)
def miniatures():
    with tiny(), small():
        yield


def always(owner: object) -> bool:
    """A collector that takes everybody for dead, all the time."""
    return True


SYSTEMATIC = {
    # what is raced for                        people           pre-emptions  options
    "hit against collection": (RemoteCampaign, "up gc", 2, {"lake": "dead"}),
    "hit against collection, every document": (RemoteCampaign, "up gc", 1, {"lake": "dead", "fine": True}),
    "hit, deletion and collection": (RemoteCampaign, "up dele gc", 1, {}),
    "new content twice": (RemoteCampaign, "fresh1 fresh2", 2, {}),
    "new content twice, a collection": (RemoteCampaign, "fresh1 fresh2 gc", 1, {}),
    "hit on garbage, two collectors": (RemoteCampaign, "again gc1 gc2", 1, {"lake": "garbage"}),
    "restore against collection": (RemoteCampaign, "restorer gc", 2, {"lake": "gone"}),
    "copy against deletion": (RemoteCampaign, "copier dele gc", 1, {}),
    "rename against deletion": (RemoteCampaign, "mover dele", 3, {}),
    "next number": (RemoteCampaign, "up1 up2", 3, {}),
    "read meanwhile": (RemoteCampaign, "reader dele gc", 1, {}),
    "hostile revocation": (RemoteCampaign, "up gc", 2, {"lake": "dead", "stale": always}),
    "hostile revocation of new content": (RemoteCampaign, "fresh gc", 2, {"stale": always}),
    "a base that goes": (RemoteCodedCampaign, "next dele gc", 1, {"lake": "first"}),
    "a copy of parts": (RemoteCodedCampaign, "copier delp gc", 1, {"lake": "base gone"}),
    "recode and drop": (RemoteCodedCampaign, "optimizer gc", 1, {"lake": "whole"}),
    "a chain turned round": (RemoteCodedCampaign, "turner gc", 1, {"lake": "chain"}),
}


@pytest.mark.parametrize("name", SYSTEMATIC)
def test_every_schedule(name):
    campaign, people, preemptions, options = SYSTEMATIC[name]
    done = campaign(*people.split(), **options).systematic(preemptions)
    print(done)
    assert done.error is None, str(done)
    assert done.runs > 10


@pytest.mark.parametrize("kind", ["kill", "late kill", "late", "lost"])
@pytest.mark.parametrize(
    ("people", "lake"), [("up gc", "dead"), ("fresh gc", "plain"), ("again gc", "garbage"), ("dele gc", "plain")]
)
def test_a_fault_at_every_call_beside_a_collection(people, lake, kind):
    """For each call of the first person: every schedule with one pre-emption, of what arrives late, too."""
    first, runs = people.split()[0], 0
    for call in itertools.count(1):
        campaign = RemoteCampaign(*people.split(), lake=lake, faults={first: Fault(kind, call)})
        done = campaign.systematic(1)
        assert done.error is None, str(done)
        runs += done.runs
        world = campaign.world()
        assert world.run(Enumerated(())) is None
        if world.scheduler.processes[0].calls < call:
            break
    print(f"{people}, {kind}: {runs} runs")
    assert call > 3  # a deletion makes three calls


MUTATIONS = [
    # home, switch, people, options, budget in runs, what is reported
    (collecting, "RECHECK_AFTER_CONDEMN", "up gc", {"lake": "dead"}, 100, "I1"),
    (DocumentCatalog, "FENCED_COMMIT", "up gc", {"lake": "dead", "stale": always}, 200, "I5"),
    (ObjectBlobs, "CHANGE_BEFORE_DELETE", "up gc", {"lake": "dead"}, 50, "I2"),
    (ObjectBlobs, "BATCH_IN_CHANGE", "again gc1 gc2", {"lake": "garbage"}, 1500, "I1"),
    (Publisher, "DOCUMENT_FIRST", "fresh gc", {}, 300, "I2"),
    (Publisher, "FENCED", "fresh gc", {"stale": always}, 100, "I2"),
    (Sweep, "BUCKET_FIRST", "fresh gc", {}, 150, "I2"),
]


@pytest.mark.parametrize(("home", "switch", "people", "options", "budget", "breaks"), MUTATIONS)
def test_a_rule_that_is_switched_off_is_noticed(home, switch, people, options, budget, breaks):
    assert getattr(home, switch) is True
    campaign = RemoteCampaign(*people.split(), **options)
    campaign.world()  # the lake before the race is laid out by the rules
    with switched(home, switch):
        done = campaign.systematic(2, budget=budget, shuffle=1)
    print(f"{switch}: {done.runs} runs: {done.error}")
    assert done.error is not None, f"{switch} was not noticed in {done.runs} runs"
    assert done.error.startswith(breaks), str(done)
