"""Is this content stored, and may a new reference rely on it? Every blob that its form needs is looked at (R2).

A hit on a recipe is no hit on its parts, nor a hit on a difference one on its base: all of them are looked at, every
time, and each is resurrected if a collector has condemned it. The answer names all these blobs, because a claim has
to name everything that a reference relies on (R1). Many are looked at together, level by level: files, recipes, parts,
their bases, the bases of those.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from dreamlake.blobs import Blobs, Proof, Wanted
from dreamlake.content import codecs, frame, reading, recipe
from dreamlake.content.assembled import (
    MAX_RECIPE_BYTES,
    _needs_of,
    part_needs,
    recipe_at,
    stored_part,
)
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.names import RECIPES, recipe_key, recipe_keys
from dreamlake.errors import Corrupt, NotFound
from dreamlake.rawio import read_up_to

Content = tuple[str, int]  # digest, or key of a part, and plain bytes
_HEADER_SIZE = struct.Struct("<32xI")  # of a frame


def rely(blobs: Blobs, digest: str, size: int, *, resurrect: bool = True) -> list[str] | None:
    """The blobs that make up a stored content, each looked at; None when it must be published.

    Args:
        resurrect: also bring back what a collector has condemned.
    """
    return rely_all(blobs, [(digest, size)], resurrect=resurrect)[0]


def rely_all(blobs: Blobs, contents: Sequence[Content], *, resurrect: bool = True) -> list[list[str] | None]:
    """``rely`` on many."""
    wanted = [Wanted(digest, size, reading.proof(digest)) for digest, size in contents]
    hits = blobs.look_all(wanted, resurrect=resurrect)
    found = [[digest] if hit else None for (digest, _), hit in zip(contents, hits, strict=True)]
    coded = [i for i, content in enumerate(contents) if found[i] is None and content[1] >= MIN_FILE]
    if coded:  # smaller ones are never stored as recipes
        forms = rely_on_recipes(blobs, [contents[i] for i in coded], resurrect=resurrect)
        for i, form in zip(coded, forms, strict=True):
            found[i] = form
    return found


def rely_on_recipe(
    blobs: Blobs, digest: str, size: int, *, resurrect: bool = True, places: Sequence[str] | None = None
) -> list[str] | None:
    """Like ``rely``, but a whole copy does not count.

    Args:
        places: which recipes of it count; all when None.
    """
    for key in recipe_keys(digest) if places is None else places:
        found = _rely_at(blobs, [(key, size)], resurrect)[0]
        if found is not None:
            return found
    return None


def rely_on_recipes(blobs: Blobs, contents: Sequence[Content], *, resurrect: bool = True) -> list[list[str] | None]:
    """``rely_on_recipe`` for many."""
    keys = [(key, size) for digest, size in contents for key in recipe_keys(digest)]
    forms = iter(_rely_at(blobs, keys, resurrect=False))
    found = [next(filter(None, [next(forms) for _ in RECIPES]), None) for _ in contents]
    for slot in range(len(RECIPES)) if resurrect else ():  # what is not there otherwise: one that is dropped may go
        left = [i for i, form in enumerate(found) if form is None]
        wanted = [(recipe_key(contents[i][0], slot), contents[i][1]) for i in left]
        for i, form in zip(left, _rely_at(blobs, wanted, resurrect=True), strict=True):
            found[i] = form
    return found


def _rely_at(blobs: Blobs, recipes: Sequence[Content], resurrect: bool) -> list[list[str] | None]:
    """The blobs of contents (key of the recipe, plain bytes) that are complete in exactly these places."""
    wanted = [Wanted(key, None, _recipe_proof(key[-64:], size)) for key, size in recipes]
    parts: list[list[Content] | None] = []
    for (key, size), hit in zip(recipes, blobs.look_all(wanted, resurrect=resurrect), strict=True):
        try:
            parts.append([(p.key, p.size) for p in recipe_at(blobs, key, size).parts] if hit else None)
        except (NotFound, Corrupt):
            parts.append(None)
    chains = rely_on_parts(blobs, [part for listed in parts for part in listed or ()], resurrect=resurrect)
    found: list[list[str] | None] = []
    for (key, _), listed in zip(recipes, parts, strict=True):
        needed = None if listed is None else [chains[part] for part in listed]
        if needed is None or None in needed:
            found.append(None)
        else:
            forms = [form for chain in needed for form in chain or ()]
            found.append(list(dict.fromkeys([key[-64:], key, *forms])))
    return found


def _recipe_proof(digest: str, size: int) -> Proof:
    def prove(stream: BinaryIO) -> bool:
        try:
            found = recipe.decode(read_up_to(stream, MAX_RECIPE_BYTES))
        except ValueError:
            return False
        return found.sha256 == digest and found.size == size

    return prove


def rely_on_part(blobs: Blobs, key: str, size: int, *, resurrect: bool = True) -> list[str] | None:
    """A part and every part that decoding it needs, each looked at; None if one is missing or too many are needed."""
    return rely_on_parts(blobs, [(key, size)], resurrect=resurrect)[key, size]


def rely_on_parts(blobs: Blobs, parts: Iterable[Content], *, resurrect: bool = True) -> dict[Content, list[str] | None]:
    """``rely_on_part`` for many."""
    asked = list(dict.fromkeys(parts))
    needs: dict[Content, list[Content] | None] = {}  # None: not there
    level = asked
    for _ in range(codecs.MAX_DEPTH + 1):
        if not level:
            break
        wanted = [Wanted(key, None, _part_proof(blobs, key, size), _part_check(size)) for key, size in level]
        hits = blobs.look_all(wanted, resurrect=resurrect)
        needs.update(dict.fromkeys(level))
        there = [part for part, hit in zip(level, hits, strict=True) if hit]
        needs.update(zip(there, parts_needs(blobs, [key for key, _ in there]), strict=True))
        level = list(dict.fromkeys(need for part in there for need in needs[part] or () if need not in needs))
    return {part: _chain(needs, part) for part in asked}


def _chain(needs: dict[Content, list[Content] | None], part: Content) -> list[str] | None:
    """A part, after all that it needs; None if something is missing."""
    found: dict[str, None] = {}

    def visit(part: Content, left: int) -> bool:
        if part[0] in found:
            return True
        wanted = needs.get(part)
        if wanted is None or left < 0 or len(found) > codecs.MAX_READS:
            return False  # damaged blobs may need each other in a circle
        if not all(visit(need, left - 1) for need in wanted):
            return False
        found[part[0]] = None
        return True

    return list(found) if visit(part, codecs.MAX_DEPTH) else None


def parts_needs(blobs: Blobs, keys: Sequence[str]) -> list[list[Content] | None]:
    """The parts (key, plain bytes) that each stored part needs for decoding; None where that cannot be told."""
    found: list[list[Content] | None] = []
    for key, head in zip(keys, blobs.heads(keys), strict=True):
        try:
            if head is None:
                found.append(None)
            elif frame.is_framed(head) and len(head) < frame.PREFIX_SIZE + _HEADER_SIZE.unpack_from(head)[0]:
                found.append(part_needs(blobs, key))
            else:
                found.append(_needs_of(head))
        except (NotFound, Corrupt, struct.error):
            found.append(None)
    return found


def _part_check(size: int) -> Proof:
    """A whole frame, or raw bytes, of so many plain bytes: for a part whose tamper mark is intact."""

    def check(stream: BinaryIO) -> bool:
        stored_size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        head = read_up_to(stream, frame.PREFIX_SIZE)
        try:
            if not frame.is_framed(head):
                return stored_size == size
            head += read_up_to(stream, min(frame.MAX_HEADER, _HEADER_SIZE.unpack_from(head)[0]))
            return frame.parse(head, stored_size).plain_size == size
        except (Corrupt, struct.error):
            return False

    return check


def _part_proof(blobs: Blobs, key: str, size: int) -> Proof:
    """The same, and it can be decoded."""
    check = _part_check(size)

    def prove(stream: BinaryIO) -> bool:
        try:
            return check(stream) and codecs.read_part(key, size, lambda k: stored_part(blobs, k)) is not None
        except (NotFound, Corrupt):
            return False

    return prove
