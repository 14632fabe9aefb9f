"""The expression language of ``find``: what it reads, what it says about mistakes, and what it means."""

from __future__ import annotations

import math
import time

import pytest

from dreamlake import Session
from dreamlake.errors import InvalidInput
from dreamlake.operations import parsing
from dreamlake.operations.parsing import parse, parse_field, size_bytes
from dreamlake.operations.query import And, Field, Not, Or, Test


def field(text):
    name, _, keys = text.partition(".")
    return Field(name, keys or ())


def check(name, op="", value=None):
    return Test(field(name), op, value)


A, B, C = check("metadata.a"), check("metadata.b"), check("metadata.c")
READ = [
    ("metadata.a", A),
    ("  metadata.a  ", A),
    ("metadata.a and metadata.b", And((A, B))),
    ("metadata.a AND metadata.b", And((A, B))),
    ("metadata.a or metadata.b and metadata.c", Or((A, And((B, C))))),
    ("(metadata.a or metadata.b) and metadata.c", And((Or((A, B)), C))),
    ("metadata.a and metadata.b and metadata.c", And((A, B, C))),
    ("not metadata.a", Not(A)),
    ("not not metadata.a", Not(Not(A))),
    ("not(metadata.a)and(metadata.b)", And((Not(A), B))),
    ("not metadata.a and metadata.b", And((Not(A), B))),
    ("((metadata.a))", A),
    ("metadata.val_accuracy > 0.9", check("metadata.val_accuracy", ">", 0.9)),
    ("metadata.val-acc>0.9", check("metadata.val-acc", ">", 0.9)),
    ("metadata.a.b.c<=-1e-3", check("metadata.a.b.c", "<=", -0.001)),
    ("metadata.x = 3", check("metadata.x", "=", 3)),
    ("metadata.x == 3", check("metadata.x", "=", 3)),
    ("metadata.x != 3.0", check("metadata.x", "!=", 3.0)),
    ("metadata.x = true", check("metadata.x", "=", True)),
    ("metadata.x = null", check("metadata.x", "=", None)),
    ("metadata.x < inf", check("metadata.x", "<", math.inf)),
    ("metadata.x > -inf", check("metadata.x", ">", -math.inf)),
    ("metadata.x = 'true'", check("metadata.x", "=", "true")),
    ('metadata.x = "3"', check("metadata.x", "=", "3")),
    ("metadata.x = resnet-50", check("metadata.x", "=", "resnet-50")),
    ("metadata.x = and", check("metadata.x", "=", "and")),
    ("metadata.x = 1.2.3", check("metadata.x", "=", "1.2.3")),
    (r'metadata.x = "say \"hi\" \\ there"', check("metadata.x", "=", 'say "hi" \\ there')),
    (r"metadata.x = 'it\'s'", check("metadata.x", "=", "it's")),
    ("metadata.x = ''", check("metadata.x", "=", "")),
    ("metadata.größe = 日本", check("metadata.größe", "=", "日本")),
    ("metadata.x:resnet*", check("metadata.x", ":", "resnet*")),
    ("metadata.x:5*", check("metadata.x", ":", "5*")),
    ("metadata.x ~ res", check("metadata.x", "~", "res")),
    ("metadata.x in (a, 'b c' ,3)", check("metadata.x", "in", ("a", "b c", 3))),
    ("metadata.x in(a)", check("metadata.x", "in", ("a",))),
    ("metadata.x not in (a)", Not(check("metadata.x", "in", ("a",)))),
    ("metadata.in in (in)", check("metadata.in", "in", ("in",))),
    ('metadata."val acc".top1 > 1', Test(Field("metadata", ("val acc", "top1")), ">", 1)),
    ('metadata."a.b"', Test(Field("metadata", ("a.b",)))),
    ("metadata.$float = 1", check("metadata.$float", "=", 1)),
    ("tag", check("tag")),
    ("tag:best", check("tag", ":", "best")),
    ("tags = 'very best'", check("tag", "=", "very best")),
    ("tag in (a, b)", check("tag", "in", ("a", "b"))),
    ("path:/models/**/*.pth", check("path", ":", "/models/**/*.pth")),
    ("path = /models/a.pth", check("path", "=", "/models/a.pth")),
    ("path:'/odd (1)/*'", check("path", ":", "/odd (1)/*")),
    ("name:*.pth", check("name", ":", "*.pth")),
    ("filename != x", check("name", "!=", "x")),
    ("size >= 10M", check("size", ">=", 10 << 20)),
    ("size<1.5KiB", check("size", "<", 1536)),
    ("sizeBytes in (0, 5, 1k)", check("size", "in", (0, 5, 1024))),
    ("version > 1", check("version", ">", 1)),
    ("version = v3", check("version", "=", 3)),
    ("uploaded >= 2026-01-31", check("uploaded", ">=", 1769817600.0)),
    ("uploaded < 2026-01-31T01:00:00+01:00", check("uploaded", "<", 1769817600.0)),
    ("updatedAt < '2026-01-31 00:00:00'", check("updated", "<", 1769817600.0)),
    ("uploaded:2026-01", check("uploaded", ":", "2026-01")),
    ("age < 7d", check("age", "<", 604800.0)),
    ("checksum:AB12CD", check("checksum", ":", "ab12cd")),
    ("checksum = " + "a" * 64, check("checksum", "=", "a" * 64)),
    ("type:image/*", check("type", ":", "image/*")),
    ("contentType = image/png", check("type", "=", "image/png")),
    ("description", check("description")),
    ("description ~ baseline", check("description", "~", "baseline")),
    ("session = 'run 1'", check("session", "=", "run 1")),
    ("workspace:vis*", check("workspace", ":", "vis*")),
    ("id = abc", check("id", "=", "abc")),
]


