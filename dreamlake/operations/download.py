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
        InvalidInput: ``dest`` is a device, FIFO or socket.
    """
    target = dest
    if dest.endswith("/") or os.path.isdir(dest):
        target = os.path.join(dest, split_key(version.key)[1])
    if os.path.isdir(target) or (os.path.lexists(target) and os.path.exists(target) and not os.path.isfile(target)):
        raise InvalidInput(f"{target} is not a regular file; choose another destination", path=target)
    fs = store.ports.fs
    parent = os.path.dirname(os.path.abspath(target))
    fs.make_dir(parent)
    scratch = f"{parent}/.{store.ports.scratch_name('download')}"
    writer = fs.create(scratch)
    try:
        try:
            for piece in reading.pieces(store.blobs, version.digest, version.size_bytes):
                writer.write(piece)
                if progress:
                    progress(len(piece))
        finally:
            writer.close()
        fs.rename(scratch, os.path.realpath(target) if os.path.islink(target) else target)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.unlink(scratch)
        raise
    return target
