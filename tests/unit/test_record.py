"""The bytes of a record: exact, checked, and harmless whoever wrote them (SPEC "Records")."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlake.catalog import record as records
from dreamlake.catalog.entries import check_shape
from dreamlake.catalog.record import Record, decode, encode
from dreamlake.errors import Corrupt, InvalidInput, UnsupportedFormat
from dreamlake.model import SessionKey
from dreamlake.ports import Owner

DIGEST = "ab" * 32
PUT = {"op": "put", "id": "1", "path": "/m/a.pth", "digest": DIGEST, "size": 3, "type": "t/t"}
RECORD = Record(
    token="f" * 32,
    owner=Owner("host", "boot", 42, "99"),
    session=SessionKey("vision", "run 1"),
    at="2026-01-01T00:00:00.000000Z",
    needs=(DIGEST,),
    entries=({**PUT, "tags": ["a"], "metadata": {"loss": 0.5}},),
)
LINE = (
    b'{"v":1,"tok":"ffffffffffffffffffffffffffffffff","host":"host","boot_id":"boot","pid":42,"started":"99",'
    b'"workspace":"vision","session":"run 1","at":"2026-01-01T00:00:00.000000Z",'
    b'"needs":["abababababababababababababababababababababababababababababababab"],'
    b'"entries":[{"op":"put","id":"1","path":"/m/a.pth",'
    b'"digest":"abababababababababababababababababababababababababababababababab","size":3,"type":"t/t",'
    b'"tags":["a"],"metadata":{"loss":0.5}}],"sum":"d727bd103bed6e6947f106ff50d184e7"}\n'
)


def sealed(raw: Any) -> bytes:
    """Whatever it is, with a right checksum: as a hostile or newer writer would make it."""
    body = json.dumps(raw, separators=(",", ":")).encode()[:-1]
    return body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'


def raw(**changes: Any) -> dict[str, Any]:
    found = json.loads(LINE)
    del found["sum"]
    return {**found, **changes}


def test_a_record_is_exactly_this_line():
    """A golden line: records of version 1 are readable for ever."""
    assert encode(RECORD) == LINE
    assert decode(LINE, "x") == RECORD


def test_the_namespace_of_a_session_is_in_its_record():
    mine = RECORD._replace(session=SessionKey("vision", "run 1", "ana"))
    assert b'"session":"run 1","namespace":"ana","at"' in encode(mine)
    assert decode(encode(mine), "x") == mine
    for bad in ("a/b", 0, None, ["x"]):
        with pytest.raises(Corrupt, match="not a record"):
            decode(sealed(raw(namespace=bad)), "x")


def test_a_strict_parser_reads_every_record():
    wild = {"nan": float("nan"), "text": "\u2028 \U0001f600 \x00"}
    data = encode(RECORD._replace(entries=({**PUT, "metadata": wild},)))
    assert b"NaN" not in data
    assert json.loads(data)["entries"][0]["metadata"]["nan"] == {"$float": "nan"}
    assert decode(data, "x").entries[0]["metadata"]["text"] == wild["text"]


def test_fields_that_this_release_does_not_know_survive():
    entries = [{**PUT, "later": {"deep": [1, None]}}, {"op": "noop", "why": "because"}]
    found = decode(sealed(raw(entries=entries, also="this")), "x")
    assert found.entries == tuple(entries)
    assert decode(encode(found), "x") == found


def test_damage_of_any_byte_is_told():
    for position in range(len(LINE)):
        for change in (0x01, 0x20, 0x80):
            data = bytearray(LINE)
            data[position] ^= change
            with pytest.raises(Corrupt, match=r"some/where: damaged"):
                decode(bytes(data), "some/where")


def test_a_torn_record_is_told_at_any_length():
    for length in range(len(LINE)):
        for rest in (b"", bytes(len(LINE) - length)):
            with pytest.raises(Corrupt):
                decode(LINE[:length] + rest, "x")
    with pytest.raises(Corrupt):
        decode(LINE + LINE, "x")
    with pytest.raises(Corrupt):
        decode(LINE + b"\n", "x")


def test_a_newer_record_is_refused_not_guessed():
    with pytest.raises(UnsupportedFormat, match=r"where: record format 2"):
        decode(sealed(raw(v=2, entries=[{"op": "fly"}])), "where")
    with pytest.raises(UnsupportedFormat, match=r"where: unknown operation 'fly'"):
        decode(sealed(raw(entries=[{"op": "fly"}])), "where")


BAD_ENTRIES = [
    None,
    [],
    "put",
    {},
    {"op": []},
    {**PUT, "id": 1},
    {**PUT, "id": ""},
    {**PUT, "digest": DIGEST.upper()},
    {**PUT, "digest": DIGEST + "0"},
    {**PUT, "digest": None},
    {**PUT, "size": -1},
    {**PUT, "size": 1.5},
    {**PUT, "size": True},
    {**PUT, "size": "1"},
    {**PUT, "type": None},
    {**PUT, "tags": "a"},
    {**PUT, "metadata": [1]},
    {**PUT, "description": 1},
    {**PUT, "at": 5},
    *(
        {**PUT, "path": path}
        for path in ("", "a", "/", "//a", "/a/", "/a//b", "/..", "/../a", "/a/../b", "/a/.", "/./a")
    ),
    *({**PUT, "path": path} for path in ("/a\\b", "/a\0b", "/a\nb", "/a\x7fb", None, ["/a"])),
    *({k: v for k, v in PUT.items() if k != name} for name in PUT),
    {"op": "del"},
    {"op": "del", "id": ["x"]},
    {"op": "set", "id": None},
    {"op": "set", "id": "1", "tags": 5},
    {"op": "move", "id": "1"},
    {"op": "move", "id": "1", "to": "/../etc/passwd"},
    {"op": "undel", "id": "1", "ids": "1"},
    {"op": "undel", "id": "1", "ids": [1]},
    {"op": "undel", "id": "1", "ids": [["x"]]},
    {"op": "alias", "path": "/a"},
    {"op": "alias", "path": "a", "name": "n", "id": "1"},
    {"op": "alias", "path": "/a", "name": "n", "id": 1},
    {"op": "trim"},
    {"op": "trim", "ids": [{}]},
    {"op": "trim", "ids": None},
    {"op": "trim", "ids": [], "deleted_before": 5},
    {"op": "session", "tags": 1},
    {"op": "session", "write_protected": "yes"},
    {"op": "session", "folder": []},
]


@pytest.mark.parametrize("entry", BAD_ENTRIES, ids=lambda e: json.dumps(e)[:60])
def test_an_entry_that_a_fold_could_not_take_is_corrupt(entry):
    with pytest.raises(Corrupt, match="where: not a record"):
        decode(sealed(raw(entries=[{"op": "noop"}, entry])), "where")


@pytest.mark.parametrize(
    "changes",
    [
        {"entries": None},
        {"entries": 5},
        {"needs": None},
        {"needs": [1]},
        {"tok": 5},
        {"at": None},
        {"pid": "x"},
        {"pid": None},
        {"workspace": ".."},
        {"workspace": "a/b"},
        {"session": ""},
        {"session": "../../etc"},
        {"session": 5},
        {"session": ".dreamlake"},
    ],
    ids=str,
)
def test_a_head_that_makes_no_sense_is_corrupt(changes):
    with pytest.raises(Corrupt, match="where: not a record"):
        decode(sealed(raw(**changes)), "where")


@pytest.mark.parametrize("missing", list(raw()))
def test_a_missing_field_is_corrupt(missing):
    with pytest.raises(Corrupt):
        decode(sealed({k: v for k, v in raw().items() if k != missing}), "x")


@pytest.mark.parametrize("body", [[], 5, None, "text", [[]]])
def test_json_that_is_no_object_is_corrupt(body):
    with pytest.raises(Corrupt):
        decode(sealed(body), "x")


def test_nesting_without_end_is_corrupt_not_a_crash():
    deep = b'{"v":1,"x":' + b"[" * 200_000
    data = deep + b',"sum":"' + hashlib.sha256(deep).hexdigest()[:32].encode() + b'"}\n'
    with pytest.raises(Corrupt):
        decode(data, "x")


def test_a_record_has_a_size_limit(monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", len(LINE) - 43)
    assert encode(RECORD)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", len(LINE) - 44)
    with pytest.raises(InvalidInput, match="limit"):
        encode(RECORD)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_harm(data):
    with pytest.raises((Corrupt, UnsupportedFormat)):
        decode(data, "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.just(DIGEST) | st.just("/a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PUT, "to", "ids", "name"]), inner),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from([*PUT, "to", "ids", "name"]), JSON), max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_entries_do_harm(entries):
    try:
        found = decode(sealed(raw(entries=entries)), "x")
    except (Corrupt, UnsupportedFormat):
        return
    for entry in found.entries:
        check_shape(entry)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text | st.just("$float"), inner, max_size=3),
    max_leaves=10,
)


@given(metadata=st.dictionaries(text, values, max_size=4), description=text, tags=st.lists(text, max_size=3))
@settings(max_examples=200, deadline=None)
def test_what_users_say_comes_back_exactly(metadata, description, tags):
    entry = {**PUT, "metadata": metadata, "description": description, "tags": tags}
    made = RECORD._replace(entries=(entry,))
    assert decode(encode(made), "x") == made
