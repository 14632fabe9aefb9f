"""Download: verified content into a file of the user's, atomically."""

from __future__ import annotations

import contextlib
import os

from dreamlake.content import reading
from dreamlake.content.staging import Progress
from dreamlake.errors import InvalidInput
from dreamlake.model import Version, split_key
from dreamlake.operations.context import Store


def download(store: Store, version: Version, dest: str, *, progress: Progress | None = None) -> str:
    """Write the content of ``version`` to ``dest`` (a folder takes it under its own name); returns the file.

    An existing file is replaced only by complete, verified content. Missing parent folders are made.

    Raises:
        Corrupt: stored bytes do not match; ``dest`` is untouched.  NotFound: no copy is stored.
        InvalidInput: ``dest`` is a device, FIFO or socket, or lies inside a file.
    """
    target = dest
    if dest.endswith("/") or os.path.isdir(dest):
        target = os.path.join(dest, split_key(version.key)[1])
    place = os.path.realpath(target) if os.path.islink(target) else os.path.abspath(target)  # a link stays one
    replaces = os.path.lexists(place)
    if replaces and not os.path.isfile(place):
        raise InvalidInput(f"{target} is not a regular file; choose another destination", path=target)
    fs = store.ports.fs
    parent = os.path.dirname(place)
    try:
        fs.make_dir(parent)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(f"{target} cannot be made: a folder above it is a file", path=target) from None
    scratch = f"{parent}/.{store.ports.scratch_name('download')}"
    writer = fs.create(scratch, early=replaces)
    try:
        try:
            reading.copy_to(store.blobs, version.digest, version.size_bytes, writer.write, progress)
            if replaces:  # else a power cut could take the old content and not give the new one
                writer.fsync()
        finally:
            writer.close()
        fs.rename(scratch, place)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.unlink(scratch)
        raise
    return target
