"""User values as JSON: every conversion, every refusal, the round trip, and what a strict parser sees."""

from __future__ import annotations

import enum
import json
import math
import sys
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType


class Color(enum.Enum):
    RED = "red"


class Text(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Whole(int):
    pass


class Real(float):
    pass


class Word(str):
    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (-0.5, -0.5),
        ("ü\0\n", "ü\0\n"),
        ([1, (2, 3)], [1, [2, 3]]),
        ({"a": {"b": [None]}}, {"a": {"b": [None]}}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float16(2), 2.0),
        (np.longdouble(1.5), 1.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(7), 7),
        (np.array(0.25, dtype=np.float32), 0.25),
        (torch.tensor(3), 3),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (torch.tensor(True), True),
        (torch.tensor(2.0, requires_grad=True), 2.0),
        (datetime(2026, 1, 31, 12, tzinfo=timezone.utc), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00.000005Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (np.datetime64("2026-01-31"), "2026-01-31"),
        (np.datetime64("2026-01-31T12:00:00"), "2026-01-31T12:00:00Z"),
        (np.datetime64("2026-01-31T12:00:00.000001002"), "2026-01-31T12:00:00.000001Z"),
        (np.datetime64("NaT"), None),
        (Path("/a/b"), "/a/b"),
        (PurePosixPath("c"), "c"),
        (Color.RED, "red"),
        (Text.RED, "red"),
        ({Text.RED: 1}, {"red": 1}),
        (Level.HIGH, 3),
        (Whole(4), 4),
        (Real(0.5), 0.5),
        (Word("kept"), "kept"),
        (2**4096 - 1, 2**4096 - 1),
    ],
    ids=repr,
)
def test_conversion(value, expected):
    got = values.plain(value)
    assert got == expected
    assert type(got) is type(expected)
    assert values.decode(values.encode(got)) == expected


def test_naive_datetime_is_local_time(monkeypatch):
    import time as clock

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    try:
        assert values.plain(datetime(2026, 1, 31, 9)) == "2026-01-31T00:00:00Z"
        assert values.plain(np.datetime64("2026-01-31T09:00:00")) == "2026-01-31T09:00:00Z"  # NumPy's are UTC
    finally:
        monkeypatch.undo()
        clock.tzset()


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        {1, 2},
        frozenset(),
        object(),
        1j,
        np.complex64(1),
        np.zeros(3),
        np.zeros((1,)),
        torch.zeros(2),
        torch.zeros(1),
        time(12),
        timedelta(1),
        np.timedelta64(5, "ns"),
        np.datetime64(2**62, "s"),
        range(3),
        (n for n in range(3)),
        len,
        int,
        np.array(object()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_json_form(value):
    with pytest.raises(InvalidType, match=r"metadata\['a'\]\[1\] is a .*, which has no JSON form; use numbers"):
        values.checked({"a": [0, value]}, what="metadata")


@pytest.mark.parametrize("key", [1, None, 1.5, True, b"x", (1,), Color.RED])
def test_keys_are_text(key):
    with pytest.raises(InvalidType, match=r"metadata\['a'\] has the key .* of type .*; keys must be text"):
        values.checked({"a": {key: 1}}, what="metadata")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (Path("\udc80"), "lone surrogate"),
        (2**4096, "4096 bits"),
        (-(2**5000), "4096 bits"),
        (Whole(10**6000), "4096 bits"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "does not exist in UTC"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))), "does not exist in UTC"),
    ],
    ids=["text", "key", "path", "big", "negative", "subclass", "min", "max"],
)
def test_values_that_cannot_be_stored(value, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        values.checked({"a": value}, what="metadata")
    assert "metadata['a']" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_naive_datetime_outside_the_calendar(monkeypatch):
    import time as clock

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    try:
        with pytest.raises(InvalidInput, match="does not exist in UTC"):
            values.plain(datetime.min)
    finally:
        monkeypatch.undo()
        clock.tzset()


def test_recursion_and_depth():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidInput, match="deeper than 64 levels"):
        values.plain(loop)
    circle: dict[str, object] = {}
    circle["a"] = circle["b"] = circle  # twice: 2**64 ways down
    with pytest.raises(InvalidInput, match="deeper than 64"):
        values.plain(circle)
    deep: object = 1
    for _ in range(64):
        deep = [deep]
    assert values.decode(values.encode(values.plain(deep))) == deep
    with pytest.raises(InvalidInput, match="deeper than 64"):
        values.plain([deep])


