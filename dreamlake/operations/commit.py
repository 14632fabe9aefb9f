"""Claim, look, commit: the only way a reference comes into being (SPEC "Protocol", R1 to R3).

Owns the order of the steps and the retry after a revoked claim. Everything that creates a reference (upload, copy,
restore) or changes the tree (delete, move, update, alias) ends here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dreamlake.blobs import Ready
from dreamlake.catalog import Committed
from dreamlake.catalog.fold import Fold
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.ingest import Coded, Form
from dreamlake.content.names import recipe_keys
from dreamlake.content.presence import rely_all, rely_on_part, rely_on_recipe
from dreamlake.content.staging import Plain, stage_again
from dreamlake.errors import ClaimRevoked, Corrupt, LakeError, NotFound
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Store

MAX_TRIES = 20
WAVE_FILES = 4000  # sent together, where sending is dear
WAVE_BYTES = 256 << 20  # of them that are staged for it

# Mutation switch (SPEC): False looks before it claims, which the simulation must notice.
CLAIM_FIRST = True
# Mutation switch: False lets a difference replace a stored part, so that two parts may come to need each other.
REPLACE_WHOLE_FORMS_ONLY = True


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
    refused_early(store, session, entries)
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


def refused_early(store: Store, session: SessionKey, entries: Sequence[dict[str, Any]]) -> Fold:
    """Raises why a record of these entries would be refused now; returns the view that would take it.

    The view may be a few seconds old, but nothing is refused for what may have changed since.
    """
    view = store.catalog.view(session, fresh=False)
    if view.refusal(entries) is not None:
        view = store.catalog.view(session)
        refused = view.refusal(entries)
        if refused is not None:
            raise refused
    return view


def _attempt(
    store: Store,
    session: SessionKey,
    entries: Sequence[dict[str, Any]],
    needs: Sequence[Plain],
    shown: Callable[[Plain], str],
) -> Committed:
    unique = list({plain.digest: plain for plain in needs}.values())
    asked = [plain for plain in unique if plain.size >= MIN_FILE and not plain.waiting and plain.relied is None]
    for plain, found in zip(asked, _rely(store, asked, resurrect=False), strict=True):
        plain.relied = found  # a hint: which blobs to name in the claim; the look after it decides
    if not CLAIM_FIRST:
        provide(store, unique, shown)
    claim = store.catalog.claim(session, dict.fromkeys(key for plain in unique for key in plain.keys), entries)
    try:
        if CLAIM_FIRST:
            provide(store, unique, shown)
        return store.catalog.commit(claim)
    except BaseException:
        with contextlib.suppress(Exception):
            store.catalog.revoke(claim.token)
        raise


def secure(store: Store, needs: Sequence[Plain]) -> None:
    """Make durable what waits to be published, before the claim.

    A collector may have taken the scratch of an upload that it thought dead: then all of it is staged again, under
    the claim.
    """
    try:
        store.blobs.secure([staged for plain in needs for staged in plain.waiting])
    except ClaimRevoked:
        for plain in needs:
            plain.discard()


def provide(store: Store, needs: Sequence[Plain], shown: Callable[[Plain], str]) -> None:
    """Afterwards every needed content was seen stored at some moment after the claim, durably.

    Raises ``ClaimRevoked`` when a content turns out to be stored in blobs that the claim does not name: start again.
    """
    missing = []
    for waits in (False, True):
        asked = [plain for plain in needs if bool(plain.waiting) is waits]
        for plain, found in zip(asked, _rely(store, asked, resurrect=not waits), strict=True):
            if found is None:
                missing.append(plain)
            elif not set(found) <= set(plain.keys):
                plain.discard()
                plain.relied = found
                raise ClaimRevoked(f"{shown(plain)} is stored in another form than claimed")
    for wave in _waves(missing) if store.blobs.sending_is_dear else [missing]:
        _send(store, wave, shown)
    store.blobs.barrier([key for plain in needs for key in plain.keys])


def _rely(store: Store, needs: Sequence[Plain], *, resurrect: bool) -> list[list[str] | None]:
    return rely_all(store.blobs, [(plain.digest, plain.size) for plain in needs], resurrect=resurrect)


def _waves(missing: Sequence[Plain]) -> Iterator[list[Plain]]:
    """What is sent together: enough to keep many requests going, not more than fits into scratch space."""
    wave: list[Plain] = []
    waiting = 0
    for plain in missing:
        wave.append(plain)
        waiting += 0 if plain.waiting else plain.size
        if len(wave) >= WAVE_FILES or waiting >= WAVE_BYTES:
            yield wave
            wave, waiting = [], 0
    if wave:
        yield wave


def _send(store: Store, missing: Sequence[Plain], shown: Callable[[Plain], str]) -> None:
    """Publish contents that no look has found, staging those that are not yet."""
    late = []
    for plain in missing:
        if plain.coded is not None and not _relies_on_gone(store, plain.coded):
            continue
        if plain.staged is None:
            if plain.source is None:
                raise NotFound(f"{shown(plain)}: its content was already collected", path=shown(plain))
            stage_again(plain, store.blobs, limit=store.max_file_bytes, shown=shown(plain))
            late.append(plain)
    store.blobs.secure([p.staged for p in late if p.staged is not None])
    _publish(store, missing)


def recode(store: Store, session: SessionKey, plain: Plain) -> bool:
    """Publish a second, coded form of a stored content, under a record that names all it needs.

    Args:
        plain: with ``coded`` forms waiting.

    Returns False, with nothing published, when something that the forms rely on is gone. Raises ``ClaimRevoked``.
    """
    assert plain.coded is not None
    claim = store.catalog.claim(session, plain.keys, [{"op": "noop"}])
    try:
        if _relies_on_gone(store, plain.coded):
            store.catalog.revoke(claim.token)
            return False
        keys = plain.keys
        store.blobs.secure(plain.waiting)
        _publish(store, [plain])
        store.blobs.barrier(keys)
        store.catalog.commit(claim)
        return True
    except BaseException:
        with contextlib.suppress(Exception):
            store.catalog.revoke(claim.token)
        raise


def store_coded(
    store: Store, session: SessionKey, digest: str, size: int, coded: Coded, *, most: float = math.inf
) -> int | None:
    """``recode`` of what was just coded from a stored content; returns the stored bytes of the new form.

    None when the content stays as it is: they would be more than ``most``, or a collector or another upload was
    quicker. Nothing stays staged. Raises ``Corrupt`` when the content does not match its checksum.
    """
    plain = Plain(digest, size, None, coded=coded)
    try:
        if coded.digest != digest:
            raise Corrupt(f"stored content {digest} is damaged; run `dreamlake verify`", path=digest)
        new_bytes = coded.new_bytes
        return new_bytes if new_bytes <= most and recode(store, session, plain) else None
    except ClaimRevoked:
        return None
    finally:
        plain.discard()


def drop_form(store: Store, session: SessionKey, digest: str, size: int, form: str) -> bool:
    """Remove the whole copy of a content, or one of its recipes, when it has another complete coded form.

    Whoever relied on what goes relies on the content, which collectors follow into its recipes; a collector that
    looked for recipes before this one was there learns of its parts from the record that names them. The other form
    is looked at after this one was hidden (a condemned part is brought back to life by that), and made durable. Two
    who want to drop each other's form: the second to look finds the first one's hidden, and brings it back.

    Args:
        session: where the record goes.
        form: what goes: the digest itself, or the key of a recipe.

    Returns True if it is gone.
    """
    others = [key for key in recipe_keys(digest) if key != form]
    named = rely_on_recipe(store.blobs, digest, size, resurrect=False, places=others)
    if named is None:
        return False
    batch = f"{store.ports.now():%Y%m%dT%H%M%SZ}-{store.ports.new_id()}"
    try:
        claim = store.catalog.claim(session, named, [{"op": "noop"}])
    except ClaimRevoked:
        return False
    copy = None
    try:
        copy = store.blobs.condemn(form, batch)
        found = rely_on_recipe(store.blobs, digest, size, places=others) if copy is not None else None
        if copy is None or found is None or not set(found) <= set(named):
            raise ClaimRevoked(f"the coded form of {digest} is not complete, or not as claimed")
        store.blobs.barrier(found)
        store.catalog.commit(claim)
    except BaseException as error:
        if copy is not None:
            with contextlib.suppress(Exception):
                store.blobs.settle(copy, keep=True)
        with contextlib.suppress(Exception):
            store.catalog.revoke(claim.token)
        if isinstance(error, ClaimRevoked):
            return False
        raise
    return store.blobs.settle(copy, keep=False)


def _relies_on_gone(store: Store, coded: Coded) -> bool:
    """True if a part or base that was stored when the file was coded is no longer, or not as claimed.

    Likewise if the recipe is no longer in hand: an earlier try has published it, and the look has not found it.
    Rare; the file is then stored whole instead.
    """
    if coded.recipe.staged is None:
        return True
    wanted = [(form.key, form.size) for form in coded.parts if form.staged is None]
    wanted += [base for form in coded.parts if form.staged is not None for base in form.bases]
    claimed = set(coded.keys())
    return not all(claimed.issuperset(rely_on_part(store.blobs, *part) or [""]) for part in dict.fromkeys(wanted))


def _publish(store: Store, plains: Sequence[Plain]) -> None:
    """Make what waits visible: parts before the recipe that names them."""
    whole = [plain for plain in plains if plain.staged is not None]
    forms = [(plain, form) for plain in plains if plain.coded is not None for form in plain.coded.waiting()]
    try:
        store.blobs.publish_all([Ready(plain.digest, plain.staged) for plain in whole if plain.staged is not None])
        for plain in whole:
            plain.sent_bytes += plain.staged.size if plain.staged is not None else 0
            plain.staged = plain.stager = None
        for recipes in (False, True):
            _publish_forms(store, [(p, form) for p, form in forms if _is_recipe(p, form) is recipes])
    except ClaimRevoked:
        for plain in plains:
            plain.discard()  # its bytes are gone, or do not fit: the next try stages the content whole
        raise


def _is_recipe(plain: Plain, form: Form) -> bool:
    return plain.coded is not None and form is plain.coded.recipe


def _publish_forms(store: Store, forms: Sequence[tuple[Plain, Form]]) -> None:
    """Blobs of coded contents. A difference never replaces what is there, see ``Blobs.publish``.

    Somebody else may have published the part in between; then theirs counts, if the claim names all it needs.
    """
    ready = [
        Ready(form.key, form.staged, not form.bases or not REPLACE_WHOLE_FORMS_ONLY)
        for _, form in forms
        if form.staged is not None
    ]
    for (plain, form), done in zip(forms, store.blobs.publish_all(ready), strict=True):
        if done:
            plain.sent_bytes += form.staged.size if form.staged is not None else 0
            form.staged = form.stager = None
            continue
        theirs = rely_on_part(store.blobs, form.key, form.size)
        if theirs is None or not set(plain.keys).issuperset(theirs):
            raise ClaimRevoked(f"part {form.key} is stored in another form than claimed")
        form.discard()
