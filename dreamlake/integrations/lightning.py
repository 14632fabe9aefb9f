"""PyTorch Lightning: a logger that writes to a session, and a callback that keeps checkpoints in it.

``pip install dreamlake[lightning]``; works with ``lightning`` and with ``pytorch_lightning``::

    logger = DreamLakeLogger(session)
    checkpoints = DreamLakeCheckpoint(session, monitor="val_loss", keep_best=2)
    trainer = Trainer(logger=logger, callbacks=[checkpoints], enable_checkpointing=False)
    with checkpoints.resume() as path:
        trainer.fit(model, ckpt_path=path)
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dreamlake.integrations.checkpoints import BEST, Checkpoints, plain_values
from dreamlake.integrations.lazy import derived, need, unknown
from dreamlake.integrations.torch import check_weights

if TYPE_CHECKING:
    from dreamlake.session import Session

__all__ = ["DreamLakeCheckpoint", "DreamLakeLogger"]

DreamLakeCheckpoint: type[Any]  # made by __getattr__
DreamLakeLogger: type[Any]


def __getattr__(name: str) -> Any:
    if name == "DreamLakeLogger":
        return derived(__name__, name, _Logger, _lightning("loggers.logger").Logger)
    if name == "DreamLakeCheckpoint":
        return derived(__name__, name, _Checkpoint, _lightning("callbacks").Callback)
    raise unknown(__name__, name)


def _lightning(module: str) -> Any:
    """A module of the Lightning that the program uses: the two packages have classes of their own."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        names.reverse()
    try:
        return import_module(f"{names[0]}.{module}")
    except ModuleNotFoundError:
        return need(lambda: import_module(f"{names[1]}.{module}"), "lightning")


class _Logger:
    """Metrics become tracks of the same names, hyperparameters the session's parameters.

    Args:
        session: an open session.
        prefix: put before the names of tracks, e.g. "run1/".
    """

    def __init__(self, session: Session, *, prefix: str = "") -> None:
        super().__init__()
        self._session, self._prefix = session, prefix

    @property
    def experiment(self) -> Session:
        """The session."""
        return self._session

    @property
    def name(self) -> str:
        return self._session.workspace

    @property
    def version(self) -> str:
        return self._session.name

    @property
    def save_dir(self) -> None:
        """None: nothing of it is on disk beside the lake."""
        return None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Set them as parameters; what has no JSON form as text."""
        if not _is_first():
            return
        given = params if isinstance(params, Mapping) else vars(params)
        self._session.parameters().set(plain_values(given))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append one point to the track of every metric: ``{"step", "epoch" (where it is told), "value"}``."""
        if not _is_first():
            return
        epoch = metrics.get("epoch")
        for name, value in plain_values(metrics).items():
            if name != "epoch":
                about = {} if epoch is None else {"epoch": int(epoch)}
                self._session.track(self._prefix + name).append(step=step, value=value, **about)

    def finalize(self, status: str) -> None:
        """Write how the run ended to the log of the session."""
        if _is_first() and self._session.is_open:
            self._session.log(f"training ended: {status}", level="info" if status == "success" else "warn")


class _Checkpoint:
    """Keeps the trainer's checkpoints (model, optimizers, loops) as versions of one file of the session.

    Args:
        session: an open session.
        path, filename: where.
        monitor, mode: a logged metric, and whether "min" or "max" of it is best; the best has the alias ``best``.
        keep_last, keep_best: how many of the newest and of the best stay; ``dreamlake gc`` lets go of the others.
        every_n_epochs: how often.
        wait: False stores in the background while training goes on.
    """

    def __init__(
        self,
        session: Session,
        *,
        path: str = "/checkpoints",
        filename: str = "lightning.ckpt",
        monitor: str | None = None,
        mode: str = "min",
        keep_last: int | None = 3,
        keep_best: int | None = None,
        every_n_epochs: int = 1,
        wait: bool = True,
    ) -> None:
        super().__init__()
        order = {"min": "lower", "max": "higher"}.get(mode, mode)
        self.checkpoints = Checkpoints(
            session, path, filename, keep_last=keep_last, keep_best=keep_best, by=monitor, order=order
        )
        self._every, self._wait, self._saved_step = max(1, every_n_epochs), wait, -1

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._maybe_save(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.enable_validation or not trainer.val_dataloaders:
            self._maybe_save(trainer)

    def _maybe_save(self, trainer: Any) -> None:
        due = (trainer.current_epoch + 1) % self._every == 0
        if not due or trainer.fast_dev_run or trainer.global_step == self._saved_step:
            return
        self._saved_step = trainer.global_step
        self.save(trainer)

    def save(self, trainer: Any) -> Any:
        """Store a checkpoint now; every rank must call it. Returns the record (or its future) on rank 0, else None."""
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="dreamlake-")) if _is_first() else None
            file = os.path.join(trainer.strategy.broadcast(own), "checkpoint.ckpt")
            trainer.save_checkpoint(file)  # which waits for all ranks
            if own is None:
                return None
            metrics = plain_values(trainer.callback_metrics)
            about = {**metrics, "epoch": trainer.current_epoch, "step": trainer.global_step}
            content = stack.enter_context(open(file, "rb"))
            return self.checkpoints.save(content, about, wait=self._wait)

    @contextlib.contextmanager
    def resume(self, which: str | int = "last", *, unsafe: bool = False) -> Iterator[str | None]:
        """A checkpoint as a file for ``trainer.fit(ckpt_path=...)``, gone after the block; None when there is none.

        Raises ``ValueError`` when it holds more than tensors and plain data, which could run any code when Lightning
        loads it: ``unsafe=True`` is for files that you made yourself.
        """
        with tempfile.TemporaryDirectory(prefix="dreamlake-") as folder:
            file = self.checkpoints.fetch(os.path.join(folder, "checkpoint.ckpt"), which)
            if file is not None and not unsafe:
                check_weights(self.checkpoints.key, file)
            yield file

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best checkpoint so far."""
        return self.checkpoints.find(BEST)


def _is_first() -> bool:
    """True on rank 0, which writes for all."""
    return int(getattr(_lightning("utilities").rank_zero_only, "rank", 0) or 0) == 0
