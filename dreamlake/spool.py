"""The spool: folders in which runs are kept whose remote lake cannot be reached, until they are delivered.

One lake for each remote and namespace, ``<spool>/<name>-<8 digits>``, and ``<spool>/<name>-<8 digits>.json`` beside it,
which says for which; without any secret. What was delivered stays there until somebody removes the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from typing import Any, NamedTuple

from dreamlake import config, values
from dreamlake.errors import LakeError
from dreamlake.lake import Lake, open_lake
from dreamlake.location import RemoteAddress
from dreamlake.model import SessionKey
from dreamlake.operations.sync_journals import seen_in
from dreamlake.operations.sync_memory import state_of, was_sent
from dreamlake.operations.sync_report import Synced
from dreamlake.ports import Ports

__all__ = ["SpoolWarning", "Waiting", "deliver", "open_spool", "spool_base", "waiting"]


class SpoolWarning(UserWarning):
    """A remote lake cannot be reached, and what a session gets is kept in a folder on this machine."""


class Waiting(NamedTuple):
    """A folder with sessions that were not delivered, or not as they are now. ``remote`` names where they belong."""

    folder: str
    remote: str
    namespace: str
    sessions: list[str]

    @property
    def command(self) -> str:
        """What delivers them."""
        return f"dreamlake --lake {shlex.quote(self.folder)} push {shlex.quote(self.remote)}"


def spool_base(given: str | os.PathLike[str] | None = None) -> str:
    """The folder of all spools: the argument, ``DREAMLAKE_SPOOL``, or in the user's folder for data."""
    chosen = given if given is not None else os.environ.get("DREAMLAKE_SPOOL") or None
    if chosen is None:
        home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        return f"{os.path.abspath(home)}/dreamlake/spool"
    return config.local_path(chosen)


def _folder(address: RemoteAddress, base: str) -> str:
    said = f"{address.place}\n{address.namespace}"
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{address.place.rpartition('/')[2]}-{address.namespace}").strip("-")[:60]
    return f"{base}/{name}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def open_spool(address: RemoteAddress, given: str | os.PathLike[str] | None, **options: Any) -> Lake:
    """The lake in which sessions of a remote wait; created if need be. ``options`` as of ``open_lake``."""
    folder = _folder(address, spool_base(given))
    lake = open_lake(folder, create=True, **options)
    note = values.encode({"remote": str(address), "place": address.place, "namespace": address.namespace}, indent=2)
    fs, path = lake.store.ports.fs, f"{folder}.json"
    try:
        same = fs.read(path) == note + b"\n"
    except FileNotFoundError:
        same = False
    if not same:
        scratch = f"{folder}-{lake.store.ports.scratch_name('spool')}"
        fs.write(scratch, note + b"\n")
        fs.rename(scratch, path)
    return lake


def deliver(
    remote: Lake, address: RemoteAddress, given: str | os.PathLike[str] | None, key: SessionKey
) -> Synced | None:
    """Bring one session from its spool into its lake; None when nothing of it waits there."""
    folder = _folder(address, spool_base(given))
    if not os.path.isdir(f"{folder}/.dreamlake"):
        return None
    spool = open_lake(folder)
    mine = spool.store.session(key.workspace, key.name)
    return spool.push(remote, mine) if _waits(spool, mine) else None


def waiting(given: str | os.PathLike[str] | None = None) -> list[Waiting]:
    """All that waits to be delivered, for ``doctor``. A spool that does not read is listed with what is wrong."""
    base, fs, found = spool_base(given), Ports().fs, []
    try:
        names = sorted(name[:-5] for name in fs.list(base) if name.endswith(".json"))
    except OSError:
        return []
    for name in names:
        folder, note = f"{base}/{name}", {}
        try:
            note = values.decode(fs.read(f"{folder}.json"))
            lake = open_lake(folder)
            sessions = [str(key) for key in lake.store.sessions() if _waits(lake, key)]
        except (LakeError, OSError, ValueError) as error:
            sessions = [f"(unreadable: {error})"]
        if sessions:
            found.append(Waiting(folder, str(note.get("remote")), str(note.get("namespace")), sessions))
    return found


def _waits(lake: Lake, key: SessionKey) -> bool:
    view = lake.store.catalog.view(key)
    if not view.info.exists or lake.store.scratch is None:
        return view.info.exists
    state = state_of(view.token, seen_in(lake.journal(key)))
    return not was_sent(lake.store.ports, lake.store.scratch, key, state)
