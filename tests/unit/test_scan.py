"""``scan``: what it counts is what an upload then stores, and it leaves no trace."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from api_support import run_powerless, tree

import dreamlake
from dreamlake import Session, open_lake
from dreamlake.content.chunking import plan_file
from dreamlake.content.containers import Source
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.operations import counting, sampling
from dreamlake.operations import scan as scanning
from dreamlake.operations.scan import FileCost, find_files


def series(folder, count=4, rows=700, seed=0, moved=0.001, template="epoch_{}.pth"):
    """Checkpoints of a model whose weights move a little, all but some."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        "embed": torch.randn(rows, 512, generator=generator),
        "norm": torch.ones(512),
        "half": torch.randn(rows, 300, generator=generator).bfloat16(),
        "ids": torch.arange(512),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(1, count + 1):
        for name in ("embed", "half"):
            step = torch.randn(state[name].shape, generator=generator) * moved
            state[name] = (state[name] + step.to(state[name].dtype)).clone()
        torch.save(state, folder / template.format(epoch))
    return state


def stored_by_uploads(root, folder, encoding="auto"):
    """Bytes that a lake holds after uploading the files of a folder one by one, in the order of the scan."""
    with Session("run", "w", local_path=root, encoding=encoding) as session:
        for file in find_files(folder).files:
            parent = Path(file.relative).parent.as_posix()
            session.files().upload(folder / file.relative, path="/" if parent == "." else parent)
    return sum(copy.size for copy in open_lake(root).store.blobs.copies())


def costs(found):
    """path -> what it adds, of the files that save most."""
    return {cost.relative: cost for cost in found.top}


# ---- the numbers are real -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["auto", "coded"])
def test_what_differences_take_is_what_uploads_store(tmp_path, memory_path, encoding):
    folder = tmp_path / "runs"
    state = series(folder, 11)  # deeper than differences may lie on each other
    torch.save(state, folder / "best_model.pth")
    torch.save({"model": state, "optimizer": {"m": state["embed"] * 2}}, folder / "full.pth")
    series(folder / "other", 2, seed=1, template="step-{}.ckpt")
    np.save(folder / "other" / "data.npy", np.random.default_rng(0).normal(size=200_000))
    (folder / "log.csv").write_text("".join(f"{i},{i * i},{i % 7}\n" for i in range(150_000)))
    for name in ("notes.txt", "again.txt"):
        (folder / name).write_text("the same")
    (folder / "empty").write_bytes(b"")
    found = dreamlake.scan(folder, encoding=encoding, top=100)
    assert found.total.files == 20 and found.skipped == [] and not found.quick
    assert found.total.differences == stored_by_uploads(memory_path, folder, encoding)
    assert 1.5 * found.total.differences < found.total.parts < found.total.whole < found.total.size
    assert found.total.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found.total.whole == found.total.size - len("the same")


def test_each_method_saves_what_it_is_for(tmp_path):
    series(tmp_path, 1)
    data = (tmp_path / "epoch_1.pth").read_bytes()
    (tmp_path / "epoch_2.pth").write_bytes(data)  # a copy of the whole file
    torch.save(torch.load(tmp_path / "epoch_1.pth"), tmp_path / "epoch_3.pth")  # the same tensors, another stem
    changed = torch.load(tmp_path / "epoch_1.pth")
    changed["embed"] += 0.0001
    torch.save(changed, tmp_path / "epoch_4.pth")
    found = dreamlake.scan(tmp_path)
    first, copy, renamed, changed = (costs(found)[f"epoch_{i}.pth"] for i in (1, 2, 3, 4))
    size = len(data)
    assert first.kind == "torch" and (first.size, first.whole) == (size, size)
    assert 0.99 * size < first.parts <= size and first.differences < 0.95 * first.parts
    assert copy == FileCost("epoch_2.pth", "torch", size, 0, 0, 0)
    assert renamed.whole == size and renamed.parts == renamed.differences < 10_000
    embed = 700 * 512 * 4
    assert changed.whole == size and embed < changed.parts < embed + 10_000 and changed.differences < 0.6 * embed
    assert found.read_bytes == 4 * size


def test_files_are_versions_of_each_other_in_natural_order(tmp_path):
    """epoch_10 is like epoch_2 and unlike epoch_1, which comes right before it in the alphabet."""
    for name, seed, moved in (("epoch_1", 1, 0.0), ("epoch_2", 2, 0.0), ("epoch_10", 2, 0.0001)):
        torch.save({"w": torch.randn(700, 512, generator=torch.Generator().manual_seed(seed)) + moved},
                   tmp_path / f"{name}.pth")  # fmt: skip
    found = find_files(tmp_path)
    assert [file.relative for file in found.files] == ["epoch_1.pth", "epoch_2.pth", "epoch_10.pth"]
    natural = costs(scanning.scan(found))["epoch_10.pth"].differences
    found.files.sort(key=lambda file: file.relative)
    assert natural < 0.7 * costs(scanning.scan(found))["epoch_10.pth"].differences


