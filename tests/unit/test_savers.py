"""The savers, with the real libraries: what is read back is what was saved, and no temporary file is left."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from dreamlake import Session
from dreamlake.errors import InvalidInput, InvalidType, StateError

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("lake")


@pytest.fixture
def files(root, request, tmp_path, monkeypatch):
    """Files of a session of the test's own; the current folder is empty and stays so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Session(hashlib.sha256(request.node.name.encode()).hexdigest(), "savers", local_path=root) as session:
        yield session.files()
    assert list(tmp_path.iterdir()) == []


ATTRIBUTES = {"path": "/out", "description": "about", "tags": ["t"], "metadata": {"epoch": np.int64(3)}}


def check(record, files, filename, content_type):
    """Every saver returns the record that upload returns, and takes the same attributes."""
    assert record == files.get(f"/out/{filename}")
    assert (record["path"], record["filename"], record["contentType"]) == ("/out", filename, content_type)
    assert (record["description"], record["tags"], record["metadata"]) == ("about", ["t"], {"epoch": 3})
    return files.read_bytes(record)


@pytest.mark.parametrize(
    "data", [b"\0\xff", bytearray(b"ab"), memoryview(b"abcd")[::2], b""], ids=lambda d: type(d).__name__
)
def test_bytes(files, data):
    assert check(files.save_bytes(data, "x.bin", **ATTRIBUTES), files, "x.bin", "application/octet-stream") == bytes(
        data
    )


def test_text(files):
    data = check(files.save_text("ü\r\nline\n", "x.txt", **ATTRIBUTES), files, "x.txt", "text/plain")
    assert data == "ü\r\nline\n".encode()
    assert files.read_text("/out/x.txt") == "ü\r\nline\n"
    files.save_text("ü", "latin.txt", encoding="latin-1")
    assert files.read_bytes("latin.txt") == b"\xfc"
    assert files.read_text("latin.txt", encoding="latin-1") == "ü"


def test_json(files):
    value = {
        "b": [1, 2.5, None, True],
        "a": np.float32(0.5),
        "tensor": torch.tensor(3),
        "when": datetime(2026, 1, 31, tzinfo=timezone.utc),
        "where": Path("/x"),
        "ü": "日本",
    }
    data = check(files.save_json(value, "x.json", **ATTRIBUTES), files, "x.json", "application/json")
    assert json.loads(data) == {
        "b": [1, 2.5, None, True], "a": 0.5, "tensor": 3, "when": "2026-01-31T00:00:00Z", "where": "/x", "ü": "日本",
    }  # fmt: skip
    assert data.startswith(b'{\n  "b": [')  # in the order given, for people
    assert data.endswith(b"}\n")
    assert files.read_text(files.save_json([1, 2], "small.json", indent=None)) == "[1,2]\n"


def test_json_is_strict(files):
    files.save_json({"loss": math.nan, "best": -math.inf}, "x.json")
    text = files.read_text("x.json")
    assert json.loads(text, parse_constant=pytest.fail) == {"loss": {"$float": "nan"}, "best": {"$float": "-inf"}}


def test_json_may_be_larger_than_metadata(files):
    value = ["x" * 1000] * 6000
    assert json.loads(files.read_bytes(files.save_json(value, "large.json"))) == value


def test_figure(files):
    figure, axes = plt.subplots()
    axes.plot([1, 2], [3, 4])
    data = check(files.save_figure(figure, "loss.png", dpi=50, **ATTRIBUTES), files, "loss.png", "image/png")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width = int.from_bytes(data[16:20], "big")
    assert width == figure.get_figwidth() * 50
    same = files.save_figure(axes, "axes.png", dpi=50)
    current = files.save_figure(plt, "current.png", dpi=50)
    assert same["checksum"] == current["checksum"] == files.get("/out/loss.png")["checksum"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("suffix", "start", "kind"),
    [("pdf", b"%PDF", "application/pdf"), ("svg", b"<?xml", "image/svg+xml"), ("SVG", b"<?xml", "image/svg+xml"),
     ("jpg", b"\xff\xd8", "image/jpeg"), ("tar.png", b"\x89PNG", "image/png")],
)  # fmt: skip
def test_figure_format_is_the_suffix(files, suffix, start, kind):
    figure = Figure()  # without pyplot, as in servers
    figure.subplots().plot([1, 2])
    record = files.save_figure(figure, f"loss.{suffix}")
    assert files.read_bytes(record).startswith(start)
    assert record["contentType"] == kind


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


