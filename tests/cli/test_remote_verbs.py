"""``remote``, ``doctor``, and all other verbs on a remote lake: in this process, on databases and buckets in memory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.docs import MemoryDocs
from fakes.objects import MemoryObjects
from fakes.remote import FakeServers

from dreamlake import cli
from dreamlake.errors import AccessDenied, NotFound, Unavailable

S3 = "s3://our-lake/p?mongodb=mongodb://db.example.org/lake&endpoint=https://s3.example.org&addressing=path"


class Here:
    """Runs the command in this process, in an empty folder."""

    def __init__(self, capsys: Any, folder: Path) -> None:
        self.capsys, self.folder, self.config = capsys, folder, folder / "config.toml"

    def run(self, *args: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = cli.run(list(args))
        out, err = self.capsys.readouterr()
        return code, out, err

    def ok(self, *args: str) -> str:
        code, out, err = self.run(*args)
        assert (code, err) == (0, ""), (code, out, err)
        return out

    def json(self, *args: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok(*args, "--json").splitlines()]

    def fails(self, wanted: int, *args: str) -> str:
        code, out, err = self.run(*args)
        assert code == wanted, (code, out, err)
        return err or out


@pytest.fixture
def here(capsys, monkeypatch, tmp_path) -> Here:
    for name in list(os.environ):
        if name.startswith("DREAMLAKE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DREAMLAKE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOGNAME", "ana")
    monkeypatch.chdir(tmp_path)
    return Here(capsys, tmp_path)


@pytest.fixture
def servers(monkeypatch) -> FakeServers:
    made = FakeServers()
    made.install(monkeypatch)
    return made


# ---- profiles ------------------------------------------------------------------------------------------------------


def test_a_profile_is_added_listed_and_removed_and_the_rest_of_the_file_stays(here):
    mine = "# mine\nmax_file_bytes = 5  # small\n\n[profiles.old]\nmongodb = 'mongodb://o/d'\n# end of old\n"
    here.config.write_text(mine)
    here.ok(
        "remote", "add", "team", S3, "--namespace", "ana", "--secret-access-key-env", "SK", "--access-key-id-env", "AK"
    )
    text = here.config.read_text()
    assert text.startswith(mine.rstrip())
    assert text.endswith(
        """
[profiles.team]
mongodb = "mongodb://db.example.org/lake"
namespace = "ana"

