"""Changes to the tree that move no bytes: delete, restore, update, move, copy, alias.

Each is one atomic record. A folder stands for every live file below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dreamlake.catalog.fold import FileState, Fold
from dreamlake.content.presence import rely
from dreamlake.content.staging import Plain
from dreamlake.errors import Conflict, InvalidInput, NotFound
from dreamlake.model import (
    SessionKey,
    Version,
    below,
    check_alias,
    file_key,
    folder_path,
    parse_key,
    split_key,
    split_reference,
    version_number,
)
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.mediatypes import type_after
from dreamlake.ports import iso

KEPT = frozenset({"description", "tags", "metadata"})


def resolve(view: Fold, reference: str) -> Version:
    """The version that a path, ``path@alias``, ``path@vN`` or an id of a current version names.

    Raises ``NotFound``: unknown, deleted, or an id that was replaced (the message says by what).
    """
    state = find_state(view, reference)
    if state is not None and state.current is not None:
        return state.current
    head, name = split_reference(reference)
    if name is not None:
        found = find_state(view, head)
        if found is not None and found.current is not None:
            return named_version(view, found, name)
        state = state or found
    raise _not_found(view, reference, state)


def find_state(view: Fold, reference: str) -> FileState | None:
    """The file that a path or an id of its newest version names, deleted or not."""
    if is_root(reference):
        return None
    try:
        state = view.file_at(parse_key(reference))
    except InvalidInput:
        if split_reference(reference)[1] is None:
            raise
        state = None  # a path may be as long as a name can be, and an alias after it
    if state is not None and state.versions:
        return state
    found = view.file_with(reference)
    return found if found is not None and found.versions[-1].id == reference else None


def named_version(view: Fold, state: FileState, name: str) -> Version:
    """Version ``v3`` or alias ``best`` of a file. Raises ``NotFound`` naming what there is."""
    number = version_number(name)
    wanted = state.aliases.get(name)
    for version in state.versions:
        if version.deleted_at is None and (version.number == number or (number is None and version.id == wanted)):
            return version
    have = [f"v{v.number}" for v in state.versions if v.deleted_at is None] + sorted(state.aliases)
    raise NotFound(f"{state.key} in session {view.session} has no {name!r}; it has {', '.join(have)}", path=state.key)


def _not_found(view: Fold, reference: str, state: FileState | None) -> NotFound:
    where = f"session {view.session}"
    if state is not None:
        name = state.key if state.primary else state.versions[-1].id
        return NotFound(f"{state.key} was deleted from {where}; restore({name!r}) brings it back", path=state.key)
    folder = folder_of(view, reference)
    if folder is not None:
        return NotFound(
            f"{folder} is a folder in {where}, and a file is needed; list it with path={folder!r}", path=folder
        )
    replaced = view.file_with(reference)
    if replaced is not None and replaced.current is not None:
        now = replaced.current
        old = next(v for v in replaced.versions if v.id == reference)
        return NotFound(
            f"{replaced.key} with id {reference} was replaced by version {now.number} in {where}; "
            f"the old one is {replaced.key}@v{old.number}",
            path=replaced.key,
        )
    return NotFound(f"no file {reference!r} in {where}", path=reference)


def select(view: Fold, reference: str) -> list[Version]:
    """The version a reference names, or all live ones below it when it is a folder. Raises ``NotFound``."""
    try:
        return [resolve(view, reference)]
    except NotFound:
        folder = folder_of(view, reference)
        if folder is None:
            raise
        return view.live_at(folder)


def names_file(view: Fold, reference: str) -> bool:
    """True if a reference names one version, False if it names a folder (or nothing)."""
    try:
        resolve(view, reference)
    except NotFound:
        return False
    return True


def folder_of(view: Fold, reference: str) -> str | None:
    """The folder with live files that a reference names, in its normal form; None when it names none."""
    try:
        folder = folder_path(reference)
    except InvalidInput:  # a file name may hold characters that a folder may not
        return None
    if folder == "/":
        return folder if is_root(reference) and view.live() else None
    return folder if view.is_folder(folder) else None


def is_root(reference: str) -> bool:
    return reference != "" and reference.strip("/") == ""


def delete(store: Store, session: SessionKey, versions: Sequence[Version]) -> list[Version]:
    """Soft delete: the files and their history stay restorable until collection lets them go."""
    at = iso(store.ports.now())
    return _made(commit(store, session, [{"op": "del", "id": v.id, "at": at} for v in versions]))


def update(store: Store, session: SessionKey, version: Version, given: dict[str, Any]) -> Version:
    """Change description, tags or metadata of a current version; what is not in ``given`` stays."""
    entry = {
        "op": "set",
        "id": version.id,
        "at": iso(store.ports.now()),
        **{k: v for k, v in given.items() if k in KEPT},
    }
    return _made(commit(store, session, [entry]))[0]


def target_key(view: Fold, source: str, target: str) -> str:
    """Where a file goes: a target that ends in a slash or is a folder takes it under its own name."""
    name = split_key(source)[1]
    if target.endswith("/") or target in ("", ".") or folder_of(view, target) is not None:
        return file_key(target, name)
    return parse_key(target)


def destinations(view: Fold, source: str, target: str, target_view: Fold) -> list[tuple[Version, str]]:
    """(version, new key) for a file, or for every file below a folder."""
    versions = select(view, source)
    if names_file(view, source):
        return [(versions[0], target_key(target_view, versions[0].key, target))]
    old = folder_path(source)
    new = folder_path(target)
    if target.endswith("/") or (target_view.is_folder(new) and new != "/"):
        new = folder_path(f"{new}/{old.rpartition('/')[2]}")
    return [(v, parse_key(new.rstrip("/") + "/" + v.key[len(below(old)) :])) for v in versions]


def move(store: Store, session: SessionKey, source: str, target: str) -> list[Version]:
    """Move a file with its history, or a folder. Raises ``Conflict`` when a target is taken."""
    at = iso(store.ports.now())
    moves = planned_moves(store.catalog.view(session), source, target)
    return _made(commit(store, session, [_move_entry(v, key, at) for v, key in moves]))


def _move_entry(version: Version, key: str, at: str) -> dict[str, Any]:
    kind = type_after(version.content_type, version.key, key)
    given = {} if kind == version.content_type else {"type": kind}
    return {"op": "move", "id": version.id, "to": key, "at": at, **given}


def planned_moves(view: Fold, source: str, target: str) -> list[tuple[Version, str]]:
    """What ``move`` would move where. Raises ``Conflict`` for an older version or a move into itself."""
    moves = destinations(view, source, target, view)
    for version, key in moves:
        if view.current_at(version.key) != version:
            raise Conflict(f"{source} is an older version; copy it, or restore it first", path=version.key)
        if key.startswith(version.key + "/"):
            raise Conflict(f"{version.key} cannot move inside itself ({key})", path=key)
    return moves


def copy(
    store: Store, session: SessionKey, source: str, target: str, *, to_session: SessionKey | None = None
) -> list[Version]:
    """Copy a file (any version of it) or a folder, also into another session; no bytes move."""
    goal = to_session or session
    copies = destinations(store.catalog.view(session), source, target, store.catalog.view(goal))
    entries = [again_entry(store, version, key) for version, key in copies]
    return _made(commit(store, goal, entries, [needed(v) for v, _ in copies], shown=_shown([v for v, _ in copies])))


def again_entry(store: Store, version: Version, key: str) -> dict[str, Any]:
    """A put of content that is stored already."""
    return {
        "op": "put",
        "id": store.ports.new_id(),
        "path": key,
        "digest": version.digest,
        "size": version.size_bytes,
        "type": type_after(version.content_type, version.key, key),
        "description": version.description,
        "tags": list(version.tags),
        "metadata": version.metadata,
        "at": iso(store.ports.now()),
        **(version.extra or {}),
    }


def needed(version: Version) -> Plain:
    """The content of a version, as a commit needs it: without a source."""
    return Plain(version.digest, version.size_bytes, None)


def _shown(versions: Iterable[Version]) -> Any:
    names = {v.digest: v.key for v in versions}
    return lambda plain: names.get(plain.digest, plain.digest)


def restore(store: Store, session: SessionKey, reference: str, *, number: int | None = None) -> Version:
    """Bring back a deleted file with its history, or make an older version the newest again.

    Args:
        reference: path or id of a deleted file; ``path@vN`` or ``path@alias`` (or ``number``) for an older version.

    Raises:
        NotFound: unknown, or its content was already collected.
        Conflict: the path is taken again, or nothing is deleted there.
    """
    view = store.catalog.view(session)
    state, name = find_state(view, reference), None if number is None else f"v{number}"
    if state is None and name is None:
        head, name = split_reference(reference)
        state = find_state(view, head) if name is not None else None
    if state is None:
        raise _not_found(view, reference, None)
    if name is not None:
        chosen = _any_version(view, state, name)
        entries = [again_entry(store, chosen, state.key)]
        return _made(commit(store, session, entries, [needed(chosen)], shown=_shown([chosen])))[0]
    if state.current is not None:
        raise Conflict(f"{state.key} in session {session} is not deleted; name an older version as {state.key}@vN")
    return _undelete(store, session, state)


def _any_version(view: Fold, state: FileState, name: str) -> Version:
    """Like ``named_version``, but a deleted file's versions count too."""
    number = version_number(name)
    for version in state.versions:
        if version.number == number or (number is None and version.id == state.aliases.get(name)):
            return version
    return named_version(view, state, name)


