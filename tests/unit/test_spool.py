"""Runs whose remote lake cannot be reached: kept in the spool, told once, delivered later with all they are."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest
from fakes.remote import FakeServers
from sync_support import side, told

from dreamlake import Session, open_lake, remote
from dreamlake.doctor import WARNING, Check, examine
from dreamlake.errors import InvalidInput, NotFound, Unavailable
from dreamlake.spool import SpoolWarning, waiting

AT = {
    "mongodb": "mongodb://user:secret@h/lake",
    "s3": {"bucket": "our-lake", "access_key_id": "AK", "secret_access_key": "hidden"},
    "namespace": "ana",
}


class Network:
    """A network that can be unplugged."""

    def __init__(self, servers: FakeServers, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up = True
        clients = remote.Clients(
            lambda url: Cable(self, servers.docs(url)), lambda settings: Cable(self, servers.objects(settings))
        )
        monkeypatch.setattr(remote, "CLIENTS", clients)


class Cable:
    """A client behind the network."""

    def __init__(self, network: Network, client: Any) -> None:
        self._network, self._client = network, client

    def __getattr__(self, name: str) -> Any:
        if not self._network.up and name != "close":
            raise Unavailable("the database mongodb://h/lake cannot be reached: unplugged")
        return getattr(self._client, name)


@pytest.fixture
def network(monkeypatch, tmp_path) -> Network:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DREAMLAKE_SPOOL", raising=False)
    return Network(FakeServers(), monkeypatch)


def session(**more: Any) -> Session:
    options: dict[str, Any] = {"remote": AT, "on_unreachable": "spool", "capture": False, **more}
    return Session("run", "w", **options)


def use(run: Session, what: str) -> None:
    run.files().upload(what.encode(), filename="a.txt", tags=[what])
    run.parameters().set({what: 1})
    run.log(what)
    run.track("loss").append(value=len(what))


def test_an_offline_run_is_kept_and_delivered_by_the_next_open(network, tmp_path):
    network.up = False
    with (
        pytest.warns(
            SpoolWarning, match="kept in .*deliver it with: dreamlake --lake .* push mongodb://h/lake"
        ) as told_of,
        session() as run,
    ):
        use(run, "first")
        use(run, "second")
        ids = [version["id"] for version in run.files().history("/a.txt")]
    assert len(told_of) == 1 and "secret" not in str(told_of[0].message) + repr(waiting()) + notes(tmp_path)
    [spooled] = waiting()
    assert Path(spooled.folder).is_relative_to(tmp_path / "data") and spooled.sessions == ["w/run"]
    assert (spooled.remote, spooled.namespace) == ("mongodb://h/lake", "ana")
    network.up = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with session() as run:
            assert run.namespace == "ana"
            assert [version["id"] for version in run.files().history("/a.txt")] == ids
            assert [(e["sequenceNumber"], e["message"]) for e in run.logs()] == [(0, "first"), (1, "second")]
            assert run.parameters().get() == {"first": 1, "second": 1}
            assert run.track("loss").stats()["totalDataPoints"] == 2
    assert waiting() == []
    with open_lake(AT) as team:
        assert told(side(team)) == told(side(open_lake(spooled.folder)))


def notes(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "data").rglob("*.json") if path.is_file())


def test_what_was_spooled_joins_what_the_lake_has(network):
    with session() as run:
        use(run, "online")
    network.up = False
    with pytest.warns(SpoolWarning), session() as run:
        use(run, "offline")
        use(run, "again")
    network.up = True
    with session() as run:
        assert [v["version"] for v in run.files().history("/a.txt")] == [3, 2, 1]
        assert run.files().read_bytes("/a.txt") == b"again" and run.files().read_bytes("/a.txt@v1") == b"online"
        assert [(e["sequenceNumber"], e["message"]) for e in run.logs()] == [
            (0, "online"),
            (1, "offline"),
            (2, "again"),
        ]
        use(run, "after")
    network.up = False
    with pytest.warns(SpoolWarning), session() as run:
        use(run, "offline once more")
    assert [spooled.sessions for spooled in waiting()] == [["w/run"]]
    network.up = True
    with session() as run:
        messages = [entry["message"] for entry in run.logs()]
        assert messages == ["online", "offline", "again", "after", "offline once more"]
        assert run.files().read_bytes("/a.txt") == b"offline once more"
    assert waiting() == []


def test_delivered_by_push(network):
    network.up = False
    with pytest.warns(SpoolWarning), session() as run:
        use(run, "offline")
    network.up = True
    [spooled] = waiting()
    done = open_lake(spooled.folder).push(AT, create=True)
    assert not done.failed and waiting() == []
    with open_lake(AT) as team:
        assert set(told(side(team))) == {"w/run"}


def test_a_lake_that_goes_in_the_middle_of_a_run(network, tmp_path):
    large = io.BytesIO(b"large" * 300_000)
    with session() as run:
        use(run, "online")
        track, files = run.track("loss"), run.files()
        network.up = False
        with pytest.warns(SpoolWarning, match="push") as told_of:
            files.upload(large, filename="large.bin")
            use(run, "offline")
            track.append(value=0)
            files.save_json({"k": 1}, "k.json")
        assert len(told_of) == 1
        assert files.read_bytes("/large.bin") == large.getvalue()
        with pytest.raises(NotFound):
            files.read_bytes("/a.txt@v2")  # the lake has the other version
        network.up = True  # the run goes on in the spool all the same
        use(run, "spooled")
    assert [spooled.sessions for spooled in waiting()] == [["w/run"]]
    with session() as run:
        assert [entry["message"] for entry in run.logs()] == ["online", "offline", "spooled"]
        assert [v["version"] for v in run.files().history("/a.txt")] == [3, 2, 1]
        assert run.files().read_bytes("/large.bin") == large.getvalue()
        assert [point["data"]["value"] for point in run.track("loss")] == [6, 7, 0, 7]
        assert run.parameters().get() == {"online": 1, "offline": 1, "spooled": 1}
    assert waiting() == []


def test_reading_from_a_lake_that_is_gone_is_an_error(network):
    with session() as run:
        use(run, "online")
        network.up = False
        with pytest.raises(ConnectionError):
            run.files().read_bytes("/a.txt")
        with pytest.raises(ConnectionError):
            run.files().delete("/a.txt")
        network.up = True
    with session(on_unreachable="error") as run:
        network.up = False
        with pytest.raises(ConnectionError):
            run.files().upload(b"x", filename="x")
        network.up = True
    assert waiting() == []


def test_doctor_tells_what_waits(network, tmp_path):
    def told_of() -> list[Check]:
        return [check for check in examine(tmp_path / "lake") if check.name == "spool"]

    assert told_of() == []
    network.up = False
    with pytest.warns(SpoolWarning), session() as run:
        use(run, "offline")
    [check] = told_of()
    assert check.state == WARNING and "1 sessions for mongodb://h/lake wait in" in check.message
    assert check.cure == waiting()[0].command


def test_without_being_asked_it_is_an_error(network, tmp_path):
    network.up = False
    with pytest.raises(ConnectionError, match="unplugged"):
        session(on_unreachable="error").open()
    assert not (tmp_path / "data").exists() and waiting() == []
    with pytest.raises(InvalidInput, match="use 'error' or 'spool'"):
        session(on_unreachable="ignore")


def test_where_the_spool_is(network, tmp_path, monkeypatch):
    network.up = False
    with pytest.warns(SpoolWarning, match=str(tmp_path / "given")), session(spool=tmp_path / "given"):
        pass
    monkeypatch.setenv("DREAMLAKE_SPOOL", str(tmp_path / "variable"))
    with pytest.warns(SpoolWarning, match=str(tmp_path / "variable")), session(remote={**AT, "namespace": "bob"}):
        pass
    assert [spooled.namespace for spooled in waiting()] == ["bob"]
    assert [spooled.namespace for spooled in waiting(tmp_path / "given")] == ["ana"]
    network.up = True
    with session(spool=tmp_path / "given"):
        pass
    assert waiting(tmp_path / "given") == [] and len(waiting()) == 1
