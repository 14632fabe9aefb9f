"""PyTorch: loading is safe, a run goes on exactly where it stopped, every rank writes into one session."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy
import pytest
import torch

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, InvalidType, NotFound
from dreamlake.integrations import torch as helpers
from dreamlake.integrations.torch import CheckpointManager, load_torch, rng_state, save_torch, set_rng_state

PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Evil:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


# ---- loading -----------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(session):
    record = save_torch(session, {"w": torch.arange(4.0), "step": 3}, "m.pth", path="/models", tags=["x"])
    for named in ("/models/m.pth", "/models/m.pth@v1", record["id"], record):
        loaded = load_torch(session, named)
        assert loaded["step"] == 3 and torch.equal(loaded["w"], torch.arange(4.0))
    assert torch.equal(load_torch(session.use("/models/m.pth"))["w"], torch.arange(4.0))


def test_a_large_file_is_loaded_from_a_copy_on_disk(session, monkeypatch, tmp_path):
    monkeypatch.setattr(helpers, "_IN_MEMORY", 100)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    save_torch(session, torch.arange(1000), "m.pth")
    assert torch.equal(load_torch(session, "m.pth"), torch.arange(1000))
    assert [name for name in os.listdir(tmp_path) if name.startswith("dreamlake-load")] == []


def test_code_in_a_file_is_not_run(session, tmp_path):
    marker = tmp_path / "ran"
    save_torch(session, {"w": torch.zeros(1), "evil": Evil(str(marker))}, "evil.pth")
    with pytest.raises(InvalidInput, match=r"/evil\.pth holds more than tensors .*unsafe=True"):
        load_torch(session, "evil.pth")
    assert not marker.exists()
    load_torch(session, "evil.pth", unsafe=True)
    assert marker.exists()


def test_a_damaged_file_is_not_loaded(session, root):
    record = save_torch(session, torch.arange(100), "m.pth")
    stored = root / ".dreamlake/blobs" / record["checksum"][:2] / record["checksum"]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"checksum|damaged|match"):
        load_torch(session, "m.pth")


def test_wrong_use(session):
    save_torch(session, torch.zeros(1), "m.pth")
    with pytest.raises(InvalidType, match="load_torch needs a session and a file"):
        load_torch(session)
    with pytest.raises(InvalidInput):
        load_torch(session.use("/m.pth"), "m.pth")
    with pytest.raises(NotFound):
        load_torch(session, "none.pth")


# ---- going on ----------------------------------------------------------------------------------------------------


class Run:
    """A training run that uses every generator of random numbers there is."""

    def __init__(self) -> None:
        random.seed(0)
        numpy.random.seed(0)
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=2, gamma=0.5)
        self.parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def epoch(self) -> float:
        for _ in range(3):
            noise = torch.from_numpy(numpy.random.rand(4, 8)).float() * random.random()
            loss = self.model(torch.randn(4, 8) + noise).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.scheduler.step()
        return loss.item()


@pytest.mark.parametrize("wait", [True, False])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(session, wait):
    whole = Run()
    for _ in range(5):
        whole.epoch()
    first, checkpoints = Run(), CheckpointManager(session)
    for epoch in range(2):
        first.epoch()
        checkpoints.save(epoch, **first.parts, wait=wait)
    session.flush()
    second = Run()
    for part in second.model.parameters():
        part.data.zero_()
    step = CheckpointManager(session).resume(**second.parts)
    assert step == 1
    for _ in range(step + 1, 5):
        second.epoch()
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


def test_states_of_random_numbers_survive(session):
    state = rng_state()
    expected = random.random(), numpy.random.rand(), torch.rand(1)
    numpy.random.randn()  # leaves a gauss behind
    later = rng_state()
    follow = random.gauss(0, 1), numpy.random.randn(), torch.randn(1)
    save_torch(session, {"a": state, "b": later}, "rng.pth")
    loaded = load_torch(session, "rng.pth")
    set_rng_state(loaded["a"])
    assert (random.random(), numpy.random.rand(), torch.rand(1)) == expected
    set_rng_state(loaded["b"])
    assert (random.gauss(0, 1), numpy.random.randn(), torch.randn(1)) == follow


def test_the_best_is_kept_and_known(session, root):
    checkpoints = CheckpointManager(session, by="loss", keep_last=2, keep_best=1)
    for step, loss in enumerate([0.9, 0.2, 0.5, float("nan"), torch.tensor(0.4)]):
        checkpoints.save(step, model=torch.nn.Linear(2, 2), metrics={"loss": loss})
    assert checkpoints.best()["metadata"]["loss"] == 0.2
    assert (
        checkpoints.load("best")["step"] == 1 and checkpoints.load()["step"] == 4 and checkpoints.load(3)["step"] == 2
    )
    open_lake(root).collect(now=True, trash_time=0, force=True)
    assert [r["version"] for r in checkpoints.checkpoints.history()] == [5, 4, 2]
    higher = CheckpointManager(session, name="other", by="acc", order="higher")
    for step, acc in enumerate([0.1, 0.9, 0.9]):
        higher.save(step, metrics={"acc": acc})
    assert higher.load("best")["step"] == 1


def test_before_the_first_checkpoint_nothing_changes(session):
    model = torch.nn.Linear(2, 2)
    before = model.weight.clone()
    checkpoints = CheckpointManager(session)
    assert checkpoints.resume(model=model) == -1 and checkpoints.load("best") is None
    assert checkpoints.best() is None and checkpoints.checkpoints.history() == []
    assert torch.equal(model.weight, before)


def test_wrong_use_of_checkpoints(session):
    with pytest.raises(InvalidInput, match="needs by="):
        CheckpointManager(session, keep_best=1)
    with pytest.raises(InvalidInput, match="use 'lower' or 'higher'"):
        CheckpointManager(session, by="x", order="up")
    checkpoints = CheckpointManager(session)
    with pytest.raises(InvalidType, match="state_dict"):
        checkpoints.save(0, model=7)
    checkpoints.save(0, model={"a": torch.nn.Linear(1, 1)})
    with pytest.raises(InvalidInput, match="has no optimizer"):
        checkpoints.resume(optimizer=torch.optim.SGD([torch.zeros(1)], lr=1))
    with pytest.raises(InvalidInput, match=r"has no model\['b'\]"):
        checkpoints.resume(model={"b": torch.nn.Linear(1, 1)})
    save_torch(session, [1], "checkpoint.pth", path="/checkpoints")
    with pytest.raises(InvalidInput, match="was not written by a CheckpointManager"):
        checkpoints.load()


def test_extra_data_and_several_models(session):
    checkpoints = CheckpointManager(session)
    models = {"generator": torch.nn.Linear(2, 2), "critic": torch.nn.Linear(2, 1)}
    checkpoints.save(7, model=models, extra={"vocabulary": ["a"], "mean": torch.ones(2)})
    fresh = {"generator": torch.nn.Linear(2, 2), "critic": torch.nn.Linear(2, 1)}
    assert checkpoints.resume(model=fresh) == 7
    assert torch.equal(fresh["critic"].weight, models["critic"].weight)
    assert checkpoints.load()["extra"]["vocabulary"] == ["a"]


# ---- many ranks --------------------------------------------------------------------------------------------------

RANKS = """
import json, os, sys
import torch
import torch.distributed as distributed
from dreamlake import Session
from dreamlake.integrations.torch import CheckpointManager

