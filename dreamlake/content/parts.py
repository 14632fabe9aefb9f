"""A part's plain bytes <-> its stored form: what zstd, planes and difference frames hold.

    zstd        header {}: the payload is one zstd frame of all content.
                header {"base": key, "base_size": bytes, "depth": n}: the same, with the base's bytes as its history.
    planes      header {"width": w}: payload = blocks (``blocks``) of BLOCK bytes each, then size % w bytes as they are.
    difference  header {"width": w, "base": key, "base_size": bytes, "depth": n}, and {"before": key, "before_size":
                bytes} when some block needs that, too. The payload is that of planes, but blocks may refer to the words
                at the same places of the base, and of the version before the base. Where one of these is shorter it
                counts as followed by zeros; where it is longer the end is left out.

``depth`` is how many bases have to be decoded one after the other; it is at most MAX_DEPTH, so that reading a part
touches a bounded number of blobs (I10). A collector must keep both the base and the version before it. A frame is only
made when it is smaller than the content.

Encoding is deterministic for the same arguments and libraries (I12). Decoding checks everything and trusts nothing;
``codecs.read_part`` proves the result by the BLAKE3 in its key. One call works in one thread and releases the GIL most
of the time: callers code several parts at once. Memory: about twice the part, plus BLOCK-sized scratch space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dreamlake.content import blocks, choosing, frame, kernels, streams
from dreamlake.content.buffers import Fresh, new_buffer
from dreamlake.content.frame import Frame, Kind
from dreamlake.content.names import PARTS, slot_of
from dreamlake.errors import Corrupt

__all__ = [
    "MAX_DEPTH",
    "MAX_PART",
    "Base",
    "Encoded",
    "Known",
    "Link",
    "Reference",
    "base_of",
    "decode_links",
    "decode_part",
    "encode_part",
    "guess_width",
    "link_of",
    "part_key",
    "proves",
]

MAX_DEPTH = 8  # differences on top of each other
MAX_PART = 64 << 20  # plain bytes of one part
WIDTHS = (1, 2, 4, 8)
_WORTH = 0.99  # a frame must be at most this share of the content, or the part is stored raw
_TRY_BYTES = 1 << 16
_GUESS_BYTES = 1 << 12
_SMALL_PIECE = 1 << 16

_KEY = re.compile("[bt]3-[0-9a-f]{64}")


class Known(NamedTuple):
    """The key of a part and its plain bytes."""

    key: str
    plain: bytes | memoryview


class Base(NamedTuple):
    """The matching part of an earlier version: its key, its plain bytes, and the depth of its own stored form.

    ``before`` is a still earlier version. With it, weights that keep moving the same way are extrapolated; what is
    stored then needs both for decoding. The depth of ``before`` must not be above that of the base.
    """

    key: str
    plain: bytes | memoryview
    depth: int = 0
    before: Known | None = None


class Reference(NamedTuple):
    """What a stored form needs: key and plain size of its base, the depth that makes, key and size of ``before``."""

    key: str
    size: int
    depth: int
    before: tuple[str, int] | None = None


class Link(NamedTuple):
    """A stored form of words that needs nothing, or one earlier version of the same size."""

    width: int
    payload: memoryview
    reference: Reference | None


class Encoded(NamedTuple):
    """What to store for a part. ``base`` and ``before`` are the keys it needs for decoding, or None.

    ``pieces``, written one after the other, are the stored form; they may share memory with the plain content.
    """

    pieces: list[bytes | memoryview]
    kind: str
    base: str | None
    depth: int
    before: str | None = None

    @property
    def stored(self) -> bytes | memoryview:
        """The stored form in one piece."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    @property
    def size(self) -> int:
        """Bytes of the stored form."""
        return sum(map(len, self.pieces))


def part_key(plain: bytes | memoryview, slot: int = 0) -> str:
    """The key of a part: ``b3-``, or ``t3-``, and the BLAKE3 of its plain bytes in hexadecimal digits."""
    from blake3 import blake3

    return PARTS[slot] + blake3(plain).hexdigest()


def proves(key: str, plain: bytes | memoryview) -> bool:
    """True if these are the plain bytes that the key of a part, in either slot, promises."""
    return part_key(plain, slot_of(key)) == key


def encode_part(
    plain: bytes | memoryview,
    width: int,
    base: Base | None = None,
    *,
    effort: int = 1,
    fresh: Fresh = new_buffer,
) -> Encoded:
    """The smallest stored form among those worth their time, chosen by measuring samples.

    Args:
        plain: 1 to MAX_PART bytes.
        width: bytes of one element (1, 2, 4, 8), or 0 when the content is not made of numbers.
        base: an earlier version to code the difference to; not used when it does not help, or is MAX_DEPTH deep.
        effort: 0 is the fastest; 1 also orders by exponent where that saves 8 %, 2 where it saves 0.5 %, at two to
            four times the time of coding and of every later reading.
        fresh: bytes -> a buffer for what is stored.

    Raises ``ValueError`` for a size, width or effort out of range.
    """
    if not 0 < len(plain) <= MAX_PART or (width and width not in WIDTHS) or not 0 <= effort <= 2:
        raise ValueError(f"a part of {len(plain):,} bytes, width {width}, effort {effort}")
    if base is not None and (base.depth >= MAX_DEPTH or not base.plain or len(base.plain) > MAX_PART):
        base = None
    coded = _encode_words(plain, width, base, effort, fresh) if width else _encode_bytes(plain, base)
    if coded is not None and coded.size <= _WORTH * len(plain):
        return coded
    if frame.is_framed(plain):
        return Encoded([frame.prefix(Kind.RAW, len(plain), len(plain)), plain], "raw", None, 0)
    return Encoded([plain], "raw", None, 0)


