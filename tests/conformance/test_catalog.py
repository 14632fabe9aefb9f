"""What every ``Catalog`` promises (see its docstrings), checked on each implementation."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import sqlite3
import threading
from typing import Any

import pytest
from conformance.conftest import FolderCatalogWorld, NoSync, SmallFolderCatalogWorld, checked_record

from dreamlake.catalog import Catalog
from dreamlake.catalog import folder as folder_module
from dreamlake.catalog import record as records
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.errors import ClaimRevoked, Conflict, Corrupt, InvalidInput, LakeError, NotFound, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.ports import Ports, this_process

KEY = SessionKey("w", "s")
OTHER = SessionKey("w", "t")


def put(path: str, version_id: str, **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(version_id.encode()).hexdigest()
    return {"op": "put", "id": version_id, "path": path, "digest": digest, "size": 1, "type": "t/t", **fields}


def commit(catalog: Catalog, *entries: dict[str, Any], session: SessionKey = KEY) -> Any:
    return catalog.commit(catalog.claim(session, [], entries))


def fill(catalog: Catalog, count: int, session: SessionKey = KEY, start: int = 0) -> None:
    for i in range(start, start + count):
        commit(catalog, put(f"/{i}", f"{i:x}"), session=session)


def live(fold: Fold) -> dict[str, str]:
    return {v.key: v.id for v in fold.live()}


# ---- claim ---------------------------------------------------------------------------------------------------------


def test_a_claim_is_visible_to_everybody_before_it_returns(world):
    needs = ["a" * 64, "b" * 64]
    claim = world.catalog.claim(KEY, needs, [put("/a", "a1", metadata={"x": 1}, later={"y": 2})])
    (seen,) = world.again().pending()
    assert seen.token == claim.token
    assert seen.record == claim.record
    assert seen.record.session == KEY
    assert seen.record.needs == tuple(needs)
    assert seen.record.owner == this_process()
    assert -1 < seen.age_s < 60
    stored = world.claims()[claim.token]
    assert stored["needs"] == needs
    assert stored["entries"] == [put("/a", "a1", metadata={"x": 1}, later={"y": 2})]


def test_a_claim_changes_nothing_else(world):
    world.catalog.claim(KEY, [], [put("/a", "a1")])
    assert world.log(KEY) == []
    assert world.again().sessions() == []
    assert not world.again().view(KEY).info.exists
    assert live(world.again().view(KEY)) == {}
    assert list(world.again().records(KEY)) == []


def test_a_repeated_claim_is_another_claim(world):
    first, second = (world.catalog.claim(KEY, [], [put("/a", "a1")]) for _ in range(2))
    assert first.token != second.token
    assert set(world.claims()) == {first.token, second.token}


def test_a_claim_that_cannot_be_is_refused_and_leaves_nothing(world):
    for entries, error in (
        ([], InvalidInput),
        ([put("/a", "a1"), put("/a", "a2")], Conflict),
        ([put("/a", "a1"), put("/a/b", "a2")], Conflict),
        ([{**put("/a", "a1"), "digest": "x"}], InvalidInput),
        ([{**put("/a", "a1"), "path": "/../a"}], InvalidInput),
        ([{"op": "put", "path": "/a"}], InvalidInput),
        ([{"op": "fly"}], InvalidInput),
        ([{"op": "trim", "ids": "a1"}], InvalidInput),
    ):
        with pytest.raises(error):
            world.catalog.claim(KEY, [], entries)
    assert world.claims() == {}


def test_a_record_over_the_size_limit_is_refused_and_leaves_nothing(world, monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 500)
    with pytest.raises(InvalidInput, match="500"):
        world.catalog.claim(KEY, [], [put("/a", "a1", description="x" * 500)])
    assert world.claims() == {}


def test_numbers_that_are_not_finite_survive_and_never_make_a_file_unreadable(world):
    wild = {"nan": math.nan, "inf": math.inf, "neg": -math.inf, "$float": "nan", "deep": [{"$float": 1}]}
    commit(world.catalog, put("/a", "a1", metadata=wild))
    metadata = dict(world.again().view(KEY).current_at("/a").metadata)
    assert math.isnan(metadata.pop("nan"))
    assert metadata == {"inf": math.inf, "neg": -math.inf, "$float": "nan", "deep": [{"$float": 1}]}
    assert world.log(KEY)[0]["entries"][0]["metadata"]["nan"] == {"$float": "nan"}  # read by a strict parser


# ---- commit --------------------------------------------------------------------------------------------------------


def test_a_commit_is_exactly_its_claim_as_the_next_record(world):
    for n in range(1, 9):
        claim = world.catalog.claim(KEY, [f"{n}" * 64], [put(f"/{n}", f"{n}")])
        done = world.catalog.commit(claim)
        assert done.number == n
        assert [v.id for v in done.outcomes] == [f"{n}"]
        assert len(world.log(KEY)) == n
        assert (world.log(KEY)[-1]["tok"], world.log(KEY)[-1]["needs"]) == (claim.token, [f"{n}" * 64])
        assert list(world.again().records(KEY, n - 1)) == [(n, claim.record)]


def test_a_committed_claim_is_forgotten(world):
    commit(world.catalog, put("/a", "a1"))
    assert world.claims() == {}
    assert list(world.again().pending()) == []


def test_outcomes_say_what_became_of_each_entry(world):
    done = commit(world.catalog, put("/a", "a1"), {"op": "noop"}, put("/b", "b1"))
    assert [getattr(o, "id", None) for o in done.outcomes] == ["a1", None, "b1"]
    done = commit(world.catalog, {"op": "del", "id": "a1"}, {"op": "move", "id": "b1", "to": "/c"})
    assert [(o.id, o.key, bool(o.deleted_at)) for o in done.outcomes] == [("a1", "/a", True), ("b1", "/c", False)]


def test_a_refused_record_is_committed_but_changes_nothing(world):
    commit(world.catalog, put("/a", "a1"))
    done = commit(world.catalog, put("/b", "b1"), {"op": "del", "id": "unknown"})
    assert done.number == 2
    assert [type(o) for o in done.outcomes] == [NotFound, NotFound]
    assert len(world.log(KEY)) == 2
    for client in (world.catalog, world.again()):
        assert live(client.view(KEY)) == {"/a": "a1"}
        assert client.view(KEY).n == 2


def test_a_commit_sees_what_others_committed_meanwhile(world):
    claim = world.catalog.claim(KEY, [], [put("/a/b", "b1")])
    commit(world.again(), put("/a", "a1"))
    done = world.catalog.commit(claim)
    assert done.number == 2
    assert isinstance(done.outcomes[0], Conflict)


def test_a_claim_commits_once(world):
    claim = world.catalog.claim(KEY, [], [put("/a", "a1")])
    world.catalog.commit(claim)
    for client in (world.catalog, world.again()):
        with contextlib.suppress(ClaimRevoked):
            assert client.commit(claim).number == 1
    assert len(world.log(KEY)) == 1


def test_another_client_may_commit_the_claim(world):
    claim = world.catalog.claim(KEY, [], [put("/a", "a1")])
    assert world.again().commit(claim).number == 1
    assert live(world.catalog.view(KEY)) == {"/a": "a1"}


def test_sessions_count_for_themselves(world):
    commit(world.catalog, put("/a", "a1"))
    assert commit(world.catalog, put("/a", "x1"), session=OTHER).number == 1
    assert commit(world.catalog, put("/b", "b1")).number == 2
    assert live(world.again().view(KEY)) == {"/a": "a1", "/b": "b1"}
    assert live(world.again().view(OTHER)) == {"/a": "x1"}


def test_concurrent_commits_are_totally_ordered(world):
    """8 threads of two clients, 20 commits each: 160 records, without gaps, every number told to one of them."""
    clients = [world.catalog, world.again()]
    numbers: list[tuple[int, str]] = []
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i in range(20):
                client = clients[worker % 2]
                claim = client.claim(KEY, [], [put(f"/{worker}/{i}", f"{worker}-{i}")])
                done = client.commit(claim)
                assert [v.id for v in done.outcomes] == [f"{worker}-{i}"]
                numbers.append((done.number, claim.token))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [number for number, _ in sorted(numbers)] == list(range(1, 161))
    assert [raw["tok"] for raw in world.log(KEY)] == [token for _, token in sorted(numbers)]
    assert world.claims() == {}
    expected = {f"/{w}/{i}": f"{w}-{i}" for w in range(8) for i in range(20)}
    for client in (*clients, world.again()):
        assert live(client.view(KEY)) == expected


# ---- revoke, touch ---------------------------------------------------------------------------------------------------


def test_a_revoked_claim_never_commits(world):
    claim = world.catalog.claim(KEY, [], [put("/a", "a1")])
    assert world.again().revoke(claim.token)
    assert world.claims() == {}
    with pytest.raises(ClaimRevoked):
        world.catalog.commit(claim)
    assert world.log(KEY) == []
    assert world.again().sessions() == []
    assert live(world.catalog.view(KEY)) == {}


def test_revoking_what_is_not_there_is_false(world):
    claim = world.catalog.claim(KEY, [], [put("/a", "a1")])
    assert world.catalog.revoke(claim.token)
    assert not world.catalog.revoke(claim.token)
    assert not world.again().revoke("0" * 32)
    claim = world.catalog.claim(KEY, [], [put("/a", "a1")])
    world.catalog.commit(claim)
    assert not world.again().revoke(claim.token)
    assert len(world.log(KEY)) == 1


def test_touch_makes_a_claim_young_again(world):
    claim = world.catalog.claim(KEY, [], [{"op": "read"}])
    world.age(claim.token, 5000)
    assert 4990 < next(world.again().pending()).age_s < 5060
    world.catalog.touch(claim)
    assert next(world.again().pending()).age_s < 60


def test_touching_a_claim_that_is_gone_is_no_error(world):
    claim = world.catalog.claim(KEY, [], [{"op": "read"}])
    world.catalog.revoke(claim.token)
    world.catalog.touch(claim)
    assert list(world.catalog.pending()) == []


# ---- records ---------------------------------------------------------------------------------------------------------


def test_records_come_in_order_from_anywhere(world):
    fill(world.catalog, 10)
    found = list(world.again().records(KEY))
    assert [n for n, _ in found] == list(range(1, 11))
    assert [record.entries[0]["id"] for _, record in found] == [f"{i:x}" for i in range(10)]
    assert list(world.again().records(KEY, 7)) == found[7:]
    assert list(world.again().records(KEY, 10)) == []
    assert list(world.again().records(KEY, 99)) == []


def test_an_unknown_session_has_no_records(world):
    assert list(world.catalog.records(KEY)) == []


def test_a_damaged_record_is_named(folder):
    fill(folder.catalog, 8)
    file = folder.record_file(KEY, 5)
    good = file.read_bytes()
    for bad in (b"", good[:-1], good[:100], good.replace(b"/4", b"/5"), good + b"x", b"{}", bytes(len(good))):
        replace(file, bad)
        with pytest.raises(Corrupt, match=r"5\.json"):
            list(folder.again().records(KEY))
    replace(file, good)
    assert len(list(folder.again().records(KEY))) == 8


def test_a_newer_record_is_refused_not_guessed(folder):
    fill(folder.catalog, 4)
    replace(folder.record_file(KEY, 4), sealed({**raw_record(folder, 4), "v": 2}))
    with pytest.raises(UnsupportedFormat, match="format 2"):
        list(folder.again().records(KEY))
    replace(folder.record_file(KEY, 4), sealed({**raw_record(folder, 4), "v": 1, "entries": [{"op": "fly"}]}))
    with pytest.raises(UnsupportedFormat, match="fly"):
        list(folder.again().records(KEY))


def test_a_gap_is_named(folder):
    fill(folder.catalog, 8)
    folder.record_file(KEY, 5).unlink()
    with pytest.raises(Corrupt, match=r"5\.json is missing"):
        list(folder.again().records(KEY))


def test_a_record_of_another_session_is_refused(folder):
    fill(folder.catalog, 3)
    fill(folder.catalog, 3, session=OTHER)
    replace(folder.record_file(KEY, 3), folder.record_file(OTHER, 3).read_bytes())
    with pytest.raises(Corrupt, match="w/t"):
        list(folder.again().records(KEY))
    with pytest.raises(Corrupt, match="w/t"):
        folder.again().view(KEY)


# ---- view ------------------------------------------------------------------------------------------------------------


def test_a_view_is_the_fold_of_all_records(world):
    fill(world.catalog, 10)
    commit(world.catalog, {"op": "del", "id": "3"})
    commit(world.catalog, {"op": "move", "id": "4", "to": "/moved"})
    fold = Fold(KEY)
    for number, record in world.again().records(KEY):
        fold.apply(number, record)
    for client in (world.catalog, world.again()):
        view = client.view(KEY)
        assert (view.n, view.seq) == (12, 10)
        assert view.live() == fold.live()
        assert sorted(view.versions()) == sorted(fold.versions())


def test_an_unknown_session_has_an_empty_view(world):
    view = world.catalog.view(KEY)
    assert (view.n, view.live(), view.info.exists, view.info.key) == (0, [], False, KEY)
    assert world.again().sessions() == []


def test_a_view_shows_what_others_committed_before_the_call(world):
    mine, theirs = world.catalog, world.again()
    for n in range(12):
        commit(theirs if n % 2 else mine, put(f"/{n}", f"{n:x}"))
        for client in (mine, theirs):
            assert len(client.view(KEY).live()) == n + 1


def test_a_view_in_use_stays_whole_while_records_join_it(world):
    """A reader sees, at any time, the files of the first n records for some n."""
    commit(world.catalog, put("/0", "0"))
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            found = [int(v.id, 16) for v in world.catalog.view(KEY).live()]
            if found != list(range(len(found))):
                wrong.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        fill(world.catalog, 60, start=1)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_a_view_never_skips_a_gap(folder):
    fill(folder.catalog, 8)
    reader = folder.again()
    assert reader.view(KEY).n == 8
    fill(folder.catalog, 2, start=8)
    folder.record_file(KEY, 9).unlink()
    for client in (reader, folder.again()):  # one that knows the records before the gap, and one that does not
        with pytest.raises(Corrupt, match=r"9\.json is missing"):
            client.view(KEY)
        with pytest.raises(Corrupt, match=r"9\.json is missing"):  # and it does not forget
            client.view(KEY)


def test_a_view_never_skips_a_wide_gap(folder):
    fill(folder.catalog, 9)
    for number in (4, 5, 6, 7, 8):
        folder.record_file(KEY, number).unlink()
    for checkpoint in folder.checkpoints(KEY):
        checkpoint.unlink()
    with pytest.raises(Corrupt, match=r"4\.json is missing"):
        folder.again().view(KEY)


def test_a_view_of_a_damaged_log_fails_every_time(folder):
    fill(folder.catalog, 3)
    replace(folder.record_file(KEY, 2), b"{}")
    client = folder.again()
    for _ in range(3):
        with pytest.raises(Corrupt, match=r"2\.json"):
            client.view(KEY)


def test_nothing_is_committed_behind_a_gap(folder):
    fill(folder.catalog, 3)
    folder.record_file(KEY, 2).unlink()
    client = folder.again()
    with pytest.raises(Corrupt, match=r"2\.json is missing"):
        commit(client, put("/x", "x1"))
    assert not list((folder.root / "sessions" / KEY.sid / "log").glob("*/2.json"))


# ---- checkpoints (a folder's cache of views) -------------------------------------------------------------------------


def test_checkpoints_are_made_and_few_are_kept(tmp_path):
    world = SmallFolderCatalogWorld(tmp_path)
    fill(world.catalog, 40)
    assert 1 <= len(world.checkpoints(KEY)) <= 2
    (world.root / "sessions" / KEY.sid / "ckpt" / ".nfs0001").write_bytes(b"")  # what a network file system leaves
    fill(world.catalog, 40, start=40)
    assert 1 <= len(world.checkpoints(KEY)) <= 2
    assert world.scratch() == []
    assert live(world.again().view(KEY)) == {f"/{i}": f"{i:x}" for i in range(80)}


def damage_nothing(file, other):
    return None


def damage_delete(file, other):
    file.unlink()


def damage_empty(file, other):
    replace(file, b"")


def damage_cut(file, other):
    replace(file, file.read_bytes()[: file.stat().st_size // 2])


def damage_head(file, other):
    replace(file, b"x" * 100 + file.read_bytes()[100:])


def damage_middle(file, other):
    data = bytearray(file.read_bytes())
    for page in range(8192, len(data), 8192):
        data[page : page + 64] = b"\xff" * 64
    replace(file, bytes(data))


def damage_other_session(file, other):
    replace(file, other.read_bytes())


def damage_other_number(file, other):
    file.rename(file.with_name("7.sqlite"))


def damage_folder(file, other):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing,
        damage_delete,
        damage_empty,
        damage_cut,
        damage_head,
        damage_middle,
        damage_other_session,
        damage_other_number,
        damage_folder,
    ],
)
def test_the_log_is_the_truth_whatever_became_of_a_checkpoint(tmp_path, damage):
    world = SmallFolderCatalogWorld(tmp_path)
    fill(world.catalog, 22)
    fill(world.catalog, 22, session=OTHER, start=100)
    commit(world.catalog, {"op": "del", "id": "3"})
    for file, other in zip(world.checkpoints(KEY), world.checkpoints(OTHER), strict=True):
        damage(file, other)
    view = world.again().view(KEY)
    expected = {f"/{i}": f"{i:x}" for i in range(22) if i != 3}
    assert live(view) == expected
    assert view.file_at("/3").versions[-1].deleted_at
    assert view.file_with("5").key == "/5"
    assert sorted(v.id for v in view.versions()) == sorted(f"{i:x}" for i in range(22))
    client = world.again()
    commit(client, put("/x", "x1"))
    assert live(world.again().view(KEY)) == {**expected, "/x": "x1"}


def test_a_checkpoint_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    world = SmallFolderCatalogWorld(tmp_path)
    for error in (OSError(28, "full"), sqlite3.OperationalError("database or disk is full"), ValueError("bad text")):

        def fail(fold: Fold, error: Exception = error) -> bytes:
            raise error

        monkeypatch.setattr(folder_module, "dump", fail)
        fill(world.catalog, 12, start=len(world.log(KEY)))
    assert live(world.again().view(KEY)) == {f"/{i}": f"{i:x}" for i in range(36)}
    assert world.scratch() == []


def test_a_checkpoint_that_knows_more_than_the_log_is_not_used(tmp_path):
    """A lake restored from two backups: the checkpoint is of a later, or of another, history."""
    world = SmallFolderCatalogWorld(tmp_path)
    fill(world.catalog, 22)
    newest = int(world.checkpoints(KEY)[-1].stem)
    for number in range(newest - 1, 23):
        world.record_file(KEY, number).unlink()
    assert len(world.again().view(KEY).live()) == newest - 2
    fill(world.again(), 22, start=200)  # another history grows over the same numbers
    expected = {f"/{i}": f"{i:x}" for i in [*range(newest - 2), *range(200, 222)]}
    assert live(world.again().view(KEY)) == expected


# ---- pending, unreadable ---------------------------------------------------------------------------------------------


def test_pending_lists_all_claims_of_all_sessions(world):
    made = [world.catalog.claim(session, [], [put("/a", "a1")]) for session in (KEY, OTHER, KEY)]
    assert sorted(p.token for p in world.again().pending()) == sorted(claim.token for claim in made)
    assert list(world.again().unreadable()) == []


def test_an_unreadable_claim_stops_whoever_asks_for_all(folder):
    good = folder.catalog.claim(KEY, [], [put("/a", "a1")])
    bad = folder.catalog.claim(KEY, [], [put("/b", "b1")])
    file = folder.root / "pending" / f"{bad.token}.json"
    data = file.read_bytes()
    for torn in (b"", data[:50], bytes(len(data))):
        file.write_bytes(torn)
        with pytest.raises(Corrupt, match=bad.token):
            list(folder.again().pending())
        folder.age(bad.token, 1000)
        ((token, age),) = folder.again().unreadable()
        assert token == bad.token
        assert 990 < age < 1060
    assert folder.again().revoke(bad.token)
    assert [p.token for p in folder.again().pending()] == [good.token]


def test_a_claim_of_a_newer_format_is_not_damaged_but_stops_all(folder):
    claim = folder.catalog.claim(KEY, [], [put("/a", "a1")])
    file = folder.root / "pending" / f"{claim.token}.json"
    file.write_bytes(sealed({**checked_record(file.read_bytes()), "v": 2}))
    with pytest.raises(UnsupportedFormat):
        list(folder.again().pending())
    assert list(folder.again().unreadable()) == []


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_from_their_first_record_on(world):
    assert world.catalog.sessions() == []
    for name in ("b", "a", "c"):
        world.catalog.claim(SessionKey("w", f"unborn-{name}"), [], [{"op": "noop"}])
        commit(world.catalog, {"op": "session"}, session=SessionKey("w", name))
    commit(world.catalog, {"op": "session"}, session=SessionKey("v", "z"))
    expected = [SessionKey(*names) for names in (("v", "z"), ("w", "a"), ("w", "b"), ("w", "c"))]
    assert world.again().sessions() == expected


def test_a_dropped_session_is_listed(world):
    commit(world.catalog, {"op": "session"})
    commit(world.catalog, {"op": "drop"})
    assert world.again().sessions() == [KEY]
    assert not world.again().view(KEY).info.exists


def test_names_that_differ_only_in_case_or_unicode_form_are_different_sessions(world):
    keys = [SessionKey("w", name) for name in ("Run", "run", "caf\u00e9", "cafe\u0301", "a b", "日本")]
    for key in keys:
        commit(world.catalog, put("/a", key.sid), session=key)
    assert world.again().sessions() == sorted(keys)
    for key in keys:
        assert live(world.again().view(key)) == {"/a": key.sid}


def test_a_session_whose_first_record_does_not_read_is_never_overlooked(folder):
    fill(folder.catalog, 5)
    fill(folder.catalog, 2, session=OTHER)
    file = folder.record_file(KEY, 1)
    good = file.read_bytes()
    newer = sealed({**checked_record(good), "v": 2})
    for bad, error in ((b"", Corrupt), (good[:60], Corrupt), (newer, UnsupportedFormat), (None, Corrupt)):
        if bad is None:
            file.unlink()
        else:
            replace(file, bad)
        with pytest.raises(error, match=KEY.sid):
            folder.again().sessions()
        told: list[LakeError] = []
        assert folder.again().sessions(told.append) == [OTHER]
        assert [type(e) for e in told] == [error]


def test_a_copied_session_folder_is_told_apart(folder):
    fill(folder.catalog, 2)
    shutil.copytree(folder.root / "sessions" / KEY.sid, folder.root / "sessions" / ("0" * 32))
    with pytest.raises(Corrupt, match="0" * 32):
        folder.again().sessions()


def test_stray_files_among_the_sessions_do_no_harm(folder):
    fill(folder.catalog, 2)
    (folder.root / "sessions" / "README").write_text("hello")
    (folder.root / "sessions" / ("1" * 32) / "log" / "0").mkdir(parents=True)  # died before its first commit
    assert folder.again().sessions() == [KEY]


# ---- release, mend ---------------------------------------------------------------------------------------------------


def test_release_forgets_nothing_that_is_stored(world):
    fill(world.catalog, 9)
    world.catalog.release(KEY)
    world.catalog.release(OTHER)  # never seen
    assert len(world.catalog.view(KEY).live()) == 9
    world.catalog.release(KEY)
    assert commit(world.catalog, put("/x", "x1")).number == 10


def test_mend_puts_a_missing_record_back(folder):
    fill(folder.catalog, 5)
    record = dict(folder.catalog.records(KEY))[3]
    good = folder.record_file(KEY, 3).read_bytes()
    folder.record_file(KEY, 3).unlink()
    assert folder.again().mend(KEY, 3, record)
    assert folder.record_file(KEY, 3).read_bytes() == good
    assert len(folder.again().view(KEY).live()) == 5
    assert folder.scratch() == []


def test_mend_replaces_a_damaged_record_and_keeps_it_aside(folder):
    fill(folder.catalog, 5)
    record = dict(folder.catalog.records(KEY))[3]
    replace(folder.record_file(KEY, 3), b"damaged")
    assert folder.again().mend(KEY, 3, record)
    assert len(list(folder.again().records(KEY))) == 5
    (aside,) = (folder.root / "quarantine").iterdir()
    assert aside.read_bytes() == b"damaged"


def test_mend_changes_nothing_where_nothing_is_wrong(world):
    fill(world.catalog, 3)
    before = world.log(KEY)
    record = dict(world.catalog.records(KEY))[1]
    for number in (1, 2, 3, 4, 9):  # readable ones, the next, and one beyond
        assert not world.again().mend(KEY, number, record)
        assert not world.again().mend(KEY, number, None)
    assert world.log(KEY) == before


def test_mend_fills_a_gap_with_a_record_that_does_nothing(tmp_path):
    world = FolderCatalogWorld(tmp_path)
    fill(world.catalog, 5)
    world.record_file(KEY, 3).unlink()
    assert world.again().mend(KEY, 3, None)
    assert world.log(KEY)[2]["entries"] == [{"op": "noop"}]
    assert live(world.again().view(KEY)) == {"/0": "0", "/1": "1", "/3": "3", "/4": "4"}


def test_mend_never_writes_over_damage_without_a_record(folder):
    fill(folder.catalog, 5)
    replace(folder.record_file(KEY, 5), b"damaged")
    replace(folder.record_file(KEY, 3), b"damaged")
    assert not folder.again().mend(KEY, 3, None)
    assert folder.record_file(KEY, 3).read_bytes() == b"damaged"


# ---- durability ------------------------------------------------------------------------------------------------------


def test_what_was_committed_survives_a_power_cut(sim):
    for n in range(1, 9):
        commit(sim.catalog(), put(f"/{n}", f"{n}"))
        sim.power_cut()
        assert live(sim.catalog().view(KEY)) == {f"/{i}": f"{i}" for i in range(1, n + 1)}


def test_one_client_without_a_restart_is_as_durable(sim):
    client = sim.catalog()
    fill(client, 20)
    sim.power_cut()
    assert len(sim.catalog().view(KEY).live()) == 20


def test_a_claim_need_not_survive_a_power_cut(sim):
    claim = sim.catalog().claim(KEY, [], [put("/a", "a1")])
    sim.power_cut()
    assert list(sim.catalog().pending()) == []
    with pytest.raises(ClaimRevoked):
        sim.catalog().commit(claim)


@pytest.mark.parametrize("how", ["view", "records", "view and release"])
def test_barrier_makes_durable_what_was_read(sim, how):
    """Somebody else's records, linked but not yet synced, were seen: after the barrier they stay."""
    writer, reader = sim.catalog(), sim.catalog()
    writer.FSYNC_LOG = False
    fill(writer, 8)
    if how == "records":
        assert len(list(reader.records(KEY))) == 8
    else:
        assert reader.view(KEY).n == 8
        if how == "view and release":
            reader.release(KEY)
    reader.barrier()
    sim.power_cut()
    assert sim.catalog().view(KEY).n == 8