def test_torch(files):
    state = {"model": model().state_dict(), "epoch": 3, "optimizer": [1.0, {"lr": 0.1}]}
    data = check(files.save_torch(state, "best.pth", **ATTRIBUTES), files, "best.pth", "application/octet-stream")
    back = torch.load(io.BytesIO(data), weights_only=True)
    assert back["epoch"] == 3
    assert all(torch.equal(back["model"][key], value) for key, value in state["model"].items())
    with files.open("/out/best.pth") as stream:
        again = torch.load(stream, weights_only=True)
    assert torch.equal(again["model"]["0.weight"], state["model"]["0.weight"])


def test_torch_is_the_same_under_every_name(files):
    """``torch.save`` to a path writes the file's stem into the file; the saver does not know a stem."""
    state = model().state_dict()
    first, second = files.save_torch(state, "checkpoint_10.pth"), files.save_torch(state, "best_model.pth")
    assert first["checksum"] == second["checksum"]


def test_torch_larger_than_memory_is_used(files, monkeypatch):
    monkeypatch.setattr("dreamlake.savers._IN_MEMORY", 1000)
    value = torch.arange(100_000, dtype=torch.float32)
    with files.open(files.save_torch(value, "large.pt")) as stream:
        assert torch.equal(torch.load(stream, weights_only=True), value)


def test_safetensors_of_torch(files):
    state = {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16), "none": torch.zeros(0)}
    record = files.save_safetensors(state, "m.safetensors", header={"format": "pt", "note": "ü"}, **ATTRIBUTES)
    data = check(record, files, "m.safetensors", "application/octet-stream")
    back = safetensors.torch.load(data)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
    length = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + length])["__metadata__"] == {"format": "pt", "note": "ü"}


def test_safetensors_of_numpy(files):
    state = {
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "every second": np.arange(12)[::2],
        "reversed": np.arange(4.0)[::-1],
        "repeated": np.broadcast_to(np.int8(7), (2, 3)),
        "scalar": np.float64(0.5),
        "0-d": np.array(True),
        "big-endian": np.arange(3, dtype=">i2"),
    }
    back = safetensors.numpy.load(files.read_bytes(files.save_safetensors(state, "m.safetensors")))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert np.array_equal(back[key], value), key
        assert back[key].shape == value.shape


def test_numpy_array(files):
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    data = check(files.save_numpy(array, "x.npy", **ATTRIBUTES), files, "x.npy", "application/octet-stream")
    back = np.load(io.BytesIO(data), allow_pickle=False)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@pytest.mark.parametrize("value", [[1, 2], 5, np.float32(2), torch.ones(2), np.asfortranarray(np.eye(3))], ids=repr)
def test_numpy_of_what_is_like_an_array(files, value):
    back = np.load(io.BytesIO(files.read_bytes(files.save_numpy(value, "x.npy"))), allow_pickle=False)
    assert np.array_equal(back, np.asarray(value))


def test_numpy_mapping(files):
    arrays = {"file": np.zeros(2), "allow_pickle": np.ones((2, 2)), "a/b": np.arange(3), "ü": np.array("text")}
    data = check(files.save_numpy(arrays, "x.npz", **ATTRIBUTES), files, "x.npz", "application/octet-stream")
    with np.load(io.BytesIO(data), allow_pickle=False) as back:
        assert set(back.files) == set(arrays)
        assert all(np.array_equal(back[key], value) for key, value in arrays.items())
    assert files.save_numpy(arrays, "again.npz")["checksum"] == files.get("/out/x.npz")["checksum"]


def test_numpy_larger_than_memory_is_used(files, monkeypatch):
    monkeypatch.setattr("dreamlake.savers._IN_MEMORY", 1000)
    with np.load(io.BytesIO(files.read_bytes(files.save_numpy({"a": np.arange(100_000)}, "x.npz")))) as back:
        assert np.array_equal(back["a"], np.arange(100_000))


