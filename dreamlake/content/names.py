"""Names of blobs and what they say of the form stored under them (SPEC "Blobs"). No I/O.

    X            a content of SHA-256 X, whole
    rc-X, rt-X   the same as a recipe
    b3-Y, t3-Y   a part whose plain bytes have the BLAKE3 Y

Recipes and parts have two *slots* each, so that a chain of differences can be turned round although a difference never
replaces anything (R10): it is stored once more in the other slots, and then taken away from where it was. A recipe
names parts of its own slot only: one name then always means the same list of parts, whoever publishes it, and over
whatever (decision 020). The bases of a part may lie in either slot.
"""

from __future__ import annotations

RECIPES = ("rc-", "rt-")
PARTS = ("b3-", "t3-")
_TWINS = {"rc-": "rt-", "rt-": "rc-", "b3-": "t3-", "t3-": "b3-"}


def recipe_key(digest: str, slot: int = 0) -> str:
    """Where the recipe of a content lies."""
    return RECIPES[slot] + digest


def recipe_keys(digest: str) -> tuple[str, ...]:
    """Every place where a recipe of the content may lie."""
    return tuple(slot + digest for slot in RECIPES)


def is_recipe(key: str) -> bool:
    return key.startswith(RECIPES)


def is_part(key: str) -> bool:
    return key.startswith(PARTS)


def is_coded(key: str) -> bool:
    """True for a recipe or a part, False for a content stored whole."""
    return is_recipe(key) or is_part(key)


def slot_of(key: str) -> int:
    """In which slot a recipe or part is."""
    return (RECIPES if is_recipe(key) else PARTS).index(key[:-64])


def twin(key: str) -> str:
    """The same recipe or part in the other slot."""
    return _TWINS[key[:3]] + key[3:]
