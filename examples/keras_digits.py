"""Keras 3 on PyTorch: losses and models of every epoch go into a session; the best one comes back out.

Needs: pip install 'dreamlake[keras]' scikit-learn
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
from sklearn.datasets import load_digits

from dreamlake import Session
from dreamlake.integrations.keras import DreamLakeCallback

keras.utils.set_random_seed(0)
digits = load_digits()
x, y = digits.data.astype("float32") / 16, digits.target

model = keras.Sequential(
    [keras.layers.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

with Session("keras", "examples") as session:
    callback = DreamLakeCallback(session, monitor="val_accuracy", mode="max", keep_last=2, keep_best=1)
    model.fit(x[:1400], y[:1400], validation_data=(x[1400:], y[1400:]), epochs=3, verbose=0, callbacks=[callback])
    for version in reversed(callback.checkpoints.history()):
        about = version["metadata"]
        print(f"v{version['version']}: epoch {about['epoch']}, accuracy {about['val_accuracy']:.2f}")
    best = callback.load("best")
    print(f"the best one again: accuracy {best.evaluate(x[1400:], y[1400:], verbose=0)[1]:.2f}")
