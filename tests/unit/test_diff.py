"""``Lake.diff``: files, shared bytes and single tensors; golden numbers, and NumPy's own formulas beside them."""

from __future__ import annotations

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dreamlake import Session, open_lake
from dreamlake.content.containers import Tensor
from dreamlake.errors import Corrupt, InvalidInput, InvalidType, NotFound
from dreamlake.model import SessionKey
from dreamlake.operations import tensor_diff
from dreamlake.operations.sides import Place
from dreamlake.operations.tensor_access import open_local
from dreamlake.operations.tensor_diff import Measure, TensorChange, compare


def tensors_of(tmp_path, a, b, suffix="npz"):
    """Compare two dicts of arrays (npz) or tensors (pth, safetensors) as files on disk; name -> change."""
    paths = []
    for number, content in enumerate((a, b)):
        path = tmp_path / f"{number}.{suffix}"
        if suffix == "npz":
            np.savez(path, **content)
        elif suffix == "pth":
            torch.save(content, path)
        else:
            safetensors.torch.save_file(content, path)
        paths.append(str(path))
    with open_local(paths[0]) as first, open_local(paths[1]) as second:
        return {change.name: change for change in compare(first, second)}


def measure(tmp_path, a, b, suffix="npz"):
    found = tensors_of(tmp_path, {"x": a}, {"x": b}, suffix)["x"]
    assert found.measure is not None
    return found.change, found.measure


# ---- one tensor ------------------------------------------------------------------------------------------------------


def test_golden_numbers(tmp_path):
    before, after = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]]), np.array([[3.0, 0.5, 4.0], [0.0, -1.2, 0.0]])
    assert measure(tmp_path, before, after) == ("changed", Measure(6, 2, 1.2, 0.26, (0, 0), (0, 0)))
    assert measure(tmp_path, before, before.copy()) == ("same", Measure(6, 0, 0.0, 0.0, (0, 0), (0, 0)))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "uint8", "uint16", "uint32", "complex64"]
)
def test_measures_are_those_of_numpy(tmp_path, dtype):
    rng = np.random.default_rng(3)
    before = (rng.normal(size=(300, 500)) * 50 + 100).astype(dtype)
    after = before.copy()
    moved = rng.random(before.shape) < 0.1
    after[moved] = (after[moved] + rng.integers(1, 20, int(moved.sum())).astype(dtype)).astype(dtype)
    change, found = measure(tmp_path, before, after)
    wide = np.complex128 if dtype == "complex64" else np.float64
    difference = after.astype(wide) - before.astype(wide)
    assert (change, found.elements, found.changed) == ("changed", 150_000, int((before != after).sum()))
    assert found.max_abs == np.abs(difference).max()
    assert found.relative == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(before.astype(wide)), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.int64])
def test_types_that_numpy_does_not_have(tmp_path, dtype):
    before = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)).mul(3).trunc().to(dtype)
    after = before.clone()
    after[::7] = torch.roll(before, 1, 1)[::7]
    for suffix in ("pth", "safetensors"):
        change, found = measure(tmp_path, before, after, suffix)
        a, b = before.double(), after.double()
        assert (change, found.elements, found.changed) == ("changed", 3200, int((a != b).sum()))
        assert found.max_abs == (b - a).abs().max().item()
        assert found.relative == pytest.approx((torch.linalg.norm(b - a) / torch.linalg.norm(a)).item(), rel=1e-12)


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16"]
)
def test_every_pattern_of_a_narrow_type_has_the_value_that_torch_gives_it(dtype):
    patterns = torch.arange(256 if dtype != "bfloat16" else 65536)
    raw = patterns.to(torch.uint8 if dtype != "bfloat16" else torch.uint16).view(getattr(torch, dtype))
    wanted = raw.double().numpy()
    data = raw.view(torch.uint8 if dtype != "bfloat16" else torch.uint16).numpy().tobytes()
    found = tensor_diff._numbers(data, dtype)
    assert np.array_equal(found, wanted, equal_nan=True)
    number = ~np.isnan(wanted)
    assert np.array_equal(np.signbit(found[number]), np.signbit(wanted[number]))


def test_nan_equals_itself_and_is_counted(tmp_path):
    nan, inf = math.nan, math.inf
    before = np.array([1.0, nan, nan, 2.0, inf, -inf, inf, 0.0])
    after = np.array([1.0, nan, 5.0, nan, inf, inf, 3.0, 2.0])
    change, found = measure(tmp_path, before, after)
    assert (change, found.elements, found.changed) == ("changed", 8, 5)
    assert (found.nan, found.inf) == ((2, 2), (3, 2))
    assert found.max_abs == 2.0  # of the last one: what is not finite on one side has no size
    assert found.relative == 2.0  # sqrt(4) / sqrt(1)
    assert measure(tmp_path, before, before.copy())[0] == "same"
    change, found = measure(tmp_path, np.full(3, nan), np.zeros(3))
    assert (change, found) == ("changed", Measure(3, 3, 0.0, None, (3, 0), (0, 0)))