def test_bases_are_read_again_from_the_files_when_memory_holds_none(tmp_path, monkeypatch):
    series(tmp_path, 11)
    wanted = dreamlake.scan(tmp_path)
    monkeypatch.setattr(counting, "_PLAIN_BYTES", 0)
    found = dreamlake.scan(tmp_path)
    assert (found.total, found.top) == (wanted.total, wanted.top)


def test_a_base_that_is_gone_meanwhile_is_no_base(tmp_path, monkeypatch):
    series(tmp_path, 2)
    alone = dreamlake.scan(tmp_path).top[-1].differences
    monkeypatch.setattr(counting, "_PLAIN_BYTES", 0)
    first = tmp_path / "epoch_1.pth"
    left = [first.stat().st_size]

    def remove_the_first_when_it_was_read(count):
        left[0] -= count
        if left[0] == 0:
            first.unlink()

    result = scanning.scan(find_files(tmp_path), progress=remove_the_first_when_it_was_read, workers=1)
    second = costs(result)["epoch_2.pth"]
    assert second.differences > 0.9 * alone and result.skipped == []


def test_what_is_kept_of_a_part_is_its_head(tmp_path, monkeypatch):
    """Memory does not grow with the bytes of a folder."""
    kept = []
    original = counting.CountingBlobs.publish

    def publish(self, key, staged, **options):
        done = original(self, key, staged, **options)
        kept.append((key, staged.size, len(self._heads.get(key, b""))))
        assert self.held == {} and len(self.staged) < 50
        return done

    monkeypatch.setattr(counting.CountingBlobs, "publish", publish)
    series(tmp_path, 4)
    dreamlake.scan(tmp_path)
    parts = [(size, head) for key, size, head in kept if key.startswith("b3-")]
    assert len(parts) >= 8 and sum(size for size, _ in parts) > 1 << 20
    assert all(head < 1000 for _, head in parts)


def test_a_quick_scan_reads_an_eighth_and_is_near(tmp_path):
    state = series(tmp_path, 4, rows=6000)
    torch.save(state, tmp_path / "last.pth")
    full, quick = dreamlake.scan(tmp_path), dreamlake.scan(tmp_path, quick=True)
    assert quick.quick and quick.read_bytes < full.read_bytes / 6
    assert (quick.total.size, quick.total.whole) == (full.total.size, full.total.whole)
    assert quick.total.parts == pytest.approx(full.total.parts, rel=0.02)
    assert quick.total.differences == pytest.approx(full.total.differences, rel=0.1)
    assert costs(quick)["last.pth"].differences < 0.01 * costs(quick)["last.pth"].size


