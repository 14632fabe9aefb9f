"""What every ``Journal`` promises (see its docstrings), checked on each implementation.

A world is ten to twenty lines: it opens the journal, opens it once more as another process would, and reads what is
stored without the journal's help.
"""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.docs import MemoryDocs

from dreamlake.errors import InvalidInput
from dreamlake.journal import LOGS, MAX_ROW_BYTES, PARAMETERS, TRACKS, Journal, number_key
from dreamlake.journal.documents import INDEXES, DocumentJournal
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.memory import MemoryJournal
from dreamlake.ports import Ports
from dreamlake.services.docs import Docs
from dreamlake.services.mongo import MongoDocs

LOSS = TRACKS + "train/loss"


def strict(text: str | bytes) -> Any:
    """JSON as a parser reads it that knows neither NaN nor Infinity."""

    def refuse(literal: str) -> Any:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


class MemoryWorld:
    def __init__(self, tmp_path: Path) -> None:
        self.journal = MemoryJournal()

    def again(self) -> Journal:
        return self.journal

    def document(self, name: str) -> Any:
        data = self.journal._documents.get(name)
        return None if data is None else strict(data)

    def rows(self, stream: str) -> list[Any]:
        return [strict(line) for line in self.journal._streams.get(stream, [])]


class DocumentsWorld:
    def __init__(self, docs: Docs) -> None:
        self.docs = docs
        self.docs.ensure(INDEXES)
        self.journal = self.again()

    def again(self) -> Journal:
        return DocumentJournal(Ports(), self.docs, "5e55")

    def document(self, name: str) -> Any:
        found = next(self.docs.find("journals", {"_id": f"5e55/{name}"}), None)
        return None if found is None else strict(self._text(found))

    def rows(self, stream: str) -> list[Any]:
        chunks = sorted(self.docs.find("chunks", {"stream": stream}), key=lambda chunk: chunk["first"])
        lines = [line for chunk in chunks for line in self._text(chunk).split("\n")[:-1]]
        return [{number_key(stream): number, **strict(line)} for number, line in enumerate(lines)]

    def _text(self, found: dict[str, Any]) -> str:
        if "text" in found:
            return str(found["text"])
        names = [f"{found['writer']}/{number}" for number in range(len(found["pieces"]))]
        pieces = {piece["_id"]: piece["text"] for piece in self.docs.find("journal_pieces", {"_id": {"$in": names}})}
        return "".join(pieces[name] for name in names)


class FolderWorld:
    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "workspace" / "session"
        self.journal = self.again()

    def again(self) -> Journal:
        return FolderJournal(Ports(), str(self.folder))

    def document(self, name: str) -> Any:
        file = self.folder / ("parameters.json" if name == PARAMETERS else f"{name}/metadata.json")
        return strict(file.read_text("utf-8")) if file.exists() else None

    def rows(self, stream: str) -> list[Any]:
        file = self.folder / ("logs/logs.jsonl" if stream == LOGS else f"{stream}/data.jsonl")
        return [strict(line) for line in file.read_text("utf-8").split("\n")[:-1]] if file.exists() else []


@pytest.fixture(params=["memory", "folder", "documents", "mongo"])
def world(request: pytest.FixtureRequest, tmp_path: Path):
    docs: Docs | None = None
    if request.param in ("memory", "folder"):
        world: Any = {"memory": MemoryWorld, "folder": FolderWorld}[request.param](tmp_path)
    else:
        docs = MemoryDocs() if request.param == "documents" else MongoDocs(request.getfixturevalue("mongo_url"))
        world = DocumentsWorld(docs)
    yield world
    world.journal.close()
    if docs is not None:
        docs.close()


# ---- documents -------------------------------------------------------------------------------------------------------


def test_an_absent_document_is_none(world):
    assert world.journal.read_document(PARAMETERS) is None
    assert world.journal.read_document(LOSS) is None


def test_an_update_gets_the_current_document_and_stores_the_result(world):
    seen = []

    def change(old):
        seen.append(old)
        return {"n": 1 if old is None else old["n"] + 1, "é": ["ü", None, True, 1.5]}

    assert world.journal.update_document(PARAMETERS, change) == {"n": 1, "é": ["ü", None, True, 1.5]}
    assert world.journal.update_document(PARAMETERS, change)["n"] == 2
    assert seen == [None, {"n": 1, "é": ["ü", None, True, 1.5]}]
    assert world.document(PARAMETERS) == world.again().read_document(PARAMETERS) == {**seen[1], "n": 2}


def test_an_update_that_need_not_be_durable_yet_is_seen_at_once(world):
    for n in range(3):
        stored = world.journal.update_document(LOSS, lambda old, n=n: {"n": n, "old": bool(old)}, durable=False)
        assert stored == world.again().read_document(LOSS) == world.document(LOSS) == {"n": n, "old": n > 0}
    world.journal.close()
    assert world.document(LOSS) == {"n": 2, "old": True}


