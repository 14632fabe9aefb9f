"""Parts and the earlier versions they are coded against: reading whole chains, and which base a new version should get.

The codings themselves are in ``parts``; what other packages need of them is offered here, too.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

from dreamlake.content.buffers import Fresh, new_buffer
from dreamlake.content.parts import (
    MAX_DEPTH,
    MAX_PART,
    WIDTHS,
    Base,
    Encoded,
    Known,
    Link,
    Reference,
    base_of,
    decode_links,
    decode_part,
    encode_part,
    guess_width,
    link_of,
    part_key,
    proves,
)
from dreamlake.errors import Corrupt, NotFound

__all__ = [
    "MAX_DEPTH",
    "MAX_PART",
    "WIDTHS",
    "Base",
    "Encoded",
    "Known",
    "Reference",
    "base_of",
    "decode_part",
    "encode_part",
    "guess_width",
    "part_key",
    "read_base",
    "read_part",
    "shallow_base",
]

MAX_READS = 4 * MAX_DEPTH  # blobs that reading one part may touch
_KEPT = 3  # plain parts kept while a chain is read

Fetch = Callable[[str], "bytes | memoryview"]
Others = Callable[[str], "Iterable[bytes | memoryview]"]


Remembered = Callable[[str], "Base | None"]


def _no_others(key: str) -> Iterable[bytes]:
    return ()


def _nothing(key: str) -> None:
    return None


def read_part(
    key: str, size: int, fetch: Fetch, others: Others = _no_others, fresh: Fresh = new_buffer
) -> bytes | memoryview:
    """The plain bytes of a part, proven by its key.

    All the bases that it needs are read, too; a wrong one would make a wrong part, so only the part itself is hashed.

    Args:
        key: the part; every base that its stored form names is read the same way.
        size: its plain bytes.
        fetch: key -> stored bytes.
        others: key -> stored bytes of all copies there are: tried when what ``fetch`` gives leads nowhere, because
            copies of one part may need different bases.
        fresh: bytes -> a buffer to decode into.

    Raises:
        Corrupt: damaged anywhere along the chain, or a chain deeper than MAX_DEPTH. Errors of ``fetch`` pass through.
    """
    return read_base(key, size, fetch, others, fresh, before=False).plain


def read_base(
    key: str,
    size: int,
    fetch: Fetch,
    others: Others = _no_others,
    fresh: Fresh = new_buffer,
    *,
    before: bool = True,
    remembered: Remembered = _nothing,
) -> Base:
    """Like ``read_part``, with all that ``encode_part`` can use of an earlier version; without ``before``, of one.

    Args:
        remembered: key -> a part that is in memory already, or None; not asked with ``before``.
    """
    with contextlib.suppress(Corrupt, NotFound):
        if before:
            found = _Chain(fetch, others, fresh, careful=False).read(key, size, MAX_DEPTH)
        else:
            found = _read_straight(key, size, fetch, remembered, fresh)
        before_too = found.before is None or proves(found.before.key, found.before.plain)
        if before_too and proves(key, found.plain):
            return found
    return _Chain(fetch, others, fresh, careful=True).read(key, size, MAX_DEPTH)  # which one is it?


def _read_straight(key: str, size: int, fetch: Fetch, remembered: Remembered, fresh: Fresh) -> Base:
    """A part without its history: as many links as there are in one go, from where something else begins."""
    links: list[Link] = []
    at = key
    history: list[bytes | memoryview] = []
    while not links or links[-1].reference is not None:
        known = remembered(at)
        if known is not None and len(known.plain) == size:
            if not links:
                return known
            history.append(known.plain)
            break
        stored = fetch(at)
        link = link_of(stored, size)
        if link is None or len(links) == MAX_DEPTH or (links and links[0].width != link.width):
            found = _Chain(fetch, _no_others, fresh, careful=False).decode(stored, at, size, MAX_DEPTH - len(links))
            if not links:
                return found._replace(before=None)
            history.append(found.plain)
            break
        links.append(link)
        at = link.reference.key if link.reference is not None else at
    depth = links[0].reference.depth if links[0].reference is not None else 0
    return Base(key, decode_links(history, links[::-1], size, fresh), depth)


def shallow_base(key: str, size: int, head: Callable[[str], bytes | memoryview]) -> tuple[str, int]:
    """(key, size) of the version to code the next one against, given the latest one.

    That is the latest one itself, unless it is MAX_DEPTH deep already; then the one of its bases half as deep, which
    starts a new branch: cheaper than a new keyframe, and the depth stays bounded.

    Args:
        head: key -> the first bytes of its stored form, see ``base_of``.
    """
    reference = base_of(head(key))
    if reference is None or reference.depth < MAX_DEPTH:
        return key, size
    for _ in range(MAX_DEPTH):  # not until it ends: damaged blobs may refer to each other in a circle
        key, size = reference.key, reference.size
        if reference.depth - 1 <= MAX_DEPTH // 2:
            break
        following = base_of(head(key))
        if following is None:
            break
        reference = following
    return key, size


class _Chain:
    """Reads a part with all it needs. Keeps the last plain parts, because before a base mostly stands its own base.

    ``careful`` proves every part by its key, and tries all copies of one that does not read.
    """

    def __init__(self, fetch: Fetch, others: Others, fresh: Fresh, *, careful: bool) -> None:
        self._fetch, self._others, self._fresh, self._careful = fetch, others, fresh, careful
        self._kept: OrderedDict[str, Base] = OrderedDict()
        self._budget = MAX_READS

    def read(self, key: str, size: int, left: int) -> Base:
        if key in self._kept:
            return self._kept[key]
        self._budget -= 1
        if left < 0 or self._budget < 0:
            raise Corrupt(f"more than {MAX_DEPTH} differences on top of each other at {key}", path=key)
        try:
            found = self.decode(self._fetch(key), key, size, left)
        except (Corrupt, NotFound):
            other = self._other(key, size, left) if self._careful else None
            if other is None:
                raise
            found = other
        self._kept[key] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _other(self, key: str, size: int, left: int) -> Base | None:
        """From another copy of the part, whose bases may be others."""
        for stored in self._others(key):
            with contextlib.suppress(Corrupt, NotFound):
                return self.decode(stored, key, size, left)
        return None

    def decode(self, stored: bytes | memoryview, key: str, size: int, left: int) -> Base:
        """A part from one of its stored forms, after all that this form needs."""
        bases: list[Base] = []

        def fetch_base(base_key: str, base_size: int) -> bytes | memoryview:
            bases.append(self.read(base_key, base_size, left - 1))
            return bases[-1].plain

        plain = decode_part(stored, size, fetch_base, self._fresh)
        if self._careful and not proves(key, plain):
            raise Corrupt(f"the part {key} does not have the content that its key promises", path=key)
        depth = max((base.depth + 1 for base in bases), default=0)
        return Base(key, plain, depth, Known(bases[0].key, bases[0].plain) if bases else None)