def main(rank, world, root):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE=str(world))
    distributed.init_process_group("gloo", init_method=f"file://{root}.rendezvous", rank=rank, world_size=world)
    torch.manual_seed(rank)
    with Session("ddp", "w", local_path=root) as session:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        whole = CheckpointManager(session, by="loss")
        shards = CheckpointManager(session, "/shards", every_rank=True)
        for step in range(3):
            loss = model(torch.randn(8, 4)).pow(2).mean()
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            session.track(f"loss/rank{rank}").append(step=step, value=loss.item())
            session.log("step", rank=rank, step=step)
            whole.save(step, model=model, optimizer=optimizer, metrics={"loss": loss.item()})
            shards.save(step, extra={"rank": rank, "step": step}, wait=False)
            session.files().upload(b"%d" % rank * 1000, path=f"/ranks/{rank}", filename=f"{step}.bin")
        session.flush()
        distributed.barrier()
        fresh = torch.nn.Linear(4, 1)
        assert whole.resume(model=fresh) == 2
        assert torch.equal(fresh.weight, model.module.weight)
        assert shards.load()["extra"] == {"rank": rank, "step": 2}
        distributed.barrier()
    distributed.destroy_process_group()

if __name__ == "__main__":
    torch.multiprocessing.spawn(main, args=(3, sys.argv[1]), nprocs=3)
"""


def test_every_rank_writes_into_one_session(tmp_path):
    script, root = tmp_path / "ranks.py", tmp_path / "lake"
    script.write_text(textwrap.dedent(RANKS))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(root)], capture_output=True, text=True, check=False,
        timeout=200, env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Session("ddp", "w", local_path=root) as session:
        assert len(session.files.list(path="/ranks")) == 9
        assert [f["filename"] for f in session.files.list(path="/checkpoints")] == ["checkpoint.pth"]
        assert sorted(f["filename"] for f in session.files.list(path="/shards")) == [
            f"checkpoint-rank{rank}.pth" for rank in range(3)
        ]
        assert [r["version"] for r in session.files.history("/checkpoints/checkpoint.pth")] == [3, 2, 1]
        assert [e["sequenceNumber"] for e in session.logs()] == list(range(9))
        for rank in range(3):
            assert [p["data"]["step"] for p in session.track(f"loss/rank{rank}").read()["data"]] == [0, 1, 2]
        assert sorted(run["environment"]["RANK"] for run in session.runs()) == ["0", "1", "2"]
