"""What every entry of a record means, and that a record is applied whole or refused whole (SPEC "Records")."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from simulation.folds import (
    KEY,
    OWNER,
    Log,
    RebasedLog,
    alias,
    delete,
    digest_of,
    move,
    put,
    state,
    trim,
    undelete,
)

from dreamlake.catalog import fold as fold_module
from dreamlake.catalog.checkpoint import Checkpoint, dump
from dreamlake.catalog.entries import OPS, check_entries
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import Conflict, InvalidInput, LakeError, NotFound, StateError
from dreamlake.model import Version


@pytest.fixture(params=["log", "checkpoint"])
def log(request):
    """A log whose state lies in memory, or in a checkpoint before each step of the test."""
    return Log() if request.param == "log" else RebasedLog()


# ---- put ---------------------------------------------------------------------------------------------------------


def test_a_put_makes_the_first_version(log):
    (made,) = log.must(put("/m/a", "a1", description="d", tags=["t"], metadata={"x": 1}, at="2026-02-02T00:00:00Z"))
    assert made == Version(
        1, "a1", "/m/a", "a1", 1, digest_of("a1"), 1, "t/t", "d", ["t"], {"x": 1},
        "2026-02-02T00:00:00Z", "2026-02-02T00:00:00Z", None, None,
    )  # fmt: skip
    assert log.fold.live() == [made]
    assert log.fold.current_at("/m/a") == made
    assert log.fold.is_folder("/m")
    assert log.fold.is_folder("/")
    assert not log.fold.is_folder("/m/a")


def test_a_put_without_a_time_takes_that_of_its_record(log):
    (made,) = log.must(put("/a", "a1"))
    assert made.uploaded_at == made.updated_at == "2026-01-01T00:01:00.000000Z"


def test_a_second_put_on_a_path_is_the_next_version_of_the_same_file(log):
    log.must(put("/a", "a1"))
    (second,) = log.must(put("/a", "a2"))
    assert (second.file_id, second.number, second.seq) == ("a1", 2, 2)
    assert [v.id for v in log.fold.file_at("/a").versions] == ["a1", "a2"]
    assert log.paths() == {"/a": "a2"}


def test_unknown_fields_of_a_put_survive(log):
    (made,) = log.must(put("/a", "a1", later={"x": [1]}, description="d", tags=[], metadata={}, at="t"))
    assert made.extra == {"later": {"x": [1]}}
    (made,) = log.must(put("/b", "b1", later="kept"))  # also when it leaves out fields that may be left out
    assert made.extra == {"later": "kept"}
    (made,) = log.must(put("/c", "c1"))
    assert made.extra is None


@pytest.mark.parametrize("path", ["/a/b", "/a/b/c"])
def test_no_path_is_both_file_and_folder(log, path):
    log.must(put("/a", "a1"))
    assert isinstance(log(put(path, "x"))[0], Conflict)
    log.must(delete("a1"))
    log.must(put(path, "x"))
    assert isinstance(log(put("/a", "y"))[0], Conflict)
    assert isinstance(log(undelete("a1"))[0], Conflict)
    assert log.paths() == {path: "x"}


def test_a_folder_name_is_not_a_prefix_of_text(log):
    log.must(put("/models2/x", "x"))
    assert not log.fold.is_folder("/models")
    log.must(put("/models", "m"))
    assert log.fold.live_at("/models") == []
    assert [v.id for v in log.fold.live_at("/models2")] == ["x"]
    assert [v.id for v in log.fold.live_at("/")] == ["x", "m"]


# ---- set, del, undel ---------------------------------------------------------------------------------------------


def test_a_set_changes_only_what_it_names(log):
    log.must(put("/a", "a1", description="d", tags=["t"], metadata={"x": 1}))
    (made,) = log.must({"op": "set", "id": "a1", "tags": ["u"], "at": "later"})
    assert (made.description, made.tags, made.metadata, made.updated_at) == ("d", ["u"], {"x": 1}, "later")
    assert made.uploaded_at == "2026-01-01T00:01:00.000000Z"
    (made,) = log.must({"op": "set", "id": "a1", "description": None, "metadata": {}})
    assert (made.description, made.tags, made.metadata) == (None, ["u"], {})
    assert log.fold.current_at("/a") == made


def test_only_the_current_version_can_be_changed(log):
    log.must(put("/a", "a1"))
    log.must(put("/a", "a2"))
    for entry in ({"op": "set", "id": "a1", "tags": []}, delete("a1"), move("a1", "/b"), delete("unknown")):
        assert isinstance(log(entry)[0], NotFound)
    log.must(delete("a2"))
    for entry in ({"op": "set", "id": "a2", "tags": []}, delete("a2"), move("a2", "/b")):
        assert isinstance(log(entry)[0], NotFound)


def test_a_deleted_file_keeps_its_history_and_its_path(log):
    log.must(put("/m/a", "a1"))
    log.must(put("/m/a", "a2"))
    (gone,) = log.must({**delete("a2"), "at": "then"})
    assert gone.id == "a2"
    assert gone.deleted_at == "then"
    assert log.fold.live() == []
    assert not log.fold.is_folder("/m")
    assert [(v.id, v.deleted_at) for v in log.fold.file_at("/m/a").versions] == [("a1", "then"), ("a2", "then")]
    assert sorted(v.id for v in log.fold.versions()) == ["a1", "a2"]


def test_undelete_brings_back_the_versions_it_names(log):
    log.must(put("/a", "a1"))
    log.must(put("/a", "a2"))
    log.must(put("/a", "a3"))
    log.must(delete("a3"))
    (back,) = log.must(undelete("a3", "a2", "a3"))
    assert back.id == "a3"
    assert back.deleted_at is None
    assert [v.deleted_at is None for v in log.fold.file_at("/a").versions] == [False, True, True]
    assert log.paths() == {"/a": "a3"}


@pytest.mark.parametrize("ids", [(), ("a1",)])
def test_undelete_always_brings_back_the_newest(log, ids):
    log.must(put("/m/a", "a1"))
    log.must(put("/m/a", "a2"))
    log.must(delete("a2"))
    (back,) = log.must(undelete("a2", *ids))
    assert back.deleted_at is None
    assert log.paths() == {"/m/a": "a2"}
    log.must(delete("a2"))
    assert not log.fold.is_folder("/m")


def test_undelete_is_refused_where_it_makes_no_sense(log):
    log.must(put("/a", "a1"))
    log.must(put("/a", "a2"))
    assert isinstance(log(undelete("a2"))[0], Conflict)  # not deleted
    log.must(delete("a2"))
    assert isinstance(log(undelete("a1"))[0], NotFound)  # not the newest
    assert isinstance(log(undelete("unknown"))[0], NotFound)
    log.must(put("/a", "a3"))  # the same file lives again
    assert isinstance(log(undelete("a2"))[0], NotFound)


def test_a_put_on_a_deleted_path_goes_on_with_its_history(log):
    log.must(put("/a", "a1"))
    log.must(delete("a1"))
    (made,) = log.must(put("/a", "a2"))
    assert (made.file_id, made.number) == ("a1", 2)
    assert [v.deleted_at is None for v in log.fold.file_at("/a").versions] == [False, True]


# ---- move --------------------------------------------------------------------------------------------------------


def test_a_move_takes_the_history_along(log):
    log.must(put("/m/a", "a1"))
    log.must(put("/m/a", "a2"))
    (moved,) = log.must({**move("a2", "/n/b"), "at": "later"})
    assert (moved.key, moved.id, moved.seq, moved.updated_at) == ("/n/b", "a2", 2, "later")
    assert log.fold.file_at("/m/a") is None
    assert [v.key for v in log.fold.file_at("/n/b").versions] == ["/n/b", "/n/b"]
    assert not log.fold.is_folder("/m")
    assert log.fold.is_folder("/n")
    assert log.fold.file_with("a1").key == "/n/b"


def test_a_move_is_refused_onto_files_folders_and_into_itself(log):
    log.must(put("/a", "a1"), put("/b", "b1"), put("/c/d", "d1"))
    for target in ("/b", "/c", "/a/x", "/b/x", "/c/d/e"):
        assert isinstance(log(move("a1", target))[0], Conflict), target
    log.must(move("a1", "/a"))  # onto itself: nothing changes
    assert log.paths() == {"/a": "a1", "/b": "b1", "/c/d": "d1"}


def test_a_move_onto_a_deleted_file_displaces_it(log):
    log.must(put("/a", "a1"), put("/b", "b1"))
    log.must(delete("b1"))
    log.must(move("a1", "/b"))
    assert log.fold.file_at("/b").file_id == "a1"
    assert log.fold.file_with("b1").key == "/b"
    assert isinstance(log(undelete("b1"))[0], Conflict)
    log.must(move("a1", "/c"))
    assert log.fold.file_at("/b") is None  # the displaced one does not own the path again by itself
    log.must(undelete("b1"))
    assert log.fold.file_at("/b").file_id == "b1"
    assert log.paths() == {"/c": "a1", "/b": "b1"}


def test_a_restored_file_displaces_a_deleted_owner(log):
    log.must(put("/a", "a1"), put("/b", "b1"))
    log.must(delete("b1"))
    log.must(move("a1", "/b"))
    log.must(delete("a1"))
    log.must(undelete("b1"))
    assert log.fold.file_at("/b").file_id == "b1"
    (made,) = log.must(put("/b", "b2"))
    assert made.file_id == "b1"
    assert isinstance(log(undelete("a1"))[0], Conflict)


# ---- alias, trim -------------------------------------------------------------------------------------------------


def test_an_alias_points_at_one_version_and_can_move(log):
    log.must(put("/a", "a1"))
    log.must(put("/a", "a2"))
    (made,) = log.must(alias("/a", "best", "a1"))
    assert made.id == "a1"
    log.must(alias("/a", "best", "a2"))
    assert log.fold.file_at("/a").aliases == {"best": "a2"}
    assert log.must(alias("/a", "best", None)) == [None]
    assert log.fold.file_at("/a").aliases == {}


def test_an_alias_needs_its_file_and_version(log):
    log.must(put("/a", "a1"), put("/b", "b1"))
    for entry in (alias("/x", "n", "a1"), alias("/a", "n", "b1"), alias("/a", "n", None)):
        assert isinstance(log(entry)[0], NotFound)
    log.must(delete("a1"))
    assert isinstance(log(alias("/a", "n", "a1"))[0], NotFound)


def test_trim_forgets_versions_but_never_a_current_or_aliased_one(log):
    for n in range(1, 5):
        log.must(put("/a", f"a{n}"))
    log.must(alias("/a", "best", "a2"))
    assert log.must(trim("a1", "a2", "a4", "unknown")) == [None]
    assert [v.id for v in log.fold.file_at("/a").versions] == ["a2", "a3", "a4"]
    assert log.fold.file_with("a1") is None
    (made,) = log.must(put("/a", "a5"))
    assert made.number == 5


def test_trim_forgets_a_deleted_file_for_good(log):
    log.must(put("/m/a", "a1"))
    log.must(put("/m/a", "a2"))
    log.must(alias("/m/a", "best", "a1"))
    log.must(delete("a2"))
    log.must(trim("a1", "a2"))
    assert log.fold.file_at("/m/a") is None
    assert list(log.fold.versions()) == []
    assert isinstance(log(undelete("a2"))[0], NotFound)
    (made,) = log.must(put("/m/a", "b1"))
    assert (made.file_id, made.number) == ("b1", 1)
    assert log.fold.file_at("/m/a").aliases == {}


def test_trim_forgets_versions_of_an_earlier_life_aliased_or_not(log):
    log.must(put("/a", "a1"))
    log.must(alias("/a", "best", "a1"))
    log.must(delete("a1"))
    log.must(put("/a", "a2"))
    log.must(trim("a1"))
    assert [v.id for v in log.fold.file_at("/a").versions] == ["a2"]
    assert log.fold.file_at("/a").aliases == {}


# ---- session, drop -----------------------------------------------------------------------------------------------


def test_a_session_entry_creates_and_then_updates(log):
    assert not log.fold.info.exists
    log.must({"op": "session", "at": "t1", "description": "d", "tags": ["x"], "later": 1})
    assert log.fold.info.exists
    log.must({"op": "session", "at": "t2", "metadata": {"k": 1}, "newer": 2})
    info = log.fold.info
    assert (info.description, list(info.tags), info.metadata) == ("d", ["x"], {"k": 1})
    assert (info.created_at, info.updated_at, info.extra) == ("t1", "t2", {"later": 1, "newer": 2})


def test_a_write_protected_session_refuses_changes(log):
    log.must(put("/a", "a1"))
    log.must({"op": "session", "at": "t", "write_protected": True})
    for entry in (put("/b", "b1"), delete("a1"), move("a1", "/b"), alias("/a", "n", "a1"), trim("a1")):
        assert isinstance(log(entry)[0], StateError)
    log.must({"op": "noop"})
    log.must({"op": "read"})
    assert log.paths() == {"/a": "a1"}


def test_a_dropped_session_has_no_live_files_and_takes_none(log):
    log.must({"op": "session", "at": "t1"}, put("/m/a", "a1"))
    log.must({"op": "drop", "at": "t2"})
    assert not log.fold.info.exists
    assert log.fold.live() == []
    assert not log.fold.is_folder("/m")
    assert isinstance(log(put("/b", "b1"))[0], StateError)  # its writer would be told that it is safe
    assert isinstance(log(undelete("a1"))[0], StateError)
    log.must({"op": "session", "at": "t3"})  # somebody opens it again
    assert log.fold.info.created_at == "t3"
    log.must(undelete("a1"))
    assert log.paths() == {"/m/a": "a1"}


def test_drop_ends_write_protection(log):
    log.must(put("/old", "o1"))
    log.must({"op": "session", "at": "t1", "write_protected": True})
    log.must({"op": "drop", "at": "t2"})
    log.must(trim("o1"))  # a collector may forget what was in it
    assert list(log.fold.versions()) == []
    log.must({"op": "session", "at": "t3"})
    log.must(put("/a", "a1"))


# ---- whole or not at all -----------------------------------------------------------------------------------------

BAD_PAIRS = [
    [delete("a1"), delete("a1")],
    [delete("a1"), {"op": "set", "id": "a1", "tags": ["x"]}],
    [{"op": "set", "id": "a1", "tags": ["x"]}, delete("a1")],
    [delete("a1"), move("a1", "/z")],
    [move("a1", "/z"), delete("a1")],
    [move("a1", "/z"), move("b1", "/z")],
    [move("a1", "/z"), move("b1", "/z/y")],
    [move("a1", "/z/y"), move("b1", "/z")],
    [move("a1", "/y"), move("a1", "/z")],
    [move("a1", "/z"), put("/z", "z1")],
    [put("/z", "z1"), move("a1", "/z")],
    [put("/z/y", "z1"), move("a1", "/z")],
    [put("/a", "a2"), move("a1", "/z")],
    [put("/a", "a2"), delete("a1")],
    [put("/a", "a2"), put("/a", "a3")],
    [put("/z", "z1"), put("/z/y", "z2")],
    [put("/z/y", "z1"), put("/z", "z2")],
    [put("/y", "z1"), put("/z", "z1")],
    [undelete("d1"), undelete("d1")],
    [undelete("d1"), put("/d", "d2")],
    [undelete("d1"), move("a1", "/d")],
    [move("a1", "/d"), undelete("d1")],
    [undelete("d1"), put("/d/x", "x1")],
    [trim("d1"), undelete("d1")],
    [undelete("d1"), trim("d1")],
    [trim("c1"), alias("/c", "n", "c1")],
    [alias("/c", "n", "c1"), trim("c1")],
    [alias("/a", "n", "a1"), delete("a1")],
    [{"op": "drop"}, delete("a1")],
    [{"op": "drop"}, put("/z", "z1")],
    [put("/z", "z1"), {"op": "drop"}],
    [{"op": "drop"}, {"op": "drop"}],
]


def pair_name(entries: list[dict[str, Any]]) -> str:
    return " ".join(f"{e['op']}-{e.get('path', e.get('to', e.get('id', '')))}".replace("/", "") for e in entries)


@pytest.mark.parametrize("entries", BAD_PAIRS, ids=pair_name)
def test_entries_that_depend_on_each_other_refuse_the_record_and_change_nothing(log, entries):
    log.must(put("/a", "a1"), put("/b", "b1"), put("/c", "c1"), put("/d", "d1"))
    log.must(put("/c", "c2"))
    log.must(delete("d1"))
    before = state(log.fold)
    outcomes = log(*entries)
    assert len(outcomes) == 2
    assert all(isinstance(o, LakeError) for o in outcomes), outcomes
    assert state(log.fold)[2:] == before[2:]
    assert log.fold.n == before[0] + 1
    log.must(put("/a", "a9"))  # and the session goes on


def test_independent_entries_of_every_kind_fit_into_one_record(log):
    log.must(put("/a", "a1"), put("/b", "b1"), put("/c", "c1"), put("/d", "d1"), put("/e", "e1"))
    log.must(put("/c", "c2"))
    log.must(delete("d1"))
    outcomes = log.must(
        {"op": "session", "at": "t"},
        put("/f", "f1"),
        move("a1", "/x/a"),
        {"op": "set", "id": "b1", "tags": ["t"]},
        alias("/c", "one", "c1"),
        alias("/c", "two", "c2"),
        undelete("d1"),
        delete("e1"),
        {"op": "noop"},
    )
    assert [o.id if o else None for o in outcomes] == [None, "f1", "a1", "b1", "c1", "c2", "d1", "e1", None]
    assert log.paths() == {"/x/a": "a1", "/b": "b1", "/c": "c2", "/d": "d1", "/f": "f1"}


def test_one_refused_entry_refuses_all(log):
    log.must(put("/a", "a1"))
    before = state(log.fold)
    outcomes = log(put("/b", "b1"), delete("unknown"), put("/c", "c1"))
    assert [type(o) for o in outcomes] == [NotFound] * 3
    assert state(log.fold)[2:] == before[2:]


def test_refusal_says_beforehand_what_apply_will_do(log):
    log.must(put("/a", "a1"))
    for entries in ([put("/a/b", "x")], [delete("a1")], [delete("x")], [put("/b", "x")], [delete("a1"), delete("a1")]):
        said = log.fold.refusal(entries)
        probe = Fold(KEY, Checkpoint(KEY, None, dump(log.fold)))
        done = probe.apply(probe.n + 1, Record("t", OWNER, KEY, "t", (), tuple(copy.deepcopy(entries))))
        assert (said is None) == (not isinstance(done[0], LakeError))


def test_every_operation_has_a_meaning():
    assert set(fold_module._APPLY) == set(OPS)
    assert set(fold_module._CHECK) <= set(OPS)


# ---- check_entries -----------------------------------------------------------------------------------------------


def test_a_record_holds_between_one_and_the_limit_of_entries():
    with pytest.raises(InvalidInput, match="at least one"):
        check_entries([], 3)
    check_entries([put(f"/{i}", str(i)) for i in range(3)], 3)
    with pytest.raises(InvalidInput, match="4 files"):
        check_entries([put(f"/{i}", str(i)) for i in range(4)], 3)


def test_two_puts_on_one_path_are_told_before_anything_is_claimed():
    with pytest.raises(Conflict, match="/a"):
        check_entries([put("/a", "1"), put("/b", "2"), put("/a", "3")], 9)
    with pytest.raises(Conflict, match="/a is a file and a folder"):
        check_entries([put("/a/b/c", "1"), put("/a", "2")], 9)
