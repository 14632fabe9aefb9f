"""Content stored as recipes, parts and differences, beside collections: what the model in ``tools/model`` found.

Each test is a counter-example that the model gave for an earlier state of the code, run on the real code.
"""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from upkeep_support import OTHER, RUN, World, digest

from dreamlake.content import codecs, reading
from dreamlake.content.assembled import part_needs, read_recipe, stored_copies, stored_part
from dreamlake.content.codecs import Base
from dreamlake.content.names import recipe_key
from dreamlake.errors import ClaimRevoked, Corrupt, InvalidInput
from dreamlake.operations import forms, marking
from dreamlake.operations.collect import collect
from dreamlake.operations.context import Store
from dreamlake.operations.folders import scan_folder, upload_folder
from dreamlake.operations.forms import put_back
from dreamlake.operations.marking import Marks
from dreamlake.operations.optimize import optimize
from dreamlake.operations.upload import Attributes, upload_file

VALUES = 300_000  # float32: more than the smallest file that is stored as parts


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "lake")
    world.session(RUN)
    world.session(OTHER)
    return world


class Hooked:
    """A seam that calls something before some of its methods."""

    def __init__(self, seam: Any, **before: Callable[..., None]) -> None:
        self._seam, self._before = seam, before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._seam, name)
        if name not in self._before:
            return method

        def call(*args: Any, **options: Any) -> Any:
            self._before[name](*args, **options)
            return method(*args, **options)

        return call


def weights(step: int) -> np.ndarray:
    """Weights that drift a little with every step."""
    start = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    drift = np.random.default_rng(step).standard_normal(VALUES).astype(np.float32)
    return start + np.float32(1e-4) * drift if step else start


def checkpoint(step: int, note: str = "") -> bytes:
    """A file with one large tensor; ``note`` changes the file, but not the tensor."""
    return save({"w": weights(step)}, metadata={"note": note})


def put(world: World, path: str, data: bytes, *, store: Store | None = None, encoding: str = "coded") -> None:
    upload_file(store or world.open().store, RUN, io.BytesIO(data), path, Attributes(), encoding=encoding)


def part_of(world: World, data: bytes) -> str:
    """The key of the only part of a checkpoint."""
    (part,) = read_recipe(world.store.blobs, digest(data)).parts
    return part.key


def gc(store: Store) -> Any:
    return collect(store, now=True, keep_deleted_s=0, force=True)


def check(world: World) -> None:
    """Everything that is live reads and hashes to its digest (I1)."""
    store = world.open().store
    for session in store.catalog.sessions():
        for version in store.catalog.view(session).live():
            assert digest(reading.read_all(store.blobs, version.digest, version.size_bytes)) == version.digest


def revoked_once(world: World) -> Store:
    """A store whose first claim is revoked, and whose unreferenced blobs are collected, just before its commit."""
    store = world.open().store
    tokens: list[str] = []

    def before(claim: Any) -> None:
        if not tokens:
            tokens.append(claim.token)
            store.catalog.revoke(claim.token)
            gc(world.open().store)

    return dataclasses.replace(store, catalog=Hooked(store.catalog, commit=before))


def test_a_recipe_that_an_earlier_try_published_is_looked_at_again(world: World, tmp_path: Path) -> None:
    """Its parts are still there, because another file has the same tensor; the recipe was collected."""
    put(world, "/epoch_1.safetensors", checkpoint(1))
    file = tmp_path / "best.safetensors"
    file.write_bytes(checkpoint(1, "best"))
    upload_file(revoked_once(world), RUN, str(file), "/best.safetensors", Attributes())
    check(world)


def test_a_stream_that_must_be_read_again_says_so(world: World) -> None:
    put(world, "/epoch_1.safetensors", checkpoint(1))
    with pytest.raises(InvalidInput, match="cannot be read a second time"):
        put(world, "/best.safetensors", checkpoint(1, "best"), store=revoked_once(world))
    check(world)