def _undelete(store: Store, session: SessionKey, state: FileState) -> Version:
    """The newest version must still be stored; older ones that were collected meanwhile stay behind."""
    newest = state.versions[-1]
    older = [v for v in state.versions[:-1] if v.deleted_at == newest.deleted_at]
    back = [v for v in older if rely(store.blobs, v.digest, v.size_bytes)] + [newest]
    entry = {"op": "undel", "id": newest.id, "ids": [v.id for v in back], "at": iso(store.ports.now())}
    return _made(commit(store, session, [entry], [needed(v) for v in back], shown=_shown(back)))[0]


def alias(store: Store, session: SessionKey, reference: str, name: str, *, remove: bool = False) -> Version | None:
    """Point an alias of a file at a version (the newest, or the one ``path@vN`` names); atomic."""
    check_alias(name)
    view = store.catalog.view(session)
    version = resolve(view, reference)
    target = None if remove else version.id
    made = commit(store, session, [{"op": "alias", "path": version.key, "name": name, "id": target}])
    return made[0]


def history(view: Fold, reference: str) -> list[Version]:
    """All kept versions of a file, newest first; of a deleted one too. Raises ``NotFound``."""
    state = find_state(view, reference)
    if state is None:
        raise _not_found(view, reference, None)
    return state.versions[::-1]


def _made(outcomes: Sequence[Version | None]) -> list[Version]:
    return [v for v in outcomes if v is not None]
