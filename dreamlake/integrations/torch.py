"""PyTorch: saving and loading, and checkpoints from which a run can go on exactly where it stopped.

``pip install dreamlake[torch]``. Loading never runs code that is hidden in a file unless ``unsafe=True`` is said.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.integrations.checkpoints import BEST, Checkpoints

if TYPE_CHECKING:
    from dreamlake.lineage import Input
    from dreamlake.session import Session

__all__ = ["CheckpointManager", "load_torch", "rng_state", "save_torch", "set_rng_state"]

_IN_MEMORY = 256 << 20  # a larger file is loaded from a temporary copy on disk, so that it is in memory only once
_FORMAT = 1

Record = dict[str, Any]


def save_torch(session: Session, value: Any, filename: str, **attributes: Any) -> Record:
    """``torch.save`` into a session; the same as ``session.files().save_torch``."""
    return session.files.save_torch(value, filename, **attributes)


def load_torch(
    source: Session | Input,
    file: str | Mapping[str, Any] | None = None,
    *,
    map_location: Any = None,
    unsafe: bool = False,
) -> Any:
    """Load what ``torch.save`` wrote, after its content was verified.

    Args:
        source: an open session, with ``file``: path, ``path@alias``, id or record; or what ``session.use`` gave.
        map_location: where tensors go; see ``torch.load``.
        unsafe: also load objects that are no tensors or plain data. That can run any code that whoever made the file
            put into it: only for files that you made yourself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds other objects and ``unsafe`` was not said.
    """
    from dreamlake.lineage import Input

    if isinstance(source, Input):
        if file is not None:
            raise InvalidInput("what session.use gave names its file already")
        return _load(source.path, source.size_bytes, source.read_bytes, source.download, map_location, unsafe)
    if file is None:
        raise InvalidType("load_torch needs a session and a file: load_torch(session, '/models/best.pth')")
    files = source.files
    record = files.get(file)
    name = f"{record['path'].rstrip('/')}/{record['filename']}"
    pinned = f"{name}@v{record['version']}"
    return _load(
        name, record["sizeBytes"], lambda: files.read_bytes(pinned), lambda dest: files.download(pinned, dest),
        map_location, unsafe,
    )  # fmt: skip


def _load(
    name: str, size: int, read: Callable[[], bytes], download: Callable[[str], str], map_location: Any, unsafe: bool
) -> Any:
    if size <= _IN_MEMORY:
        return _from(name, io.BytesIO(read()), map_location, unsafe)
    with tempfile.TemporaryDirectory(prefix="dreamlake-load-") as folder:
        return _from(name, download(os.path.join(folder, "checkpoint")), map_location, unsafe)


def check_weights(name: str, file: str) -> None:
    """Raises ``InvalidInput`` unless a file on disk holds only tensors and plain data. Reads no tensor's bytes."""
    _from(name, file, "meta", False)


def _from(name: str, source: Any, map_location: Any, unsafe: bool) -> Any:
    import torch

    if unsafe:
        return torch.load(source, map_location=map_location, weights_only=False)
    try:
        return torch.load(source, map_location=map_location, weights_only=True)
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise InvalidInput(
            f"{name} holds more than tensors and plain data, and loading that may run any code. Only if you trust "
            f"whoever made it: load_torch(..., unsafe=True). PyTorch says: {_reason(error)}",
            path=name,
        ) from error


