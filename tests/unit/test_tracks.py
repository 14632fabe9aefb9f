"""``session.track(...)``: every sentence of the contract."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from journal_support import JOURNALS, Clock, Guard

from dreamlake import tracks as tracks_module
from dreamlake import values
from dreamlake.errors import Conflict, Corrupt, InvalidInput, InvalidType, NotFound
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.memory import MemoryJournal
from dreamlake.ports import OsFs, Ports
from dreamlake.tracks import CHUNK_SIZE, Tracks


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "w" / "s"


@pytest.fixture(params=JOURNALS)
def tracks(request, folder):
    journal = JOURNALS[request.param](folder)
    yield Tracks(journal, Guard(), Ports(now=Clock()))
    journal.close()


@pytest.fixture
def on_disk(folder):
    journal = FolderJournal(Ports(), str(folder))
    yield Tracks(journal, Guard(), Ports(now=Clock()))
    journal.close()


def opened(folder) -> Tracks:
    return Tracks(FolderJournal(Ports(), str(folder)), Guard(), Ports())


# ---- append ----------------------------------------------------------------------------------------------------------


def test_append_returns_where_the_point_went(tracks):
    first = tracks.track("loss").append(value=0.5, epoch=1)
    second = tracks.track("loss").append(value=0.4, epoch=2)
    assert set(first) == {"trackId", "index", "bufferedDataPoints", "chunkSize"}
    assert isinstance(first["index"], str)
    assert [int(point["index"]) for point in (first, second)] == [0, 1]
    assert [point["bufferedDataPoints"] for point in (first, second)] == [1, 2]
    assert first["chunkSize"] == CHUNK_SIZE
    assert first["trackId"] == second["trackId"] and isinstance(first["trackId"], str) and first["trackId"]
    assert tracks.track("other").append(value=1)["trackId"] != first["trackId"]


def test_append_batch_returns_the_range(tracks):
    track = tracks.track("loss")
    track.append(value=0)
    result = track.append_batch([{"value": 1}, {"value": 2}, {"value": 3}])
    assert {key: result[key] for key in ("startIndex", "endIndex", "count")} == {
        "startIndex": 1,
        "endIndex": 3,
        "count": 3,
    }
    assert set(result) == {"trackId", "index", "bufferedDataPoints", "chunkSize", "startIndex", "endIndex", "count"}
    assert int(result["index"]) == 3 and result["bufferedDataPoints"] == 4
    assert int(track.append(value=4)["index"]) == 4
    assert [point["data"]["value"] for point in track] == [0, 1, 2, 3, 4]


def test_any_iterable_of_mappings_is_a_batch(tracks):
    assert tracks.track("a").append_batch({"v": n} for n in range(3))["count"] == 3
    assert tracks.track("a").append_batch(({"v": 1},))["count"] == 1


def test_points_of_one_track_may_differ(tracks):
    track = tracks.track("mixed")
    points = [{"a": 1}, {"b": None, "c": [1, {"d": "é"}]}, {"self": 1, "name": 2, "points": 3, "": 4}]
    for point in points:
        track.append(**point)
    assert [point["data"] for point in track.read()["data"]] == points


def test_values_of_other_libraries_become_plain_and_non_finite_numbers_survive(tracks):
    tracks.track("a").append(x=np.float32(0.5), n=np.int64(3), nan=math.nan, inf=[-math.inf])
    data = tracks.track("a").read()["data"][0]["data"]
    assert data["x"] == 0.5 and data["n"] == 3 and data["inf"] == [-math.inf] and math.isnan(data["nan"])


def test_bad_points_write_nothing(tracks):
    track = tracks.track("a")
    for bad in (object(), b"x", {1}, np.zeros(2)):
        with pytest.raises(TypeError, match=r"the point\['v'\]"):
            track.append(v=bad)
    with pytest.raises(ValueError, match="no fields"):
        track.append()
    with pytest.raises(ValueError, match="limit"):
        track.append(v="x" * values.MAX_VALUE_BYTES)
    with pytest.raises(NotFound):
        track.stats()
    assert tracks.list_all() == []


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        ([], ValueError, "empty"),
        (iter(()), ValueError, "empty"),
        ([{"v": 1}, {}], ValueError, "point 1 of the batch has no fields"),
        ([{"v": 1}, {"v": object()}], TypeError, r"point 1 of the batch\['v'\]"),
        ([{"v": 1}, 5], TypeError, "point 1 of the batch is a int"),
        ([{"v": 1}, {2: 3}], TypeError, "keys must be text"),
        ([{"v": 1}, {"v": "x" * values.MAX_VALUE_BYTES}], ValueError, "limit"),
        ({"v": 1}, TypeError, "list of mappings"),
        ("points", TypeError, "list of mappings"),
        (None, TypeError, "list of mappings"),
        (7, TypeError, "list of mappings"),
    ],
)
def test_a_batch_is_all_or_nothing(tracks, batch, error, says):
    track = tracks.track("a")
    track.append(v=0)
    with pytest.raises(error, match=says):
        track.append_batch(batch)
    assert [point["data"] for point in track] == [{"v": 0}]


def test_a_batch_over_the_limit(tracks, monkeypatch):
    monkeypatch.setattr(tracks_module, "MAX_BATCH_POINTS", 3)
    tracks.track("a").append_batch([{"v": 1}] * 3)
    with pytest.raises(InvalidInput, match="limit"):
        tracks.track("a").append_batch([{"v": 1}] * 4)
    assert tracks.track("a").stats()["totalDataPoints"] == 3


# ---- read ------------------------------------------------------------------------------------------------------------


def test_read(tracks):
    tracks.track("a").append_batch([{"v": n} for n in range(10)])
    result = tracks.track("a").read(start_index=3, limit=4)
    assert set(result) == {"data", "startIndex", "endIndex", "total", "hasMore"}
    assert [set(point) for point in result["data"]] == [{"index", "data", "createdAt"}] * 4
    assert [(point["index"], point["data"]) for point in result["data"]] == [(n, {"v": n}) for n in range(3, 7)]
    assert result["data"][0]["createdAt"].startswith("2025-01-31T12:00:") and result["data"][0]["createdAt"][-1] == "Z"
    assert (result["startIndex"], result["endIndex"], result["total"], result["hasMore"]) == (3, 6, 10, True)


@pytest.mark.parametrize(
    ("start", "limit", "expected"),
    [
        (0, 10, (0, 9, 10, False)),
        (0, 9, (0, 8, 10, True)),
        (9, 1000, (9, 9, 10, False)),
        (10, 5, (10, 9, 10, False)),
        (99, 5, (99, 98, 10, False)),
        (4, 0, (4, 3, 10, True)),
    ],
)
def test_the_ends_of_a_read(tracks, start, limit, expected):
    tracks.track("a").append_batch([{"v": n} for n in range(10)])
    result = tracks.track("a").read(start, limit)
    assert (result["startIndex"], result["endIndex"], result["total"], result["hasMore"]) == expected
    assert len(result["data"]) == max(0, expected[1] - expected[0] + 1)


def test_a_read_gives_a_thousand_points_by_default(tracks):
    tracks.track("a").append_batch([{"v": n} for n in range(2500)])
    first = tracks.track("a").read()
    assert (len(first["data"]), first["endIndex"], first["hasMore"]) == (1000, 999, True)
    assert [point["index"] for point in tracks.track("a")] == list(range(2500))
    assert len(tracks.track("a").read(np.int64(2400))["data"]) == 100


def test_an_unknown_track_reads_as_empty(tracks):
    expected = {"data": [], "startIndex": 0, "endIndex": -1, "total": 0, "hasMore": False}
    assert tracks.track("none").read() == expected
    assert list(tracks.track("none")) == []


def test_bad_arguments_of_read(tracks):
    for bad in ({"start_index": -1}, {"limit": -5}):
        with pytest.raises(InvalidInput, match="negative"):
            tracks.track("a").read(**bad)
    for bad in ({"start_index": 1.5}, {"limit": None}, {"limit": "3"}):
        with pytest.raises(InvalidType, match="whole number"):
            tracks.track("a").read(**bad)


# ---- stats, list_all, description ------------------------------------------------------------------------------------


def test_stats(tracks):
    track = tracks.track("train/loss", description="cross entropy", tags=["train"], metadata={"unit": "nats"})
    made = track.append(v=1)
    tracks.track("train/loss").append_batch([{"v": 2}, {"v": 3}])
    stats = tracks.track("train/loss").stats()
    size = stats.pop("sizeBytes")
    assert 3 * 50 < size < 3 * 100
    assert stats == {
        "trackId": made["trackId"],
        "name": "train/loss",
        "description": "cross entropy",
        "tags": ["train"],
        "metadata": {"unit": "nats"},
        "totalDataPoints": 3,
        "bufferedDataPoints": 3,
        "chunkedDataPoints": 0,
        "chunkSize": CHUNK_SIZE,
        "firstIndex": 0,
        "lastIndex": 2,
        "createdAt": "2025-01-31T12:00:01.000000Z",
        "updatedAt": "2025-01-31T12:00:03.000000Z",
    }


def test_stats_of_an_unknown_track(tracks):
    with pytest.raises(FileNotFoundError, match="'none'"):
        tracks.track("none", description="only described").stats()
    with pytest.raises(NotFound):
        tracks.track("none").stats()


def test_list_all(tracks):
    assert tracks.track("x").list_all() == []
    for name in ("b", "a/b", "a", "ä"):
        tracks.track(name, tags=[name]).append(v=1)
    tracks.track("never appended to", description="x")
    listed = tracks.track("any").list_all()
    assert [entry["name"] for entry in listed] == ["a", "a/b", "b", "ä"]
    assert listed == tracks.list_all() == [tracks.track(name).stats() for name in ("a", "a/b", "b", "ä")]


def test_a_description_is_kept_unless_given_anew(tracks, folder):
    tracks.track("a", description="one", tags=["x"], metadata={"k": math.nan}).append(v=1)
    first = tracks.track("a").stats()
    tracks.track("a").append(v=2)
    tracks.track("a", tags=[]).append(v=2)
    stats = tracks.track("a").stats()
    assert (stats["description"], stats["tags"], stats["trackId"]) == ("one", [], first["trackId"])
    assert math.isnan(stats["metadata"]["k"]) and stats["createdAt"] == first["createdAt"]
    tracks.track("a", description="two", metadata={}).append(v=3)
    stats = tracks.track("a").stats()
    assert (stats["description"], stats["metadata"]) == ("two", {})


def test_the_same_description_given_again_writes_no_document(on_disk, folder):
    given = {"description": "d", "tags": ["t"], "metadata": {"nan": math.nan}}
    on_disk.track("a", **given).append(v=1)
    file = folder / "tracks/a/metadata.json"
    before = file.stat().st_mtime_ns
    for n in range(5):
        on_disk.track("a", **{**given, "metadata": {"nan": float("nan")}}).append(v=n)
    again = opened(folder)
    again.track("a", **given).append(v=9)
    assert file.stat().st_mtime_ns == before


def test_bad_descriptions(tracks):
    for bad in ({"description": 5}, {"tags": "t"}, {"tags": [1]}, {"metadata": [1]}, {"metadata": {"x": object()}}):
        with pytest.raises(TypeError):
            tracks.track("a", **bad)
    assert tracks.list_all() == []


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", " ", "a/ /b", "a\\b", "..\\a", "a\0",
     "a\nb", "\x7f", "a\u2028b", "\ud800", "x" * 256, "é" * 128, "a/" + "x" * 256, "/".join("a" * 33),
     "/".join(["x" * 200] * 6), "data.jsonl", "a/data.jsonl", "a/Metadata.JSON", "a/data.jsonl/b",
     "a/.metadata.json.new"],
)  # fmt: skip
def test_bad_names(tracks, folder, name):
    with pytest.raises(InvalidInput):
        tracks.track(name)
    assert not folder.exists()


def test_names_are_text(tracks):
    for name in (None, 5, b"a", ["a"]):
        with pytest.raises(InvalidType):
            tracks.track(name)


def test_unusual_names(tracks):
    names = ["a b", "metric.3", "metric-2", "ä/日本/🚀", "x" * 255, "..a", "a..", "...", "-rf", "$HOME", "data",
             ".hidden", "con", "a:b*c?", "'\"", "/".join("b" * 32), "data.jsonl2"]  # fmt: skip
    for name in names:
        tracks.track(name).append(v=name)
    assert [entry["name"] for entry in tracks.list_all()] == sorted(names)
    for name in names:
        assert tracks.track(name).read()["data"][0]["data"] == {"v": name}
        assert tracks.track(name).name == name


def test_a_track_and_a_track_below_it(tracks):
    for name in ("a", "a/b", "a/b/c"):
        tracks.track(name).append(v=name)
        tracks.track(name).append(v=name)
    for name in ("a", "a/b", "a/b/c"):
        assert [point["data"]["v"] for point in tracks.track(name)] == [name, name]


class CaselessFs(OsFs):
    """Like macOS: names that differ only in case are one name."""

    def __init__(self, root) -> None:
        self.root = str(root)

    def __getattribute__(self, name):
        method = object.__getattribute__(self, name)
        if name in ("write", "append", "truncate", "read", "open", "stat", "list", "make_dir", "fsync", "fsync_dir",
                    "unlink", "lock"):  # fmt: skip
            return lambda path, *args, **kwargs: method(self.fold(path), *args, **kwargs)
        if name == "rename":
            return lambda source, target: method(self.fold(source), self.fold(target))
        return method

    def fold(self, path: str) -> str:
        return self.root + os.path.normpath(path)[len(self.root) :].lower()


def test_tracks_that_a_file_system_confuses_do_not_mix(folder):
    tracks = Tracks(FolderJournal(Ports(fs=CaselessFs(folder)), str(folder)), Guard(), Ports())
    tracks.track("Train/Loss").append(v=1)
    for use in (tracks, Tracks(FolderJournal(Ports(fs=CaselessFs(folder)), str(folder)), Guard(), Ports())):
        with pytest.raises(Conflict, match="'Train/Loss'"):
            use.track("train/loss").append(v=2)
        assert use.track("train/loss").read()["total"] == 0
        with pytest.raises(NotFound):
            use.track("train/loss").stats()
        assert [entry["name"] for entry in use.list_all()] == ["Train/Loss"]
        assert use.track("Train/Loss").stats()["totalDataPoints"] == 1
    tracks.track("TRAIN").append(v=3)  # the folder of another track, and yet a track of its own
    assert [point["data"]["v"] for point in tracks.track("Train/Loss")] == [1]
    assert [point["data"]["v"] for point in tracks.track("TRAIN")] == [3]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_files(on_disk, folder):
    made = on_disk.track("train/loss", description="d").append(value=0.5, nan=math.nan)
    on_disk.track("train/loss").append_batch([{"value": 1}, {"value": 2}])
    lines = (folder / "tracks/train/loss/data.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"index": 0, "data": {"value": 0.5, "nan": {"$float": "nan"}}, "createdAt": "2025-01-31T12:00:02.000000Z"},
        {"index": 1, "data": {"value": 1}, "createdAt": "2025-01-31T12:00:03.000000Z"},
        {"index": 2, "data": {"value": 2}, "createdAt": "2025-01-31T12:00:03.000000Z"},
    ]
    on_disk.close()
    metadata = json.loads((folder / "tracks/train/loss/metadata.json").read_text())
    assert metadata.pop("updatedAt") > metadata["createdAt"]
    assert metadata == {
        "trackId": made["trackId"],
        "name": "train/loss",
        "description": "d",
        "tags": [],
        "metadata": None,
        "totalDataPoints": 3,
        "bufferedDataPoints": 3,
        "chunkedDataPoints": 0,
        "createdAt": "2025-01-31T12:00:01.000000Z",
    }


def test_close_touches_only_what_changed_and_may_be_repeated(on_disk, folder):
    on_disk.track("a").append(v=1)
    on_disk.close()
    file = folder / "tracks/a/metadata.json"
    before = file.stat().st_mtime_ns
    on_disk.close()
    on_disk.track("a").read()
    on_disk.close()
    assert file.stat().st_mtime_ns == before
    on_disk.track("a").append(v=2)
    on_disk.close()
    assert json.loads(file.read_text())["totalDataPoints"] == 2


def test_stats_believe_the_points_and_not_the_summary(on_disk, folder):
    on_disk.track("a").append(v=1)
    on_disk.close()
    opened(folder).track("a").append(v=2)
    assert json.loads((folder / "tracks/a/metadata.json").read_text())["totalDataPoints"] == 1
    assert on_disk.track("a").stats()["totalDataPoints"] == 2


def test_a_track_is_resumed(on_disk, folder):
    first = on_disk.track("a", description="kept").append(v=0)
    on_disk.close()
    again = opened(folder).track("a")
    second = again.append(v=1)
    assert (second["trackId"], int(second["index"])) == (first["trackId"], 1)
    assert again.stats()["description"] == "kept"
    assert [point["data"]["v"] for point in again] == [0, 1]


def test_unknown_fields_of_the_document_survive(on_disk, folder):
    on_disk.track("a").append(v=1)
    file = folder / "tracks/a/metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "red"}))
    on_disk.close()
    opened(folder).track("a", description="new").append(v=2)
    assert json.loads(file.read_text())["colour"] == "red"


def test_points_stay_readable_when_the_description_is_damaged_or_gone(on_disk, folder):
    on_disk.track("a").append(v=1)
    file = folder / "tracks/a/metadata.json"
    file.write_text("{")
    again = opened(folder)
    assert again.track("a").read()["total"] == 1
    for call in (again.track("a").stats, lambda: again.track("a").append(v=2)):
        with pytest.raises(Corrupt, match=r"metadata\.json"):
            call()
    file.unlink()
    stats = again.track("a").stats()
    assert (stats["name"], stats["totalDataPoints"], stats["trackId"], stats["tags"]) == ("a", 1, None, [])
    assert int(again.track("a").append(v=2)["index"]) == 1
    assert again.track("a").stats()["trackId"]


def test_a_track_folder_renamed_by_hand_is_a_track_of_that_name(on_disk, folder):
    on_disk.track("a", description="d").append(v=1)
    (folder / "tracks/a").rename(folder / "tracks/b")
    again = opened(folder)
    assert [entry["name"] for entry in again.list_all()] == ["b"]
    assert again.track("b").read()["total"] == 1 and again.track("a").read()["total"] == 0
    again.track("b").append(v=2)
    assert (again.track("b").stats()["name"], again.track("b").stats()["description"]) == ("b", "d")


# ---- guard -----------------------------------------------------------------------------------------------------------


def test_the_guard_is_asked_first():
    guard = Guard()
    tracks = Tracks(MemoryJournal(), guard, Ports())
    track = tracks.track("a")
    track.append(v=1)
    guard.protected = True
    for call in (lambda: track.append(v=1), lambda: track.append(), lambda: track.append_batch([])):
        with pytest.raises(RuntimeError):
            call()
    assert track.read()["total"] == track.stats()["totalDataPoints"] == len(track.list_all()) == 1
    guard.closed = True
    for call in (
        track.read,
        track.stats,
        track.list_all,
        tracks.list_all,
        lambda: iter(track),
        lambda: tracks.track(""),
    ):
        with pytest.raises(RuntimeError):
            call()
    tracks.close()  # closing is what a closing session does
