"""The journal in a database: lost replies, large content, what a call costs. What every journal promises is tested in
``conformance/test_journal.py``."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from fakes.docs import MemoryDocs

from dreamlake.errors import Corrupt, OutcomeUnknown, Unavailable
from dreamlake.journal import LOGS, MAX_ROW_BYTES, PARAMETERS, TRACKS
from dreamlake.journal.documents import INDEXES, DocumentJournal
from dreamlake.journal.pieces import PIECE
from dreamlake.ports import Ports

LOSS = TRACKS + "loss"


class Watched(MemoryDocs):
    """Counts calls and the largest document, and loses replies: of the calls in ``lost``, before or after the work."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.largest = 0
        self.lost: dict[int, str] = {}
        self.changes = 0
        self.ensure(INDEXES)

    def _watch(self, name: str, collection: str, change: bool, work: Any) -> Any:
        self.calls[f"{name} {collection}"] += 1
        if not change:
            return work()
        self.changes += 1
        fate = self.lost.get(self.changes)
        if fate == "away":
            raise Unavailable("no route")
        if fate == "before":
            raise OutcomeUnknown("the reply was lost")
        done = work()
        if fate == "after":
            raise OutcomeUnknown("the reply was lost")
        return done

    def insert(self, collection, docs):
        for doc in docs:
            text = doc.get("text", "")
            self.largest = max(self.largest, len(text.encode()) + len(str({**doc, "text": ""})))
        return self._watch("insert", collection, True, lambda: super(Watched, self).insert(collection, docs))

    def update(self, collection, where, change, **options):
        return self._watch(
            "update", collection, True, lambda: super(Watched, self).update(collection, where, change, **options)
        )

    def find(self, collection, where, **options):
        return self._watch("find", collection, False, lambda: super(Watched, self).find(collection, where, **options))


@pytest.fixture
def docs() -> Watched:
    return Watched()


def journal(docs: MemoryDocs, sid: str = "a") -> DocumentJournal:
    return DocumentJournal(Ports(sleep=lambda s: None), docs, sid)


def test_an_append_is_one_insert_and_a_read_of_the_end_reads_nothing_else(docs):
    made = journal(docs)
    for n in range(50):
        made.append(LOSS, [{"v": n}])
    assert docs.calls == {"insert chunks": 50, "find chunks": 1}
    docs.calls.clear()
    assert [row["v"] for row in made.read(LOSS, 48, 1000)] == [48, 49]
    assert made.extent(LOSS).last == {"index": 49, "v": 49}
    assert sum(docs.calls.values()) <= 4


def test_sessions_do_not_touch_each_other(docs):
    one, two = journal(docs, "a"), journal(docs, "b")
    assert one.append(LOGS, [{"v": 1}]) == two.append(LOGS, [{"v": 2}]) == 0
    one.update_document(PARAMETERS, lambda old: {"mine": 1})
    assert two.read_document(PARAMETERS) is None
    assert two.read(LOGS, 0, 9) == [{"sequenceNumber": 0, "v": 2}]
    assert one.streams() == two.streams() == [LOGS]


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("repeated", [1, 4])
def test_what_is_sent_twice_after_a_lost_reply_counts_once(docs, fate, repeated):
    made = journal(docs)
    made.append(LOSS, [{"v": 0}])
    made.update_document(PARAMETERS, lambda old: {"n": 1})
    docs.lost = {docs.changes + n: fate for n in range(1, repeated + 1)}
    assert made.append(LOSS, [{"v": 1}, {"v": 2}]) == 1
    docs.lost = {docs.changes + n: fate for n in range(1, repeated + 1)}
    assert made.update_document(PARAMETERS, lambda old: {"n": old["n"] + 1}) == {"n": 2}
    docs.lost = {docs.changes + n: fate for n in range(1, repeated + 1)}
    assert made.update_document(LOSS, lambda old: {"first": old is None}) == {"first": True}
    assert [row["v"] for row in journal(docs).read(LOSS, 0, 9)] == [0, 1, 2]
    assert journal(docs).read_document(PARAMETERS) == {"n": 2}


def test_a_lost_reply_is_recognised_although_others_changed_the_document_since(docs):
    made, other = journal(docs), journal(docs)
    made.update_document(PARAMETERS, lambda old: {"n": 0})

    real = docs.update
    state = {"armed": True}

    def update(collection, where, change, **options):
        done = real(collection, where, change, **options)
        if state.pop("armed", False):
            for _ in range(5):
                other.update_document(PARAMETERS, lambda old: {"n": old["n"] + 1})
            raise OutcomeUnknown("the reply was lost")
        return done

    docs.update = update
    made.update_document(PARAMETERS, lambda old: {"n": old["n"] + 1})
    assert journal(docs).read_document(PARAMETERS) == {"n": 6}


def test_when_no_reply_ever_comes_the_outcome_is_said_to_be_unknown(docs):
    made = journal(docs)
    made.append(LOSS, [{"v": 0}])
    made.update_document(PARAMETERS, lambda old: {"n": 1})
    docs.lost = dict.fromkeys(range(docs.changes + 1, docs.changes + 100), "before")
    with pytest.raises(OutcomeUnknown, match="does not say whether rows"):
        made.append(LOSS, [{"v": 1}])
    with pytest.raises(OutcomeUnknown, match="does not say whether"):
        made.update_document(PARAMETERS, lambda old: {"n": 2})
    docs.lost = {}
    assert made.append(LOSS, [{"v": 2}]) == 1


