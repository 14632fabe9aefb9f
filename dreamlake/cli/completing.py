"""Completion of addresses for the shell: workspaces, sessions, then paths folder by folder, then versions.

Never creates or raises anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from dreamlake.model import Version

if TYPE_CHECKING:
    from dreamlake.operations.context import Store

MAX_ITEMS = 500
_KEY = Version._fields.index("key")


def addresses(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Addresses that begin like ``incomplete``."""
    from dreamlake.cli.command import find_place
    from dreamlake.lake import open_lake

    try:
        given = ctx.params.get("lake_dir") or ctx.find_root().params.get("lake_dir")
        store = open_lake(find_place(given)).store
        head, mark, path = incomplete.partition(":/")
        found = in_session(store, head, "/" + path) if mark else sessions(store, incomplete)
        return [CompletionItem(text) for text in found[:MAX_ITEMS]]
    except Exception:  # nothing to offer is the worst that may happen while somebody types
        return []


def sessions(store: Store, typed: str) -> list[str]:
    """Sessions that begin like this; workspaces first, while several are left; the way on when only one is left."""
    names = [str(key) for key in store.sessions() if str(key).startswith(typed)]
    workspaces = list(dict.fromkeys(name.partition("/")[0] + "/" for name in names))
    if "/" not in typed and len(workspaces) > 1:
        return workspaces
    found = [name for name in names if store.catalog.view(store.session(*name.split("/", 1))).info.exists]
    if not found and typed.endswith(":"):  # the session is complete, and the path begins
        return [f"{name}/" for name in (typed,) if name[:-1] in map(str, store.sessions())]
    return [*found, f"{found[0]}:/"] if len(found) == 1 else found


def in_session(store: Store, session: str, typed: str) -> list[str]:
    """Files and folders of a session; after a file's ``@`` its aliases and versions."""
    view = store.catalog.view(store.session(*session.split("/", 1)))
    path, at, name = typed.rpartition("@")
    state = view.file_at(path) if at else None
    if state is not None:
        names = [*sorted(state.aliases), *(f"v{v.number}" for v in reversed(state.versions) if v.deleted_at is None)]
        return [f"{session}:{path}@{known}" for known in names if known.startswith(name)]
    return [f"{session}:{key}" for key in next_steps([row[_KEY] for row in view.live_rows()], typed)]


def next_steps(keys: list[str], typed: str) -> list[str]:
    """Files and folders (with a slash) directly in the folder that was typed so far."""
    found: set[str] = set()
    for key in keys:
        if key.startswith(typed):
            step = key.find("/", len(typed))
            found.add(key if step < 0 else key[: step + 1])
    return sorted(found)