@pytest.mark.parametrize(("text", "tree"), READ, ids=[text for text, _ in READ])
def test_reads(text, tree):
    assert parse(text) == tree
    again = parse(str(tree))
    assert again == tree
    assert str(again) == str(tree)


def test_kinds_of_numbers_and_texts_stay_apart():
    values = [parse(f"metadata.x = {text}").value for text in ("1", "1.0", "true", "'1'")]
    assert [type(value) for value in values] == [int, float, bool, str]


WRONG = [
    ("", 1, "a field is missing here; fields are metadata, tag, path"),
    ("   ", 4, "a field is missing"),
    ("and", 1, "a field is missing"),
    ("metadata.x >", 13, "a value is missing after '>': metadata.x >-->"),
    ("metadata.x > 1 metadata.y", 16, "'and', 'or' or the end was expected here: metadata.x > 1 -->metadata.y"),
    ("metadata.x > 1 and", 19, "a field is missing"),
    ("metadata.x > 1 or or", 19, "a field is missing"),
    ("(metadata.x > 1", 16, r"'\)' is missing for the '\(' in column 1"),
    ("metadata.x > 1)", 15, "'and', 'or' or the end"),
    ("()", 2, "a field is missing"),
    ("metadata", 1, "write metadata.NAME"),
    ("metadata.", 10, "a name is missing after '.'"),
    ("metadata..x", 10, "a name is missing after '.'"),
    ("loss < 1", 1, "there is no field 'loss'; .* do you mean metadata.loss?"),
    ("size.x > 1", 1, "size has no fields inside"),
    ("size", 5, "an operator is missing after size: =, !=, in, <"),
    ("size 10", 6, "an operator is missing after size"),
    ("path", 5, "an operator is missing after path: =, !=, :, ~, in"),
    ("path < a", 6, "'<' does not go with path, which takes =, !=, :, ~, in"),
    ("tag != a", 5, "'!=' does not go with tag, .*; write not tag = ..."),
    ("size ~ 5", 6, "'~' does not go with size"),
    ("age = 7d", 5, "'=' does not go with age"),
    ("uploaded = 2026-01-31", 10, "'=' does not go with uploaded"),
    ("size > many", 8, "size 'many' is none; write bytes or e.g. 10K"),
    ("size > -1", 8, "size '-1' is none"),
    ("version = 1.5", 11, "'1.5' is no whole number"),
    ("uploaded > yesterday", 12, "time 'yesterday' is not ISO-8601"),
    ("age < soon", 7, "age='soon' is not a duration"),
    ("checksum:xyz", 10, "checksum 'xyz' must be 6 to 64 hexadecimal digits"),
    ("metadata.x = 'open", 14, "this quote is never closed"),
    ('metadata.x = "open', 14, "this quote is never closed"),
    ("metadata.x = (", 14, "a value is missing after '='"),
    ("metadata.x in", 14, r"a list such as \(a, b\) is expected"),
    ("metadata.x in ()", 16, "a value is missing after 'in'"),
    ("metadata.x in (a", 17, r"',' or '\)' is expected in the list"),
    ("metadata.x in (a b)", 18, r"',' or '\)' is expected in the list"),
    ("metadata.x not 5", 16, "'in' is expected after 'not' here"),
    ("size in (1, x)", 13, "size 'x' is none"),
    ("metadata.x ! 1", 12, "'and', 'or' or the end"),
    ("(" * 60 + "tag" + ")" * 60, 52, "more than 50 parentheses"),
    ("not " * 60 + "tag", 208, "more than 50 parentheses or nots"),
]