def test_a_lost_reply_stays_unknown_when_the_database_then_goes_away(docs):
    """``Unavailable`` alone promises that nothing happened: whoever believed it would add the rows a second time."""
    made = journal(docs)
    made.append(LOSS, [{"v": 0}])
    made.update_document(PARAMETERS, lambda old: {"n": 1})
    with pytest.raises(Unavailable) as plain:
        docs.lost = {docs.changes + 1: "away"}
        made.append(LOSS, [{"v": 1}])
    assert not isinstance(plain.value, OutcomeUnknown)  # here nothing was lost before
    for work in (
        lambda: made.append(LOSS, [{"v": 1}]),
        lambda: made.update_document(PARAMETERS, lambda old: {"n": 2}),
    ):
        docs.lost = {docs.changes + 1: "after", docs.changes + 2: "away"}
        with pytest.raises(OutcomeUnknown, match="no route"):
            work()
    assert [row["v"] for row in journal(docs).read(LOSS, 0, 9)] == [0, 1]
    assert journal(docs).read_document(PARAMETERS) == {"n": 2}


def test_nothing_comes_near_the_limit_of_a_document(docs):
    made = journal(docs)
    rows = [{"v": "é" * 3000, "n": n} for n in range(1500)]
    rows[700] = {"v": "x" * (MAX_ROW_BYTES - 8)}
    rows[701] = {"v": "ü" * (PIECE + 5)}
    assert made.append(LOSS, [{"n": -1}]) == 0
    assert made.append(LOSS, rows) == 1
    assert made.append(LOSS, [{"n": "last"}]) == 1501
    big = {"data": {f"p{n}": "y" * 1000 for n in range(6000)}}
    made.update_document(PARAMETERS, lambda old: big)
    assert docs.largest < 5 << 20
    docs.calls.clear()
    again = journal(docs)
    for start in (0, 1, 2, 350, 699, 700, 701, 702, 703, 1499, 1500, 1501):
        found = again.read(LOSS, start, 3)
        whole = [{"n": -1}, *rows, {"n": "last"}]
        assert found == [{"index": start + i, **row} for i, row in enumerate(whole[start : start + 3])]
    assert again.extent(LOSS).total == 1502
    assert again.read_document(PARAMETERS) == big
    docs.calls.clear()
    assert again.read(LOSS, 1200, 5)[0]["n"] == 1199
    assert docs.calls["find journal_pieces"] <= 2


def test_pieces_of_a_replaced_document_are_removed(docs):
    made = journal(docs)
    for n in range(3):
        made.update_document(PARAMETERS, lambda old, n=n: {"data": [str(n)] * (PIECE // 2)})
        assert len(docs.tables["journal_pieces"]) == len(docs.tables["journals"]["a/parameters"]["pieces"])
    made.update_document(PARAMETERS, lambda old: {})
    assert docs.tables["journal_pieces"] == {}
    assert "pieces" not in docs.tables["journals"]["a/parameters"]


def test_a_reader_whose_document_is_replaced_meanwhile_reads_the_new_one(docs):
    made, other = journal(docs), journal(docs)
    made.update_document(PARAMETERS, lambda old: {"data": ["a"] * PIECE})
    real, state = docs.find, {"armed": True}

    def find(collection, where, **options):
        if collection == "journal_pieces" and state.pop("armed", False):
            other.update_document(PARAMETERS, lambda old: {"data": ["b"] * PIECE})
        return real(collection, where, **options)

    docs.find = find
    assert made.read_document(PARAMETERS)["data"][0] == "b"


def test_writers_in_many_threads_each_with_a_journal_of_its_own(docs):
    def work(writer: int) -> None:
        made = journal(docs)
        for n in range(20):
            made.append(LOGS, [{"w": writer, "n": n}] * 2)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = journal(docs).read(LOGS, 0, 10_000)
    assert [row["sequenceNumber"] for row in rows] == list(range(640))
    assert Counter(row["w"] for row in rows) == dict.fromkeys(range(16), 40)


def test_damage_is_told_and_rows_before_it_stay_readable(docs):
    made = journal(docs)
    for n in range(4):
        made.append(LOSS, [{"v": n}])
    made.update_document(PARAMETERS, lambda old: {})
    docs.tables["chunks"][f"a/{LOSS}/1"]["text"] = "no row\n"
    del docs.tables["chunks"][f"a/{LOSS}/2"]
    assert len(made.read(LOSS, 0, 1)) == len(made.read(LOSS, 3, 9)) == 1
    for start, limit in ((0, 2), (1, 1), (2, 1), (2, 9)):
        with pytest.raises(Corrupt, match="tracks/loss of session a in the database is damaged"):
            made.read(LOSS, start, limit)
    document = docs.tables["journals"][f"a/{PARAMETERS}"]
    document["text"] = "[]"
    for act in (made.read_document, lambda name: made.update_document(name, lambda old: {})):
        with pytest.raises(Corrupt, match="no JSON object"):
            act(PARAMETERS)
    del document["text"]
    document["pieces"] = [0]
    with pytest.raises(Corrupt, match="pieces of it are missing"):
        made.read_document(PARAMETERS)
    del docs.tables["chunks"][f"a/{LOSS}/0"]
    with pytest.raises(Corrupt, match="index 0 is missing"):
        made.read(LOSS, 0, 1)


def test_a_database_that_is_away_is_told_and_nothing_was_added(docs):
    made = journal(docs)
    made.append(LOSS, [{"v": 0}])

    def away(*arguments, **options):
        raise Unavailable("cannot be reached")

    docs.insert, real = away, docs.insert
    with pytest.raises(Unavailable, match="cannot be reached"):
        made.append(LOSS, [{"v": 1}])
    docs.insert = real
    assert made.append(LOSS, [{"v": 1}]) == 1
