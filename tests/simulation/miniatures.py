"""Checkpoints in miniature: contents of a few parts of 1 KiB, and what makes the product code them.

The product's own code cuts, codes, claims and publishes them. Only the numbers are smaller (``tiny``): a file of 600
bytes is large, and what threads would do is done at once, because a simulated process is one thread.

Contents are named after their parts: P differs little from B and from C; S and R are like nothing else.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from importlib import import_module
from typing import Any
from unittest import mock

from dreamlake.blobs import Blobs, Wanted
from dreamlake.content import assembled, codecs, ingest, presence, recipe
from dreamlake.content.chunking import Piece, Plan, PlannedPart
from dreamlake.content.codecs import Base
from dreamlake.content.containers import Source
from dreamlake.content.staging import Plain
from dreamlake.model import SessionKey, Version
from dreamlake.operations import coding, turning, upload
from dreamlake.operations import optimize as optimizing
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store

committing = import_module("dreamlake.operations.commit")

PART = 1024
SHARD, BASES = "5a", "b0"  # everything lies in one folder, so that every race is a race for it; the base B in another
MIN_FILE = 600


def _found(make: Callable[[int], bytes], key: Callable[[bytes], str], shard: str = SHARD) -> bytes:
    """The first of some variants whose key lies in the folder."""
    return next(data for i in itertools.count() if key(data := make(i))[-64:-62] == shard)


def _noise(seed: int, i: int) -> bytes:
    return random.Random(seed << 20 | i).randbytes(PART)


def _near(part: bytes, seed: int) -> bytes:
    """A later version of a part: a few bytes are others."""

    def make(i: int) -> bytes:
        rng, data = random.Random(seed << 20 | i), bytearray(part)
        for at in rng.sample(range(PART), 4):
            data[at] = rng.randrange(256)
        return bytes(data)

    return _found(make, codecs.part_key)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file(*parts: bytes, glue: str = "%08d") -> bytes:
    """A content: a few bytes of glue, then its parts."""
    return _found(lambda i: (glue % i).encode() + b"".join(parts), _sha256)


B = _found(partial(_noise, 1), codecs.part_key, BASES)
P, C = _near(B, 2), _near(B, 3)
S_, R = (_found(partial(_noise, seed), codecs.part_key) for seed in (4, 5))
PARTS = {codecs.part_key(part): part for part in (B, P, C, S_, R)}
P_KEY, B_KEY = codecs.part_key(P), codecs.part_key(B)
OF_B, OF_P, OF_C = _file(B), _file(P), _file(C)
RENAMED = _file(P, glue="%07d-")  # the same tensors in another file
OF_PS, OF_PR = _file(P, S_), _file(P, R)


def plan(file: Any, size: int, encoding: str = "coded") -> Plan:
    """The plan of a miniature: parts of ``PART`` bytes at its end; equal places match."""
    parts = []
    for number, start in enumerate(range(size % PART, size, PART)):
        parts.append(PlannedPart((Piece(start, PART),), 0, f"{number:016x}"))
    return Plan("bytes", size, tuple(parts))


class AtOnce:
    """An executor without threads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def shutdown(self, **options: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args))
        except Exception as error:
            done.set_exception(error)
        return done


@contextmanager
def tiny() -> Iterator[None]:
    """Small numbers, no threads, and results of pure functions remembered: the same few parts come again and again."""
    with ExitStack() as stack:

        def put(home: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(home, name, value))

        for home in (coding, committing, presence, optimizing):
            put(home, "MIN_FILE", MIN_FILE)
        put(coding, "_plan", plan)
        put(turning, "TURN_DEPTH", 1)
        for home in (ingest, assembled):
            put(home, "ThreadPoolExecutor", AtOnce)
        put(recipe, "decode", lru_cache(4096)(recipe.decode))
        put(recipe, "encode", lru_cache(4096)(recipe.encode))
        put(codecs, "encode_part", _remembering(codecs.encode_part))
        yield


def _remembering(encode: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def call(plain: Any, width: int, base: Base | None = None, **options: Any) -> Any:
        key = (
            bytes(plain),
            width,
            base and (base.key, base.depth, base.before and base.before.key),
            options.get("effort"),
        )
        if key not in known:
            made = encode(bytes(plain), width, base, **options)
            known[key] = made._replace(pieces=[bytes(piece) for piece in made.pieces])
        return known[key]

    return call


class Forgetful:
    """Blobs that do not find some keys, as a look does that comes while a collector has them condemned."""

    def __init__(self, blobs: Blobs, *keys: str) -> None:
        self._blobs, self._keys = blobs, keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def look_all(self, wanted: Sequence[Wanted], **options: Any) -> list[bool]:
        hits = self._blobs.look_all(wanted, **options)
        return [hit and one.key not in self._keys for one, hit in zip(wanted, hits, strict=True)]


class Against:
    """Bases of a plan: the same for every part."""

    def __init__(self, base: bytes) -> None:
        self._base = Base(codecs.part_key(base), base)

    def base_for(self, number: int) -> Base:
        return self._base

    def coded(self, part: Base) -> None:
        """Nothing is remembered."""


def put(store: Store, session: SessionKey, content: bytes, path: str, *, encoding: str = "coded") -> Version:
    return upload.upload_file(store, session, content, path, upload.Attributes(), encoding=encoding)


def code_against(store: Store, content: bytes, base: bytes) -> Plain:
    """What an upload stages that did not find any of its parts, and so coded the first one against ``base``."""
    cut = plan(None, len(content))
    keys = [codecs.part_key(content[at : at + length]) for part in cut.parts for at, length in part.pieces]
    blobs: Any = Forgetful(store.blobs, *keys)
    coded = ingest.ingest(Source(io.BytesIO(content), len(content)), cut, blobs, bases=Against(base))
    assert coded is not None and coded.parts[0].bases
    return Plain(coded.digest, coded.size, content, coded=coded)


def put_against(store: Store, session: SessionKey, content: bytes, path: str, base: bytes) -> Version:
    """``upload_file`` of what ``code_against`` stages."""
    plain = code_against(store, content, base)
    try:
        committing.secure(store, [plain])
        made = commit(store, session, [upload.put_entry(store, path, plain, upload.Attributes())], [plain])[0]
        assert made is not None
        return made
    finally:
        plain.discard()


def leave(store: Store, part: bytes) -> None:
    """A part as an uploader leaves it who died before its record."""
    stager = store.blobs.stage()
    stager.write(part)
    staged = stager.finish()
    store.blobs.secure([staged])
    store.blobs.publish(codecs.part_key(part), staged)
