"""The join of sessions: three lakes change one session and are synchronised in any direction, at any time.

After two lakes were synchronised both ways their folds say the same; no version is lost that nobody let go; a second
time there is nothing to do; and once everybody has met everybody, all three say the same.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.folds import KEY, OWNER, alias, delete, move, put, trim, undelete

from dreamlake.catalog import record as records
from dreamlake.catalog.checkpoint import Checkpoint, dump
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import LakeError
from dreamlake.model import ancestors
from dreamlake.operations.sync_join import difference, join
from dreamlake.operations.sync_registers import Registers, registers_of

PATHS = ["/a", "/b", "/a/x", "/c/z"]
who = st.integers(0, 2)
pick = st.integers(0, 20)
path = st.sampled_from(PATHS)

local = st.one_of(
    *[st.tuples(st.just("put"), path, st.booleans())] * 3,
    st.tuples(st.just("both"), path, path),
    st.tuples(st.just("del"), pick),
    st.tuples(st.just("move"), pick, path),
    st.tuples(st.just("undel"), pick, st.booleans()),
    st.tuples(st.just("set"), pick, st.sampled_from([{"tags": ["x"]}, {"metadata": {"x": 1}}, {"description": "d"}])),
    st.tuples(st.just("alias"), pick, st.sampled_from(["best", "last"]), st.booleans()),
    st.tuples(st.just("trim"), pick, st.booleans()),
    st.tuples(
        st.just("session"), st.sampled_from([{}, {"description": "d"}, {"tags": ["x"]}, {"write_protected": True}])
    ),
    st.tuples(st.just("drop")),
)
step = st.one_of(
    *[st.tuples(st.just("local"), who, local, st.integers(-30, 30))] * 3,
    st.tuples(st.just("sync"), who, who, st.booleans()),
)
stories = st.lists(step, min_size=4, max_size=40)


class Place:
    """One lake's log of the session, and its fold, sometimes held by a checkpoint."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.log: list[Record] = []
        self.fold = Fold(KEY)
        self.trimmed: set[str] = set()

    def write(self, entries: list[dict[str, Any]], skew: int = 0) -> list[Any]:
        n = len(self.log) + 1
        self.world.clock += 1
        at = f"2026-01-01T{10 + (self.world.clock + skew) // 60:02d}:{(self.world.clock + skew) % 60:02d}:00.000000Z"
        made = Record(f"{self.name}{n}", OWNER, KEY, at, (), tuple(copy.deepcopy(entries)))
        made = records.decode(records.encode(made), "test")
        self.log.append(made)
        if n % 3 == 0:
            self.fold = Fold(KEY, Checkpoint(KEY, None, dump(self.fold)))
        return self.fold.apply(n, made)

    def registers(self) -> Registers:
        return registers_of(KEY, enumerate(self.log, 1))

    def ids(self) -> set[str]:
        return {version.id for version in self.fold.versions()}

    def state(self) -> Any:
        files = sorted((f for f in self.fold.files() if f.versions), key=lambda f: f.file_id)
        told = [(f.file_id, f.key, f.primary, f.versions, sorted(f.aliases.items())) for f in files]
        info = self.fold.info
        return repr([told, [v.id for v in self.fold.live()], info._replace(tags=list(info.tags))])  # NaN is NaN


