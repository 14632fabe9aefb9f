"""A fold from a checkpoint says the same as the fold of the whole log, whatever happened and wherever it was made.

Random records over a few paths: every operation, several entries to a record, ids that mostly fit and sometimes do not.
Three folds take them: one from the first record on, one that is put into a checkpoint before every
record, and one that is put there now and then. After each record all three give the same answers.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.folds import KEY, OWNER, alias, delete, move, put, state, trim, undelete

from dreamlake.catalog.checkpoint import Checkpoint, dump
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import LakeError
from dreamlake.model import ancestors

PATHS = ["/a", "/b", "/a/x", "/a0", "/c/z"]
some_path = st.sampled_from(PATHS)
pick = st.integers(0, 40)  # an index into what would fit, wrapping round; beyond 35: into all versions ever made
times = st.integers(0, 30)
names = st.sampled_from(["best", "last"])

KINDS = {
    "put": st.tuples(some_path, st.booleans()),
    "del": st.tuples(pick),
    "move": st.tuples(pick, some_path),
    "undel": st.tuples(pick, st.lists(pick, max_size=2)),
    "set": st.tuples(pick, st.sampled_from(["description", "tags", "metadata"])),
    "alias": st.tuples(pick, names, st.booleans()),
    "trim": st.tuples(st.lists(pick, min_size=1, max_size=6), st.none() | times),
    "session": st.tuples(st.sampled_from([{}, {"description": "d"}, {"tags": ["x"]}, {"write_protected": False}])),
    "protect": st.tuples(),
    "drop": st.tuples(),
    "noop": st.tuples(),
}
WEIGHTS = {"put": 5, "del": 4, "move": 4, "undel": 4, "set": 1, "alias": 2, "trim": 3, "session": 1}
weighted = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)] + ["protect", "drop", "noop"]
entry = st.sampled_from(weighted).flatmap(lambda kind: KINDS[kind].map(lambda rest: (kind, *rest)))
record = st.tuples(
    st.integers(1, 8).flatmap(lambda n: st.lists(entry, min_size=1, max_size=max(1, n - 5))), st.booleans()
)
logs = st.lists(record, min_size=12, max_size=40)


class Story:
    """Turns drawn entries into real ones that mostly fit the state; ``made`` are the ids of all versions so far."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def _pick(self, index: int, fitting: list[str]) -> str:
        chosen = fitting if fitting and index <= 35 else self.made
        return chosen[index % len(chosen)] if chosen else "unknown"

    def real(self, drawn: tuple[Any, ...], fold: Fold) -> dict[str, Any]:
        kind, rest = drawn[0], drawn[1:]
        live = [v.id for v in fold.live()]
        files = sorted((f for f in fold.files() if f.versions), key=lambda f: f.file_id)
        if kind == "put":
            version_id = f"v{len(self.made)}"
            more = {"tags": ["t"], "metadata": {"x": len(self.made)}, "later": 1} if rest[1] else {}
            self.made.append(version_id)
            return put(rest[0], version_id, **more)
        if kind == "del":
            return delete(self._pick(rest[0], live))
        if kind == "move":
            return move(self._pick(rest[0], live), rest[1])
        if kind == "undel":
            dead = [f.versions[-1].id for f in files if f.current is None]
            return undelete(self._pick(rest[0], dead), *(self._pick(i, self.made) for i in rest[1]))
        if kind == "set":
            value = {"description": "new", "tags": ["new"], "metadata": {"new": 1}}[rest[1]]
            return {"op": "set", "id": self._pick(rest[0], live), rest[1]: value}
        if kind == "alias":
            kept = [v.id for f in files for v in f.versions]
            version_id = self._pick(rest[0], kept)
            path = next((f.key for f in files if any(v.id == version_id for v in f.versions)), "/a")
            return alias(path, rest[1], version_id if rest[2] else None)
        if kind == "trim":
            old = [v.id for f in files for v in f.versions if v is not f.current]
            before = {} if rest[1] is None else {"deleted_before": moment(rest[1])}
            return {**trim(*(self._pick(i, old) for i in rest[0])), **before}
        if kind == "session":
            return {"op": "session", **rest[0]}
        return {"op": "session", "write_protected": True} if kind == "protect" else {"op": kind}


def moment(n: int) -> str:
    return f"2026-01-01T00:{n:02d}:00.000000Z"


def rebased(fold: Fold) -> Fold:
    return Fold(KEY, Checkpoint(KEY, None, dump(fold)))


def told(outcomes: list[Any]) -> list[Any]:
    return [(type(o), str(o)) if isinstance(o, LakeError) else o for o in outcomes]


def check_invariants(fold: Fold) -> None:
    live = fold.live()
    keys = [v.key for v in live]
    assert len(set(keys)) == len(keys), "two live files at one path"
    folders = {folder for key in keys for folder in ancestors(key)}
    assert folders.isdisjoint(keys), "a path is both file and folder (I8)"
    assert {f for f in {*folders, *keys, *PATHS} if fold.is_folder(f)} == folders
    for version in live:
        assert fold.current_at(version.key) == version
        assert fold.file_with(version.id).current == version
    assert [v.seq for v in live] == sorted({v.seq for v in live})
    for file in fold.files():
        numbers = [v.number for v in file.versions]
        assert numbers == sorted(set(numbers))
        assert all(v.key == file.key and v.file_id == file.file_id for v in file.versions)
        kept = {v.id for v in file.versions}
        assert set(file.aliases.values()) <= kept, "an alias of a version that is gone"


@given(logs)
@settings(max_examples=150, deadline=None)
def test_a_fold_from_a_checkpoint_equals_the_fold_of_the_log(log):
    story = Story()
    whole, every, some = Fold(KEY), Fold(KEY), Fold(KEY)
    for n, (drawn, checkpoint_now) in enumerate(log, 1):
        record = Record(f"t{n}", OWNER, KEY, moment(n), (), tuple(story.real(d, whole) for d in drawn))
        every = rebased(every)
        if checkpoint_now:
            some = rebased(some)
        before = state(whole)
        outcomes = told(whole.apply(n, copy.deepcopy(record)))
        refused = [o for o in outcomes if isinstance(o, tuple) and not hasattr(o, "seq")]
        assert len(refused) in (0, len(record.entries)), "a record is taken whole or refused whole"
        if refused:
            assert state(whole)[2:] == before[2:], "a refused record changed something"
        expected = state(whole)
        for other in (every, some):
            assert told(other.apply(n, copy.deepcopy(record))) == outcomes
        assert state(every) == expected
        if checkpoint_now or n == len(log):
            assert state(some) == expected
        check_invariants(whole)
