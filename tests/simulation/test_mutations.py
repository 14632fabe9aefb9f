"""The simulation finds every rule of the protocol that is switched off (a harness that finds nothing proves nothing).

``budget`` is the number of runs in which it must be found; what it took is printed, and in about a tenth of the
budget it is found on average.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import pytest

from simulation.campaign import Campaign
from simulation.scheduler import Enumerated, Fault
from simulation.simfs import SimFs
from simulation.world import FolderBlobs, FolderCatalog, T, collecting, switched

committing = importlib.import_module("dreamlake.operations.commit")


def always(owner: object) -> bool:
    return True


class Mutation(NamedTuple):
    home: Any
    switch: str
    people: str
    preemptions: int
    options: dict[str, Any]
    budget: int
    breaks: str  # the invariant whose violation must be reported
    free: bool = True


MUTATIONS = [
    # R1: the claim comes before the look
    Mutation(committing, "CLAIM_FIRST", "up gc", 2, {"lake": "dead"}, 500, "I1"),
    # R3: a commit is the claim itself, so that a revoked one is refused
    Mutation(FolderCatalog, "FENCED_COMMIT", "up gc", 2, {"lake": "dead", "stale": always, "power": False}, 200, "I"),
    # R4: hide, then look again
    Mutation(collecting, "CONDEMN", "up gc", 2, {"lake": "dead"}, 500, "I1"),
    # R5: strictly in this order; claims before commits
    Mutation(collecting, "RECHECK_AFTER_CONDEMN", "up gc", 2, {"lake": "dead"}, 500, "I1"),
    Mutation(collecting, "PENDING_FIRST", "up gc", 3, {"lake": "dead", "steps": "changes"}, 2500, "I1"),
    # R6: exactly the copy that this run condemned
    Mutation(collecting, "FRESH_BATCH", "gc1 gc2 again", 3, {"lake": "garbage", "steps": "changes"}, 4000, "I1", False),
    # R8: what a removal relied on is durable first
    Mutation(collecting, "BARRIER", "dele gc1 gc2", 2, {"steps": "changes"}, 3000, "I1 after a power cut"),
    # durability
    Mutation(FolderCatalog, "FSYNC_CLAIM", "up", 0, {}, 1, "I4 after a power cut"),
    Mutation(FolderCatalog, "FSYNC_LOG", "up", 0, {}, 1, "I4 after a power cut"),
    Mutation(FolderCatalog, "CHECKPOINT_BARRIER", "up1 up2", 2, {"checkpoint_every": 15}, 300, "I4 after a power cut"),
    Mutation(FolderBlobs, "SECURE", "fresh", 0, {}, 1, "I3"),
    Mutation(FolderBlobs, "BARRIER", "fresh", 0, {}, 1, "I1 after a power cut"),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.home.__name__.rpartition('.')[2]}.{m.switch}")
def test_a_rule_that_is_switched_off_is_noticed(mutation):
    assert getattr(mutation.home, mutation.switch) is True
    with switched(mutation.home, mutation.switch):
        done = Campaign(*mutation.people.split(), **mutation.options).systematic(
            mutation.preemptions, free=mutation.free, budget=mutation.budget, shuffle=1
        )
    print(f"{mutation.switch}: {done.runs} runs, {done.seconds:.1f} s: {done.error}")
    assert done.error is not None, f"{mutation.switch} was not noticed in {done.runs} runs"
    assert done.error.startswith(mutation.breaks), str(done)


def test_a_hit_that_is_not_made_durable_is_noticed(monkeypatch):
    """U2: the shard directory is synced hit or miss, for the one who published it may have died."""
    publish, barrier = FolderBlobs.publish, FolderBlobs.barrier
    published: set[FolderBlobs] = set()

    def remember(blobs: FolderBlobs, key: str, staged: Any, *, replace: bool = True) -> bool:
        published.add(blobs)
        return publish(blobs, key, staged, replace=replace)

    def only_own(blobs: FolderBlobs, keys: Any) -> None:
        if blobs in published:
            barrier(blobs, keys)

    monkeypatch.setattr(FolderBlobs, "publish", remember)
    monkeypatch.setattr(FolderBlobs, "barrier", only_own)
    done = Campaign("fresh1", "fresh2").systematic(1, budget=200, shuffle=1)
    assert done.error is not None
    assert done.error.startswith("I1 after a power cut"), str(done)


@pytest.mark.parametrize(("people", "preemptions"), [("again gc", 3), ("again1 again2 gc", 2)])
def test_a_live_copy_that_a_condemned_one_replaces_is_noticed(monkeypatch, people, preemptions):
    """Restoring with a plain rename would undo an upload that has healed a damaged copy."""
    monkeypatch.setattr(SimFs, "rename_new", SimFs.rename)
    done = Campaign(*people.split(), lake="damaged", steps="changes").systematic(preemptions, budget=3000, shuffle=1)
    assert done.error is not None
    assert done.error.startswith("I1"), str(done)


def test_a_gap_between_directories_is_noticed(monkeypatch):
    """The first record of a new directory may become durable before the last of the old one."""

    def open_directory(catalog: Any, session: Any, number: int) -> None:
        catalog._fs.make_dir(catalog._directory(session, number))

    monkeypatch.setattr(FolderCatalog, "_open_directory", open_directory)
    done = Campaign("up1", "up2").systematic(1, budget=100, shuffle=1)
    assert done.error is not None
    assert done.error.startswith("I4 after a power cut"), str(done)


@pytest.mark.parametrize("switch", ["FSYNC_CLAIM", "FSYNC_LOG"])
def test_reopening_after_power_cuts_notices_what_was_not_synced(switch):
    """The same rules, by what another process finds afterwards rather than by what the judge foresees."""
    with switched(FolderCatalog, switch):
        done = Campaign("up").power_cuts()
    assert done.error is not None


def test_left_over_claims_that_nobody_revokes_are_noticed(monkeypatch):
    monkeypatch.setattr(collecting._Run, "clean", lambda run, age_s: None)
    done = Campaign("up").faults("kill")
    assert done.error is not None
    assert done.error.startswith("I7"), str(done)


def test_a_retry_that_forgets_what_happened_is_noticed(monkeypatch):
    """Without a look at what a failed link has done, a lost reply leaves a record that its writer takes for lost."""
    monkeypatch.setattr(FolderCatalog, "_happened", lambda catalog, source, target: False)
    world = Campaign("up").world(faults={"up": Fault("lost", call_of("link"), 5)})
    assert world.run(Enumerated(())) is None
    assert len([path for path in world.judge.tree(T.sid) if path.startswith("/new")]) == 1
    assert len([what for _, what in world.scheduler.trace if what.startswith("link")]) == 2


def call_of(name: str) -> int:
    """The number of the first call of this name in an upload."""
    world = Campaign("up").world()
    assert world.run(Enumerated(())) is None
    return next(i for i, (_, what) in enumerate(world.scheduler.trace, 1) if what.startswith(name))
