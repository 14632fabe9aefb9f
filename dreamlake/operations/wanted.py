"""What should a tree hold? The sessions of a scope, and the versions that make their trees, now or as they were."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from dreamlake.catalog.fold import Fold
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Store
from dreamlake.operations.moments import moment

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def sessions_of(store: Store, scope: str | SessionKey | None) -> list[SessionKey]:
    """The sessions of a scope: one (``"workspace/name"`` or a key), a workspace, or None for all.

    Dropped sessions are among those of a workspace or the lake: their files are no longer in the tree.
    Raises ``NotFound`` for an unknown session or workspace.
    """
    if scope is None:
        return store.sessions()
    if isinstance(scope, str) and "/" in scope:
        scope = store.session(*scope.partition("/")[::2])
    if isinstance(scope, SessionKey):
        if store.catalog.view(scope).n == 0:
            raise NotFound(f"no session {scope} in this lake", path=str(scope))
        return [scope]
    found = [key for key in store.sessions() if key.workspace == scope]
    if not found:
        raise NotFound(f"no workspace {scope!r} in this lake", path=scope)
    return found


def stamp_ns(uploaded_at: str) -> int | None:
    """The upload time as a time stamp; None when it is not one (records from elsewhere)."""
    try:
        when = datetime.fromisoformat(uploaded_at.replace("Z", "+00:00"))
        return max(0, (when - _EPOCH) // timedelta(microseconds=1)) * 1000
    except (ValueError, TypeError, OverflowError):
        return None


def versions_at(store: Store, session: SessionKey, at: str | int | datetime | None) -> list[Version]:
    """The versions that make the tree, now or as it was."""
    if at is None:
        return store.catalog.view(session).live()
    number = _number(at)
    if number is None:
        return _as_of(store, session, moment(at)).live()  # type: ignore[arg-type]
    found = []
    for state in store.catalog.view(session).files():
        kept = [v for v in state.versions if v.deleted_at is None and v.number <= number]
        if state.current is not None and kept:
            found.append(kept[-1])
    return sorted(found, key=lambda version: version.seq)


def _number(at: str | int | datetime) -> int | None:
    if isinstance(at, bool) or not isinstance(at, (str, int, datetime)):
        raise InvalidInput(f"at={at!r}; use a version number such as 3, or a time such as 2026-01-31T12:00:00Z")
    if isinstance(at, str) and at.removeprefix("v").isdecimal():
        at = int(at.removeprefix("v"))
    return at if isinstance(at, int) else None


def _as_of(store: Store, session: SessionKey, when: datetime) -> Fold:
    """The session as it was: its log read again up to a moment, so that moves and deletions are undone, too."""
    fold = Fold(session)
    for number, record in store.catalog.records(session):
        if min(moment(entry.get("at", record.at)) for entry in record.entries) <= when:
            fold.apply(number, record)
    return fold
