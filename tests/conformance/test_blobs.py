"""What every ``Blobs`` promises (see its docstrings), checked on each implementation."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Any, BinaryIO

import pytest
from conformance.conftest import FolderBlobsWorld, NoSync

from dreamlake.blobs import Blobs, Copy, Staged, check_key, is_key
from dreamlake.blobs.folder import FolderBlobs
from dreamlake.errors import ClaimRevoked, NotFound
from dreamlake.ports import Ports

DATA = b"some weights" * 50
KEY = hashlib.sha256(DATA).hexdigest()
PART = "b3-" + "ab" * 32


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stage(blobs: Blobs, data: bytes = DATA) -> Staged:
    stager = blobs.stage()
    stager.write(data)
    return stager.finish()


def publish(blobs: Blobs, data: bytes = DATA, key: str | None = None) -> str:
    key = key or digest(data)
    staged = stage(blobs, data)
    blobs.secure([staged])
    blobs.publish(key, staged)
    blobs.barrier([key])
    return key


class Proof:
    """A proof that remembers what it was shown. ``answer`` None: the real answer for KEY."""

    def __init__(self, answer: bool | None = None) -> None:
        self.answer, self.shown = answer, []

    def __call__(self, stream: BinaryIO) -> bool:
        self.shown.append(stream.read())
        return digest(self.shown[-1]) == KEY if self.answer is None else self.answer


def never(stream: BinaryIO) -> bool:
    raise AssertionError("an intact copy needs no proof")


def read(blobs: Blobs, key: str = KEY) -> bytes:
    with blobs.open(key) as stream:
        return stream.read()


def condemned(blobs: Blobs, key: str = KEY, batch: str = "b1") -> Copy:
    copy = blobs.condemn(key, batch)
    assert copy is not None
    return copy


# ---- stage, publish --------------------------------------------------------------------------------------------------


def test_what_is_staged_is_visible_under_no_key(store):
    stager = store.blobs.stage()
    stager.write(DATA[:10])
    assert store.stored() == {}
    stager.write(memoryview(DATA)[10:])
    staged = stager.finish()
    assert staged.size == len(DATA)
    store.blobs.secure([staged])
    assert store.stored() == {}
    assert list(store.again().copies()) == []
    assert not store.again().look(KEY, len(DATA), never)
    store.blobs.publish(KEY, staged)
    assert store.stored() == {(KEY, None): DATA}
    assert read(store.again()) == DATA
    assert store.scratch() == 0


@pytest.mark.parametrize("when", ["begun", "written", "finished", "published", "twice"])
def test_discard_leaves_nothing_behind_at_any_time(store, when):
    stager = store.blobs.stage()
    if when != "begun":
        stager.write(DATA)
    if when in ("finished", "published", "twice"):
        staged = stager.finish()
    if when == "published":
        store.blobs.secure([staged])
        store.blobs.publish(KEY, staged)
    stager.discard()
    if when == "twice":
        stager.discard()
    assert store.scratch() == 0
    assert store.stored() == ({(KEY, None): DATA} if when == "published" else {})


def test_publishing_again_replaces_the_copy(store):
    publish(store.blobs)
    publish(store.again())
    assert store.stored() == {(KEY, None): DATA}
    store.damage(KEY, b"edited")
    publish(store.blobs)
    assert store.stored() == {(KEY, None): DATA}
    assert store.again().look(KEY, len(DATA), never)


def test_publish_may_leave_a_live_copy_alone(store):
    other = b"another form of the same content"
    assert store.blobs.publish(KEY, stage(store.blobs), replace=False)
    staged = stage(store.blobs, other)
    assert not store.again().publish(KEY, staged, replace=False)
    assert store.stored() == {(KEY, None): DATA}
    assert store.scratch() == 1  # still the caller's
    condemned(store.blobs)  # now none is live
    assert store.again().publish(KEY, staged, replace=False)
    assert store.stored() == {(KEY, None): other, (KEY, "b1"): DATA}
    assert store.blobs.publish(KEY, stage(store.blobs), replace=True)
    assert store.stored()[KEY, None] == DATA


def test_publishing_taken_scratch_is_told_as_revoked_with_any_copy_there(store):
    publish(store.blobs)
    condemned(store.blobs)
    staged = stage(store.blobs)
    store.take_scratch()
    with pytest.raises(ClaimRevoked):
        store.blobs.publish(KEY, staged, replace=False)


def test_a_reader_keeps_what_it_opened(store):
    publish(store.blobs)
    with store.again().open(KEY) as stream:
        assert stream.read(4) == DATA[:4]
        store.blobs.settle(condemned(store.blobs), keep=False)
        if store.readers_keep:
            assert stream.read() == DATA[4:]
        else:  # what it has read already, and then the truth
            with pytest.raises(NotFound):
                stream.read()


def test_publishing_scratch_that_was_taken_is_told_as_revoked(store):
    staged = stage(store.blobs)
    store.take_scratch()
    with pytest.raises(ClaimRevoked):
        store.blobs.publish(KEY, staged)
    assert store.stored() == {}


def test_securing_scratch_that_was_taken_is_told_as_revoked(store):
    staged = stage(store.blobs)
    store.take_scratch()
    with pytest.raises(ClaimRevoked):
        store.blobs.secure([staged])
        store.blobs.publish(KEY, staged)


def test_stored_copies_carry_the_tamper_mark(tmp_path):
    world = FolderBlobsWorld(tmp_path)
    publish(world.blobs)
    facts = os.stat(tmp_path / "blobs" / KEY[:2] / KEY)
    assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (0o444, 1_000_000_000)


@pytest.mark.parametrize(
    "key", ["", "x", "../../etc/passwd", KEY.upper(), KEY[:-1], KEY + "0", "b3-" + KEY[1:], "b4-" + KEY]
)
def test_only_keys_become_file_names(store, key):
    assert not is_key(key)
    with pytest.raises(ValueError, match="not a blob key"):
        check_key(key)
    staged = stage(store.blobs)
    for call in (
        lambda: store.blobs.publish(key, staged),
        lambda: store.blobs.look(key, 1, never),
        lambda: store.blobs.open(key),
        lambda: store.blobs.condemn(key, "b1"),
        lambda: store.blobs.distrust(key),
    ):
        with pytest.raises(ValueError, match="not a blob key"):
            call()
    assert store.stored() == {}


def test_parts_and_files_have_different_keys(store):
    publish(store.blobs, key="ab" * 32)
    publish(store.blobs, b"a part", PART)
    assert read(store.blobs, PART) == b"a part"
    assert read(store.blobs, "ab" * 32) == DATA
    assert {copy.key for copy in store.again().copies()} == {PART, "ab" * 32}


# ---- look ------------------------------------------------------------------------------------------------------------


def test_a_look_finds_only_what_is_live(store):
    assert not store.blobs.look(KEY, len(DATA), never)
    publish(store.blobs)
    assert store.again().look(KEY, len(DATA), never)
    assert not store.again().look(digest(b"other"), 5, never)


def test_an_intact_copy_of_the_right_size_needs_no_proof(store):
    publish(store.blobs)
    assert store.again().look(KEY, len(DATA), never)


@pytest.mark.parametrize("answer", [True, False])
def test_of_a_copy_of_another_size_the_proof_decides(store, answer):
    publish(store.blobs)
    proof = Proof(answer)
    assert store.again().look(KEY, len(DATA) + 1, proof) is answer
    assert proof.shown == [DATA]


@pytest.mark.parametrize("data", [b"edited", DATA[::-1], b"", DATA])
def test_of_an_edited_copy_the_proof_decides(store, data):
    if data == DATA and not store.rewriting_shows:
        pytest.skip("an object with the same bytes has the same seal")
    publish(store.blobs)
    store.damage(KEY, data)
    store.noticed(KEY)
    proof = Proof()
    assert store.again().look(KEY, len(DATA), proof) is (data == DATA)
    assert proof.shown == [data]


def test_a_look_resurrects_a_condemned_copy(store):
    publish(store.blobs)
    copy = condemned(store.blobs)
    assert store.again().look(KEY, len(DATA), never)
    assert store.stored() == {(KEY, None): DATA}
    assert not store.blobs.settle(copy, keep=False)  # that copy is no longer condemned
    assert store.stored() == {(KEY, None): DATA}


def test_a_look_may_overlook_condemned_copies_on_request(store):
    publish(store.blobs)
    condemned(store.blobs)
    assert not store.again().look(KEY, len(DATA), never, resurrect=False)
    assert store.stored() == {(KEY, "b1"): DATA}
    publish(store.blobs)
    assert store.again().look(KEY, len(DATA), never, resurrect=False)


def test_a_resurrected_copy_that_was_edited_is_proven(store):
    publish(store.blobs)
    condemned(store.blobs)
    store.damage(KEY, b"edited", "b1")
    store.noticed(KEY)
    assert not store.again().look(KEY, len(DATA), Proof())


def test_one_of_several_condemned_copies_is_enough(store):
    publish(store.blobs)
    condemned(store.blobs, batch="b1")
    publish(store.blobs)
    condemned(store.blobs, batch="b2")
    assert store.again().look(KEY, len(DATA), never)
    assert sorted(store.stored(), key=str).count((KEY, None)) == 1
    assert len(store.stored()) == 2


# ---- open, sealed, file, copies --------------------------------------------------------------------------------------


def test_a_stream_can_be_read_from_anywhere(store):
    publish(store.blobs)
    with store.again().open(KEY) as stream:
        stream.seek(100)
        assert stream.read(20) == DATA[100:120]
        assert stream.seek(0, os.SEEK_END) == len(DATA)
        buffer = bytearray(12)
        stream.seek(0)
        assert stream.readinto(buffer) == 12
        assert buffer == DATA[:12]


def test_a_condemned_copy_can_still_be_read(store):
    publish(store.blobs)
    condemned(store.blobs)
    assert read(store.again()) == DATA
    assert store.again().sealed(KEY)
    assert store.stored() == {(KEY, "b1"): DATA}  # reading does not resurrect


def test_what_is_not_there_is_not_found(store):
    for call in (store.blobs.open, store.blobs.sealed):
        with pytest.raises(NotFound, match=KEY):
            call(KEY)
    assert store.blobs.file(KEY) is None
    publish(store.blobs)
    store.blobs.settle(condemned(store.blobs), keep=False)
    with pytest.raises(NotFound):
        store.blobs.open(KEY)
    assert store.stored() == {}


def test_sealed_tells_whether_the_copy_was_edited(store):
    publish(store.blobs)
    assert store.again().sealed(KEY)
    store.damage(KEY, DATA[::-1])
    assert not store.again().sealed(KEY)
    condemned(store.blobs)
    assert not store.again().sealed(KEY)


def test_file_is_the_stored_bytes_or_nothing(store):
    publish(store.blobs)
    for batch in (None, "b1"):
        if batch:
            condemned(store.blobs, batch=batch)
        path = store.again().file(KEY)
        if path is not None:
            with open(path, "rb") as file:
                assert file.read() == DATA


def test_copies_lists_every_copy_with_its_state(store):
    keys = [publish(store.blobs, data) for data in (b"one", b"second", b"the third")]
    condemned(store.blobs, keys[1])
    publish(store.blobs, b"second")
    condemned(store.blobs, keys[2], "b2")
    store.damage(keys[0], b"one!")
    assert sorted(store.again().copies(), key=str) == sorted(
        [
            Copy(keys[0], None, 4, False),
            Copy(keys[1], None, 6, True),
            Copy(keys[1], "b1", 6, True),
            Copy(keys[2], "b2", 9, True),
        ],
        key=str,
    )


def test_copies_come_in_the_order_of_their_first_byte_from_a_folder(tmp_path):
    world = FolderBlobsWorld(tmp_path)
    for i in range(40):
        publish(world.blobs, bytes([i]))
    first_bytes = [copy.key[:2] for copy in world.blobs.copies()]
    assert len(first_bytes) == 40
    assert first_bytes == sorted(first_bytes)


def test_stray_files_are_no_copies(tmp_path):
    world = FolderBlobsWorld(tmp_path)
    publish(world.blobs)
    (tmp_path / "blobs" / "README").write_text("hello")
    (tmp_path / "blobs" / KEY[:2] / ".nfs000001").write_bytes(b"")
    (tmp_path / "blobs" / KEY[:2] / (KEY + ".bak")).write_bytes(DATA)
    (tmp_path / "blobs" / KEY[:2] / "sub").mkdir()
    assert list(world.again().copies()) == [Copy(KEY, None, len(DATA))]


def test_open_copy_opens_exactly_that_copy(store):
    publish(store.blobs)
    first = condemned(store.blobs)
    store.damage(KEY, b"edited", "b1")
    publish(store.blobs)
    live = Copy(KEY, None, len(DATA))
    with store.again().open_copy(first) as stream:
        assert stream.read() == b"edited"
    with store.again().open_copy(live) as stream:
        assert stream.read() == DATA
    with pytest.raises(NotFound):
        store.again().open_copy(Copy(KEY, "b2", 1))
    store.blobs.settle(first, keep=False)
    with pytest.raises(NotFound):
        store.again().open_copy(first)


# ---- condemn, settle -------------------------------------------------------------------------------------------------


def test_condemn_hides_the_live_copy_under_its_batch(store):
    publish(store.blobs)
    assert store.again().condemn(KEY, "b1") == Copy(KEY, "b1", len(DATA))
    assert store.stored() == {(KEY, "b1"): DATA}
    assert store.again().condemn(KEY, "b2") is None  # nothing is live now
    assert store.again().condemn(digest(b"unknown"), "b1") is None


def test_settle_keeps_or_ends_exactly_this_copy(store):
    publish(store.blobs)
    assert store.again().settle(condemned(store.blobs), keep=True)
    assert store.stored() == {(KEY, None): DATA}
    first = condemned(store.blobs)
    publish(store.blobs)
    second = condemned(store.blobs, batch="b2")
    assert store.again().settle(first, keep=False)
    assert store.stored() == {(KEY, "b2"): DATA}
    assert store.again().settle(second, keep=True)
    assert store.stored() == {(KEY, None): DATA}


@pytest.mark.parametrize("keep", [True, False])
def test_settling_a_copy_that_is_not_condemned_is_false(store, keep):
    publish(store.blobs)
    copy = condemned(store.blobs)
    assert store.blobs.settle(copy, keep=True)
    assert not store.blobs.settle(copy, keep=keep)
    assert not store.blobs.settle(Copy(KEY, "b9", 1), keep=keep)
    assert not store.blobs.settle(Copy(KEY, None, len(DATA)), keep=keep)  # a live one is never condemned
    assert store.stored() == {(KEY, None): DATA}


def test_a_condemned_copy_never_replaces_a_live_one(store):
    """The live one may have been published to heal the other."""
    publish(store.blobs)
    copy = condemned(store.blobs)
    store.damage(KEY, b"edited", "b1")
    publish(store.blobs)
    assert store.again().settle(copy, keep=True)
    assert store.stored() == {(KEY, None): DATA}


def test_a_condemned_copy_may_be_left_beside_a_live_one(store):
    """Copies of one part may need different bases."""
    publish(store.blobs)
    copy = condemned(store.blobs)
    publish(store.blobs)
    assert not store.again().settle(copy, keep=True, drop=False)
    assert store.stored() == {(KEY, None): DATA, (KEY, "b1"): DATA}
    second = condemned(store.blobs, batch="b2")
    assert store.again().settle(copy, keep=True, drop=False)
    assert store.stored() == {(KEY, None): DATA, (KEY, "b2"): DATA}
    assert store.again().settle(second, keep=False, drop=False)
    assert store.stored() == {(KEY, None): DATA}


def test_copies_of_one_key_and_condemned_ones_of_all(store):
    other = publish(store.blobs, b"other")
    publish(store.blobs)
    assert store.again().copies_of(KEY) == [Copy(KEY, None, len(DATA))]
    first = condemned(store.blobs)
    assert store.again().copies_of(KEY) == [first]
    publish(store.blobs)
    assert store.again().copies_of(KEY) == [Copy(KEY, None, len(DATA)), first]
    second = store.blobs.condemn(other, "b2")
    assert sorted(store.again().condemned()) == sorted([first, second])
    assert store.again().copies_of(digest(b"unknown")) == []


def test_a_resurrection_never_replaces_a_live_copy(tmp_path):
    """Between an uploader's look and its resurrection somebody else publishes good bytes."""
    world = FolderBlobsWorld(tmp_path)
    publish(world.blobs)
    condemned(world.blobs)
    world.damage(KEY, b"edited", "b1")

    class Healed(NoSync):
        def list(self, path: str) -> list[str]:
            names = super().list(path)
            publish(world.again())
            return names

    assert FolderBlobs(Ports(fs=Healed()), str(tmp_path)).look(KEY, len(DATA), never)
    assert world.stored()[KEY, None] == DATA


