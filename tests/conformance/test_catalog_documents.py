"""What only a catalog in a database has: documents that are damaged, records in pieces, replies that get lost, and the
cache of views on this machine. The common contract is ``test_catalog.py``."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conformance.conftest import DocsCatalogWorld, NoSync, SmallDocsCatalogWorld, checked_record
from conformance.test_catalog import KEY, OTHER, commit, fill, live, put, sealed
from fakes.docs import MemoryDocs

from dreamlake.catalog import cached as cached_module
from dreamlake.catalog import pieces
from dreamlake.catalog.document_claims import LATE_S
from dreamlake.catalog.documents import INDEXES, STALE_S, DocumentCatalog
from dreamlake.errors import ClaimRevoked, Corrupt, LakeError, OutcomeUnknown, Unavailable, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(params=["docs", "mongo"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocsCatalogWorld]:
    if request.param == "docs":
        yield DocsCatalogWorld(MemoryDocs(), tmp_path)
        return
    docs = MongoDocs(request.getfixturevalue("mongo_url"))
    yield DocsCatalogWorld(docs, tmp_path)
    docs.close()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 300)


def row(base: DocsCatalogWorld, number: int, session: SessionKey = KEY) -> dict[str, Any]:
    (found,) = base.rows(sid=session.sid, n=number)
    return found


def edit(base: DocsCatalogWorld, number: int, **fields: Any) -> None:
    assert base.docs.update("records", {"_id": row(base, number)["_id"]}, {"$set": fields})


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_named(base):
    fill(base.catalog, 8)
    good = row(base, 5)["text"]
    for bad in ("", good[:-1], good[:100], good.replace("/4", "/5"), good + "x", "{}", None, 7):
        edit(base, 5, text=bad)
        with pytest.raises(Corrupt, match=f"record 5 of session w/s .{KEY.sid}"):
            list(base.again().records(KEY))
        with pytest.raises(Corrupt, match="record 5"):
            base.again().view(KEY)
    edit(base, 5, text=good)
    assert len(list(base.again().records(KEY))) == 8


def test_a_newer_record_is_refused_not_guessed(base):
    fill(base.catalog, 4)
    raw = checked_record(row(base, 4)["text"].encode())
    raw.pop("sum")
    edit(base, 4, text=sealed({**raw, "v": 2}).decode())
    with pytest.raises(UnsupportedFormat, match="format 2"):
        list(base.again().records(KEY))


def test_a_gap_is_named_and_nothing_is_committed_behind_it(base):
    fill(base.catalog, 8)
    reader = base.again()
    assert reader.view(KEY).n == 8
    fill(base.catalog, 2, start=8)
    base.docs.delete("records", {"sid": KEY.sid, "n": 9})
    for client in (reader, base.again()):
        with pytest.raises(Corrupt, match=r"record 9 .* is missing"):
            client.view(KEY)
    with pytest.raises(Corrupt, match=r"record 9 .* is missing"):
        commit(base.again(), put("/x", "x1"))
    assert base.rows(sid=KEY.sid, n=9) == []


def test_a_record_of_another_session_is_refused(base):
    fill(base.catalog, 3)
    fill(base.catalog, 3, session=OTHER)
    edit(base, 3, text=row(base, 3, OTHER)["text"])
    with pytest.raises(Corrupt, match="w/t"):
        base.again().view(KEY)


def test_an_unreadable_claim_stops_whoever_asks_for_all(base):
    good = base.catalog.claim(KEY, [], [put("/a", "a1")])
    bad = base.catalog.claim(KEY, [], [put("/b", "b1")])
    base.docs.update("records", {"_id": bad.token}, {"$set": {"text": "{}"}})
    with pytest.raises(Corrupt, match=bad.token):
        list(base.again().pending())
    base.age(bad.token, 1000)
    ((token, age),) = base.again().unreadable()
    assert token == bad.token
    assert 990 < age < 1060
    assert base.again().revoke(bad.token)
    assert [p.token for p in base.again().pending()] == [good.token]


def test_a_claim_of_a_newer_format_is_not_damaged_but_stops_all(base):
    claim = base.catalog.claim(KEY, [], [put("/a", "a1")])
    raw = base.claims()[claim.token]
    raw.pop("sum")
    base.docs.update("records", {"_id": claim.token}, {"$set": {"text": sealed({**raw, "v": 2}).decode()}})
    with pytest.raises(UnsupportedFormat):
        list(base.again().pending())
    assert list(base.again().unreadable()) == []


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_of_all_namespaces_are_listed(base):
    keys = [SessionKey("w", "s", who) for who in ("", "ann", "bob")]
    for key in keys:
        commit(base.catalog, put("/a", key.sid), session=key)
    assert base.again().sessions() == sorted(keys)
    for key in keys:
        assert live(base.again().view(key)) == {"/a": key.sid}


def test_a_session_whose_document_is_gone_is_named_by_its_first_record(base):
    fill(base.catalog, 2)
    fill(base.catalog, 1, session=OTHER)
    base.docs.delete("sessions", {"_id": KEY.sid})
    assert base.again().sessions() == [KEY, OTHER]
    edit(base, 1, text="{}")
    with pytest.raises(Corrupt, match=KEY.sid):
        base.again().sessions()
    told: list[LakeError] = []
    assert base.again().sessions(told.append) == [OTHER]
    assert len(told) == 1


def test_a_session_without_its_first_record_is_never_overlooked(base):
    fill(base.catalog, 3)
    base.docs.delete("records", {"sid": KEY.sid, "n": 1})
    with pytest.raises(Corrupt, match=r"record 1 .* is missing"):
        base.again().sessions()


def test_a_damaged_document_of_a_session_is_told(base):
    fill(base.catalog, 1)
    for change in ({"name": "other"}, {"name": 5}, {"workspace": None}):
        before = base.rows("sessions")[0]
        base.docs.update("sessions", {"_id": KEY.sid}, {"$set": change})
        with pytest.raises(Corrupt, match=KEY.sid):
            base.again().sessions()
        base.docs.update("sessions", {"_id": KEY.sid}, {"$set": before})
    base.docs.update("sessions", {"_id": KEY.sid}, {"$unset": {"name": ""}})
    with pytest.raises(Corrupt, match=KEY.sid):
        base.again().sessions()


# ---- mend ------------------------------------------------------------------------------------------------------------


def test_mend_puts_a_missing_record_back(base):
    fill(base.catalog, 5)
    record = dict(base.catalog.records(KEY))[3]
    before = base.log(KEY)
    base.docs.delete("records", {"sid": KEY.sid, "n": 3})
    assert base.again().mend(KEY, 3, record)
    assert base.log(KEY) == before
    assert not base.again().mend(KEY, 3, record)


def test_mend_replaces_a_damaged_record_and_keeps_it_aside(base):
    fill(base.catalog, 5)
    record = dict(base.catalog.records(KEY))[3]
    before = base.log(KEY)
    edit(base, 3, text="damaged")
    assert not base.again().mend(KEY, 3, None)
    assert base.again().mend(KEY, 3, record)
    assert base.log(KEY) == before
    assert [kept["record"]["text"] for kept in base.rows("quarantine")] == ["damaged"]


def test_mend_finds_a_record_that_lost_its_number(base):
    fill(base.catalog, 5)
    record = dict(base.catalog.records(KEY))[3]
    before = base.log(KEY)
    base.docs.update("records", {"_id": record.token}, {"$unset": {"n": ""}, "$set": {"state": "pending"}})
    assert base.again().mend(KEY, 3, record)
    assert base.log(KEY) == before


def test_mend_fills_a_gap_with_a_record_that_does_nothing(base):
    fill(base.catalog, 5)
    base.docs.delete("records", {"sid": KEY.sid, "n": 3})
    assert not base.catalog.mend(KEY, 3, None)  # it still knows what the record held
    assert base.again().mend(KEY, 3, None)
    assert base.log(KEY)[2]["entries"] == [{"op": "noop"}]
    assert live(base.again().view(KEY)) == {"/0": "0", "/1": "1", "/3": "3", "/4": "4"}


def test_mend_of_a_record_in_pieces(base, small_pieces):
    long = put("/long", "l1", description="y" * 2000)
    fill(base.catalog, 1)
    commit(base.catalog, long)
    fill(base.catalog, 1, start=5)
    record = dict(base.catalog.records(KEY))[2]
    before = base.log(KEY)
    base.docs.delete("record_pieces", {"_id": row(base, 2)["pieces"][1]})
    with pytest.raises(Corrupt, match="piece"):
        base.again().view(KEY)
    assert base.again().mend(KEY, 2, record)
    assert base.log(KEY) == before
    assert base.again().view(KEY).current_at("/long").description == "y" * 2000


# ---- records in pieces -----------------------------------------------------------------------------------------------


def test_a_large_record_is_stored_in_pieces_and_read_back(base, small_pieces):
    text = "日本\U0001f600" * 300
    claim = base.catalog.claim(KEY, [], [put("/a", "a1", description=text)])
    (stored,) = base.rows(open=True)
    assert len(stored["pieces"]) == len(base.rows("record_pieces")) > 3
    assert [p.record for p in base.again().pending()] == [claim.record]
    assert base.catalog.commit(claim).number == 1
    assert base.log(KEY)[0]["entries"][0]["description"] == text
    assert base.again().view(KEY).current_at("/a").description == text


def test_revoking_a_large_claim_leaves_nothing(base, small_pieces):
    claim = base.catalog.claim(KEY, [], [put("/a", "a1", description="x" * 2000)])
    assert base.again().revoke(claim.token)
    assert not base.again().revoke(claim.token)
    with pytest.raises(ClaimRevoked):
        base.catalog.commit(claim)
    assert base.rows() == base.rows("record_pieces") == []


def test_a_record_of_many_mebibytes(base):
    entries = [put(f"/{i}", f"{i:x}", description="d" * 60_000) for i in range(400)]
    done = commit(base.catalog, *entries)
    assert len(done.outcomes) == 400
    assert len(base.rows("record_pieces")) == 23
    assert len(base.again().view(KEY).live()) == 400


@pytest.mark.parametrize("state", ["arriving", "revoked"])
def test_a_claim_whose_bringer_died_is_invisible_and_cleaned_up(base, small_pieces, state):
    claim = base.catalog.claim(KEY, [], [put("/a", "a1", description="x" * 2000)])
    base.docs.update("records", {"_id": claim.token}, {"$set": {"state": state}})
    base.docs.delete("record_pieces", {"_id": base.rows()[0]["pieces"][0]})
    assert list(base.again().pending()) == []
    assert list(base.again().unreadable()) == []
    base.age(claim.token, LATE_S + 100)
    ((token, _),) = base.again().unreadable()
    assert base.again().revoke(token) is (state == "arriving")
    assert base.rows() == base.rows("record_pieces") == []


def test_a_large_claim_that_is_revoked_while_it_is_read_is_no_damage(tmp_path, small_pieces):
    world = DocsCatalogWorld(MemoryDocs(), tmp_path)
    claim = world.catalog.claim(KEY, [], [put("/a", "a1", description="x" * 2000)])
    scan = world.again().pending()
    docs: Any = world.docs
    find = docs.find

    def revoked_between(collection: str, where: Any, **options: Any) -> Any:
        if collection == pieces.PIECES:
            docs.find = find
            assert world.again().revoke(claim.token)
        return find(collection, where, **options)

    docs.find = revoked_between
    assert list(scan) == []


# ---- replies that get lost -------------------------------------------------------------------------------------------


class Faulty:
    """A database of which one change is answered by ``OutcomeUnknown``, or delivered twice.

    Args:
        at: which changing call, counted from 0.
        how: "lost" (it happened), "never", or "late" (it happens after the next call); "twice" (the reply is the second
            one's, as from a driver that repeats what the server has forgotten).
    """

    CHANGING = frozenset({"insert", "update", "update_many", "delete"})

    def __init__(self, docs: MemoryDocs, at: int, how: str) -> None:
        self._docs, self._at, self._how = docs, at, how
        self.calls = 0
        self._late: Any = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._docs, name)
        if name not in self.CHANGING:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self._at and name != "delete":  # clients repeat a removal themselves
                if self._how in ("lost", "twice"):
                    method(*args, **kwargs)
                    if self._how == "twice":
                        return method(*args, **kwargs)
                elif self._how == "late":
                    self._late = lambda: method(*args, **kwargs)
                raise OutcomeUnknown("the reply was lost")
            result = method(*args, **kwargs)
            self.arrive()
            return result

        return call

    def arrive(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late()


@pytest.mark.parametrize("how", ["lost", "never", "late", "twice"])
@pytest.mark.parametrize("large", [False, True])
def test_whatever_reply_is_lost_a_commit_counts_once(tmp_path, monkeypatch, how, large):
    """At every changing call of claim and commit, first and later records: exactly one record, and no claim is left."""
    if large:
        monkeypatch.setattr(pieces, "PIECE", 300)
    for before in (0, 2):
        at = 0
        while True:
            docs = MemoryDocs()
            world = DocsCatalogWorld(docs, tmp_path / f"{before}-{at}")
            fill(world.catalog, before, start=10)
            faulty = Faulty(docs, at, how)
            client = DocumentCatalog(Ports(fs=NoSync(), sleep=lambda s: None), faulty)
            done = commit(client, put("/a", "a1", description="x" * 1000))
            faulty.arrive()
            assert done.number == before + 1
            assert [v.id for v in done.outcomes] == ["a1"]
            assert len(world.log(KEY)) == before + 1
            assert client.view(KEY).n == world.again().view(KEY).n == before + 1
            for claim in list(world.rows(open=True)):  # one that arrived late: anybody may revoke it
                assert how == "late"
                world.again().revoke(claim["_id"])
            assert world.again().sessions() == [KEY]
            if faulty.calls <= at:
                break
            at += 1
        assert at >= (2 if not large else 4)


@pytest.mark.parametrize("how", ["lost", "never", "late", "twice"])
def test_whatever_reply_is_lost_a_revoked_claim_stays_revoked(tmp_path, small_pieces, how):
    for at in range(4):
        docs = MemoryDocs()
        world = DocsCatalogWorld(docs, tmp_path / str(at))
        claim = world.catalog.claim(KEY, [], [put("/a", "a1", description="x" * 1000)])
        faulty = Faulty(docs, at, how)
        DocumentCatalog(Ports(sleep=lambda s: None), faulty).revoke(claim.token)
        faulty.arrive()
        with pytest.raises(ClaimRevoked):
            world.catalog.commit(claim)
        world.age(claim.token, LATE_S + 1) if world.rows() else None
        for token, _ in world.again().unreadable():
            world.again().revoke(token)
        assert world.rows() == world.rows("record_pieces") == []


def test_a_commit_that_lost_its_reply_and_its_number_is_found(tmp_path):
    """It happened, and others came after it before the client asked again."""
    docs = MemoryDocs()
    world = DocsCatalogWorld(docs, tmp_path)
    faulty = Faulty(docs, 2, "lost")  # claim, session, commit
    client = DocumentCatalog(Ports(sleep=lambda s: fill(world.again(), 3, start=20)), faulty)
    done = commit(client, put("/a", "a1"))
    assert done.number == 1
    assert [v.id for v in done.outcomes] == ["a1"]
    assert client.view(KEY).n == 4


def test_a_commit_repeated_by_hand_after_its_reply_was_lost_for_good(tmp_path):
    """The call gave up, the record was there, others read it: the next call, deaf too, still says what it did."""
    docs = MemoryDocs()
    world = DocsCatalogWorld(docs, tmp_path)
    client = DocumentCatalog(Ports(sleep=lambda s: None), docs)
    claim = client.claim(KEY, [], [put("/a", "a1")])

    class Deaf(Exception):
        pass

    update = docs.update

    def lost_and_cut(*args: Any, **kwargs: Any) -> bool:
        update(*args, **kwargs)
        raise Deaf

    docs.update = lost_and_cut  # type: ignore[method-assign]
    with pytest.raises(Deaf):
        client.commit(claim)
    docs.update = update  # type: ignore[method-assign]
    assert client.view(KEY).n == 1
    client._docs = Faulty(docs, 0, "lost")  # type: ignore[assignment]
    done = client.commit(claim)
    assert (done.number, [v.id for v in done.outcomes]) == (1, ["a1"])
    assert len(world.log(KEY)) == 1


def test_replies_that_are_lost_again_and_again_are_an_error_in_the_end(tmp_path):
    class Deaf(MemoryDocs):
        def insert(self, *args: Any, **kwargs: Any) -> list[Any]:
            super().insert(*args, **kwargs)
            raise OutcomeUnknown("lost")

    waited: list[float] = []
    client = DocumentCatalog(Ports(sleep=waited.append), Deaf())
    with pytest.raises(OutcomeUnknown, match="again and again"):
        client.claim(KEY, [], [put("/a", "a1")])
    assert len(waited) == 7
    assert all(0 < wait <= 2 for wait in waited)
    assert list(DocumentCatalog(Ports(), client._docs).pending()) == []


class Falling(MemoryDocs):
    """A database that cannot be reached any more once a commit has happened.

    ``reply``: whether the client hears of the commit itself.
    """

    fall, reply, down = False, True, False

    def __getattribute__(self, name: str) -> Any:
        if name in ("insert", "update", "find", "count", "delete") and self.down:
            raise Unavailable("no route")
        return super().__getattribute__(name)

    def update(self, collection: str, where: Any, change: Any, **options: Any) -> bool:
        done = super().update(collection, where, change, **options)
        if self.fall and change.get("$set", {}).get("state") == "committed":
            self.down = True
            if not self.reply:
                raise OutcomeUnknown("lost")
        return done


@pytest.mark.parametrize(("reply", "told"), [(True, "committed as record 4 of"), (False, "no route")])
def test_a_commit_that_happened_is_never_called_one_that_did_not(tmp_path, reply, told):
    """Others have committed in between, so that the outcome must be read; just then the database goes away.

    ``Unavailable`` alone would promise that nothing happened, and whoever believed it would commit a second time.
    """
    docs = Falling()
    world = DocsCatalogWorld(docs, tmp_path)
    fill(world.catalog, 2)
    client = DocumentCatalog(Ports(fs=NoSync(), sleep=lambda seconds: None), docs)
    client.view(KEY)
    claim = client.claim(KEY, [], [put("/a", "a1")])
    fill(world.again(), 1, start=50)
    docs.fall, docs.reply = True, reply
    with pytest.raises(OutcomeUnknown, match=told):
        client.commit(claim)
    docs.fall = docs.down = False
    (row,) = world.rows(_id=claim.token)
    assert (row["state"], row["n"]) == ("committed", 4)


def test_a_touch_that_fails_is_no_error():
    class Gone(MemoryDocs):
        def update(self, *args: Any, **kwargs: Any) -> bool:
            raise Unavailable("no route")

    client = DocumentCatalog(Ports(), Gone())
    client.touch(client.claim(KEY, [], [{"op": "read"}]))


def test_a_scan_that_missed_a_record_asks_for_it(tmp_path):
    """A database may pass over a document that changes during the scan; a later one was met. It is no gap."""

    class Skipping(MemoryDocs):
        def find(self, collection: str, where: Any, **options: Any) -> Any:
            for doc in super().find(collection, where, **options):
                if not (options.get("sort") and doc.get("n") in (2, 3)):
                    yield doc

    world = DocsCatalogWorld(Skipping(), tmp_path)
    fill(world.catalog, 5)
    assert [n for n, _ in world.again().records(KEY)] == [1, 2, 3, 4, 5]
    assert world.again().view(KEY).n == 5


# ---- contention ------------------------------------------------------------------------------------------------------


def test_two_clients_far_behind_each_other_leave_no_gap(base):
    ahead, behind = base.again(), base.again()
    commit(behind, put("/b0", "b0"))
    fill(ahead, 30, start=100)
    assert commit(behind, put("/b1", "b1")).number == 32
    assert len(base.log(KEY)) == 32


# ---- the cache of views ----------------------------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path) -> SmallDocsCatalogWorld:
    return SmallDocsCatalogWorld(MemoryDocs(), tmp_path)


def files(world: DocsCatalogWorld) -> list[Path]:
    return sorted((world.cache / KEY.sid).iterdir()) if (world.cache / KEY.sid).is_dir() else []


def test_a_cold_view_reads_only_what_came_after_the_checkpoint(cached):
    fill(cached.catalog, 22)
    (file,) = files(cached)
    kept = int(file.stem)
    assert 18 <= kept <= 22
    asked: list[Any] = []
    docs: Any = cached.docs
    find = docs.find
    docs.find = lambda *args, **options: asked.append(args) or find(*args, **options)
    assert live(cached.again().view(KEY)) == {f"/{i}": f"{i:x}" for i in range(22)}
    assert asked == [("records", {"sid": KEY.sid, "state": "committed", "n": {"$gt": kept}})]


def test_only_the_newest_checkpoint_is_kept(cached):
    fill(cached.catalog, 60)
    assert len(files(cached)) == 1
    reader = cached.again()
    fill(cached.catalog, 30, start=60)
    reader.view(KEY)
    assert len(reader.view(KEY).live()) == 90


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other", "folder", "renamed", "stray"])
def test_the_log_is_the_truth_whatever_became_of_a_checkpoint(cached, damage):
    fill(cached.catalog, 22)
    fill(cached.catalog, 22, session=OTHER, start=100)
    (file,) = files(cached)
    data = file.read_bytes()
    file.unlink()
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "other":
        file.write_bytes(next((cached.cache / OTHER.sid).iterdir()).read_bytes())
    elif damage == "folder":
        file.mkdir()
    elif damage == "renamed":
        file.with_name("7.sqlite").write_bytes(data)
    elif damage == "stray":
        file.with_name("x.sqlite").write_bytes(data)
    assert live(cached.again().view(KEY)) == {f"/{i}": f"{i:x}" for i in range(22)}
    fill(cached.again(), 8, start=22)
    assert len(cached.again().view(KEY).live()) == 30


def test_a_checkpoint_of_another_history_is_not_used(cached):
    """The database was restored from a backup, and grew anew over the same numbers."""
    fill(cached.catalog, 22)
    kept = int(files(cached)[0].stem)
    cached.docs.delete("records", {"sid": KEY.sid, "n": {"$gte": kept - 1}})
    assert len(cached.again().view(KEY).live()) == kept - 2
    fill(cached.again(), 22, start=200)
    expected = {f"/{i}": f"{i:x}" for i in [*range(kept - 2), *range(200, 222)]}
    assert live(cached.again().view(KEY)) == expected


def test_checkpoints_of_a_thousand_sessions_are_kept_and_no_more(cached, monkeypatch):
    monkeypatch.setattr(cached_module, "MAX_SESSIONS", 3)
    keys = [SessionKey("w", f"s{n}") for n in range(6)]
    for n, key in enumerate(keys):
        fill(cached.catalog, 8, session=key, start=100 * n)
    assert {folder.name for folder in cached.cache.iterdir()} == {key.sid for key in keys[-3:]}
    for key in keys:
        assert len(cached.again().view(key).live()) == 8


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cached):
    cached.cache.write_text("a file where the folder should be")
    fill(cached.catalog, 30)
    assert len(cached.again().view(KEY).live()) == 30


def test_without_a_cache_nothing_is_written(tmp_path):
    docs = MemoryDocs()
    docs.ensure(INDEXES)
    client = DocumentCatalog(Ports(), docs, checkpoint_every=5)
    fill(client, 12)
    assert len(client.view(KEY).live()) == 12
    assert list(tmp_path.iterdir()) == []


# ---- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works_although_a_thread_held_a_lock(cached):
    fill(cached.catalog, 3)
    client: Any = cached.catalog
    tail = client._tails[KEY]
    ready, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with tail.lock, client._lock:
            ready.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is the point
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if client.view(KEY).n == 3 and commit(client, put("/x", "x1")).number == 4 else 1)
        finally:
            os._exit(2)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- requests --------------------------------------------------------------------------------------------------------


def test_an_upload_asks_the_catalog_twice(tmp_path):
    """A claim and its commit; that nothing came between is known by the number it got."""
    asked: list[str] = []

    class Counted(MemoryDocs):
        def __getattribute__(self, name: str) -> Any:
            if name in ("insert", "update", "find", "count", "delete"):
                asked.append(name)
            return super().__getattribute__(name)

    world = DocsCatalogWorld(Counted(), tmp_path)
    fill(world.catalog, 2)
    asked.clear()
    for n in range(3):
        assert world.catalog.view(KEY, fresh=False).current_at(f"/{n}x") is None
        assert commit(world.catalog, put(f"/{n}x", f"{n}x")).number == n + 3
    assert asked == ["insert", "update"] * 3


def test_a_view_that_need_not_be_fresh_is_a_few_seconds_old_at_most(tmp_path):
    world = DocsCatalogWorld(MemoryDocs(), tmp_path)
    clock = [NOW]
    client = DocumentCatalog(Ports(fs=NoSync(), now=lambda: clock[0]), world.docs)
    assert client.view(KEY, fresh=False).n == 0  # the first one is read
    fill(world.catalog, 1)
    assert client.view(KEY, fresh=False).n == 0
    clock[0] += timedelta(seconds=STALE_S + 1)
    assert client.view(KEY, fresh=False).n == 1
    fill(world.catalog, 1, start=1)
    clock[0] -= timedelta(days=1)  # a clock that goes backwards proves nothing
    assert client.view(KEY, fresh=False).n == 2
