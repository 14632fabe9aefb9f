"""Putting records back, and finding out which sessions cannot be read: the folder catalog's part of verify and repair.

Changes nothing but what is missing or does not read; what was there goes to ``quarantine/``.
"""

from __future__ import annotations

import contextlib

from dreamlake.catalog import record as records
from dreamlake.catalog.record import Record
from dreamlake.errors import Corrupt
from dreamlake.model import SessionKey
from dreamlake.ports import Fs, Ports


def first_session(fs: Fs, root: str, sid: str) -> SessionKey | None:
    """The key of a session from its first record; None while it has none.

    Raises ``Corrupt`` or ``UnsupportedFormat`` when the first record does not read or is missing before later ones.
    """
    path = f"{root}/sessions/{sid}/log/0/1.json"
    try:
        data = fs.read(path)
    except (FileNotFoundError, NotADirectoryError):
        if not _has_records(fs, f"{root}/sessions/{sid}/log"):
            return None  # its first commit has not happened
        try:
            data = fs.read(path)  # again: it may have happened just now
        except FileNotFoundError:
            raise Corrupt(f"{path} is missing although later records exist", path=path) from None
    key = records.decode(data, path).session
    if key.sid != sid:
        raise Corrupt(f"{path} is a record of session {key}, which belongs into {key.sid}", path=path)
    return key


def put_back(ports: Ports, root: str, path: str, record: Record, aside: str) -> bool:
    """Make ``record`` the file at ``path``, durably. What is there goes to ``quarantine/<aside>.<id>``.

    False when somebody else put one there meanwhile.
    """
    fs, folder = ports.fs, path.rpartition("/")[0]
    scratch = f"{root}/tmp/{ports.scratch_name('record')}"
    fs.write(scratch, records.encode(record))
    try:
        fs.fsync(scratch)
        fs.make_dir(folder)
        with contextlib.suppress(FileNotFoundError):
            fs.rename(path, f"{root}/quarantine/{aside}.{ports.new_id()}")
        fs.link(scratch, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            fs.unlink(scratch)
    fs.fsync_dir(folder)
    fs.fsync_dir(folder.rpartition("/")[0])
    return True


def _has_records(fs: Fs, log: str) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(name.endswith(".json") for group in fs.list(log) for name in fs.list(f"{log}/{group}"))
    return False
