"""Parsers of containers: what they find in real files, and what they refuse."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from content_containers import gguf, golden, npy, npz, safetensors

from dreamlake.content.containers import Layout, Source, detect, pickles
from dreamlake.content.containers.source import MAX_READ, Odd
from dreamlake.content.tensors import read_tensor


def found(data: bytes) -> dict[str, Any]:
    layout = layout_of(data)
    return {t.name: read_tensor(t, lambda offset, size: data[offset : offset + size]) for t in layout.tensors}


def layout_of(data: bytes) -> Layout:
    layout = detect(data)
    assert layout is not None
    assert layout.size == len(data)
    assert detect(io.BytesIO(data)) == layout
    return layout


def test_torch_state_dict() -> None:
    data = golden("state.pt")
    layout = layout_of(data)
    assert layout.kind == "torch" and len(layout.runs) == 8
    assert [run.width for run in layout.runs] == [4] * 7 + [8]
    tensors = found(data)
    assert tensors["0.weight"].shape == (40, 16) and tensors["0.weight"].dtype == np.float32
    assert tensors["2.num_batches_tracked"] == 1
    assert (tensors["2.running_var"] > 0).all() and tensors["2.weight"].std() < 0.01


def test_torch_checkpoint_holds_the_same_weights_in_a_group_of_their_own() -> None:
    alone, whole = found(golden("state.pt")), found(golden("checkpoint.pt"))
    for name, array in alone.items():
        assert (whole[f"model.{name}"] == array).all()
    runs = layout_of(golden("checkpoint.pt")).runs
    model = [run for run in runs if run.group == "model"]
    assert [run.label for run in model] == [run.label for run in layout_of(golden("state.pt")).runs]
    assert len(runs) == 8 + 3 * 5
    assert whole["optimizer.state.0.exp_avg"].shape == (40, 16)


def test_torch_whole_module() -> None:
    assert (found(golden("module.pt"))["_modules.1._parameters.weight"] == found(golden("state.pt"))["1.weight"]).all()


def test_torch_oddities() -> None:
    layout = layout_of(golden("odd.pt"))
    dtypes = {tensor.name: tensor.dtype for tensor in layout.tensors}
    assert dtypes["half"] == "bfloat16" and dtypes["eight"] == "float8_e4m3fn"
    tensors = found(golden("odd.pt"))
    assert tensors["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["scalar"] == 2.5 and tensors["empty"].shape == (0, 3)
    assert (tensors["tied"] == tensors["tied_too"]).all()
    assert tensors["half"].view(np.uint16)[1] == 0x3F80


def test_torch_without_a_readable_pickle_still_has_its_storages() -> None:
    with zipfile.ZipFile(io.BytesIO(golden("state.pt"))) as old:
        entries = {entry.filename: old.read(entry) for entry in old.infolist()}
    entries["state/data.pkl"] = b"\x80\x02cbuiltins\neval\n."
    layout = layout_of(zipped(entries))
    assert len(layout.runs) == 8 and layout.tensors == ()


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        archive.comment = comment
    return file.getvalue()


def torch_like() -> dict[str, bytes]:
    return {"m/data.pkl": b"\x80\x02}.", "m/data/0": bytes(range(200)), "m/data/1": bytes(100)}


def test_zip_without_names() -> None:
    assert [run.length for run in layout_of(zipped(torch_like())).runs] == [200, 100]


def test_compressed_commented_or_doubled_zips_are_odd() -> None:
    assert detect(zipped(torch_like(), zipfile.ZIP_DEFLATED)) is None
    assert detect(zipped(torch_like(), comment=b"hello")) is None
    assert detect(zipped(torch_like()) + b"x") is None
    assert detect(b"x" + zipped(torch_like())) is None
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("m/data.pkl", b"\x80\x02}.")
            archive.writestr("m/data/0", b"1" * 50)
            archive.writestr("m/data/0", b"2" * 50)
    assert detect(file.getvalue()) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [(6, b"\x01\x00"), (8, b"\x08\x00"), (0, b"PK\x03\x05"), (26, b"\x03\x00")],
    ids=["encrypted", "deflated", "no entry", "another name"],
)
def test_zip_entries_that_differ_from_the_directory(field: int, value: bytes) -> None:
    data = bytearray(zipped(torch_like()))
    at = data.index(b"PK\x03\x04", 10) + field
    data[at : at + len(value)] = value
    assert detect(bytes(data)) is None


def test_zip_entries_that_overlap() -> None:
    data = bytearray(zipped(torch_like()))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    for at in (second + 20, second + 24):
        data[at : at + 4] = (250).to_bytes(4, "little")
    assert detect(bytes(data)) is None


def test_zip64_as_torch_writes_it() -> None:
    data = zipped(torch_like())
    end = data.index(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", data[end + 10 : end + 20])
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    plain_end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert layout_of(data[:end] + end64 + locator + plain_end).runs == layout_of(data).runs
    lying = end64[:24] + struct.pack("<QQQQ", count, count, size, start + 1)
    assert detect(data[:end] + lying + locator + plain_end) is None
    contradicting = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert detect(data[:end] + end64 + locator + contradicting) is None


def test_safetensors() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(4), "e": np.zeros((0, 4), np.float32)}
    data = safetensors(arrays, {"format": "pt"})
    assert {name: array.tolist() for name, array in found(data).items()} == {k: v.tolist() for k, v in arrays.items()}
    assert [run.label for run in layout_of(data).runs] == ["b", "a"]


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["a"].update(shape=[5]),
        lambda h: h["a"].update(data_offsets=[0, 17]),
        lambda h: h["a"].update(data_offsets=[16, 0]),
        lambda h: h["a"].update(data_offsets=[8, 24]),
        lambda h: h["a"].update(shape=[True, 4]),
        lambda h: h["a"].update(shape=[-1, -4]),
        lambda h: h["a"].update(shape=[1 << 60, 1 << 60]),
        lambda h: h["a"].update(dtype="F33"),
        lambda h: h["a"].pop("dtype"),
        lambda h: h.update(b=h["a"]),
        lambda h: h.update(a=[]),
        lambda h: h.pop("a"),
    ],
)
def test_safetensors_that_lie(change: Any) -> None:
    data = safetensors({"a": np.arange(4, dtype=np.float32)})
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode().ljust(120)
    assert detect(struct.pack("<Q", len(text)) + text + data[8 + size :]) is None


def test_safetensors_with_one_name_twice() -> None:
    one = '{"dtype":"U8","shape":[8],"data_offsets":[%d,%d]}'
    text = ('{"a":' + one % (0, 8) + ',"a":' + one % (8, 16) + "}").encode()
    assert detect(struct.pack("<Q", len(text)) + text + bytes(16)) is None


def test_npz_and_npy() -> None:
    arrays = {
        "a": np.arange(10.0),
        "f": np.asfortranarray(np.arange(12).reshape(3, 4)),
        "s": np.array(5, np.int16),
        "b": np.array([True, False]),
        "c": np.array([1 + 2j]),
    }
    tensors = found(npz(**arrays))
    for name, array in arrays.items():
        assert tensors[name].tolist() == array.tolist()
    assert found(npy(arrays["f"]))[""].tolist() == arrays["f"].tolist()
    layout = layout_of(npz(x=np.arange(3, dtype=">f4"), y=np.zeros(3, [("a", "<f4"), ("b", "<i2")])))
    assert [run.width for run in layout.runs] == [4, 0] and layout.tensors == ()
    assert detect(npz(x=np.arange(100))[:-1]) is None
    assert detect(npy(np.arange(100))[:-8]) is None
    assert detect(npy(np.arange(100)) + bytes(8)) is None


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-25,)}",
        "{'descr': '<f4', 'shape': (25,)}",
        "__import__('os').system('true')",
        "(" * 5000,
        "{'descr': '|O', 'fortran_order': False, 'shape': (True,)}",
    ],
)
def test_npy_headers_of_strangers(header: str) -> None:
    text = header.encode()
    assert detect(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)) is None


def test_gguf() -> None:
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.arange(5, dtype=np.float16)}
    tensors = found(gguf(arrays))
    assert tensors["a"].tolist() == arrays["a"].tolist() and tensors["b"].tolist() == arrays["b"].tolist()
    assert detect(gguf(arrays, version=9)) is None
    assert detect(gguf(arrays)[:-70]) is None
    data = bytearray(gguf(arrays))
    data[8:16] = (1 << 40).to_bytes(8, "little")
    assert detect(bytes(data)) is None


def test_hdf5() -> None:
    tensors = found(golden("weights.h5"))
    assert len(tensors) == 25
    assert tensors["layers/dense_3/vars/0"].tolist() == (np.arange(12).reshape(3, 4) + 3).tolist()
    assert tensors["layers/dense_3/vars/1"].dtype == np.float16
    assert tensors["step"] == 7
    assert "packed" not in tensors and "big_endian" not in tensors


def test_keras() -> None:
    inner = golden("weights.h5")
    data = zipped({"metadata.json": b"{}", "config.json": b"{}" * 100, "model.weights.h5": inner})
    assert layout_of(data).kind == "keras"
    alone, inside = found(inner), found(data)
    assert list(alone) == list(inside) and all((alone[name] == inside[name]).all() for name in alone)
    assert detect(zipped({"model.weights.h5": inner[:3000]})) is None


def test_a_pickle_is_read_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    assert pickles.scan(pickle.dumps({"a": Evil(), "b": [1, 2.5, None, True, "x", b"y", 1 << 70]}, 2)) == []
    assert pickles.scan(pickle.dumps({"a": Evil()}, 4)) == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80",
        b"X\xff\xff\xff\xff.",
        b"(" * 1000,
        b"t.",
        b"h\x05.",
        b"cos\nsystem\n",
        b"I123\n.",
        b"c" + b"a" * 1000,
        b"}}\x86Q.",
        b"}(K\x01u.",
    ],
)
def test_pickles_that_cannot_be_followed(data: bytes) -> None:
    with pytest.raises(Odd):
        pickles.scan(data)


def test_a_pickle_of_nested_copies_is_walked_once() -> None:
    level: Any = ()
    for _ in range(60):
        level = (level, level)
    assert pickles.scan(pickle.dumps(level, 2)) == []


def test_other_files_are_no_containers() -> None:
    for data in (b"", b"short", b"text " * 100, b"PK\x05\x06" + bytes(18), bytes(1000), b"GGUF" + bytes(100)):
        assert detect(data) is None
    assert detect(zipped({"readme.txt": b"hello " * 20})) is None


def test_reading_is_bounded() -> None:
    source = Source(bytes(100))
    for offset, size in ((-1, 5), (0, 101), (99, 2), (5, -1)):
        with pytest.raises(Odd):
            source.read(offset, size)
    with pytest.raises(Odd):
        Source(io.BytesIO(b""), size=MAX_READ + 2).read(0, MAX_READ + 1)
    with pytest.raises(Odd):
        Source(io.BytesIO(b"abc"), size=10).read(0, 10)
