"""``session.log(...)`` and ``session.logs()``: every sentence of the contract."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import pytest
from journal_support import JOURNALS, NOON, Clock, Guard

from dreamlake import values
from dreamlake.errors import Corrupt, InvalidInput, InvalidType
from dreamlake.journal import LOGS
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.memory import MemoryJournal
from dreamlake.logs import LEVELS, LogBuilder, Logs
from dreamlake.ports import Ports


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "w" / "s"


@pytest.fixture(params=JOURNALS)
def logs(request, folder):
    journal = JOURNALS[request.param](folder)
    yield Logs(journal, Guard(), Ports(now=Clock()))
    journal.close()


@pytest.fixture
def on_disk(folder):
    journal = FolderJournal(Ports(), str(folder))
    yield Logs(journal, Guard(), Ports(now=Clock()))
    journal.close()


def messages(entries) -> list[str]:
    return [entry["message"] for entry in entries]


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_a_message_is_written_at_once_and_returned(logs):
    entry = logs.log("started")
    assert entry == {
        "sequenceNumber": 0,
        "timestamp": "2025-01-31T12:00:01.000000Z",
        "level": "info",
        "message": "started",
        "metadata": None,
    }
    assert logs.read() == [entry]


def test_the_file(on_disk, folder):
    on_disk.log("a\nb", level="warn", metadata={"epoch": 1, "loss": math.nan})
    on_disk.log("ü")
    lines = (folder / "logs/logs.jsonl").read_text("utf-8").split("\n")
    assert lines.pop() == ""
    first, second = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert first == {
        "sequenceNumber": 0,
        "timestamp": "2025-01-31T12:00:01.000000Z",
        "level": "warn",
        "message": "a\nb",
        "metadata": {"epoch": 1, "loss": {"$float": "nan"}},
    }
    assert (second["sequenceNumber"], second["message"], second["metadata"]) == (1, "ü", None)


def test_sequence_numbers_count_from_zero_and_go_on_after_reopening(on_disk, folder):
    for n in range(3):
        assert on_disk.log(f"{n}")["sequenceNumber"] == n
    again = Logs(FolderJournal(Ports(), str(folder)), Guard(), Ports())
    assert again.log("3")["sequenceNumber"] == 3
    assert messages(again.read()) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("level", LEVELS)
def test_levels_in_any_case(logs, level):
    for spelling in (level, level.upper(), level.title()):
        assert logs.log("x", level=spelling)["level"] == level
        assert logs.log("x", spelling)["level"] == level


def test_other_spellings_of_levels(logs):
    assert logs.log("x", level="Warning")["level"] == "warn"
    assert logs.log("x", level="CRITICAL")["level"] == "fatal"


@pytest.mark.parametrize("level", ["", "verbose", "inf o", " info", "warn ", None, 20, ["info"]])
def test_unknown_levels(logs, level):
    with pytest.raises(ValueError, match="debug, info, warn, error, fatal"):
        logs.log("x", level=level)
    with pytest.raises(InvalidInput):
        logs.log(level=level)
    assert logs.read() == []


def test_metadata_and_extra_are_one(logs):
    assert logs.log("x", metadata={"a": 1, "b": 1}, b=2, c=3)["metadata"] == {"a": 1, "b": 2, "c": 3}
    assert logs.log("x", epoch=1)["metadata"] == {"epoch": 1}
    assert logs.log("x", metadata={})["metadata"] == {}
    assert logs.log("x")["metadata"] is None
    assert [entry["metadata"] for entry in logs.read()] == [{"a": 1, "b": 2, "c": 3}, {"epoch": 1}, {}, None]


def test_metadata_becomes_plain_and_non_finite_numbers_survive(logs):
    logs.log("x", loss=np.float32(0.5), inf=math.inf, shape=(1, 2), deep={"nan": [math.nan]})
    back = logs.read()[0]["metadata"]
    assert back["loss"] == 0.5 and back["inf"] == math.inf and back["shape"] == [1, 2]
    assert math.isnan(back["deep"]["nan"][0])


@pytest.mark.parametrize("message", [0, 1.5, b"x", ["x"], object(), ValueError("x")])
def test_a_message_is_text(logs, message):
    with pytest.raises(TypeError, match="message"):
        logs.log(message)
    with pytest.raises(TypeError, match="message"):
        logs.log().info(message)
    assert logs.read() == []


def test_bad_metadata_writes_nothing(logs):
    for metadata in ({"x": object()}, {1: 2}, [("a", 1)], "text", {"x": b""}):
        with pytest.raises(InvalidType, match="metadata"):
            logs.log("x", metadata=metadata)
        with pytest.raises(InvalidType, match="metadata"):
            logs.log(metadata=metadata)
    with pytest.raises(InvalidType, match="metadata"):
        logs.log("x", thing=object())
    with pytest.raises(InvalidInput):
        logs.log("lone \ud800")
    assert logs.read() == []


def test_unusual_messages(logs):
    texts = ["", " ", "a\r\nb\x00\x1b[31m", "\u2028", "日本語 🚀", '{"json": 1}', "x" * 100_000]
    for text in texts:
        logs.log(text)
    assert messages(logs.read()) == texts


def test_limits(logs):
    most = values.MAX_VALUE_BYTES - 2  # two quotes
    logs.log("x" * most, metadata={"y": "y" * (values.MAX_VALUE_BYTES - 8)})
    for call in (lambda: logs.log("x" * (most + 1)), lambda: logs.log("x", y="y" * values.MAX_VALUE_BYTES)):
        with pytest.raises(ValueError, match="limit"):
            call()
    assert len(logs.read()) == 1


# ---- the fluent form -------------------------------------------------------------------------------------------------


def test_the_fluent_form(logs):
    entry = logs.log(metadata={"epoch": 3}, run="a").error("diverged", loss=7)
    assert (entry["level"], entry["message"]) == ("error", "diverged")
    assert entry["metadata"] == {"epoch": 3, "run": "a", "loss": 7}
    assert logs.read() == [entry]


def test_a_builder_writes_nothing_by_itself_and_may_be_used_again(logs):
    builder = logs.log(metadata={"epoch": 3})
    assert isinstance(builder, LogBuilder)
    assert logs.read() == []
    builder.info("one", epoch=4)
    builder.info("two", metadata={"epoch": 5, "x": 1}, x=2)
    builder.info("three")
    assert [entry["metadata"] for entry in logs.read()] == [{"epoch": 4}, {"epoch": 5, "x": 2}, {"epoch": 3}]


def test_a_method_for_every_level(logs):
    builder = logs.log()
    names = ["debug", "info", "warn", "warning", "error", "fatal", "critical"]
    assert [getattr(builder, name)("x")["level"] for name in names] == [
        "debug", "info", "warn", "warn", "error", "fatal", "fatal",
    ]  # fmt: skip
    assert logs.log(level="Warning").log("x")["level"] == "warn"
    assert {entry["metadata"] for entry in logs.read()} == {None}


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(logs):
    """Entries 0 to 9 at 12:00:01 to 12:00:10, levels in turn."""
    for n in range(10):
        logs.log(f"Message {n}", level=LEVELS[n % 5], metadata={"n": n})
    return logs


def test_reading_without_filters(filled):
    assert messages(filled.read()) == [f"Message {n}" for n in range(10)]
    assert list(filled) == filled.read()


def numbers(entries) -> list[int]:
    return [entry["sequenceNumber"] for entry in entries]


def test_filter_by_level(filled):
    assert numbers(filled.read(level="warn")) == [2, 7]
    assert numbers(filled.read(level="WARNING")) == [2, 7]
    assert numbers(filled.read(level=["error", "critical"])) == [3, 4, 8, 9]
    assert numbers(filled.read(level=("debug",))) == [0, 5]
    assert filled.read(level=[]) == []
    with pytest.raises(InvalidInput):
        filled.read(level=["info", "loud"])


def test_filter_by_time(filled):
    at = NOON + timedelta(seconds=4)
    assert numbers(filled.read(since=at)) == list(range(3, 10))
    assert numbers(filled.read(until=at)) == [0, 1, 2]
    assert numbers(filled.read(since=at, until=NOON + timedelta(seconds=6))) == [3, 4]
    for text in ("2025-01-31T12:00:04Z", "2025-01-31T12:00:04.000000+00:00", "2025-01-31T14:00:04+02:00"):
        assert numbers(filled.read(since=text)) == list(range(3, 10))
    local = at.astimezone().replace(tzinfo=None)
    assert numbers(filled.read(since=local)) == numbers(filled.read(since=local.isoformat())) == list(range(3, 10))
    assert filled.read(since="2025-02-01") == []
    for bad in ("yesterday", "", "Z"):
        with pytest.raises(InvalidInput, match="time"):
            filled.read(since=bad)
    with pytest.raises(InvalidType):
        filled.read(until=5)


def test_filter_by_text(filled):
    assert numbers(filled.read(contains="sage 3")) == [3]
    assert numbers(filled.read(contains="MESSAGE 3")) == [3]
    assert numbers(filled.read(contains="")) == list(range(10))
    assert filled.read(contains="massage") == []
    with pytest.raises(InvalidType):
        filled.read(contains=3)


def test_start_limit_and_last(filled):
    assert numbers(filled.read(start=7)) == [7, 8, 9]
    assert numbers(filled.read(start=2, limit=3)) == [2, 3, 4]
    assert numbers(filled.read(limit=0)) == []
    assert numbers(filled.read(start=10)) == []
    assert numbers(filled.read(last=3)) == [7, 8, 9]
    assert numbers(filled.read(last=99)) == list(range(10))
    assert numbers(filled.read(last=0)) == []
    assert numbers(filled.read(last=5, start=8)) == [8, 9]
    assert numbers(filled.read(level="warn", last=1)) == [7]
    assert numbers(filled.read(level="warn", limit=1)) == [2]
    assert numbers(filled.read(start=np.int64(9))) == [9]
    with pytest.raises(InvalidInput, match="one of them"):
        filled.read(limit=1, last=1)
    for bad in ({"start": -1}, {"limit": -1}, {"last": -1}):
        with pytest.raises(InvalidInput, match="negative"):
            filled.read(**bad)
    for bad in ({"start": 1.0}, {"limit": "1"}, {"last": []}):
        with pytest.raises(InvalidType, match="whole number"):
            filled.read(**bad)


def test_a_log_of_many_pages(logs):
    rows = [{"timestamp": "", "level": "info" if n % 1000 else "warn", "message": str(n)} for n in range(3500)]
    logs._journal.append(LOGS, rows)
    assert numbers(logs) == list(range(3500))
    assert numbers(logs.read(level="warn")) == [0, 1000, 2000, 3000]
    assert numbers(logs.read(level="warn", last=3)) == [1000, 2000, 3000]
    assert numbers(logs.read(last=2500)) == list(range(1000, 3500))
    assert numbers(logs.read(start=1500, limit=1200)) == list(range(1500, 2700))
    assert logs.read(last=1)[0]["metadata"] is None  # also for entries that never had the field


def test_a_damaged_entry_is_reported(on_disk, folder):
    for n in range(5):
        on_disk.log(str(n))
    file = folder / "logs/logs.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b"###\n", *lines[3:]]))
    with pytest.raises(Corrupt, match=r"logs\.jsonl is damaged at byte"):
        on_disk.read()
    assert messages(on_disk.read(last=2)) == ["3", "4"]
    assert messages(on_disk.read(start=3)) == ["3", "4"]
    assert on_disk.log("5")["sequenceNumber"] == 5


def test_the_guard_is_asked_first():
    guard = Guard()
    logs = Logs(MemoryJournal(), guard, Ports())
    logs.log("x")
    builder = logs.log()
    guard.asked.clear()
    logs.read()
    iter(logs)
    assert guard.asked == [False, False]
    guard.protected = True
    for call in (lambda: logs.log("x"), lambda: logs.log(), lambda: logs.log(3), lambda: builder.info("x")):
        with pytest.raises(RuntimeError):
            call()
    assert messages(logs.read()) == ["x"]
    guard.closed = True
    for call in (logs.read, lambda: iter(logs), lambda: logs.read(level="bad")):
        with pytest.raises(RuntimeError):
            call()
