"""Exporting: files of a session as a folder or a tar, with a manifest and checksums that ``sha256sum -c`` accepts.

    files/<path>           the files, verified on their way out
    parameters.json, logs.jsonl, tracks/<name>.jsonl        where there are any
    manifest.json          what is known of the session and of every file
    SHA256SUMS             of all the others

A tar is the same for the same versions (times are those of the uploads), and appears under its name when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast

from dreamlake.content import reading
from dreamlake.errors import Conflict, Corrupt, InvalidInput
from dreamlake.journal import LOGS, PARAMETERS, TRACKS, Journal
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Store
from dreamlake.values import encode

__all__ = ["FORMATS", "Exported", "export", "format_of"]

FORMATS = ("folder", "tar", "tar.gz")
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_PAGE = 1000
_PIECE = 1 << 20

Progress = Callable[[int], None]


@dataclass
class Exported:
    """What was written: where, how many files of the session, and their bytes."""

    dest: str
    format: str
    files: int = 0
    bytes: int = 0
    sums: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As JSON values, with the names of the command's ``--json``."""
        return {"dest": self.dest, "format": self.format, "files": self.files, "sizeBytes": self.bytes}


class _Target(Protocol):
    def write(self, name: str, size: int, modified: str, content: BinaryIO) -> None:
        """Write one file of that many bytes."""

    def finish(self) -> None: ...
    def abandon(self) -> None: ...


class _Hashing:
    """A stream that is read once, and hashed on the way."""

    def __init__(self, stream: BinaryIO, progress: Progress | None = None) -> None:
        self._stream, self._progress, self._hash = stream, progress, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        if self._progress:
            self._progress(len(data))
        return data

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def format_of(dest: str, given: str | None) -> str:
    """The format asked for, or that of the name. Raises ``InvalidInput``."""
    if given is None:
        ends = {".tar": "tar", ".tar.gz": "tar.gz", ".tgz": "tar.gz"}
        return next((kind for suffix, kind in ends.items() if dest.endswith(suffix)), "folder")
    if given not in FORMATS:
        raise InvalidInput(f"format={given!r}; there are {', '.join(FORMATS)}")
    return given