def test_nan_of_another_pattern_and_negative_zero_are_no_change(tmp_path):
    before = np.array([0x7FC00000, 0x00000000], np.uint32).view(np.float32)
    after = np.array([0x7F800001, 0x80000000], np.uint32).view(np.float32)  # the first one is a signalling NaN
    assert measure(tmp_path, before, after)[0] == "same"


def test_neighbours_beyond_two_to_the_53(tmp_path):
    for dtype, numbers in ((np.int64, [2**62, -(2**63), 0]), (np.uint64, [2**63, 2**64 - 1, 0])):
        before = np.array(numbers, dtype)
        after = before.copy()
        after[0] += 1
        change, found = measure(tmp_path, before, after)
        assert (change, found.changed, found.max_abs) == ("changed", 1, 1.0)
    wide = measure(tmp_path, np.array([-(2**63)]), np.array([2**63 - 1]))[1]
    assert wide.max_abs == float(2**64 - 1)


def test_numbers_whose_squares_are_too_large(tmp_path):
    change, found = measure(tmp_path, np.array([1e300, 2e300]), np.array([1e300, 4e300]))
    assert (change, found.changed, found.max_abs) == ("changed", 1, 2e300)
    assert found.relative is None or found.relative == pytest.approx(2 / math.sqrt(5))
    small = measure(tmp_path, np.array([1e-200, 0.0]), np.array([3e-200, 0.0]))[1]
    assert (small.changed, small.max_abs) == (1, pytest.approx(2e-200))


def test_a_tensor_of_zeros_has_no_relative_change(tmp_path):
    assert measure(tmp_path, np.zeros(4), np.ones(4)) == ("changed", Measure(4, 4, 1.0, None, (0, 0), (0, 0)))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_scalars_and_empty_tensors(tmp_path, shape):
    before, after = np.zeros(shape), np.ones(shape)
    change, found = measure(tmp_path, before, after)
    assert (change, found.elements) == ("changed" if shape == () else "same", 1 if shape == () else 0)


def test_another_type_is_named_and_measured(tmp_path):
    before = np.linspace(-1, 1, 1001)
    found = tensors_of(tmp_path, {"x": before}, {"x": before.astype(np.float16)})["x"]
    assert (found.change, found.before.dtype, found.after.dtype) == ("dtype", "float64", "float16")
    assert 0 < found.measure.relative < 1e-3 and found.measure.changed > 900


def test_another_shape_is_named(tmp_path):
    found = tensors_of(tmp_path, {"x": np.zeros((2, 3))}, {"x": np.zeros((3, 2), np.float32)})["x"]
    assert (found.change, found.before.shape, found.after.shape, found.measure) == ("shape", (2, 3), (3, 2), None)


def test_tensors_added_and_removed_in_the_order_of_the_file(tmp_path):
    one = np.ones(2)
    found = tensors_of(tmp_path, {"gone": one, "a": one, "b": one}, {"new": one, "b": one, "a": one * 2})
    assert [(name, change.change) for name, change in found.items()] == [
        ("new", "added"), ("b", "same"), ("a", "changed"), ("gone", "removed"),
    ]  # fmt: skip
    assert found["new"].before is None and found["gone"].after is None


def test_other_containers_of_the_same_names(tmp_path):
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).bfloat16()}
    torch.save(state, tmp_path / "a.pth")
    state["w"] += 1
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    with open_local(str(tmp_path / "a.pth")) as a, open_local(str(tmp_path / "b.safetensors")) as b:
        found = {change.name: change.change for change in compare(a, b)}
    assert found == {"w": "changed", "b": "same"}


def _strided():
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "transposed": (base.T, (base + 1).T),
        "one transposed": (base.T.contiguous(), (base + 1).T),
        "columns": (base[:, ::2], base[:, ::2] + 1),
        "expanded": (torch.ones(2, 1).expand(2, 3), 2 * torch.ones(2, 3)),
    }


@pytest.mark.parametrize("name", list(_strided()))
def test_elements_are_paired_whatever_their_order_in_the_file(tmp_path, name):
    before, after = _strided()[name]
    change, found = measure(tmp_path, before, after, "pth")
    assert (change, found.elements, found.changed, found.max_abs) == ("changed", before.numel(), before.numel(), 1.0)
    assert measure(tmp_path, before, before.contiguous(), "pth")[0] == "same"


