"""Keras 3 on the torch backend: a real ``fit`` logs, keeps models and goes on."""

from __future__ import annotations

import numpy
import pytest

from dreamlake.integrations import keras as ours


@pytest.fixture
def model(monkeypatch, tmp_path_factory):
    import keras

    assert keras.backend.backend() == "torch"
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    made.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    return made


X, Y = numpy.random.default_rng(0).normal(size=(32, 4)).astype("float32"), numpy.ones((32, 1), "float32")


def test_a_run_is_logged_and_its_models_come_back(session, model):
    callback = ours.DreamLakeCallback(session, monitor="val_loss", keep_last=2, keep_best=1)
    assert callback.load() is None and callback.best() is None
    model.fit(X, Y, validation_data=(X, Y), epochs=3, verbose=0, callbacks=[callback])
    history = callback.checkpoints.history()
    assert [r["metadata"]["epoch"] for r in history] == [2, 1, 0]
    best = min(history, key=lambda r: r["metadata"]["val_loss"])
    assert callback.best()["version"] == best["version"]
    assert [p["data"]["epoch"] for p in session.track("val_loss").read()["data"]] == [0, 1, 2]
    assert session.parameters().get("fit.epochs") == 3
    assert session.parameters().get("optimizer.learning_rate") == pytest.approx(0.01)
    loaded = callback.load("last")
    numpy.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)
    loaded.fit(X, Y, epochs=1, verbose=0, callbacks=[callback])
    assert len(callback.checkpoints.history()) == 4


def test_weights_only(session, model):
    callback = ours.DreamLakeCallback(session, filename="m.weights.h5", every_n_epochs=2)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
    assert [r["metadata"]["epoch"] for r in callback.checkpoints.history()] == [1]
    callback.save({"epoch": 2})
    expected = model.predict(X, verbose=0)
    for weight in model.weights:
        weight.assign(weight * 0)
    numpy.testing.assert_allclose(callback.load(model=model).predict(X, verbose=0), expected, rtol=1e-5)


def test_only_logging(session, model):
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[ours.DreamLakeCallback(session, every_n_epochs=0)])
    assert session.files.list() == [] and session.track("loss").stats()["totalDataPoints"] == 1
    with pytest.raises(AttributeError):
        ours.Unheard  # noqa: B018
