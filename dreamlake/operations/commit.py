"""Claim, look, commit: the only way a reference comes into being (SPEC "Protocol", R1 to R3).

Owns the order of the steps and the retry after a revoked claim. Everything that creates a reference (upload, copy,
restore) or changes the tree (delete, move, update, alias) ends here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from dreamlake.catalog import Committed
from dreamlake.content import reading
from dreamlake.content.staging import Plain, stage_again
from dreamlake.errors import ClaimRevoked, LakeError, NotFound
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Store

MAX_TRIES = 20

# Mutation switch (SPEC): False looks before it claims, which the simulation must notice.
CLAIM_FIRST = True


def commit(
    store: Store,
    session: SessionKey,
    entries: Sequence[dict[str, Any]],
    needs: Sequence[Plain] = (),
    *,
    shown: Callable[[Plain], str] = lambda plain: plain.digest,
) -> list[Version | None]:
    """Commit one record of these entries, all or nothing; durable when it returns.

    Args:
        needs: content that the entries refer to. One without a source must be stored already.
        shown: how to call a content in an error.

    Returns:
        Per entry the version it made or changed, or None.

    Raises:
        NotFound: content without a source is no longer stored.
        LakeError: the state refused the record (whatever ``Fold`` raises); nothing was changed.
        ClaimRevoked: revoked ``MAX_TRIES`` times in a row.
    """
    refused = store.catalog.view(session).refusal(entries)
    if refused is not None:
        raise refused
    for _ in range(MAX_TRIES):
        try:
            committed = _attempt(store, session, entries, needs, shown)
        except ClaimRevoked:
            continue
        for outcome in committed.outcomes:
            if isinstance(outcome, LakeError):
                raise outcome
        return [o for o in committed.outcomes if not isinstance(o, LakeError)]
    raise ClaimRevoked(
        f"the claim on session {session} was revoked {MAX_TRIES} times in a row; is a collector misconfigured?"
    )


def _attempt(
    store: Store,
    session: SessionKey,
    entries: Sequence[dict[str, Any]],
    needs: Sequence[Plain],
    shown: Callable[[Plain], str],
) -> Committed:
    unique = list({plain.digest: plain for plain in needs}.values())
    if not CLAIM_FIRST:
        _provide(store, unique, shown)
    claim = store.catalog.claim(session, [plain.digest for plain in unique], entries)
    try:
        if CLAIM_FIRST:
            _provide(store, unique, shown)
        return store.catalog.commit(claim)
    except BaseException:
        with contextlib.suppress(Exception):
            store.catalog.revoke(claim.token)
        raise


def _provide(store: Store, needs: Sequence[Plain], shown: Callable[[Plain], str]) -> None:
    """Afterwards every needed content was seen stored at some moment after the claim, durably."""
    look = store.blobs.look
    missing = [p for p in needs if not look(p.digest, p.size, reading.proof(p.digest), resurrect=p.staged is None)]
    late = [p for p in missing if p.staged is None]
    for plain in late:
        if plain.source is None:
            raise NotFound(f"{shown(plain)}: its content was already collected", path=shown(plain))
        stage_again(plain, store.blobs, limit=store.max_file_bytes, shown=shown(plain))
    store.blobs.secure([p.staged for p in late if p.staged is not None])
    for plain in missing:
        if plain.staged is not None:
            try:
                store.blobs.publish(plain.digest, plain.staged)
            except ClaimRevoked:
                plain.discard()  # its bytes are gone: the next try stages them again
                raise
            plain.staged = plain.stager = None
    store.blobs.barrier([plain.digest for plain in needs])