# ---- replace, distrust -----------------------------------------------------------------------------------------------


def test_replace_heals_and_keeps_the_bad_bytes_aside(store):
    publish(store.blobs)
    store.damage(KEY, b"bad")
    staged = stage(store.blobs)
    store.blobs.secure([staged])
    assert store.again().replace(KEY, staged)
    assert store.stored() == {(KEY, None): DATA}
    assert store.quarantined() == [b"bad"]
    assert store.again().look(KEY, len(DATA), never)
    assert store.scratch() == 0


def test_replace_publishes_also_where_nothing_was_live(store):
    staged = stage(store.blobs)
    store.blobs.secure([staged])
    assert not store.again().replace(KEY, staged)
    assert store.stored() == {(KEY, None): DATA}
    assert store.quarantined() == []


def test_a_distrusted_copy_is_proven_by_every_look(store):
    assert not store.blobs.distrust(KEY)
    publish(store.blobs)
    assert store.blobs.distrust(KEY)
    assert not store.again().sealed(KEY)
    for _ in range(2):
        proof = Proof()
        assert store.again().look(KEY, len(DATA), proof)
        assert proof.shown == [DATA]
    assert not store.again().look(KEY, len(DATA), Proof(False))
    publish(store.blobs)
    assert store.again().look(KEY, len(DATA), never)


