"""Content stored as recipes, parts and differences, beside collections: what the model in ``tools/model`` found.

Each test is a counter-example that the model gave for an earlier state of the code, run on the real code.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from upkeep_support import OTHER, RUN, World, digest

from dreamlake.content import reading
from dreamlake.content.assembled import read_recipe, recipe_key
from dreamlake.errors import ClaimRevoked, InvalidInput
from dreamlake.operations.collect import collect
from dreamlake.operations.context import Store
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