def test_size_limit_is_exact():
    fits = {"a": "x" * (values.MAX_VALUE_BYTES - len('{"a":""}'))}
    assert values.checked(fits, what="metadata") == fits
    with pytest.raises(InvalidInput, match=r"metadata has .*limit"):
        values.checked({"a": fits["a"] + "x"}, what="metadata")
    with pytest.raises(InvalidInput, match=r"metadata has .*limit"):
        values.checked({"a": "ü" * (values.MAX_VALUE_BYTES // 2)}, what="metadata")


@pytest.mark.parametrize("leaf", [1, "x" * 100_000], ids=["numbers", "texts"])
def test_shared_lists_do_not_explode(leaf):
    """20 lists of 10 references each would be 10**20 leaves."""
    value: object = [leaf] * 10
    for _ in range(19):
        value = [value] * 10
    with pytest.raises(InvalidInput, match=r"^metadata has more than 4,194,304 bytes.*Upload it as a file"):
        values.checked({"a": value}, what="metadata")


def test_errors_stay_short():
    with pytest.raises(InvalidType) as caught:
        values.checked({"k" * 100_000: {"x" * 100_000: object()}}, what="metadata")
    assert len(str(caught.value)) < 400


NONFINITE = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "list": [np.float32("nan")], "ok": 0.5}


def test_nonfinite_floats_survive_strict_json():
    data = values.encode(values.plain(NONFINITE))

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(data, parse_constant=refuse)
    back = values.decode(data)
    assert math.isnan(back["nan"])
    assert math.isnan(back["list"][0])
    assert (back["inf"], back["minus"], back["ok"]) == (math.inf, -math.inf, 0.5)


@pytest.mark.parametrize(
    "value",
    [
        {"$float": "nan"},
        {"$float": "inf", "x": 1},
        {"$float": math.nan},
        {"$$float": "nan"},
        {"$$$float": {"$float": "-inf"}},
        {"$float": None},
        {"float": "nan"},
        "$float",
        ["$float", {"a": "$float"}],
    ],
    ids=repr,
)
def test_values_that_look_like_ours(value):
    back = values.decode(values.encode(values.plain(value)))
    assert repr(back) == repr(value)


def test_tuples_are_lists_inside_and_out():
    value = ({"$float": "nan"}, (math.inf, [-math.inf]), "$float")
    assert values.decode(values.encode(value)) == [{"$float": "nan"}, [math.inf, [-math.inf]], "$float"]


LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
KEYS = st.text(max_size=4) | st.sampled_from(["$float", "$$float", "$", "$$"])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(JSON, st.sampled_from([None, 2]))
def test_round_trip(value, indent):
    data = values.encode(values.plain(value), indent=indent)
    json.loads(data, parse_constant=lambda name: pytest.fail(name))
    assert repr(values.decode(data)) == repr(value)  # repr: NaN equals itself, and -0.0 differs from 0.0
    assert repr(values.decode(data.decode())) == repr(value)


@pytest.mark.parametrize("data", [b"", b"{", b"nope", b"\xff", b'{"a":1}x', b"[" * 100_000, b"1" * 100_000])
def test_what_is_not_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        values.decode(data)


def test_deep_json_of_a_stranger():
    depth = sys.getrecursionlimit() * 20
    with pytest.raises(ValueError, match="nested too deeply"):
        values.decode(b'{"$float":' + b"[" * depth + b"]" * depth + b"}")


def test_whole_number():
    assert values.whole_number(np.int64(3), what="limit") == 3
    assert values.whole_number(True, what="limit") == 1
    with pytest.raises(InvalidType, match="limit is a whole number, not float"):
        values.whole_number(1.0, what="limit")
    with pytest.raises(InvalidType, match="not str"):
        values.whole_number("1", what="limit")
    with pytest.raises(InvalidInput, match="limit is -1; it cannot be negative"):
        values.whole_number(-1, what="limit")
