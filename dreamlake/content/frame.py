"""The self-describing stored form: what stands in a blob when it is not simply the content itself.

Stored bytes are either the raw content, or a *frame*: a fixed prefix, a header, a payload. All integers are
little-endian. The first 64 bytes mean the same in every version of the format, so that a newer version can be told
from damage.

    offset  size  field
    0       12    MAGIC
    12      1     version a reader must know (now 1)
    13      1     kind: 1 raw, 2 zstd, 3 recipe, 4 planes, 5 difference
    14      2     zero
    16      8     plain_size: bytes of the content, or 2**64 - 1 (raw only: everything up to the end of the frame)
    24      8     payload_size, or 2**64 - 1 (raw only: up to the end)
    32      4     header_size: bytes of the header, at most MAX_HEADER
    36      12    zero
    48      16    the first 16 bytes of BLAKE3 over bytes 0 to 47 and the header
    64            header: one JSON object in UTF-8 without spaces, or nothing
    ...           payload, payload_size bytes; nothing follows it

Content that begins with MAGIC is never stored bare: it is framed as kind raw. What header and payload mean for the
kinds is documented where they are coded: zstd, planes and difference in ``codecs``, recipe in ``recipe``.

This module owns the layout. It never allocates what a frame claims and never reads a payload. Damage raises
``Corrupt``, a newer version ``UnsupportedFormat`` (I9).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any, BinaryIO

from dreamlake.errors import Corrupt, UnsupportedFormat
from dreamlake.rawio import read_up_to

__all__ = [
    "MAGIC",
    "MAX_HEADER",
    "PREFIX_SIZE",
    "VERSION",
    "Frame",
    "Kind",
    "check_raw_header",
    "is_framed",
    "pack",
    "parse",
    "prefix",
    "raw_header",
    "read_frame",
]

MAGIC = b"\xd7DLake\r\n\x1a\n\x00\xf5"  # not ASCII or UTF-8; line ends and ^Z show transfers that mangle text
VERSION = 1
PREFIX_SIZE = 64
MAX_HEADER = 1 << 16
MAX_PLAIN = 1 << 46  # bytes; above any file the store accepts, so that sums of sizes stay small integers
_OPEN_END = (1 << 64) - 1
_FIELDS = Struct("<12sBBHQQI12s")
_CHECK = 16


class Kind(IntEnum):
    """What a payload is."""

    RAW = 1
    ZSTD = 2
    RECIPE = 3
    PLANES = 4
    DIFFERENCE = 5


@dataclass(frozen=True)
class Frame:
    """A checked prefix and header. Sizes in bytes; ``payload_start`` counts from the start of the stored bytes."""

    kind: Kind
    plain_size: int
    header: Mapping[str, Any]
    payload_start: int
    payload_size: int


def is_framed(head: bytes | memoryview) -> bool:
    """True when stored bytes that begin with ``head`` (at least 12 bytes, or all there are) are a frame.

    For content to be stored: True means that it must be framed, too (kind raw).
    """
    return bytes(head[: len(MAGIC)]) == MAGIC


def prefix(kind: Kind, plain_size: int, payload_size: int, header: Mapping[str, Any] | None = None) -> bytes:
    """Prefix and header of a frame whose payload of ``payload_size`` bytes follows.

    Raises ``ValueError`` when the header is larger than MAX_HEADER once encoded.
    """
    text = _encode_header(header or {})
    return _seal(kind, plain_size, payload_size, text)


def pack(
    kind: Kind, plain_size: int, payload: Iterable[bytes | memoryview], header: Mapping[str, Any] | None = None
) -> bytes:
    """A whole frame in memory, from the pieces of its payload."""
    pieces = list(payload)
    return b"".join([prefix(kind, plain_size, sum(map(len, pieces)), header), *pieces])


def raw_header() -> bytes:
    """The PREFIX_SIZE bytes to put before content that happens to begin with MAGIC; its size need not be known."""
    return _seal(Kind.RAW, _OPEN_END, _OPEN_END, b"")


def check_raw_header(head: bytes | memoryview) -> None:
    """Raises ``Corrupt`` or ``UnsupportedFormat`` unless ``head`` begins with ``raw_header()``."""
    if bytes(head[:PREFIX_SIZE]) != raw_header():
        frame = parse(head, None)
        raise UnsupportedFormat(f"these stored bytes are of kind {frame.kind.name.lower()}, not raw")


def parse(head: bytes | memoryview, stored_size: int | None) -> Frame:
    """Check prefix and header of a frame.

    Args:
        head: the first bytes of the stored form: PREFIX_SIZE + MAX_HEADER of them, or all there are.
        stored_size: bytes of the whole stored form; None when it is not known (then its end is not checked).

    Raises:
        Corrupt: not a whole, undamaged prefix and header, or sizes that do not add up.
        UnsupportedFormat: written for a later version of the format, or of a kind this release does not know.
    """
    if len(head) < PREFIX_SIZE or not is_framed(head):
        raise Corrupt("not a whole frame")
    fields = _FIELDS.unpack(head[: _FIELDS.size])
    _, version, kind, zero, plain_size, payload_size, header_size, zeros = fields
    end = PREFIX_SIZE + header_size
    if header_size > MAX_HEADER or len(head) < end:
        raise Corrupt(f"a frame's header claims {header_size:,} bytes")
    text = bytes(head[PREFIX_SIZE:end])
    if _check(bytes(head[: PREFIX_SIZE - _CHECK]), text) != bytes(head[PREFIX_SIZE - _CHECK : PREFIX_SIZE]):
        raise Corrupt("a frame's prefix or header does not match its checksum")
    if version > VERSION:
        raise UnsupportedFormat(f"stored in version {version} of the frame format; this release reads {VERSION}")
    if version != VERSION or zero or any(zeros):
        raise Corrupt("a frame's reserved bytes are in use")
    if kind not in Kind.__members__.values():
        raise UnsupportedFormat(f"a frame of kind {kind}, which this release does not know")
    if payload_size == _OPEN_END and plain_size == _OPEN_END and kind == Kind.RAW:
        payload_size = plain_size = max(0, stored_size - end) if stored_size is not None else MAX_PLAIN
    if plain_size > MAX_PLAIN or (stored_size is not None and end + payload_size != stored_size):
        raise Corrupt(f"a frame claims {plain_size:,} bytes of content and {payload_size:,} of payload")
    if kind == Kind.RAW and plain_size != payload_size:
        raise Corrupt("a raw frame whose sizes differ")
    return Frame(Kind(kind), plain_size, _decode_header(text), end, payload_size)


def read_frame(stored: BinaryIO, stored_size: int | None = None) -> Frame | None:
    """The frame at the start of a seekable stream, or None when the stored bytes are raw content.

    The stream is left at the first byte of the payload, or of the raw content. Raises like ``parse``.
    """
    stored.seek(0)
    head = read_up_to(stored, PREFIX_SIZE)
    if not is_framed(head):
        stored.seek(0)
        return None
    if len(head) == PREFIX_SIZE:
        head += read_up_to(stored, min(MAX_HEADER, _FIELDS.unpack(head[: _FIELDS.size])[6]))
    frame = parse(head, stored_size)
    stored.seek(frame.payload_start)
    return frame


def _seal(kind: Kind, plain_size: int, payload_size: int, text: bytes) -> bytes:
    fields = _FIELDS.pack(MAGIC, VERSION, kind, 0, plain_size, payload_size, len(text), bytes(12))
    return fields + _check(fields, text) + text


def _check(fields: bytes, text: bytes) -> bytes:
    from blake3 import blake3

    return blake3(fields + text).digest()[:_CHECK]


def _encode_header(header: Mapping[str, Any]) -> bytes:
    if not header:
        return b""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER:
        raise ValueError(f"a frame header of {len(text):,} bytes; the limit is {MAX_HEADER:,}")
    return text


def _decode_header(text: bytes) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise Corrupt("a frame's header is not JSON") from None
    if not isinstance(header, dict):
        raise Corrupt("a frame's header is not a JSON object")
    return header
