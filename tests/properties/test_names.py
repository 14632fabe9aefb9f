"""Any text as a name, a path, a tag, a pattern: it comes back as it was, or is refused and leaves nothing behind.

Nothing is ever written outside the lake, whatever the text is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.files import Files
from dreamlake.model import SessionKey, folder_path

ATTACKS = [
    "..", ".", "/", "\\", "//", "../", "/..", "..\\", "~", "~root", "\0", "\n", "\r", "\t", "\x1b[2J", "\x7f", "C:",
    "\\\\server\\share", "%2e%2e%2f", "..%c0%af", "\u2215", "\uff0e\uff0e", "\u202e", "\u200b", "\ufeff", "\u2028",
    "\ud800", "\udcff", ".dreamlake", ".DREAMLAKE", ".dreamla\u212ae", "session.json", "files", "parameters.json",
    "CON", "NUL", "*", "?", "[", "]", "[!", "**", "@", "@v1", "@best", ":", "|", "<", ">", '"', "'", "`", "$(id)",
    "${HOME}", ";", "&&", "-rf", "\u00e9", "e\u0301", "\u1e9e", "\ufb01", "\u0130", "A", "a", " ", "  ", "\u00a0",
    "\u3000", "日本", "👩\u200d🔬", "x" * 255, "é" * 128,
]  # fmt: skip
CHARACTERS = st.text(st.characters(exclude_categories=()), max_size=6)
TEXT = st.lists(CHARACTERS | st.sampled_from(ATTACKS), max_size=4).map("".join)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder whose only content is the lake, in a folder whose only content is that."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    outer = Path(tempfile.mkdtemp(prefix="dreamlake-names-", dir=memory))
    (outer / "inner").mkdir()
    with Session("s", "w", local_path=outer / "inner/lake") as session:
        session.files().upload(b"kept", filename="kept", path="/m")
    yield outer
    shutil.rmtree(outer)


@pytest.fixture(scope="module")
def files(place: Path) -> Iterator[Files]:
    with Session("s", "w", local_path=place / "inner/lake") as session:
        yield session.files()


def is_contained(place: Path) -> bool:
    """Nothing was made beside the lake, nor in it where no workspace is."""
    lake = place / "inner/lake"
    store = {"tmp", "pending", "blobs", "sessions", "quarantine", "cache", "placed", "store.json"}
    return (
        os.listdir(place) == ["inner"]
        and os.listdir(place / "inner") == ["lake"]
        and set(os.listdir(lake / ".dreamlake")) <= store | {"settings.json"}
        and len(os.listdir(lake / ".dreamlake/blobs")) == 256
        and os.listdir(lake / ".dreamlake/tmp") == os.listdir(lake / ".dreamlake/pending") == []
    )


def keys(files: Files) -> list[str]:
    return [f"{r['path'].rstrip('/')}/{r['filename']}" for r in files.list()]


# ---- sessions ----------------------------------------------------------------------------------------------------


@QUICK
@given(workspace=TEXT, name=TEXT)
@example(workspace="..", name="x")
@example(workspace="w", name="../../x")
@example(workspace=".DREAMLAKE", name="blobs")
@example(workspace="w", name="kept\0")
def test_session(place: Path, workspace: str, name: str) -> None:
    lake = place / "inner/lake"
    before = {info.key for info in open_lake(lake).sessions()}, set(os.listdir(lake))
    try:
        session = Session(name, workspace, local_path=lake)
    except ValueError:
        after = {info.key for info in open_lake(lake).sessions()}, set(os.listdir(lake))
        assert after == before
        assert is_contained(place)
        return
    with session:
        session.files().upload(name.encode(), filename="x")
        session.parameters().set(name=name)
    assert is_contained(place)
    assert SessionKey(workspace, name) in {info.key for info in open_lake(lake).sessions()}
    folder = lake / workspace / name
    assert os.path.realpath(folder).startswith(os.path.realpath(lake) + "/")
    assert name in os.listdir(lake / workspace)
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        "parameters.json",
        "runs.jsonl",
        "session.json",
    ]
    with Session(name, workspace, local_path=lake) as again:
        assert again.files().read_bytes("x") == name.encode()
        assert again.parameters().get() == {"name": name}
        assert (again.info["name"], again.info["workspace"]) == (name, workspace)


# ---- files -------------------------------------------------------------------------------------------------------


@QUICK
@given(path=TEXT, filename=TEXT)
@example(path="/a/../..", filename="x")
@example(path="/", filename="..")
@example(path="/m/kept", filename="x")
@example(path="/", filename="m")
@example(path="m:", filename="x")
def test_file(place: Path, files: Files, path: str, filename: str) -> None:
    assume(filename != "kept")
    before, stored = files.list(), sorted((place / "inner/lake/.dreamlake/blobs").rglob("*"))
    data = repr((path, filename)).encode("utf-8", "surrogatepass")
    try:
        record = files.upload(data, path=path, filename=filename)
    except ValueError as error:
        assert str(error)
        assert files.list() == before
        assert sorted((place / "inner/lake/.dreamlake/blobs").rglob("*")) == stored
        assert is_contained(place)
        return
    assert record["filename"] == filename
    assert record["path"] == folder_path(path) == folder_path(record["path"])
    key = f"{record['path'].rstrip('/')}/{filename}"
    assert files.read_bytes(key) == files.read_bytes(record) == data
    assert record in files.list(path=path)
    assert files.history(key)[0] == record
    target = Path(tempfile.mkdtemp(dir=place / "inner"))
    made = Path(files.download(record, target))
    assert (made.parent, made.name, os.listdir(target)) == (target, filename, [filename])
    shutil.rmtree(target)
    moved = files.move(key, "/moved/")
    assert isinstance(moved, dict)
    assert (moved["path"], moved["filename"]) == ("/moved", filename)
    files.delete(moved)
    assert keys(files) == ["/m/kept"]
    assert is_contained(place)


@QUICK
@given(texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
@example(texts=[("/a", "é"), ("/a", "e\u0301"), ("/A", "É")])
@example(texts=[("/x", "A"), ("/x", "a")])
def test_materialized_tree_stays_below_its_session(place: Path, texts: list[tuple[str, str]]) -> None:
    lake = place / "inner/lake"
    with Session("tree", "w", local_path=lake) as session:
        files = session.files()
        for record in files.list():
            files.delete(record)
        for path, filename in texts:
            try:
                files.upload(filename.encode("utf-8", "replace"), path=path, filename=filename)
            except ValueError:
                continue
        wanted = {f"{r['path'].rstrip('/')}/{r['filename']}"[1:]: files.read_bytes(r) for r in files.list()}
    open_lake(lake).materialize("w/tree")
    root = lake / "w/tree/files"
    assert {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()} == wanted
    assert is_contained(place)
    shutil.rmtree(root, ignore_errors=True)


@QUICK
@given(text=TEXT)
@example(text="/m/kept@v1")
@example(text="kept@")
@example(text="@")
@example(text="/")
@example(text="m")
@example(text="*")
def test_reference(place: Path, files: Files, text: str) -> None:
    """Whatever is asked for: an answer, or an error that says so; nothing changes."""
    before = files.list()
    calls: list[Any] = [files.get, files.read_bytes, files.history, files.aliases, files.open]
    if "kept" not in text:
        calls += [files.restore, files.delete, files.update]
    for call in calls:
        try:
            answer = call(text)
            answer.close() if call == files.open else None
            assert "kept" in text
        except (InvalidInput, NotFound) as error:
            assert str(error)
    with contextlib.suppress(InvalidInput):
        assert not files.exists(text) or "kept" in text
    with contextlib.suppress(InvalidInput):
        assert len(files.list(path=text)) <= 1
    assert [r["id"] for r in files.list()] == [r["id"] for r in before]
    assert is_contained(place)


@QUICK
@given(pattern=TEXT)
@example(pattern="[")
@example(pattern="/[!a-]/**/[]]")
@example(pattern="**/" * 60)
def test_pattern(files: Files, pattern: str) -> None:
    assert len(files.find(pattern)) <= 1


@QUICK
@given(pattern=TEXT)
def test_pattern_of_a_name_finds_it(files: Files, pattern: str) -> None:
    """Escaped as the standard library escapes, every name finds itself."""
    import glob

    try:
        record = files.upload(b"x", filename=pattern, path="/patterns")
    except ValueError:
        assume(False)
    try:
        for text in (glob.escape(pattern), "/patterns/" + glob.escape(pattern), "/**/" + glob.escape(pattern)):
            assert record in files.find(text)
    finally:
        files.delete(record)


# ---- what is said about them -------------------------------------------------------------------------------------


@QUICK
@given(tags=st.lists(TEXT, max_size=3), description=TEXT, key=TEXT, value=TEXT)
def test_text_about_a_file_comes_back(
    place: Path, files: Files, tags: list[str], description: str, key: str, value: str
) -> None:
    before = files.list()
    try:
        record = files.upload(b"x", filename="about", tags=tags, description=description, metadata={key: value})
    except ValueError as error:
        assert "surrogate" in str(error) or "limit" in str(error)
        assert (
            any(unicodedata.category(c) == "Cs" for c in "".join([*tags, description, key, value])) or len(value) > 500
        )
        assert files.list() == before
        assert is_contained(place)
        return
    assert record["tags"] == list(dict.fromkeys(tags))
    assert (record["description"], record["metadata"]) == (description, {key: value})
    assert files.get(record) == record
    for tag in tags:
        assert record in files.list(tags=[tag])
        assert record in files.find(all_tags=[tag])
    assert record in files.find(metadata={key: {"==": value}})
    files.delete(record)


@QUICK
@given(name=TEXT)
@example(name="v1")
@example(name="best")
@example(name="é" * 128)
def test_alias(place: Path, files: Files, name: str) -> None:
    try:
        files.alias("/m/kept", name)
    except ValueError as error:
        assert "alias" in str(error)
        assert files.aliases("/m/kept") == {}
        return
    try:
        assert files.aliases("/m/kept") == {name: 1}
        assert files.read_bytes(f"/m/kept@{name}") == b"kept"
        with Session("s", "w", local_path=place / "inner/lake") as again:
            assert again.files().read_bytes(f"/m/kept@{name}") == b"kept"
    finally:
        files.alias("/m/kept", name, remove=True)
