"""The store of a folder lake: laying it out, its identity, its settings (SPEC "Folder layout").

Creating one is atomic: the layout is built under a scratch name, made durable, and renamed into place; of two creators
one wins.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from dreamlake import values
from dreamlake.errors import InvalidInput, UnsupportedFormat
from dreamlake.operations.context import check_encoding
from dreamlake.ports import Ports, iso

STORE_DIR = ".dreamlake"
BLOBS_DIR = ".dreamlake-blobs"  # the blobs of a lake whose records are in a database
FORMAT = 1
SUBDIRS = ("tmp", "pending", "blobs", "sessions", "quarantine", "cache", "placed")


def read_settings(ports: Ports, base: str) -> dict[str, Any]:
    """The lake's own settings; {} where none were made. Raises ``InvalidInput`` when the file does not read."""
    path = f"{base}/settings.json"
    try:
        settings = values.decode(ports.fs.read(path))
        check_encoding(settings.get("encoding"), None)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} does not read ({error}); mend it or remove it", path=path) from None
    return dict(settings)


def write_settings(ports: Ports, base: str, settings: dict[str, Any]) -> None:
    """Change these settings of the lake, atomically and durably; others stay."""
    scratch = f"{base}/tmp/{ports.scratch_name('settings')}"
    ports.fs.write(scratch, values.encode({**read_settings(ports, base), **settings}, indent=2) + b"\n")
    ports.fs.fsync(scratch)
    ports.fs.rename(scratch, f"{base}/settings.json")
    ports.fs.fsync_dir(base)


def new_head(ports: Ports) -> dict[str, Any]:
    """What ``store.json`` says of a new store."""
    return {"format": FORMAT, "store_id": ports.new_id(), "created_at": iso(ports.now())}


def create_store(ports: Ports, root: str, name: str = STORE_DIR, head: dict[str, Any] | None = None) -> None:
    """Lay out an empty store in ``root``, atomically and durably. Leaves an existing one alone."""
    fs = ports.fs
    holders = _holders_of_new_folders(ports, root)
    try:
        fs.make_dir(root)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(f"{root} is not a folder", path=root) from None
    scratch = f"{root}/{name}-{ports.scratch_name('new')}"
    try:
        _lay_out(ports, scratch, head or new_head(ports))
        fs.rename(scratch, f"{root}/{name}")
    except BaseException as error:
        remove_scratch(ports, scratch)
        if not isinstance(error, OSError):
            raise
        try:
            fs.stat(f"{root}/{name}/store.json")  # somebody else made it: fine
        except OSError:
            raise error from None
        return
    fs.fsync_dir(root)
    for folder in holders:
        with contextlib.suppress(PermissionError):  # a folder that may be written to, but not read
            fs.fsync_dir(folder)


def _holders_of_new_folders(ports: Ports, path: str) -> list[str]:
    """Of ``path`` and its parents, those that do not exist yet: the folders that their names will be in."""
    holders = []
    while path != os.path.dirname(path):
        try:
            ports.fs.lstat(path)
            break
        except FileNotFoundError:
            path = os.path.dirname(path)
            holders.append(path)
        except NotADirectoryError:
            break
    return holders


def _lay_out(ports: Ports, scratch: str, head: dict[str, Any]) -> None:
    fs = ports.fs
    for name in SUBDIRS:
        fs.make_dir(f"{scratch}/{name}")
    for shard in range(256):
        fs.make_dir(f"{scratch}/blobs/{shard:02x}")
    fs.write(f"{scratch}/store.json", values.encode(head, indent=2) + b"\n")
    fs.fsync(f"{scratch}/store.json")
    for path in (f"{scratch}/blobs", scratch):
        fs.fsync_dir(path)


def remove_scratch(ports: Ports, scratch: str) -> None:
    """Remove what a creation of a store laid out so far. Nothing else is ever in it; what is stays."""
    fs = ports.fs
    with contextlib.suppress(OSError):
        fs.unlink(f"{scratch}/store.json")
    for folder in [*(f"blobs/{shard:02x}" for shard in range(256)), *SUBDIRS, ""]:
        with contextlib.suppress(OSError):
            fs.remove_dir(f"{scratch}/{folder}".rstrip("/"))


def sweep_unborn(ports: Ports, root: str, store: str = STORE_DIR) -> None:
    """Remove what creations of a store left behind whose process is dead."""
    prefix = f"{store}-"
    for name in ports.fs.list(root):
        if name.startswith(prefix) and ports.scratch_is_abandoned(name[len(prefix) :]):
            remove_scratch(ports, f"{root}/{name}")


def store_head(data: bytes, base: str) -> dict[str, Any]:
    """The content of ``store.json``. Raises ``UnsupportedFormat`` for a newer or unreadable one."""
    try:
        head = values.decode(data)
        head["format"], head["store_id"]
    except (ValueError, KeyError, TypeError):
        raise UnsupportedFormat(f"{base}/store.json is damaged: this is not a readable lake", path=base) from None
    return check_head(dict(head), base)


def check_head(head: dict[str, Any], base: str) -> dict[str, Any]:
    """What a store says of itself. Raises ``UnsupportedFormat`` for a newer one."""
    version = head.get("format")
    if version != FORMAT or not isinstance(head.get("store_id"), str):
        raise UnsupportedFormat(f"{base} has store format {version!r}; this release reads format {FORMAT}", path=base)
    return head
