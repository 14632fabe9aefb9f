"""The entry ``merge``: what it may hold, whoever wrote it, and which states it fits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from simulation.folds import KEY, OWNER, Log, RebasedLog, alias, delete, put

from dreamlake.catalog import record as records
from dreamlake.catalog.entries import check_entries
from dreamlake.catalog.record import MAX_ENTRIES, Record
from dreamlake.errors import Conflict, InvalidInput
from dreamlake.operations.sync_join import difference, join
from dreamlake.operations.sync_registers import Registers, registers_of

DIGEST = "ab" * 32


def version(version_id: str, seq: int = 1, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": version_id, "seq": seq, "number": number, "digest": DIGEST, "size": 1, "type": "t/t", "description": None,
        "tags": [], "metadata": {}, "uploaded_at": "2026", "updated_at": "2026", "deleted_at": None, "extra": None,
        "born": 0, "marks": {}, **more,
    }  # fmt: skip


def file(file_id: str, path: str, *versions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": file_id, "path": path, "primary": True, "versions": list(versions), "aliases": {}, "marks": {}, **more
    }  # fmt: skip


def merge(after: str, *files: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"op": "merge", "after": after, "stamps": [["", 0, ""]], "files": list(files), "info": None, "gone": {}}
    return {**found, **more}


INFO: dict[str, Any] = {
    "description": None, "tags": [], "folder": None, "metadata": None, "write_protected": False, "created_at": "2026",
    "updated_at": "2026", "dropped_at": None, "extra": None, "marks": {},
}  # fmt: skip

GOOD = merge("t1", file("v1", "/a", version("v1"), aliases={"best": ["v1", 0], "old": [None, 0]}), info=INFO)


def broken(*where: Any, value: Any) -> dict[str, Any]:
    entry = copy.deepcopy(GOOD)
    place: Any = entry
    for step in where[:-1]:
        place = place[step]
    if value is KeyError:
        del place[where[-1]]
    else:
        place[where[-1]] = value
    return entry


V = ("files", 0, "versions", 0)


@pytest.mark.parametrize(
    "entry",
    [
        broken("after", value=None),
        broken("stamps", value=[["", "0", ""]]),
        broken("stamps", value=[["", True, ""]]),
        broken("stamps", value=[["", 0]]),
        broken("stamps", value=[]),
        broken("gone", value={"x": 1}),
        broken("gone", value=[]),
        broken("info", "tags", value="x"),
        broken("info", "created_at", value=KeyError),
        broken("info", "marks", value={"tags": 7}),
        broken("files", 0, "path", value="a"),
        broken("files", 0, "path", value="/../a"),
        broken("files", 0, "path", value="/a\\b"),
        broken("files", 0, "id", value=""),
        broken("files", 0, "primary", value=1),
        broken("files", 0, "marks", value={"path": -1}),
        broken("files", 0, "aliases", value={"best": ["other", 0]}),
        broken("files", 0, "aliases", value={"best": "v1"}),
        broken("files", 0, "aliases", value={"best": [["v1"], 0]}),
        broken(*V, "digest", value="zz"),
        broken(*V, "digest", value="../" + DIGEST[3:]),
        broken(*V, "size", value=-1),
        broken(*V, "size", value=True),
        broken(*V, "seq", value=0),
        broken(*V, "number", value=0),
        broken(*V, "tags", value="t"),
        broken(*V, "metadata", value=None),
        broken(*V, "deleted_at", value=1),
        broken(*V, "born", value=1),
        broken(*V, "born", value=KeyError),
        broken(*V, "marks", value={"tags": 1}),
        broken("files", 0, "versions", value=[version("v1"), version("v1", 2, 2)]),
        broken("files", 0, "versions", value=[version("v1", 2, 2), version("v2", 3, 2)]),
        broken("files", 0, "versions", value=[version("v1", 2, 1), version("v2", 2, 2)]),
    ],
)
def test_what_the_fold_could_not_take_is_refused(entry):
    with pytest.raises(InvalidInput, match="cannot be stored"):
        check_entries([entry], MAX_ENTRIES)


def test_a_good_one_is_taken():
    check_entries([GOOD], MAX_ENTRIES)
    made = Record("t2", OWNER, KEY, "2026", (), (GOOD,))
    assert records.decode(records.encode(made), "here").entries == (GOOD,)


def refused(outcome: Any, match: str) -> bool:
    return isinstance(outcome, Conflict) and match in str(outcome)


@pytest.mark.parametrize("kind", [Log, RebasedLog])
@pytest.mark.parametrize(
    ("files", "more", "why"),
    [
        ([file("x", "/x", version("x", 9))], {"after": "t1"}, "changed while"),
        ([file("a1", "/a", version("a1"))], {}, "version a2 of /a would be lost"),
        ([file("x", "/x", version("b1", 9))], {}, "belongs to another file, /b"),
        ([file("x", "/a", version("x", 9))], {}, "/a belongs to another file"),
        ([file("x", "/x", version("x", 1))], {}, "same place in the order"),
        ([file("x", "/a/in", version("x", 9))], {}, "/a is a file"),
        ([file("x", "/f", version("x", 9))], {}, "/f is a folder"),
        ([file("x", "/x", version("x", 9)), file("y", "/x", version("y", 10))], {}, "own the same path"),
        ([file("x", "/x", version("x", 9)), file("y", "/x/y", version("y", 10))], {}, "/x is a folder"),
        ([file("x", "/x", version("x", 9)), file("x", "/y", version("y", 10))], {}, "only once"),
        ([file("x", "/x", version("x", 9)), file("y", "/y", version("x", 10))], {}, "the same id"),
        ([file("x", "/x", version("x", 9), primary=False)], {}, "owns its path"),
    ],
)
def test_what_does_not_fit_the_state_is_refused(kind, files, more, why):
    log = kind([put("/a", "a1")], [put("/a", "a2")], [put("/b", "b1")], [put("/f/g", "g1")])
    before = log.paths()
    [outcome] = log(merge("t4", *files, **more) if "after" not in more else merge(more["after"], *files))
    assert refused(outcome, why), outcome
    assert log.paths() == before
    assert all(refused(o, "do nothing else") for o in log(merge("t5"), put("/z", "z1")))


@pytest.mark.parametrize("kind", [Log, RebasedLog])
def test_files_change_places_in_one_merge(kind):
    log = kind([put("/a", "a1")], [put("/b", "b1"), put("/f/g", "g1")])
    log.must(merge("t2", file("a1", "/b", version("a1", 1)), file("b1", "/f", version("b1", 2)),
                   file("g1", "/f/g"), gone={"g1": 0}))  # fmt: skip
    assert log.paths() == {"/b": "a1", "/f": "b1"}
    assert not log.fold.is_folder("/f") and log.fold.file_with("g1") is None and log.fold.file_at("/a") is None
    log.must(put("/a/x", "x1"))
    assert log.fold.is_folder("/a")


def test_a_protected_session_and_a_dropped_one_take_it():
    log = Log([put("/a", "a1")], [{"op": "session", "write_protected": True}])
    log.must(merge("t2", file("x", "/x", version("x", 5))))
    log.must({"op": "drop"})
    log.must(merge("t4", file("y", "/y", version("y", 6))))
    assert set(log.paths()) == {"/y"}


# ---- stamps --------------------------------------------------------------------------------------------------------


def told(*entries: tuple[int, list[dict[str, Any]]]) -> Registers:
    """Registers of a log: (minute, entries) a record."""
    made = [
        Record(f"r{n}", OWNER, KEY, f"2026-01-01T00:{minute:02d}:00.000000Z", (), tuple(found))
        for n, (minute, found) in enumerate(entries)
    ]
    return registers_of(KEY, enumerate(made, 1))


def test_a_clock_that_lags_behind_does_not_turn_the_log_round():
    regs = told((30, [put("/a", "a1")]), (10, [{"op": "set", "id": "a1", "tags": ["later"]}]), (5, [put("/a", "a2")]))
    stamps = [regs.files["a1"].versions["a1"].born, regs.files["a1"].versions["a1"].fields["tags"].stamp]
    stamps.append(regs.files["a1"].versions["a2"].born)
    assert stamps == sorted(stamps) and len(set(stamps)) == 3
    assert {stamp.at[14:16] for stamp in stamps} == {"30"}


def test_versions_of_one_record_keep_their_order():
    regs = told((1, [put("/z", "z"), put("/a", "a"), put("/m", "m")]))
    born = sorted(regs.versions(), key=lambda v: v.born)
    assert [v.id for v in born] == ["z", "a", "m"] == [v.id for v in sorted(regs.versions(), key=lambda v: v.seq)]
    assert difference(regs, join(regs, Registers())[0]) is None


def test_what_does_not_change_keeps_its_stamp():
    first = told((1, [put("/a", "a1", tags=["t"])]))
    again = told((1, [put("/a", "a1", tags=["t"])]), (2, [{"op": "set", "id": "a1", "tags": ["t"]}]))
    of = [regs.files["a1"].versions["a1"].fields["tags"].stamp for regs in (first, again)]
    assert of[0] == of[1]


def test_a_version_that_was_let_go_stays_where_it_has_a_name():
    common = (1, [put("/a", "a1")]), (2, [put("/a", "a2")])
    trimmed = told(*common, (3, [{"op": "trim", "ids": ["a1"]}]))
    assert set(join(trimmed, told(*common))[0].files["a1"].versions) == {"a2"}
    named = told(*common, (4, [alias("/a", "best", "a1")]))
    joined = join(trimmed, named)[0]
    assert set(joined.files["a1"].versions) == {"a1", "a2"} and "a1" not in joined.gone
    assert joined.files["a1"].aliases["best"].value == "a1"
    deleted = told(*common, (4, [delete("a2")]))
    assert set(join(trimmed, deleted)[0].files["a1"].versions) == {"a2"}


def undelete(version_id: str) -> dict[str, Any]:
    return {"op": "undel", "id": version_id, "ids": []}


def test_a_restore_wins_over_a_deletion_that_did_not_know_it():
    common = (1, [put("/a", "a1")])
    deleted = told(common, (3, [put("/a", "a2")]), (4, [delete("a2")]))
    restored = told(common, (5, [delete("a1")]), (6, [undelete("a1")]))
    for joined in (join(deleted, restored)[0], join(restored, deleted)[0]):
        assert joined.files["a1"].live
        assert [v.deleted for v in joined.files["a1"].ordered()] == [False, False]


def test_a_live_file_owns_its_path_and_two_that_meet_there_are_one():
    common = (1, [put("/a", "a1"), put("/b", "b1")]), (2, [delete("b1")])
    moved = told(*common, (4, [{"op": "move", "id": "a1", "to": "/b"}]))
    assert not moved.files["b1"].primary.value
    uploaded = told(*common, (5, [put("/b", "b2")]))
    for joined in (join(moved, uploaded)[0], join(uploaded, moved)[0]):
        assert set(joined.files) == {"a1"}
        assert [v.id for v in joined.files["a1"].ordered()] == ["a1", "b1", "b2"]
        assert joined.files["a1"].path.value == "/b" and joined.files["a1"].primary.value
        assert [v.number for v in joined.files["a1"].ordered()] == [1, 2, 3]


def test_uploads_keep_a_session_that_was_dropped_elsewhere():
    common = (0, [{"op": "session"}]), (1, [put("/a", "a1")])
    dropped, used = told(*common, (3, [{"op": "drop"}])), told(*common, (2, [put("/b", "b1")]))
    joined, clashes = join(dropped, used)
    assert not joined.dropped and joined.files["b1"].live and not joined.files["a1"].live
    assert "dropped" in clashes[0].what
    assert join(dropped, told(*common))[0].dropped


def test_stamps_that_a_merge_brought_count_as_seen():
    ahead = told((50, [put("/a", "a1")]))
    entry = difference(Registers(), join(Registers(), ahead)[0])
    assert entry is not None
    behind = told((1, [entry]), (2, [put("/a", "a2")]))
    assert [v.id for v in behind.files["a1"].ordered()] == ["a1", "a2"]
    assert not behind.files["a1"].versions["a2"].deleted