@pytest.mark.parametrize(("text", "column", "message"), WRONG, ids=[w[0][:40] for w in WRONG])
def test_mistakes_are_told_with_their_column(text, column, message):
    with pytest.raises(InvalidInput, match=rf"^expression, column {column}: .*{message}"):
        parse(text)


def test_limits():
    with pytest.raises(InvalidInput, match="has 20,001 characters; the limit is 20,000"):
        parse("x" * 20_001)
    many = " or ".join(["tag:a"] * 2000)
    assert len(parse(many).items) == 2000
    start = time.monotonic()
    for text in ("'" * 19_999, "metadata" + ".x" * 9_000, "(" * 19_999, "not " * 4_999, "metadata.x = " + "9" * 19_000):
        try:
            parse(text)
        except InvalidInput:
            continue
    assert time.monotonic() - start < 2


def test_fields_alone():
    assert parse_field('metadata."a b".c') == Field("metadata", ("a b", "c"))
    assert parse_field("sizeBytes") == Field("size")
    for text in ("size > 1", "", "metadata", "x"):
        with pytest.raises(InvalidInput):
            parse_field(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10", 10), ("10k", 10240), ("1.5M", 1572864), ("2GiB", 2 << 30), ("1 TB", 1 << 40), (" 5 B ", 5),
     ("", None), ("M", None), ("-1", None), ("1e3", None), ("9" * 400, None), ("1P", None)],
)  # fmt: skip
def test_sizes(text, size):
    assert size_bytes(text) == size


# ---- what it means ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    with Session("run 1", "vision", local_path=tmp_path_factory.mktemp("lake")) as session:
        files = session.files()
        put = files.save_bytes
        put(b"1", "a.pth", path="/models", tags=["best", "x"], metadata={"acc": 0.9, "model": "ResNet-50"})
        put(b"1" * 2000, "b.pth", path="/models", description="the baseline", metadata={"acc": 0.8, "model": "vit"})
        put(b"1" * 3000, "c.txt", path="/models/deep", tags=["bad"], metadata={"cfg": {"lr": 0.1, "a.b": 1, "x y": 2}})
        put(b"22", "d.png", tags=["best"], metadata={"acc": "high", "list": ["a", 1], "cfg.lr": 0.5, "none": None})
        put(b"22", "e", path="/models2", metadata={"acc": True})
        put(b"23", "e", path="/models2", metadata={"acc": math.nan})
        yield files


