"""The blobs seam: which physical copies exist. One home of the copy state machine of SPEC "Protocol".

A copy is live -> condemned(batch) -> live (resurrected) | gone. Keys name plain content: 64 hexadecimal digits of
its SHA-256 for a file stored whole, ``rc-`` or ``rt-`` and the same digits for one stored as a recipe, ``b3-`` or
``t3-`` and 64 digits of its BLAKE3 for a part. What the stored bytes look like is the business of ``content``.
Implementations: ``blobs.folder`` (rename), ``blobs.memory``, and ``blobs.objects`` (an object store, and a database of
the copies in it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

__all__ = [
    "HEAD_BYTES",
    "Blobs",
    "Copy",
    "Proof",
    "Ready",
    "Space",
    "Staged",
    "Stager",
    "Wanted",
    "check_key",
    "is_key",
]

HEAD_BYTES = 512  # of the stored form that ``Blobs.heads`` gives: enough for every header that this release writes

_KEY = re.compile(r"((b3|t3|rc|rt)-)?[0-9a-f]{64}")

Proof = Callable[[BinaryIO], bool]  # reads the stored bytes of a key and says whether they are whole


class Staged(NamedTuple):
    """Bytes that are written but not yet visible under a key. ``handle`` is the implementation's own."""

    handle: str
    size: int


class Wanted(NamedTuple):
    """A blob to be looked at. ``size`` of the stored form; None where it is not known.

    ``prove`` decides of a copy that may have been changed, or has another size. ``check``, which should be cheaper,
    decides of an intact one whose size is not known; without it that is taken as whole.
    """

    key: str
    size: int | None
    prove: Proof
    check: Proof | None = None


class Ready(NamedTuple):
    """Secured bytes to be published under a key; see ``Blobs.publish``."""

    key: str
    staged: Staged
    replace: bool = True


class Copy(NamedTuple):
    """One physical copy. ``batch`` is None while it is live, else the collection that condemned it.

    ``size`` in stored bytes; ``sealed`` while its tamper mark is intact.
    """

    key: str
    batch: str | None
    size: int
    sealed: bool = True


class Space(NamedTuple):
    """What some files take: how many, their bytes, and the bytes of disk space they occupy (0: not known)."""

    files: int
    size_bytes: int
    disk_bytes: int


class Stager(Protocol):
    """Receives the stored bytes of one new copy, piece by piece."""

    def write(self, data: bytes | memoryview) -> None: ...

    def finish(self) -> Staged:
        """Close it; nothing is durable or visible yet."""
        ...

    def discard(self) -> None:
        """Drop everything written; may be called at any time, also after ``finish`` or ``publish``."""


