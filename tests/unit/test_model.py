"""Names, paths, references, tags: what is legal, what is one and the same, and what every refusal says."""

from __future__ import annotations

import itertools
import unicodedata

import pytest

from dreamlake import model
from dreamlake.errors import InvalidInput, InvalidType

GOOD_NAMES = [
    "run-1",
    "résumé",
    "日本語",
    "👩‍🔬 lab",  # joined by U+200D
    "with spaces  inside",
    " leading",
    "trailing ",
    ".hidden",
    "...",
    "..a",
    "a..",
    "dreamlake",
    ".dream",
    "-rf",
    "*?<>|\":'`$;&",
    "C:",
    "@",
    "a@b",
    "~",
    "CON",
    "x" * 255,
    "é" * 127,
]
BAD_NAMES = [
    ("", "empty"),
    (" ", "empty"),
    ("\u2003\u00a0", "empty"),
    (".", "leave its folder"),
    ("..", "leave its folder"),
    ("a/b", "separator"),
    ("/", "separator"),
    ("../x", "separator"),
    ("a\\b", "separator"),
    ("a\0b", "U\\+0000"),
    ("a\nb", "U\\+000A"),
    ("a\rb", "U\\+000D"),
    ("a\tb", "U\\+0009"),
    ("\x1b[31m", "U\\+001B"),
    ("\x7f", "U\\+007F"),
    ("a\x85b", "U\\+0085"),
    ("a\u2028b", "U\\+2028"),
    ("a\u2029b", "U\\+2029"),
    ("\ud800", "U\\+D800"),
    ("a\udcff", "U\\+DCFF"),
    ("x" * 256, "256 bytes"),
    ("é" * 128, "256 bytes"),
    ("x" * 1_000_000, "the limit is 255"),
    (".dreamlake", "reserved"),
    (".dreamlake-old", "reserved"),
    (".DreamLake", "reserved"),  # one folder with the store where case does not count
    (".dreamla\u212ae", "reserved"),  # KELVIN SIGN: K in every normal form
    (".dream\u200clake", "reserved"),  # some file systems ignore such characters in names
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_name_is_returned_as_it_is(name):
    assert model.check_name(name, "name") == name
    assert model.session_key(name, name, name) == (name, name, name)
    assert model.file_key("/", name) == "/" + name


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES, ids=lambda value: ascii(value)[:20])
def test_bad_name_is_refused_with_a_reason(name, reason):
    for check in (
        lambda: model.check_name(name, "name"),
        lambda: model.session_key(name, "ok"),
        lambda: model.session_key("ok", name),
        lambda: model.file_key("/", name),
    ):
        with pytest.raises(InvalidInput, match=reason) as caught:
            check()
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", [None, 5, b"x", ["x"], 1.5])
def test_name_of_another_type(name):
    with pytest.raises(InvalidType, match=f"workspace must be text, not {type(name).__name__}"):
        model.session_key(name, "x")
    with pytest.raises(TypeError, match="session name must be text"):
        model.session_key("x", name)


def test_error_says_which_name():
    with pytest.raises(ValueError, match="workspace '\\.\\.'"):
        model.session_key("..", "x")
    with pytest.raises(ValueError, match="session name '\\.\\.'"):
        model.session_key("x", "..")


def test_sids_of_all_spellings_differ():
    spellings = ["a", "A", "é", unicodedata.normalize("NFD", "é"), "É", "ﬁ", "fi", "a "]
    keys = [model.SessionKey(w, n) for w, n in itertools.product(spellings, spellings)]
    assert len({key.sid for key in keys}) == len(keys)
    assert model.SessionKey("ab", "c").sid != model.SessionKey("a", "bc").sid


def test_a_session_of_a_namespace():
    mine, own = model.session_key("w", "s", "ana"), model.session_key("w", "s")
    assert (str(mine), mine.full, own.full) == ("w/s", "ana/w/s", "w/s")
    assert (mine.parts, own.parts) == (("w", "s", "ana"), ("w", "s"))
    assert len({mine.sid, own.sid, model.SessionKey("s", "ana", "w").sid, model.SessionKey("w", "ana", "s").sid}) == 4
    assert own.sid == "a74bc9f857e039f2b33e3c81651c1b4f"  # as in every lake that exists
    assert sorted([mine, own, model.SessionKey("a", "z", "zoe")])[0].namespace == "zoe"


FOLDERS = [
    ("/", "/"),
    ("", "/"),
    (".", "/"),
    ("//", "/"),
    ("/models", "/models"),
    ("models", "/models"),
    ("/models/", "/models"),
    ("models/", "/models"),
    ("//models//", "/models"),
    ("./models", "/models"),
    ("/models/.", "/models"),
    ("a/b/c", "/a/b/c"),
    ("a//b/./c/", "/a/b/c"),
    ("/a b/ c", "/a b/ c"),
    ("/été/日本", "/été/日本"),
    ("/.hidden/...", "/.hidden/..."),
]


@pytest.mark.parametrize(("written", "normal"), FOLDERS)
def test_folder_has_one_normal_form(written, normal):
    assert model.folder_path(written) == normal
    assert model.folder_path(normal) == normal


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "/..",
        "a/..",
        "../a",
        "a/../b",
        "/a/b/..",
        "a\0b",
        "a\\b",
        "..\\x",
        "\\\\server\\share",
        "C:",
        "C:/x",
        "c:\\x",
    ]
    + [f"a{c}b" for c in '<>:"|?*\\\x00\x01\n\x7f\u2028\ud800']
    + ["a/ /b", "x" * 256, "a/" * 65, ("x" * 200 + "/") * 11, "/.dreamlake", "a/.DREAMLAKE/b"],
)
def test_bad_folder_is_refused(path):
    with pytest.raises(InvalidInput) as caught:
        model.folder_path(path)
    assert ascii(path[:10])[1:-1].split("\\")[0] in ascii(str(caught.value))  # names it
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("path", [None, 5, b"/x", ["x"]])
def test_folder_of_another_type(path):
    with pytest.raises(InvalidType, match="path must be text"):
        model.folder_path(path)
    with pytest.raises(InvalidType, match="path must be text"):
        model.parse_key(path)


