"""A part's plain bytes <-> its stored form: the choice of coding, and what zstd, planes and difference frames hold.

    zstd        header {}: the payload is one zstd frame of all content.
                header {"base": key, "base_size": bytes, "depth": n}: the same, with the base's bytes as its history.
    planes      header {"width": w}: payload = blocks (``blocks``) of BLOCK bytes each, then size % w bytes as they are.
    difference  header {"width": w, "base": key, "base_size": bytes, "depth": n}: the same, and blocks may refer to the
                words of the base, and of the base's own base if it has one, at the same places. Where one of these is
                shorter it counts as followed by zeros; where it is longer the end is left out.

``depth`` is how many bases have to be decoded one after the other; it is at most MAX_DEPTH, so that reading a part
touches a bounded number of blobs (I10). A frame is only made when it is smaller than the content.

Encoding is deterministic for the same arguments and libraries (I12). Decoding checks everything and trusts nothing;
``read_part`` proves the result by the BLAKE3 in its key. One call works in one thread and releases the GIL most of the
time: callers code several parts at once. Memory: about twice the part, plus BLOCK-sized scratch space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dreamlake.content import blocks, choosing, frame, kernels, streams
from dreamlake.content.frame import Frame, Kind
from dreamlake.errors import Corrupt

__all__ = [
    "MAX_DEPTH",
    "MAX_PART",
    "Base",
    "Encoded",
    "History",
    "base_of",
    "decode_part",
    "encode_part",
    "guess_width",
    "part_key",
    "read_base",
    "read_part",
    "shallow_base",
]

MAX_DEPTH = 8  # differences on top of each other
MAX_PART = 64 << 20  # plain bytes of one part
WIDTHS = (1, 2, 4, 8)
_WORTH = 0.99  # a frame must be at most this share of the content, or the part is stored raw
_TRY_BYTES = 1 << 16
_GUESS_BYTES = 1 << 12

Fetch = Callable[[str], "bytes | memoryview"]


class Base(NamedTuple):
    """The matching part of an earlier version: its key, its plain bytes, and the depth of its own stored form.

    ``before`` is the plain content of the base that this base itself is stored as a difference to, when it is at hand.
    """

    key: str
    plain: bytes | memoryview
    depth: int = 0
    before: bytes | memoryview | None = None


class History(NamedTuple):
    """Plain content of a base, and of the base's own base (None when the base is stored without one)."""

    plain: bytes | memoryview
    before: bytes | memoryview | None = None


class Encoded(NamedTuple):
    """What to store for a part. ``base`` is the key it needs for decoding, or None; ``depth`` then is at least 1."""

    stored: bytes | memoryview
    kind: str
    base: str | None
    depth: int


def part_key(plain: bytes | memoryview) -> str:
    """The key of a part: ``b3-`` and the BLAKE3 of its plain bytes in hexadecimal digits."""
    from blake3 import blake3

    return "b3-" + blake3(plain).hexdigest()


def encode_part(plain: bytes | memoryview, width: int, base: Base | None = None, *, effort: int = 1) -> Encoded:
    """The smallest stored form among those worth their time, chosen by measuring samples.

    Args:
        plain: 1 to MAX_PART bytes.
        width: bytes of one element (1, 2, 4, 8), or 0 when the content is not made of numbers.
        base: an earlier version to code the difference to; not used when it does not help, or is MAX_DEPTH deep.
        effort: 0 is the fastest; 1 also orders by exponent where that saves 8 %, 2 where it saves 1 %, at two to
            four times the time of coding and of every later reading.

    Raises ``ValueError`` for a size, width or effort out of range.
    """
    if not 0 < len(plain) <= MAX_PART or (width and width not in WIDTHS) or not 0 <= effort <= 2:
        raise ValueError(f"a part of {len(plain):,} bytes, width {width}, effort {effort}")
    if base is not None and (base.depth >= MAX_DEPTH or not base.plain or len(base.plain) > MAX_PART):
        base = None
    coded = _encode_words(plain, width, base, effort) if width else _encode_bytes(plain, base)
    if coded is not None and len(coded.stored) <= _WORTH * len(plain):
        return coded
    if frame.is_framed(plain):
        return Encoded(frame.pack(Kind.RAW, len(plain), [plain]), "raw", None, 0)
    return Encoded(plain, "raw", None, 0)


