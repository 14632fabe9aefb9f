"""Where a lake is: URLs, mappings, profiles, the order of the sources, and that no secret is ever shown."""

from __future__ import annotations

import getpass
import os
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest

from dreamlake import Session
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.location import RemoteAddress, locate, location_of, remote_address

SECRET = "s3cr3t/pw@x"
URL = f"mongodb://user:{quote(SECRET, safe='')}@h1:27017,h2/lake?replicaSet=a&authSource=admin"


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("DREAMLAKE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("DREAMLAKE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.chdir(tmp_path)


def configure(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text, "utf-8")


def test_a_database_url():
    found = remote_address(URL, namespace="ana")
    assert (found.mongodb, found.blobs, found.namespace, found.profile) == (URL, None, "ana", None)
    assert str(found) == found.place == "mongodb://h1:27017,h2/lake"
    assert remote_address("mongodb+srv://c.example.org/lake").place == "mongodb+srv://c.example.org/lake"


def test_an_s3_url():
    url = f"s3://our-lake/a/b?mongodb={quote(URL, safe='')}&endpoint=https://s3.example.org:9000&region=eu&addressing=path"
    found = remote_address(url)
    assert found.mongodb == URL
    assert (found.blobs.bucket, found.blobs.prefix, found.blobs.region) == ("our-lake", "a/b", "eu")
    assert (found.blobs.endpoint, found.blobs.addressing) == ("https://s3.example.org:9000", "path")
    assert found.namespace == getpass.getuser()
    assert remote_address("s3://our-lake/?mongodb=mongodb://h/d&namespace=team").namespace == "team"
    assert remote_address("s3://our-lake?mongodb=mongodb://h/d").blobs.prefix == ""


def test_the_database_of_a_bucket_may_come_from_the_environment(monkeypatch):
    with pytest.raises(InvalidInput, match=r"remote s3://our-lake/x: where is its database\? Add \?mongodb="):
        remote_address("s3://our-lake/x")
    monkeypatch.setenv("DREAMLAKE_MONGODB", URL)
    assert remote_address("s3://our-lake/x").mongodb == URL


def test_a_mapping():
    s3 = {
        "bucket": "our-lake",
        "prefix": "/p/",
        "access_key_id": "AK",
        "secret_access_key": SECRET,
        "session_token": "T",
    }
    found = remote_address({"mongodb": URL, "s3": s3, "namespace": "ana"})
    assert (found.blobs.prefix, found.blobs.access_key_id, found.blobs.secret_access_key) == ("p", "AK", SECRET)
    assert found.namespace == "ana"
    shared = remote_address({"mongodb": URL, "folder": "/shared/blobs/../lake"})
    assert shared.blobs == "/shared/lake"
    assert remote_address({"mongodb": URL}).blobs is None


def test_a_profile_names_environment_variables(tmp_path, monkeypatch):
    configure(
        tmp_path,
        """
        namespace = "everybody"
        [profiles.team]
        mongodb = "mongodb://db.example.org/lake"
        mongodb_user_env = "LAKE_USER"
        mongodb_password_env = "LAKE_PASSWORD"
        namespace = "ana"
        [profiles.team.s3]
        bucket = "our-lake"
        access_key_id_env = "LAKE_KEY"
        secret_access_key_env = "LAKE_SECRET"
        [profiles.url]
        mongodb_env = "LAKE_URL"
        """,
    )
    with pytest.raises(InvalidInput, match=r"profile team: the environment variable 'LAKE_USER' .* is not set"):
        remote_address("team")
    for name, value in {"USER": "u/1", "PASSWORD": SECRET, "KEY": "AK", "SECRET": SECRET, "URL": URL}.items():
        monkeypatch.setenv(f"LAKE_{name}", value)
    found = remote_address("team")
    assert found.mongodb == f"mongodb://u%2F1:{quote(SECRET, safe='')}@db.example.org/lake"
    assert (found.blobs.access_key_id, found.blobs.secret_access_key) == ("AK", SECRET)
    assert (str(found), found.place, found.namespace) == ("team", "mongodb://db.example.org/lake", "ana")
    assert (remote_address("url").mongodb, remote_address("url").namespace) == (URL, "everybody")
    with pytest.raises(InvalidInput, match=r"no profile 'teem' in .*config\.toml; known are team, url"):
        remote_address("teem")


def test_no_secret_is_shown(tmp_path, monkeypatch):
    s3 = {"bucket": "our-lake", "access_key_id": "AKIA", "secret_access_key": SECRET, "session_token": SECRET}
    address = remote_address({"mongodb": URL, "s3": s3})
    session = Session("s", "w", remote={"mongodb": URL, "s3": s3})
    for text in (str(address), repr(address), repr(session), f"{address.blobs}", address.place):
        assert SECRET not in text and quote(SECRET, safe="") not in text and "AKIA" not in text
    assert pickle.loads(pickle.dumps(address)) == address  # to the processes of an executor
    wrong = [
        {"mongodb": URL.replace("/lake", "")},
        {"mongodb": URL.replace("mongodb", "http")},
        {"mongodb": URL, "s3": {**s3, "bucket": "x"}},
        {"mongodb": URL, "s3": {**s3, "endpoint": f"http://a:{SECRET}@h"}},
        {"mongodb": URL, "s3": {"bucket": "our-lake", "secret_access_key": SECRET}},
        {"mongodb": URL, "mongodb_user_env": "HOME", "mongodb_password_env": "HOME"},
        f"s3://AKIA:{SECRET}@our-lake?mongodb=mongodb://h/d",
        f"s3://our-lake?mongodb=mongodb://h/d&secret_access_key={SECRET}",
        URL.replace("/lake", ""),
        f"user:{SECRET}@host/db",
        f"postgres://user:{SECRET}@host/db",
    ]
    for given in wrong:
        with pytest.raises(InvalidInput) as caught:
            remote_address(given)
        assert "s3cr3t" not in str(caught.value) and "AKIA" not in str(caught.value)
        with pytest.raises(InvalidInput):
            Session("s", "w", remote=given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "remote: mongodb is missing"),
        ({"mongo": "x"}, "remote: unknown setting 'mongo'; known are mongodb"),
        ({"mongodb": "mongodb://h"}, r"the MongoDB URL for h names no database; write mongodb://h/database"),
        ({"mongodb": "mongodb:///d"}, "names no host"),
        ({"mongodb": "h/d"}, "begins with mongodb://"),
        ({"mongodb": 5}, "mongodb must be text, not int"),
        ({"mongodb": "mongodb://h/d", "s3": {}}, "s3: '' is no name of a bucket"),
        ({"mongodb": "mongodb://h/d", "s3": "b"}, "s3 must be a table or mapping with at least bucket"),
        ({"mongodb": "mongodb://h/d", "s3": {"bucket": "bbb", "prefix": "a/../b"}}, "has an empty part"),
        (
            {"mongodb": "mongodb://h/d", "s3": {"bucket": "bbb", "addressing": "dns"}},
            "addressing='dns'; use auto, path",
        ),
        ({"mongodb": "mongodb://h/d", "s3": {"bucket": "bbb"}, "folder": "/x"}, "in s3 or in a folder"),
        ({"mongodb": "mongodb://h/d", "folder": "x"}, "folder must be an absolute path"),
        ({"mongodb": "mongodb://h/d", "namespace": "a/b"}, "namespace 'a/b' contains a separator"),
        ("s3://b?mongodb=mongodb://h/d", "is no name of a bucket"),
        ("gs://our-lake", "gs:// is not known; use mongodb://"),
        ("nowhere", "no profile 'nowhere' in .*config.toml. Add one with `dreamlake remote add`"),
    ],
)
def test_what_is_wrong_is_said(given, message):
    with pytest.raises((InvalidInput, InvalidType), match=message):
        remote_address(given)


