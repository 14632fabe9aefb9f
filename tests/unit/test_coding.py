"""Checkpoints as parts, differences and recipes: what is stored, what comes back, and what frees it."""

from __future__ import annotations

import hashlib
import io
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from dreamlake import Session, open_lake
from dreamlake.content import assembled, codecs, presence
from dreamlake.content.assembled import part_needs, read_recipe
from dreamlake.content.names import recipe_key
from dreamlake.errors import Corrupt, InvalidInput
from dreamlake.model import session_key
from dreamlake.operations import commit as commit_module
from dreamlake.operations.optimize import drop_form, optimize, rebase

SIZE = 1_500_000  # float32 values: some 6 MB a checkpoint


def weights(step: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights that drift a little with every step, as training makes them."""
    start = np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)
    drift = sum(np.random.default_rng(100 + s).standard_normal(SIZE).astype(np.float32) for s in range(1, step + 1))
    moved = start + np.float32(1e-4) * drift if step else start
    return {"a.weight": moved[: SIZE // 2].reshape(1000, -1), "b.weight": moved[SIZE // 2 :].copy()}


def blobs(root) -> dict[str, int]:
    """Key -> stored bytes, read behind the store's back."""
    return {f.name: f.stat().st_size for f in (root / ".dreamlake" / "blobs").glob("*/*")}


def stored_bytes(root) -> int:
    return sum(blobs(root).values())


@pytest.fixture
def session(tmp_path):
    with Session("s", "w", local_path=tmp_path / "lake") as s:
        yield s


@pytest.fixture
def root(tmp_path):
    return tmp_path / "lake"


def put(session, step: int, **options):
    return session.files.upload(save(weights(step)), filename=f"step_{step}.safetensors", path="/c", **options)


def test_a_checkpoint_is_parts_and_a_recipe_and_comes_back(session, root):
    data = save(weights(0))
    record = put(session, 0)
    assert record["checksum"] == hashlib.sha256(data).hexdigest()
    names = set(blobs(root))
    assert recipe_key(record["checksum"]) in names and record["checksum"] not in names
    assert any(name.startswith("b3-") for name in names)
    assert session.files.read_bytes(record) == data
    assert stored_bytes(root) < 0.95 * len(data)


def test_versions_of_an_hdf5_file_are_differences_too(session, root, tmp_path):
    h5py = pytest.importorskip("h5py")
    sizes = []
    for step in range(2):
        with h5py.File(tmp_path / "model.weights.h5", "w") as file:
            for name, values in weights(step).items():
                file.create_dataset(f"layers/{name}", data=values)
        record = session.files.upload(tmp_path / "model.weights.h5", path="/keras")
        assert session.files.read_bytes(record) == (tmp_path / "model.weights.h5").read_bytes()
        assert read_recipe(session.files._store.blobs, record["checksum"]).container == "hdf5"
        sizes.append(stored_bytes(root))
    assert sizes[1] - sizes[0] < 0.6 * sizes[0]


def test_versions_are_differences_to_the_one_before(session, root):
    data = [save(weights(step)) for step in range(4)]
    sizes = []
    for step in range(4):
        put(session, step)
        sizes.append(stored_bytes(root))
    grown = np.diff(sizes)
    assert max(grown) < 0.6 * sizes[0]
    for step in range(4):
        assert session.files.read_bytes(f"/c/step_{step}.safetensors") == data[step]


def test_differences_are_made_again_in_a_new_process(root):
    for step in range(3):
        with Session("s", "w", local_path=root) as s:  # nothing is left in memory from the version before
            put(s, step)
    with Session("s", "w", local_path=root) as s:
        assert s.files.read_bytes("/c/step_2.safetensors") == save(weights(2))
        newest = read_recipe(s.files._store.blobs, s.files.get("/c/step_2.safetensors")["checksum"])
        assert all(part_needs(s.files._store.blobs, p.key) for p in newest.parts if p.size > 100_000)


def test_a_chain_is_bounded(session):
    for step in range(codecs.MAX_DEPTH + 4):
        put(session, step)
    store = session.files._store
    for step in (0, codecs.MAX_DEPTH, codecs.MAX_DEPTH + 3):
        record = session.files.get(f"/c/step_{step}.safetensors")
        assert session.files.read_bytes(record) == save(weights(step))
        for part in read_recipe(store.blobs, record["checksum"]).parts:
            assert len(presence.rely_on_part(store.blobs, part.key, part.size)) <= codecs.MAX_READS


def test_the_same_state_dict_under_another_name_and_with_optimizer_state(session, root, tmp_path):
    model = torch.nn.Linear(1200, 1200)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 1200)).sum().backward()
    optimizer.step()
    torch.save(model.state_dict(), tmp_path / "checkpoint_epoch_10.pth")
    torch.save(model.state_dict(), tmp_path / "best_model.pth")
    whole = {"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(whole, tmp_path / "full.pth")
    a = session.files.upload(tmp_path / "checkpoint_epoch_10.pth", path="/models")
    first = stored_bytes(root)
    b = session.files.upload(tmp_path / "best_model.pth", path="/models")
    assert a["checksum"] != b["checksum"]
    assert stored_bytes(root) - first < 20_000
    parts = {name for name in blobs(root) if name.startswith("b3-")}
    with Session("other", "w", local_path=root) as other:
        record = other.files.upload(tmp_path / "full.pth", path="/elsewhere")
        assert other.files.read_bytes(record) == (tmp_path / "full.pth").read_bytes()
    recipe = read_recipe(session.files._store.blobs, record["checksum"])
    shared = sum(p.size for p in recipe.parts if p.key in parts)
    assert shared > 0.9 * 1200 * 1200 * 4


def test_encoding_raw_is_raw_for_an_upload_a_session_and_a_lake(root):
    data = save(weights(0))
    digest = hashlib.sha256(data).hexdigest()
    with Session("s", "w", local_path=root) as s:
        s.files.upload(data, filename="a.safetensors", encoding="raw")
    assert blobs(root) == {digest: len(data)}
    with Session("r", "w", local_path=root, encoding="raw") as s:
        s.files.upload(save(weights(1)), filename="b.safetensors")
    assert not any(name.startswith(("b3-", "rc-")) for name in blobs(root))
    open_lake(root).configure(encoding="raw")
    with Session("l", "w", local_path=root) as s:
        s.files.upload(save(weights(2)), filename="c.safetensors")
        assert not any(name.startswith(("b3-", "rc-")) for name in blobs(root))
        s.files.upload(save(weights(2, seed=1)), filename="d.safetensors", encoding="auto")
        assert any(name.startswith("rc-") for name in blobs(root))


@pytest.mark.parametrize("wrong", ["zip", "", "RAW"])
def test_an_unknown_encoding_is_refused_everywhere(tmp_path, wrong):
    with pytest.raises(InvalidInput, match="use one of auto, raw, coded"):
        Session("s", "w", local_path=tmp_path / "x", encoding=wrong)
    with Session("s", "w", local_path=tmp_path / "x") as s:
        with pytest.raises(InvalidInput, match="use one of"):
            s.files.upload(b"1", filename="a", encoding=wrong)
        assert s.files.list() == []
    with pytest.raises(InvalidInput, match="use one of"):
        open_lake(tmp_path / "x").configure(encoding=wrong)


def test_coded_cuts_other_large_files_by_content(session, root):
    rng = np.random.default_rng(3)
    table = b"".join(b"%d,%s\n" % (i, rng.bytes(24).hex().encode()) for i in range(150_000))
    session.files.upload(table, filename="log.csv", encoding="coded")
    first = stored_bytes(root)
    grown = table + b"".join(b"%d,%s\n" % (i, rng.bytes(24).hex().encode()) for i in range(5_000))
    record = session.files.upload(grown, filename="log.csv", encoding="coded")
    assert stored_bytes(root) - first < 0.25 * len(grown)
    assert session.files.read_bytes(record) == grown


def test_a_folder_of_checkpoints_is_coded_one_against_the_other(session, root, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for step in range(3):
        (folder / f"step_{step}.safetensors").write_bytes(save(weights(step)))
    (folder / "notes.txt").write_text("hello")
    done = session.files.upload(folder, path="/run")
    assert (done["count"], done["uploaded"]) == (4, 4)
    assert done["newBytes"] == stored_bytes(root)
    assert stored_bytes(root) < 0.7 * done["sizeBytes"]
    for step in range(3):
        assert session.files.read_bytes(f"/run/step_{step}.safetensors") == save(weights(step))
    assert os.listdir(root / ".dreamlake" / "pending") == [] and os.listdir(root / ".dreamlake" / "tmp") == []
    again = session.files.upload(folder, path="/run")
    assert (again["unchanged"], again["newBytes"]) == (4, 0)


def test_open_seeks_into_a_coded_file(session, monkeypatch):
    put(session, 0)
    record = put(session, 1)
    data = save(weights(1))
    read: list[str] = []
    real = codecs.read_part
    monkeypatch.setattr(codecs, "read_part", lambda key, *rest: read.append(key) or real(key, *rest))
    with session.files.open(record) as stream:
        for start, count in [(0, 10), (len(data) - 7, 7), (3_000_001, 1000), (5, 2_000_000), (len(data), 1)]:
            stream.seek(start)
            assert stream.read(count) == data[start : start + count]
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == data[-5:]
    assert len(set(read)) <= len(read_recipe(session.files._store.blobs, record["checksum"]).parts)


def test_materialize_decodes_each_version_once(session, root, tmp_path, monkeypatch):
    """Six versions on top of each other: the next one begins where the last one is in memory."""
    for step in range(6):
        put(session, step)
    session.files.upload(save(weights(5)), filename="best.safetensors", path="/best")  # the same parts once more
    read = []
    real = assembled.stored_part
    monkeypatch.setattr(
        assembled, "stored_part", lambda blobs, key, *options: read.append(key) or real(blobs, key, *options)
    )
    placed = open_lake(root).materialize(to=tmp_path / "tree", link="copy", workers=1)
    assert placed.placed == 7
    assert sorted(read) == sorted(name for name in blobs(root) if name.startswith("b3-"))
    for step in range(6):
        assert next(tmp_path.glob(f"tree/**/step_{step}.safetensors")).read_bytes() == save(weights(step))


@pytest.mark.parametrize("victim", ["b3-", "rc-"])
def test_damage_is_corrupt_and_never_reaches_the_destination(session, root, tmp_path, victim):
    record = put(session, 0)
    file = max((root / ".dreamlake" / "blobs").glob(f"*/{victim}*"), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    stat = file.stat()
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # even with the tamper mark renewed
    target = tmp_path / "mine"
    target.write_text("mine")
    for read in (
        lambda: session.files.read_bytes(record),
        lambda: session.files.download(record, target),
        lambda: session.files.open(record).read(),
    ):
        with pytest.raises(Corrupt):
            read()
    assert target.read_text() == "mine"


def test_a_missing_part_is_healed_by_the_next_upload(session, root):
    record = put(session, 0)
    max((root / ".dreamlake" / "blobs").glob("*/b3-*"), key=lambda f: f.stat().st_size).unlink()
    with pytest.raises(ValueError, match="missing"):
        session.files.read_bytes(record)
    put(session, 0)
    assert session.files.read_bytes("/c/step_0.safetensors") == save(weights(0))


def test_a_hit_on_a_recipe_names_its_parts_in_the_record(session):
    put(session, 0)
    first = put(session, 1)
    with Session("other", "w", local_path=session.local_path) as other:
        other.files.upload(save(weights(1)), filename="x.safetensors")
        store, key = other.files._store, other._key
        needs = set(list(store.catalog.records(key))[-1][1].needs)
    recipe = read_recipe(store.blobs, first["checksum"])
    wanted = {recipe_key(first["checksum"]), *(part.key for part in recipe.parts)}
    wanted |= {base for part in recipe.parts for base, _ in part_needs(store.blobs, part.key)}
    assert wanted <= needs


def test_two_parts_never_come_to_need_each_other(root):
    """Two sessions store the same two versions in opposite orders at the same time."""
    order = {"one": (0, 1), "two": (1, 0)}
    opened = {name: Session(name, "w", local_path=root).open() for name in order}
    for turn in range(2):
        for name, steps in order.items():
            put(opened[name], steps[turn])
    for s in opened.values():
        for step in (0, 1):
            assert s.files.read_bytes(f"/c/step_{step}.safetensors") == save(weights(step))
        s.close()


def test_a_difference_does_not_replace_a_part_that_somebody_published_meanwhile(session, root, monkeypatch):
    put(session, 0)
    data = save(weights(1))
    with Session("other", "w", local_path=root) as other:
        real, once = commit_module._publish_forms, []

        def late(store, forms):
            if not once:  # between the look and the publishing of the first form
                once.append(1)
                other.files.upload(data, filename="x.safetensors", path="/alone")
            real(store, forms)

        monkeypatch.setattr(commit_module, "_publish_forms", late)
        record = session.files.upload(data, filename="step_1.safetensors", path="/c")
        assert session.files.read_bytes(record) == data
        assert other.files.read_bytes("/alone/x.safetensors") == data
    assert os.listdir(root / ".dreamlake" / "pending") == []


def test_optimize_codes_what_was_stored_raw_and_drops_the_whole_copies(session, root):
    data = [save(weights(step)) for step in range(3)]
    for step in range(3):
        put(session, step, encoding="raw")
    assert optimize(session.files._store, dry_run=True).candidates == 3
    assert stored_bytes(root) == sum(map(len, data))
    done = optimize(session.files._store)
    assert (done.recoded, done.dropped, done.left) == (3, 3, 0)
    assert stored_bytes(root) == done.bytes_after < 0.7 * done.bytes_before
    for step in range(3):
        record = session.files.get(f"/c/step_{step}.safetensors")
        assert record["checksum"] == hashlib.sha256(data[step]).hexdigest()
        assert session.files.read_bytes(record) == data[step]
    assert optimize(session.files._store).candidates == 0
    lake = open_lake(root)
    before = blobs(root)
    lake.collect(now=True, keep_deleted=0)
    assert blobs(root) == before


def test_optimize_leaves_what_does_not_shrink(session, root):
    noise = np.random.default_rng(5).integers(0, 256, 3 << 20, dtype=np.uint8)
    session.files.upload(save({"noise": noise}), filename="n.safetensors", encoding="raw")
    before = blobs(root)
    done = optimize(session.files._store)
    assert (done.recoded, done.left) == (0, 1)
    assert blobs(root) == before and os.listdir(root / ".dreamlake" / "tmp") == []


def test_the_whole_copy_stays_when_the_coded_form_is_not_complete(session, root):
    record = put(session, 0)
    raw = save(weights(0))
    digest = record["checksum"]
    stager = session.files._store.blobs.stage()
    stager.write(raw)
    session.files._store.blobs.publish(digest, stager.finish())
    next((root / ".dreamlake" / "blobs").glob("*/b3-*")).unlink()
    assert not drop_form(session.files._store, session_key("w", "s"), digest, len(raw), digest)
    assert digest in blobs(root)
    assert session.files.read_bytes(record) == raw


def test_deleting_the_oldest_checkpoints_of_a_chain_frees_their_bytes(session, root):
    for step in range(6):
        put(session, step)
    lake = open_lake(root)
    full = stored_bytes(root)
    for step in range(5):
        session.files.delete(f"/c/step_{step}.safetensors")
    report = lake.collect(now=True, keep_deleted=0, force=True)
    alone = stored_bytes(root)
    assert report.freed.bytes > 0 and any("without bases" in note for note in report.notes)
    assert session.files.read_bytes("/c/step_5.safetensors") == save(weights(5))
    with Session("fresh", "w", local_path=root.parent / "fresh") as fresh:
        put(fresh, 5)
    assert alone <= 1.05 * stored_bytes(root.parent / "fresh") < 0.5 * full
    assert lake.verify(deep=True).findings == []
    assert rebase(session.files._store).parts == 0


def test_a_shared_base_stays_while_a_version_needs_it(session, root):
    put(session, 0)
    put(session, 1)
    session.files.delete("/c/step_0.safetensors")
    open_lake(root).collect(now=True, keep_deleted=0, force=True)
    assert session.files.read_bytes("/c/step_1.safetensors") == save(weights(1))
    assert open_lake(root).verify(deep=True).findings == []


def test_a_stream_that_cannot_be_read_twice_is_stored_whole(session, root):
    data = save(weights(0))

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.inner = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.inner.readinto(buffer)

    record = session.files.upload(io.BufferedReader(Pipe()), filename="p.safetensors")
    assert session.files.read_bytes(record) == data
    assert record["checksum"] in blobs(root)


def test_shards_are_coded_against_the_same_shard_of_the_step_before(session, root):
    count, sizes = 6, []
    for step in range(2):
        for shard in range(count):
            data = save({f"layer{shard}.weight": weights(step, seed=shard)["b.weight"]})
            session.files.upload(data, filename=f"model-{shard:05d}-of-{count:05d}.safetensors", path=f"/step_{step}")
        sizes.append(stored_bytes(root))
    assert sizes[1] - sizes[0] < 0.6 * sizes[0]