class NotAFigure:
    savefig = "no function"


WRONG = [
    (lambda f: f.save_bytes("text", "x"), InvalidType, "save_bytes needs bytes, not str"),
    (lambda f: f.save_text(b"x", "x"), InvalidType, "save_text needs text, not bytes"),
    (lambda f: f.save_text("ü", "x", encoding="ascii"), ValueError, "ascii"),
    (lambda f: f.save_json({"a": {1, 2}}, "x.json"), InvalidType, r"value\['a'\] is a builtins.set"),
    (lambda f: f.save_json({1: 2}, "x.json"), InvalidType, "keys must be text"),
    (lambda f: f.save_figure(Figure(), "plot"), InvalidInput, "filename 'plot' needs a suffix .* e.g. '.png'"),
    (lambda f: f.save_figure(Figure(), "plot.xyz"), ValueError, "Format 'xyz' is not supported"),
    (lambda f: f.save_figure(None, "plot.png"), InvalidType, "needs a matplotlib figure, not NoneType"),
    (lambda f: f.save_figure(NotAFigure(), "plot.png"), InvalidType, "needs a matplotlib figure, not NotAFigure"),
    (lambda f: f.save_torch(lambda: 1, "x.pt"), (AttributeError, Exception), "pickle"),
    (lambda f: f.save_safetensors([1], "x.st"), InvalidType, "save_safetensors needs a mapping of names, not list"),
    (lambda f: f.save_safetensors({1: torch.zeros(1)}, "x.st"), InvalidType, "names of text, not 1 of type int"),
    (lambda f: f.save_safetensors({"a": [1]}, "x.st"), InvalidType, "'a' is a list"),
    (lambda f: f.save_safetensors({"a": torch.zeros(1)}, "x.st", header={"a": 1}), InvalidType, "text only, not 'a'"),
    (lambda f: f.save_safetensors({"a": torch.zeros(2, 3).t()}, "x.st"), ValueError, "non contiguous tensor: `a`"),
    (lambda f: f.save_numpy(np.array([object()]), "x.npy"), InvalidType, "object arrays .'x.npy'.: they would"),
    (lambda f: f.save_numpy({"a": [object()]}, "x.npz"), InvalidType, "object arrays .'a'."),
    (lambda f: f.save_numpy({1: np.zeros(1), "1": np.ones(1)}, "x.npz"), InvalidType, "names of text, not 1"),
    (lambda f: f.save_bytes(b"x", "x", colour="red"), TypeError, "colour"),
    (lambda f: f.save_bytes(b"x"), TypeError, "filename"),
]  # fmt: skip
SAVERS = [
    lambda f, **more: f.save_bytes(b"x", **more),
    lambda f, **more: f.save_text("x", **more),
    lambda f, **more: f.save_json({}, **more),
    lambda f, **more: f.save_figure(NotAFigure(), **more),
    lambda f, **more: f.save_torch(1, **more),
    lambda f, **more: f.save_safetensors({}, **more),
    lambda f, **more: f.save_numpy([], **more),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_input_changes_nothing(files, call, error, message):
    with pytest.raises(error, match=message):
        call(files)
    assert files.list() == []


@pytest.mark.parametrize("save", SAVERS, ids=range(len(SAVERS)))
def test_every_saver_checks_names_and_the_session_first(files, save):
    for name, error in (
        ("../x.png", ValueError),
        ("", ValueError),
        ("a\0.png", ValueError),
        (5, TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="filename"):
            save(files, filename=name)
    with Session("other", "savers", local_path=files._store.root) as session:
        other = session.files()
    with pytest.raises(StateError, match="savers/other is not open"):
        save(other, filename="x.png")
    assert files.list() == []


def test_path_and_attributes_are_checked(files):
    for wrong in ({"path": ".."}, {"tags": "x"}, {"metadata": {"a": object()}}, {"description": 5}):
        with pytest.raises((ValueError, TypeError)):
            files.save_text("x", "x.txt", **wrong)
    assert files.list() == []