@pytest.mark.parametrize("given", [5, b"x", True, ["x"]])
def test_a_remote_of_another_type(given):
    with pytest.raises(InvalidType, match="remote must be a URL, a mapping or the name of a profile"):
        Session("s", "w", remote=given)


def test_a_secret_in_the_file_is_refused(tmp_path):
    configure(tmp_path, "[profiles.p]\nmongodb = 'mongodb://h/d'\n[profiles.p.s3]\nsecret_access_key = 'hidden'")
    with pytest.raises(
        InvalidInput, match=r"profile p: s3\.secret_access_key .* name .*: secret_access_key_env$"
    ) as caught:
        remote_address("p")
    assert "hidden" not in str(caught.value)


def test_profiles_that_are_no_tables(tmp_path):
    configure(tmp_path, "[profiles]\nteam = 'mongodb://h/d'")
    with pytest.raises(InvalidInput, match=r"write each profile as a table, \[profiles\.NAME\]"):
        remote_address("team")


# ---- the order of the sources --------------------------------------------------------------------------------------


def test_each_source_beats_the_ones_after_it(tmp_path, monkeypatch):
    assert locate() == str(tmp_path / "experiments")
    configure(tmp_path, "remote = 'mongodb://file/d'")
    assert locate().place == "mongodb://file/d"
    configure(tmp_path, "remote = 'mongodb://file/d'\nlocal_path = '/file'")
    assert locate() == "/file"
    monkeypatch.setenv("DREAMLAKE_REMOTE", "mongodb://variable/d")
    assert locate().place == "mongodb://variable/d"
    monkeypatch.setenv("DREAMLAKE_LOCAL_PATH", "/variable")
    assert locate() == "/variable"
    assert locate(remote="mongodb://argument/d").place == "mongodb://argument/d"
    assert locate("/argument") == "/argument"
    with pytest.raises(InvalidInput, match="local_path and remote are two places"):
        Session("s", "w", local_path="/x", remote="mongodb://h/d")