MEANS = [
    ("metadata.acc > 0.8", "a"),
    ("metadata.acc >= 0.8", "ab"),
    ("metadata.acc", "abde"),
    ("not metadata.acc", "c"),
    ("metadata.acc != 0.9", "bde"),
    ("not metadata.acc = 0.9", "bcde"),
    ("metadata.acc in (0.9, high)", "ad"),
    ("metadata.acc not in (0.9, high)", "bce"),
    ("metadata.acc < zzz", "d"),
    ("metadata.model:res*", ""),
    ("metadata.model:Res*", "a"),
    ("metadata.model ~ resnet", "a"),
    ("metadata.acc ~ 1", ""),
    ("metadata.acc:0*", ""),
    ("metadata.list ~ a", "d"),
    ("metadata.list ~ 1", "d"),
    ("metadata.list ~ true", ""),
    ("metadata.cfg ~ lr", "c"),
    ("metadata.cfg.lr > 0", "cd"),
    ('metadata.cfg."lr" > 0', "c"),
    ('metadata."cfg"."a.b" = 1', "c"),
    ("metadata.cfg.a.b = 1", ""),
    ('metadata.cfg."x y" = 2', "c"),
    ("metadata.none = null", "d"),
    ("metadata.none", "d"),
    ("metadata.missing = null", ""),
    ("tag:best", "ad"),
    ("tag:b*", "acd"),
    ("tag = best and not tag:x", "d"),
    ("tag", "acd"),
    ("not tag", "be"),
    ("tag in (x, bad)", "ac"),
    ("tag ~ AD", "c"),
    ("path:/models/**", "abc"),
    ("path:/models/", "abc"),
    ("path:*.pth", "ab"),
    ("path = /models/a.pth", "a"),
    ("path != /models/a.pth", "bcde"),
    ("path ~ DEEP", "c"),
    ("path in (/d.png, /models2/e)", "de"),
    ("name:?.pth", "ab"),
    ("name = e", "e"),
    ("size > 1k", "bc"),
    ("size >= 2000 and size < 3000", "b"),
    ("size in (1, 2)", "ade"),
    ("version > 1", "e"),
    ("version != 1", "e"),
    ("type:image/*", "d"),
    ("type = text/plain or type:image/*", "cd"),
    ("description", "b"),
    ("description ~ BASE", "b"),
    ("description != x", "b"),
    ("not description ~ base", "acde"),
    ("session = 'run 1'", "abcde"),
    ("session = vision/run", ""),
    ("session:vision/run*", "abcde"),
    ("session in ('vision/run 1', other)", "abcde"),
    ("session in ('run 1', other)", "abcde"),
    ("workspace ~ VIS and tag:x", "a"),
    ("workspace:text or tag:x", "a"),
    ("not workspace:vision", ""),
    ("uploaded > 2026-01-01", "abcde"),
    ("uploaded < 2026-01-01T00:00:00Z", ""),
    ("uploaded:20", "abcde"),
    ("updated >= 2026-01-01", "abcde"),
    ("age < 1h", "abcde"),
    ("age > 1h", ""),
    ("(tag:best or size > 2000) and not metadata.acc", "c"),
]


@pytest.mark.parametrize(("text", "expected"), MEANS, ids=[text for text, _ in MEANS])
def test_means(files, text, expected):
    assert "".join(r["filename"][0] for r in files.find(where=text)) == expected


def test_checksums_and_ids(files):
    record = files.get("/models/a.pth")
    full = record["checksum"]
    for text in (f"checksum = {full}", f"checksum:{full[:8].upper()}", f"checksum in ({full}, abcdef)"):
        assert [r["id"] for r in files.find(where=text)] == [record["id"]]
    assert len(files.find(where=f"checksum != {full}")) == 4
    assert files.find(where=f"id = {record['id']}") == [record]
    assert len(files.find(where=f"not id in ({record['id']})")) == 4


def test_together_with_keywords(files):
    assert [r["filename"] for r in files.find("*.pth", where="metadata.acc > 0", tags=["best"])] == ["a.pth"]
    best = files.find(where="metadata.acc", order="-metadata.acc", limit=1)
    assert [r["filename"] for r in best] == ["a.pth"]  # numbers come before text, in both directions


def test_every_field_is_documented():
    """The page on finding names every field and every operator."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/finding.md").read_text()
    for name in parsing.KINDS:
        assert f"`{name}" in page
    for op in ("=", "!=", "<", "<=", ">", ">=", ":", "~", "in"):
        assert f"`{op}`" in page
