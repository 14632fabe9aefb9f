"""The frame of the stored form: exact bytes, limits, damage told from novelty."""

from __future__ import annotations

import io

import pytest
from blake3 import blake3

from dreamlake.content import frame
from dreamlake.content.frame import MAGIC, PREFIX_SIZE, Kind
from dreamlake.errors import Corrupt, UnsupportedFormat


def sealed(data: bytes, text: bytes = b"") -> bytes:
    """A prefix with a right checksum over whatever its fields say."""
    return data[:48] + blake3(data[:48] + text).digest()[:16] + text


def test_layout_is_the_documented_one() -> None:
    stored = frame.pack(Kind.PLANES, 1000, [b"pay", b"load"], {"width": 4})
    assert stored[:12] == MAGIC and len(MAGIC) == 12
    assert stored[12:16] == bytes([1, 4, 0, 0])
    assert int.from_bytes(stored[16:24], "little") == 1000
    assert int.from_bytes(stored[24:32], "little") == 7
    assert int.from_bytes(stored[32:36], "little") == len(b'{"width":4}')
    assert stored[36:48] == bytes(12)
    assert stored[48:64] == blake3(stored[:48] + b'{"width":4}').digest()[:16]
    assert stored[64:] == b'{"width":4}payload'


def test_round_trip() -> None:
    stored = frame.pack(Kind.DIFFERENCE, 5, [b"abc"], {"base": "é", "depth": 2})
    found = frame.parse(stored, len(stored))
    assert (found.kind, found.plain_size, found.header) == (Kind.DIFFERENCE, 5, {"base": "é", "depth": 2})
    assert stored[found.payload_start :] == b"abc" and found.payload_size == 3
    stream = io.BytesIO(stored)
    assert frame.read_frame(stream, len(stored)) == found
    assert stream.read() == b"abc"


def test_raw_content_has_no_frame() -> None:
    stream = io.BytesIO(b"just content")
    assert frame.read_frame(stream, 12) is None
    assert stream.read() == b"just content"
    assert not frame.is_framed(b"") and not frame.is_framed(MAGIC[:-1]) and frame.is_framed(MAGIC)


def test_raw_header_needs_no_size() -> None:
    head = frame.raw_header()
    assert len(head) == PREFIX_SIZE
    frame.check_raw_header(head + b"anything")
    found = frame.parse(head + b"123", PREFIX_SIZE + 3)
    assert (found.kind, found.plain_size, found.payload_size) == (Kind.RAW, 3, 3)
    with pytest.raises(UnsupportedFormat, match="planes"):
        frame.check_raw_header(frame.pack(Kind.PLANES, 1, [b"x"]))


@pytest.mark.parametrize("place", [0, 11, 12, 13, 14, 20, 30, 33, 40, 50, 63, 64, 70])
def test_every_changed_bit_of_prefix_and_header_is_noticed(place: int) -> None:
    stored = bytearray(frame.pack(Kind.ZSTD, 9, [b"payload"], {"width": 4}))
    stored[place] ^= 1
    with pytest.raises(Corrupt):
        frame.parse(bytes(stored), len(stored))


def test_newer_versions_and_kinds_are_refused_not_guessed() -> None:
    stored = frame.pack(Kind.RAW, 1, [b"x"])
    newer = sealed(stored[:12] + b"\x02" + stored[13:48])
    with pytest.raises(UnsupportedFormat, match="version 2"):
        frame.parse(newer + b"x", None)
    with pytest.raises(UnsupportedFormat, match="kind 77"):
        frame.parse(sealed(stored[:13] + bytes([77]) + stored[14:48]) + b"x", None)


def test_sizes_must_add_up() -> None:
    stored = frame.pack(Kind.PLANES, 100, [b"12345"])
    for data in (stored + b"x", stored[:-1]):
        with pytest.raises(Corrupt, match="claims"):
            frame.parse(data, len(data))
    raw = frame.pack(Kind.RAW, 5, [b"1234"])
    with pytest.raises(Corrupt, match="sizes differ"):
        frame.parse(raw, len(raw))


def test_claims_are_not_believed() -> None:
    stored = frame.pack(Kind.PLANES, 100, [b""])
    huge_header = sealed(stored[:32] + (1 << 31).to_bytes(4, "little") + stored[36:48])
    with pytest.raises(Corrupt, match="header claims"):
        frame.parse(huge_header, None)
    huge_plain = sealed(stored[:16] + (1 << 62).to_bytes(8, "little") + stored[24:48])
    with pytest.raises(Corrupt, match="of content"):
        frame.parse(huge_plain, None)
    with pytest.raises(ValueError, match="limit"):
        frame.prefix(Kind.PLANES, 1, 1, {"x": "y" * frame.MAX_HEADER})


@pytest.mark.parametrize("text", [b"[1]", b"{", b"\xff", b"[" * 60_000])
def test_a_header_that_is_no_object(text: bytes) -> None:
    head = frame.pack(Kind.PLANES, 100, [])
    stored = sealed(head[:32] + len(text).to_bytes(4, "little") + head[36:48], text)
    with pytest.raises(Corrupt, match="header"):
        frame.parse(stored, len(stored))


@pytest.mark.parametrize("size", [0, 1, 12, 63])
def test_cut_prefixes(size: int) -> None:
    with pytest.raises(Corrupt):
        frame.parse(frame.raw_header()[:size], size)
