"""Train a small network on scikit-learn's handwritten digits and keep everything in a DreamLake session.

    python examples/train_digits.py [--epochs 20]

A checkpoint every fifth epoch, the best model re-uploaded under one path, parameters, log and loss curve. Writes
``./experiments``; run it twice and the session goes on: new versions, nothing stored twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from dreamlake import Session, open_lake


def weights(model: MLPClassifier, epoch: int) -> dict[str, np.ndarray]:
    """The network as named arrays: all that a checkpoint needs."""
    layers = zip(model.coefs_, model.intercepts_, strict=True)
    arrays = {f"layer{i}.{name}": a for i, pair in enumerate(layers) for name, a in zip(("w", "b"), pair, strict=True)}
    return {"epoch": np.array(epoch), **arrays}


def train(session: Session, epochs: int, seed: int = 0) -> None:
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(images, digits, test_size=0.25, random_state=seed)
    hidden, rate = (1024, 256), 0.0003

    session.parameters().set(model={"kind": "mlp", "hidden": hidden}, learning_rate=rate, epochs=epochs, seed=seed)
    session.log("training started", images=len(x_train))
    model = MLPClassifier(hidden_layer_sizes=hidden, learning_rate_init=rate, random_state=seed)
    best = 0.0
    for epoch in range(1, epochs + 1):
        model.partial_fit(x_train, y_train, classes=range(10))
        accuracy = model.score(x_test, y_test)
        session.track("train").append(epoch=epoch, loss=model.loss_, accuracy=accuracy)
        facts = {"epoch": epoch, "accuracy": accuracy, "loss": model.loss_}
        if epoch % 5 == 0:
            name = f"checkpoint_epoch_{epoch:02d}.npz"
            session.files().save_numpy(weights(model, epoch), name, path="/checkpoints", metadata=facts)
        if accuracy > best:
            best = accuracy
            session.files().save_numpy(
                weights(model, epoch), "best_model.npz", path="/models", tags=["best"], metadata=facts
            )
    session.files().save_json({"accuracy": best, "epochs": epochs}, "results.json", path="/results")
    session.log(f"training ended with {best:.1%} of the test digits right")


def show(session: Session) -> None:
    """What is stored, what it saved, and the same files as an ordinary folder tree."""
    logical = 0
    print(f"{'file':38} {'versions':>8} {'size':>9}  accuracy")
    for file in session.files().list():
        versions = session.files().history(file)
        logical += sum(version["sizeBytes"] for version in versions)
        accuracy = f"{file['metadata']['accuracy']:.3f}" if "accuracy" in file["metadata"] else ""
        name = f"{file['path']}/{file['filename']}"
        print(f"{name:38} {len(versions):8} {size(file['sizeBytes']):>9}  {accuracy}")

    lake = open_lake(session.local_path)
    stored = lake.stats().stored_bytes
    print(f"\nall versions: {size(logical)}; stored: {size(stored)}, which is {stored / logical:.0%}\n")

    made = lake.materialize(session.id)
    folder = Path(made.root, session.id, "files")
    print(f"{folder.relative_to(Path.cwd())}/  ({made.placed} files placed, {made.unchanged} unchanged)")
    for path in sorted(folder.rglob("*")):
        print("    " * len(path.relative_to(folder).parts) + path.name + ("/" if path.is_dir() else ""))


def size(amount: int) -> str:
    """Bytes as people read them."""
    return f"{amount / 1e6:.1f} MB" if amount >= 1e5 else f"{amount} B"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="rounds over the training images (default: 20)")
    arguments = parser.parse_args()
    with Session("digits-mlp", "vision", description="MLP on handwritten digits", tags=["example"]) as session:
        train(session, arguments.epochs)
        show(session)


if __name__ == "__main__":
    main()
