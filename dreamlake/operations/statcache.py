"""What is the hash of this file? An answer from memory for files that nobody has written to since (R2).

A cache may say what a file's digest is, never that it is stored: presence is looked up every time. One JSON file
for each source folder, in the store's ``cache/``, with its own checksum in a second line; losing or damaging it costs
time only.

Racy time stamps: a file's times have the resolution of the kernel's tick, so a write in the same tick as the last
one leaves no trace. A digest is kept only if the file's times lie before the tick in which hashing began.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping

from dreamlake import values
from dreamlake.content.staging import SourceStat
from dreamlake.ports import Ports, coarse_now_ns

MAX_ENTRIES = 100_000
_COARSE_FS_NS = 2_000_000_000  # file systems that keep whole seconds only (FAT: two)


class StatCache:
    """Digests of the files of one source folder, by name relative to it."""

    def __init__(self, ports: Ports, cache_dir: str | None, folder: str) -> None:
        self._ports = ports
        self._dir = cache_dir
        self._path = f"{cache_dir}/{hashlib.sha256(folder.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
        self._entries: dict[str, list[object]] = {}
        if cache_dir is not None:
            with contextlib.suppress(OSError, ValueError):
                self._entries = _decoded(ports.fs.read(self._path))

    def get(self, name: str, facts: SourceStat) -> str | None:
        """The digest of a file whose facts are still these, or None."""
        entry = self._entries.get(name)
        if isinstance(entry, list) and len(entry) == 5 and tuple(entry[:4]) == facts:
            return str(entry[4])
        return None

    def put(self, new: Mapping[str, tuple[SourceStat, str]], *, keep: int = MAX_ENTRIES) -> None:
        """Remember digests, keeping at most the newest ``keep``. Failure to write is ignored."""
        if self._dir is None or not new:
            return
        for name, (facts, digest) in new.items():
            self._entries.pop(name, None)
            self._entries[name] = [*facts, digest]
        while len(self._entries) > keep:
            del self._entries[next(iter(self._entries))]
        scratch = f"{self._dir}/../tmp/{self._ports.scratch_name('cache')}"
        with contextlib.suppress(OSError, UnicodeEncodeError):  # a name that is no text can be uploaded as another
            self._ports.fs.write(scratch, _encoded(self._entries))
            try:
                self._ports.fs.rename(scratch, self._path)
            except BaseException:
                self._ports.fs.unlink(scratch)
                raise


def _encoded(entries: dict[str, list[object]]) -> bytes:
    body = values.encode({"files": entries})
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode()


def _decoded(data: bytes) -> dict[str, list[object]]:
    """Raises ``ValueError`` for anything but what ``_encoded`` made."""
    body, _, checksum = data.rpartition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise ValueError("damaged cache")
    entries = values.decode(body).get("files", {})
    return dict(entries)


def began() -> int:
    """Call before hashing; hand the result to ``settled``."""
    return coarse_now_ns()


def settled(facts: SourceStat, hashing_began_ns: int) -> bool:
    """True if any later write to the file must change these facts."""
    newest = max(facts[1], facts[2])
    if newest % 1_000_000_000 == 0:
        return newest + _COARSE_FS_NS < hashing_began_ns
    return newest < hashing_began_ns