class World:
    def __init__(self) -> None:
        self.clock = 100
        self.made = 0
        self.places = [Place(self, name) for name in "stu"]

    def local(self, place: Place, action: tuple[Any, ...], skew: int) -> None:
        entries = self.entries(place, action)
        before = place.ids()
        if entries:
            place.write(entries, skew)
            place.trimmed |= before - place.ids()

    def entries(self, place: Place, action: tuple[Any, ...]) -> list[dict[str, Any]]:
        kind, *rest = action
        fold = place.fold
        live = [v.id for v in fold.live()]
        files = sorted((f for f in fold.files() if f.versions), key=lambda f: f.file_id)
        dead = [f for f in files if f.current is None]
        every = sorted(place.ids())
        if not fold.info.exists and kind != "session":
            return [{"op": "session"}]
        if kind in ("put", "both"):
            paths = [rest[0]] if kind == "put" else list(dict.fromkeys(rest))
            made = []
            for key in paths:
                self.made += 1
                more = {"tags": ["t"], "later": 1, "metadata": {"nan": float("nan")}} if rest[1] is True else {}
                made.append(put(key, f"v{(self.made * 7) % 97:02d}-{self.made}", **more))
            return made
        if kind == "session":
            return [{"op": "session", **rest[0]}]
        if kind == "drop":
            return [{"op": "drop"}]
        if kind == "undel":
            state = dead[rest[0] % len(dead)] if dead else None
            ids = [v.id for v in state.versions] if state and rest[1] else []
            return [undelete(state.versions[-1].id, *ids)] if state else []
        if kind == "trim":
            before = {"deleted_before": "2026-01-01T23:00:00.000000Z"} if rest[1] else {}
            return [{**trim(every[rest[0] % len(every)]), **before}] if every else []
        chosen = live[rest[0] % len(live)] if live else None
        if chosen is None:
            return []
        if kind == "del":
            return [delete(chosen)]
        if kind == "move":
            return [move(chosen, rest[1])]
        if kind == "set":
            return [{"op": "set", "id": chosen, **rest[1]}]
        file = fold.file_with(chosen)
        target = file.versions[rest[0] % len(file.versions)]
        return [alias(file.key, rest[1], target.id if rest[2] else None)]

    def send(self, source: Place, target: Place) -> bool:
        joined, _ = join(target.registers(), source.registers())
        reverse, _ = join(source.registers(), target.registers())
        assert plain(joined.files) == plain(reverse.files) and repr(joined.info) == repr(reverse.info), (
            "the order matters"
        )
        entry = difference(target.registers(), joined)
        if entry is None:
            return False
        outcomes = target.write([entry])
        assert not [o for o in outcomes if isinstance(o, LakeError)], outcomes
        told = target.registers()
        assert plain(told.files) == plain(joined.files) and told.info.keys() == joined.info.keys(), (
            "not what was written"
        )
        assert difference(target.registers(), join(target.registers(), source.registers())[0]) is None
        return True

    def sync(self, a: Place, b: Place) -> None:
        had = a.ids() | b.ids()
        live = {v.id for p in (a, b) for v in p.fold.live()}
        trimmed = a.trimmed | b.trimmed
        self.send(a, b)
        self.send(b, a)
        assert a.state() == b.state()
        assert not self.send(a, b) and not self.send(b, a), "there was something left"
        assert had - trimmed <= a.ids(), "a version was lost"
        deleted = {v.id for v in a.fold.versions() if v.deleted_at}
        assert live <= a.ids() | trimmed and a.ids() >= live - (trimmed - had) - deleted - trimmed
        a.trimmed = b.trimmed = (trimmed | (had - a.ids())) - a.ids()
        check(a.fold)


def plain(files: dict[str, Any]) -> Any:
    """As comparable text: NaN does not equal itself."""
    return {file_id: (file.path, file.primary, sorted_items(file)) for file_id, file in files.items()}


def sorted_items(file: Any) -> list[str]:
    return [repr(file.versions[i]) for i in sorted(file.versions)] + [repr(sorted(file.aliases.items()))]


def check(fold: Fold) -> None:
    live = fold.live()
    keys = [v.key for v in live]
    folders = {folder for key in keys for folder in ancestors(key)}
    assert len(set(keys)) == len(keys) and folders.isdisjoint(keys)
    assert {f for f in {*folders, *keys} if fold.is_folder(f)} == folders
    for version in live:
        assert fold.current_at(version.key).id == version.id == fold.file_with(version.id).current.id
    assert len({v.seq for v in fold.versions()}) == len(list(fold.versions()))


@given(stories)
@settings(max_examples=300, deadline=None)
def test_lakes_that_sync_become_equal(story):
    world = World()
    for kind, *rest in story:
        if kind == "local":
            world.local(world.places[rest[0]], rest[1], rest[2])
        elif rest[0] != rest[1]:
            a, b = world.places[rest[0]], world.places[rest[1]]
            if rest[2]:
                world.sync(a, b)
            else:
                world.send(a, b)
                a.trimmed, b.trimmed = a.trimmed, b.trimmed | a.trimmed
    s, t, u = world.places
    for a, b in ((s, t), (t, u), (s, t), (s, u), (t, u)):
        world.sync(a, b)
    assert s.state() == t.state() == u.state()
