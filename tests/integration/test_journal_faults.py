"""Parameters, logs and tracks in a database whose server is killed, and through a network that loses replies."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from dreamlake.errors import Unavailable
from dreamlake.journal import LOGS, PARAMETERS
from dreamlake.journal.documents import INDEXES, DocumentJournal
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs
from integration.proxy import Fault, Proxy
from tools.servers.processes import MongoServer


def numbers(journal: DocumentJournal) -> list[int]:
    return [row["sequenceNumber"] for row in journal.read(LOGS, 0, 100_000)]


def test_the_server_dies_twice_under_four_writers(own_mongo: MongoServer) -> None:
    """Numbers have neither gaps nor repeats, every acknowledged row is there once, and every acknowledged change."""
    url = own_mongo.database("lake")
    MongoDocs(url).ensure(INDEXES)
    acknowledged: dict[int, list[int]] = {who: [] for who in range(4)}
    changes = [0] * 4
    stop = threading.Event()

    def write(who: int) -> None:
        docs = MongoDocs(url)
        journal = DocumentJournal(Ports(), docs, "5e55")
        n = 0
        while not stop.is_set():
            try:
                journal.append(LOGS, [{"who": who, "n": n}])
                acknowledged[who].append(n)
                journal.update_document(PARAMETERS, lambda old: {**(old or {}), str(who): changes[who] + 1})
                changes[who] += 1
            except Unavailable:  # also one whose outcome is unknown: this row is not sent again
                time.sleep(0.1)
            n += 1
        docs.close()

    threads = [threading.Thread(target=write, args=(who,)) for who in acknowledged]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(1.0)
        own_mongo.kill()
        own_mongo.start()
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join(60)
    docs = MongoDocs(url)
    journal = DocumentJournal(Ports(), docs, "5e55")
    rows = journal.read(LOGS, 0, 100_000)
    assert numbers(journal) == list(range(len(rows))) and journal.extent(LOGS).total == len(rows)
    for who, told in acknowledged.items():
        stored = [row["n"] for row in rows if row["who"] == who]
        assert stored == sorted(set(stored)) and set(told) <= set(stored) and len(told) > 5
        assert (journal.read_document(PARAMETERS) or {})[str(who)] >= changes[who] > 5
    docs.close()


@pytest.mark.parametrize("command", [b"insert", b"update"])
@pytest.mark.parametrize(("kind", "times"), [("lose", 1), ("lose", 3), ("cut", 2), ("repeat", 1), ("refuse", 2)])
def test_what_is_sent_twice_counts_once(faulty_mongo: MongoServer, kind: str, times: int, command: bytes) -> None:
    with Proxy(faulty_mongo.port) as proxy:
        url = faulty_mongo.database(f"test-{uuid.uuid4().hex[:12]}")
        direct = MongoDocs(url)
        direct.ensure(INDEXES)
        docs = MongoDocs(url.replace(f":{faulty_mongo.port}/", f":{proxy.port}/"))
        journal = DocumentJournal(Ports(), docs, "5e55")
        journal.append(LOGS, [{"n": 0}])
        journal.update_document(PARAMETERS, lambda old: {"n": 1})
        fault = proxy.arm(Fault(kind, match=command + b"\0", times=times, after=7))
        try:
            if command == b"insert":
                assert journal.append(LOGS, [{"n": 1}, {"n": 2}]) == 1
            else:
                assert journal.update_document(PARAMETERS, lambda old: {"n": (old or {})["n"] + 1}) == {"n": 2}
        finally:
            docs.close()
        assert fault.hits >= 1
        again = DocumentJournal(Ports(), direct, "5e55")
        assert [row["n"] for row in again.read(LOGS, 0, 9)] == ([0, 1, 2] if command == b"insert" else [0])
        assert again.read_document(PARAMETERS) == {"n": 1 if command == b"insert" else 2}
        direct.close()
