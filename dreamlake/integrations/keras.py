"""Keras 3 (any backend): a callback that writes to a session.

``pip install dreamlake[keras]``::

    callback = DreamLakeCallback(session, monitor="val_loss", keep_best=2)
    model.fit(x, y, callbacks=[callback])
    model = callback.load("best")
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from dreamlake.integrations.checkpoints import BEST, Checkpoints, plain_values
from dreamlake.integrations.lazy import derived, need, unknown

if TYPE_CHECKING:
    from dreamlake.session import Session

__all__ = ["DreamLakeCallback"]

DreamLakeCallback: type[Any]  # made by __getattr__


def __getattr__(name: str) -> Any:
    if name == "DreamLakeCallback":
        return derived(__name__, name, _Callback, need(_base, "keras"))
    raise unknown(__name__, name)


def _base() -> type:
    from keras.callbacks import Callback

    base: type = Callback
    return base


class _Callback:
    """Logged numbers become tracks, the model a version of one file after each epoch.

    Args:
        session: an open session.
        path, filename: where the model goes; the suffix is Keras's format: ".keras", or ".weights.h5" for weights only.
        monitor, mode: a logged metric, and whether "min" or "max" of it is best; the best has the alias ``best``.
        keep_last, keep_best: how many of the newest and of the best stay; ``dreamlake gc`` lets go of the others.
        every_n_epochs: how often the model is stored; 0: never.
    """

    def __init__(
        self,
        session: Session,
        *,
        path: str = "/checkpoints",
        filename: str = "model.keras",
        monitor: str | None = None,
        mode: str = "min",
        keep_last: int | None = 3,
        keep_best: int | None = None,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__()
        order = {"min": "lower", "max": "higher"}.get(mode, mode)
        self.checkpoints = Checkpoints(
            session, path, filename, keep_last=keep_last, keep_best=keep_best, by=monitor, order=order
        )
        self.session, self._every = session, every_n_epochs

    def on_train_begin(self, logs: Any = None) -> None:
        model: Any = self.model  # type: ignore[attr-defined]
        given = {"fit": plain_values(self.params or {})}  # type: ignore[attr-defined]
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None:
            given["optimizer"] = plain_values(optimizer.get_config())
        self.session.parameters().set(given)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        numbers = plain_values(logs or {})
        for name, value in numbers.items():
            self.session.track(name).append(epoch=epoch, value=value)
        if self._every and (epoch + 1) % self._every == 0:
            self.save({**numbers, "epoch": epoch})

    def save(self, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Store the model now; returns the record."""
        model: Any = self.model  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory(prefix="dreamlake-") as folder:
            file = os.path.join(folder, self.checkpoints.filename)
            if file.endswith(".weights.h5"):
                model.save_weights(file)
            else:
                model.save(file)
            made: dict[str, Any] = self.checkpoints.save(file, metadata or {})  # type: ignore[assignment]
            return made

    def load(self, which: str | int = "last", model: Any = None) -> Any:
        """The stored model: "last", "best", a version number. Code in it is not run (Keras's safe mode).

        Args:
            model: for ``.weights.h5``: where the weights go.

        Returns:
            The model; None when there is none yet.
        """
        import keras

        with tempfile.TemporaryDirectory(prefix="dreamlake-") as folder:
            file = self.checkpoints.fetch(os.path.join(folder, self.checkpoints.filename), which)
            if file is None:
                return None
            if model is not None:
                model.load_weights(file)
                return model
            return keras.saving.load_model(file)

    def best(self) -> dict[str, Any] | None:
        """The record of the best model so far."""
        return self.checkpoints.find(BEST)
