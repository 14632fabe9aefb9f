"""The oracle for content that is stored as recipes, parts and differences.

It finds what is there by itself, on the raw disk: which copies there are of a part, what each of them needs, and
whether some choice of copies gives the content back byte for byte. Only the decoding of one form is the product's,
and what that gives is proven by its hash. Of a power cut, every combination of the states of all blob folders is looked
at, for everything that any record needs which may be left.
"""

from __future__ import annotations

import hashlib
import itertools
from functools import lru_cache
from typing import Any

from dreamlake.content import frame, names, parts, recipe
from dreamlake.errors import LakeError
from simulation.judge import Judge
from simulation.simfs import Dir, File, SimFs

Disk = frozenset[tuple[str, bytes]]  # (key, stored bytes) of every usable copy
decode_recipe = lru_cache(4096)(recipe.decode)


class CodedJudge(Judge):
    """``plain``: what every part that may come into being holds."""

    def __init__(self, fs: SimFs, root: str, plain: dict[str, bytes], *, power: bool = True) -> None:
        super().__init__(fs, root, power=power)
        self._plain = {slot + key[3:]: data for key, data in plain.items() for slot in names.PARTS}

    def _check_blobs(self, sid: str, needed: set[str]) -> None:
        now = self._read(self.log(sid)).needed
        self._check_readable(sid, now, self._files(now=True), "")
        for state in self._states() if self.power else ():
            self._check_readable(sid, needed, state, " after a power cut")

    def _check_readable(self, sid: str, needed: frozenset[str] | set[str], disk: Disk, when: str) -> None:
        for digest in needed:
            assert readable(disk, digest), f"I1{when}: {sid} refers to {digest[:8]}, which cannot be read"

    def _homes(self) -> list[Dir]:
        return [home for home in self._dir("blobs").names.values() if isinstance(home, Dir)]

    def _files(self, *, now: bool) -> Disk:
        return frozenset(found for home in self._homes() for found in _usable(home.names, torn=True))

    def _states(self) -> set[Disk]:
        histories = [{_usable(state, torn=False) for state in home.history} for home in self._homes()]
        return {frozenset().union(*states) for states in itertools.product(*histories)}

    def _check_copies(self) -> None:
        for home in self._homes():
            for state in home.history if self.power else [home.names]:
                for name, file in state.items():
                    if isinstance(file, File):
                        key = name.partition("~")[0]
                        assert is_whole(key, file.data, self._plain), f"I3: partial bytes are visible under {name[:12]}"
                        assert not (self.power and file.torn), f"I3: after a power cut {name[:12]} could be torn"

    def needed(self) -> set[str]:
        """Everything that some session keeps and all that reading it may touch, as far as it is stored."""
        stored: dict[str, list[bytes]] = {}
        for key, data in self._files(now=True):
            stored.setdefault(key, []).append(data)
        waiting, found = list(super().needed()), set[str]()
        while waiting:
            key = waiting.pop()
            if key in found or key not in {*stored, *super().needed()}:
                continue
            if key in stored:
                found.add(key)
            if len(key) == 64:
                waiting += names.recipe_keys(key)
            for data in stored.get(key, ()):
                waiting += _needs(key, data)
        return found

    def check_no_circle(self) -> None:
        """The stored forms of parts need each other in no circle. Only after a clean collection: before, a part may be
        read from another copy than the live one."""
        needs = {key: _needs(key, data) for key, data in self._files(now=True)}
        for start in needs:
            waiting, seen = list(needs[start]), set[str]()
            while waiting:
                key = waiting.pop()
                assert key != start, f"{start[:12]} needs itself"
                if key not in seen:
                    seen.add(key)
                    waiting += needs.get(key, ())


def _usable(names: dict[str, Any], *, torn: bool) -> Disk:
    return frozenset(
        (name.partition("~")[0], file.data)
        for name, file in names.items()
        if isinstance(file, File) and (torn or not file.torn)
    )


@lru_cache(1 << 16)
def readable(disk: Disk, digest: str) -> bool:
    """Some copy, or some choice of copies, gives the content."""
    if any(key == digest and hashlib.sha256(data).hexdigest() == digest for key, data in disk):
        return True
    for key, data in disk:
        if key in names.recipe_keys(digest):
            wanted = decode_recipe(data)
            plain = [part_of(disk, part.key, part.size, frozenset()) for part in wanted.parts]
            if all(part is not None for part in plain):
                whole = b"".join(recipe.assemble(wanted, 0, wanted.size, lambda n: plain[n] or b""))  # noqa: B023
                if hashlib.sha256(whole).hexdigest() == digest:
                    return True
    return False


@lru_cache(1 << 16)
def part_of(disk: Disk, key: str, size: int, above: frozenset[str]) -> bytes | None:
    """The plain bytes of a part from whichever copy gives them; None when none does."""
    if key in above or len(above) > parts.MAX_DEPTH:
        return None
    for name, stored in sorted(disk):
        if name == key:
            bases = {need: part_of(disk, need, len_, above | {key}) for need, len_ in _bases(stored)}
            if all(base is not None for base in bases.values()):
                plain = _decoded(stored, size, tuple((need, base or b"") for need, base in bases.items()))
                if plain is not None and parts.proves(key, plain):
                    return plain
    return None


@lru_cache(1 << 12)
def _decoded(stored: bytes, size: int, bases: tuple[tuple[str, bytes], ...]) -> bytes | None:
    known = dict(bases)
    try:
        return bytes(parts.decode_part(stored, size, lambda key, length: known[key]))
    except LakeError:
        return None


@lru_cache(1 << 12)
def _bases(stored: bytes) -> list[tuple[str, int]]:
    found = parts.base_of(stored)
    if found is None:
        return []
    return [(found.key, found.size), *([found.before] if found.before else [])]


def _needs(key: str, data: bytes) -> list[str]:
    """The keys that a stored form names."""
    if names.is_part(key):
        return [base for base, _ in _bases(data)]
    return [part.key for part in decode_recipe(data).parts] if names.is_recipe(key) else []


_WHOLE: dict[tuple[str, bytes], bool] = {}


def is_whole(key: str, data: bytes, plain: dict[str, bytes]) -> bool:
    known = _WHOLE.get((key, data))
    if known is None:
        known = _WHOLE[key, data] = _prove(key, data, plain)
    return known


def _prove(key: str, data: bytes, plain: dict[str, bytes]) -> bool:
    """All bytes of a form are there: with what it needs it gives exactly what its key says."""
    if names.is_part(key):
        return _decoded(data, len(plain[key]), tuple((base, plain[base]) for base, _ in _bases(data))) == plain[key]
    if not names.is_recipe(key):
        return hashlib.sha256(data).hexdigest() == key and not frame.is_framed(data)
    try:
        found = recipe.decode(data)
    except LakeError:
        return False
    whole = b"".join(recipe.assemble(found, 0, found.size, lambda n: plain[found.parts[n].key]))
    return hashlib.sha256(whole).hexdigest() == key[-64:]
