"""``files.retention(...)`` and ``upload(..., keep=...)``: declared in Python, applied by collection."""

from __future__ import annotations

import pytest

from dreamlake import Session, open_lake


@pytest.fixture
def session(tmp_path):
    with Session("s", "w", local_path=tmp_path) as s:
        yield s


def versions(session, path="/m/a.bin"):
    return [record["version"] for record in session.files.history(path)]


def put(session, number, **options):
    return session.files.upload(b"%d" % number, filename="a.bin", path="/m", metadata={"loss": -number}, **options)


def test_keep_with_an_upload_is_a_rule_for_that_path(session, tmp_path):
    for number in range(5):
        put(session, number, keep=2)
    session.files.upload(b"x", filename="other.bin", path="/m")
    session.files.upload(b"y", filename="other.bin", path="/m")
    assert session.files.retention() == [{"path": "/m/a.bin", "last": 2}]
    open_lake(tmp_path).collect(now=True)
    assert versions(session) == [5, 4]
    assert versions(session, "/m/other.bin") == [2, 1]


def test_rules_replace_those_for_the_same_path_and_can_be_taken_back(session):
    session.files.retention(path="/m/**", last=3)
    session.files.retention(path="/logs/**", younger="7d")
    assert session.files.retention(path="/m/**", best=1, by="loss", order="lower") == [
        {"path": "/logs/**", "younger_s": 604800.0},
        {"path": "/m/**", "best": 1, "by": "loss", "order": "lower"},
    ]
    assert session.files.retention([{"last": 1}]) == [{"path": "/**", "last": 1}]
    assert session.files.retention([]) == [] == session.files.retention()


def test_the_best_the_tagged_and_the_aliased_stay(session, tmp_path):
    put(session, 0)  # the highest loss of all
    for number in range(1, 6):
        put(session, number, tags=["keep"] if number == 2 else None)
    session.files.alias("/m/a.bin@v2", "paper")
    session.files.retention(path="/m", best=1, by="loss", order="higher")
    open_lake(tmp_path).collect(now=True)
    assert versions(session) == [6, 3, 2, 1]  # current, tagged, aliased, best


def test_a_folder_upload_keeps_below_its_path(session, tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(3):
        (folder / "a.txt").write_text(str(number))
        session.files.upload(folder, path="/f", keep=1)
    assert session.files.retention() == [{"path": "/f/**", "last": 1}]
    session.files.upload(folder, path="/f", keep={"last": 2})  # nothing changed but the rule
    assert session.files.retention() == [{"path": "/f/**", "last": 2}]


@pytest.mark.parametrize("wrong", [0, -1, "3", {"best": 2}, {"lasst": 1}, [], {}, True])
def test_a_wrong_rule_changes_nothing(session, wrong):
    if wrong == []:
        assert put(session, 1, keep=wrong)["version"] == 1 and session.files.retention() == []
        return
    with pytest.raises((ValueError, TypeError)):
        put(session, 1, keep=wrong)
    assert session.files.list() == [] and session.files.retention() == []


def test_a_list_and_a_rule_at_once_is_an_error(session):
    with pytest.raises(ValueError, match="either"):
        session.files.retention([], last=1)


def test_retention_needs_an_open_session_that_may_be_written(tmp_path):
    session = Session("s", "w", local_path=tmp_path).open()
    files = session.files
    session.close()
    with pytest.raises(RuntimeError):
        files.retention()
    with Session("s", "w", local_path=tmp_path, write_protected=True) as locked:
        assert locked.files.retention() == []
        with pytest.raises(RuntimeError):
            locked.files.retention(last=1)
