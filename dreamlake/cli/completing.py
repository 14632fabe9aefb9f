"""Completion of addresses for the shell: sessions, then paths folder by folder. Never creates or raises anything."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

MAX_ITEMS = 500


def addresses(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Addresses that begin like ``incomplete``."""
    from dreamlake.cli.command import find_place
    from dreamlake.lake import open_lake

    try:
        given = ctx.params.get("lake_dir") or ctx.find_root().params.get("lake_dir")
        store = open_lake(find_place(given)).store
        catalog = store.catalog
        head, mark, path = incomplete.partition(":/")
        if not mark:
            names = [str(key) for key in store.sessions() if catalog.view(key).info.exists]
            return [CompletionItem(name) for name in names if name.startswith(incomplete)][:MAX_ITEMS]
        workspace, _, name = head.partition("/")
        keys = [v.key for v in catalog.view(store.session(workspace, name)).live()]
        return [CompletionItem(f"{head}:{key}") for key in next_steps(keys, "/" + path)][:MAX_ITEMS]
    except Exception:  # nothing to offer is the worst that may happen while somebody types
        return []


def next_steps(keys: list[str], typed: str) -> list[str]:
    """Files and folders (with a slash) directly in the folder that was typed so far."""
    found: set[str] = set()
    for key in keys:
        if key.startswith(typed):
            step = key.find("/", len(typed))
            found.add(key if step < 0 else key[: step + 1])
    return sorted(found)
