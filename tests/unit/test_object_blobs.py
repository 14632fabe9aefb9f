"""Blobs in an object store beyond what all ``Blobs`` promise: the order of the steps, fences, resuming, sweeping, and
how many requests things take."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects

from dreamlake.blobs import Copy, Ready, Staged, Wanted, documents, fetching, publishing, sending, sweeping, waiting
from dreamlake.blobs.objects import INDEXES, ObjectBlobs
from dreamlake.errors import ClaimRevoked, Conflict, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from dreamlake.ports import Owner, Ports
from dreamlake.services.objects import MAX_PARTS, Objects, Part

MIB = 1 << 20
DATA = b"some weights" * 100


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Watched:
    """An object store or a database that counts its calls, and does something first when one is made."""

    def __init__(self, real: Any) -> None:
        self.real, self.calls, self.log = real, Counter[str](), list[tuple[Any, ...]]()
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            self.log.append((name, *args))
            if name in self.before:
                self.before[name](*args)
            made = method(*args, **options)
            if name in self.after:
                self.after[name](*args)
            return made

        return call


class World:
    """One bucket and database, and processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects, self.docs = Watched(MemoryObjects()), Watched(MemoryDocs())
        self.docs.ensure(INDEXES)
        self.dead: set[str] = set()
        self.made: list[ObjectBlobs] = []

    def process(self, name: str = "me") -> ObjectBlobs:
        owner = Owner("host", "boot", len(name), name)
        ports = Ports(owner=lambda: owner, is_dead=lambda owner: owner.started in self.dead)
        objects: Objects = self.objects  # type: ignore[assignment]
        made = ObjectBlobs(ports, self.docs, objects, str(self.folder / name))  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def states(self) -> Counter[str]:
        return Counter(doc["state"] for doc in self.docs.real.find("copies", {}))

    def counted(self) -> tuple[dict[str, int], dict[str, int]]:
        """Calls of the store and of the database since the last time."""
        found = dict(self.objects.calls), dict(self.docs.calls)
        self.objects.calls.clear()
        self.docs.calls.clear()
        return found


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for blobs in world.made:
        blobs.close()


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 1 KiB, so that a few KiB make a large object."""
    monkeypatch.setattr(sending, "PART_BYTES", 1024)
    monkeypatch.setattr(sending, "_MIB", 1024)
    monkeypatch.setattr(sending, "PUT_BYTES", 2048)
    monkeypatch.setattr(publishing, "PUT_BYTES", 2048)


def stage(blobs: ObjectBlobs, data: bytes = DATA) -> Staged:
    item = blobs.stage()
    item.write(data)
    return item.finish()


def publish(blobs: ObjectBlobs, data: bytes = DATA) -> str:
    assert blobs.publish(digest(data), stage(blobs, data))
    return digest(data)


def never(stream: Any) -> bool:
    raise AssertionError("no proof is needed")


# ---- the order of the steps ------------------------------------------------------------------------------------------


def test_the_document_is_there_before_the_first_byte_and_live_after_the_last(world):
    seen = []
    world.objects.before["put"] = lambda key, data: seen.append((world.states(), world.objects.real.head(key)))
    publish(world.process())
    assert seen == [({"uploading": 1}, None)]
    assert world.states() == {"live": 1}
    ((name, where, change),) = [entry[:1] + entry[2:4] for entry in world.docs.log if entry[0] == "update"]
    assert name == "update" and where["state"] == "uploading" and change["$set"]["state"] == "live"


def test_no_name_is_used_twice(world):
    blobs = world.process()
    names = []
    for batch in ("b1", "b2", "b3"):
        key = publish(blobs)
        names += [info.key for info in world.objects.real.list()]
        assert blobs.settle(blobs.condemn(key, batch), keep=False)
        assert list(world.objects.real.list()) == [] and world.states() == {}
    assert len(set(names)) == 3
    assert {name.rpartition("/")[0] for name in names} == {f"blobs/{digest(DATA)[:2]}/{digest(DATA)}"}


def test_a_copy_is_given_up_before_its_object_is_deleted(world):
    blobs = world.process()
    copy = blobs.condemn(publish(blobs), "b1")
    seen = []
    world.objects.before["delete"] = lambda keys: seen.append((world.states(), len(keys)))
    assert blobs.settle(copy, keep=False)
    assert seen == [({"deleting": 1}, 1)]


def test_a_fenced_upload_is_sent_again_under_another_name(world):
    collector = world.process("collector")
    world.dead.add("me")

    def fence(*args: Any) -> None:
        world.objects.after.clear()
        collector.sweep(lambda name, age_s: True)

    world.objects.after["put"] = fence  # the collector comes between the bytes and the change to live
    publish(world.process())
    assert world.states() == {"live": 1}
    assert world.objects.calls["put"] == 2
    assert len(list(world.objects.real.list())) == 1


def test_an_upload_that_is_fenced_again_and_again_is_told_as_revoked(world):
    collector = world.process("collector")
    world.objects.after["put"] = lambda *args: collector.sweep(lambda name, age_s: True)
    with pytest.raises(ClaimRevoked, match=r"took .* away 3 times"):
        publish(world.process())
    assert world.states() == {}


def test_what_is_live_was_never_another_at_the_same_time(world):
    """Two publish the same key at once: the database lets one be live, and the other replaces it."""
    first, second = world.process("one"), world.process("two")

    def rival(*args: Any) -> None:
        world.objects.after.clear()
        publish(second)

    world.objects.after["put"] = rival
    publish(first)
    assert world.states() == {"live": 1}
    assert len(list(world.objects.real.list())) == 1
    assert first.look(digest(DATA), len(DATA), never)


def test_one_that_must_not_replace_gives_way(world):
    blobs, rival = world.process("one"), world.process("two")

    def publishes(*args: Any) -> None:
        world.objects.after.clear()
        publish(rival)

    world.objects.after["put"] = publishes
    staged = stage(blobs)
    assert not blobs.publish(digest(DATA), staged, replace=False)
    assert world.states() == {"live": 1} and len(list(world.objects.real.list())) == 1
    assert blobs.publish(digest(DATA), staged)  # it is still there


def test_a_replaced_copy_that_was_relied_on_meanwhile_is_kept(world):
    """Between hiding the old copy and giving it up, somebody resurrects it."""
    blobs, other = world.process("one"), world.process("two")
    publish(blobs)
    blobs.distrust(digest(DATA))

    def look(collection: str, where: Any, change: Any) -> None:
        if change["$set"].get("state") == "condemned":
            world.docs.after.clear()
            assert other.look(digest(DATA), len(DATA), lambda stream: True)

    world.docs.after["update"] = look
    publish(blobs)
    assert world.states() == {"live": 1}
    assert other.look(digest(DATA), len(DATA), never)


@pytest.mark.parametrize("trouble", ["rival", "rival for one that must not replace", "fence", "lost", "another etag"])
def test_many_that_become_live_together_are_told_apart(world, trouble):
    """One of them is refused, or none is known to have been changed."""
    blobs, rival = world.process("one"), world.process("two")
    datas = [os.urandom(50 + i) for i in range(20)]

    def disturb(collection: str, *args: Any) -> None:
        world.docs.before.clear()
        if "rival" in trouble:
            other = stage(rival, b"another form")
            assert rival.publish(digest(datas[7]), other)
        elif trouble == "fence":
            world.dead.add("one")
            rival.sweep(lambda name, age_s: name.endswith("upload"))
        elif trouble == "lost":
            raise OutcomeUnknown("lost")

    world.docs.before["update_many"] = disturb
    if trouble == "another etag":  # as of objects that are encrypted with a key of one's own
        real = world.objects.real.put
        world.objects.real.put = lambda key, data, sha256: "opaque " + real(key, data, sha256=sha256)
    ready = [Ready(digest(data), stage(blobs, data), "must not" not in trouble) for data in datas]
    outcomes = blobs.publish_all(ready)
    assert outcomes == [trouble != "rival for one that must not replace" or i != 7 for i in range(20)]
    assert world.states() == {"live": 20}
    for i, data in enumerate(datas):
        with blobs.open(digest(data)) as stream:
            assert stream.read() == (b"another form" if not outcomes[i] else data)
    assert len(list(world.objects.real.list())) == 20


@pytest.mark.parametrize("happened", [True, False])
def test_a_lost_reply_of_the_database_counts_once(world, happened):
    blobs = world.process()

    def lose(*args: Any) -> None:
        world.docs.before.clear()
        world.docs.after.clear()
        raise OutcomeUnknown("lost")

    (world.docs.after if happened else world.docs.before)["update"] = lose
    publish(blobs)
    assert world.states() == {"live": 1}
    (world.docs.after if happened else world.docs.before)["update_many"] = lose
    copy = blobs.condemn(digest(DATA), "b1")
    assert (copy is not None) is happened  # a condemnation is not repeated: it might arrive late
    copy = copy or blobs.condemn(digest(DATA), "b2")
    (world.docs.after if happened else world.docs.before)["update"] = lose
    assert blobs.settle(copy, keep=True)
    copy = blobs.condemn(digest(DATA), "b3")
    (world.docs.after if happened else world.docs.before)["update_many"] = lose
    assert blobs.settle(copy, keep=False)
    assert world.states() == {} and list(world.objects.real.list()) == []


@pytest.mark.parametrize("happened", [True, False])
def test_an_insert_whose_reply_was_lost_is_sent_again(world, happened):
    def lose(*args: Any) -> None:
        world.docs.before.clear()
        world.docs.after.clear()
        raise OutcomeUnknown("lost")

    (world.docs.after if happened else world.docs.before)["insert"] = lose
    blobs = world.process()
    assert publish(blobs)
    assert world.states() == {"live": 1}
    assert len(list(world.objects.real.list())) == 1


def test_a_change_that_is_delivered_twice_has_happened(world):
    """As by a driver that repeats what the server has forgotten: the reply that comes says that nothing matched."""
    real, calls = world.docs.real.update, []

    def twice(*args: Any, **options: Any) -> bool:
        calls.append(real(*args, **options))
        return real(*args, **options)

    world.docs.real.update = twice
    blobs = world.process()
    assert publish(blobs)
    copy = blobs.condemn(digest(DATA), "b1")
    assert copy is not None
    assert blobs.settle(copy, keep=True)
    assert any(calls)
    assert world.states() == {"live": 1}
    assert len(list(world.objects.real.list())) == 1  # one that believed it would have sent the content again


def test_a_database_that_loses_every_reply_is_given_up(world):
    blobs = world.process()

    def lose(*args: Any) -> None:
        raise OutcomeUnknown("lost")

    for call in ("update", "insert"):
        world.docs.before = {call: lose}
        with pytest.raises(OutcomeUnknown, match="again and again"):
            publish(blobs)


# ---- sources, parts, resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 2048, 2049, 5000, 10 * 1024])
@pytest.mark.parametrize("head", [b"", b"head"])
def test_a_file_is_sent_from_where_it_lies(world, small_parts, tmp_path, size, head):
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    blobs = world.process()
    item, staged = blobs.stage_file(str(tmp_path / "source"), head, size, digest(data))
    assert blobs.publish(digest(data), staged)
    with blobs.open(digest(data)) as stream:
        assert stream.read() == head + data
    item.discard()
    assert (tmp_path / "source").exists()
    assert not (tmp_path / "me").exists()  # nothing was written to scratch
    sent = size + len(head)
    assert world.objects.calls["put_part"] == (-(-sent // 1024) if sent > 2048 else 0)


@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("change", ["other", "longer", "shorter", "gone"])
def test_a_file_that_changed_meanwhile_is_not_stored(world, small_parts, tmp_path, size, change):
    source = tmp_path / "source"
    source.write_bytes(bytes(size))
    blobs = world.process()
    _, staged = blobs.stage_file(str(source), b"", size, digest(bytes(size)))
    if change == "gone":
        source.unlink()
    else:
        source.write_bytes({"other": b"x" * size, "longer": bytes(size + 1), "shorter": bytes(size - 1)}[change])
    with pytest.raises(InvalidInput, match="source changed while it was uploaded; nothing was stored"):
        blobs.publish(digest(bytes(size)), staged)
    assert world.states() == {} or change == "gone"
    assert list(world.objects.real.list()) == [] and list(world.objects.real.uploads()) == []


def test_what_was_sent_before_a_death_is_not_sent_again(world, small_parts):
    data = os.urandom(10 * 1024)

    def die(key: str, upload: str, number: int, piece: bytes) -> None:
        if number > 6:
            raise Unavailable("the process ends here")

    world.objects.before["put_part"] = die
    with pytest.raises(Unavailable):
        publish(world.process("first"), data)
    world.objects.before.clear()
    assert world.states() == {"uploading": 1}
    (upload,) = world.objects.real.uploads()
    done = {part.number for part in world.objects.real.parts(upload.key, upload.id)}
    world.dead.add("first")
    world.objects.log.clear()
    publish(world.process("second"), data)
    sent = {entry[3] for entry in world.objects.log if entry[0] == "put_part"}
    assert sent == set(range(1, 11)) - done and done
    assert world.objects.calls["begin"] == 1
    with world.process().open(digest(data)) as stream:
        assert stream.read() == data
    assert world.states() == {"live": 1} and list(world.objects.real.uploads()) == []


def test_a_try_of_the_same_process_takes_up_the_one_before(world, small_parts):
    data = os.urandom(5 * 1024)
    blobs = world.process()
    world.objects.before["complete"] = _raises(Unavailable("gone"))
    with pytest.raises(Unavailable):
        publish(blobs, data)
    world.objects.before.clear()
    sent = world.objects.calls["put_part"]
    publish(blobs, data)
    assert world.objects.calls["put_part"] == sent == 5


def test_parts_are_compared_by_their_checksum(world, small_parts, monkeypatch):
    """Stored by another release, which cut or coded otherwise: whatever differs is sent again."""
    data = os.urandom(4 * 1024)
    world.objects.before["complete"] = _raises(Unavailable("gone"))
    with pytest.raises(Unavailable):
        publish(world.process("first"), data)
    world.objects.before.clear()
    (upload,) = world.objects.real.uploads()
    world.objects.real.open_uploads[upload.key, upload.id][1][2] = bytes(1024)
    world.objects.real.open_uploads[upload.key, upload.id][1][3] = b"short"
    listed = world.objects.real.parts
    told = [None]  # SHA-256 that the store tells: none; then only the etag helps
    monkeypatch.setattr(world.objects.real, "parts", lambda *a: [p._replace(sha256=told[0]) for p in listed(*a)])
    world.dead.add("first")
    world.objects.log.clear()
    publish(world.process("second"), data)
    assert {entry[3] for entry in world.objects.log if entry[0] == "put_part"} == {2, 3}
    with world.process().open(digest(data)) as stream:
        assert stream.read() == data


def test_an_upload_that_goes_on_is_not_taken_over(world, small_parts):
    data = os.urandom(5 * 1024)
    other = world.process("other")
    world.objects.before["complete"] = _once(lambda *a: publish(other, data), world.objects)
    publish(world.process("first"), data)
    assert world.objects.calls["begin"] == 2  # each its own
    assert world.states() == {"live": 1} and list(world.objects.real.uploads()) == []


def test_an_upload_that_was_aborted_begins_anew(world, small_parts):
    data = os.urandom(5 * 1024)
    world.objects.before["complete"] = _raises(Unavailable("gone"))
    with pytest.raises(Unavailable):
        publish(world.process("first"), data)
    world.objects.before.clear()
    (upload,) = world.objects.real.uploads()
    world.objects.real.abort(upload.key, upload.id)  # a rule of the bucket, say
    world.dead.add("first")
    publish(world.process("second"), data)
    assert world.states() == {"live": 1}


@pytest.mark.parametrize("size", [5 << 30, 100 << 30, 5 << 40])
def test_any_size_that_s3_takes_fits_into_its_parts(size):
    step = sending.part_bytes(size)
    assert -(-size // step) <= MAX_PARTS
    assert sending.PART_BYTES <= step <= 5 << 30
    assert step % MIB == 0


def test_memory_is_bounded_while_much_is_sent(world, monkeypatch):
    monkeypatch.setattr(sending, "SENDING_BYTES", 3 << 10)
    now, most, lock = [0], [0], threading.Lock()

    def begins(key: str, data: bytes) -> None:
        with lock:
            now[0] += len(data)
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)

    def ends(key: str, data: bytes) -> None:
        with lock:
            now[0] -= len(data)

    world.objects.before["put"], world.objects.after["put"] = begins, ends
    blobs = world.process()
    datas = [os.urandom(1 << 10) for _ in range(40)]
    assert all(blobs.publish_all([Ready(digest(data), stage(blobs, data)) for data in datas]))
    assert 1 << 10 < most[0] <= 3 << 10


def test_large_staged_copies_lie_in_scratch_and_small_ones_in_memory_up_to_a_limit(world, monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "IN_MEMORY", 1000)
    monkeypatch.setattr(waiting, "ALL_IN_MEMORY", 2500)
    blobs, folder = world.process(), tmp_path / "me"
    staged = [stage(blobs, os.urandom(600)) for _ in range(4)]
    assert not folder.exists()
    staged += [stage(blobs, os.urandom(1200)), stage(blobs, os.urandom(600))]
    assert sorted(file.stat().st_size for file in folder.iterdir()) == [600, 1200]
    datas = []
    for one in staged:
        with blobs._waiting.item(one).open() as stream:
            datas.append(stream.read())
    assert all(blobs.publish_all([Ready(digest(data), one) for data, one in zip(datas, staged, strict=True)]))
    assert list(folder.iterdir()) == [] and blobs._waiting.items == {} and blobs._waiting.held == 0
    taken = stage(blobs, os.urandom(5000))
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(ClaimRevoked, match="was taken"):
        blobs.publish("ab" * 32, taken)


def test_scratch_of_dead_processes_is_removed_by_the_next_that_needs_some(world, monkeypatch):
    monkeypatch.setattr(waiting, "IN_MEMORY", 100)
    folder = world.folder / "machine"
    names = []
    for name in ("dead", "alive"):
        world.process(name)._waiting.folder = str(folder)
        names.append(stage(world.made[-1]).handle)
    world.dead.add("dead")
    third = world.process("third")
    third._waiting.folder = str(folder)
    staged = stage(third)
    assert {file.name for file in folder.iterdir()} == {names[1], staged.handle}


@pytest.mark.parametrize("small", [True, False])
def test_nothing_of_an_upload_that_the_store_refuses_is_visible(world, small_parts, small):
    """A full bucket, say: the error passes through, and the next try does all of it."""
    blobs = world.process()
    full = Unavailable("the bucket is full or over its quota")
    world.objects.before["put" if small else "put_part"] = _raises(full)
    datas = [os.urandom(500 if small else 5000) for _ in range(20)]
    with pytest.raises(Unavailable, match="full"):
        blobs.publish_all([Ready(digest(data), stage(blobs, data)) for data in datas])
    assert set(world.states()) == {"uploading"}
    assert list(blobs.copies()) == [] and list(world.objects.real.list()) == []
    assert not any(blobs.look(digest(data), len(data), never) for data in datas)
    world.objects.before.clear()
    assert all(blobs.publish_all([Ready(digest(data), stage(blobs, data)) for data in datas]))
    assert world.states()["live"] == 20


# ---- sweeping --------------------------------------------------------------------------------------------------------


def test_a_sweep_removes_what_the_dead_left_and_nothing_else(world, small_parts):
    dead, alive, collector = world.process("dead"), world.process("alive"), world.process("collector")
    kept = publish(alive)
    world.objects.before["complete"] = _raises(Unavailable("gone"))
    for blobs in (dead, alive):
        with pytest.raises(Unavailable):
            publish(blobs, os.urandom(5000))
    world.objects.before.clear()
    store = world.objects.real
    store.put(f"blobs/aa/{'aa' * 32}/orphan", b"late", sha256=digest(b"late"))
    store.begin(f"blobs/aa/{'aa' * 32}/orphan")
    store.put("store.json", b"{}", sha256=digest(b"{}"))
    (dead_upload, *_) = [d for d in world.docs.real.find("copies", {"state": "uploading"}) if "-dead-" in d["owner"]]
    told = []

    def abandoned(name: str, age_s: float) -> bool:
        told.append(name)
        return "-dead-" in name or name == "orphan"

    collector.resume_s = 0.0
    collector.sweep(abandoned)
    assert store.head(dead_upload["_id"]) is None
    assert world.states() == {"live": 1, "uploading": 1}
    assert {upload.key for upload in store.uploads()} == {
        d["_id"] for d in world.docs.real.find("copies", {"state": "uploading"})
    }
    assert {info.key.split("/")[0] for info in store.list()} == {"blobs", "store.json"}
    assert len(list(store.list("blobs/"))) == 1 and collector.look(kept, len(DATA), never)
    world.docs.calls.clear()
    collector.sweep(lambda name, age_s: False)  # a dry run
    assert world.states() == {"live": 1, "uploading": 1}


def test_an_upload_in_parts_is_kept_for_a_while_so_that_it_can_be_taken_up(world, small_parts):
    world.objects.before["complete"] = _raises(Unavailable("gone"))
    with pytest.raises(Unavailable):
        publish(world.process("first"), os.urandom(5000))
    world.process("collector").sweep(lambda name, age_s: True)
    assert world.states() == {"uploading": 1} and len(list(world.objects.real.uploads())) == 1


def test_copies_that_a_dead_collector_left_half_removed_are_removed(world):
    blobs = world.process()
    copy = blobs.condemn(publish(blobs), "b1")
    world.objects.before["delete"] = _raises(Unavailable("the collector ends here"))
    with pytest.raises(Unavailable):
        blobs.settle(copy, keep=False)
    world.objects.before.clear()
    assert world.states() == {"deleting": 1}
    assert not blobs.look(copy.key, copy.size, never)
    assert world.process("other").sweep(lambda name, age_s: True).files == 1
    assert world.states() == {} and list(world.objects.real.list()) == []


def test_an_object_that_lands_after_its_deletion_is_swept(world):
    blobs = world.process()
    blobs.settle(blobs.condemn(publish(blobs), "b1"), keep=False)
    name = next(entry[1] for entry in world.objects.log if entry[0] == "put")
    world.objects.real.put(name, DATA, sha256=digest(DATA))  # a request that was still on its way
    assert not blobs.look(digest(DATA), len(DATA), never)
    blobs.sweep(lambda name, age_s: True)
    assert list(world.objects.real.list()) == []


# ---- seals, and what things cost -------------------------------------------------------------------------------------


def test_a_listing_shows_what_is_missing_or_was_changed_in_the_bucket(world):
    blobs = world.process()
    keys = [publish(blobs, bytes([i]) * 50) for i in range(3)]
    names = {doc["key"]: doc["_id"] for doc in world.docs.real.find("copies", {})}
    world.objects.real.delete([names[keys[0]], names[keys[1]]])
    world.objects.real.put(names[keys[1]], b"edited", sha256=digest(b"edited"))
    found = {copy.key: copy for copy in blobs.copies()}
    assert found == {
        keys[0]: Copy(keys[0], None, 50, False),
        keys[1]: Copy(keys[1], None, 6, False),
        keys[2]: Copy(keys[2], None, 50),
    }
    assert all(copy.sealed for copy in blobs.copies(seals=False))


def test_what_looking_and_publishing_many_costs(world, monkeypatch):
    for home, name in ((documents, "BATCH"), (sweeping, "BATCH"), (publishing, "GROUP")):
        monkeypatch.setattr(home, name, 50)
    blobs = world.process()
    datas = [os.urandom(100) for _ in range(60)]
    world.counted()
    assert all(blobs.publish_all([Ready(digest(data), stage(blobs, data)) for data in datas]))
    store, database = world.counted()
    assert store == {"put": 60}
    assert database == {"insert": 2, "update_many": 1, "update": 10}  # fifty together, and ten that are few
    assert all(blobs.look(digest(data), 100, never) for data in datas[:3])
    assert world.counted() == ({}, {"find": 3})
    assert all(blobs.look_all([Wanted(digest(data), 100, never) for data in datas]))
    assert world.counted() == ({}, {"find": 2})
    assert blobs.heads([digest(data) for data in datas]) == datas
    assert world.counted() == ({}, {"find": 2})
    with blobs.open(digest(datas[0])) as stream:
        assert stream.read() == datas[0]  # so small that the document has it
    assert world.counted() == ({}, {"find": 1})
    copies = blobs.condemn_all([digest(data) for data in datas], "b1")
    assert world.counted() == ({}, {"find": 2, "update_many": 2})
    assert all(blobs.settle_all([copy for copy in copies if copy], keep=False))
    assert world.counted() == ({"delete": 2}, {"find": 2, "update_many": 2, "delete": 2})
    assert world.states() == {}


def test_a_large_copy_is_read_in_ranges_ahead_of_the_reader(world, monkeypatch):
    monkeypatch.setattr(fetching, "RANGE_BYTES", 1000)
    monkeypatch.setattr(fetching, "EAGER_BYTES", 100)
    monkeypatch.setattr(fetching, "SHORT_BYTES", 50)
    data = os.urandom(10_000)
    blobs = world.process()
    publish(blobs, data)
    world.counted()
    with blobs.open(digest(data)) as stream:
        pieces = []
        while piece := stream.read(100):
            pieces.append(piece)
        assert b"".join(pieces) == data
        assert len(stream._ranges) <= fetching.AHEAD
        assert world.counted()[0] == {"read": 10}  # 512 bytes come from the document
        for at in (9000, 3000, 600, 9990):
            stream.seek(at)
            assert stream.read(20) == data[at : at + 20]
    ranges = [entry[2:] for entry in world.objects.log if entry[0] == "read"][10:]
    assert (3000, 3050) in ranges and all(stop - start <= 1000 for start, stop in ranges)


def test_a_reader_is_led_to_another_copy_when_its_own_is_gone(world):
    data = os.urandom(5000)
    blobs = world.process()
    publish(blobs, data)
    stream = blobs.open(digest(data))
    assert stream.read(100) == data[:100]
    blobs.distrust(digest(data))
    publish(blobs, data)  # replaces the copy that is open
    assert world.objects.calls["delete"] == 1
    assert stream.read() == data[100:]
    stream.close()


def test_a_reader_is_not_led_to_other_bytes(world):
    """Parts may be stored in other forms: whoever has read the beginning of one must not get the end of another."""
    blobs = world.process()
    publish(blobs, os.urandom(5000))
    (key,) = [doc["key"] for doc in world.docs.real.find("copies", {})]
    stream = blobs.open(key)
    stream.read(100)
    other = os.urandom(4000)
    blobs.publish(key, stage(blobs, other))
    with pytest.raises(NotFound):
        stream.read()
    fresh = blobs.open(key)
    assert fresh.read() == other


def test_the_same_bytes_give_way_to_those_that_are_there(world):
    blobs = world.process()
    publish(blobs)
    (name,) = [info.key for info in world.objects.real.list()]
    publish(blobs)
    assert [info.key for info in world.objects.real.list()] == [name]
    world.objects.real.delete([name])  # behind our back: then they are wanted
    publish(blobs)
    assert [info.key for info in world.objects.real.list()] != [name]
    assert world.states() == {"live": 1}


def test_a_unique_index_is_what_keeps_one_copy_live(world):
    """Without it two would be live; the suite would notice."""
    assert any(index.unique and index.where == {"state": "live"} for index in INDEXES)
    publish(world.process())
    (doc,) = world.docs.real.find("copies", {})
    rival = {**doc, "_id": doc["_id"] + "x", "state": "uploading"}
    assert world.docs.real.insert("copies", [rival]) == []
    with pytest.raises(Conflict):
        world.docs.real.update("copies", {"_id": rival["_id"]}, {"$set": {"state": "live"}})


def _raises(error: Exception) -> Any:
    def call(*args: Any) -> None:
        raise error

    return call


def _once(work: Any, watched: Watched) -> Any:
    def call(*args: Any) -> None:
        watched.before.clear()
        work(*args)

    return call


def test_parts_that_the_store_cannot_vouch_for_are_sent_again():
    assert sending.same_part(Part(1, 4, "x", digest(b"data")), b"data", digest(b"data"))
    assert not sending.same_part(Part(1, 4, "x", digest(b"else")), b"data", digest(b"data"))
    assert sending.same_part(Part(1, 4, hashlib.md5(b"data").hexdigest(), None), b"data", digest(b"data"))
    assert not sending.same_part(Part(1, 4, "opaque", None), b"data", digest(b"data"))
    assert not sending.same_part(Part(1, 5, "x", digest(b"data")), b"data", digest(b"data"))
