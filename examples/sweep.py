"""Four training processes at once, one session each; then compare them and promote the best model.

    python examples/sweep.py

Every process trains on scikit-learn's handwritten digits with another learning rate. The best model is copied into a
session of its own, which moves no bytes, and gets the alias ``production``.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from dreamlake import Session

RATES = (0.0001, 0.001, 0.01, 1.0)


def train(rate: float) -> str:
    """One run: returns the name of its session."""
    images, digits = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(images / 16, digits, test_size=0.25, random_state=0)
    name = f"lr-{rate}"
    with Session(name, "sweep", tags=["digits"]) as session:
        session.parameters().set(learning_rate=rate, epochs=10)
        model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=rate, random_state=0)
        for epoch in range(1, 11):
            model.partial_fit(x_train, y_train, classes=range(10))
            session.track("accuracy").append(epoch=epoch, value=model.score(x_test, y_test))
        session.files().save_numpy(
            {"w": model.coef_.astype(np.float32), "b": model.intercept_.astype(np.float32)},
            "model.npz",
            path="/models",
            metadata={"accuracy": model.score(x_test, y_test)},
        )
    return name


def main() -> None:
    with ProcessPoolExecutor(len(RATES)) as pool:
        names = list(pool.map(train, RATES))

    results = []
    for name in names:
        with Session(name, "sweep") as session:
            record = session.files().get("/models/model.npz")
            results.append((record["metadata"]["accuracy"], name))
            print(f"{name:10} accuracy {record['metadata']['accuracy']:.3f}   {session.parameters().get()}")
    _, winner = max(results)

    with Session("registry", "sweep") as registry, Session(winner, "sweep") as session:
        record = session.files().copy("/models/model.npz", "/digits/model.npz", session=registry.id)
        registry.files().alias("/digits/model.npz", "production")
        print(f"promoted {winner} as version {record['version']} of /digits/model.npz@production")


if __name__ == "__main__":
    main()