def test_blocks_are_added_up(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    before = rng.normal(size=1000)
    after = before + rng.normal(size=1000) * (rng.random(1000) < 0.5)
    before[17] = after[400] = np.nan
    whole = measure(tmp_path, before, after)
    monkeypatch.setattr(tensor_diff, "_BLOCK", 7)
    change, found = measure(tmp_path, before, after)
    assert (change, found.changed, found.max_abs, found.nan) == (
        whole[0], whole[1].changed, whole[1].max_abs, whole[1].nan,
    )  # fmt: skip
    assert found.relative == pytest.approx(whole[1].relative)


def test_memory_is_bounded_however_large_a_tensor_is(tmp_path):
    large = np.zeros(8 << 20, np.float32)  # 32 MiB
    np.save(tmp_path / "a.npy", large)
    large[::1000] = 1
    np.save(tmp_path / "b.npy", large)
    with open_local(str(tmp_path / "a.npy")) as a, open_local(str(tmp_path / "b.npy")) as b:
        compare(a, b)  # imports
        tracemalloc.start()
        (found,) = compare(a, b)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found.measure.changed == len(large[::1000])
    assert peak < 8 << 20


def test_two_tensors_of_one_name_count_as_the_first():
    class File:
        def __init__(self, *tensors):
            self.tensors = tensors

        def pieces(self, tensor):
            return [(b"x", 0, 1)]

    first, second = Tensor("x", "int8", (1,), 0, 1), Tensor("x", "int8", (1,), 1, 1)
    assert compare(File(first, second), File(first, second)) == [TensorChange("x", "same", first, first)]


# ---- sessions, folders, files, versions -----


@pytest.fixture
def root(memory_path):
    return memory_path


def put(root, name, files, **options):
    """Upload {path: bytes or state_dict} to session vision/<name>."""
    with Session(name, "vision", local_path=root, **options) as session:
        for path, content in files.items():
            folder, _, filename = path.rpartition("/")
            if isinstance(content, dict):
                buffer = io.BytesIO()
                torch.save(content, buffer)
                content = buffer.getvalue()
            session.files().upload(content, filename=filename, path=folder or "/")


def changes(found):
    return [(change.change, change.moved_from, change.path) for change in found.changes]


def test_files_added_removed_changed_moved_and_the_same(root):
    shared = {"/notes/same.txt": b"same", "/plots/loss.svg": b"<svg/>"}
    put(root, "a", {**shared, "/config.json": b"{}", "/old.txt": b"old", "/logs/gone.txt": b"gone"})
    put(root, "b", {**shared, "/config.json": b"{1}", "/archive/old.txt": b"old", "/new.txt": b"new!"})
    found = open_lake(root).diff("vision/a", "vision/b")
    assert changes(found) == [
        ("changed", None, "config.json"), ("moved", "old.txt", "archive/old.txt"), ("added", None, "new.txt"),
        ("removed", None, "logs/gone.txt"),
    ]  # fmt: skip
    assert (found.a, found.b, found.same, found.differs) == ("vision/a", "vision/b", 2, True)
    assert [found.count(word) for word in ("added", "removed", "changed", "moved")] == [1, 1, 1, 1]
    assert found.sizes == (4 + 6 + 2 + 3 + 4, 4 + 6 + 3 + 3 + 4)
    assert found.shared == 4 + 6 + 3
    config, moved, new, gone = found.changes
    assert (config.before, config.after, config.shared, config.tensors) == (2, 3, 0, None)
    assert (moved.before, moved.after, moved.shared) == (3, 3, 3) and len(set(moved.checksums)) == 1
    assert (new.before, new.after, gone.before, gone.after) == (None, 4, 4, None)
    assert new.checksums[0] is None and gone.checksums[1] is None


def test_nothing_differs(root):
    put(root, "a", {"/x.txt": b"x", "/y/z.txt": b"zz"})
    put(root, "b", {"/y/z.txt": b"zz", "/x.txt": b"x"})
    found = open_lake(root).diff("vision/a", "vision/b")
    assert (found.differs, found.changes, found.same, found.shared) == (False, [], 2, 3)


def test_content_that_is_kept_and_also_elsewhere_is_added_not_moved(root):
    put(root, "a", {"/x": b"content"})
    put(root, "b", {"/x": b"content", "/y": b"content"})
    found = open_lake(root).diff("vision/a", "vision/b")
    assert changes(found) == [("added", None, "y")]
    assert (found.changes[0].shared, found.shared) == (7, 14)


def test_each_of_several_equal_files_moves_once(root):
    put(root, "a", {"/1": b"x", "/2": b"x", "/3": b"x"})
    put(root, "b", {"/4": b"x", "/5": b"x"})
    found = open_lake(root).diff("vision/a", "vision/b")
    assert changes(found) == [("moved", "1", "4"), ("moved", "2", "5"), ("removed", None, "3")]


STATE = {"w": torch.arange(400_000.0), "b": torch.zeros(3), "n": torch.tensor(1)}


def next_state():
    return {**STATE, "b": torch.tensor([0.0, 1.0, 0.0]), "n": torch.tensor(2)}


@pytest.mark.parametrize("encoding", ["auto", "raw"])
def test_two_versions_of_a_checkpoint(root, encoding):
    put(root, "a", {"/m.pth": STATE}, encoding=encoding)
    put(root, "a", {"/m.pth": next_state()}, encoding=encoding)
    found = open_lake(root).diff("vision/a:/m.pth@v1", "vision/a:/m.pth")
    assert (found.a, found.b) == ("vision/a:/m.pth@v1", "vision/a:/m.pth")
    (file,) = found.changes
    assert (file.change, file.path) == ("changed", "/m.pth")
    assert [(t.name, t.change) for t in file.tensors] == [("w", "same"), ("b", "changed"), ("n", "changed")]
    assert file.tensors[1].measure == Measure(3, 1, 1.0, None, (0, 0), (0, 0))
    assert file.tensors[2].measure == Measure(1, 1, 1.0, 1.0, (0, 0), (0, 0))
    assert (file.tensors[0].measure is None) == (encoding == "auto")  # equal parts tell it without reading
    assert file.shared == found.shared == 1_600_000
    assert not open_lake(root).diff("vision/a:/m.pth@v2", "vision/a:/m.pth").differs


def test_tensors_need_not_be_compared(root):
    put(root, "a", {"/m.pth": STATE})
    put(root, "b", {"/m.pth": next_state()})
    found = open_lake(root).diff("vision/a", "vision/b", tensors=False)
    assert found.changes[0].tensors is None and found.shared == 1_600_000  # the part is known from the recipes


def test_parts_that_another_file_holds_are_shared(root):
    put(root, "a", {"/last.pth": STATE})
    put(root, "b", {"/best.pth": {"epoch": 3, "model": next_state()}})
    found = open_lake(root).diff("vision/a", "vision/b")
    assert changes(found) == [("added", None, "best.pth"), ("removed", None, "last.pth")]
    assert found.changes[0].shared == found.shared == 1_600_000


def test_folders_are_compared_by_the_paths_below_them(root):
    put(root, "a", {"/epoch_1/m.pth": STATE, "/epoch_1/log.txt": b"1", "/epoch_2/m.pth": STATE, "/top.txt": b"t"})
    found = open_lake(root).diff("vision/a:/epoch_1", "vision/a:/epoch_2/")
    assert (changes(found), found.same) == ([("removed", None, "log.txt")], 1)


def test_two_files_of_other_names(root):
    put(root, "a", {"/last.pth": STATE, "/best.pth": next_state(), "/copy.pth": STATE})
    lake = open_lake(root)
    assert [t.change for t in lake.diff("vision/a:/last.pth", "vision/a:/best.pth").changes[0].tensors] == [
        "same", "changed", "changed",
    ]  # fmt: skip
    assert lake.diff("vision/a:/last.pth", "vision/a:/copy.pth").same == 1


def test_globs_aliases_and_places(root):
    put(root, "a", {"/m/1.pth": STATE, "/m/2.txt": b"x"})
    put(root, "b", {"/m/1.pth": next_state(), "/m/3.txt": b"y"})
    with Session("b", "vision", local_path=root) as session:
        session.files().alias("/m/1.pth", "best")
    lake = open_lake(root)
    assert changes(lake.diff("vision/a:/**/*.pth", "vision/b:/m/*.pth")) == [("changed", None, "m/1.pth")]
    assert lake.diff("vision/b:/m/1.pth@best", "vision/b:/m/1.pth").same == 1
    here = Place(SessionKey("vision", "a"), "/m/1.pth")
    assert lake.diff(here, "vision/b:/m/1.pth@best").count("changed") == 1


def test_a_stored_file_against_one_on_disk(root, tmp_path):
    put(root, "a", {"/m.pth": STATE, "/m/x.txt": b"x", "/m/y.txt": b"y"})
    torch.save(STATE, tmp_path / "local.pth")  # another stem, so another checksum
    found = open_lake(root).diff("vision/a:/m.pth", tmp_path / "local.pth")
    assert [t.change for t in found.changes[0].tensors] == ["same", "same", "same"]
    assert found.shared == 1_600_000 + 12 + 8  # no parts are known of it, but its tensors are the same
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "x.txt").write_bytes(b"x")
    (tmp_path / "m" / "z.txt").write_bytes(b"y")
    found = open_lake(root).diff("vision/a:/m", tmp_path / "m")
    assert (changes(found), found.same) == ([("moved", "y.txt", "z.txt")], 1)