def test_without_the_barrier_they_may_go(sim):
    """The test above means something: the simulated disk forgets what nobody made durable."""
    writer, reader = sim.catalog(), sim.catalog()
    writer.FSYNC_LOG = False
    fill(writer, 2)
    assert reader.view(KEY).n == 2
    sim.power_cut()
    assert sim.catalog().view(KEY).n == 0


def test_a_barrier_covers_what_was_read_since_the_last_one(sim):
    writer, reader = sim.catalog(), sim.catalog()
    writer.FSYNC_LOG = False
    for n in range(1, 9):
        fill(writer, 1, start=n)
        assert reader.view(KEY).n == n
        reader.barrier()
        sim.fs = sim.fs.copy()
        twin = sim.fs
        sim.power_cut()
        assert sim.catalog().view(KEY).n == n
        sim.fs = twin
        writer, reader = _moved(writer, sim), _moved(reader, sim)


def _moved(client: Any, sim: Any) -> Any:
    """The same client, memory and all, on a copy of its disk."""
    client._fs = sim.fs
    client._ports = sim.ports()
    return client


# ---- helpers ---------------------------------------------------------------------------------------------------------


def replace(file: Any, data: bytes) -> None:
    """Another file under this name: the records of a log may be hard links."""
    file.unlink()
    file.write_bytes(data)