def test_trust_renews_the_tamper_mark(store):
    assert not store.blobs.trust(KEY)
    publish(store.blobs)
    store.damage(KEY, DATA[::-1])
    assert not store.again().sealed(KEY)
    assert store.again().trust(KEY)
    assert store.again().sealed(KEY)
    assert store.again().look(KEY, len(DATA), never)
    condemned(store.blobs)
    assert not store.again().trust(KEY)


# ---- sweep, space ----------------------------------------------------------------------------------------------------


def test_sweep_removes_only_abandoned_scratch(tmp_path):
    world = FolderBlobsWorld(tmp_path)
    publish(world.blobs)
    staged = [stage(world.blobs, data) for data in (b"one", b"second")]
    seen: list[tuple[str, float]] = []

    def abandoned(name: str, age_s: float) -> bool:
        seen.append((name, age_s))
        return name == os.path.basename(staged[0].handle)

    removed = world.again().sweep(abandoned)
    assert (removed.files, removed.size_bytes) == (1, 3)
    assert {name for name, _ in seen} == {os.path.basename(s.handle) for s in staged}
    assert all(-5 < age_s < 60 for _, age_s in seen)  # the tamper mark is no age
    with pytest.raises(ClaimRevoked):
        world.blobs.publish(digest(b"one"), staged[0])
    world.blobs.publish(digest(b"second"), staged[1])
    assert set(world.stored()) == {(KEY, None), (digest(b"second"), None)}


