"""Hugging Face Transformers: a callback of ``Trainer`` that writes to a session.

``pip install dreamlake[transformers]``::

    callback = DreamLakeCallback(session, keep_last=2)
    trainer = Trainer(..., callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.fetch(training_args.output_dir))
"""

from __future__ import annotations

import os
import re
import tempfile
from typing import TYPE_CHECKING, Any

from dreamlake.errors import InvalidInput, NotFound
from dreamlake.integrations.checkpoints import BEST, plain_values
from dreamlake.integrations.lazy import derived, need, unknown
from dreamlake.model import folder_path

if TYPE_CHECKING:
    from dreamlake.session import Session

__all__ = ["DreamLakeCallback"]

DreamLakeCallback: type[Any]  # made by __getattr__

_STEP = re.compile(r"checkpoint-(\d+)")


def __getattr__(name: str) -> Any:
    if name == "DreamLakeCallback":
        return derived(__name__, name, _Callback, need(_base, "transformers"))
    raise unknown(__name__, name)


def _base() -> type:
    from transformers import TrainerCallback

    base: type = TrainerCallback
    return base


class _Callback:
    """Arguments become parameters (``training.*``, ``model.*``), logged numbers tracks, checkpoints files.

    Every checkpoint folder of the trainer is stored as ``<path>/checkpoint-<step>``, in one commit, so that it is there
    whole or not at all. Equal tensors are stored once, changed ones as differences.

    Args:
        session: an open session.
        path: folder of the checkpoints.
        keep_last: how many checkpoints stay; older ones are deleted (``restore`` brings them back until
            ``dreamlake gc`` lets them go), but never the best. None: all.
        save_model: also store the model when training ends, in ``<path>/model``.
    """

    def __init__(
        self, session: Session, path: str = "/checkpoints", *, keep_last: int | None = None, save_model: bool = False
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise InvalidInput(f"keep_last={keep_last}: at least 1, or None to keep all")
        self.session, self.path = session, folder_path(path)
        self._keep_last, self._save_model = keep_last, save_model

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        given = {"training": plain_values(args.to_sanitized_dict())}
        config = getattr(model, "config", None)
        if config is not None and callable(getattr(config, "to_dict", None)):
            given["model"] = plain_values(config.to_dict())
        self.session.parameters().set({kind: _no_empty(values) for kind, values in given.items()})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        for name, value in plain_values(logs).items():
            if name != "epoch":
                self.session.track(name).append(step=state.global_step, epoch=state.epoch, value=value)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        name = f"checkpoint-{state.global_step}"
        folder = os.path.join(args.output_dir, name)
        if not os.path.isdir(folder):
            return
        about = {"step": state.global_step, "epoch": state.epoch, "best_metric": state.best_metric}
        self.session.files.upload(folder, path=f"{self.path}/{name}", metadata=plain_values(about))
        self._note_best(state)
        self._let_go(state)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        if not state.is_world_process_zero or not self._save_model or model is None:
            return
        with tempfile.TemporaryDirectory(prefix="dreamlake-") as folder:
            model.save_pretrained(folder)
            self.session.files.upload(folder, path=f"{self.path}/model", metadata={"step": state.global_step})

    def steps(self) -> list[int]:
        """Steps of the checkpoints in the session, ascending."""
        names = {file["path"][len(self.path.rstrip("/")) + 1 :].split("/")[0] for file in self._files()}
        return sorted(int(found[1]) for name in names if (found := _STEP.fullmatch(name)))

    def best(self) -> int | None:
        """Step of the best checkpoint, if the trainer was told what is best (``metric_for_best_model``)."""
        for step in self.steps():
            for file in self._files(step):
                if file["filename"] == _STATE and BEST in self.session.files.aliases(file):
                    return step
        return None

    def fetch(self, output_dir: str | os.PathLike[str], step: int | None = None) -> str | None:
        """Download a checkpoint (default: the newest) into ``output_dir``, as the trainer would have left it there.

        Returns its folder, for ``trainer.train(resume_from_checkpoint=...)``; None when there is no checkpoint.
        """
        steps = self.steps()
        if step is None and not steps:
            return None
        chosen = steps[-1] if step is None else step
        if chosen not in steps:
            raise NotFound(f"no checkpoint of step {step} in {self.session.id}; there are {steps}", path=self.path)
        folder = os.path.join(os.fspath(output_dir), f"checkpoint-{chosen}")
        return self.session.files.download(f"{self.path}/checkpoint-{chosen}", folder)

    def _files(self, step: int | None = None) -> list[dict[str, Any]]:
        return self.session.files.list(path=self.path if step is None else f"{self.path}/checkpoint-{step}")

    def _note_best(self, state: Any) -> None:
        """Move the alias ``best`` to the checkpoint that the trainer takes for the best."""
        name = os.path.basename(state.best_model_checkpoint or "")
        if not name or not _STEP.fullmatch(name):
            return
        files, best = self.session.files, f"{self.path}/{name}/{_STATE}"
        for step in self.steps():
            file = f"{self.path}/checkpoint-{step}/{_STATE}"
            if file != best and files.exists(file) and BEST in files.aliases(file):
                files.alias(file, BEST, remove=True)
        if files.exists(best):
            files.alias(best, BEST)

    def _let_go(self, state: Any) -> None:
        if self._keep_last is None:
            return
        best = self.best()
        for step in self.steps()[: -self._keep_last]:
            if step != best:
                self.session.files.delete(f"{self.path}/checkpoint-{step}", recursive=True)


_STATE = "trainer_state.json"  # in every checkpoint; it carries the alias


def _no_empty(given: dict[str, Any]) -> dict[str, Any]:
    """Parameters whose names can be parameters: no dots or empty keys of a library's own."""
    return {
        str(name): _no_empty(value) if isinstance(value, dict) else value
        for name, value in given.items()
        if str(name).strip() and all(part.strip() for part in str(name).split("."))
    }
