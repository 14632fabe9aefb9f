"""How addresses are taken apart, and what is said of those that cannot be."""

from __future__ import annotations

import pytest

from dreamlake.cli.addresses import parse
from dreamlake.cli.completing import next_steps
from dreamlake.cli.listing import local_moment, metadata_condition, parse_size
from dreamlake.cli.output import safe, size, width
from dreamlake.cli.transfer import parse_metadata
from dreamlake.errors import InvalidInput
from dreamlake.model import literal
from dreamlake.operations.globs import path_test


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vision", ("vision", None, None)),
        ("vision/", ("vision", None, None)),
        ("vision/run 1", ("vision", "run 1", None)),
        ("vision/run 1/", ("vision", "run 1", None)),
        ("vision/run:1", ("vision", "run:1", None)),
        ("a:b/c:d", ("a:b", "c:d", None)),
        ("a:/c", ("a:", "c", None)),
        ("vision/run 1:/", ("vision", "run 1", "/")),
        ("vision/run 1:/a/b.txt", ("vision", "run 1", "/a/b.txt")),
        ("vision/run::/a", ("vision", "run:", "/a")),
        ("vision/r:/a:/b", ("vision", "r", "/a:/b")),
        ("vision/r:/a@v3", ("vision", "r", "/a@v3")),
        ("vision/r:/**/*.pth", ("vision", "r", "/**/*.pth")),
        ("v/r://a", ("v", "r", "//a")),
    ],
)
def test_parse(text: str, expected: tuple[str, str | None, str | None]) -> None:
    assert parse(text)[1:4] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("/a/b", "begins with a slash"),
        ("v//a", "no ':'.*"),
        ("v/r/models/a.pth", "'v/r:/models/a.pth'"),
        ("v/r/a:/b", "'v/r:/a:/b'"),
        ("v/:/a", "'v/:/a' has no session|no ':'"),
        ("v/..:/a", "'..' is not allowed"),
        ("v/r\x07:/a", "unprintable"),
        (".dreamlake/r", "reserved"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(text)


def test_what_an_address_lacks() -> None:
    with pytest.raises(InvalidInput, match="names a workspace"):
        _ = parse("vision").key
    with pytest.raises(InvalidInput, match=r"e\.g\. v/r:/best\.pth"):
        _ = parse("v/r:best.pth").file
    with pytest.raises(InvalidInput, match=r"e\.g\. v/r:/path"):
        _ = parse("v/r").file


def test_a_literal_pattern_matches_only_itself() -> None:
    odd = "/a[1]*?.txt"
    assert path_test(literal(odd))(odd)
    assert not path_test(literal(odd))("/a1x.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss<0.5", ("loss", {"<": 0.5})),
        ("loss <= 1", ("loss", {"<=": 1})),
        ("model=resnet", ("model", {"==": "resnet"})),
        ("a.b==true", ("a.b", {"==": True})),
        ("x!=null", ("x", {"!=": None})),
        ("name", ("name", {"exists": True})),
        ("q>=a=b", ("q", {">=": "a=b"})),
    ],
)
def test_metadata_conditions(text: str, expected: tuple[str, dict[str, object]]) -> None:
    assert metadata_condition(text) == expected


@pytest.mark.parametrize("text", ["", "<3", "=", " "])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(InvalidInput, match="condition"):
        metadata_condition(text)


def test_sizes() -> None:
    assert [parse_size(t) for t in ("10", "10k", "1.5M", "2GiB", "1 TB", "7b")] == [
        10, 10240, 1572864, 2 << 30, 1 << 40, 7,
    ]  # fmt: skip
    for bad in ("", "ten", "-1", "1X", "1..5M"):
        with pytest.raises(InvalidInput, match="size"):
            parse_size(bad)
    assert [size(n) for n in (0, 1023, 1024, 10 << 20, 1023 << 20, (1 << 30) - 1, 5 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "10.0 MiB", "1.0 GiB", "1.0 GiB", "5.0 TiB",
    ]  # fmt: skip


def test_metadata_options() -> None:
    assert parse_metadata([]) is None
    assert parse_metadata(["lr=0.1", "name=a=b", '{"x": [1]}', "lr=2", "flag=true"]) == {
        "lr": 2, "name": "a=b", "x": [1], "flag": True,
    }  # fmt: skip
    for bad in ("lr", "=1", "{1", "[1]"):
        with pytest.raises(InvalidInput, match="--metadata"):
            parse_metadata([bad])


def test_times_without_a_zone_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert local_moment("2026-01-31T12:00").utctimetuple()[3] == 3
        assert local_moment("2026-01-31T12:00Z").utctimetuple()[3] == 12
    finally:
        monkeypatch.undo()
        time.tzset()
    with pytest.raises(InvalidInput, match="ISO-8601"):
        local_moment("noon")


def test_text_on_a_terminal() -> None:
    assert safe("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"
    assert safe("größe 日本 👍") == "größe 日本 👍"
    assert [width(t) for t in ("abc", "日本", "u\u0308")] == [3, 4, 1]


def test_completion_goes_folder_by_folder() -> None:
    keys = ["/a.txt", "/models/best.pth", "/models/deep/x", "/models2/y"]
    assert next_steps(keys, "/") == ["/a.txt", "/models/", "/models2/"]
    assert next_steps(keys, "/models/") == ["/models/best.pth", "/models/deep/"]
    assert next_steps(keys, "/x") == []
