"""What pymongo raises, told in our words, and without a password, however it is spelled."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

import pytest
from pymongo import errors

from dreamlake.errors import AccessDenied, Conflict, InvalidInput, LakeError, OutcomeUnknown, Unavailable
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.mongo_errors import is_transient, place, scrub, translate

SECRET = "p@ss:w/rd%"
URL = "mongodb://ann:p%40ss%3Aw%2Frd%25@db.example:27017,db2.example/lake?replicaSet=r&authMechanismProperties=AWS_SESSION_TOKEN:tok123"


@pytest.mark.parametrize(
    ("error", "changing", "expected", "transient"),
    [
        (errors.ServerSelectionTimeoutError("no servers"), True, Unavailable, False),
        (errors.WaitQueueTimeoutError("pool"), True, Unavailable, True),
        (errors.AutoReconnect("closed"), True, OutcomeUnknown, True),
        (errors.AutoReconnect("closed"), False, Unavailable, True),
        (errors.NetworkTimeout("slow"), True, OutcomeUnknown, True),
        (errors.ProtocolError("response to another request"), True, OutcomeUnknown, True),
        (errors.ProtocolError("response to another request"), False, Unavailable, True),
        (errors.NotPrimaryError("not primary"), True, OutcomeUnknown, True),
        (errors.WriteConcernError("waiting for replication", 64), True, OutcomeUnknown, True),
        (errors.CursorNotFound("gone", 43), False, Unavailable, True),
        (errors.DuplicateKeyError("dup", 11000), True, Conflict, False),
        (errors.OperationFailure("auth", 18), True, AccessDenied, False),
        (errors.OperationFailure("not authorized", 13), False, AccessDenied, False),
        (errors.OperationFailure("stepping down", 11602), True, OutcomeUnknown, True),
        (errors.OperationFailure("stepping down", 11602), False, Unavailable, True),
        (
            errors.OperationFailure("x", 91, {"errorLabels": ["RetryableWriteError", "NoWritesPerformed"]}),
            True,
            Unavailable,
            True,
        ),
        (errors.OperationFailure("disk", 14031), True, Unavailable, False),
        (errors.OperationFailure("options", 85), True, InvalidInput, False),
        (errors.OperationFailure("what", 2), True, LakeError, False),
        (errors.InvalidURI("bad"), False, InvalidInput, False),
        (errors.ConfigurationError("bad"), False, InvalidInput, False),
        (errors.InvalidOperation("closed"), False, Unavailable, False),
        (errors.DocumentTooLarge("17 MB"), True, LakeError, False),
    ],
)
def test_every_error_has_its_class(error, changing, expected, transient):
    told = translate(error, URL, "update of records", changing=changing)
    assert type(told) is expected
    assert "db.example" in str(told)
    assert is_transient(error) is transient


def test_a_name_that_does_not_resolve_is_an_outage_not_a_mistake():
    class DnsError(Exception):
        pass

    DnsError.__module__ = "dns.resolver"
    error = errors.ConfigurationError("The resolution lifetime expired")
    error.__cause__ = DnsError()
    assert type(translate(error, "mongodb+srv://c.example/lake", "opening", changing=False)) is Unavailable


@pytest.mark.parametrize("text", [f"failed for {SECRET}", f"at {URL}", "p%40ss%3Aw%2Frd%25 is wrong", "token tok123"])
def test_no_spelling_of_a_secret_gets_out(text):
    for told in (scrub(text, URL), str(translate(errors.OperationFailure(text, 18), URL, "x", changing=False))):
        assert SECRET not in told
        assert "p%40ss" not in told
        assert "tok123" not in told


def test_a_place_names_hosts_and_database_only():
    assert place(URL) == "mongodb://db.example:27017,db2.example/lake"
    assert place("mongodb://db.example/lake") == "mongodb://db.example/lake"
    assert place("mongodb://ann:se?cret@db.example/lake") == "mongodb://..."


def test_a_client_shows_no_secret_and_travels_to_other_processes():
    docs = MongoDocs(URL)
    assert repr(docs) == "MongoDocs('mongodb://db.example:27017,db2.example/lake', database='lake')"
    again = pickle.loads(pickle.dumps(docs))
    assert (again.database, again._url) == ("lake", URL)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://db/lake", "begins with"),
        ("mongodb://db.example", "names no database"),
        ("mongodb://db.example/", "names no database"),
        ("mongodb://db.example/?replicaSet=r", "names no database"),
        ("mongodb://ann:se?cret@db.example/lake", r"//\.\.\. names no database"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_at_once(url, message):
    with pytest.raises(InvalidInput, match=message):
        MongoDocs(url)


@pytest.mark.parametrize(
    "url", [f"mongodb://ann:{SECRET}@db.example:x/lake", f"mongodb://ann:{SECRET}@db.example/lake?tls=maybe"]
)
def test_a_url_that_pymongo_refuses_is_our_error_without_its_password(url):
    with pytest.raises(InvalidInput, match=r"db\.example") as caught:
        MongoDocs(url).count("c", {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_options_of_the_url_win_over_ours_but_not_over_safety():
    made: dict[str, Any] = {}

    def connect(url: str, **options: Any) -> Any:
        made.update(options)
        import mongomock

        return mongomock.MongoClient()

    MongoDocs("mongodb://h/lake?socketTimeoutMS=5&w=1&retryWrites=true", connect=connect, sessions=False).count("c", {})
    assert "socketTimeoutMS" not in made
    assert made["serverSelectionTimeoutMS"] == 10_000
    assert made["retryWrites"] is False


class Flaky:
    """A client whose calls fail so many times before they work."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __getitem__(self, name: str) -> Flaky:
        return self

    def close(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls <= self.failures:
                raise self.error
            return [{"_id": 1}] if name == "find" else type("Done", (), {"deleted_count": 1, "matched_count": 1})()

        return call


def flaky(failures: int, error: Exception) -> tuple[MongoDocs, Flaky, list[float]]:
    client, waits = Flaky(failures, error), list[float]()
    return MongoDocs("mongodb://h/d", connect=lambda *a, **k: client, sessions=False, sleep=waits.append), client, waits


def test_what_is_safe_to_repeat_is_repeated_with_growing_waits():
    docs, client, waits = flaky(4, errors.AutoReconnect("x"))
    assert docs.delete("c", {}) == 1
    assert client.calls == 5
    assert len(waits) == 4
    assert all(0.05 * 2**i <= wait <= 0.1 * 2**i for i, wait in enumerate(waits))
    docs, client, _ = flaky(2, errors.CursorNotFound("x", 43))
    assert [doc["_id"] for doc in docs.find("c", {})] == [1]
    assert client.calls == 3


def test_it_is_given_up_after_some_tries():
    docs, client, waits = flaky(99, errors.AutoReconnect("x"))
    with pytest.raises(Unavailable):
        docs.delete("c", {})
    assert (client.calls, len(waits)) == (6, 5)


def test_a_change_is_never_repeated_blindly():
    for change in (
        lambda docs: docs.update("c", {}, {"$inc": {"n": 1}}),
        lambda docs: docs.update_many("c", {}, {"$inc": {"n": 1}}),
        lambda docs: docs.insert("c", [{"_id": 1}]),
    ):
        docs, client, waits = flaky(1, errors.AutoReconnect("x"))
        with pytest.raises(OutcomeUnknown):
            change(docs)
        assert (client.calls, waits) == (1, [])


def test_what_will_not_pass_is_not_repeated():
    docs, client, _ = flaky(1, errors.OperationFailure("auth", 18))
    with pytest.raises(AccessDenied):
        docs.count("c", {})
    assert client.calls == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_its_own_connections():
    made: list[int] = []

    def connect(*args: Any, **kwargs: Any) -> Any:
        made.append(os.getpid())
        return Flaky(0, ValueError())

    docs = MongoDocs("mongodb://h/d", connect=connect, sessions=False)
    docs.delete("c", {})
    pid = os.fork()
    if pid == 0:
        try:
            docs.delete("c", {})
            docs.close()
            os._exit(0 if made[1:] == [os.getpid()] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    docs.delete("c", {})
    assert made == [os.getpid()]
