"""``dreamlake demo``: a tour of a lake on real data, offline, in seconds.

A small language model learns to predict the next byte of this package's own source code. Its checkpoints, metrics and
parameters go into a lake of its own, and the verbs of the command show what became of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import styled
from dreamlake.errors import Conflict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dreamlake.session import Session

SESSION = "demo/byte-model"
MODEL = f"{SESSION}:/models/model.npz"
_EPOCHS = 8
_BUCKETS = 4096  # contexts of two bytes are hashed into so many rows
_STEP = 6.0
TOUR: tuple[tuple[str, ...], ...] = (
    ("Eight checkpoints are eight versions of one file:", "ls", SESSION),
    ("", "history", MODEL),
    ("Files are found by what is known of them:", "find", "-w", "metadata.loss < 3", "--order=metadata.loss"),
    ("The best version has a name:", "info", f"{MODEL}@best"),
    ("What changed between the first epoch and the last, tensor by tensor:", "diff", f"{MODEL}@v1", MODEL),
    ("What was deleted can be brought back until the lake is collected:", "rm", f"{SESSION}:/notes.txt"),
    ("", "restore", f"{SESSION}:/notes.txt"),
    ("The same files as an ordinary folder tree:", "materialize", SESSION),
    ("Everything is whole, and this is what it takes; equal and similar tensors are stored once:", "verify", "--deep"),
    ("", "stats"),
)  # fmt: skip


@verb()
@click.argument("folder", type=click.Path(file_okay=False), default="dreamlake-demo")
def demo(run: Run, folder: str) -> int:
    """Show what a lake does, on real data, in seconds and offline.

    Trains a small model on this package's own source code, stores its checkpoints in a new lake in FOLDER (default:
    dreamlake-demo), and looks at them with the other verbs. Remove the folder when you have seen enough.
    """
    from dreamlake.session import Session

    if os.path.lexists(folder):
        raise Conflict(f"{folder} exists; the demo makes a folder of its own: name another one", path=folder)
    workspace, _, name = SESSION.partition("/")
    _say(run, f"Training a model on dreamlake's own source code, into a new lake in {folder} ...")
    with Session(
        name, workspace, local_path=folder, description="a byte model of dreamlake's own source code"
    ) as session:
        _train(run, session)
    os.environ["DREAMLAKE_PAGER"] = "cat"
    for text, *words in TOUR:
        if text:
            _say(run, f"\n{text}")
        code = _show(run, folder, words)
        if code:
            return code
    _say(run, f"\nNext: dreamlake --lake {folder} tree {SESSION}, dreamlake --help, and rm -r {folder} at the end.")
    return 0


def _say(run: Run, text: str) -> None:
    import sys

    run.out.line(styled(text, "note", sys.stdout) if text.strip() else text)
    sys.stdout.flush()


def _show(run: Run, folder: str, words: list[str]) -> int:
    """Run a verb as a user would, with its command line above it."""
    import shlex
    import sys

    from dreamlake.cli import run as command

    run.out.line(f"$ dreamlake {shlex.join(words)}")
    sys.stdout.flush()
    more = ["--json"] if run.out.as_json else []
    return command(["--lake", folder, *words, *more])


def _train(run: Run, session: Session) -> None:
    import io

    import numpy as np

    contexts, targets = _pairs()
    everything = _counts(contexts, targets)
    weights = np.zeros((_BUCKETS, 256), np.float32)
    lowest = float("inf")
    session.parameters().set(buckets=_BUCKETS, epochs=_EPOCHS, step=_STEP, bytes=len(targets))
    session.files.save_text(
        "Which byte comes after two bytes, learnt from an eighth of the text an epoch.\n", "notes.txt"
    )
    for epoch in range(1, _EPOCHS + 1):
        part = slice(epoch - 1, None, _EPOCHS)
        counts = _counts(contexts[part], targets[part])
        totals = counts.sum(axis=1, keepdims=True)
        guesses = np.exp(weights - weights.max(axis=1, keepdims=True))
        guesses /= guesses.sum(axis=1, keepdims=True)
        weights += _STEP * (counts / np.maximum(totals, 1) - guesses) * (totals > 0)
        loss, accuracy = _measured(weights, everything)
        buffer = io.BytesIO()
        np.savez(buffer, weights=weights, context=np.arange(_BUCKETS))
        record = session.files.save_bytes(
            buffer.getvalue(),
            "model.npz",
            path="/models",
            metadata={"epoch": epoch, "loss": loss, "accuracy": accuracy},
        )
        session.track("loss").append(value=loss, epoch=epoch)
        if loss < lowest:
            lowest = loss
            session.files.alias(record, "best")
        _say(run, f"  epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.1%}")


def _counts(contexts: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    counts = np.zeros((_BUCKETS, 256), np.float32)
    np.add.at(counts, (contexts, targets), 1)
    return counts


def _measured(weights: NDArray[Any], counts: NDArray[Any]) -> tuple[float, float]:
    """Mean loss (nats a byte) and the share of bytes that are guessed right."""
    import numpy as np

    top = weights.max(axis=1, keepdims=True)
    logs = weights - top - np.log(np.exp(weights - top).sum(axis=1, keepdims=True))
    right = counts[np.arange(len(counts)), weights.argmax(axis=1)].sum()
    return float(-(counts * logs).sum() / counts.sum()), float(right / counts.sum())


def _pairs() -> tuple[NDArray[Any], NDArray[Any]]:
    """Context of two bytes (hashed) and the byte that follows, over the source code of this package."""
    import numpy as np

    data = np.frombuffer(b"".join(_sources()), np.uint8).astype(np.int64)
    return (data[:-2] * 263 + data[1:-1] * 17) % _BUCKETS, data[2:]


def _sources() -> Iterator[bytes]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as file:
                    yield file.read()
