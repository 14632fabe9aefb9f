"""Files of a lake that are being written through fsspec: gathered first, stored when they are closed.

Nothing of a file is visible before that, and after an exception in its ``with`` block nothing is stored. In a
transaction, files wait for its end and are then stored together.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dreamlake.files import _attributes

if TYPE_CHECKING:
    from dreamlake.integrations.fsspec import Place

__all__ = ["TextWriter", "Writer", "transaction_type"]

_IN_MEMORY = 8 << 20
_PIECE = 1 << 20


class Writer(io.BufferedIOBase):
    """A binary file for writing; seekable, and readable as far as it was written.

    Args:
        store: stores writers, all in one record.
        place: where it goes.
        given: description, tags, metadata.
        before: a stream whose content comes first (append).
        autocommit: store it when it is closed; otherwise the transaction does.
    """

    mode = "wb"
    autocommit = False  # until all of it is there: Python closes what could not be made, too

    def __init__(
        self,
        store: Callable[[Sequence[Writer]], None],
        place: Place,
        given: Mapping[str, Any],
        *,
        before: BinaryIO | None = None,
        autocommit: bool = True,
    ) -> None:
        self.attributes = _attributes(given.get("description"), given.get("tags"), given.get("metadata"))
        self.place, self.autocommit = place, autocommit
        self._store = store
        self._buffer = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - close or discard
        if before is not None:
            with before:
                while piece := before.read(_PIECE):
                    self._buffer.write(piece)

    @property
    def path(self) -> str:
        return f"{self.place.workspace}/{self.place.session}{self.place.path}"

    def stream(self) -> BinaryIO:
        """What was written, from its start."""
        self._buffer.seek(0)
        return cast(BinaryIO, self._buffer)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            self._buffer.write(view.cast("B") if view.nbytes else b"")
            return view.nbytes

    def read(self, size: int | None = -1, /) -> bytes:
        return self._buffer.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._buffer.seek(offset, whence)
        return self._buffer.tell()

    def tell(self) -> int:
        return self._buffer.tell()

    def truncate(self, size: int | None = None, /) -> int:
        self._buffer.truncate(size)
        return self._buffer.tell() if size is None else size

    def close(self) -> None:
        """Store it, unless a transaction will."""
        if self.closed:
            return
        if not self.autocommit:
            super().close()
            return
        try:
            self.commit()
        finally:
            super().close()

    def commit(self) -> None:
        """Store it now."""
        try:
            self._store([self])
        finally:
            self._buffer.close()

    def discard(self) -> None:
        """Forget what was written; the lake stays as it is."""
        self.autocommit = False
        self._buffer.close()
        super().close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and self.autocommit:
            self.discard()
        else:
            self.close()


class TextWriter(io.TextIOWrapper):
    """A text file for writing."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and isinstance(self.buffer, Writer) and self.buffer.autocommit:
            self.buffer.discard()
        else:
            self.close()


@functools.cache
def transaction_type() -> type[Any]:
    """A transaction of fsspec that stores everything at its end, in one record of each session."""
    base: Any = import_module("fsspec.transaction").Transaction

    def complete(self: Any, commit: bool = True) -> None:
        fs, files = self.fs, list(self.files)
        self.files.clear()
        try:
            if commit:
                for file in files:
                    file.close()
                fs._store([file for file in files if isinstance(file, Writer)])
        finally:
            for file in files:
                file.discard()
            fs._intrans, fs._transaction, self.fs = False, None, None

    return type("LakeTransaction", (base,), {"complete": complete})
