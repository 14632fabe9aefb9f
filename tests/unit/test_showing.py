"""How records, sessions and lakes show themselves: small, readable, and harmless whoever wrote what they hold."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import struct
import zlib
from html.parser import HTMLParser

import pytest

from dreamlake import Session, open_lake
from dreamlake.records import FileRecord, FileRecords
from dreamlake.showing import MAX_ROWS
from dreamlake.texts import cut, padded, table, width

EVIL = "<script>alert('x')</script>\"&\x1b[31m"


def png(wide=2, high=2):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x10\x80\xf0" * wide for _ in range(high))
    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def root(memory_path):
    return memory_path / "lake"


@pytest.fixture
def session(root):
    with Session("s", "w", local_path=root, description=EVIL, tags=["a", EVIL]) as opened:
        yield opened


class Page(HTMLParser):
    """What an HTML says: its text, and the tags and attributes it is made of."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "unbalanced"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


ALLOWED = {"div", "b", "table", "tr", "td", "th", "span", "pre", "img"}


def page(thing):
    made = Page(thing._repr_html_())
    assert set(made.tags) <= ALLOWED
    assert {name for name, _ in made.attributes} <= {"style", "src"}
    assert all(
        re.match(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]*$", v) for n, v in made.attributes if n == "src"
    )
    return made


# ---- records are dicts, lists are lists ------------------------------------------------------------------------------


def test_records_are_dicts_in_lists(session):
    files = session.files()
    first = files.upload(b"1", filename="a", metadata={"n": 1})
    files.upload(b"2", filename="b")
    found = files.list()
    assert isinstance(found, list) and isinstance(found[0], dict) and isinstance(first, dict)
    assert type(found) is FileRecords and type(found[0]) is FileRecord and type(first) is FileRecord
    plain = [dict(record) for record in found]
    assert all(type(record) is dict for record in plain)
    assert found == plain and plain == found and found[0] == first == plain[0]
    assert json.loads(json.dumps(found)) == plain == json.loads(json.dumps(list(found)))
    assert repr(found) == repr(plain) and repr(first) == repr(plain[0])
    for copied in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert type(copied) is list and copied == plain
        assert type(copied[0]) is dict
    assert type(pickle.loads(pickle.dumps(first))) is dict
    assert type(copy.deepcopy(first)) is dict and copy.copy(first) == first
    assert found[0] is found[0] is next(iter(found))  # what is changed stays changed
    found[0]["note"] = "mine"
    assert found[0]["note"] == "mine" and [r.get("note") for r in found] == ["mine", None]
    assert type(found[:1]) is FileRecords and found[-1]["filename"] == "b" and found[::-1][0] is not None
    assert [r["filename"] for r in reversed(found)] == ["b", "a"]
    assert sorted(found, key=lambda r: r["filename"], reverse=True)[0]["filename"] == "b"
    with pytest.raises(IndexError):
        found[2]
    found.append({"filename": "c"})
    assert len(found) == 3 and type(found * 1) is list
    assert type(files.find(limit=1)) is FileRecords and type(files.history("a")) is FileRecords
    assert files.get(first)["id"] == first["id"] and files.read_bytes(found[1]) == b"2"


# ---- text ------------------------------------------------------------------------------------------------------------


def test_text_of_records(session):
    files = session.files()
    files.save_bytes(
        b"x" * 2048, "a.pth", path="/models", tags=["best", "x"], metadata={"loss": math.nan, "cfg": {"lr": 1}}
    )
    files.save_text("", "b.txt", description=EVIL)
    one = str(files.get("/models/a.pth")).splitlines()
    assert one[0] == "w/s:/models/a.pth@v1"
    assert one[1].split(None, 1) == ["size", "2.0 KiB, application/octet-stream"]
    assert [line.split() for line in one[-2:]] == [["loss", "NaN"], ["cfg.lr", "1"]]
    many = str(files.list()).splitlines()
    assert many[0].split() == ["FILE", "SIZE", "VERSION", "UPLOADED", "TAGS"]
    assert many[1].startswith("/models/a.pth  2.0 KiB       v1  20") and many[1].endswith("best, x")
    assert many[-1] == "2 files, 2.0 KiB"
    assert "\x1b" not in str(files.get("b.txt"))
    for _ in range(MAX_ROWS):
        files.save_text("", f"n{_}")
    assert str(files.list()).endswith(f"22 files, 2.0 KiB; the first {MAX_ROWS} are shown")
    assert str(FileRecords()) == "0 files, 0 B" or str(FileRecords()).endswith("0 files, 0 B")

    class Printer:
        def text(self, text):
            self.shown = text

    printer = Printer()
    files.list()._repr_pretty_(printer, False)
    assert printer.shown == str(files.list())
    files.get("b.txt")._repr_pretty_(printer, False)
    assert printer.shown == str(files.get("b.txt"))


@pytest.mark.parametrize(
    ("text", "wide", "short"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("abcd", 1, "…"),
        ("abcd", 0, ""),
        ("日本語", 4, "日…"),
        ("/models/very/long/best.pth", 15, "/mode…/best.pth"),
        ("/models/very/long/best.pth", 26, "/models/very/long/best.pth"),
    ],
)
def test_cut(text, wide, short):
    assert cut(text, wide) == short
    assert width(short) <= wide


