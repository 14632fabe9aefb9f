"""Storing the files of an import: read once, in batches of one record each; what is there already is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, BinaryIO

from dreamlake.catalog.fold import FileState
from dreamlake.content.staging import Plain, Progress
from dreamlake.errors import Corrupt, InvalidInput, NotFound
from dreamlake.model import SessionKey, Version, ancestors, check_description, check_tags
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.importing import FoundFile, Imported
from dreamlake.operations.taking import Taker
from dreamlake.operations.upload import Attributes, put_entry
from dreamlake.values import checked, encode

__all__ = ["store_files", "survey_files"]

BATCH_FILES = 500
BATCH_BYTES = 512 << 20


def store_files(
    store: Store,
    session: SessionKey,
    files: Iterable[FoundFile],
    report: Imported,
    *,
    any_version: bool = False,
    progress: Progress | None = None,
) -> None:
    """Store files, each as a new version unless content and attributes are those that are there.

    Args:
        report: takes the counts, and what was left out and why (a path that is taken, a file that cannot be read).
        any_version: a file counts as there if any version that is kept is the same, not only the newest: for a source
            that may hold several contents of one path.
    """
    batch = _Batch(store, session, report, any_version, progress)
    try:
        for file in files:
            batch.add(file)
        batch.commit()
    finally:
        batch.close()


class _Batch:
    def __init__(
        self, store: Store, session: SessionKey, report: Imported, any_version: bool, progress: Progress | None
    ) -> None:
        self._store, self._session, self._report = store, session, report
        self._any_version, self._progress = any_version, progress
        self._begin()

    def _begin(self) -> None:
        self._sources = ExitStack()
        self._taken: list[tuple[FoundFile, Plain, Attributes]] = []
        self._keys: set[str] = set()
        self._folders: set[str] = set()
        self._bytes = 0
        self._view = self._store.catalog.view(self._session)
        self._taker = Taker(self._store, self._view, self._store.encoding, self._progress)

    def add(self, file: FoundFile) -> None:
        if len(self._taken) >= BATCH_FILES or self._bytes >= BATCH_BYTES or file.key in self._keys:
            self.commit()
        clash = file.key in self._folders or not self._keys.isdisjoint(ancestors(file.key))
        refused = self._view.refusal([{"op": "put", "path": file.key}])
        if refused is not None or clash:
            self._report.skip(file.shown, str(refused or f"{file.key} is a file and a folder in the source"))
            file.drop()
            return
        try:
            attributes = attributes_of(file)
            plain = self._take(file)
        except (InvalidInput, NotFound, Corrupt, OSError, TypeError) as error:
            self._report.skip(file.shown, str(error))
            file.drop()
            return
        if file.checksum is not None and file.checksum != plain.digest:
            self._report.skip(file.shown, f"is damaged: its SHA-256 is {plain.digest}, not {file.checksum}")
            plain.discard()
        elif is_there(self._view.file_at(file.key), plain.digest, attributes, self._any_version):
            self._report.unchanged += 1
            plain.discard()
        else:
            self._taken.append((file, plain, attributes))
            self._keys.add(file.key)
            self._folders.update(ancestors(file.key))
            self._bytes += plain.size

    def _take(self, file: FoundFile) -> Plain:
        source = self._sources.enter_context(file.open())
        if isinstance(source, str):
            return self._taker.from_path(source, file.key)
        return self._taker.from_memory(source, file.key)

    def commit(self) -> None:
        """Store what was taken so far, in one record."""
        if self._taken:
            plains = [plain for _, plain, _ in self._taken]
            waiting = [staged for plain in plains for staged in plain.waiting]
            self._store.blobs.secure(waiting)
            shown = {id(plain): file.shown for file, plain, _ in self._taken}
            commit(
                self._store, self._session, [self._entry(*taken) for taken in self._taken], plains,
                shown=lambda plain: shown.get(id(plain), plain.digest),
            )  # fmt: skip
            self._report.files += len(plains)
            self._report.bytes += sum(plain.size for plain in plains)
            self._report.stored_bytes += sum(staged.size for staged in waiting)
        self.close()
        self._begin()

    def _entry(self, file: FoundFile, plain: Plain, attributes: Attributes) -> dict[str, Any]:
        entry = put_entry(self._store, file.key, plain, attributes)
        return entry if file.at is None else {**entry, "at": file.at}

    def close(self) -> None:
        for _, plain, _ in self._taken:
            plain.discard()
        self._taken = []
        self._sources.close()


def survey_files(
    store: Store | None, session: SessionKey, files: Iterable[FoundFile], report: Imported, *, any_version: bool = False
) -> None:
    """What ``store_files`` would do, counted without storing anything. ``store``: None where there is no lake yet."""
    view = store.catalog.view(session) if store is not None else None
    for file in files:
        refused = view.refusal([{"op": "put", "path": file.key}]) if view is not None else None
        if refused is not None:
            report.skip(file.shown, str(refused))
            file.drop()
            continue
        try:
            attributes, state = attributes_of(file), view.file_at(file.key) if view is not None else None
            known = state is not None and is_there(state, _digest(file), attributes, any_version)
        except (InvalidInput, NotFound, OSError, TypeError) as error:
            report.skip(file.shown, str(error))
            continue
        finally:
            file.drop()
        if known:
            report.unchanged += 1
        else:
            report.files += 1
            report.bytes += file.size


def _digest(file: FoundFile) -> str:
    with file.open() as source:
        if not isinstance(source, str):
            return sha256_of(source)
        with open(source, "rb") as stream:
            return sha256_of(stream)


def sha256_of(stream: BinaryIO) -> str:
    """The SHA-256 of the rest of a stream."""
    hasher = hashlib.sha256()
    while piece := stream.read(1 << 20):
        hasher.update(piece)
    return hasher.hexdigest()


def attributes_of(file: FoundFile) -> Attributes:
    """Raises ``InvalidInput`` or ``InvalidType`` for what a lake cannot hold."""
    metadata: dict[str, Any] = checked(file.metadata or {}, what="metadata")
    return Attributes(check_description(file.description), check_tags(file.tags), metadata)


def is_there(state: FileState | None, digest: str, attributes: Attributes, any_version: bool) -> bool:
    """True if the newest version (or any that is kept) has this content and these attributes."""
    if state is None:
        return False
    versions: Iterable[Version] = state.versions if any_version else [v for v in [state.current] if v is not None]
    return any(
        version.digest == digest
        and version.deleted_at is None
        and version.description == attributes.description
        and list(version.tags) == attributes.tags
        and encode(version.metadata) == encode(attributes.metadata)
        for version in versions
    )