def test_a_collection_that_surveyed_before_a_recode_learns_of_its_parts_when_the_whole_copy_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recode dies before its commit, so that only the drop tells the collection which parts are needed."""
    put(world, "/garbage.safetensors", checkpoint(1, "another file with this tensor"))
    world.delete("/")
    put(world, "/m.safetensors", checkpoint(1), encoding="raw")
    dead = world.open().store

    def die(claim: Any) -> None:
        dead.catalog.revoke(claim.token)
        raise ClaimRevoked("died")

    def between_survey_and_condemning(marks: Marks) -> None:
        monkeypatch.undo()
        done = optimize(dataclasses.replace(dead, catalog=Hooked(dead.catalog, commit=die)))
        assert (done.recoded, done.dropped) == (0, 0)
        done = optimize(world.open().store)
        assert (done.recoded, done.dropped) == (0, 1)
        marks.let_go()

    monkeypatch.setattr(Marks, "let_go", between_survey_and_condemning)
    gc(world.open().store)
    assert recipe_key(digest(checkpoint(1))) in world.live() and digest(checkpoint(1)) not in world.live()
    check(world)


class Gate:
    """Somebody waits here until the test lets it go on."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **options: Any) -> None:
        self._reached.set()
        assert self._open.wait(60)

    def reached(self) -> None:
        assert self._reached.wait(60)

    def open(self) -> None:
        self._open.set()


def second(gate: Callable[..., None]) -> Callable[..., None]:
    """Passes the first time, and calls the gate the second."""
    calls: list[int] = []

    def call(*args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            gate()

    return call


@contextmanager
def collecting(world: World, *, catalog: dict[str, Any], blobs: dict[str, Any] | None = None) -> Iterator[Future[Any]]:
    """A collection in a thread, with gates; it has ended when this ends."""
    store = world.open().store
    hooked = dataclasses.replace(
        store, catalog=Hooked(store.catalog, **catalog), blobs=Hooked(store.blobs, **(blobs or {}))
    )
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(gc, hooked)
        yield run
        run.result(60)


def two_collections(world: World) -> str:
    """A part is condemned as a difference to B, uploaded again as one to C, and then that is condemned, too.

    Nobody dies and no claim is revoked. The first collection restores the first form, whose base it removes; the second
    finds it in the place of the form that the upload relied on. Returns the key of the part.
    """
    base, other, data = checkpoint(1), checkpoint(2), checkpoint(3)
    put(world, "/a.safetensors", base)
    put(world, "/a.safetensors", data)
    key = part_of(world, data)
    assert [need for need, _ in part_needs(world.store.blobs, key)] == [part_of(world, base)]
    world.delete("/")
    claims_read, records_read, condemned = Gate(), Gate(), Gate()

    def upload_again(**options: Any) -> None:
        put(world, "/b.safetensors", other)
        put(world, "/b.safetensors", data)
        assert [need for need, _ in part_needs(world.store.blobs, key)] == [part_of(world, other)]
        claims_read.open()
        records_read.reached()

    with collecting(world, catalog={"sessions": second(claims_read), "barrier": records_read}) as first:
        claims_read.reached()
        with collecting(world, catalog={"sessions": second(condemned)}, blobs={"copies": upload_again}):
            condemned.reached()
            records_read.open()
            first.result(60)
            check(world)
            condemned.open()
    check(world)
    return key


def test_two_collections_and_an_upload_that_codes_a_part_against_another_base(world: World) -> None:
    key = two_collections(world)
    gc(world.open().store)
    check(world)
    assert not world.condemned(), "what was given up is gone"
    assert key in world.live()


def test_a_condemned_form_that_is_given_up_for_any_live_one_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "KEEP_UNTIL_SERVED", False)
    monkeypatch.setattr(marking, "FOLLOW_EVERY_COPY", False)
    with pytest.raises(Corrupt):
        two_collections(world)
        check(world)


# ---- copies of one part with different needs ------------------------------------------------------------------------


def staged_part(world: World, plain: bytes, base: Base | None) -> tuple[str, Any]:
    stager = world.store.blobs.stage()
    coded = codecs.encode_part(plain, 4, base)
    assert (coded.base is None) == (base is None)
    for piece in coded.pieces:
        stager.write(piece)
    return codecs.part_key(plain), stager.finish()