def decode_part(
    stored: bytes | memoryview,
    size: int,
    fetch_base: Callable[[str, int], bytes | memoryview],
    fresh: Fresh = new_buffer,
) -> bytes | memoryview:
    """The plain bytes of one stored form; they may share memory with ``stored``.

    Args:
        stored: all stored bytes.
        size: how many plain bytes must come out.
        fetch_base: (key, size) -> plain bytes of a part that this one needs: the base, then the version before it.
        fresh: bytes -> a buffer for what comes out.

    Raises:
        Corrupt: damaged, or content of another size. What is returned is not yet proven; see ``codecs.read_part``.
        UnsupportedFormat: written by a later version.
    """
    found = _parse(stored, size)
    if found is None:
        return stored
    payload = memoryview(stored)[found.payload_start :]
    if found.kind == Kind.RAW:
        return payload
    reference = _reference(found)
    needs = [] if reference is None else [(reference.key, reference.size)]
    needs += [reference.before] if reference and reference.before else []
    past = [fetch_base(*need) for need in needs]
    if any(len(plain) != need[1] for plain, need in zip(past, needs, strict=True)):
        raise Corrupt(f"the bases {needs} have other sizes than their difference says")
    if found.kind == Kind.ZSTD:
        return streams.inflate(payload, size, history=past[0] if past else None)
    if found.kind in (Kind.PLANES, Kind.DIFFERENCE):
        return decode_links(past, [Link(_width(found), payload, reference)], size, fresh)
    raise Corrupt(f"a part stored as {found.kind.name.lower()}")


def link_of(stored: bytes | memoryview, size: int) -> Link | None:
    """The stored form as one link of a chain, or None when it is none: see ``decode_links``.

    Raises ``Corrupt`` or ``UnsupportedFormat`` like ``decode_part``.
    """
    found = _parse(stored, size)
    if found is None or found.kind not in (Kind.PLANES, Kind.DIFFERENCE):
        return None
    reference = _reference(found)
    if reference is not None and (reference.before is not None or reference.size != size):
        return None
    return Link(_width(found), memoryview(stored)[found.payload_start :], reference)


def decode_links(
    history: Sequence[bytes | memoryview], links: Sequence[Link], size: int, fresh: Fresh = new_buffer
) -> memoryview:
    """The plain bytes at the end of a chain: like decoding one part after the other, without the versions between.

    A block is decoded by all links while it is in the processor's cache, each over the result of the one before.

    Args:
        history: plain bytes of up to two earlier versions that the first link needs, the latest first; of any size.
        links: at least one, all of the same width; each after the first is a difference to the one before it.
        size: plain bytes of every version that the links make.

    Raises ``Corrupt`` when something does not fit. What is returned is not yet proven.
    """
    out = fresh(size)
    width = links[0].width
    words = kernels.as_words(out, width)
    step = blocks.BLOCK // width
    ends = [0] * len(links)
    for start in range(0, len(words), step):
        run = words[start : start + step]
        past = _past(history, width, start, len(run))
        for number, link in enumerate(links):
            ends[number] = blocks.decode_block(link.payload, ends[number], past, run, fresh)
            past = blocks.Past(run, None)
    tail = len(out) % width
    rests = [link.payload[end:] for link, end in zip(links, ends, strict=True)]
    if any(len(rest) != tail for rest in rests):
        raise Corrupt("a coded part with bytes left over or missing")
    out[len(out) - tail :] = rests[-1]
    return out


def guess_width(data: bytes | memoryview) -> int:
    """Bytes of an element when ``data`` (some 64 KiB) looks like numbers stored one after the other, else 0.

    It does when byte planes of some width are clearly smaller than what a match finder makes of the bytes.
    """
    if len(data) < _GUESS_BYTES:
        return 0
    matched = len(streams.deflate(data)) / len(data)
    bits = {width: choosing.plane_bits(kernels.as_words(data, width)) / (8 * width) for width in WIDTHS[1:]}
    least = min(bits.values())
    width = min(width for width in bits if bits[width] <= 1.01 * least)  # twice the right width does as well
    return width if bits[width] < 0.97 * matched else 0


