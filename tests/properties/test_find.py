"""``find`` against a plain evaluator that knows only the public records and the page on the language.

Expressions are made at random, written as text, read back, and answered by the real code over real sessions, some of
them behind a checkpoint; the evaluator looks at one record after another.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from fakes.docs import MemoryDocs
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlake import Session, open_lake
from dreamlake.catalog.documents import INDEXES, DocumentCatalog
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.catalog.memory import MemoryCatalog
from dreamlake.errors import InvalidInput
from dreamlake.operations.parsing import parse
from dreamlake.operations.query import KINDS, And, Field, Not, Or, Test
from dreamlake.ports import Ports
from dreamlake.services.mongo import MongoDocs

WORDS = ["", "a", "B", "ab", "best", "x.y", "Größe", "5", "é*", "a b"]
NUMBERS = [0, 1, -1, 2.5, 1e300, math.inf, -math.inf, 10**20]
SCALARS = [*WORDS, *NUMBERS, True, False, None]
METADATA = [
    {}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": math.nan}, {"a": None}, {"a": {"b": 2.5}}, {"a.b": 0},
    {"a": {"b": {"c": "ab"}}}, {"a": [1, "ab", None]}, {"a": {"b": "B", "x.y": 1}}, {"b": "best"},
    {"b": 10**20, "a": "x"},
]  # fmt: skip
PATHS = ["/a", "/m/a.pth", "/m/ab.pth", "/m/deep/a.txt", "/m2/Größe.png", "/m2/a b", "/B"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Three sessions; the first has more records than one checkpoint needs."""
    root = tmp_path_factory.mktemp("lake")
    tags = [[], ["a"], ["best", "a"], ["B"]]
    for number, (workspace, name) in enumerate((("w", "s"), ("w", "a b"), ("far", "s"))):
        with Session(name, workspace, local_path=root) as session:
            files = session.files()
            for i in range(len(PATHS) * (3 - number)):
                folder, _, filename = PATHS[i % len(PATHS)].rpartition("/")
                files.upload(
                    b"x" * (i % 5),
                    filename=filename,
                    path=folder or "/",
                    tags=tags[i % len(tags)],
                    description=WORDS[i] if i < len(WORDS) else None,
                    metadata=METADATA[(i * 3 + number) % len(METADATA)],
                )
    for _ in range(2):  # the first one writes checkpoints, the second one reads them
        lake = open_lake(root)
        catalog = FolderCatalog(lake.store.ports, f"{root}/.dreamlake", checkpoint_every=4)
        lake.store = replace(lake.store, catalog=catalog)
        folds = [catalog.view(key) for key in catalog.sessions()]
    assert any(fold.base is not None for fold in folds)
    return lake


def paths_into():
    plain = st.sampled_from(["a", "b", "a.b", "a.b.c", "x"])
    exact = st.sampled_from([("a", "b"), ("a.b",), ("a", "x.y"), ("a", "b", "c"), ("none",)])
    return st.one_of(plain, exact)


@st.composite
def conditions(draw):
    name = draw(st.sampled_from(sorted(KINDS)))
    kind, operators = KINDS[name]
    op = draw(st.sampled_from(operators))
    single = {
        "json": st.sampled_from(SCALARS),
        "text": st.sampled_from([*WORDS, *PATHS, "w/s", "text/plain", "*", "a*", "?", "/m/**", "/m/"]),
        "digest": st.sampled_from(
            ["e3b0c4", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "0" * 64]
        ),
        "bytes": st.integers(0, 5),
        "number": st.integers(0, 4),
        "time": st.sampled_from([0.0, 4e9]),
        "duration": st.sampled_from([0.0, 86400.0]),
    }[kind]
    if op == ":" and kind != "digest":
        single = st.sampled_from(["*", "a*", "?", "", "[ab]*", "/m/**", "/m/", "a", "20", "w/*", "*/s", "text/*", "1"])
    value = None
    if op == "in":
        value = tuple(draw(st.lists(single, min_size=1, max_size=3)))
    elif op:
        value = draw(single)
    return Test(Field(name, draw(paths_into()) if name == "metadata" else ()), op, value)