def test_local_files_are_hashed_only_when_the_other_side_has_their_size(root, tmp_path):
    put(root, "a", {"/x": b"123"})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"1234")
    (tmp_path / "d" / "y").write_bytes(b"321")
    found = open_lake(root).diff("vision/a", tmp_path / "d")
    sums = {change.path: change.checksums[1] for change in found.changes}
    assert sums["x"] is None and len(sums["y"]) == 64


def test_what_cannot_be_listed_is_reported(root, tmp_path):
    put(root, "a", {"/x": b"123"})
    folder = tmp_path / "d"
    (folder / ".dreamlake").mkdir(parents=True)
    (folder / "x").write_bytes(b"123")
    found = open_lake(root).diff("vision/a", folder)
    assert (found.differs, found.skipped) == (False, ((f"{folder}/.dreamlake", "the store of a lake"),))


def test_an_empty_session(root):
    put(root, "a", {"/x": b"123"})
    put(root, "empty", {})
    assert changes(open_lake(root).diff("vision/empty", "vision/a")) == [("added", None, "x")]
    assert changes(open_lake(root).diff("vision/a:/", "vision/empty")) == [("removed", None, "x")]


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        ("vision", "vision/a", InvalidInput, "'vision' names no session; write WORKSPACE/SESSION"),
        ("vision/", "vision/a", InvalidInput, "'vision/' names no session"),
        ("vision/nowhere", "vision/a", NotFound, "no session 'vision/nowhere'"),
        ("vision/a", "vision/a:/nothing", NotFound, "no file '/nothing'"),
        ("vision/a", "vision/a:/*.zip", NotFound, "no file matches"),
        ("vision/a:/x", "vision/a:/x@v7", NotFound, "has no 'v7'"),
        ("vision/a:/x", "vision/a", InvalidInput, "vision/a:/x is a file and vision/a is not"),
        ("vision/a", "vision/a:/x", InvalidInput, "vision/a:/x is a file and vision/a is not"),
        ("vision/a", Path("nowhere.pth"), NotFound, "no file or folder nowhere.pth"),
        ("vision/a", Path("/dev/null"), InvalidInput, "/dev/null is neither a file nor a folder"),
        ("vision/a", 3, InvalidType, "not int"),
    ],
)
def test_bad_input(root, a, b, error, message):
    put(root, "a", {"/x": b"123"})
    with pytest.raises(error, match=message):
        open_lake(root).diff(a, b)