def decode_part(stored: bytes | memoryview, size: int, fetch_base: Callable[[str, int], History]) -> bytes | memoryview:
    """The plain bytes of one stored form; they may share memory with ``stored``.

    Args:
        stored: all stored bytes.
        size: how many plain bytes must come out.
        fetch_base: (key, size) -> plain bytes of a base and of that base's own base; called at most once.

    Raises:
        Corrupt: damaged, or content of another size. What is returned is not yet proven; see ``read_part``.
        UnsupportedFormat: written by a later version.
    """
    found = _parse(stored, size)
    if found is None:
        return stored
    payload = memoryview(stored)[found.payload_start :]
    if found.kind == Kind.RAW:
        return payload
    reference = _reference(found)
    past = fetch_base(*reference[:2]) if reference else None
    if reference and (past is None or len(past.plain) != reference[1]):
        raise Corrupt(f"the base {reference[0]} has another size than its difference says")
    if found.kind == Kind.ZSTD:
        return streams.inflate(payload, size, history=past and past.plain)
    if found.kind in (Kind.PLANES, Kind.DIFFERENCE):
        return _decode_words(payload, size, _field(found, "width", max(WIDTHS)), past)
    raise Corrupt(f"a part stored as {found.kind.name.lower()}")


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


def read_part(key: str, size: int, fetch: Fetch) -> bytes:
    """The plain bytes of a part, proven by its key, with all the bases it needs.

    Args:
        key: the part; every base that its stored form names is read the same way.
        size: its plain bytes.
        fetch: key -> stored bytes.

    Raises:
        Corrupt: damaged anywhere along the chain, or a chain deeper than MAX_DEPTH. Errors of ``fetch`` pass through.
    """
    return bytes(_read(key, size, fetch, MAX_DEPTH).plain)


def read_base(key: str, size: int, fetch: Fetch) -> Base:
    """Like ``read_part``, with all that ``encode_part`` can use of an earlier version."""
    return _read(key, size, fetch, MAX_DEPTH)


def shallow_base(key: str, size: int, head: Callable[[str], bytes | memoryview]) -> tuple[str, int]:
    """(key, size) of the version to code the next one against, given the latest one.

    That is the latest one itself, unless it is MAX_DEPTH deep already; then the one of its bases half as deep, which
    starts a new branch: cheaper than a new keyframe, and the depth stays bounded.

    Args:
        head: key -> the first bytes of its stored form, see ``base_of``.
    """
    reference = base_of(head(key))
    if reference is None or reference[2] < MAX_DEPTH:
        return key, size
    for _ in range(MAX_DEPTH):  # not until it ends: damaged blobs may refer to each other in a circle
        key, size, depth = reference[0], reference[1], reference[2] - 1
        if depth <= MAX_DEPTH // 2:
            break
        following = base_of(head(key))
        if following is None:
            break
        reference = following
    return key, size


def base_of(head: bytes | memoryview) -> tuple[str, int, int] | None:
    """(key, plain size, depth) of what stored bytes that begin with ``head`` refer to; None when to nothing.

    ``head`` needs frame.PREFIX_SIZE + frame.MAX_HEADER bytes, or all there are.
    Raises ``Corrupt`` or ``UnsupportedFormat``.
    """
    return _reference(frame.parse(head, None)) if frame.is_framed(head) else None


def _read(key: str, size: int, fetch: Fetch, left: int) -> Base:
    base: Base | None = None

    def fetch_base(base_key: str, base_size: int) -> History:
        nonlocal base
        if left == 0:
            raise Corrupt(f"more than {MAX_DEPTH} differences on top of each other at {key}", path=key)
        base = _read(base_key, base_size, fetch, left - 1)
        return History(base.plain, base.before)

    plain = decode_part(fetch(key), size, fetch_base)
    if part_key(plain) != key:
        raise Corrupt(f"the part {key} does not have the content that its key promises", path=key)
    return Base(key, plain, base.depth + 1, base.plain) if base else Base(key, plain)