def test_sweep_of_nothing_removes_nothing(store):
    stage(store.blobs)
    assert tuple(store.again().sweep(lambda name, age_s: False))[:2] == (0, 0)
    assert store.scratch() == 1


def test_space_counts_what_is_there(store):
    publish(store.blobs)
    publish(store.blobs, b"second")
    condemned(store.blobs, digest(b"second"))
    stage(store.blobs, b"abc")
    publish(store.blobs, b"bad one")
    store.damage(digest(b"bad one"), b"bad two")
    staged = stage(store.blobs, b"bad one")
    store.blobs.secure([staged])
    store.blobs.replace(digest(b"bad one"), staged)
    found = {name: tuple(space)[:2] for name, space in store.again().space().items()}
    assert found == {
        "live": (2, len(DATA) + 7),
        "condemned": (1, 6),
        "scratch": (1, 3),
        "quarantine": (1, 7),
    }


# ---- concurrency -----------------------------------------------------------------------------------------------------


def test_uploaders_collectors_and_readers_at_once(store):
    """Two keys, condemned and restored without end: whoever looked or published can always read, whole bytes only."""
    datas = [b"first content" * 100, b"second content" * 100]
    for data in datas:
        publish(store.blobs, data)
    stop = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Any) -> Any:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                errors.append(error)

        return run

    batches = iter(range(10**9))

    def collect() -> None:
        batch = f"b{next(batches)}"
        for data in datas:
            copy = store.blobs.condemn(digest(data), batch)
            if copy is not None:
                store.blobs.settle(copy, keep=True)

    def upload() -> None:
        for data in datas:
            if not store.blobs.look(digest(data), len(data), never):
                publish(store.blobs, data)

    def download() -> None:
        for data in datas:
            assert read(store.again(), digest(data)) == data

    threads = [threading.Thread(target=guarded(work)) for work in (collect, collect, upload, upload, download)]
    for thread in threads:
        thread.start()
    stop.wait(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    stored = store.stored()
    assert {key for key, _ in stored} == {digest(data) for data in datas}
    assert all(digest(data) == key for (key, _), data in stored.items())


# ---- durability ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 60])  # one fsync each, or one barrier for all
def test_what_was_secured_published_and_barred_survives_a_power_cut(sim, count):
    datas = [f"content {i}".encode() for i in range(count)]
    blobs = sim.blobs()
    staged = [stage(blobs, data) for data in datas]
    blobs.secure(staged)
    for data, item in zip(datas, staged, strict=True):
        blobs.publish(digest(data), item)
    blobs.barrier([digest(data) for data in datas])
    sim.power_cut()
    for data in datas:
        assert read(sim.blobs(), digest(data)) == data
        assert sim.blobs().look(digest(data), len(data), never)


def test_nothing_torn_ever_carries_a_key(sim):
    """Published without a barrier, the name may or may not survive; secured, the bytes are whole if it does."""
    blobs = sim.blobs()
    staged = stage(blobs)
    blobs.secure([staged])
    blobs.publish(KEY, staged)
    sim.fs = sim.fs.after_power_cut({}, lambda data: bytes(len(data)))
    assert read(sim.blobs()) == DATA


def test_a_hit_on_what_another_published_is_durable_after_the_barrier(sim):
    writer, other = sim.blobs(), sim.blobs()
    staged = stage(writer)
    writer.secure([staged])
    writer.publish(KEY, staged)  # and dies
    assert other.look(KEY, len(DATA), never)
    other.barrier([KEY])
    sim.power_cut()
    assert read(sim.blobs()) == DATA


def test_a_resurrection_is_durable_after_the_barrier(sim):
    publish(sim.blobs())
    condemned(sim.blobs())
    sim.fs.fsync_dir(f"{sim.ROOT}/blobs/{KEY[:2]}")
    blobs = sim.blobs()
    assert blobs.look(KEY, len(DATA), never)
    blobs.barrier([KEY])
    sim.power_cut()
    assert list(sim.files(f"blobs/{KEY[:2]}")) == [KEY]


def test_a_missing_shard_folder_is_made_and_made_durable(sim):
    sim.fs.remove_dir(f"{sim.ROOT}/blobs/{KEY[:2]}")
    sim.fs.sync("/")
    publish(sim.blobs())
    sim.power_cut()
    assert read(sim.blobs()) == DATA


def test_two_publishers_may_make_a_missing_shard_folder_at_once(sim):
    """The second finds the folder made although its own rename failed: its scratch is still there."""
    sim.fs.remove_dir(f"{sim.ROOT}/blobs/{KEY[:2]}")
    blobs, rival = sim.blobs(), sim.blobs()
    staged = stage(blobs)
    blobs.secure([staged])
    rename = sim.fs.rename

    def rename_while_the_rival_publishes(source: str, target: str) -> None:
        sim.fs.rename = rename
        try:
            rename(source, target)
        finally:
            publish(rival)

    sim.fs.rename = rename_while_the_rival_publishes
    blobs.publish(KEY, staged)
    blobs.barrier([KEY])
    assert read(sim.blobs()) == DATA
