"""PyTorch Lightning: metrics, hyperparameters and checkpoints go into a session; a second run goes on from there.

Needs: pip install 'dreamlake[lightning]' scikit-learn
"""

import logging
import warnings

warnings.filterwarnings("ignore")  # of the libraries: few workers, few cores

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits

from dreamlake import Session
from dreamlake.integrations.lightning import DreamLakeCheckpoint, DreamLakeLogger

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Digits(pl.LightningModule):
    def __init__(self, hidden: int = 64, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))
        self.lr = lr

    def training_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_accuracy", (self.net(batch[0]).argmax(dim=1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


digits = load_digits()
x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
training = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:1400], y[:1400]), 64, shuffle=True)
validation = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[1400:], y[1400:]), 256)

for epochs in (2, 4):
    with Session("lightning", "examples") as session:
        checkpoints = DreamLakeCheckpoint(session, monitor="val_accuracy", mode="max", keep_best=1)
        trainer = pl.Trainer(
            max_epochs=epochs, logger=DreamLakeLogger(session), callbacks=[checkpoints], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        with checkpoints.resume() as path:
            found = checkpoints.checkpoints.find()
            print("starting anew" if found is None else f"going on after epoch {found['metadata']['epoch']}")
            trainer.fit(Digits(), training, validation, ckpt_path=path)
        best = checkpoints.best["metadata"]
        print(f"best so far: epoch {best['epoch']}, accuracy {best['val_accuracy']:.2f}")
