"""What a bucket must be able to do for the protocol to be safe (SPEC "Remote"), tried on objects of the check's own.

Everything is asked through ``Objects``, so that the check runs on every implementation; it leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from typing import NamedTuple

from dreamlake.errors import Conflict, Corrupt, LakeError, UnsupportedFormat
from dreamlake.services.objects import Objects

__all__ = ["Capability", "check_objects", "try_objects"]

PREFIX = "checks/"  # where the objects of a check are
MAX_SKEW_S = 300.0  # from there on S3 refuses requests as too old
_SHARED_CURE = (
    "use a store that supports them (AWS S3, MinIO, Ceph, SeaweedFS and others do), or blobs in a shared folder"
)


class Capability(NamedTuple):
    """One thing that was tried. ``problem`` is empty when it works; then ``cure`` is empty, too."""

    name: str
    problem: str = ""
    cure: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


def check_objects(objects: Objects, token: str, where: str) -> None:
    """Raises ``UnsupportedFormat`` with the first thing that does not work, and its cure."""
    for tried in try_objects(objects, token):
        if not tried.ok:
            raise UnsupportedFormat(f"{where}: {tried.problem}; {tried.cure}", path=where)


def try_objects(objects: Objects, token: str) -> Iterator[Capability]:
    """Try one capability after another. Ends at the first that keeps the rest from being tried.

    Args:
        token: an id that was never used before.

    Raises ``LakeError`` when the bucket cannot be reached or written to at all.
    """
    key, wrong = f"{PREFIX}{token}", f"{PREFIX}{token}-wrong"
    first, second = b"first " + token.encode(), b"second " + token.encode()
    try:
        objects.put(key, first, sha256=_sha(first))
        if objects.read(key) != first or [info.key for info in objects.list(key)] != [key]:
            yield Capability("read after write", "what was just written is not seen", "use a consistent store")
            return
        yield Capability("read after write")
        yield _conditional_put(objects, key, first, second)
        yield _conditional_multipart(objects, key, first, second)
        yield _checksums(objects, wrong, first, second)
    finally:
        with contextlib.suppress(LakeError):
            objects.delete([key, wrong])


def try_clock(objects: Objects, token: str) -> Capability:
    """Whether this machine's clock and the store's agree well enough for signed requests."""
    key, data = f"{PREFIX}{token}-clock", b"clock"
    before = time.time()
    try:
        objects.put(key, data, sha256=_sha(data))
        found = objects.head(key)
    finally:
        with contextlib.suppress(LakeError):
            objects.delete([key])
    skew = 0.0 if found is None else found.modified - before
    if abs(skew) <= MAX_SKEW_S:
        return Capability("clock")
    text = f"this machine's clock and the store's differ by {abs(skew):,.0f} seconds"
    return Capability("clock", text, "set the clock (NTP); signed requests are refused from about 15 minutes on")


def _conditional_put(objects: Objects, key: str, first: bytes, second: bytes) -> Capability:
    name = "conditional writes"
    with contextlib.suppress(Conflict):
        objects.put(key, second, sha256=_sha(second))
        return Capability(name, "it overwrites an object although asked not to (If-None-Match: *)", _SHARED_CURE)
    if objects.read(key) != first:
        return Capability(name, "it overwrote an object and reported a conflict", _SHARED_CURE)
    return Capability(name)


def _conditional_multipart(objects: Objects, key: str, first: bytes, second: bytes) -> Capability:
    name = "conditional multipart uploads"
    upload = objects.begin(key)
    try:
        part = objects.put_part(key, upload, 1, second, sha256=_sha(second))
        with contextlib.suppress(Conflict):
            objects.complete(key, upload, [part])
            text = "a multipart upload overwrites an object although asked not to (If-None-Match: *)"
            return Capability(name, text, _SHARED_CURE)
    finally:
        with contextlib.suppress(LakeError):
            objects.abort(key, upload)
    if objects.read(key) != first:
        return Capability(name, "a multipart upload overwrote an object and reported a conflict", _SHARED_CURE)
    return Capability(name)


def _checksums(objects: Objects, key: str, first: bytes, second: bytes) -> Capability:
    name = "SHA-256 of what arrives"
    try:
        objects.put(key, second, sha256=_sha(first))
    except Corrupt:
        return Capability(name)
    return Capability(
        name, "it stores bytes that do not match the SHA-256 sent with them", "use a store that checks it"
    )


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