def export(
    store: Store,
    session: SessionKey,
    versions: list[Version],
    dest: str,
    *,
    format: str | None = None,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write versions (of different paths) of a session to ``dest``.

    Args:
        dest: a new or empty folder, or the name of a tar, which must not exist.
        format: "folder", "tar" or "tar.gz"; default: what the name ends in.
        journal: where parameters, logs and tracks are; None: without them.

    Raises:
        Conflict: something is there already.  Corrupt, NotFound: content does not read; the tar is not made, a folder
            has no ``SHA256SUMS``.
    """
    kind = format_of(dest, format)
    done = Exported(dest, kind)
    target = _target(store, dest, kind)
    ordered = sorted(versions, key=lambda version: version.key)
    latest = max((version.updated_at for version in ordered), default="1970-01-01T00:00:00.000000Z")
    try:
        for version in ordered:
            _write_version(store, target, done, version, progress)
        for name, content in _side_data(journal) if journal is not None else ():
            _write_bytes(target, done, name, content, latest)
        manifest = encode(_manifest(store, session, ordered), indent=2) + b"\n"
        _write_bytes(target, done, MANIFEST, manifest, latest)
        sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(done.sums.items()))
        _write_bytes(target, done, SUMS, sums.encode(), latest)
        target.finish()
    except BaseException:
        target.abandon()
        raise
    return done


def _write_version(store: Store, target: _Target, done: Exported, version: Version, progress: Progress | None) -> None:
    name = f"files{version.key}"
    with reading.open_plain(store.blobs, version.digest, version.size_bytes) as stream:
        content = _Hashing(stream, progress)
        target.write(name, version.size_bytes, version.uploaded_at, cast(BinaryIO, content))
    if content.digest != version.digest:
        raise Corrupt(f"{version.key}@v{version.number} does not match its checksum", path=version.key)
    done.sums[name] = version.digest
    done.files += 1
    done.bytes += version.size_bytes


def _write_bytes(target: _Target, done: Exported, name: str, content: bytes, modified: str) -> None:
    target.write(name, len(content), modified, io.BytesIO(content))
    done.sums[name] = hashlib.sha256(content).hexdigest()


def _side_data(journal: Journal) -> Iterator[tuple[str, bytes]]:
    parameters = journal.read_document(PARAMETERS)
    if parameters is not None:
        yield "parameters.json", encode(parameters, indent=2) + b"\n"
    for stream in journal.streams():
        if stream == LOGS or stream.startswith(TRACKS):
            yield f"{stream}.jsonl", b"".join(encode(row) + b"\n" for row in _rows(journal, stream))


def _rows(journal: Journal, stream: str) -> Iterator[dict[str, Any]]:
    done, total = 0, journal.extent(stream).total
    while done < total:
        page = journal.read(stream, done, _PAGE)
        yield from page
        done += len(page)
        if not page:
            return


def _manifest(store: Store, session: SessionKey, versions: list[Version]) -> dict[str, Any]:
    info = store.catalog.view(session).info
    return {
        "format": 1,
        "session": str(session),
        "description": info.description,
        "tags": list(info.tags),
        "folder": info.folder,
        "metadata": info.metadata or {},
        "createdAt": info.created_at,
        "updatedAt": info.updated_at,
        "files": [
            {
                "name": f"files{version.key}",
                "path": version.key,
                "id": version.id,
                "version": version.number,
                "checksum": version.digest,
                "sizeBytes": version.size_bytes,
                "contentType": version.content_type,
                "description": version.description,
                "tags": list(version.tags),
                "metadata": version.metadata,
                "uploadedAt": version.uploaded_at,
                "updatedAt": version.updated_at,
            }
            for version in versions
        ],
    }


# ---- where it goes -----------------------------------------------------------------------------------------------


def _target(store: Store, dest: str, kind: str) -> _Target:
    fs = store.ports.fs
    place = os.path.abspath(dest)
    if os.path.lexists(place) and not (kind == "folder" and os.path.isdir(place) and not os.listdir(place)):
        raise Conflict(f"{dest} exists; choose another destination, or remove it first", path=dest)
    if kind == "folder":
        fs.make_dir(place)
        return _Folder(store, place)
    fs.make_dir(os.path.dirname(place))
    return _Tar(store, place, compressed=kind == "tar.gz")


class _Folder:
    def __init__(self, store: Store, place: str) -> None:
        self._fs, self._place = store.ports.fs, place

    def write(self, name: str, size: int, modified: str, content: BinaryIO) -> None:
        file = f"{self._place}/{name}"
        self._fs.make_dir(os.path.dirname(file))
        writer = self._fs.create(file, early=False)
        try:
            while piece := content.read(_PIECE):
                writer.write(piece)
            writer.stamp(int(_seconds(modified)) * 1_000_000_000)
        finally:
            writer.close()

    def finish(self) -> None:
        self._fs.sync(self._place)

    def abandon(self) -> None:
        """What was written stays; without ``SHA256SUMS`` nobody takes it for complete."""


class _Tar:
    """One archive, written under a scratch name beside its own."""

    def __init__(self, store: Store, place: str, *, compressed: bool) -> None:
        self._fs, self._place = store.ports.fs, place
        self._scratch = f"{os.path.dirname(place)}/.{store.ports.scratch_name('export')}"
        self._writer = self._fs.create(self._scratch)
        # no time and no name in the gzip header: the same content gives the same bytes
        self._sink = _Sink(self._writer.write)
        self._gzip = _gzip(self._sink) if compressed else None
        sink = self._gzip if self._gzip is not None else self._sink
        self._tar = tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def write(self, name: str, size: int, modified: str, content: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, int(_seconds(modified)), 0o644
        self._tar.addfile(member, content)

    def finish(self) -> None:
        self._tar.close()
        if self._gzip is not None:
            self._gzip.close()
        self._writer.fsync()
        self._writer.close()
        self._fs.rename_new(self._scratch, self._place)
        self._fs.fsync_dir(os.path.dirname(self._place))

    def abandon(self) -> None:
        self._sink.deaf = True  # the libraries write an end when they are closed, and they are
        with contextlib.suppress(OSError, tarfile.TarError):
            self._tar.close()
        for step in (self._writer.close, lambda: self._fs.unlink(self._scratch)):
            with contextlib.suppress(OSError):
                step()


def _gzip(sink: _Sink) -> Any:
    import gzip

    return gzip.GzipFile(filename="", mode="wb", fileobj=sink, compresslevel=6, mtime=0)


class _Sink(io.RawIOBase):
    """What the libraries write to."""

    def __init__(self, write: Callable[[Any], object]) -> None:
        super().__init__()
        self._take, self.deaf = write, False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if not self.deaf:
            self._take(bytes(view))
        return view.nbytes


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
