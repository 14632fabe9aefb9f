"""Is this content stored, and may a new reference rely on it? Every blob that its form needs is looked at (R2).

A hit on a recipe is no hit on its parts, nor a hit on a difference one on its base: all of them are looked at, every
time, and each is resurrected if a collector has condemned it. The answer names all these blobs, because a claim has
to name everything that a reference relies on (R1).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from dreamlake.blobs import Blobs
from dreamlake.content import codecs, frame, reading, recipe
from dreamlake.content.assembled import MAX_RECIPE_BYTES, part_needs, read_recipe, recipe_key, stored_part
from dreamlake.content.chunking import MIN_FILE
from dreamlake.errors import Corrupt, NotFound

_UNKNOWN_SIZE = -1  # of a stored form: then the proof decides


def rely(blobs: Blobs, digest: str, size: int, *, resurrect: bool = True) -> list[str] | None:
    """The blobs that make up a stored content, each looked at; None when it must be published.

    Args:
        resurrect: also bring back what a collector has condemned.
    """
    if blobs.look(digest, size, reading.proof(digest), resurrect=resurrect):
        return [digest]
    if size < MIN_FILE:
        return None  # never stored as a recipe
    return rely_on_recipe(blobs, digest, size, resurrect=resurrect)


def rely_on_recipe(blobs: Blobs, digest: str, size: int, *, resurrect: bool = True) -> list[str] | None:
    """Like ``rely``, but a whole copy does not count."""

    def prove(stream: BinaryIO) -> bool:
        try:
            found = recipe.decode(frame.read_up_to(stream, MAX_RECIPE_BYTES))
        except ValueError:
            return False
        return found.sha256 == digest and found.size == size

    key = recipe_key(digest)
    if not blobs.look(key, _UNKNOWN_SIZE, prove, resurrect=resurrect):
        return None
    try:
        parts = read_recipe(blobs, digest, size).parts
    except (NotFound, Corrupt):
        return None
    keys = {digest: None, key: None}
    for part in parts:
        chain = rely_on_part(blobs, part.key, part.size, resurrect=resurrect)
        if chain is None:
            return None
        keys.update(dict.fromkeys(chain))
    return list(keys)


def rely_on_part(blobs: Blobs, key: str, size: int, *, resurrect: bool = True) -> list[str] | None:
    """A part and every part that decoding it needs, each looked at; None if one is missing or too many are needed."""
    found: dict[str, None] = {}

    def visit(key: str, size: int, left: int) -> bool:
        if key in found:
            return True
        if left < 0 or len(found) > codecs.MAX_READS:
            return False  # damaged blobs may need each other in a circle
        if not blobs.look(key, _UNKNOWN_SIZE, _part_proof(blobs, key, size), resurrect=resurrect):
            return False
        try:
            needs = part_needs(blobs, key)
        except (NotFound, Corrupt):
            return False
        if not all(visit(*need, left - 1) for need in needs):
            return False
        found[key] = None
        return True

    return list(found) if visit(key, size, codecs.MAX_DEPTH) else None


def _part_proof(blobs: Blobs, key: str, size: int) -> Callable[[BinaryIO], bool]:
    """Cheap while the tamper mark is intact: the frame must be whole. Otherwise the part is decoded."""

    def prove(stream: BinaryIO) -> bool:
        stored_size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        head = frame.read_up_to(stream, frame.PREFIX_SIZE + frame.MAX_HEADER)
        try:
            if frame.is_framed(head):
                if frame.parse(head, stored_size).plain_size != size:
                    return False
            elif stored_size != size:
                return False
            return blobs.sealed(key) or bool(codecs.read_part(key, size, lambda k: stored_part(blobs, k)))
        except (NotFound, Corrupt):
            return False

    return prove