def _reason(error: Exception) -> str:
    """What PyTorch stumbled over, out of a text that goes on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = [line for line in lines if line.startswith("WeightsUnpickler error:")]
    return (found or lines or [type(error).__name__])[0][:200]


# ---- checkpoints -------------------------------------------------------------------------------------------------


class CheckpointManager:
    """Checkpoints of a training run: model, optimizer, scheduler, random numbers and step in one file.

    Args:
        session: an open session.
        path, name: they are versions of ``<path>/<name>.pth``.
        keep_last, keep_best, by, order: which older versions stay, and which one is ``best``; see ``Checkpoints``.
        every_rank: with ``torch.distributed``, every rank has a file of its own, ``<name>-rank3.pth`` (for what is
            sharded); otherwise rank 0 saves for all, and ``save`` does nothing elsewhere.

    Example::

        checkpoints = CheckpointManager(session, by="val_loss", keep_last=3, keep_best=2)
        start = checkpoints.resume(model=model, optimizer=optimizer) + 1
        for epoch in range(start, 100):
            ...
            checkpoints.save(epoch, model=model, optimizer=optimizer, metrics={"val_loss": loss})
    """

    def __init__(
        self,
        session: Session,
        path: str = "/checkpoints",
        name: str = "checkpoint",
        *,
        keep_last: int | None = 3,
        keep_best: int | None = None,
        by: str | None = None,
        order: str = "lower",
        every_rank: bool = False,
    ) -> None:
        self.rank = _rank()
        self._saves = every_rank or self.rank == 0
        filename = f"{name}-rank{self.rank}.pth" if every_rank else f"{name}.pth"
        self.checkpoints = Checkpoints(
            session, path, filename, keep_last=keep_last, keep_best=keep_best, by=by, order=order
        )

    def save(
        self,
        step: int,
        *,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        metrics: Mapping[str, Any] | None = None,
        extra: Any = None,
        wait: bool = True,
    ) -> Record | Future[Record] | None:
        """Store a checkpoint, whole or not at all.

        Args:
            step: number of the step or epoch that is done.
            model, optimizer, scheduler: anything with ``state_dict``; or a mapping of names to such things.
            metrics: numbers; they become metadata, by which checkpoints can be found.
            extra: further tensors and plain data.
            wait: False stores it in the background; it is taken as it is now.

        Returns:
            The record, or its future; None on ranks that do not save.
        """
        if not self._saves:
            return None
        content = {
            "format": _FORMAT,
            "step": int(step),
            "model": _state(model),
            "optimizer": _state(optimizer),
            "scheduler": _state(scheduler),
            "rng": rng_state(),
            "metrics": dict(metrics or {}),
            "extra": extra,
        }
        metadata = {**(metrics or {}), "step": int(step)}
        with _serialised(content) as buffer:
            return self.checkpoints.save(buffer, metadata, wait=wait)

    def load(
        self, which: str | int = "last", *, map_location: Any = "cpu", unsafe: bool = False
    ) -> dict[str, Any] | None:
        """The content of a checkpoint: "last", "best", an alias or a version number. None when there is none.

        Keys: ``step``, ``model``, ``optimizer``, ``scheduler``, ``rng``, ``metrics``, ``extra``.
        """
        if self.checkpoints.find(which) is None:
            return None
        found = load_torch(
            self.checkpoints.session, self.checkpoints.reference(which), map_location=map_location, unsafe=unsafe
        )
        if not isinstance(found, dict) or "step" not in found:
            raise InvalidInput(f"{self.checkpoints.key} was not written by a CheckpointManager")
        return cast("dict[str, Any]", found)

    def resume(
        self,
        which: str | int = "last",
        *,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        rng: bool = True,
        map_location: Any = "cpu",
        unsafe: bool = False,
    ) -> int:
        """Put a checkpoint's state into what is given, and its random states into place.

        Returns:
            Its step; -1 when there is no checkpoint yet, and then nothing was changed.
        """
        found = self.load(which, map_location=map_location, unsafe=unsafe)
        if found is None:
            return -1
        for name, target in (("model", model), ("optimizer", optimizer), ("scheduler", scheduler)):
            _restore(name, target, found.get(name))
        if rng and found.get("rng"):
            set_rng_state(found["rng"])
        return int(found["step"])

    def best(self) -> Record | None:
        """The record of the best checkpoint so far."""
        return self.checkpoints.find(BEST)


def _serialised(content: dict[str, Any]) -> Any:
    import torch

    buffer = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        torch.save(content, buffer)
        buffer.seek(0)
    except BaseException:
        buffer.close()
        raise
    return buffer


def _unwrapped(thing: Any) -> Any:
    """Without the wrapper of data parallelism, which puts ``module.`` in front of every name."""
    wrappers = ("DistributedDataParallel", "DataParallel")
    return thing.module if type(thing).__name__ in wrappers and hasattr(thing, "module") else thing


def _state(thing: Any) -> Any:
    if thing is None:
        return None
    if isinstance(thing, Mapping):
        return {name: _state(item) for name, item in thing.items()}
    if not callable(getattr(thing, "state_dict", None)):
        raise InvalidType(f"a checkpoint takes what has a state_dict(), not a {type(thing).__name__}")
    return _unwrapped(thing).state_dict()


def _restore(name: str, target: Any, state: Any) -> None:
    if target is None:
        return
    if state is None:
        raise InvalidInput(f"this checkpoint has no {name}")
    if isinstance(target, Mapping):
        for part, item in target.items():
            _restore(f"{name}[{part!r}]", item, state.get(part) if isinstance(state, Mapping) else None)
    else:
        _unwrapped(target).load_state_dict(state)


def rng_state() -> dict[str, Any]:
    """The states of all random number generators that training uses, as tensors and plain data."""
    import numpy
    import torch

    numbers: Any = numpy.random.get_state()
    kind, keys, position, has_gauss, gauss = numbers
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [str(kind), torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put the states of ``rng_state`` back; those of GPUs where there are as many."""
    import numpy
    import torch

    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, keys.cpu().numpy().astype("uint32"), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def _rank() -> int:
    import torch.distributed as distributed

    ready = distributed.is_available() and distributed.is_initialized()
    return int(distributed.get_rank()) if ready else 0
