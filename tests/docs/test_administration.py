"""docs/administration.md lists the indexes that a lake makes, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from dreamlake.remote import indexes

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "administration.md").read_text("utf-8")


def test_the_indexes_are_those_that_are_made() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| `([\w, ]+)`( unique)? \|", TEXT)
    told = {(collection, keys, bool(unique)) for collection, keys, unique in rows}
    made = {(index.collection, ", ".join(field for field, _ in index.keys), index.unique) for index in indexes()}
    assert told == made
