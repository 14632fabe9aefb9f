"""``session.parameters()``: every sentence of the contract, on a folder and on a memory journal."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from journal_support import JOURNALS, Clock, Guard

from dreamlake import values
from dreamlake.errors import Conflict, Corrupt, InvalidInput, InvalidType
from dreamlake.journal.folder import FolderJournal
from dreamlake.journal.memory import MemoryJournal
from dreamlake.parameters import MAX_NAME_BYTES, Parameters
from dreamlake.ports import Ports


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "w" / "s"


@pytest.fixture(params=JOURNALS)
def parameters(request, folder):
    journal = JOURNALS[request.param](folder)
    return Parameters(journal, Guard(), Ports(now=Clock()))


@pytest.fixture
def on_disk(folder):
    return Parameters(FolderJournal(Ports(), str(folder)), Guard(), Ports(now=Clock()))


def test_without_parameters(parameters):
    assert parameters.get() == {}
    assert parameters.get(flatten=False) == {}
    assert parameters.get("lr") is None
    assert parameters.get("lr", 3) == 3


def test_nested_dicts_flatten_with_dots(parameters):
    parameters.set(model={"name": "resnet", "head": {"units": [64, 10]}}, lr=0.1)
    assert parameters.get() == {"model.name": "resnet", "model.head.units": [64, 10], "lr": 0.1}
    assert parameters.get(flatten=True) == parameters.get()
    nested = {"model": {"name": "resnet", "head": {"units": [64, 10]}}, "lr": 0.1}
    assert parameters.get(flatten=False) == nested


def test_dotted_names_are_nested_names(parameters):
    parameters.set({"model.lr": 1, "model": {"opt.name": "adam"}, "a b-c": True})
    assert parameters.get() == {"model.lr": 1, "model.opt.name": "adam", "a b-c": True}
    assert parameters.get(flatten=False) == {"model": {"lr": 1, "opt": {"name": "adam"}}, "a b-c": True}


def test_sets_merge_and_the_later_wins(parameters):
    parameters.set(a=1, b={"x": 1, "y": 2})
    parameters.set(a=2, b={"y": 3, "z": 4})
    assert parameters.get() == {"a": 2, "b.x": 1, "b.y": 3, "b.z": 4}
    parameters.set({"a": 5, "b": {"x": 0}}, b={"x": 6})
    assert parameters.get() == {"a": 5, "b.x": 6, "b.y": 3, "b.z": 4}


def test_set_is_chainable(parameters):
    assert parameters.set(a=1).set({"b": 2}).set().set({}) is parameters
    assert parameters.get() == {"a": 1, "b": 2}


def test_names_that_are_arguments_of_python_are_ordinary_names(parameters):
    parameters.set(self=1, mapping=2, more=3, name=4, flatten=5, default=6)
    assert parameters.get() == {"self": 1, "mapping": 2, "more": 3, "name": 4, "flatten": 5, "default": 6}


def test_one_parameter_or_one_group(parameters):
    parameters.set(model={"lr": 0.1, "opt": {"name": "adam"}}, modelling=None)
    assert parameters.get("model.lr") == 0.1
    assert parameters.get("model.lr", 7) == 0.1
    assert parameters.get("modelling", 7) is None
    assert parameters.get("model") == {"lr": 0.1, "opt.name": "adam"}
    assert parameters.get("model", flatten=False) == {"lr": 0.1, "opt": {"name": "adam"}}
    assert parameters.get("model.opt.nam", "none") == "none"
    with pytest.raises(InvalidType, match="flatten is a keyword"):
        parameters.get(True)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"a": 1}, {"a": {"b": 2}}, "a"),
        ({"a": 1}, {"a.b.c": 2}, "a"),
        ({"a.b": 1}, {"a": 2}, "a"),
        ({"a": {"b": {"c": 1}}}, {"a.b": 2}, "a.b"),
        ({"a": 1}, {"a": {}}, "a"),
        ({"a": {}}, {"a": 1}, "a"),
        ({"a": {}}, {"a": []}, "a"),
        ({"a.b": 1}, {"new": 1, "a": None}, "a"),
    ],
)
def test_a_value_and_a_group_under_one_name_change_nothing(parameters, first, second, named):
    parameters.set(first)
    before = parameters.get()
    with pytest.raises(Conflict, match=f"'{named}'") as caught:
        parameters.set(second)
    assert isinstance(caught.value, ValueError)
    assert parameters.get() == before
    with pytest.raises(Conflict):
        parameters.set({f"x.{key}": 0 for key in ("p",)} | {"x": 1})  # within one call
    assert parameters.get() == before


def test_an_empty_group_is_kept_until_it_gets_names(parameters):
    parameters.set(a={}, b={"c": {}})
    assert parameters.get() == {"a": {}, "b.c": {}}
    assert parameters.get(flatten=False) == {"a": {}, "b": {"c": {}}}
    parameters.set(a={"x": 1}, b={"c": {"y": 2}})
    assert parameters.get() == {"a.x": 1, "b.c.y": 2}
    parameters.set(a={}, b={})
    assert parameters.get() == {"a.x": 1, "b.c.y": 2}


@pytest.mark.parametrize("bad", [object(), {1, 2}, b"bytes", np.zeros(3), lambda: 0, 1j, [object()], {"x": {"y": {1}}}])
def test_values_without_json_form_leave_the_stored_ones_intact(parameters, bad):
    parameters.set(a=1)
    with pytest.raises(TypeError, match="parameters"):
        parameters.set(a=2, b=bad)
    with pytest.raises(InvalidType):
        parameters.set({3: 1})
    assert parameters.get() == {"a": 1}


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", " ", "a. .b", "a\nb", "a\0", "a\u2028b", "\ud800", "x" * 1025]
)
def test_bad_names(parameters, name):
    parameters.set(a=1)
    for given in ({name: 1}, {"ok": {name: 1}}, {"ok": 1, name: {}}):
        with pytest.raises(InvalidInput):
            parameters.set(given)
    assert parameters.get() == {"a": 1}


def test_limits(parameters):
    parameters.set({"x" * MAX_NAME_BYTES: 1})
    with pytest.raises(InvalidInput, match="limit"):
        parameters.set({"y" * 1000: {"z" * 24: 1}})
    half = "v" * (values.MAX_VALUE_BYTES // 2)
    parameters.set(first=half)
    with pytest.raises(InvalidInput, match="limit"):
        parameters.set(second=half)
    assert parameters.get("second") is None and parameters.get("first") == half


@pytest.mark.parametrize("mapping", [[("a", 1)], "a=1", 7, object()])
def test_what_is_no_mapping(parameters, mapping):
    with pytest.raises(InvalidType, match="mapping"):
        parameters.set(mapping)


def test_values_of_other_libraries_become_plain(parameters):
    parameters.set(
        lr=np.float32(0.5), n=np.int64(3), flag=np.bool_(True), zero_d=np.array(2.5), path=Path("a/b"), pair=(1, 2)
    )
    parameters.set(when=datetime(2025, 1, 1, tzinfo=timezone.utc))
    assert parameters.get() == {
        "lr": 0.5,
        "n": 3,
        "flag": True,
        "zero_d": 2.5,
        "path": "a/b",
        "pair": [1, 2],
        "when": "2025-01-01T00:00:00Z",
    }
    assert type(parameters.get("n")) is int and type(parameters.get("flag")) is bool


def test_nan_and_infinities_survive(parameters):
    parameters.set(nan=math.nan, group={"inf": math.inf, "list": [-math.inf]})
    assert math.isnan(parameters.get("nan"))
    assert parameters.get("group") == {"inf": math.inf, "list": [-math.inf]}


def test_what_is_read_is_a_copy(parameters):
    parameters.set(a=[1], b={"c": [2]})
    parameters.get()["a"].append(9)
    parameters.get(flatten=False)["b"]["c"].append(9)
    assert parameters.get() == {"a": [1], "b.c": [2]}


def test_the_file(on_disk, folder):
    on_disk.set(model={"lr": 0.1, "inf": math.inf})
    file = folder / "parameters.json"
    assert json.loads(file.read_text(), parse_constant=pytest.fail) == {
        "version": 1,
        "data": {"model.lr": 0.1, "model.inf": {"$float": "inf"}},
        "createdAt": "2025-01-31T12:00:01.000000Z",
        "updatedAt": "2025-01-31T12:00:01.000000Z",
    }
    on_disk.set(epochs=3)
    stored = json.loads(file.read_text())
    assert stored["version"] == 2
    assert (stored["createdAt"], stored["updatedAt"]) == ("2025-01-31T12:00:01.000000Z", "2025-01-31T12:00:02.000000Z")
    assert list(stored) == ["version", "data", "createdAt", "updatedAt"]
    assert len(file.read_text().splitlines()) > 5  # indented, for people


def test_unknown_fields_of_the_file_survive(on_disk, folder):
    on_disk.set(a=1)
    file = folder / "parameters.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "note": ["mine"]}))
    on_disk.set(b=2)
    assert json.loads(file.read_text())["note"] == ["mine"]
    assert on_disk.get() == {"a": 1, "b": 2}


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"version": 1}', '{"data": [1]}'])
def test_a_damaged_file_is_reported_and_left_alone(on_disk, folder, content):
    folder.mkdir(parents=True)
    (folder / "parameters.json").write_text(content)
    with pytest.raises(Corrupt, match=r"parameters\.json"):
        on_disk.get()
    with pytest.raises(Corrupt, match=r"parameters\.json"):
        on_disk.set(a=1)
    assert (folder / "parameters.json").read_text() == content


def test_the_guard_is_asked_first():
    guard = Guard()
    parameters = Parameters(MemoryJournal(), guard, Ports())
    parameters.set(a=1)
    parameters.get()
    assert guard.asked == [True, False]
    guard.protected = True
    assert parameters.get() == {"a": 1}
    with pytest.raises(RuntimeError):
        parameters.set(a=object())
    guard.closed = True
    for call in (parameters.get, lambda: parameters.get("a"), parameters.set):
        with pytest.raises(RuntimeError):
            call()
    guard.closed = guard.protected = False
    assert parameters.get() == {"a": 1}
