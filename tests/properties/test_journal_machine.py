"""Parameters, logs and tracks against a plain model, through reopening, torn ends and a second process's journal."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dreamlake import values
from dreamlake.errors import Conflict, NotFound
from dreamlake.journal.folder import FolderJournal
from dreamlake.logs import LEVELS, Logs
from dreamlake.parameters import Parameters
from dreamlake.ports import Ports
from dreamlake.tracks import Tracks

NAMES = st.sampled_from(["a", "b", "a/b", "a/b/c", "ä ö"])
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner))
POINTS = st.dictionaries(st.sampled_from(["v", "w", "$float", "é"]), VALUES, min_size=1, max_size=2)
KEYS = st.sampled_from(["a", "b", "c", "a.b", "a.b.c", "b.a"])
TREES = st.recursive(
    SCALARS, lambda inner: st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=2), max_leaves=4
)


def same(left: Any, right: Any) -> bool:
    """Equality of what is stored: NaN equals NaN, 1 is not True."""
    return values.encode(left) == values.encode(right)


class Refused(Exception):
    pass


def put(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    """The model of parameters: a real nested dict, in which a place is a dict or a value for ever."""
    head, *rest = parts
    if rest:
        below = tree.setdefault(head, {})
        if not isinstance(below, dict):
            raise Refused
        put(below, rest, value)
    elif isinstance(value, dict):
        below = tree.setdefault(head, {})
        if not isinstance(below, dict):
            raise Refused
        for key, item in value.items():
            put(below, key.split("."), item)
    elif isinstance(tree.get(head), dict):
        raise Refused
    else:
        tree[head] = value


class Machine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="journal"))
        self.journals = [FolderJournal(Ports(), str(self.root / "w/s")) for _ in range(2)]
        self.views = [
            (
                Parameters(j, lambda w: None, Ports()),
                Logs(j, lambda w: None, Ports()),
                Tracks(j, lambda w: None, Ports()),
            )
            for j in self.journals
        ]
        self.parameters: dict[str, Any] = {}
        self.logs: list[tuple[str, str, Any]] = []
        self.tracks: dict[str, list[Any]] = {}

    def teardown(self) -> None:
        if hasattr(self, "root"):
            for journal in self.journals:
                journal.close()
            shutil.rmtree(self.root)

    WHO = st.integers(0, 1)

    @rule(who=WHO, given=st.dictionaries(KEYS, TREES, max_size=3))
    def set_parameters(self, who, given) -> None:
        model = values.decode(values.encode(self.parameters))
        try:
            for key, value in given.items():
                put(model, key.split("."), value)
        except Refused:
            with pytest.raises(Conflict):
                self.views[who][0].set(given)
        else:
            self.views[who][0].set(given)
            self.parameters = model

    @rule(who=WHO, level=st.sampled_from(LEVELS), message=st.text(max_size=8), metadata=st.none() | POINTS)
    def log(self, who, level, message, metadata) -> None:
        entry = self.views[who][1].log(message, level=level, metadata=metadata)
        assert entry["sequenceNumber"] == len(self.logs)
        self.logs.append((level, message, metadata))

    @rule(who=WHO, name=NAMES, point=POINTS)
    def append(self, who, name, point) -> None:
        points = self.tracks.setdefault(name, [])
        assert int(self.views[who][2].track(name).append(**point)["index"]) == len(points)
        points.append(point)

    @rule(who=WHO, name=NAMES, batch=st.lists(POINTS, min_size=1, max_size=40))
    def append_batch(self, who, name, batch) -> None:
        points = self.tracks.setdefault(name, [])
        result = self.views[who][2].track(name).append_batch(batch)
        assert (result["startIndex"], result["count"]) == (len(points), len(batch))
        points.extend(batch)

    @rule(who=WHO, name=NAMES, start=st.integers(0, 60), limit=st.integers(0, 60))
    def read(self, who, name, start, limit) -> None:
        points = self.tracks.get(name, [])
        result = self.views[who][2].track(name).read(start, limit)
        assert same([point["data"] for point in result["data"]], points[start : start + limit])
        assert [point["index"] for point in result["data"]] == list(range(len(points)))[start : start + limit]
        assert result["total"] == len(points)
        assert result["hasMore"] == (start + len(result["data"]) < len(points))

    @rule(who=WHO, level=st.sampled_from(LEVELS), count=st.integers(0, 5))
    def read_logs(self, who, level, count) -> None:
        found = self.views[who][1].read(level=level, last=count)
        wanted = [(n, *entry) for n, entry in enumerate(self.logs) if entry[0] == level]
        wanted = wanted[-count:] if count else []
        assert same([(e["sequenceNumber"], e["level"], e["message"], e["metadata"]) for e in found], wanted)

    @rule(who=WHO)
    def close(self, who) -> None:
        self.views[who][2].close()
        self.journals[who].close()

    @rule(name=NAMES, junk=st.sampled_from([b"{", b'{"index":', b'{"index":3,"data":{"v":1}', b"\0\0\0", b" "]))
    def a_writer_dies(self, name, junk) -> None:
        if name in self.tracks:
            with (self.root / "w/s/tracks" / name / "data.jsonl").open("ab") as file:
                file.write(junk)

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "root"):
            return
        parameters, logs, tracks = self.views[0]
        assert same(sorted_tree(parameters.get(flatten=False)), sorted_tree(self.parameters))
        assert len(list(logs)) == len(self.logs)
        listed = {entry["name"]: entry["totalDataPoints"] for entry in tracks.list_all()}
        assert listed == {name: len(points) for name, points in self.tracks.items()}
        if "b" not in self.tracks:
            with pytest.raises(NotFound):
                tracks.track("b").stats()


def sorted_tree(tree: Any) -> Any:
    return {key: sorted_tree(tree[key]) for key in sorted(tree)} if isinstance(tree, dict) else tree


TestJournalMachine = Machine.TestCase
TestJournalMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