def raw_record(folder: Any, number: int) -> dict[str, Any]:
    raw = json.loads(folder.record_file(KEY, number).read_bytes())
    return {k: v for k, v in raw.items() if k != "sum"}


def sealed(raw: dict[str, Any]) -> bytes:
    body = json.dumps({k: v for k, v in raw.items() if k != "sum"}, separators=(",", ":")).encode()[:-1]
    return body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'


# ---- replies that get lost (network file systems retry a call that has already happened) -----------------------------


class LostReply(NoSync):
    """Links, and then reports what a retry of the same link would: that the name is taken, or the source gone."""

    def __init__(self, error: OSError, *, revoke: bool = False) -> None:
        self.error, self.revoke = error, revoke

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        if self.revoke:
            self.unlink(source)
        raise self.error


@pytest.mark.parametrize(
    ("error", "revoke"),
    [
        (FileExistsError(17, "File exists"), False),
        (OSError(5, "Input/output error"), False),
        (FileNotFoundError(2, "No such file"), True),  # revoked between the link and its retry: it is committed
    ],
)
def test_a_link_that_happened_is_a_commit_whatever_was_reported(folder, error, revoke):
    fill(folder.catalog, 2)
    client = FolderCatalog(Ports(fs=LostReply(error, revoke=revoke)), str(folder.root), **folder.SIZES)
    done = commit(client, put("/x", "x1"))
    assert done.number == 3
    assert [v.id for v in done.outcomes] == ["x1"]
    assert len(folder.log(KEY)) == 3
    assert folder.claims() == {}