def publish_part(world: World, step: int, base: int | None = None) -> str:
    """A part as ``weights(step)``, whole or as a difference to another."""
    below = None if base is None else weights(base).tobytes()
    against = None if below is None else Base(codecs.part_key(below), below)
    key, staged = staged_part(world, weights(step).tobytes(), against)
    world.store.blobs.publish(key, staged)
    return key


def plain_of(world: World, key: str) -> bytes:
    blobs = world.store.blobs
    size = VALUES * 4
    return codecs.read_part(key, size, lambda k: stored_part(blobs, k), lambda k: stored_copies(blobs, k))


def test_two_parts_that_came_to_need_each_other_read_from_the_copies_beside_them(world: World) -> None:
    one, two = publish_part(world, 1), publish_part(world, 2)
    condemned = [world.store.blobs.condemn(key, "b1") for key in (one, two)]
    assert (publish_part(world, 1, 2), publish_part(world, 2, 1)) == (one, two)
    assert plain_of(world, one) == weights(1).tobytes() and plain_of(world, two) == weights(2).tobytes()
    for copy in condemned:
        assert copy is not None
        put_back(world.store, copy)
    assert not world.condemned() and not part_needs(world.store.blobs, one)
    assert plain_of(world, one) == weights(1).tobytes() and plain_of(world, two) == weights(2).tobytes()


def test_a_condemned_copy_is_given_up_for_a_live_one_that_needs_nothing_or_the_same(world: World) -> None:
    publish_part(world, 0)
    for base in (None, 0):
        key = publish_part(world, 1, 0)
        copy = world.store.blobs.condemn(key, "b1")
        assert copy is not None
        publish_part(world, 1, base)
        before = world.blob(key).stat().st_ino
        assert put_back(world.store, copy)
        assert not world.condemned() and world.blob(key).stat().st_ino == before
        world.blob(key).unlink()


def test_a_condemned_copy_stays_while_its_part_does_not_read(world: World) -> None:
    bases = [publish_part(world, 0), publish_part(world, 2)]
    key = publish_part(world, 1, 0)
    copy = world.store.blobs.condemn(key, "b1")
    assert copy is not None
    publish_part(world, 1, 2)
    for base in bases:
        world.blob(base).unlink()
    assert not put_back(world.store, copy)
    assert key in world.condemned() and key in world.live()


def test_a_copy_that_is_not_condemned_any_more_is_left_alone(world: World) -> None:
    key = publish_part(world, 1)
    copy = world.store.blobs.condemn(key, "b1")
    assert copy is not None
    assert put_back(world.store, copy) and key in world.live()
    assert not put_back(world.store, copy) and key in world.live()


# ---- a collector that takes the living for dead ----------------------------------------------------------------------


def scratch_taken_before_securing(world: World, times: int = 1) -> Store:
    """A store whose scratch a collector takes just before it is made durable."""
    store = world.open().store
    taken: list[int] = []

    def before(staged: Any) -> None:
        if len(taken) < times and staged:
            taken.append(1)
            store.blobs.sweep(lambda name, unused_s: True)

    return dataclasses.replace(store, blobs=Hooked(store.blobs, secure=before))


@pytest.mark.parametrize("encoding", ["coded", "raw"])
def test_an_upload_whose_scratch_was_taken_stages_it_again(world: World, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(checkpoint(1))
    upload_file(scratch_taken_before_securing(world), RUN, str(file), "/m", Attributes(), encoding=encoding)
    check(world)


@pytest.mark.parametrize("times", [1, 2])
def test_a_folder_whose_scratch_was_taken_stages_it_again(world: World, tmp_path: Path, times: int) -> None:
    for step in (1, 2):
        (tmp_path / f"m_{step}.safetensors").write_bytes(checkpoint(step))
    (tmp_path / "small.txt").write_text("small")
    store = scratch_taken_before_securing(world, times)
    files = scan_folder(str(tmp_path), include=["*.safetensors", "*.txt"], limit=1 << 30)
    done = upload_folder(store, RUN, str(tmp_path), "/in", Attributes(), files, encoding="coded")
    assert len(done.versions) == 3
    check(world)
