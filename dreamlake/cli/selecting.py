"""From an address to the files it means: one file, a folder's, or those that match a glob."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dreamlake.cli.addresses import Address
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import is_glob

if TYPE_CHECKING:
    from dreamlake.cli.command import Run
    from dreamlake.model import SessionInfo, Version

__all__ = ["matcher", "matching", "select", "session_record"]


def select(run: Run, address: Address) -> list[Version]:
    """The live versions that an address of a session, folder, file or glob means, in upload order.

    A name that exists counts as itself, even if it looks like a glob. Raises ``NotFound`` when there is nothing.
    """
    from dreamlake.operations import tree

    run.need_session(address.key)
    view, path = run.lake.store.catalog.view(address.key), address.path or "/"
    if path.strip("/") == "":
        return view.live()
    try:
        return tree.select(view, path)
    except (NotFound, InvalidInput):
        if not is_glob(path):
            raise
    return matching(run, address)


def matching(run: Run, address: Address) -> list[Version]:
    """The live versions that match the glob of an address. Raises ``NotFound`` when none does."""
    found = [v for v in run.lake.store.catalog.view(address.key).live() if matcher(address.file)(v.key)]
    if not found:
        raise NotFound(f"no file matches {address.file!r} in session {address.key}", path=address.file)
    return found


def matcher(pattern: str) -> Callable[[str], bool]:
    """Does a path match? A folder's name followed by a slash stands for all below it."""
    from dreamlake.operations.globs import path_test

    return path_test(pattern + "**" if pattern.endswith("/") else pattern)


def is_single(run: Run, address: Address) -> bool:
    """True if the address names one file (or a version of it) rather than a folder or a glob."""
    from dreamlake.operations import tree

    try:
        tree.resolve(run.lake.store.catalog.view(address.key), address.file)
    except (NotFound, InvalidInput):
        return False
    return True


def session_record(run: Run, info: SessionInfo) -> dict[str, Any]:
    """What ``ls`` and ``info`` tell of a session."""
    live = run.lake.store.catalog.view(info.key).live()
    return {
        "sessionId": str(info.key),
        "workspace": info.key.workspace,
        "name": info.key.name,
        "description": info.description,
        "tags": list(info.tags),
        "folder": info.folder,
        "metadata": info.metadata or {},
        "writeProtected": info.write_protected,
        "createdAt": info.created_at,
        "updatedAt": info.updated_at,
        "files": len(live),
        "sizeBytes": sum(v.size_bytes for v in live),
    }