def test_tables_fit():
    rows = [("/a/" + "x" * 60 + "/best.pth", "1 B", "tag, " * 20), ("/b", "100.0 KiB", "")]
    for columns in (40, 60, 80, 140):
        lines = table(("PATH", "SIZE", "TAGS"), rows, right=["SIZE"], columns=columns)
        assert max(map(width, lines)) <= columns
        assert lines[1].startswith("/a/x") and (columns == 40 or "best.pth" in lines[1])
        assert "      1 B" in lines[1] and "100.0 KiB" in lines[2]
    assert max(map(width, table(("PATH", "SIZE", "TAGS"), rows))) > 140  # elsewhere nothing is cut
    assert table(("A", "B"), [("1", "")]) == ["A", "1"]
    assert table(("A",), []) == [""]
    assert len(table(("A", "B"), [("x" * 30, "y" * 30)], columns=5)) == 2  # narrower than anything that says something
    assert padded("é", 3) == "é  " and padded("日", 4, True) == "  日"


# ---- HTML ------------------------------------------------------------------------------------------------------------


def test_html_of_a_record(session):
    files = session.files()
    files.save_bytes(
        b"x", "a.pth", path="/models", tags=[EVIL], description=EVIL, metadata={EVIL: EVIL, "n": [1, EVIL]}
    )
    made = page(files.get("/models/a.pth"))
    for word in ("w/s:/models/a.pth@v1", "1 B, application/octet-stream", "<script>alert('x')</script>", "\\x1b[31m"):
        assert word in made.text
    assert "\x1b" not in made.text
    many = {f"field{number}": number for number in range(100)}
    files.save_bytes(b"x", "b", metadata={**many, "long": "y" * 10_000})
    made = page(files.get("b"))
    assert "and 71 fields more" in made.text and "field29" in made.text and "field30" not in made.text
    assert len(files.get("b")._repr_html_()) < 20_000


def test_html_previews(session, monkeypatch):
    files = session.files()
    files.save_bytes(png(), "dot.png")
    made = page(files.get("dot.png"))
    assert made.tags.count("img") == 1
    files.save_text("one\n\ttwo " + EVIL + "\n" + "z" * 10_000, "note.md")
    made = page(files.get("note.md"))
    assert "pre" in made.tags and "one\n\ttwo <script>" in made.text and "the first 4.0 KiB of 9.8 KiB" in made.text
    assert "\x1b" not in made.text
    for name, content in (("a.json", b'{"a": 1}'), ("b.txt", b"\xff\xfe\0 not utf-8"), ("c.html", b"<b onclick=x>")):
        files.save_bytes(content, name)
        assert page(files.get(name)).tags.count("pre") == 1
    for name in ("x.pth", "x.svg", "x.pdf"):
        files.save_bytes(b"<svg onload='alert(1)'/>", name)
        made = page(files.get(name))
        assert "pre" not in made.tags and "img" not in made.tags
    files.save_bytes(png() + b"x" * (513 << 10), "big.png")
    assert "img" not in page(files.get("big.png")).tags
    gone = files.get("dot.png")
    files.delete("dot.png")
    assert "img" in page(gone).tags  # still stored
    assert "img" not in page(FileRecord({**gone, "deletedAt": "2026-01-01T00:00:00Z"}, gone._store)).tags
    open_lake(session.local_path).collect(now=True, keep_deleted="0s", force=True)
    assert "no preview: " in page(gone).text
    assert "img" not in page(FileRecord(dict(gone))).tags  # a record from elsewhere


def test_html_of_lists_sessions_and_lakes(session, root):
    files = session.files()
    for number in range(MAX_ROWS + 5):
        files.save_bytes(b"x" * number, f"n{number:02}", path="/many", tags=[EVIL])
    made = page(files.list())
    assert made.tags.count("tr") == MAX_ROWS + 1 and f"25 files, the first {MAX_ROWS} are shown" in made.text
    assert "/many/n00" in made.text and "/many/n24" not in made.text
    assert page(files).text == made.text
    assert page(files.find("none")).text.strip() == "0 files"
    session.parameters().set(lr=0.5, note=EVIL)
    session.track("train/loss").append(value=1.0)
    made = page(session)
    for word in ("w/s", "open", "lr=0.5", "train/loss: 1 point", "/many/n24", "25, 300 B", "<script>"):
        assert word in made.text
    session.close()
    assert "closed" in page(session).text
    for number in range(MAX_ROWS):
        with Session(f"more{number}", "v", local_path=root):
            pass
    made = page(open_lake(root))
    assert (
        f"21 sessions, the first {MAX_ROWS} are shown" in made.text
        and "v/more0" in made.text
        and str(root) in made.text
    )


def test_broken_lake_shows_its_sessions_without_reading_files(session, root):
    session.files().upload(b"x", filename="x")
    assert "w/s" in page(open_lake(root)).text
