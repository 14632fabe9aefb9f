"""Replies that get lost, come late, break off or are asked for twice, between a real client and a real server that
speaks MongoDB's wire protocol: what a client sends twice counts once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conformance.test_catalog import KEY, live, put

from dreamlake.catalog.documents import INDEXES, DocumentCatalog
from dreamlake.errors import ClaimRevoked, Conflict, OutcomeUnknown, Unavailable
from dreamlake.ports import Ports
from dreamlake.services import mongo
from dreamlake.services.mongo import MongoDocs
from integration.proxy import Fault, Proxy
from tools.servers.processes import MongoServer


class World:
    """One database, reached through a proxy, and a client of its own that reaches it directly."""

    def __init__(self, server: MongoServer, proxy: Proxy) -> None:
        self.server, self.proxy = server, proxy
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.direct = MongoDocs(server.database(self.name))
        self.direct.ensure(INDEXES)
        self._made: list[MongoDocs] = [self.direct]

    def docs(self, **options: Any) -> MongoDocs:
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        url = self.server.database(self.name).replace(f":{self.server.port}/", f":{self.proxy.port}/")
        self._made.append(MongoDocs(url + extra))
        return self._made[-1]

    def catalog(self, **options: Any) -> DocumentCatalog:
        """A client of which one record is committed: the connection is there."""
        made = DocumentCatalog(Ports(), self.docs(**options))
        made.commit(made.claim(KEY, [], [put("/first", "f1")]))
        return made

    def close(self) -> None:
        for docs in self._made:
            docs.close()


@pytest.fixture
def net(faulty_mongo: MongoServer) -> Iterator[World]:
    with Proxy(faulty_mongo.port) as proxy:
        world = World(faulty_mongo, proxy)
        yield world
        world.close()


def check_once(net: World, client: DocumentCatalog) -> None:
    """Two records, each of another name, for every client; and no claim that anybody could still commit."""
    fresh = DocumentCatalog(Ports(), net.direct)
    for catalog in (client, fresh):
        assert live(catalog.view(KEY)) == {"/first": "f1", "/a": "a1"}
    assert [n for n, _ in fresh.records(KEY)] == [1, 2]
    assert list(fresh.pending()) == []


@pytest.mark.parametrize("command", [b"insert", b"update"])
@pytest.mark.parametrize(
    ("kind", "times"),
    [("lose", 1), ("lose", 2), ("lose", 3), ("cut", 2), ("repeat", 1), ("echo", 2), ("refuse", 2), ("tear", 2)],
)
def test_a_commit_counts_once_whatever_happens_to_its_messages(net, kind, command, times):
    """The driver repeats nothing: the catalog reads back, and asks again."""
    client = net.catalog()
    fault = net.proxy.arm(Fault(kind, match=command + b"\0", times=times, after=7))
    done = client.commit(client.claim(KEY, [], [put("/a", "a1")]))
    assert fault.hits >= 1
    assert done.number == 2
    assert [v.id for v in done.outcomes] == ["a1"]
    check_once(net, client)


def test_a_reply_that_comes_after_the_time_is_up(net):
    client = net.catalog(socketTimeoutMS=300)
    fault = net.proxy.arm(Fault("delay", match=b"update\0", times=3, seconds=0.6))
    assert client.commit(client.claim(KEY, [], [put("/a", "a1")])).number == 2
    assert fault.hits == 3
    check_once(net, client)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "fails",
    [
        {"closeConnection": True},
        {"errorCode": 91, "errorLabels": ["RetryableWriteError"]},
        {"errorCode": 11602, "errorLabels": ["RetryableWriteError"]},
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    ],
    ids=["close", "91", "11602", "concern"],
)
def test_a_server_that_fails_in_the_middle(net, fails, times):
    client = net.catalog(heartbeatFrequencyMS=500)
    with FailPoint(net.server, ["update"], times, fails):
        assert client.commit(client.claim(KEY, [], [put("/a", "a1")])).number == 2
    check_once(net, client)


class FailPoint:
    """A server fails so many of these commands, as it is told to."""

    def __init__(self, server: MongoServer, commands: list[str], times: int, data: dict[str, Any]) -> None:
        self._server, self._mode = server, {"times": times}
        self._data = {"failCommands": commands, **data}

    def _set(self, **fields: Any) -> None:
        from pymongo import MongoClient

        with MongoClient(self._server.url) as client:
            client["admin"].command("configureFailPoint", "failCommand", **fields)

    def __enter__(self) -> FailPoint:
        self._set(mode=self._mode, data=self._data)
        return self

    def __exit__(self, *_: object) -> None:
        self._set(mode="off")


@pytest.mark.parametrize("kind", ["lose", "repeat"])
def test_a_claim_that_is_revoked_meanwhile_stays_revoked(net, kind):
    client = net.catalog()
    claim = client.claim(KEY, [], [put("/a", "a1")])
    fault = net.proxy.arm(Fault(kind, match=b"delete\0", times=2))
    DocumentCatalog(Ports(), net.docs()).revoke(claim.token)
    assert fault.hits >= 1
    with pytest.raises(ClaimRevoked):
        client.commit(claim)
    assert live(client.view(KEY)) == {"/first": "f1"}


# ---- the client alone ------------------------------------------------------------------------------------------------


def test_a_scan_goes_on_after_its_connection_broke(net):
    docs = net.docs()
    net.direct.insert("c", [{"_id": i, "n": i, "text": "x" * 3000} for i in range(3000)])
    fault = net.proxy.arm(Fault("lose", match=b"getMore\0", times=2))
    assert [doc["_id"] for doc in docs.find("c", {}, sort=[("n", 1)])] == list(range(3000))
    assert fault.hits == 2


def test_a_scan_in_the_order_of_ids_goes_on_however_often_it_breaks(net, monkeypatch):
    monkeypatch.setattr(mongo, "RESUMABLE", 0)
    docs = net.docs()
    docs._sleep = lambda seconds: None
    ids = [f"{i:05}" for i in range(400)]
    net.direct.insert("c", [{"_id": i, "n": i} for i in ids])
    fault = net.proxy.arm(Fault("lose", match=b"getMore\0", times=99))
    assert [doc["n"] for doc in docs.find("c", {"_id": {"$gte": "00001"}}, sort=[("_id", 1)], fields=["n"])] == ids[1:]
    assert fault.hits >= 3
    assert len(list(docs.find("c", {}, sort=[("_id", 1)], limit=150))) == 150


def test_a_scan_that_breaks_again_and_again_is_an_error(net):
    docs = net.docs()
    docs._sleep = lambda seconds: None
    net.direct.insert("c", [{"_id": i, "text": "x" * 3000} for i in range(300)])
    net.proxy.arm(Fault("lose", match=b"getMore\0", times=99))
    with pytest.raises(Unavailable, match="query of c"):
        list(docs.find("c", {}))


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (lambda docs: docs.insert("c", [{"_id": 2}]), b"insert\0"),
        (lambda docs: docs.update("c", {"_id": 1}, {"$inc": {"n": 1}}), b"update\0"),
    ],
)
def test_a_change_whose_reply_is_lost_for_good_has_an_unknown_outcome(
    net: World, change: Callable[[MongoDocs], Any], command: bytes
) -> None:
    docs = net.docs()
    docs.insert("c", [{"_id": 1, "n": 0}])
    net.proxy.arm(Fault("lose", match=command, times=9))
    with pytest.raises(OutcomeUnknown):
        change(docs)
    assert net.direct.count("c", {"n": 0}) + net.direct.count("c", {"_id": 2}) in (0, 2)  # it happened, once


def test_a_refusal_by_an_index_is_no_matter_of_the_network(net):
    docs = net.docs()
    docs.ensure(INDEXES)
    where = {"sid": "s", "state": "committed"}
    docs.insert("records", [{"_id": "a", **where, "n": 1}, {"_id": "b", "sid": "s", "state": "pending"}])
    net.proxy.arm(Fault("lose", match=b"update\0"))
    for raised in (OutcomeUnknown, Conflict):  # the first refusal never came
        with pytest.raises(raised):
            docs.update("records", {"_id": "b"}, {"$set": {**where, "n": 1}})


def test_a_server_that_does_not_answer_is_unavailable_in_bounded_time(net):
    docs = net.docs(serverSelectionTimeoutMS=2000, connectTimeoutMS=500)
    net.proxy.down = True
    net.proxy.cut_all()
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{net.proxy.port}/{net.name}"):
        docs.count("c", {})
    assert time.monotonic() - begun < 20
    net.proxy.down = False
    assert docs.count("c", {}) == 0  # and it comes back by itself


def test_causal_order_reaches_over_threads_and_scans(net):
    """The times that calls have seen are handed on: the next call asks for what is at least as new."""
    docs = net.docs()
    state: Any = docs._connections._open()
    docs.insert("c", [{"_id": i, "text": "x" * 3000} for i in range(3000)])
    after_insert = state.operation_time
    assert after_insert is not None
    scan = docs.find("c", {})
    next(scan)
    net.direct.insert("c", [{"_id": -1}])
    newest = net.direct._connections._open().operation_time
    list(scan)
    docs.count("c", {})
    assert state.operation_time >= newest > after_insert
