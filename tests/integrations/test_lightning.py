"""PyTorch Lightning: a real Trainer logs to a session, checkpoints into it, and goes on from there."""

from __future__ import annotations

import logging
import pickle

import numpy
import pytest
import torch

from dreamlake.integrations import lightning as ours


@pytest.fixture
def model():
    import lightning.pytorch as pl

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Model(pl.LightningModule):
        def __init__(self, width: int = 4, note: object = None) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)
            self.epochs_seen: list[int] = []

        def training_step(self, batch, index):
            loss = self.layer(batch[0]).pow(2).mean()
            self.log("train/loss", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", self.layer(batch[0]).pow(2).mean())

        def on_train_epoch_start(self):
            self.epochs_seen.append(self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Model


def loader():
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(16, 4, generator=generator))
    return torch.utils.data.DataLoader(data, batch_size=4)


def trainer(session, tmp_path, checkpoints, **options):
    import lightning.pytorch as pl

    return pl.Trainer(
        logger=ours.DreamLakeLogger(session), callbacks=[checkpoints], enable_checkpointing=False, accelerator="cpu",
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("wait", [True, False])
def test_a_run_is_logged_kept_and_resumed(session, tmp_path, model, wait):
    checkpoints = ours.DreamLakeCheckpoint(session, monitor="val_loss", keep_best=1, wait=wait)
    first = model(note="fast")
    trainer(session, tmp_path, checkpoints, max_epochs=2).fit(first, loader(), loader())
    session.flush()
    history = checkpoints.checkpoints.history()
    assert [r["metadata"]["epoch"] for r in history] == [1, 0] and history[0]["metadata"]["step"] == 8
    assert checkpoints.best["metadata"]["val_loss"] == min(r["metadata"]["val_loss"] for r in history)
    tracks = {t["name"]: t["totalDataPoints"] for t in session.tracks().list_all()}
    assert tracks["train/loss"] == 2 and tracks["val_loss"] == 2
    point = session.track("val_loss").read()["data"][0]["data"]
    assert set(point) == {"step", "epoch", "value"} and point["epoch"] == 0
    assert session.parameters().get() == {"width": 4, "note": "fast"}
    assert session.logs()[-1]["message"] == "training ended: success"

    second = model()
    with checkpoints.resume() as path:
        trainer(session, tmp_path, checkpoints, max_epochs=4).fit(second, loader(), loader(), ckpt_path=path)
    assert second.epochs_seen == [2, 3]
    session.flush()
    assert [r["metadata"]["epoch"] for r in checkpoints.checkpoints.history()] == [3, 2, 1, 0]


def test_a_checkpoint_with_code_in_it_is_not_handed_out(session):
    checkpoints = ours.DreamLakeCheckpoint(session)
    session.files.save_torch({"state_dict": {}, "evil": object()}, "lightning.ckpt", path="/checkpoints")
    with pytest.raises(ValueError, match="holds more than tensors"), checkpoints.resume():
        raise AssertionError
    with checkpoints.resume(unsafe=True) as path:
        assert path is not None


def test_without_validation_it_saves_at_the_end_of_epochs(session, tmp_path, model):
    checkpoints = ours.DreamLakeCheckpoint(session, every_n_epochs=2)
    with checkpoints.resume() as path:
        assert path is None
    trainer(session, tmp_path, checkpoints, max_epochs=4, limit_val_batches=0).fit(model(), loader())
    assert [r["metadata"]["epoch"] for r in checkpoints.checkpoints.history()] == [3, 1]


def test_they_are_real_subclasses_made_once(session):
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    assert issubclass(ours.DreamLakeLogger, Logger) and issubclass(ours.DreamLakeCheckpoint, Callback)
    assert ours.DreamLakeLogger is ours.DreamLakeLogger
    assert pickle.loads(pickle.dumps(ours.DreamLakeLogger)) is ours.DreamLakeLogger
    logger = ours.DreamLakeLogger(session)
    assert (logger.name, logger.version, logger.experiment, logger.save_dir) == ("w", "run", session, None)
    logger.log_hyperparams({"a": torch.tensor(1.5), "b": object(), "c": {"d": numpy.float32(2)}})
    given = session.parameters().get()
    assert (given["a"], given["c.d"]) == (1.5, 2.0) and "object object" in given["b"]
    with pytest.raises(AttributeError):
        ours.Unheard  # noqa: B018