def trees():
    def more(inner):
        many = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(inner.map(Not), many.map(And), many.map(Or))

    return st.recursive(conditions(), more, max_leaves=6)


# ---- the evaluator ---------------------------------------------------------------------------------------------------


def holds(tree, record):
    if isinstance(tree, Not):
        return not holds(tree.item, record)
    if isinstance(tree, And):
        return all(holds(item, record) for item in tree.items)
    if isinstance(tree, Or):
        return any(holds(item, record) for item in tree.items)
    name, op, want = tree.field.name, tree.op, tree.value
    wants = want if op == "in" else [want]
    full = f"{record['path'].rstrip('/')}/{record['filename']}"
    if name == "metadata":
        return metadata_holds(tree.field.keys, op, want, record["metadata"])
    if name == "tag":
        return bool(record["tags"]) if not op else any(text_holds(tag, op, want) for tag in record["tags"])
    if name == "checksum":
        return any(record["checksum"].startswith(w) for w in wants) == (op != "!=")
    if name in ("size", "version"):
        have = record["sizeBytes" if name == "size" else "version"]
        return have in wants if op == "in" else compare(have, op, want)
    if name in ("uploaded", "updated"):
        have = record[name + "At"]
        return have.startswith(want) if op == ":" else compare(seconds(have), op, want)
    if name == "age":
        return compare(datetime.now(timezone.utc).timestamp() - seconds(record["uploadedAt"]), op, want)
    workspace, _, session = record["sessionId"].partition("/")
    if name == "session" and any("/" in w for w in wants):
        session = record["sessionId"]
    have = {
        "path": full, "name": record["filename"], "type": record["contentType"], "description": record["description"],
        "session": session, "workspace": workspace, "id": record["id"],
    }[name]  # fmt: skip
    if not op:
        return bool(have)
    if name == "path" and op == ":":
        return glob_holds(full, want)
    return have is not None and text_holds(have, op, want)


def text_holds(have, op, want):
    if op == "in":
        return have in want
    if op == ":":
        return fnmatch.fnmatchcase(have, want)
    if op == "~":
        return want.casefold() in have.casefold()
    return (have == want) == (op == "=")


def glob_holds(path, pattern):
    """Of the patterns that the test makes only."""
    if "/" not in pattern:
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern)
    if pattern in ("/m/**", "/m/"):
        return path.startswith("/m/")
    full = pattern if pattern.startswith("/") else "/" + pattern
    return path.count("/") == full.count("/") and fnmatch.fnmatchcase(path, full)


def metadata_holds(keys, op, want, metadata):
    have = found = object()
    if isinstance(keys, str) and keys in metadata:
        have = metadata[keys]
    else:
        here = metadata
        for key in keys.split(".") if isinstance(keys, str) else keys:
            here = here[key] if isinstance(here, dict) and key in here else found
        have = here
    if not op:
        return have is not found
    if have is found:
        return False
    if op in ("<", "<=", ">", ">="):
        return same_kind(have, want) and compare(have, op, want)
    if op == ":":
        return isinstance(have, str) and fnmatch.fnmatchcase(have, want)
    if op == "~":
        if isinstance(have, str):
            return isinstance(want, str) and want.casefold() in have.casefold()
        return isinstance(have, (list, dict)) and any(equal(item, want) for item in have)
    return any(equal(have, w) for w in want) if op == "in" else equal(have, want) == (op == "=")


def kind_of(value):
    return bool if isinstance(value, bool) else float if isinstance(value, (int, float)) else type(value)


def same_kind(a, b):
    return kind_of(a) is kind_of(b) and kind_of(a) in (float, str)


