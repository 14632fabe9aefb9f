"""``session.use(...)``: an input of a session, read as the exact version that was recorded."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from dreamlake.content import reading
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Store
from dreamlake.operations.download import download
from dreamlake.progress import meter

__all__ = ["Input"]


class Input:
    """A version that a session uses. It stays the same whatever becomes of the path and its aliases.

    Attributes:
        session: "workspace/name" of the session that it lies in.
        path, version, checksum, size_bytes, id: of the version.
    """

    def __init__(self, store: Store, source: SessionKey, version: Version, guard: Callable[[bool], None]) -> None:
        self._store, self._version, self._guard = store, version, guard
        self.session = str(source)
        self.path, self.version, self.id = version.key, version.number, version.id
        self.checksum, self.size_bytes = version.digest, version.size_bytes

    def __repr__(self) -> str:
        return f"Input({self.session}{self.path}@v{self.version})"

    @property
    def metadata(self) -> dict[str, Any]:
        """What was known of the version when it was used."""
        return dict(self._version.metadata)

    def open(self) -> io.BufferedReader:
        """A seekable binary stream of the content; see ``Files.open``."""
        self._guard(False)
        return reading.open_plain(self._store.blobs, self.checksum, self.size_bytes)

    def read_bytes(self) -> bytes:
        """The verified content. Raises ``ValueError`` (``Corrupt``) when it is damaged."""
        self._guard(False)
        return reading.read_all(self._store.blobs, self.checksum, self.size_bytes)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The verified content as text."""
        return self.read_bytes().decode(encoding)

    def download(self, dest: str | os.PathLike[str] = ".") -> str:
        """Write the verified content to a file, or into a folder under its own name; atomic. Returns the file."""
        self._guard(False)
        with meter(self.size_bytes, "download") as progress:
            return download(self._store, self._version, os.path.expanduser(os.fspath(dest)), progress=progress)
