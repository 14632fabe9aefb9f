"""Checkpoints: everything that a fold knows comes back, from a file or from bytes, at any size (SPEC "Checkpoints")."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading

import pytest
from simulation.folds import KEY, Log, alias, delete, move, put, state, trim

from dreamlake import values
from dreamlake.catalog import checkpoint as module
from dreamlake.catalog.checkpoint import Checkpoint, dump
from dreamlake.catalog.fold import Fold
from dreamlake.errors import Corrupt
from dreamlake.model import SessionKey


def loaded(fold: Fold) -> Fold:
    return Fold(KEY, Checkpoint(KEY, None, dump(fold)))


@pytest.fixture(scope="module")
def large() -> Fold:
    """2,600 files, a third with two versions, a fifth deleted: more than two pages of each query."""
    log = Log()
    for start in range(0, 2600, 200):
        log.must(*(put(f"/d{i % 7}/f{i}", f"{i:05d}", metadata={"i": i}) for i in range(start, start + 200)))
    log.must(*(put(f"/d{i % 7}/f{i}", f"{i:05d}b", tags=["second"]) for i in range(0, 2600, 3)))
    log.must(*(delete(f"{i:05d}b" if i % 3 == 0 else f"{i:05d}") for i in range(0, 2600, 5)))
    log.must(*(alias(f"/d{i % 7}/f{i}", "best", f"{i:05d}") for i in range(1, 2600, 50) if i % 5))
    return log.fold


def test_an_empty_fold():
    fold = Log([{"op": "session", "at": "t"}]).fold
    assert state(loaded(fold)) == state(fold)


def test_everything_comes_back(large):
    assert state(loaded(large)) == state(large)
    assert len(large.live()) > 2000


def test_a_checkpoint_of_a_checkpoint(large):
    again = loaded(loaded(large))
    assert state(again) == state(large)


def test_fields_of_every_kind_come_back():
    wild = {
        "nan": [math.inf, -math.inf],
        "$float": "nan",
        "text": "\u2028\U0001f600\x00'\"",
        "deep": {"a": [None, True]},
    }
    log = Log(
        [{"op": "session", "at": "t", "description": "é", "tags": ["x"], "folder": "/f", "metadata": wild, "later": 1}],
        [
            put(
                "/é/日本 'quoted' %_*",
                "1",
                description="d'\"",
                tags=["a", ""],
                metadata=wild,
                extra={"k": [1]},
                more=None,
            )
        ],
        [put("/plain", "2")],
        [put("/big", "3", size=2**53 + 1)],
    )
    log.fold.info = log.fold.info._replace(write_protected=True)
    found = loaded(log.fold)
    assert state(found) == state(log.fold)
    assert found.info.write_protected
    assert found.current_at("/big").size_bytes == 2**53 + 1
    assert math.isinf(found.current_at("/é/日本 'quoted' %_*").metadata["nan"][0])


def test_folders_are_told_by_whole_names():
    log = Log([put("/a/x", "1"), put("/a!/x", "2"), put("/a0", "3"), put("/b/c/d", "4"), put("/ab", "5")])
    found = loaded(log.fold)
    for folder, answer in {"/a": True, "/a!": True, "/a0": False, "/b": True, "/b/c": True, "/ab": False}.items():
        assert found.is_folder(folder) is answer, folder
    assert found.is_folder("/")
    assert not found.is_folder("/b/c/d")


def test_a_folder_whose_first_hundreds_of_files_were_deleted_since(large):
    """The files that the checkpoint lists first are all changed: the search has to go on to later pages."""
    log = Log()
    log.fold = loaded(large)
    inside = [v for v in log.fold.live() if v.key.startswith("/d3/")]
    assert len(inside) > 256
    by_name = sorted(inside, key=lambda v: v.key)
    log.must(*(delete(v.id) for v in by_name[:-1]))
    assert log.fold.is_folder("/d3")
    log.must(delete(by_name[-1].id))
    assert not log.fold.is_folder("/d3")


def test_displaced_and_moved_files_keep_their_places():
    log = Log(
        [put("/a", "a1"), put("/b", "b1"), put("/c", "c1")], [delete("b1")], [move("a1", "/b")], [move("a1", "/d")]
    )
    found = loaded(log.fold)
    assert found.file_at("/b") is None
    assert found.file_with("b1").key == "/b"
    assert not found.file_with("b1").primary
    assert found.file_at("/d").file_id == "a1"
    assert found.file_at("/a") is None


def test_trimmed_versions_are_gone_for_good():
    log = Log([put("/a", "a1")], [put("/a", "a2")], [put("/a", "a3")], [alias("/a", "n", "a2")], [trim("a1", "a2")])
    found = loaded(log.fold)
    assert found.file_with("a1") is None
    assert [v.number for v in found.file_at("/a").versions] == [2, 3]
    assert found.file_at("/a").aliases == {"n": "a2"}


@pytest.mark.parametrize("name", ["plain", "with space", "q?a#b%41&immutable=0", "日本", "it's", 'quo"te'])
def test_a_file_may_lie_in_any_folder(tmp_path, name):
    log = Log([put("/a", "a1")])
    file = tmp_path / name / "1.sqlite"
    file.parent.mkdir()
    file.write_bytes(dump(log.fold))
    assert state(Fold(KEY, Checkpoint(KEY, str(file)))) == state(log.fold)


def test_opening_writes_nothing_and_takes_no_lock(tmp_path):
    log = Log([put("/a", "a1")])
    file = tmp_path / "1.sqlite"
    file.write_bytes(dump(log.fold))
    file.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        readers = [Checkpoint(KEY, str(file)) for _ in range(3)]
        assert [r.file_at("/a").file_id for r in readers] == ["a1"] * 3
        assert [f.name for f in tmp_path.iterdir()] == ["1.sqlite"]
    finally:
        tmp_path.chmod(0o755)


def test_a_checkpoint_still_reads_after_its_file_was_removed(tmp_path, large):
    file = tmp_path / "1.sqlite"
    file.write_bytes(dump(large))
    fold = Fold(KEY, Checkpoint(KEY, str(file)))
    file.unlink()
    assert state(fold) == state(large)


def test_without_serialize_the_bytes_come_from_a_temporary_file(monkeypatch, tmp_path):
    """Python 3.10."""
    monkeypatch.setattr(sqlite3, "Connection", object)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log = Log([put("/a", "a1")], [put("/a", "a2")])
    data = dump(log.fold)
    assert list(tmp_path.iterdir()) == []
    assert state(Fold(KEY, Checkpoint(KEY, None, data))) == state(log.fold)


def test_what_does_not_read_is_a_value_error(tmp_path):
    good = dump(Log([put("/a", "a1")]).fold)
    for bad in (b"", b"x", b"SQLite format 3\0", good[:100], good[:4096], b"x" * len(good)):
        file = tmp_path / "1.sqlite"
        file.write_bytes(bad)
        with pytest.raises(ValueError, match="checkpoint"):
            Checkpoint(KEY, str(file))
    with pytest.raises(ValueError, match="checkpoint"):
        Checkpoint(KEY, str(tmp_path / "missing.sqlite"))


def test_a_checkpoint_of_another_session_or_format_is_refused(monkeypatch):
    fold = Log([put("/a", "a1")]).fold
    data = dump(fold)
    for key in (SessionKey("w", "S"), SessionKey("W", "s"), SessionKey("w/s", ""), SessionKey("", "w/s")):
        with pytest.raises(ValueError, match="another format or session"):
            Checkpoint(key, None, data)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    with pytest.raises(ValueError, match="another format or session"):
        Checkpoint(KEY, None, data)


def test_a_query_that_fails_says_what_to_delete(tmp_path):
    file = tmp_path / "1.sqlite"
    file.write_bytes(dump(Log([put("/a", "a1")]).fold))
    base = Checkpoint(KEY, str(file))
    base._db.close()
    with pytest.raises(Corrupt, match="delete its folder") as caught:
        base.file_at("/a")
    assert caught.value.path == str(file)


def test_rows_for_listing_belong_to_the_caller(large):
    """Two calls share nothing that a caller might change."""
    fold = loaded(large)
    first, second = fold.live_rows(), fold.live_rows()
    first[0][10]["changed"] = 1
    first[0][9].append("changed")
    first.clear()
    assert second == loaded(large).live_rows()
    assert fold.live_rows() == second


def test_many_threads_read_one_checkpoint(tmp_path, large):
    file = tmp_path / "1.sqlite"
    file.write_bytes(dump(large))
    fold = Fold(KEY, Checkpoint(KEY, str(file)))
    expected = large.live()
    wrong: list[str] = []

    def read(worker: int) -> None:
        for i in range(worker, 2600, 97):
            found = fold.file_at(f"/d{i % 7}/f{i}")
            if found is None or found.file_id != f"{i:05d}":
                wrong.append(f"/d{i % 7}/f{i}")
        if fold.live() != expected:
            wrong.append("live")

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_text_that_is_no_unicode_makes_no_checkpoint():
    """A hostile log may hold lone surrogates: an error that the catalog takes for "no checkpoint"."""
    log = Log([put("/a", "a1", description=values.decode(b'"\\ud800"'))])
    with pytest.raises(ValueError, match="surrogates"):
        dump(log.fold)
