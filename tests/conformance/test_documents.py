"""What every ``Docs`` promises (see its docstrings): the fake, mongomock, and a real server that speaks MongoDB's wire
protocol. They are equal where the product looks, so that what holds in the simulation holds on the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fakes.docs import MemoryDocs

from dreamlake.errors import Conflict, LakeError
from dreamlake.services.docs import Docs, Index
from dreamlake.services.mongo import MongoDocs

UNIQUE = Index("c", (("group", 1), ("n", 1)), unique=True, where={"state": "done"})
PLAIN = Index("c", (("state", 1),))


@pytest.fixture(params=["memory", "mock", "mongo"])
def docs(request: pytest.FixtureRequest) -> Iterator[Docs]:
    if request.param == "memory":
        yield MemoryDocs()
        return
    if request.param == "mock":
        import mongomock

        made = MongoDocs("mongodb://mock/db", connect=lambda url, **_: mongomock.MongoClient(), sessions=False)
    else:
        made = MongoDocs(request.getfixturevalue("mongo_url"))
    yield made
    made.close()


def ids(docs: Docs, where: dict[str, Any], **options: Any) -> list[Any]:
    return [doc["_id"] for doc in docs.find("c", where, **options)]


# ---- insert ----------------------------------------------------------------------------------------------------------


def test_what_was_inserted_is_found_as_it_was(docs):
    doc = {
        "_id": "a", "text": "日本 \U0001f600", "none": None, "list": [1, "x", {"y": 2}], "deep": {"er": {"est": 0.5}},
        "bytes": bytes(range(256)), "yes": True, "large": 2**62, "empty": "",
    }  # fmt: skip
    assert docs.insert("c", [doc]) == []
    assert list(docs.find("c", {"_id": "a"})) == [doc]
    assert list(docs.find("c", {"_id": "b"})) == []
    assert list(docs.find("other", {})) == []


def test_a_taken_id_is_refused_and_the_others_are_inserted(docs):
    docs.insert("c", [{"_id": "b", "x": 1}])
    assert docs.insert("c", [{"_id": i, "x": 2} for i in "abc"]) == ["b"]
    assert {d["_id"]: d["x"] for d in docs.find("c", {})} == {"a": 2, "b": 1, "c": 2}


def test_a_taken_unique_key_is_refused_only_where_its_index_looks(docs):
    docs.ensure([UNIQUE])
    done = {"state": "done", "group": "g", "n": 1}
    assert docs.insert("c", [{"_id": "a", **done}]) == []
    rivals = [{"_id": "b", **done}, {"_id": "c", **done, "state": "open"}, {"_id": "d", **done, "n": 2}]
    assert docs.insert("c", rivals) == ["b"]
    assert sorted(ids(docs, {})) == ["a", "c", "d"]


def test_many_documents_in_one_call(docs):
    many = [{"_id": i, "text": "x" * 1000} for i in range(2500)]
    assert docs.insert("c", many) == []
    assert docs.count("c", {}) == 2500
    assert docs.insert("c", many[1200:1203]) == [1200, 1201, 1202]
    assert docs.insert("c", []) == []


def test_inserting_leaves_the_callers_document_alone(docs):
    mine = {"_id": "a", "list": [1]}
    docs.insert("c", [mine])
    docs.update("c", {"_id": "a"}, {"$set": {"list": [2]}})
    assert mine == {"_id": "a", "list": [1]}


# ---- update ----------------------------------------------------------------------------------------------------------


def test_an_update_is_a_compare_and_set(docs):
    docs.insert("c", [{"_id": "a", "state": "open", "n": 1}])
    assert docs.update("c", {"_id": "a", "state": "open"}, {"$set": {"state": "done"}, "$inc": {"n": 2}})
    assert not docs.update("c", {"_id": "a", "state": "open"}, {"$set": {"state": "lost"}})
    assert list(docs.find("c", {})) == [{"_id": "a", "state": "done", "n": 3}]


def test_an_update_that_changes_nothing_has_matched(docs):
    docs.insert("c", [{"_id": "a", "x": 1}])
    assert docs.update("c", {"_id": "a"}, {"$set": {"x": 1}})


def test_unset_and_dotted_fields(docs):
    docs.insert("c", [{"_id": "a", "x": 1, "deep": {"y": 1, "z": 2}}])
    docs.update("c", {"deep.y": 1}, {"$unset": {"x": "", "deep.y": ""}, "$set": {"deep.w": 3}})
    assert list(docs.find("c", {})) == [{"_id": "a", "deep": {"z": 2, "w": 3}}]


def test_an_update_into_a_taken_unique_key_is_refused_and_changes_nothing(docs):
    docs.ensure([UNIQUE])
    docs.insert("c", [{"_id": i, "state": "open", "group": "g"} for i in "ab"])
    assert docs.update("c", {"_id": "a"}, {"$set": {"state": "done", "n": 1}})
    with pytest.raises(Conflict):
        docs.update("c", {"_id": "b", "state": "open"}, {"$set": {"state": "done", "n": 1}})
    assert list(docs.find("c", {"_id": "b"})) == [{"_id": "b", "state": "open", "group": "g"}]
    assert docs.update("c", {"_id": "b", "state": "open"}, {"$set": {"state": "done", "n": 2}})


def test_an_upsert_makes_what_is_missing(docs):
    change = {"$set": {"x": 1}, "$setOnInsert": {"made": True}}
    assert docs.update("c", {"_id": "a"}, change, upsert=True)
    assert list(docs.find("c", {})) == [{"_id": "a", "x": 1, "made": True}]
    assert docs.update("c", {"_id": "a"}, {"$set": {"x": 2}, "$setOnInsert": {"made": False}}, upsert=True)
    assert list(docs.find("c", {})) == [{"_id": "a", "x": 2, "made": True}]
    assert not docs.update("c", {"_id": "b"}, {"$set": {"x": 1}})


def test_update_many_counts_what_matched(docs):
    docs.insert("c", [{"_id": i, "even": i % 2 == 0} for i in range(5)])
    assert docs.update_many("c", {"even": True}, {"$set": {"x": 1}}) == 3
    assert sorted(ids(docs, {"x": 1})) == [0, 2, 4]


# ---- find ------------------------------------------------------------------------------------------------------------

MANY = [
    {"_id": "a", "n": 1, "tags": ["x", "y"], "deep": {"v": 1}},
    {"_id": "b", "n": 2, "tags": []},
    {"_id": "c", "n": 3.5, "none": None},
    {"_id": "d", "n": "3", "tags": "x"},
    {"_id": "e", "deep": {"v": 2}},
]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, "abcde"),
        ({"n": 1}, "a"),
        ({"n": 1.0}, "a"),
        ({"n": {"$gt": 1}}, "bc"),
        ({"n": {"$gte": 1, "$lt": 3.5}}, "ab"),
        ({"n": {"$lte": "9"}}, "d"),
        ({"n": {"$in": [1, "3", 9]}}, "ad"),
        ({"n": {"$in": []}}, ""),
        ({"n": {"$ne": 1}}, "bcde"),
        ({"n": {"$exists": False}}, "e"),
        ({"none": {"$exists": True}}, "c"),
        ({"none": None}, "abcde"),
        ({"tags": "x"}, "ad"),
        ({"tags": {"$in": ["y"]}}, "a"),
        ({"tags": {"$ne": "x"}}, "bce"),
        ({"tags": ["x", "y"]}, "a"),
        ({"deep.v": 2}, "e"),
        ({"deep.v": {"$gt": 0}, "n": {"$exists": True}}, "a"),
        ({"deep": {"v": 2}}, "e"),
        ({"_id": {"$gt": "b", "$lte": "d"}}, "cd"),
    ],
)
def test_filters(docs, where, found):
    docs.insert("c", MANY)
    assert "".join(sorted(ids(docs, where))) == found
    assert docs.count("c", where) == len(found)


def test_sort_limit_and_fields(docs):
    docs.insert("c", [{"_id": i, "group": i % 3, "n": -i, "deep": {"x": i, "y": i}} for i in range(9)])
    assert ids(docs, {}, sort=[("group", 1), ("n", 1)]) == [6, 3, 0, 7, 4, 1, 8, 5, 2]
    assert ids(docs, {"group": 1}, sort=[("n", -1)], limit=2) == [1, 4]
    assert list(docs.find("c", {"_id": 4}, fields=["n", "deep.x", "gone"])) == [{"_id": 4, "n": -4, "deep": {"x": 4}}]
    assert list(docs.find("c", {"_id": 4}, fields=[])) == [{"_id": 4}]
    assert len(ids(docs, {}, limit=4)) == 4


def test_what_is_missing_sorts_first(docs):
    docs.insert("c", [{"_id": "a", "n": 1}, {"_id": "b"}, {"_id": "c", "n": "x"}])
    assert ids(docs, {}, sort=[("n", 1)]) == ["b", "a", "c"]


def test_a_scan_goes_on_over_many_pages(docs):
    docs.insert("c", [{"_id": i, "n": i, "text": "x" * 2000} for i in range(3000)])
    assert ids(docs, {"n": {"$gte": 10}}, sort=[("n", 1)]) == list(range(10, 3000))


def test_a_scan_may_be_left_early_and_others_may_change_what_it_reads(docs):
    docs.insert("c", [{"_id": i} for i in range(500)])
    scan = docs.find("c", {})
    first = next(scan)
    assert docs.delete("c", {"_id": first["_id"]}) == 1
    docs.insert("c", [{"_id": 1000}])
    rest = {doc["_id"] for doc in scan}
    assert rest >= set(range(500)) - {first["_id"]}
    next(docs.find("c", {}))


def test_a_hint_names_an_index(docs):
    docs.ensure([PLAIN])
    docs.insert("c", [{"_id": i, "state": "open" if i % 2 else "done"} for i in range(6)])
    assert sorted(ids(docs, {"state": "open"}, hint=PLAIN.keys)) == [1, 3, 5]


# ---- delete, indexes -------------------------------------------------------------------------------------------------


def test_delete_counts_and_may_be_repeated(docs):
    docs.insert("c", [{"_id": i} for i in range(5)])
    assert docs.delete("c", {"_id": {"$lt": 3}}) == 3
    assert docs.delete("c", {"_id": {"$lt": 3}}) == 0
    assert docs.delete("nothing", {}) == 0
    assert sorted(ids(docs, {})) == [3, 4]


def test_indexes_are_missing_until_they_are_made(docs):
    assert docs.missing([UNIQUE, PLAIN]) == [UNIQUE, PLAIN]
    docs.ensure([UNIQUE])
    assert docs.missing([UNIQUE, PLAIN]) == [PLAIN]
    docs.ensure([UNIQUE, PLAIN])
    docs.ensure([UNIQUE, PLAIN])
    assert docs.missing([UNIQUE, PLAIN]) == []


@pytest.mark.parametrize(
    "lesser", [replace(UNIQUE, unique=False), replace(UNIQUE, where={"state": "open"})], ids=["plain", "elsewhere"]
)
def test_an_index_that_promises_less_does_not_count(docs, lesser):
    """Somebody made one of the same name by hand: a commit must not rely on it."""
    docs.ensure([lesser])
    assert docs.missing([UNIQUE]) == [UNIQUE]
    with pytest.raises(LakeError, match="group_1_n_1"):
        docs.ensure([UNIQUE])
    assert docs.missing([lesser]) == []


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_of_many_threads_one_wins_each_change(docs):
    docs.ensure([UNIQUE])
    docs.insert("c", [{"_id": i, "state": "open", "group": "g"} for i in range(8)])
    won: list[int] = []
    start = threading.Barrier(8)

    def run(me: int) -> None:
        start.wait()
        n = 1
        while True:
            try:
                assert docs.update("c", {"_id": me, "state": "open"}, {"$set": {"state": "done", "n": n}})
            except Conflict:
                n += 1
                continue
            won.append(n)
            return

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 9))


def test_what_one_thread_did_every_other_sees(docs):
    """Causal order: a call that begins after another returned sees what it did."""
    for i in range(20):
        writer = threading.Thread(target=docs.insert, args=("c", [{"_id": i}]))
        writer.start()
        writer.join()
        assert docs.count("c", {"_id": i}) == 1


def test_concurrent_upserts_of_one_document_all_succeed(docs):
    done: list[bool] = []
    start = threading.Barrier(6)

    def run() -> None:
        start.wait()
        done.append(docs.update("c", {"_id": "a"}, {"$inc": {"n": 1}}, upsert=True))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 6
    assert list(docs.find("c", {})) == [{"_id": "a", "n": 6}]
