"""Data-parallel training on two CPU processes; both ranks write into one session.

Needs: pip install 'dreamlake[torch]'
"""

import os
import tempfile

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import torch.distributed as distributed

from dreamlake import Session
from dreamlake.integrations.torch import CheckpointManager

RANKS = 2


def train(rank: int, meeting: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Session("distributed", "examples") as session:
        whole = CheckpointManager(session, by="loss")  # rank 0 saves for all
        for step in range(5):
            x = torch.randn(32, 4)
            loss = torch.nn.functional.mse_loss(model(x), x.sum(dim=1, keepdim=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            session.track(f"loss/rank{rank}").append(step=step, value=loss.item())
            whole.save(step, model=model, optimizer=optimizer, metrics={"loss": loss})
        session.files().save_torch({"rng": torch.get_rng_state()}, "state.pt", path=f"/ranks/{rank}")
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, args=(os.path.join(folder, "meeting"),), nprocs=RANKS)
    with Session("distributed", "examples") as session:
        for file in session.files().list():
            print(f"{file['path'].rstrip('/')}/{file['filename']}  v{file['version']}  {file['metadata']}")
        for track in session.tracks().list_all():
            print(track["name"], track["totalDataPoints"], "points")