[profiles.team.s3]
bucket = "our-lake"
prefix = "p"
endpoint = "https://s3.example.org"
addressing = "path"
access_key_id_env = "AK"
secret_access_key_env = "SK"
"""
    )
    assert here.json("remote", "list") == [
        {"profile": "old", "database": "mongodb://o/d", "blobs": "", "namespace": ""},
        {
            "profile": "team",
            "database": "mongodb://db.example.org/lake",
            "blobs": "s3://our-lake/p",
            "namespace": "ana",
        },
    ]
    assert "there is a profile 'team'" in here.fails(4, "remote", "add", "team", S3)
    here.ok("remote", "remove", "old")
    assert "[profiles.old]" not in here.config.read_text() and "# mine\nmax_file_bytes = 5" in here.config.read_text()
    here.ok("remote", "remove", "team")
    assert here.config.read_text() == "# mine\nmax_file_bytes = 5  # small\n"
    assert "no profile 'team'" in here.fails(3, "remote", "remove", "team")
    assert os.listdir(here.folder) == ["config.toml"]


def test_a_shared_folder_and_a_new_file(here):
    here.ok("remote", "add", "nas", "mongodb://h/d", "--folder", "/shared/blobs")
    assert here.config.read_text() == '[profiles.nas]\nmongodb = "mongodb://h/d"\nfolder = "/shared/blobs"\n'


def test_dry_runs_write_nothing(here):
    assert "[profiles.team.s3]" in here.ok("remote", "add", "team", S3, "--dry-run")
    assert not here.config.exists()
    here.ok("remote", "add", "team", S3)
    here.ok("remote", "remove", "team", "-n")
    assert "team" in here.config.read_text()
    assert "no profile 'x'" in here.fails(3, "remote", "remove", "x", "-n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bad name", S3], "profile 'bad name': use letters"),
        (["a", "mongodb://h"], "names no database"),
        (["a", S3, "--mongodb-user-env", "U"], "go together"),
        (["a", S3, "--access-key-id-env", "U"], "--access-key-id-env and --secret-access-key-env go together"),
        (["a", "mongodb://h/d", "--session-token-env", "U"], "access keys belong to a bucket"),
        (["a", S3, "--folder", "/x"], "begins with mongodb://"),
    ],
)
def test_profiles_that_are_refused(here, args, message):
    assert message in here.fails(2, "remote", "add", *args)
    assert not here.config.exists()


@pytest.mark.parametrize("url", ["mongodb://ana:pw@h/d", "s3://our-lake?mongodb=mongodb%3A%2F%2Fana%3Apw%40h%2Fd"])
def test_a_password_on_the_command_line_is_refused(here, url):
    for args in (["remote", "add", "team", url], ["--lake", url, "ls"], ["ls", "--lake", url], ["remote", "test", url]):
        told = here.fails(2, *args)
        assert "can be read by every user of this machine" in told and "pw" not in told.replace("password", "")


def test_a_file_that_cannot_be_edited_safely_is_left_alone(here):
    here.config.write_text('profiles = { a = { mongodb = "mongodb://h/d" } }\n')
    assert "change it by hand" in here.fails(2, "remote", "remove", "a")
    assert "mongodb://h/d" in here.config.read_text()
    assert here.run("remote", "add", "b", S3)[0] == 2
    assert here.config.read_text().startswith("profiles = {") and "[profiles.b]" not in here.config.read_text()


# ---- all other verbs -----------------------------------------------------------------------------------------------


@pytest.fixture
def team(here, servers) -> Here:
    """A profile ``team`` in the environment, whose blobs are in a folder."""
    here.ok("remote", "add", "team", "mongodb://h/lake", "--folder", str(here.folder / "blobs"), "--namespace", "ana")
    os.environ["DREAMLAKE_REMOTE"] = "team"
    (here.folder / "a.txt").write_text("aaa")
    (here.folder / "b.txt").write_text("bbbb")
    here.ok("upload", "a.txt", "b.txt", "vision/run 1:/data", "-t", "x", "-m", "loss=0.5")
    yield here
    os.environ.pop("DREAMLAKE_REMOTE", None)


def test_verbs_that_look(team, tmp_path):
    assert [row["sessionId"] for row in team.json("ls")] == ["vision/run 1"]
    assert [row["filename"] for row in team.json("ls", "vision/run 1")] == ["a.txt", "b.txt"]
    assert [row["filename"] for row in team.json("find", "--lake", "team", "-g", "*.txt", "-m", "loss<1")] == [
        "a.txt",
        "b.txt",
    ]
    told = team.json("info")[0]
    assert (told["root"], told["database"], told["namespace"]) == ("team", "mongodb://h/lake", "ana")
    assert team.json("info", "vision/run 1")[0]["findings"] == []
    assert team.json("info", "vision/run 1:/data/a.txt")[0]["sizeBytes"] == 3
    assert "a.txt" in team.ok("tree", "vision")
    assert len(team.json("tree", "vision/run 1")) == 2
    assert [row["version"] for row in team.json("history", "vision/run 1:/data/a.txt")] == [1]
    assert "no difference" in team.ok("diff", "vision/run 1", "vision/run 1")
    assert "no session 'vision/run 2' in the lake in team; did you mean" in team.fails(3, "ls", "vision/run 2")
    assert "no workspace 'visio' in the lake in team" in team.fails(3, "ls", "visio")
    os.environ["DREAMLAKE_NAMESPACE"] = "bob"  # listing shows one's own
    try:
        assert team.json("ls") == []
        assert "no session" in team.fails(3, "ls", "vision/run 1")
    finally:
        del os.environ["DREAMLAKE_NAMESPACE"]


def test_verbs_that_change(team, tmp_path):
    team.ok("download", "vision/run 1:/data", "out/")
    assert (tmp_path / "out/a.txt").read_text() == "aaa"
    team.ok("cp", "vision/run 1:/data/a.txt", "vision/run 1:/copy.txt")
    team.ok("mv", "vision/run 1:/copy.txt", "vision/run 1:/moved.txt")
    team.ok("alias", "vision/run 1:/moved.txt", "best")
    assert team.json("info", "vision/run 1:/moved.txt@best")[0]["checksum"]
    team.ok("rm", "vision/run 1:/moved.txt")
    team.ok("restore", "vision/run 1:/moved.txt")
    team.ok("retention", "vision/run 1", "--last", "3")
    assert team.json("retention", "vision/run 1")[0]["retention"][0]["last"] == 3
    team.ok("settings", "--encoding", "raw")
    assert team.json("settings") == [{"encoding": "raw"}]
    assert team.json("upload", "a.txt", "vision/run 2", "--dry-run")[0]["action"] == "upload"
    assert len(team.json("ls")) == 1


def test_imports_know_what_is_there(team, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.txt").write_text("x")
    assert team.json("import", "folder", "src", "vision/run 3:/in", "--dry-run")[-1]["files"] == 1
    assert team.json("import", "folder", "src", "vision/run 3:/in")[-1]["files"] == 1
    assert team.json("import", "folder", "src", "vision/run 3:/in", "--dry-run")[-1]["files"] == 0


def test_upkeep(team):
    team.ok("rm", "vision/run 1:/data/b.txt")
    assert team.json("stats")[0]["blobs"] == 2
    assert [row["group"] for row in team.json("du")] == ["ana/vision/run 1"]
    checksum = team.json("info", "vision/run 1:/data/a.txt")[0]["checksum"]
    assert team.json("why", checksum)[0]["session"] == "ana/vision/run 1"
    assert team.json("verify", "--deep")[-1]["damage"] == 0
    assert team.json("repair")[-1]
    team.ok("gc", "--now", "--keep-deleted", "0s")
    assert team.json("stats")[0]["blobs"] == 1
    team.ok("optimize")


def test_materialize_needs_a_target(team, tmp_path):
    assert "say where the tree should go" in team.fails(2, "materialize", "vision/run 1")
    team.ok("materialize", "vision/run 1", "--to", "tree")
    assert (tmp_path / "tree/vision/run 1/files/data/a.txt").read_text() == "aaa"
    assert "; 2 unchanged" in team.ok("materialize", "--to", "tree")
    assert team.run("materialize", "--to", "tree", "--check")[0] == 0


def test_objects_under_documented_keys_and_links(here, servers, tmp_path):
    at = S3 + "&namespace=ana"
    (tmp_path / "a.txt").write_text("aaa")
    here.ok("--lake", at, "upload", "a.txt", "vision/run 1:/data")
    assert "would place ana/vision" in here.ok("--lake", at, "materialize", "--bucket", "--dry-run")
    assert here.run("--lake", at, "materialize", "--bucket", "--check")[0] == 9
    assert here.json("--lake", at, "materialize", "vision/run 1", "--bucket")[0]["placed"] == 1
    assert "1 file in order" in here.ok("--lake", at, "materialize", "--bucket", "--check")
    (objects,) = servers.buckets.values()
    file_id = here.json("--lake", at, "info", "vision/run 1:/data/a.txt")[0]["id"]
    assert list(objects.files) == [f"ana/vision/run 1/{file_id}/a.txt"]
    assert here.ok("--lake", at, "link", "vision/run 1:/data/a.txt", "--expires", "60").startswith("memory://blobs/")
    here.ok("--lake", at, "rm", "vision/run 1:/data/a.txt")
    assert here.json("--lake", at, "materialize", "--bucket", "--delete")[0]["removed"] == 1
    assert objects.files == {}


# ---- doctor --------------------------------------------------------------------------------------------------------


def states(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in rows}


def test_doctor_of_a_folder(here):
    assert states(here.json("doctor")) == {"configuration": "ok", "store": "warning", "free space": "ok"}
    assert os.listdir(here.folder) == []
    (here.folder / "x").write_text("x")
    here.ok("upload", "x", "w/s")
    found = states(here.json("doctor"))
    assert found.pop("free space") == "ok"
    assert found == {"configuration": "ok", "store": "ok", "permissions": "ok", "file system": "ok"}
    assert os.listdir(here.folder / "experiments/.dreamlake/tmp") == []
    (here.folder / "experiments/.dreamlake/store.json").write_text('{"format": 9, "store_id": "x"}')
    assert "this release reads format 1" in here.fails(9, "doctor")
    here.config.write_text("locl = 1")
    assert "failed   configuration:" in here.fails(9, "doctor")


def test_doctor_of_a_bucket_that_has_everything(here, servers):
    here.ok("remote", "add", "team", S3)
    found = states(here.json("doctor", "--lake", "team"))
    assert found["database"] == "warning"
    from dreamlake.location import remote_address
    from dreamlake.ports import Ports
    from dreamlake.remote import attach

    attach(Ports(), remote_address("team"), create=True)
    found = states(here.json("remote", "test", "team"))
    assert set(found.values()) == {"ok"}
    assert list(found) == [
        "configuration", "database", "database rights", "cache", "indexes", "blobs", "store ids", "read after write",
        "conditional writes", "conditional multipart uploads", "SHA-256 of what arrives", "clock", "unfinished uploads",
    ]  # fmt: skip
    (objects,) = servers.buckets.values()
    (docs,) = servers.databases.values()
    assert list(objects.held) == ["store.json"] and docs.tables["checks"] == {}
    docs.indexes.clear()
    objects.open_uploads["k", "u"] = (time.time() - 8 * 86_400, {})
    told = here.fails(9, "remote", "test", "team")
    assert (
        "failed   indexes: missing: records." in told and "Cure: run `dreamlake remote test --create-indexes`" in told
    )
    assert "warning  unfinished uploads: 1 are older than a week. Cure: `dreamlake gc` removes them" in told
    assert "created" in here.ok("remote", "test", "team", "--create-indexes")


@pytest.mark.parametrize(
    ("error", "last", "message"),
    [
        (Unavailable("db.example.org cannot be reached"), "database", "db.example.org cannot be reached"),
        (AccessDenied("the user ana is refused"), "database", "the user ana is refused"),
    ],
)
def test_doctor_of_a_database_that_is_away(here, servers, monkeypatch, error, last, message):
    def fail(self, *arguments, **options):
        raise error

    monkeypatch.setattr(MemoryDocs, "find", fail)
    here.ok("remote", "add", "team", S3)
    code, out, _ = here.run("doctor", "--lake", "team", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 9 and rows[-1]["name"] == last and rows[-1]["state"] == "failed" and message in rows[-1]["message"]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (NotFound("there is no bucket our-lake"), "create the bucket, or correct its name"),
        (AccessDenied("s3://our-lake refuses PutObject"), "grant GetObject, PutObject"),
        (Unavailable("s3.example.org cannot be reached"), ""),
    ],
)
def test_doctor_of_a_bucket_that_is_away(here, servers, monkeypatch, error, cure):
    def fail(self, *arguments, **options):
        raise error

    monkeypatch.setattr(MemoryObjects, "put", fail)
    here.ok("remote", "add", "team", S3)
    told = here.fails(9, "doctor", "--lake", "team")
    assert f"failed   bucket: {error}" in told and cure in told


def test_a_folder_is_no_remote(here):
    assert "is a folder; name a profile or a URL" in here.fails(2, "remote", "test", "./x")
