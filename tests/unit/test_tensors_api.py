"""``files().tensors`` and ``files().tensor``: what the real libraries wrote, read alone, coded and whole."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dreamlake import Session
from dreamlake.content.names import recipe_key
from dreamlake.errors import Corrupt, InvalidInput, InvalidType, NotFound
from dreamlake.operations.tensor_access import open_local

sys.path.insert(0, str(Path(__file__).with_name("content")))
from content_containers import gguf, golden, npy, npz

PACKAGE = Path(__file__).resolve().parents[2]
_SAME_BITS = {torch.bfloat16: torch.uint16, torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}


@pytest.fixture
def files(memory_path):
    with Session("run-1", "vision", local_path=memory_path) as session:
        yield session.files()


def stored_as_recipe(files, path):
    checksum = files.get(path)["checksum"]
    keys = {copy.key for copy in files._store.blobs.copies()}
    assert (recipe_key(checksum) in keys) != (checksum in keys)
    return recipe_key(checksum) in keys


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state(rows):
    """A state_dict of every common type; with 700 rows it has more than a MiB."""
    return {
        "embed.weight": normal(1, rows, 512),
        "embed.half": normal(2, rows, 64).bfloat16(),
        "block.weight": normal(3, rows, 128).half(),
        "block.bias": normal(4, 512),
        "norm.eight": normal(5, 8, 64).to(torch.float8_e4m3fn),
        "norm.five": normal(6, 8).to(torch.float8_e5m2),
        "steps": torch.tensor(12345678901),
        "ids": torch.arange(600).reshape(2, 300),
        "mask": torch.tensor([True, False, True]),
        "double": normal(7, 5).double(),
    }


def torch_bytes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def check(found, listed, tensors):
    """Names, types, shapes and bits: ``tensors`` maps names to torch tensors."""
    assert {row["name"]: (row["dtype"], row["shape"], row["nbytes"]) for row in listed} == {
        name: (str(t.dtype).removeprefix("torch."), list(t.shape), t.numel() * t.element_size())
        for name, t in tensors.items()
    }
    for name, tensor in tensors.items():
        array, wanted = found(name), tensor.contiguous().view(_SAME_BITS.get(tensor.dtype, tensor.dtype)).numpy()
        if tensor.dtype in _SAME_BITS:
            array = array.view(wanted.dtype)  # with ml_dtypes installed it has their types
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype), name
        assert array.tobytes() == wanted.tobytes(), name
        assert array.flags.writeable and array.flags.c_contiguous, name


# ---- every kind of container, stored as parts and whole ------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["auto", "raw"])
@pytest.mark.parametrize("rows", [700, 3])
@pytest.mark.parametrize("write", [torch_bytes, safetensors.torch.save], ids=["torch", "safetensors"])
def test_torch_and_safetensors(files, write, rows, encoding):
    tensors = state(rows)
    files.upload(write(tensors), filename="m", encoding=encoding)
    assert stored_as_recipe(files, "m") == (rows == 700 and encoding == "auto")
    check(lambda name: files.tensor("m", name), files.tensors("m"), tensors)


def test_a_torch_checkpoint_with_nested_names_and_odd_strides(files):
    weight = normal(1, 600, 512)
    model, moments = {"w": weight, "tied": weight, "t": weight.T}, {"exp_avg": weight * 2, "step": torch.tensor(3.0)}
    files.upload(torch_bytes({"epoch": 3, "model": model, "optimizer": {"state": {0: moments}}}), filename="c.pt")
    assert stored_as_recipe(files, "c.pt")
    wanted = {f"model.{name}": tensor for name, tensor in model.items()}
    wanted |= {f"optimizer.state.0.{name}": tensor for name, tensor in moments.items()}
    check(lambda name: files.tensor("c.pt", name), files.tensors("c.pt"), wanted)


@pytest.mark.parametrize("encoding", ["auto", "raw"])
@pytest.mark.parametrize("write", [lambda arrays: npz(**arrays), gguf], ids=["npz", "gguf"])
def test_npz_and_gguf(files, write, encoding):
    draw = np.random.default_rng(0).normal
    arrays = {"w": draw(size=(600, 512)).astype(np.float32), "h": draw(size=(3, 2, 4)).astype(np.float16)}
    files.upload(write(arrays), filename="m", encoding=encoding)
    assert stored_as_recipe(files, "m") == (encoding == "auto")
    wanted = {name: torch.from_numpy(array) for name, array in arrays.items()}
    check(lambda name: files.tensor("m", name), files.tensors("m"), wanted)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_has_one_tensor_without_a_name(files, order):
    array = np.asarray(np.random.default_rng(0).normal(size=(600, 512)), np.float32, order=order)
    files.upload(npy(array), filename="a.npy")
    assert files.tensors("a.npy") == [{"name": "", "dtype": "float32", "shape": [600, 512], "nbytes": array.nbytes}]
    for found in (files.tensor("a.npy"), files.tensor("a.npy", "")):
        assert found.tobytes() == array.tobytes() and found.shape == array.shape


def test_hdf5_that_h5py_wrote(files):
    files.upload(golden("weights.h5"), filename="weights.h5")
    listed = {row["name"]: row for row in files.tensors("weights.h5")}
    assert len(listed) == 25 and "packed" not in listed and "big_endian" not in listed
    assert listed["layers/dense_3/vars/0"] == {
        "name": "layers/dense_3/vars/0", "dtype": "float32", "shape": [3, 4], "nbytes": 48,
    }  # fmt: skip
    found = files.tensor("weights.h5", "layers/dense_3/vars/0")
    assert found.dtype == np.float32 and found.tolist() == (np.arange(12).reshape(3, 4) + 3).tolist()
    assert files.tensor("weights.h5", "step")[()] == 7


def test_a_container_that_was_cut_as_mere_bytes(files):
    """Too little of it is tensors to be cut at their borders, but with "coded" it is stored in parts nevertheless."""
    arrays = {f"a{i}": np.full(30, i, np.float32) for i in range(4500)}
    files.upload(npz(**arrays), filename="many.npz", encoding="coded")
    assert stored_as_recipe(files, "many.npz")
    assert [row["name"] for row in files.tensors("many.npz")] == list(arrays)
    assert files.tensor("many.npz", "a4321").tolist() == [4321.0] * 30


# ---- which file, which tensor ---------------------------------------------------------------------------------------


def test_versions_aliases_ids_and_records(files):
    for epoch in (1, 2, 3):
        record = files.save_torch({"w": torch.full((2,), float(epoch))}, "m.pth", path="/models")
        if epoch == 2:
            files.alias("/models/m.pth", "best")
    for reference, epoch in (
        ("/models/m.pth", 3), ("models/m.pth@v1", 1), ("/models/m.pth@best", 2), (record, 3), (record["id"], 3),
    ):  # fmt: skip
        assert files.tensor(reference, "w").tolist() == [epoch, epoch]
        assert files.tensors(reference)[0]["shape"] == [2]


def test_an_unknown_name_suggests_those_like_it(files):
    files.save_torch({f"encoder.{i}.weight": torch.zeros(1) for i in range(30)} | {"head": torch.zeros(1)}, "m.pth")
    with pytest.raises(NotFound, match=r"/m\.pth has no tensor 'encodr\.7\.weight'; it has 'encoder\.7\.weight', "):
        files.tensor("m.pth", "encodr.7.weight")
    with pytest.raises(NotFound, match=r"it has 'encoder\.29\.weight' \(of 31\)$"):
        files.tensor("m.pth", "29")
    with pytest.raises(NotFound, match=r"not exactly one tensor; name one; it has .* \(of 31\)"):
        files.tensor("m.pth")
    with pytest.raises(FileNotFoundError, match="it has none that can be read"):
        files.tensor(files.save_torch({"epoch": 3}, "empty.pth"), "w")
    assert files.tensors("empty.pth") == []


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"PK\x03\x04 and then nothing of a zip", b"x" * (2 << 20)],
    ids=["empty", "text", "half a zip", "large"],
)
@pytest.mark.parametrize("encoding", ["raw", "coded"])
def test_what_is_no_container(files, data, encoding):
    files.upload(data, filename="a.bin", encoding=encoding)
    for call in (lambda: files.tensors("a.bin"), lambda: files.tensor("a.bin", "w")):
        with pytest.raises(InvalidInput, match=r"/a\.bin is no container of tensors"):
            call()


def test_a_compressed_npz_says_what_to_do(files):
    file = io.BytesIO()
    np.savez_compressed(file, w=np.zeros(9))
    files.upload(file.getvalue(), filename="z.npz")
    with pytest.raises(InvalidInput, match="not compressed"):
        files.tensors("z.npz")


def test_bad_arguments(files):
    files.save_torch({"w": torch.zeros(1)}, "m.pth")
    with pytest.raises(InvalidType, match="name of a tensor is text, not int"):
        files.tensor("m.pth", 0)
    for call in (files.tensors, lambda path: files.tensor(path, "w")):
        with pytest.raises(NotFound, match=r"no file 'nowhere\.pth'"):
            call("nowhere.pth")


def test_a_closed_session(memory_path):
    with Session("run-1", "vision", local_path=memory_path) as session:
        files = session.files()
        files.save_torch({"w": torch.zeros(1)}, "m.pth")
    with pytest.raises(RuntimeError):
        files.tensors("m.pth")
    with pytest.raises(RuntimeError):
        files.tensor("m.pth", "w")


# ---- how it is read -------------------------------------------------------------------------------------------------


class Watched:
    """Blobs that note which keys are opened."""

    def __init__(self, blobs):
        self._blobs, self.opened = blobs, []

    def __getattr__(self, name):
        return getattr(self._blobs, name)

    def open(self, key):
        self.opened.append(key)
        return self._blobs.open(key)


@pytest.fixture
def watched(files):
    blobs = Watched(files._store.blobs)
    object.__setattr__(files._store, "blobs", blobs)
    return blobs


def test_only_the_parts_that_a_tensor_touches_are_read(files, watched):
    tensors = {f"layer.{i}.weight": normal(i, 1024, 512) for i in range(8)}
    files.upload(torch_bytes(tensors), filename="m.pth")
    watched.opened.clear()
    assert np.array_equal(files.tensor("m.pth", "layer.5.weight"), tensors["layer.5.weight"].numpy())
    parts = [key for key in watched.opened if key.startswith("b3-")]
    assert len(set(parts)) == 1
    watched.opened.clear()
    assert len(files.tensors("m.pth")) == 8
    assert [key[:3] for key in watched.opened] == ["rc-"]


def test_a_tensor_of_many_parts_is_put_together_from_all_of_them(files):
    large = torch.arange(10 << 20, dtype=torch.int32).reshape(1024, -1)  # 40 MiB, three parts
    files.upload(torch_bytes({"a": normal(1, 9), "large": large}), filename="m.pth")
    assert stored_as_recipe(files, "m.pth")
    assert np.array_equal(files.tensor("m.pth", "large"), large.numpy())


def test_damage_is_an_error_and_never_a_wrong_number(files, watched):
    files.upload(torch_bytes({"w": normal(1, 700, 512), "b": normal(2, 9)}), filename="m.pth")
    watched.opened.clear()
    files.tensor("m.pth", "w")
    (part,) = {key for key in watched.opened if key.startswith("b3-")}
    path = Path(watched.file(part))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        files.tensor("m.pth", "w")
    path.unlink()
    with pytest.raises(Corrupt, match=f"part {part} of content .* is missing"):
        files.tensor("m.pth", "w")
    assert files.tensors("m.pth")[0]["name"] == "w"  # what the recipe says needs no part


def test_torch_is_not_needed(memory_path):
    with Session("run-1", "vision", local_path=memory_path) as session:
        session.files().upload(torch_bytes({"w": torch.arange(400_000.0)}), filename="m.pth")
    code = f"""
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None
from dreamlake import Session
with Session("run-1", "vision", local_path={str(memory_path)!r}) as session:
    print(session.files().tensors("m.pth"))
    print(session.files().tensor("m.pth", "w")[[0, -1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(PACKAGE)}, check=True
    )
    assert done.stdout == (
        "[{'name': 'w', 'dtype': 'float32', 'shape': [400000], 'nbytes': 1600000}]\n[     0. 399999.]\n"
    )


def test_a_local_file_that_shrinks_is_damage(tmp_path):
    path = tmp_path / "m.npy"
    path.write_bytes(npy(np.arange(1000.0)))
    with open_local(str(path)) as found:
        with path.open("r+b") as file:
            file.truncate(500)
        with pytest.raises(Corrupt, match=r"the file ends before byte 8,128; did it change meanwhile\?"):
            found.array(found.tensors[0])


def test_a_local_file_that_is_no_container_is_closed_again(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    assert open_local(str(tmp_path / "a.txt")) is None  # an open file would be a ResourceWarning, and so an error