def equal(a, b):
    return kind_of(a) is kind_of(b) and a == b


def compare(a, op, b):
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "=": a == b, "!=": a != b}[op]


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


# ---- the properties --------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(trees())
def test_expressions_mean_what_the_page_says(lake, tree):
    text = str(tree)
    assert parse(text) == tree
    expected = [r["id"] for r in lake.find() if holds(tree, r)]
    assert [r["id"] for r in lake.find(where=text)] == expected


def place(value):
    if isinstance(value, (int, float)) and value == value:
        return 0
    return 1 if isinstance(value, str) else 2


FIELDS = {
    "uploaded": lambda r: (r["uploadedAt"], r["sessionId"]),
    "path": lambda r: f"{r['path'].rstrip('/')}/{r['filename']}",
    "name": lambda r: r["filename"], "size": lambda r: r["sizeBytes"], "version": lambda r: r["version"],
    "type": lambda r: r["contentType"], "workspace": lambda r: r["sessionId"].partition("/")[0],
    "session": lambda r: tuple(r["sessionId"].split("/")), "metadata.b": lambda r: r["metadata"].get("b"),
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), st.booleans()), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(0, 12)),
)
def test_orders(lake, parts, limit):
    """Several keys, each in its direction; what has none comes last, equal ones stay in the order of upload."""
    order = [("-" if descending else "") + name for name, descending in parts]
    expected = [(number, r) for number, r in enumerate(lake.find(order="session,uploaded"))]
    for name, descending in reversed(parts):
        read = FIELDS[name]
        groups = [[], [], []]
        for pair in expected:
            groups[place(read(pair[1])) if name == "metadata.b" else 0].append(pair)
        for group in groups[:2]:
            group.sort(key=lambda pair: read(pair[1]), reverse=descending)
        expected = [pair for group in groups for pair in group]
    found = lake.find(order=order, limit=limit)
    assert [r["id"] for r in found] == [r["id"] for _, r in expected][:limit]
    assert [r["id"] for r in lake.find(order=",".join(order), limit=limit)] == [r["id"] for r in found]


def catalog_of(kind, request, tmp_path):
    """An empty catalog of another kind."""
    if kind == "memory":
        return MemoryCatalog(Ports())
    docs = MemoryDocs() if kind == "documents" else MongoDocs(request.getfixturevalue("mongo_url"))
    if kind == "mongo":
        request.addfinalizer(docs.close)
    docs.ensure(INDEXES)
    return DocumentCatalog(Ports(), docs, cache=str(tmp_path / "views"), checkpoint_every=4)


@pytest.mark.parametrize("kind", ["memory", "documents", "mongo"])
def test_every_catalog_answers_alike(lake, kind, request, tmp_path):
    """The records of the folder, committed once more into a catalog of another kind."""
    catalog = catalog_of(kind, request, tmp_path)
    for session in lake.store.catalog.sessions():
        for _, record in lake.store.catalog.records(session):
            catalog.commit(catalog.claim(session, record.needs, record.entries))
    other = open_lake(lake.root)
    other.store = replace(other.store, catalog=catalog)
    order = st.lists(st.sampled_from([*FIELDS, *(f"-{name}" for name in FIELDS)]), max_size=2)

    @settings(max_examples=60, deadline=None)
    @given(trees(), order, st.one_of(st.none(), st.integers(0, 12)))
    def alike(tree, order, limit):
        ask = {"where": str(tree), "order": order or None, "limit": limit}
        assert [r["id"] for r in other.find(**ask)] == [r["id"] for r in lake.find(**ask)]

    alike()
    assert [r["id"] for r in other.find(order="session")] == [r["id"] for r in lake.find(order="session")] != []


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="metadata.xsizetagnoandri()<>=!~:'\", 1M\\*é", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        tree = parse(text)
    except InvalidInput as error:
        assert str(error).startswith("expression, column ")
    else:
        assert parse(str(tree)) == tree
