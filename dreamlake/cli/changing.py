"""Verbs that change the tree and move no bytes: ``rm``, ``restore``, ``mv``, ``cp``, ``alias``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import ADDRESS, Address, parse
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count
from dreamlake.cli.selecting import is_single, matcher, matching, select
from dreamlake.errors import Conflict, InvalidInput, NotFound
from dreamlake.model import is_glob

if TYPE_CHECKING:
    from dreamlake.model import SessionKey, Version


def _full(record: dict[str, Any]) -> str:
    return f"{record['path'].rstrip('/')}/{record['filename']}"


@verb(changes=True)
@click.argument("files", type=ADDRESS, nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--recursive", "-r", is_flag=True, help="Delete folders with all that is in them.")
def rm(run: Run, files: Sequence[Address], recursive: bool) -> None:
    """Delete files, folders (-r) or the files that match a glob.

    Deleted files keep their history and can be restored until they are collected. What is given for one session is
    deleted at once or not at all.
    """
    from dreamlake.operations import tree

    chosen: dict[SessionKey, dict[str, Version]] = {}
    for address in files:
        chosen.setdefault(address.key, {}).update({v.id: v for v in _to_delete(run, address, recursive)})
    for key, versions in chosen.items():
        gone = list(versions.values())
        if run.dry:
            _check(run, key, [{"op": "del", "id": v.id} for v in gone])
        else:
            gone = tree.delete(run.lake.store, key, gone)
        for version in gone:
            folder, _, name = version.key.rpartition("/")
            value = {"id": version.id, "deletedAt": version.deleted_at, "path": folder or "/", "filename": name}
            run.out.record(
                {"action": "rm", "sessionId": str(key), **value} if run.dry else {"sessionId": str(key), **value}
            )
            run.out.did(run.dry, "deleted", "delete", f"{key}:{version.key}")


def _to_delete(run: Run, address: Address, recursive: bool) -> list[Version]:
    versions = select(run, address) if address.file.strip("/") else []
    view = run.lake.store.catalog.view(address.key)
    if is_single(run, address):
        if view.current_at(versions[0].key) != versions[0]:
            raise InvalidInput(
                f"{address.text} is an older version; rm takes a whole file with its history", path=address.text
            )
        return versions
    if is_glob(address.file) and versions:
        return versions
    if not recursive:
        raise InvalidInput(f"{address.text} is a folder; delete it and all that is in it with -r", path=address.text)
    run.need_session(address.key)
    versions = versions or view.live()
    if not versions:
        raise NotFound(f"session {address.key} has no files", path=address.text)
    return versions


def _check(run: Run, key: SessionKey, entries: list[dict[str, Any]]) -> None:
    """Raise what committing these entries would raise."""
    refused = run.lake.store.catalog.view(key).refusal(entries)
    if refused is not None:
        raise refused


@verb(changes=True)
@click.argument("files", type=ADDRESS, nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--version", "number", type=click.IntRange(1), metavar="N", help="Make version N the newest (like @vN).")
def restore(run: Run, files: Sequence[Address], number: int | None) -> None:
    """Bring back deleted files with their history, or make older versions the newest again.

    \b
    dreamlake restore "vision/run 1:/models/best.pth"       a deleted file
    dreamlake restore "vision/run 1:/models"                what was deleted in a folder
    dreamlake restore "vision/run 1:/models/*.pth"          the deleted files that match
    dreamlake restore "vision/run 1:/models/best.pth@v2"    an older version
    """
    for address in files:
        session = run.files(address.key)
        for reference in _to_restore(run, address):
            if run.dry:
                key = _check_restore(run, address.key, reference, number)
                run.out.record({"action": "restore", "sessionId": str(address.key), "file": key})
                run.out.did(True, "", "restore", f"{address.key}:{key}")
            else:
                done = session.restore(reference, version=number)
                run.out.record(done)
                run.out.did(False, "restored", "", f"{address.key}:{_full(done)}  v{done['version']}")


def _to_restore(run: Run, address: Address) -> list[str]:
    """The references that an address means: one file, the deleted ones below a folder, or those that match a glob."""
    from dreamlake.operations import tree

    view, path = run.lake.store.catalog.view(address.key), address.file
    if tree.find_state(view, path) is not None:
        return [path]
    below, matches = path.rstrip("/") + "/", matcher(path)
    gone = [s.key for s in view.files() if s.versions and s.current is None and s.primary]
    found = sorted(key for key in gone if key.startswith(below) or matches(key))
    if not found and is_glob(path):
        raise NotFound(f"no deleted file matches {path!r} in session {address.key}", path=path)
    return found or [path]


def _check_restore(run: Run, key: SessionKey, reference: str, number: int | None) -> str:
    """What a restore would restore: the path."""
    from dreamlake.model import split_reference
    from dreamlake.operations import tree

    view = run.lake.store.catalog.view(key)
    state = tree.find_state(view, reference)
    if state is not None and number is None:
        if state.current is not None:
            raise Conflict(f"{state.key} in session {key} is not deleted; name an older version as {state.key}@vN")
        _check(run, key, [{"op": "undel", "id": state.versions[-1].id}])
        return state.key
    path, name = (reference, f"v{number}") if number is not None else split_reference(reference)
    state = tree.find_state(view, path)
    if state is None:
        tree.history(view, path)  # raises, and says what is near
        raise NotFound(f"no file {path!r} in session {key}", path=path)
    return f"{state.key}@{name}"


# ---- moving and copying ------------------------------------------------------------------------------------------


def _goal(source: Address, dest: str) -> Address:
    """The destination: a path in the same session, or an address."""
    if dest.startswith("/"):
        return source._replace(path=dest, text=dest)
    goal = parse(dest)
    return goal._replace(path=goal.path or "/", session=goal.key.name, namespace=source.namespace)


def _sources(run: Run, source: Address, goal: Address) -> list[str]:
    """The references that a source means; more than one only into a folder."""
    path = source.file
    run.need_session(source.key)
    view = run.lake.store.catalog.view(source.key)
    if not is_glob(path) or is_single(run, source) or view.file_at(path) is not None:
        return [path]
    found = [v.key for v in matching(run, source)]
    if not goal.file.endswith("/") and not run.lake.store.catalog.view(goal.key).is_folder(
        goal.file.rstrip("/") or "/"
    ):
        raise InvalidInput(f"{count(len(found), 'file')} need a folder; write {goal.text}/", path=goal.text)
    return found


@verb(changes=True)
@click.argument("source", type=ADDRESS, metavar="ADDRESS")
@click.argument("dest", metavar="DEST")
def mv(run: Run, source: Address, dest: str) -> None:
    """Move a file, a folder or the files that match a glob, with their history.

    DEST is a path in the same session; one that is a folder or ends in a slash takes files under their own names.
    """
    from dreamlake.operations import tree

    goal = _goal(source, dest)
    if goal.key != source.key:
        raise InvalidInput(
            f"mv moves inside one session; to get {source.text} into {goal.key}, cp it there and rm it here", path=dest
        )
    files = run.files(source.key)
    for reference in _sources(run, source, goal):
        if run.dry:
            moves = tree.planned_moves(run.lake.store.catalog.view(source.key), reference, goal.file)
            _check(run, source.key, [{"op": "move", "id": v.id, "to": key} for v, key in moves])
            _would(run, "move", source.key, source.key, moves)
        else:
            done = files.move(reference, goal.file)
            _did(run, "moved", done, f"{source.key}:{reference}")


@verb(changes=True)
@click.argument("source", type=ADDRESS, metavar="ADDRESS")
@click.argument("dest", metavar="DEST")
def cp(run: Run, source: Address, dest: str) -> None:
    """Copy a file (or a version of it), a folder or the files that match a glob; no bytes move.

    DEST is a path in the same session or an address in another one; one that is a folder or ends in a slash takes
    files under their own names.
    """
    from dreamlake.operations import tree

    goal = _goal(source, dest)
    files = run.files(source.key)
    run.need_session(goal.key)
    for reference in _sources(run, source, goal):
        if run.dry:
            catalog = run.lake.store.catalog
            copies = tree.destinations(catalog.view(source.key), reference, goal.file, catalog.view(goal.key))
            _check(run, goal.key, [{"op": "put", "path": key} for _, key in copies])
            _would(run, "copy", source.key, goal.key, copies)
        else:
            done = files.copy(reference, goal.file, session=str(goal.key))
            _did(run, "copied", done, f"{source.key}:{reference}")


def _would(run: Run, action: str, here: SessionKey, there: SessionKey, pairs: Sequence[tuple[Version, str]]) -> None:
    for version, key in pairs:
        run.out.record({"action": action, "from": f"{here}:{version.key}", "to": f"{there}:{key}"})
        run.out.did(True, "", action, f"{here}:{version.key} to {there}:{key}")


def _did(run: Run, done: str, result: dict[str, Any] | list[dict[str, Any]], source: str) -> None:
    records = result if isinstance(result, list) else [result]
    run.out.records(records)
    if len(records) == 1:
        run.out.did(False, done, "", f"{source} to {records[0]['sessionId']}:{_full(records[0])}")
    else:
        run.out.did(False, done, "", f"{source}: {count(len(records), 'file')}")
        for record in records:
            run.out.did(False, " ", "", f"{record['sessionId']}:{_full(record)}")


@verb(changes=True)
@click.argument("file", type=ADDRESS, metavar="ADDRESS")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Take the name away.")
def alias(run: Run, file: Address, name: str | None, remove: bool) -> None:
    """Let NAME stand for a version of a file; without NAME, list the names it has.

    ADDRESS names the newest version, or an older one with @vN. A name that stood for another version moves at once.

    \b
    dreamlake alias "vision/run 1:/models/best.pth@v3" best
    dreamlake cat   "vision/run 1:/models/best.pth@best"
    """
    files = run.files(file.key)
    if name is None:
        if remove:
            raise InvalidInput("--remove needs the NAME to take away")
        for known, number in files.aliases(file.file).items():
            run.out.record({"alias": known, "version": number})
            run.out.line(f"{known} = v{number}")
        return
    from dreamlake.model import check_alias
    from dreamlake.operations import tree

    check_alias(name)
    version = tree.resolve(run.lake.store.catalog.view(file.key), file.file)
    if run.dry:
        entry = {"op": "alias", "path": version.key, "name": name, "id": None if remove else version.id}
        _check(run, file.key, [entry])
        run.out.record({"action": "unalias" if remove else "alias", "alias": name, "version": version.number})
    else:
        run.out.record(files.alias(file.file, name, remove=remove) or {"alias": name, "removed": True})
    shown = f"{version.key}@{name}"
    if remove:
        run.out.did(run.dry, "removed", "remove", shown)
    else:
        run.out.did(run.dry, "set", "set", f"{shown} = v{version.number}")