def test_a_quick_scan_tells_whole_files_apart(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.bytes(3 << 20)
    end, middle = bytearray(data), bytearray(data)
    end[-1] ^= 1
    middle[len(middle) // 2] ^= 1
    for name, content in {"a": data, "b": data, "c": bytes(end), "d": bytes(middle), "e": rng.bytes(1 << 20)}.items():
        (tmp_path / f"{name}.bin").write_bytes(content)
    found = dreamlake.scan(tmp_path, quick=True)
    assert found.total.whole == found.total.size - len(data)
    assert found.read_bytes == 4 * 3 * (64 << 10)
    (tmp_path / "f.pth").write_bytes(data)  # not a checkpoint, whatever its name says
    assert dreamlake.scan(tmp_path).total.whole == found.total.whole


def test_a_sample_is_taken_at_the_same_places_of_every_version():
    def plan(value):
        file = io.BytesIO()
        small = {f"n{i}": np.ones(99) for i in range(9)}
        np.savez(file, a=np.full((2000, 1000), value), b=np.zeros((300, 20)), **small)
        return file, plan_file(file)

    (one, first), (_, second) = plan(1.0), plan(2.0)
    sample = sampling.sample_of(first)
    assert sample == sampling.sample_of(second) != []
    sizes = [(part.size, whole.size) for part, whole in zip(sample, first.parts, strict=True)]
    assert all(size == min(whole, max(64 << 10, whole // 8 // 4096 * 4096)) for size, whole in sizes)
    alone = sampling.alone(first, sample)
    source = sampling.Sample(Source(one), sample)
    assert source.size == alone.size == sum(size for size, _ in sizes)
    whole = one.getvalue()
    for part, moved in zip(sample, alone.parts, strict=True):
        for (offset, length), (place, same) in zip(part.pieces, moved.pieces, strict=True):
            assert (length, source.read(place, length)) == (same, whole[offset : offset + length])


# ---- sums, kinds, the files that count most -------------------------------------------------------------------------


def test_groups_and_top(tmp_path):
    series(tmp_path, 3)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.JSON").write_text("[1]")
    (tmp_path / "log.2024").write_text("x" * 100)
    (tmp_path / "README").write_text("read me")
    found = dreamlake.scan(tmp_path, top=2, order="size")
    assert [(g.suffix, g.kind, g.files) for g in found.groups] == [
        (".pth", "torch", 3), ("", "", 2), (".json", "", 2),
    ]  # fmt: skip
    for name in ("files", "size", "whole", "parts", "differences"):
        assert sum(getattr(group, name) for group in found.groups) == getattr(found.total, name)
    assert [cost.relative for cost in found.top] == ["epoch_1.pth", "epoch_2.pth"]  # equal ones in order
    assert [c.relative for c in dreamlake.scan(tmp_path, top=1, order="stored").top] == ["epoch_1.pth"]
    saved = dreamlake.scan(tmp_path, top=9).top
    assert [cost.size - cost.differences for cost in saved] == sorted(
        (cost.size - cost.differences for cost in saved), reverse=True
    )
    assert {cost.relative for cost in saved} == {"epoch_1.pth", "epoch_2.pth", "epoch_3.pth"}  # no other saves any
    assert dreamlake.scan(tmp_path, top=0).top == []


def test_progress_adds_up_to_all_bytes(tmp_path):
    series(tmp_path, 2)
    (tmp_path / "x.txt").write_text("same")
    (tmp_path / "y.txt").write_text("same")
    (tmp_path / "z.txt").write_text("alone")
    for quick in (False, True):
        told = []
        found = scanning.scan(find_files(tmp_path), quick=quick, progress=told.append)
        assert sum(told) == found.total.size


def test_an_empty_folder(tmp_path):
    found = dreamlake.scan(tmp_path)
    assert (found.total.files, found.groups, found.top, found.read_bytes) == (0, [], [], 0)


# ---- what it must not do ---------------------------------------------------------------------------------------------


def test_links_are_not_followed_and_other_things_are_skipped(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    series(outside, 1)
    (folder / "sub" / ".dreamlake").mkdir(parents=True)
    (folder / "sub" / ".dreamlake" / "blob").write_bytes(b"12345")
    (folder / "real.txt").write_text("x")
    (folder / "link.pth").symlink_to(outside / "epoch_1.pth")
    (folder / "all").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    found = dreamlake.scan(folder)
    assert (found.total.files, found.total.size, found.links) == (1, 1, 4)
    assert sorted(found.skipped) == [("pipe", "not a regular file"), ("sub/.dreamlake", "the store of a lake")]
    (tmp_path / "here").symlink_to(folder)
    assert dreamlake.scan(tmp_path / "here").total.files == 1  # the folder itself may be named by a link


def test_what_cannot_be_read_is_skipped_with_a_note(tmp_path):
    series(tmp_path, 2)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same size")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "c.txt").write_text("c")
    for name in ("epoch_2.pth", "b.txt", "closed"):
        (tmp_path / name).chmod(0)
    try:
        code = """
            import dreamlake
            found = dreamlake.scan(sys.argv[1])
            print(found.total.files, sorted(found.skipped), found.skipped_count)
        """
        printed = run_powerless(code, tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    denied = [(name, "Permission denied") for name in ("b.txt", "closed", "epoch_2.pth")]
    assert printed == f"2 {denied} 3\n"


def test_a_file_that_shrinks_meanwhile_is_skipped(tmp_path):
    series(tmp_path, 2)
    (tmp_path / "a.bin").write_bytes(bytes(3 << 20))
    (tmp_path / "b.bin").write_bytes(bytes(3 << 20))
    found = find_files(tmp_path)
    for name in ("epoch_2.pth", "b.bin"):
        with (tmp_path / name).open("r+b") as file:
            file.truncate(1 << 20)
    result = scanning.scan(dataclasses.replace(found, skipped=[]), quick=True)
    assert ("b.bin", "changed while it was read") in result.skipped
    assert "epoch_2.pth" not in {cost.relative for cost in result.top if cost.kind}


def test_a_file_that_vanishes_meanwhile_is_skipped(tmp_path):
    series(tmp_path, 2)
    found = find_files(tmp_path)
    (tmp_path / "epoch_1.pth").unlink()
    result = scanning.scan(found)
    assert result.skipped == [("epoch_1.pth", "No such file or directory")] and result.total.files == 1


def test_only_the_first_skipped_ones_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "_SKIPPED_SHOWN", 2)
    for i in range(5):
        os.mkfifo(tmp_path / f"pipe{i}")
    found = dreamlake.scan(tmp_path)
    assert (len(found.skipped), found.skipped_count) == (2, 5)


def test_nothing_is_written(tmp_path, monkeypatch):
    series(tmp_path / "runs", 2)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    dreamlake.scan("runs")
    dreamlake.scan("runs", quick=True, encoding="coded")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folder": "nowhere"}, NotFound, "no folder nowhere"),
        ({"folder": __file__}, InvalidInput, "is no folder; scan takes the folder"),
        ({"encoding": "raw"}, InvalidInput, "encoding='raw'; use one of auto, coded"),
        ({"order": "name"}, InvalidInput, "order='name'; use one of saved, stored, size"),
        ({"top": -1}, InvalidInput, "top=-1"),
    ],
)
def test_bad_input(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        dreamlake.scan(**{"folder": tmp_path, **options})


def test_file_names_that_are_no_text(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert dreamlake.scan(tmp_path).total.files == 1
