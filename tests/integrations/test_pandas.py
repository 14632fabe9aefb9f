"""Files, parameters and tracks as data frames of the real pandas."""

from __future__ import annotations

import math
import sys

import pytest

from dreamlake import open_lake


def test_files(session, root):
    import pandas as pd

    files = session.files()
    files.save_bytes(b"1", "a", tags=["x"], metadata={"acc": 0.5, "cfg": {"lr": 1}})
    files.save_bytes(b"22", "b", metadata={"acc": math.nan, "name": "n"})
    made = files.to_dataframe()
    assert list(made["filename"]) == ["a", "b"] and list(made["sizeBytes"]) == [1, 2]
    assert made["metadata.acc"].tolist()[0] == 0.5 and made["metadata.cfg.lr"][0] == 1
    assert made["metadata.name"][1] == "n" and list(made["tags"]) == [["x"], []]
    assert str(made["uploadedAt"].dtype).startswith("datetime64") and str(made["uploadedAt"].dt.tz) == "UTC"
    assert made["uploadedAt"].is_monotonic_increasing and "metadata" not in made
    best = files.find(order="-metadata.acc", limit=1).to_dataframe()
    pd.testing.assert_series_equal(best["filename"], made["filename"][:1])
    assert len(open_lake(root).find("none").to_dataframe()) == 0
    assert len(files.history("a").to_dataframe()) == 1


def test_parameters_and_tracks(session):
    session.parameters().set(lr=0.1, model={"depth": 50})
    made = session.parameters().to_dataframe()
    assert made.to_dict("records") == [{"lr": 0.1, "model.depth": 50}]
    track = session.track("train/loss")
    track.append_batch([{"value": 1 / (n + 1), "step": n} for n in range(2500)])
    frame = track.to_dataframe()
    assert frame.shape == (2500, 3) and list(frame.columns) == ["value", "step", "createdAt"]
    assert frame.index.name == "index" and frame.loc[7, "step"] == 7
    part = track.to_dataframe(start_index=2490, limit=5)
    assert list(part.index) == [2490, 2491, 2492, 2493, 2494] and list(part["step"]) == list(part.index)
    assert len(session.track("none").to_dataframe()) == 0
    every = session.tracks().to_dataframe()
    assert list(every["name"]) == ["train/loss"] and list(every["totalDataPoints"]) == [2500]
    with pytest.raises(ValueError, match="start_index is -1"):
        track.to_dataframe(start_index=-1)


def test_without_pandas(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'dreamlake\[pandas\]'"):
        session.files().to_dataframe()