def test_a_link_that_failed_is_no_commit(folder):
    class Refuses(NoSync):
        def link(self, source: str, target: str) -> None:
            raise OSError(28, "No space left on device")

    client = FolderCatalog(Ports(fs=Refuses()), str(folder.root))
    with pytest.raises(OSError, match="No space"):
        commit(client, put("/x", "x1"))
    assert folder.log(KEY) == []


def test_a_claim_whose_scratch_was_taken_is_a_revoked_one(folder):
    """A collector on another host may take a living process for dead: then the upload starts again."""

    class Swept(NoSync):
        def write(self, path: str, data: bytes, *, sealed: bool = False) -> None:
            super().write(path, data, sealed=sealed)
            self.unlink(path)

    client = FolderCatalog(Ports(fs=Swept()), str(folder.root))
    with pytest.raises(ClaimRevoked):
        client.claim(KEY, [], [put("/x", "x1")])


def test_a_claim_that_cannot_be_made_visible_leaves_no_scratch(folder):
    class Full(NoSync):
        def rename(self, source: str, target: str) -> None:
            raise OSError(28, "No space left on device")

    client = FolderCatalog(Ports(fs=Full()), str(folder.root))
    with pytest.raises(OSError, match="No space"):
        client.claim(KEY, [], [put("/x", "x1")])
    assert folder.scratch() == []


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_damage_inside_a_checkpoint_is_told_and_never_served(tmp_path, page):
    """Whatever page is hit: either the checkpoint is ignored, or reading says what to delete."""
    world = SmallFolderCatalogWorld(tmp_path)
    for n in range(30):
        commit(world.catalog, *(put(f"/{n}/{i}", f"{n}-{i}", description="x" * 200) for i in range(10)))
    for file in world.checkpoints(KEY):
        data = bytearray(file.read_bytes())
        for start in range(page * 8192, len(data), 4 * 8192):
            data[start : start + 8192] = b"\xa5" * 8192
        replace(file, bytes(data))
    view = world.again().view(KEY)
    try:
        assert len(view.live()) == 300
        assert len(list(view.versions())) == 300
        assert len(list(view.files())) == 300
        assert view.file_with("3-3").key == "/3/3"
    except Corrupt as error:
        assert "delete its folder" in str(error)
    shutil.rmtree(world.root / "sessions" / KEY.sid / "ckpt")
    assert len(world.again().view(KEY).live()) == 300