def _encode_words(plain: bytes | memoryview, width: int, base: Base | None, effort: int) -> Encoded | None:
    words = kernels.as_words(plain, width)
    step = blocks.BLOCK // width
    payload: list[bytes] = []
    differs = False
    for start in range(0, len(words), step):
        run = words[start : start + step]
        past = base and _past(History(base.plain, base.before), width, start, len(run))
        way = choosing.choose(run, past, effort)
        differs |= way.transform >= blocks.DIFFERENCE
        blocks.encode_block(run, past, way, payload)
    payload.append(bytes(memoryview(plain)[len(words) * width :]))
    header: dict[str, Any] = {"width": width}
    if not differs or base is None:
        return Encoded(frame.pack(Kind.PLANES, len(plain), payload, header), "planes", None, 0)
    header |= _refer(base)
    return Encoded(frame.pack(Kind.DIFFERENCE, len(plain), payload, header), "difference", base.key, base.depth + 1)


def _decode_words(payload: memoryview, size: int, width: int, history: History | None) -> memoryview:
    import numpy as np

    if width not in WIDTHS:
        raise Corrupt(f"a part with elements of {width} bytes")
    out = np.empty(size, np.uint8)
    words = kernels.as_words(out, width)
    step = blocks.BLOCK // width
    at = 0
    for start in range(0, len(words), step):
        run = words[start : start + step]
        past = history and _past(history, width, start, len(run))
        at = blocks.decode_block(payload, at, past, run)
    rest = payload[at:]
    if len(rest) != size % width:
        raise Corrupt("a coded part with bytes left over or missing")
    out[size - len(rest) :] = np.frombuffer(rest, np.uint8)
    return out.data


def _past(history: History, width: int, start: int, count: int) -> blocks.Past:
    before = None if history.before is None else _words_at(history.before, width, start, count)
    return blocks.Past(_words_at(history.plain, width, start, count), before)


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
        stored = frame.pack(Kind.ZSTD, len(plain), [streams.deflate(plain, history=base.plain)], _refer(base))
        return Encoded(stored, "zstd", base.key, base.depth + 1)
    middle = memoryview(plain)[len(plain) // 2 :][:_TRY_BYTES]
    if len(plain) > 4 * _TRY_BYTES and len(streams.deflate(middle)) > _WORTH * len(middle):
        return None
    return Encoded(frame.pack(Kind.ZSTD, len(plain), [streams.deflate(plain)]), "zstd", None, 0)


def _parse(stored: bytes | memoryview, size: int) -> Frame | None:
    if not 0 < size <= MAX_PART:
        raise Corrupt(f"a part of {size:,} bytes")
    found = frame.parse(stored, len(stored)) if frame.is_framed(stored) else None
    if (found.plain_size if found else len(stored)) != size:
        raise Corrupt(f"a stored part of another size than the {size:,} bytes expected")
    return found


def _refer(base: Base) -> dict[str, Any]:
    return {"base": base.key, "base_size": len(base.plain), "depth": base.depth + 1}


def _reference(found: Frame) -> tuple[str, int, int] | None:
    if found.kind == Kind.DIFFERENCE or (found.kind == Kind.ZSTD and "base" in found.header):
        key = found.header.get("base")
        if not isinstance(key, str) or len(key) != 67 or not key.startswith("b3-"):
            raise Corrupt("a difference that does not name its base")
        return key, _field(found, "base_size", MAX_PART), _field(found, "depth", MAX_DEPTH)
    return None


def _field(found: Frame, name: str, most: int) -> int:
    value = found.header.get(name)
    if type(value) is not int or not 0 < value <= most:
        raise Corrupt(f"a frame whose {name} is {value!r:.40}")
    return value
