"""Nothing is written outside the root that a user named (I8, I11): symbolic links inside a lake are never followed.

A lake may come from a stranger, and a link in it may lead anywhere. The root itself may be reached through links: that
path is the user's own. What is looked at here are only the names below it.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Collection

from dreamlake.errors import InvalidInput
from dreamlake.ports import Fs, scan

__all__ = ["check_inside", "check_names", "link_below"]


def link_below(fs: Fs, root: str, path: str) -> str | None:
    """The first symbolic link on the way from ``root`` to ``path``, which lies below it; None if there is none.

    What does not exist yet is no link.
    """
    here = root.rstrip("/")
    for part in path[len(here) + 1 :].split("/"):
        here = f"{here}/{part}"
        try:
            if stat.S_ISLNK(fs.lstat(here).mode):
                return here
        except (FileNotFoundError, NotADirectoryError):
            return None
    return None


def check_inside(fs: Fs, root: str, path: str) -> None:
    """Raises ``InvalidInput`` naming the link when ``path`` would be reached through a symbolic link below ``root``."""
    link = link_below(fs, root, path)
    if link is not None:
        raise _refused(fs, link)


def check_names(fs: Fs, folder: str, names: Collection[str] | None = None) -> None:
    """The same for names in one folder, which may be absent: ``names``, or all."""
    with contextlib.suppress(FileNotFoundError):
        for name, facts in scan(fs, folder):
            if stat.S_ISLNK(facts.mode) and (names is None or name in names):
                raise _refused(fs, f"{folder}/{name}")


def _refused(fs: Fs, link: str) -> InvalidInput:
    return InvalidInput(
        f"{link} is a symbolic link (to {fs.read_link(link)}), and nothing in a lake is reached through one. If it is "
        "yours, move what it leads to into its place; if not, remove it",
        path=link,
    )