def test_a_change_that_raises_changes_nothing(world):
    world.journal.update_document(PARAMETERS, lambda old: {"n": 1})

    def fail(old):
        old["n"] = 2
        raise KeyError("no")

    with pytest.raises(KeyError):
        world.journal.update_document(PARAMETERS, fail)
    with pytest.raises(TypeError):
        world.journal.update_document(PARAMETERS, lambda old: {"n": object()})
    assert world.document(PARAMETERS) == world.journal.read_document(PARAMETERS) == {"n": 1}


def test_a_document_read_is_a_copy(world):
    world.journal.update_document(PARAMETERS, lambda old: {"list": [1]})
    world.journal.read_document(PARAMETERS)["list"].append(2)
    assert world.journal.read_document(PARAMETERS) == {"list": [1]}


def test_documents_and_streams_of_one_name_are_separate(world):
    for name in (PARAMETERS, LOSS, TRACKS + "train", TRACKS + "train/loss/deep"):
        world.journal.update_document(name, lambda old, name=name: {"name": name})
    world.journal.append(LOSS, [{"data": 1}])
    for name in (PARAMETERS, LOSS, TRACKS + "train", TRACKS + "train/loss/deep"):
        assert world.document(name) == {"name": name}


def test_numbers_that_json_does_not_know_survive_and_stay_readable_to_strict_parsers(world):
    odd = {"nan": math.nan, "inf": math.inf, "low": [-math.inf], "$float": "inf", "deep": {"$float": "nan"}}
    world.journal.update_document(PARAMETERS, lambda old: odd)
    world.journal.append(LOSS, [odd])
    assert world.document(PARAMETERS) and world.rows(LOSS)  # the strict parser had no objection
    for back in (world.again().read_document(PARAMETERS), world.again().read(LOSS, 0, 1)[0]):
        assert math.isnan(back["nan"]) and back["inf"] == math.inf and back["low"] == [-math.inf]
        assert back["$float"] == "inf" and back["deep"] == {"$float": "nan"}


def test_concurrent_updates_lose_nothing(world):
    def work():
        journal = world.again()
        for _ in range(15):
            journal.update_document(PARAMETERS, lambda old: {"n": (old or {"n": 0})["n"] + 1})

    run_threads([work] * 6)
    assert world.document(PARAMETERS) == {"n": 90}


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_an_absent_stream_is_empty(world):
    assert world.journal.read(LOGS, 0, 10) == []
    assert world.journal.extent(LOGS) == (0, 0, None)
    assert world.journal.streams() == []
    assert world.journal.append(LOGS, []) == 0
    assert world.journal.streams() == []


@pytest.mark.parametrize("stream", [LOGS, LOSS])
def test_rows_get_consecutive_numbers_which_stand_in_the_rows(world, stream):
    key = number_key(stream)
    assert world.journal.append(stream, [{"v": "a"}]) == 0
    assert world.journal.append(stream, [{"v": "b"}, {"v": "c"}]) == 1
    assert world.again().append(stream, [{}]) == 3
    assert world.journal.append(stream, [{"v": "e"}]) == 4
    assert world.journal.append(stream, []) == 5
    expected = [{key: 0, "v": "a"}, {key: 1, "v": "b"}, {key: 2, "v": "c"}, {key: 3}, {key: 4, "v": "e"}]
    assert world.journal.read(stream, 0, 100) == world.rows(stream) == expected
    assert [next(iter(row)) for row in world.rows(stream)] == [key] * 5


def test_numbers_are_called_as_documented():
    assert (number_key(LOGS), number_key(LOSS)) == ("sequenceNumber", "index")


def test_reading_a_range(world):
    world.journal.append(LOSS, [{"v": n} for n in range(10)])
    assert [row["v"] for row in world.journal.read(LOSS, 3, 4)] == [3, 4, 5, 6]
    assert [row["v"] for row in world.journal.read(LOSS, 8, 4)] == [8, 9]
    for start, limit in ((10, 1), (99, 5), (0, 0), (0, -1)):
        assert world.journal.read(LOSS, start, limit) == []


def test_any_range_of_a_long_stream_with_rows_of_all_sizes(world):
    rows = [{"v": "x" * ((n * 7919) % 300 if n % 97 else 20_000)} for n in range(1500)]
    world.journal.append(LOSS, rows[:700])
    world.journal.append(LOSS, rows[700:])
    full = [{"index": n, **row} for n, row in enumerate(rows)]
    for start in (*range(0, 1500, 61), 1498, 1499):
        assert world.journal.read(LOSS, start, 5) == full[start : start + 5]
    assert world.journal.read(LOSS, 0, 10_000) == full


