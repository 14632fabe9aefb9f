"""A training run that is interrupted, and goes on exactly where it stopped: model, optimizer, schedule, random numbers.

Needs: pip install 'dreamlake[torch]'
"""

import torch

from dreamlake import Session
from dreamlake.integrations.torch import CheckpointManager, load_torch

EPOCHS = 6


def train(stop_after: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    y = x.sin().sum(dim=1, keepdim=True)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.1), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    with Session("resumable", "examples") as session:
        checkpoints = CheckpointManager(session, by="loss", keep_last=3, keep_best=1)
        start = checkpoints.resume(**parts) + 1
        print(f"starting at epoch {start}")
        for epoch in range(start, EPOCHS):
            for _ in range(20):
                loss = torch.nn.functional.mse_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
            session.track("loss").append(step=epoch, value=loss.item())
            checkpoints.save(epoch, **parts, metrics={"loss": loss}, wait=False)  # in the background
            if epoch + 1 == stop_after:
                return  # the end of the block waits for what is in the background


train(stop_after=3)
train(stop_after=EPOCHS)

with Session("resumable", "examples") as session:
    best = session.files().get("/checkpoints/checkpoint.pth@best")
    print(f"best: epoch {best['metadata']['step']}, loss {best['metadata']['loss']:.3f}, version {best['version']}")
    weights = load_torch(session, "/checkpoints/checkpoint.pth@best")["model"]
    print("tensors:", ", ".join(weights))