def test_damage_is_an_error(root):
    put(root, "a", {"/m.pth": STATE})
    put(root, "a", {"/m.pth": {**STATE, "w": STATE["w"] + 1}})
    lake = open_lake(root)
    part = next(copy.key for copy in lake.store.blobs.copies() if copy.key.startswith("b3-"))
    path = Path(lake.store.blobs.file(part))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(Corrupt):
        lake.diff("vision/a:/m.pth@v1", "vision/a:/m.pth")


def test_two_versions_of_a_chain_are_decoded_once(root, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    state = {"w": torch.randn(700, 512, generator=generator)}
    for _ in range(6):
        state["w"] = state["w"] + 0.001 * torch.randn(700, 512, generator=generator)
        put(root, "a", {"/m.pth": state})
    lake = open_lake(root)
    opened = []
    original = type(lake.store.blobs).open
    monkeypatch.setattr(type(lake.store.blobs), "open", lambda self, key: opened.append(key) or original(self, key))
    found = lake.diff("vision/a:/m.pth@v5", "vision/a:/m.pth@v6")
    assert found.changes[0].tensors[0].measure.changed > 350_000
    parts = [key for key in opened if key.startswith("b3-")]
    assert len(parts) == len(set(parts)) == 6  # v6, and the five it lies on
    wanted = 0.001 / state["w"].std().item()
    assert found.changes[0].tensors[0].measure.relative == pytest.approx(wanted, rel=0.01)


def test_a_diff_changes_nothing(root):
    put(root, "a", {"/m.pth": STATE})
    put(root, "b", {"/m.pth": next_state()})
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    open_lake(root).diff("vision/a", "vision/b")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
