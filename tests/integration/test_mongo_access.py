"""Users of a database that asks who they are: the rights of docs/administration.md are enough, and less is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.test_catalog import KEY, put

from dreamlake.catalog.documents import INDEXES, DocumentCatalog
from dreamlake.errors import AccessDenied, LakeError, Unavailable
from dreamlake.ports import Ports
from dreamlake.services.docs import Index
from dreamlake.services.mongo import MongoDocs
from tools.servers.processes import MongoServer

PASSWORD = "s3cret:p@ss"
QUOTED = "s3cret%3Ap%40ss"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server with users of the database ``lake``: the documented role, less ``createIndex``, reading only."""
    from pymongo import MongoClient

    folder: Path = tmp_path_factory.mktemp("guarded")
    server = MongoServer(folder, durable=True)
    with server, MongoClient(server.url) as client:
        role = documented_role()
        (privilege,) = role["privileges"]
        fewer = [action for action in privilege["actions"] if action != "createIndex"]
        client["lake"].command(role)
        client["lake"].command({**role, "createRole": "fewer", "privileges": [{**privilege, "actions": fewer}]})
        for user, name in (("ann", "dreamlake"), ("bob", "fewer"), ("guest", "read")):
            client["lake"].command("createUser", user, pwd=PASSWORD, roles=[{"role": name, "db": "lake"}])
        client["lake"]["c"].insert_one({"_id": 1})
    server.ask_for_users()
    with server:
        yield server


def documented_role() -> dict[str, Any]:
    """The first block of JSON in docs/administration.md."""
    text = (Path(__file__).parents[2] / "docs" / "administration.md").read_text("utf-8")
    role = json.loads(text.partition("```json\n")[2].partition("```")[0])
    assert "createRole" in role
    return dict(role)


def docs_for(server: MongoServer, user: str, password: str = QUOTED) -> MongoDocs:
    return MongoDocs(server.database("lake", f"{user}:{password}@") + "&authSource=lake")


def test_the_documented_rights_are_enough(guarded):
    docs = docs_for(guarded, "ann")
    docs.ensure(INDEXES)
    catalog = DocumentCatalog(Ports(), docs)
    claim = catalog.claim(KEY, [], [put("/a", "a1")])
    assert catalog.commit(claim).number == 1
    assert catalog.revoke(catalog.claim(KEY, [], [put("/b", "b1")]).token)
    assert catalog.sessions() == [KEY]
    docs.close()
    docs = docs_for(guarded, "bob")  # the indexes are there: who may not make them can work all the same
    docs.ensure(INDEXES)
    assert docs.update("records", {"_id": claim.token}, {"$set": {"at": 1.0}})
    with pytest.raises(AccessDenied):
        docs.ensure([Index("records", (("at", 1),))])
    docs.close()


@pytest.mark.parametrize(("user", "password"), [("nobody", QUOTED), ("ann", "wr%40ng%2F")])
def test_wrong_credentials_are_told_at_once_and_without_a_password(guarded, user, password):
    docs = docs_for(guarded, user, password)
    begun = time.monotonic()
    for call in (lambda: docs.count("c", {}), lambda: docs.insert("c", [{"_id": 2}])):
        with pytest.raises(AccessDenied, match=f"127.0.0.1:{guarded.port}/lake refuses these credentials") as caught:
            call()
        for secret in (PASSWORD, QUOTED, "wr@ng/", password):
            assert secret not in str(caught.value)
    assert time.monotonic() - begun < 10
    docs.close()


def test_a_url_without_a_user_is_refused(guarded):
    docs = MongoDocs(guarded.database("lake"))
    with pytest.raises(AccessDenied):
        docs.count("c", {})
    docs.close()


def test_who_may_only_read_reads_and_is_told_that_he_may_not_write(guarded):
    docs = docs_for(guarded, "guest")
    assert docs.count("c", {}) == 1
    for change in (
        lambda: docs.insert("c", [{"_id": 2}]),
        lambda: docs.update("c", {"_id": 1}, {"$set": {"x": 1}}),
        lambda: docs.delete("c", {"_id": 1}),
    ):
        with pytest.raises(AccessDenied):
            change()
    assert list(docs.find("c", {})) == [{"_id": 1}]
    docs.close()


@pytest.mark.parametrize(
    ("options", "query"), [(["--standalone"], ""), ([], "?replicaSet=secantus")], ids=["alone", "discovered"]
)
def test_other_ways_to_a_server(tmp_path, options, query):
    """Without a replica set there are neither times nor retries of the driver; through one, its members are found."""
    with MongoServer(tmp_path, options=options) as server:
        docs = MongoDocs(server.database("lake").partition("?")[0] + query)
        docs.ensure(INDEXES)
        catalog = DocumentCatalog(Ports(), docs)
        for n in range(1, 4):
            assert catalog.commit(catalog.claim(KEY, [], [put(f"/{n}", f"{n}")])).number == n
        assert catalog.view(KEY).n == 3
        assert (docs._connections._open().operation_time is None) == (options != [])
        docs.close()


def test_nobody_at_home_is_no_matter_of_credentials(tmp_path):
    port = MongoServer(tmp_path).port  # never started
    docs = MongoDocs(f"mongodb://ann:{QUOTED}@127.0.0.1:{port}/lake?serverSelectionTimeoutMS=300&directConnection=true")
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        docs.count("c", {})
    assert QUOTED not in str(caught.value)
    assert isinstance(caught.value, LakeError)
    docs.close()
