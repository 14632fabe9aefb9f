"""Stats, du and why: the numbers agree with the operating system's and with what collection really frees."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from upkeep_support import OTHER, RUN, World, data_of, digest

from dreamlake.errors import InvalidInput
from dreamlake.operations import tree, usage
from dreamlake.operations.commit import commit
from dreamlake.operations.packed import Packed
from dreamlake.operations.usage import Usage, freed_by, stats, why


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "lake")


def by(world: World, group: str, **options: Any) -> dict[str, Usage]:
    return {row.group: row for row in usage.usage(world.store, group, **options)}


# ---- stats -------------------------------------------------------------------------------------------------------


def du_of(world: World, *options: str) -> int:
    files = "\0".join(str(f) for f in (world.root / ".dreamlake" / "blobs").glob("*/*"))
    out = subprocess.run(
        ["du", "-c", "-B1", *options, "--files0-from=-"], input=files, capture_output=True, text=True, check=True
    )
    return int(out.stdout.splitlines()[-1].split()[0])


def test_stats_agree_with_what_du_counts(world: World) -> None:
    rng = random.Random(5)
    for i in range(40):
        world.upload(f"/{i % 25}", rng.randbytes(rng.choice([0, 1, 4095, 4096, 4097, 100_000])))
    world.delete("/3")
    world.store.blobs.condemn(world.orphan(b"in the trash"), "20200101T000000Z-x")
    found = stats(world.store)
    assert found.stored_bytes == du_of(world, "--apparent-size")
    assert found.disk_bytes == du_of(world)
    assert (found.sessions, found.files, found.versions) == (1, 24, 40)
    assert found.deleted == len(tree.history(world.store.catalog.view(RUN), "/3"))
    live = world.store.catalog.view(RUN).live()
    assert found.live_bytes == sum(v.size_bytes for v in live)
    assert found.other["trash"] == (1, 12)
    assert found.blobs == len(world.live())
    json.dumps(found.record(), allow_nan=False)


def test_stats_of_an_empty_lake(world: World) -> None:
    found = stats(world.store)
    assert (found.sessions, found.files, found.logical_bytes, found.stored_bytes) == (0, 0, 0, 0)


# ---- du ----------------------------------------------------------------------------------------------------------


def test_shared_and_exclusive_bytes_by_session(world: World) -> None:
    world.upload("/shared", b"s" * 100)
    world.upload("/mine", b"m" * 10)
    world.upload("/twice", b"t" * 7)
    world.upload("/twice again", b"t" * 7)
    world.upload("/theirs", b"x" * 3, OTHER)
    world.upload("/also shared", b"s" * 100, OTHER)
    rows = by(world, "session")
    assert rows["vision/run-1"] == Usage("vision/run-1", 4, 4, 124, 117, 100, 17)
    assert rows["vision/run-2"] == Usage("vision/run-2", 2, 2, 103, 103, 100, 3)
    assert [row.group for row in usage.usage(world.store)] == ["vision/run-1", "vision/run-2"]
    json.dumps([row.record() for row in rows.values()], allow_nan=False)


def test_by_path_kind_and_state(world: World) -> None:
    world.upload("/models/a/x.pth", b"1")
    world.upload("/models/b/y.PTH", b"22")
    world.upload("/logs/z.tar.gz", b"333")
    world.upload("/README", b"4444")
    world.upload("/.hidden", b"55555")
    world.upload("/README", b"666666")
    world.delete("/.hidden")
    assert {k: v.exclusive for k, v in by(world, "path").items()} == {"/models": 3, "/logs": 3, "/": 15}
    assert {k: v.exclusive for k, v in by(world, "path", depth=2).items()} == {
        "/models/a": 1, "/models/b": 2, "/logs": 3, "/": 15,
    }  # fmt: skip
    assert set(by(world, "path", depth=0)) == {"/"}
    assert {k: v.exclusive for k, v in by(world, "kind").items()} == {".pth": 3, ".gz": 3, "(none)": 15}
    assert {k: v.exclusive for k, v in by(world, "state").items()} == {"live": 12, "history": 4, "deleted": 5}
    with pytest.raises(InvalidInput, match="session, path, kind, state"):
        usage.usage(world.store, "colour")


def test_what_deleting_would_free_is_what_collection_frees(world: World) -> None:
    rng = random.Random(9)
    contents = [rng.randbytes(rng.randrange(1, 500)) for _ in range(12)]
    for i in range(60):
        world.upload(f"/{'abc'[i % 3]}/{i}", rng.choice(contents), rng.choice([RUN, OTHER]))
    promised = freed_by(world.store, lambda session, version: session == RUN and version.key.startswith("/a/"))
    row = by(world, "path", select=lambda session, version: session == RUN)["/a"]
    before = stats(world.store).stored_bytes
    world.delete("/a")
    report = world.collect(now=True, keep_deleted_s=0)
    assert before - stats(world.store).stored_bytes == promised.exclusive == report.freed.bytes
    assert row.logical == promised.logical and row.exclusive <= promised.exclusive


def test_nothing_selected_frees_nothing(world: World) -> None:
    world.upload("/m", b"m")
    assert freed_by(world.store, lambda session, version: False) == Usage("selected", 0, 0, 0, 0, 0, 0)


def test_content_that_is_missing_takes_no_space(world: World) -> None:
    version = world.upload("/m", b"m" * 50)
    world.blob(version.digest).unlink()
    (row,) = usage.usage(world.store)
    assert (row.logical, row.stored, row.exclusive) == (50, 0, 0)


# ---- why ---------------------------------------------------------------------------------------------------------


def test_why_tells_everything_that_keeps_a_blob(world: World) -> None:
    first = world.upload("/m.pth", b"weights")
    world.upload("/m.pth", b"newer")
    tree.copy(world.store, RUN, "/m.pth@v1", "/kept.pth", to_session=world.session(OTHER))
    world.upload("/gone.pth", b"weights")
    world.delete("/gone.pth")
    commit(world.store, RUN, [{"op": "alias", "path": "/m.pth", "name": "best", "id": first.id}])
    claim = world.of_process(4711).catalog.claim(RUN, [first.digest], [{"op": "read"}])
    for asked in (first.digest, first.digest[:6], first.digest[:20].upper(), f" {first.digest} "):
        links = why(world.store, asked)
        assert {link.key for link in links} == {first.digest}
        told = {(link.reason, link.session, link.path, link.version, link.aliases) for link in links}
        assert told == {
            ("pending", "vision/run-1", None, None, ()),
            ("history", "vision/run-1", "/m.pth", 1, ("best",)),
            ("live", "vision/run-2", "/kept.pth", 1, ()),
            ("deleted", "vision/run-1", "/gone.pth", 1, ()),
        }
    assert any("process 4711" in link.detail for link in links)
    assert any("deleted 20" in link.detail for link in links)
    world.store.catalog.revoke(claim.token)
    json.dumps([link.record() for link in links], allow_nan=False)


def test_why_of_what_nothing_keeps(world: World) -> None:
    key = world.orphan(b"orphan")
    (link,) = why(world.store, key)
    assert (link.reason, link.session) == ("nothing", None) and "next gc" in link.detail
    world.collect()
    (link,) = why(world.store, key)
    assert link.reason == "trash" and "condemned by run 20" in link.detail
    assert why(world.store, "ab" * 32) == []


@pytest.mark.parametrize("text", ["", "abcde", "xyzxyz", "a" * 65, "../../etc", "b3-abc"])
def test_why_needs_a_checksum(world: World, text: str) -> None:
    with pytest.raises(InvalidInput, match="checksum"):
        why(world.store, text)


def test_why_of_a_part_names_the_files_that_use_it(world: World) -> None:
    import io

    import numpy as np

    from dreamlake.operations.upload import Attributes, upload_file

    world.session()
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(3).standard_normal(400_000).astype("f4"))
    file = world.root.parent / "n.npy"
    file.write_bytes(buffer.getvalue())
    upload_file(world.store, RUN, str(file), "/n.npy", Attributes())
    part = next(name for name in world.names() if name.startswith("b3-"))
    (link,) = why(world.store, part)
    assert (link.reason, link.path) == ("live", "/n.npy")
    (link,) = why(world.store, digest(buffer.getvalue()))
    assert (link.reason, link.path) == ("live", "/n.npy")
    (row,) = usage.usage(world.store)
    assert row.stored == row.exclusive == stats(world.store).stored_bytes > 0


# ---- packed ------------------------------------------------------------------------------------------------------


def test_packed_rows_are_like_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamlake.operations.packed._COMPACT_BYTES", 400)
    rng = random.Random(1)
    keys = [prefix + digest(os.urandom(8)) for prefix in ("", "b3-", "rc-") for _ in range(300)]
    lowest, sums, expected, total = Packed(2, min), Packed(8, lambda a, b: a + b), dict[str, int](), dict[str, int]()
    for _ in range(6000):
        key, number = rng.choice(keys), rng.randrange(65536)
        lowest.add(key, number)
        sums.add(key, number)
        expected[key] = min(number, expected.get(key, 65536))
        total[key] = total.get(key, 0) + number
        if rng.random() < 0.01:
            assert lowest.get(key) == expected[key]
    assert {key: lowest.get(key) for key in keys} == {key: expected.get(key) for key in keys}
    assert {key: sums.get(key) for key in keys if key in total} == total
    found: dict[str, int] = {}
    for shard in lowest.shards():
        for key, number in lowest.rows(shard):
            assert key[:-62] == shard
            found[key] = min(number, found.get(key, 65536))
    assert found == expected
    with pytest.raises(OverflowError):
        lowest.add(keys[0], 65536)
    lowest.drop(keys[0][:-62])
    assert lowest.get(keys[0]) is None


def test_packed_rows_without_merging_keep_every_row() -> None:
    packed, key = Packed(3), digest(b"x")
    for number in (5, 5, 7):
        packed.add(key, number)
    assert list(packed.rows(key[:2])) == [(key, 5), (key, 5), (key, 7)]
    assert list(packed.rows("00" if key[:2] != "00" else "01")) == []


def test_the_same_through_lake(world: World) -> None:
    for i, data in enumerate(data_of(3)):
        world.upload(f"/{i}", data)
    lake = world.lake
    assert lake.stats().files == 3 and lake.du("session")[0].exclusive == 300
    assert lake.why(digest(next(iter(data_of(1)))))[0].path == "/0"