class Blobs(Protocol):
    """Physical copies of a lake. Every method may be called from any thread or process at any time.

    Attributes:
        settle_s: how many seconds after a condemnation other hosts may still take the copy for live, because their
            file system answers from a cache. 0 where everybody sees every change at once.
        sending_is_dear: bytes travel over a network: sources are hashed, and looked for, before anything is staged.

    The calls that take many at a time mean what the single ones mean for each, in no order and not all at once. When
    they raise, some may have been done.
    """

    settle_s: float
    sending_is_dear: bool

    def stage(self) -> Stager:
        """Begin a new copy in private scratch space."""
        ...

    def stage_file(self, path: str, prefix: bytes, size: int, digest: str) -> tuple[Stager, Staged]:
        """Like ``stage``: ``prefix``, and then the plain bytes of a file of ``size`` bytes.

        Where sending is dear they are read as they are sent; ``publish`` then raises ``InvalidInput``, and publishes
        nothing, when they do not have this SHA-256. Elsewhere the bytes are not compared.
        """
        ...

    def secure(self, staged: Sequence[Staged]) -> None:
        """Make the bytes of these durable. Must precede ``publish``: nothing torn may ever carry a key (I3)."""

    def look(
        self, key: str, size: int | None, prove: Proof, *, resurrect: bool = True, check: Proof | None = None
    ) -> bool:
        """Is there a live copy to rely on? A condemned one is resurrected, which counts as live (R2, R6).

        ``resurrect=False`` is cheaper and overlooks condemned copies: for callers that would publish instead.

        A copy of ``size`` bytes with its tamper mark intact is taken as whole; of any other, ``prove`` decides (see
        ``Wanted``). False means that the caller must publish. What it found is durable only after ``barrier``.
        """
        ...

    def look_all(self, wanted: Sequence[Wanted], *, resurrect: bool = True) -> list[bool]:
        """``look`` at many."""
        ...

    def publish(self, key: str, staged: Staged, *, replace: bool = True) -> bool:
        """Make secured bytes the live copy of ``key``, atomically; True if they are it now.

        A live copy that is there (same content) is replaced, or with ``replace=False`` left alone and False returned.
        A form that needs another blob for decoding is published with ``replace=False`` only: then what it needs was
        there before it, and two forms can never come to need each other.

        Raises ``ClaimRevoked`` when a collector took the scratch of a process it thought dead.
        """

    def publish_all(self, ready: Sequence[Ready]) -> list[bool]:
        """``publish`` many that do not need each other."""
        ...

    def barrier(self, keys: Iterable[str]) -> None:
        """Make the presence of these keys, whoever published or resurrected them, durable."""

    def open(self, key: str) -> BinaryIO:
        """The stored bytes as an unbuffered seekable stream, of a condemned copy too. Raises ``NotFound``."""
        ...

    def heads(self, keys: Sequence[str]) -> list[bytes | None]:
        """The first ``HEAD_BYTES`` stored bytes of what ``open`` gives, or all there are; None where nothing is."""
        ...

    def sealed(self, key: str) -> bool:
        """True while the tamper mark of the copy that ``open`` gives is intact. Raises ``NotFound``."""
        ...

    def file(self, key: str) -> str | None:
        """A local file with the stored bytes that must never be written to, or None where there is none."""
        ...

    def copies(self, *, seals: bool = True) -> Iterator[Copy]:
        """All copies, live and condemned; one that changes meanwhile may be listed twice or not.

        ``seals=False`` may be cheaper, and takes every copy for sealed and of its proper size.

        Neighbours in the order should have the same first byte of the digest wherever that is cheap to arrange: then
        collection and verification of millions of copies need little memory.
        """
        ...

    def condemned(self) -> Iterator[Copy]:
        """The condemned ones among ``copies``, found faster."""
        ...

    def copies_of(self, key: str) -> list[Copy]:
        """All copies of one key, the live one first."""
        ...

    def open_copy(self, copy: Copy) -> BinaryIO:
        """The stored bytes of exactly this copy. Raises ``NotFound`` when it is no longer there under this name."""
        ...

    def condemn(self, key: str, batch: str) -> Copy | None:
        """Hide the live copy from every later ``look`` (R4), atomically. None when there is no live copy."""
        ...

    def settle(self, copy: Copy, *, keep: bool, drop: bool = True) -> bool:
        """Finish exactly this condemned copy: live again, or gone for good (R6). False if it is not condemned now.

        A live copy is never replaced by a condemned one (it may have been published to heal it): then ``keep`` drops
        the condemned copy as superfluous, or with ``drop=False`` leaves it as it is and returns False.
        """
        ...

    def condemn_all(self, keys: Sequence[str], batch: str) -> list[Copy | None]:
        """``condemn`` many."""
        ...

    def settle_all(self, copies: Sequence[Copy], *, keep: bool) -> list[bool]:
        """``settle`` many."""
        ...

    def replace(self, key: str, staged: Staged) -> bool:
        """``publish`` over a live copy with bad bytes, which are kept in quarantine. False when none was live.

        At no moment is there no live copy, so that this is safe beside an upload that heals the same key.
        """
        ...

    def distrust(self, key: str) -> bool:
        """Break the tamper mark of the live copy, so that every later ``look`` proves its bytes. False: none live."""
        ...

    def trust(self, key: str) -> bool:
        """Renew the tamper mark of the live copy, whose bytes the caller has just proven. False: none live."""
        ...

    def sweep(self, abandoned: Callable[[str, float], bool]) -> Space:
        """Remove private scratch for which ``abandoned(name, age in seconds)``; returns what was removed.

        Wrong guesses are safe: whoever still needed it gets ``ClaimRevoked`` from ``publish`` and starts again.
        """
        ...

    def space(self) -> dict[str, Space]:
        """What is stored: ``live``, ``condemned``, ``scratch`` and ``quarantine``."""
        ...


def is_key(text: str) -> bool:
    """True for what may name a blob."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Guards against keys from damaged or hostile manifests: they become file names. Raises ``ValueError``."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key[:80]!r}")
    return key
