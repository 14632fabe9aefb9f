"""Lineage: which versions a session used as its inputs, and who used a version.

The using session keeps a record of each input (field ``use:<id>`` of its ``session`` entry, so that two processes never
overwrite each other's). The used version gets an alias, ``used-<sid of the user>-v<number>``: an alias is what
retention already keeps, and what a concurrent collection already respects (SPEC "The fold"). Lists of aliases for
people leave these out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from dreamlake.catalog.fold import FileState, Fold
from dreamlake.errors import InvalidInput, NotFound, StateError
from dreamlake.model import SessionInfo, SessionKey, Version
from dreamlake.operations import addressing, tree
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.ports import iso

__all__ = ["MAX_USES", "inputs", "plain_aliases", "resolve", "use", "user_names", "users"]

MAX_USES = 10_000  # inputs of one session
_FIELD = "use:"
_ALIAS = re.compile(r"used-([0-9a-f]{32})-v[0-9]+")
_TRIES = 5  # of marking a file that others move at the same time

_T = TypeVar("_T")


def resolve(store: Store, session: SessionKey, reference: str | Mapping[str, Any]) -> tuple[SessionKey, Version]:
    """The version that an address, a path of this session (it begins with a slash) or a record names.

    Raises:
        NotFound: no such session, file, alias or version.  InvalidInput: not an address.
    """
    if isinstance(reference, Mapping):
        workspace, _, name = str(reference.get("sessionId", "")).partition("/")
        source, path = store.session(workspace, name), str(reference.get("id", ""))
    elif isinstance(reference, str) and reference.startswith("/"):
        source, path = session, reference
    else:
        source, path = addressing.parse(reference, store.namespace)
    view = store.catalog.view(source)
    if not view.info.exists:
        raise NotFound(f"no session {str(source)!r}", path=str(reference))
    if path == "/":
        raise InvalidInput(f"{reference!r} names a session; a file is needed: {source}/path", path=str(reference))
    found = view.file_with(path) if isinstance(reference, Mapping) else None
    if found is not None:  # the record of an older version still means that version
        for version in found.versions:
            if version.id == path and version.deleted_at is None:
                return source, version
    return source, tree.resolve(view, path)


def use(store: Store, session: SessionKey, reference: str | Mapping[str, Any]) -> tuple[SessionKey, Version]:
    """Record that a session uses a version as its input, and keep that version from retention; durable.

    The version is marked first: from then on no collection lets it go. Using it again changes nothing.

    Raises:
        what ``resolve`` raises; StateError: the using session is write-protected, or was dropped.
        InvalidInput: more than ``MAX_USES`` inputs.
    """
    source, version = resolve(store, session, reference)
    known = {key for key in (store.catalog.view(session).info.extra or {}) if key.startswith(_FIELD)}
    field = f"{_FIELD}{version.id}"
    if field not in known and len(known) >= MAX_USES:
        raise InvalidInput(f"session {session} has {len(known):,} inputs; the limit is {MAX_USES:,}")
    _mark(store, session, source, version)
    if field not in known:
        at = iso(store.ports.now())
        commit(store, session, [{"op": "session", "at": at, field: _record(source, version, reference, at)}])
    return source, version


def _mark(store: Store, session: SessionKey, source: SessionKey, version: Version) -> None:
    name = f"used-{session.sid}-v{version.number}"
    for attempt in range(_TRIES):
        view = store.catalog.view(source)
        state = view.file_with(version.id)
        if state is None:
            raise NotFound(f"{version.key}@v{version.number} of session {source} is gone", path=version.key)
        if state.aliases.get(name) == version.id:
            return
        if view.info.write_protected and session != source:
            return  # nothing of it ever goes
        try:
            commit(store, source, [{"op": "alias", "path": state.key, "name": name, "id": version.id}])
            return
        except (NotFound, StateError):
            if attempt == _TRIES - 1 or view.info.write_protected:
                raise


def _record(source: SessionKey, version: Version, reference: str | Mapping[str, Any], at: str) -> dict[str, Any]:
    return {
        "id": version.id,
        "session": str(source),
        "path": version.key,
        "version": version.number,
        "checksum": version.digest,
        "sizeBytes": version.size_bytes,
        "reference": reference if isinstance(reference, str) else addressing.text_of(source, version.key),
        "at": at,
    }


def inputs(info: SessionInfo) -> list[dict[str, Any]]:
    """The recorded inputs of a session, in the order of their first use: ``id``, ``session``, ``path``, ``version``,
    ``checksum``, ``sizeBytes``, ``reference`` (as it was written), ``at``."""
    found = [value for key, value in (info.extra or {}).items() if key.startswith(_FIELD) and isinstance(value, dict)]
    return sorted((dict(value) for value in found), key=lambda value: (str(value.get("at")), str(value.get("id"))))


def plain_aliases(aliases: Mapping[str, _T]) -> dict[str, _T]:
    """Without those that only say who uses a version."""
    return {name: value for name, value in aliases.items() if not _ALIAS.fullmatch(name)}


def users(store: Store, state: FileState) -> dict[str, list[str]]:
    """Id of each used version of a file -> the sessions that use it, sorted."""
    return _named(store, ((name, version_id) for name, version_id in state.aliases.items()))


def user_names(store: Store, aliases: Iterable[str]) -> list[str]:
    """The sessions that some aliases of a version stand for, sorted."""
    return _named(store, ((name, "") for name in aliases)).get("", [])


def _named(store: Store, aliases: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    marks = [(found[1], version_id) for name, version_id in aliases if (found := _ALIAS.fullmatch(name))]
    if not marks:
        return {}
    names = {key.sid: str(key) for key in store.catalog.sessions()}
    used: dict[str, set[str]] = {}
    for sid, version_id in marks:
        used.setdefault(version_id, set()).add(names.get(sid, f"a session that is gone ({sid[:8]})"))
    return {version_id: sorted(sessions) for version_id, sessions in used.items()}


def users_of(store: Store, view: Fold, reference: str) -> dict[int, list[str]]:
    """Version number -> the sessions that use it, for one file, a deleted one too."""
    state = tree.find_state(view, reference)
    if state is None:
        state = view.file_at(tree.resolve(view, reference).key)
    if state is None:
        return {}
    numbers = {version.id: version.number for version in state.versions}
    return {numbers[i]: sessions for i, sessions in users(store, state).items() if i in numbers}