def test_empty_variables_count_as_unset(tmp_path, monkeypatch):
    for name in ("REMOTE", "NAMESPACE", "MONGODB", "LOCAL_PATH"):
        monkeypatch.setenv(f"DREAMLAKE_{name}", "")
    assert locate() == str(tmp_path / "experiments")
    assert remote_address("mongodb://h/d").namespace == getpass.getuser()


def test_the_namespace(tmp_path, monkeypatch):
    assert remote_address("mongodb://h/d").namespace == getpass.getuser()
    configure(tmp_path, "namespace = 'file'\n[profiles.p]\nmongodb = 'mongodb://h/d'\nnamespace = 'profile'")
    assert remote_address("mongodb://h/d").namespace == "file"
    assert remote_address("p").namespace == "profile"
    monkeypatch.setenv("DREAMLAKE_NAMESPACE", "variable")
    assert remote_address("p").namespace == remote_address("mongodb://h/d").namespace == "variable"
    assert remote_address({"mongodb": "mongodb://h/d", "namespace": "given"}).namespace == "given"
    assert remote_address("p", namespace="argument").namespace == "argument"
    assert Session("s", "w", remote="p", namespace="argument").namespace == "argument"
    for bad, message in (("", "namespace is empty"), ("a/b", "contains a separator")):
        with pytest.raises(InvalidInput, match=message):
            Session("s", "w", remote="p", namespace=bad)
    with pytest.raises(InvalidInput, match="namespace='x' is for remote lakes"):
        Session("s", "w", local_path=tmp_path, namespace="x")
    assert Session("s", "w", local_path=tmp_path).namespace == ""


def test_one_argument_for_every_kind_of_place(tmp_path):
    configure(tmp_path, "[profiles.team]\nmongodb = 'mongodb://h/d'\n[profiles.both]\nmongodb = 'mongodb://h/d'")
    (tmp_path / "both/.dreamlake").mkdir(parents=True)
    assert location_of("team").profile == "team"
    assert location_of("./team") == str(tmp_path / "team")
    assert location_of("other") == str(tmp_path / "other")
    assert location_of(Path("team")) == str(tmp_path / "team")
    assert location_of("mongodb://h/d") == remote_address("mongodb://h/d")
    assert location_of({"mongodb": "mongodb://h/d"}, namespace="n").namespace == "n"
    assert location_of(RemoteAddress("mongodb://h/d")) == RemoteAddress("mongodb://h/d")
    assert location_of(None) == str(tmp_path / "experiments")
    with pytest.raises(InvalidInput, match=r"'both' is a profile and a folder with a lake; write \./both"):
        location_of("both")
    assert location_of(RemoteAddress("mongodb://h/d", namespace="a"), namespace="b").namespace == "b"
    with pytest.raises(InvalidInput, match="give the URL of a remote lake as remote="):
        Session("s", "w", local_path="mongodb://h/d")