def test_depth_and_length_limits_are_exact():
    assert model.folder_path("a/" * 64).count("/") == 64
    assert model.file_key("a/" * 63, "x").count("/") == 64
    with pytest.raises(InvalidInput, match="65 folders deep; the limit is 64"):
        model.file_key("a/" * 64, "x")
    folder = "/".join(["x" * 255] * 7) + "/"  # 1792 characters, and a slash in front
    assert len(model.file_key(folder, "y" * 255)) == 2048
    with pytest.raises(InvalidInput, match="more than 2048 bytes"):
        model.file_key(folder + "z", "y" * 254)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("/models/best.pth", "/models/best.pth"),
        ("models/best.pth", "/models/best.pth"),
        ("best.pth", "/best.pth"),
        ("//models///best.pth", "/models/best.pth"),
        ("models/best.pth/", "/models/best.pth"),
        ("m/a:b?.txt", "/m/a:b?.txt"),  # a file name may hold what a folder may not
        ("m/a@b", "/m/a@b"),
    ],
)
def test_key_of_a_file(written, key):
    assert model.parse_key(written) == key
    assert model.parse_key(key) == key
    folder, name = model.split_key(key)
    assert model.file_key(folder, name) == key


@pytest.mark.parametrize("path", ["", "/", "//", "..", "a/..", ".", "/a/.", "a:b/c", "a\\b", "a/b\0"])
def test_bad_key(path):
    with pytest.raises(InvalidInput):
        model.parse_key(path)


def test_ancestors_and_below():
    assert model.ancestors("/a/b/c") == ["/a/b", "/a"]
    assert model.ancestors("/a") == []
    assert model.below("/") == "/"
    assert model.below("/models") == "/models/"
    assert not "/models2/x".startswith(model.below("/models"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/m/x.pth", ("/m/x.pth", None)),
        ("/m/x.pth@best", ("/m/x.pth", "best")),
        ("/m/x.pth@v3", ("/m/x.pth", "v3")),
        ("/m/a@b.txt@best", ("/m/a@b.txt", "best")),
        ("/m@x/y", ("/m@x/y", None)),
        ("@best", ("@best", None)),
        ("x@", ("x@", None)),
        ("x@a b", ("x@a b", None)),
    ],
)
def test_reference(text, parts):
    assert model.split_reference(text) == parts


def test_version_number():
    assert [model.version_number(t) for t in ("v1", "v12", "v0", "best", "v", "v1a", "V1", "v" + "9" * 30)] == [
        1, 12, 0, None, None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["best", "production-2", "a.b", "ü", "v", "v1a", "x" * 128])
def test_good_alias(name):
    assert model.check_alias(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a@b", "a/b", "a\\b", "x" * 129, "a\n", "\0", "a\x1b", "\ud800", "\u2028"]
)
def test_bad_alias(name):
    with pytest.raises(ValueError, match=r"alias .* must be 1 to 128 printable characters"):
        model.check_alias(name)


@pytest.mark.parametrize("name", [None, 5, b"x"])
def test_alias_of_another_type(name):
    with pytest.raises(InvalidType, match=f"alias must be text, not {type(name).__name__}"):
        model.check_alias(name)


@pytest.mark.parametrize("name", ["v1", "v0", "v123"])
def test_alias_that_looks_like_a_version(name):
    with pytest.raises(InvalidInput, match="would hide the version"):
        model.check_alias(name)


def test_tags():
    assert model.check_tags(None) == []
    assert model.check_tags(["b", "a", "b"]) == ["b", "a"]
    assert model.check_tags(t for t in ("x", "y")) == ["x", "y"]
    assert model.check_tags(("ü", "a b", "")) == ["ü", "a b", ""]
    assert len(model.check_tags(map(str, range(256)))) == 256


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("best", r"write tags=\['best'\]"),
        (b"best", "must be a list"),
        (5, "tags must be a list of text, not int"),
        ([1], "tag 1 must be text, not int"),
        ([None], "tag None must be text"),
        ([["a"]], r"tag \['a'\] must be text, not list"),
        ([{}], "must be text, not dict"),
        (["ok", b"x"], "must be text, not bytes"),
    ],
)
def test_tags_of_another_type(tags, message):
    with pytest.raises(InvalidType, match=message):
        model.check_tags(tags)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([str(n) for n in range(257)], "257 tags; the limit is 256"),
        (["x" * 1025], "1,025 bytes; the limit is 1,024"),
        (["\ud800"], "not valid Unicode"),
    ],
)
def test_tags_over_a_limit(tags, message):
    with pytest.raises(InvalidInput, match=message):
        model.check_tags(tags)


def test_description():
    assert model.check_description(None) is None
    assert model.check_description("") == ""
    assert model.check_description("line\nline\t\0 ü") == "line\nline\t\0 ü"
    assert model.check_description("x" * 65536) == "x" * 65536
    for bad, error in (("x" * 65537, InvalidInput), ("\ud800", InvalidInput), (5, InvalidType), (b"x", InvalidType)):
        with pytest.raises(error, match="description"):
            model.check_description(bad)


def test_digest():
    assert model.is_digest("0" * 64)
    for text in ("0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", ""):
        assert not model.is_digest(text)