def test_the_extent(world):
    world.journal.append(LOSS, [{"v": 1}, {"v": 2}])
    total, size, last = world.journal.extent(LOSS)
    assert (total, last) == (2, {"index": 1, "v": 2})
    world.journal.append(LOSS, [{"v": "x" * 1000}])
    assert world.journal.extent(LOSS).total == 3
    assert 1000 < world.journal.extent(LOSS).size_bytes - size < 1100


def test_streams_do_not_touch_each_other(world):
    names = [LOGS, TRACKS + "a", TRACKS + "a/b", TRACKS + "a b", TRACKS + "ä/ö/ü", TRACKS + "b"]
    for n, name in enumerate(names):
        world.journal.append(name, [{"v": n}])
    assert world.again().streams() == sorted(names)
    assert world.journal.streams(TRACKS) == sorted(names[1:])
    assert world.journal.streams(TRACKS + "a") == sorted(names[1:4])
    assert world.journal.streams(TRACKS + "zzz") == []
    for n, name in enumerate(names):
        assert [row["v"] for row in world.journal.read(name, 0, 10)] == [n]


def test_text_that_could_break_lines(world):
    texts = ["a\nb", "\r\n", "\u2028\u2029\x85\x0b\x0c", "\0", '"}\n{"index": 7}\n', "\\n", "🚀", ""]
    for text in texts:
        world.journal.append(LOSS, [{"v": text}])
    assert [row["v"] for row in world.journal.read(LOSS, 0, 100)] == texts
    assert [row["v"] for row in world.rows(LOSS)] == texts


def test_a_row_over_the_limit_is_refused_with_its_whole_batch(world):
    world.journal.append(LOSS, [{"v": 1}])
    with pytest.raises(InvalidInput, match="limit"):
        world.journal.append(LOSS, [{"v": 2}, {"v": "x" * MAX_ROW_BYTES}])
    assert world.journal.append(LOSS, [{"v": "y" * (MAX_ROW_BYTES - 8)}]) == 1
    assert world.journal.extent(LOSS).total == 2
    assert len(world.journal.read(LOSS, 1, 1)[0]["v"]) == MAX_ROW_BYTES - 8


def test_a_batch_that_cannot_be_encoded_adds_nothing(world):
    with pytest.raises(TypeError):
        world.journal.append(LOSS, [{"v": 2}, {"v": object()}])
    assert world.journal.extent(LOSS).total == 0
    assert world.journal.streams() == []


def test_rows_are_copies(world):
    row = {"v": [1]}
    world.journal.append(LOSS, [row])
    row["v"].append(2)
    world.journal.read(LOSS, 0, 1)[0]["v"].append(3)
    assert world.journal.read(LOSS, 0, 1) == [{"index": 0, "v": [1]}]


def test_concurrent_appends_are_numbered_without_gaps_and_in_each_writers_order(world):
    numbers: dict[int, list[int]] = {}

    def work(writer: int) -> None:
        journal = world.again()
        numbers[writer] = [journal.append(LOGS, [{"w": writer, "n": n}] * (1 + n % 3)) for n in range(60)]

    run_threads([lambda w=w: work(w) for w in range(5)])
    rows = world.rows(LOGS)
    assert [row["sequenceNumber"] for row in rows] == list(range(5 * 120))
    for writer, firsts in numbers.items():
        assert firsts == sorted(firsts)
        for n, first in enumerate(firsts):
            assert [(row["w"], row["n"]) for row in rows[first : first + 1 + n % 3]] == [(writer, n)] * (1 + n % 3)


def test_a_reader_beside_writers_sees_a_prefix(world):
    stop = threading.Event()

    def write() -> None:
        for n in range(150):
            world.journal.append(LOSS, [{"v": n}, {"v": n}])
        stop.set()

    def read() -> None:
        reader, seen = world.again(), 0
        while not stop.is_set():
            rows = reader.read(LOSS, 0, 1000)
            assert [row["index"] for row in rows] == list(range(len(rows)))
            assert len(rows) >= seen
            seen = len(rows)

    run_threads([write, read, read])
    assert world.journal.extent(LOSS).total == 300


def test_sync_and_close_may_be_repeated_and_the_journal_used_again(world):
    world.journal.sync()
    world.journal.append(LOSS, [{"v": 1}])
    for _ in range(2):
        world.journal.sync()
        world.journal.close()
    assert world.journal.append(LOSS, [{"v": 2}]) == 1
    world.journal.close()
    assert [row["v"] for row in world.rows(LOSS)] == [1, 2]


def run_threads(jobs) -> None:
    errors: list[BaseException] = []

    def run(job) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)