def base_of(head: bytes | memoryview) -> Reference | None:
    """What stored bytes that begin with ``head`` need for decoding; None when they stand alone.

    ``head`` needs frame.PREFIX_SIZE + frame.MAX_HEADER bytes, or all there are.
    Raises ``Corrupt`` or ``UnsupportedFormat``.
    """
    return _reference(frame.parse(head, None)) if frame.is_framed(head) else None


def _encode_words(
    plain: bytes | memoryview, width: int, base: Base | None, effort: int, fresh: Fresh
) -> Encoded | None:
    words = kernels.as_words(plain, width)
    step = blocks.BLOCK // width
    payload: list[bytes | memoryview] = []
    needed = 0
    history = [] if base is None else [base.plain, *([base.before.plain] if base.before else [])]
    for start in range(0, len(words), step):
        run = words[start : start + step]
        past = _past(history, width, start, len(run))
        way = choosing.choose(run, past, effort)
        needed = max(needed, way.needs)
        blocks.encode_block(run, past, way, payload, fresh)
    payload.append(bytes(memoryview(plain)[len(words) * width :]))
    header: dict[str, Any] = {"width": width}
    if not needed or base is None:
        return Encoded(_framed(Kind.PLANES, plain, payload, header), "planes", None, 0)
    header |= _refer(base)
    before = base.before if needed > 1 else None
    if before is not None:
        header |= {"before": before.key, "before_size": len(before.plain)}
    pieces = _framed(Kind.DIFFERENCE, plain, payload, header)
    return Encoded(pieces, "difference", base.key, base.depth + 1, before and before.key)


def _past(history: Sequence[bytes | memoryview], width: int, start: int, count: int) -> blocks.Past | None:
    """The words of up to two earlier versions, the latest first."""
    words = [_words_at(plain, width, start, count) for plain in history]
    return blocks.Past(words[0], words[1] if len(words) > 1 else None) if words else None


def _words_at(base: bytes | memoryview, width: int, start: int, count: int) -> Any:
    """``count`` words of a base from word ``start`` on, zeros after its end."""
    import numpy as np

    found = kernels.as_words(memoryview(base)[start * width : (start + count) * width], width)
    if len(found) == count:
        return found
    padded = np.zeros(count, found.dtype)
    padded[: len(found)] = found
    return padded


def _encode_bytes(plain: bytes | memoryview, base: Base | None) -> Encoded | None:
    if base is not None:
        pieces = _framed(Kind.ZSTD, plain, [streams.deflate(plain, history=base.plain)], _refer(base))
        return Encoded(pieces, "zstd", base.key, base.depth + 1)
    middle = memoryview(plain)[len(plain) // 2 :][:_TRY_BYTES]
    if len(plain) > 4 * _TRY_BYTES and len(streams.deflate(middle)) > _WORTH * len(middle):
        return None
    return Encoded(_framed(Kind.ZSTD, plain, [streams.deflate(plain)], {}), "zstd", None, 0)


def _framed(
    kind: Kind, plain: bytes | memoryview, payload: Sequence[bytes | memoryview], header: dict[str, Any]
) -> list[bytes | memoryview]:
    head = frame.prefix(kind, len(plain), sum(map(len, payload)), header)
    pieces: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for piece in [head, *payload]:  # each piece is a write: small ones are joined
        small.append(piece)
        if len(piece) >= _SMALL_PIECE:
            pieces += [b"".join(small[:-1]), piece] if len(small) > 1 else [piece]
            small = []
    return [*pieces, b"".join(small)] if small else pieces


def _parse(stored: bytes | memoryview, size: int) -> Frame | None:
    if not 0 < size <= MAX_PART:
        raise Corrupt(f"a part of {size:,} bytes")
    found = frame.parse(stored, len(stored)) if frame.is_framed(stored) else None
    if (found.plain_size if found else len(stored)) != size:
        raise Corrupt(f"a stored part of another size than the {size:,} bytes expected")
    return found


def _refer(base: Base) -> dict[str, Any]:
    return {"base": base.key, "base_size": len(base.plain), "depth": base.depth + 1}


def _reference(found: Frame) -> Reference | None:
    if found.kind != Kind.DIFFERENCE and not (found.kind == Kind.ZSTD and "base" in found.header):
        return None
    before = None
    if found.kind == Kind.DIFFERENCE and "before" in found.header:
        before = _key(found, "before"), _field(found, "before_size", MAX_PART)
    size, depth = _field(found, "base_size", MAX_PART), _field(found, "depth", MAX_DEPTH)
    return Reference(_key(found, "base"), size, depth, before)


def _width(found: Frame) -> int:
    width = _field(found, "width", max(WIDTHS))
    if width not in WIDTHS:
        raise Corrupt(f"a part with elements of {width} bytes")
    return width


def _key(found: Frame, name: str) -> str:
    key = found.header.get(name)
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Corrupt(f"a difference that does not name its {name}")
    return key


def _field(found: Frame, name: str, most: int) -> int:
    value = found.header.get(name)
    if type(value) is not int or not 0 < value <= most:
        raise Corrupt(f"a frame whose {name} is {value!r:.40}")
    return value
