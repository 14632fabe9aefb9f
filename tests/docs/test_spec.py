"""SPEC.md is the truth: its tables agree with the code, and what the code cites exists in it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dreamlake import errors, folder_store
from dreamlake.catalog import entries
from dreamlake.content import frame

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "SPEC.md").read_text("utf-8")
SOURCES = [
    p for folder in ("dreamlake", "tests", "tools") for p in (ROOT / folder).rglob("*.py") if p != Path(__file__)
]


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    section = re.split(r"(?m)^#+ ", SPEC.partition(f"\n## {heading}\n")[2])[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def found(dotted: str) -> Any:
    """The object that ``catalog.folder.FolderCatalog.FSYNC_LOG`` names."""
    names = dotted.strip("`").split(".")
    for split in range(len(names) - 1, 0, -1):
        try:
            value = import_module(".".join(["dreamlake", *names[:split]]))
        except ModuleNotFoundError:
            continue
        for name in names[split:]:
            value = getattr(value, name)
        return value
    raise AssertionError(f"nothing is called {dotted}")


@pytest.mark.parametrize("row", rows("Limits"), ids=lambda row: row[2])
def test_limit_is_what_the_code_has(row: list[str]) -> None:
    number = re.match(r"[\d,]+", row[1])
    assert number is not None
    assert int(number.group().replace(",", "")) == found(row[2])


def test_every_limit_of_the_code_is_listed() -> None:
    listed = {row[2].strip("`").rpartition(".")[2] for row in rows("Limits")}
    for name in ("model", "values", "catalog.record", "parameters", "tracks", "journal.names", "operations.commit"):
        limits = {
            limit for limit in vars(import_module(f"dreamlake.{name}")) if limit.startswith(("MAX_", "DEFAULT_MAX"))
        }
        assert limits <= listed, name


def test_errors_are_all_listed_with_their_exit_codes() -> None:
    table = {row[0].strip("`"): row for row in rows("Errors")}
    assert set(table) == set(errors.__all__)
    for name, row in table.items():
        error = getattr(errors, name)
        assert int(row[2]) == error.exit_code
        for builtin in re.findall(r"\w+", row[1]):
            assert issubclass(
                error, __builtins__[builtin] if isinstance(__builtins__, dict) else getattr(__builtins__, builtin)
            )


def test_operations_are_all_listed() -> None:
    section = SPEC.partition("\n## Records\n")[2].partition("\n## ")[0]
    table = section.rpartition("| op | fields | meaning |")[2]
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", table)) == entries.OPS


@pytest.mark.parametrize("row", rows("Mutation switches"), ids=lambda row: row[0])
def test_mutation_switch_exists_and_is_on(row: list[str]) -> None:
    assert found(row[0]) is True


CLASSES = (
    "catalog.folder.FolderCatalog",
    "catalog.documents.DocumentCatalog",
    "blobs.folder.FolderBlobs",
    "blobs.objects.ObjectBlobs",
    "blobs.publishing.Publisher",
    "blobs.sweeping.Sweep",
)


def test_every_mutation_switch_is_listed() -> None:
    listed = {row[0].strip("`").rpartition(".")[2] for row in rows("Mutation switches")}
    homes = [import_module(f"dreamlake.{name}") for name in ("operations.commit", "operations.collect")]
    for home in [*homes, *map(found, CLASSES)]:
        assert {name for name, value in vars(home).items() if value is True and name.isupper()} <= listed


def test_store_folders_are_all_shown() -> None:
    section = SPEC.partition("\n## Folder layout\n")[2].partition("\n## ")[0]
    for name in folder_store.SUBDIRS:
        assert re.search(rf"(?m)^        {name}/", section), name


def test_frame_magic_and_kinds() -> None:
    assert frame.MAGIC.hex(" ").upper() in SPEC
    assert ", ".join(f"{kind.value} {kind.name.lower()}" for kind in frame.Kind) in SPEC


def test_cited_numbers_are_stated() -> None:
    stated = set(re.findall(r"\*\*([IRUAG]\d{1,2})\b", SPEC))
    wanted = {f"I{n}" for n in range(1, 13)} | {f"R{n}" for n in range(1, 11)}
    assert wanted | {f"G{n}" for n in range(7)} | {f"U{n}" for n in range(4)} <= stated
    for source in SOURCES:
        for cited in re.findall(r"[(, ]([IRG]\d{1,2})(?=[),.: ])", source.read_text("utf-8")):
            assert cited in stated, f"{source.name} cites {cited}"


def test_cited_sections_exist() -> None:
    headings = set(re.findall(r"(?m)^##+ (.+)$", SPEC))
    for source in SOURCES:
        for cited in re.findall(r'SPEC "([^"]+)"', source.read_text("utf-8")):
            assert cited in headings, f"{source.name} cites {cited}"
