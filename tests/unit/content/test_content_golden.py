"""Golden files: whatever was ever stored must read for ever, and is written the same way by the same libraries."""

from __future__ import annotations

import json

import pytest
import zstandard
from content_golden import FOLDER, INDEX, MAKERS, base_of, golden_recipe, plain_of

from dreamlake.content import codecs, recipe

NAMES = sorted(json.loads(INDEX.read_text()))
PARTS = [name for name in NAMES if name != "recipe"]


def test_no_golden_file_is_forgotten() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.bin")) == NAMES == sorted(MAKERS)


@pytest.mark.parametrize("name", PARTS)
def test_golden_parts_decode(name: str) -> None:
    stored = (FOLDER / f"{name}.bin").read_bytes()
    key = json.loads(INDEX.read_text())[name]["plain"]
    plain = plain_of(name)
    assert codecs.part_key(plain) == key, "the formula of the content has changed, not the format"
    base = base_of(name)

    def fetch_base(wanted: str, size: int) -> bytes | memoryview:
        known = base if wanted == base.key else base.before
        assert known is not None and (wanted, size) == (known.key, len(known.plain))
        return known.plain

    assert codecs.decode_part(stored, len(plain), fetch_base) == plain


def test_golden_recipe_decodes() -> None:
    assert recipe.decode((FOLDER / "recipe.bin").read_bytes()) == golden_recipe()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_libraries_store_the_same_bytes(name: str) -> None:
    recorded = json.loads(INDEX.read_text())[name]["zstd"]
    made = MAKERS[name]()
    if list(zstandard.ZSTD_VERSION) == recorded:
        assert made == (FOLDER / f"{name}.bin").read_bytes()
    else:
        assert made == MAKERS[name]()
