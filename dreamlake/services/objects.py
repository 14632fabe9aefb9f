"""The object store as remote mode sees it: immutable objects under keys that are written once.

Promises that a client must keep (SPEC "Remote"):

- an object is visible whole or not at all, and what ``put`` or ``complete`` returned for is durable and listed at
  once;
- a key that is taken is never overwritten: ``put`` and ``complete`` raise ``Conflict`` (conditional writes), unless
  what is there is exactly what was to be written, which counts as written;
- the bytes that arrive are the bytes meant: their SHA-256 is sent and checked by the store.

Keys are relative to the lake's place in the bucket. Materialized files lie below ``files/`` beside the blobs; the
methods that replace what is there work on those only.

``OutcomeUnknown``: a write may or may not have happened, or may happen later (a request in flight can still land after
its sender died). Keys that are never reused make that harmless. ``Unavailable``: it did not happen.
Clients retry by themselves, with backoff and jitter, whatever is safe to repeat; a put that a lost reply made look like
a conflict with itself is told from a real one by the checksum of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

__all__ = ["ObjectInfo", "Objects", "Part", "Upload"]

MAX_PUT_BYTES = 5 << 30  # of one object without parts: a limit of S3
MIN_PART_BYTES = 5 << 20  # of a part other than the last: a limit of S3
MAX_PARTS = 10_000


class ObjectInfo(NamedTuple):
    """One object. ``modified`` in seconds since the epoch, by the store's clock; ``etag`` without quotes."""

    key: str
    size: int
    modified: float
    etag: str


class Upload(NamedTuple):
    """A multipart upload that was begun and neither completed nor aborted. ``started`` like ``modified``."""

    key: str
    id: str
    started: float


class Part(NamedTuple):
    """One stored part. ``number`` from 1; ``sha256`` in hexadecimal digits, None where the store does not tell."""

    number: int
    size: int
    etag: str
    sha256: str | None


class Objects(Protocol):
    """One bucket (and a prefix in it: keys here are relative). Every method may be called from any thread."""

    def put(self, key: str, data: bytes | memoryview, *, sha256: str) -> str:
        """Store one object of up to a few MiB (the caller splits larger ones into parts); returns its etag.

        Args:
            sha256: of the data, in hexadecimal. Raises ``Corrupt`` when the bytes do not arrive as meant.
        """
        ...

    def begin(self, key: str) -> str:
        """Begin a multipart upload; returns its id."""
        ...

    def put_part(self, key: str, upload: str, number: int, data: bytes | memoryview, *, sha256: str) -> Part:
        """Store one part; may be repeated. Raises ``NotFound`` when the upload was aborted or completed."""
        ...

    def parts(self, key: str, upload: str) -> list[Part]:
        """Parts stored so far. Raises ``NotFound`` like ``put_part``."""
        ...

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        """Make the object of these parts visible; returns its etag.

        Raises ``NotFound`` like ``put_part``, or ``Conflict`` when the key is taken.
        """
        ...

    def abort(self, key: str, upload: str) -> None:
        """Give an upload up and free its parts; may be repeated, also after ``complete``."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes from ``start`` up to ``stop`` (or the end). Raises ``NotFound``."""
        ...

    def stream(self, key: str, start: int = 0) -> BinaryIO:
        """The bytes from ``start`` on, to be read in order; reconnects by itself. Raises ``NotFound``."""
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Facts of an object, None when there is none."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are as good as removed."""
        ...

    def list(self, prefix: str = "", *, after: str = "", files: bool = False) -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix``, in the order of their keys, after ``after``; in pages.

        ``files``: look among the materialized files beside the prefix (see ``copy``) instead.
        """
        ...

    def uploads(self, prefix: str = "") -> Iterator[Upload]:
        """Multipart uploads under way."""
        ...

    def copy(self, key: str, target: str, *, content_type: str | None = None) -> ObjectInfo:
        """Copy an object on the server, in parts where it is large, to a materialized file; replaces what is there."""
        ...

    def put_file(self, target: str, source: BinaryIO, *, content_type: str | None = None) -> ObjectInfo:
        """Store a materialized file of any size from a stream, with bounded memory; replaces what is there."""
        ...

    def delete_files(self, targets: Sequence[str]) -> None:
        """Remove materialized files."""
        ...

    def presign(self, key: str, *, expires_s: int, filename: str | None = None, file: bool = False) -> str:
        """A URL that reads the object without credentials for so many seconds."""
        ...

    def close(self) -> None:
        """Give back connections; may be repeated. A forked child must make its own ``Objects``."""
        ...
