"""Copies of one part may need different bases: which of them may be given up for another.

A reference relies on the copy that its maker has looked at, and its record names what that copy needs. Another copy of
the same part, published while the first was condemned, may need blobs that nobody else has claimed, or even the first
itself. Both stay until one is live that needs nothing: that one serves everybody, whatever they have claimed.
"""

from __future__ import annotations

from dreamlake.blobs import Copy
from dreamlake.content import codecs, frame
from dreamlake.content.assembled import copy_needs, stored_copies, stored_part
from dreamlake.content.names import is_part
from dreamlake.errors import LakeError, NotFound
from dreamlake.operations.context import Store

_TRIES = 20  # others may condemn and publish the part at the same time
_PROBE = 1 << 16

# Mutation switch (SPEC): False gives a condemned copy up for any live one, so that what was relied on may be lost.
KEEP_UNTIL_SERVED = True


def put_back(store: Store, copy: Copy) -> bool:
    """Make a condemned copy that something refers to live again, or give it up for a live one that serves as well.

    When the live copy needs other blobs than this one does, the part is stored anew first, in a form without bases.

    Returns False when the copy was not condemned any more, or stays so: its part does not read just now.
    """
    blobs = store.blobs
    if not is_part(copy.key) or not KEEP_UNTIL_SERVED:
        return blobs.settle(copy, keep=True)
    for _ in range(_TRIES):
        if blobs.settle(copy, keep=True, drop=False):
            return True
        try:
            mine = copy_needs(blobs, copy)
        except LakeError:
            return False  # gone, or damaged: for repair to judge
        try:
            live = copy_needs(blobs, Copy(copy.key, None, 0))
            if not live or live == mine:
                return blobs.settle(copy, keep=False)
            _store_anew(store, copy.key)
        except NotFound:
            continue  # the live one was condemned in between
        except LakeError:
            return False
    return False


def _store_anew(store: Store, key: str) -> None:
    """Publish a part in a form without bases, over whatever is there. Raises ``LakeError`` when it does not read."""
    blobs = store.blobs
    stored = stored_part(blobs, key)
    size = frame.parse(stored, len(stored)).plain_size if frame.is_framed(stored) else len(stored)
    plain = codecs.read_part(key, size, lambda k: stored_part(blobs, k), lambda k: stored_copies(blobs, k))
    stager = blobs.stage()
    try:
        for piece in codecs.encode_part(plain, codecs.guess_width(plain[:_PROBE])).pieces:
            stager.write(piece)
        staged = stager.finish()
        blobs.secure([staged])
        blobs.publish(key, staged)
    except BaseException:
        stager.discard()
        raise
    blobs.barrier([key])
