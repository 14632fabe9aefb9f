"""Any file of numbered lines: every range reads like a slice of a list, and damage hits only those who ask for it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlake import values
from dreamlake.errors import Corrupt
from dreamlake.journal.lines import Lines

SIZES = st.lists(st.sampled_from([0, 1, 7, 60, 61, 500, 4000, 4096, 9000, 70_000]), max_size=120)
MANY = st.integers(0, 3000).map(lambda count: [40] * count)


def rows_of(sizes):
    return [{"index": number, "text": "x" * size} for number, size in enumerate(sizes)]


def encoded(rows):
    return [values.encode(row) + b"\n" for row in rows]


def opened(data: bytes) -> Lines:
    return Lines(io.BytesIO(data), "file", "index")


@given(SIZES | MANY, st.integers(0, 3100), st.integers(0, 3100), st.data())
@settings(max_examples=150, deadline=None)
def test_a_range_is_a_slice(sizes, start, limit, data):
    rows = rows_of(sizes)
    lines = encoded(rows)
    torn = encoded([{"index": len(rows), "text": "torn"}])[0]
    rest = torn[: data.draw(st.integers(0, len(torn) - 2), label="torn after")]
    file = opened(b"".join(lines) + rest)
    assert file.rows(start, limit) == rows[start : start + limit]
    tail = file.tail()
    assert (tail.total, tail.end, tail.last) == (len(rows), sum(map(len, lines)), rows[-1] if rows else None)


@given(st.lists(st.sampled_from([0, 60, 700, 5000]), min_size=1, max_size=150), st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_reported_exactly_to_those_who_ask_for_it(sizes, data):
    rows = rows_of(sizes)
    lines = encoded(rows)
    bad = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1, max_size=3), label="damaged")
    for number in bad:
        line = lines[number][:-1]
        how = data.draw(st.sampled_from(["shortened", "zeros", "swapped"]), label="how")
        lines[number] = {"shortened": line[:-1], "zeros": b"\0" * len(line), "swapped": line[::-1]}[how] + b"\n"
    start = data.draw(st.integers(0, len(rows)), label="start")
    limit = data.draw(st.integers(1, len(rows) + 1), label="limit")
    if bad & {len(rows) - 1}:
        lines.append(values.encode({"index": len(rows)}) + b"\n")  # the end is another matter
        rows.append({"index": len(rows)})
    wanted = range(start, min(start + limit, len(rows)))
    file = opened(b"".join(lines))
    if bad & set(wanted):
        offset = sum(map(len, lines[: min(bad & set(wanted))]))
        with pytest.raises(Corrupt, match=f"at byte {offset}:"):
            file.rows(start, limit)
    else:
        assert file.rows(start, limit) == rows[start : start + limit]


@given(st.binary(max_size=300) | st.text('{}[]",:index0123 \n\0', max_size=300).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data):
    try:
        tail = opened(data).tail()
        assert 0 <= tail.end <= len(data) and tail.total >= 0
        rows = opened(data).rows(0, 10)
        assert [row["index"] for row in rows] == list(range(len(rows)))
    except Corrupt as error:
        assert "at byte" in str(error)
