"""``session.files()``: upload, read and organise the files of one session.

Owns: what users may pass (checked here, once) and the records they get back. The work itself is in ``operations``.
Every method takes a logical path (``"/models/best.pth"``), ``path@alias``, ``path@vN``, an id, or a record.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, overload

from dreamlake import values
from dreamlake.bulk import paused_gc
from dreamlake.catalog.fold import Fold
from dreamlake.content import reading
from dreamlake.content.staging import check_source
from dreamlake.errors import Corrupt, InvalidInput, InvalidType, NotFound
from dreamlake.model import (
    SessionKey,
    Version,
    VersionRow,
    below,
    check_alias,
    check_description,
    check_name,
    check_tags,
    file_key,
    folder_path,
    literal,
    path_text,
    split_key,
)
from dreamlake.operations import folders, lineage, tree, upload
from dreamlake.operations.context import Store
from dreamlake.operations.download import download as download_version
from dreamlake.operations.upload import Attributes
from dreamlake.ports import iso
from dreamlake.progress import meter
from dreamlake.records import FileRecords, Record, record, records, records_of_hits
from dreamlake.savers import Savers

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

    from dreamlake.background import Background, PendingUpload

__all__ = ["Files", "Record"]

_KEY, _TAGS = Version._fields.index("key"), Version._fields.index("tags")

Reference = str | os.PathLike[str] | Mapping[str, Any]
Guard = Callable[[bool], None]


class _Keep:
    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep()  # the default of update(): leave the field as it is


class Files(Savers):
    """The files of one session. Get it as ``session.files()`` (or ``session.files``).

    All methods raise ``RuntimeError`` before the session is open and after it is closed, and those that change
    anything also when it is write-protected.
    """

    def __init__(self, store: Store, session: SessionKey, guard: Guard) -> None:
        self._store, self._session, self._guard = store, session, guard
        self._background: Background | None = None

    def __call__(self) -> Files:
        return self

    def __repr__(self) -> str:
        return f"Files({str(self._session)!r})"

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()

    def to_dataframe(self) -> pandas.DataFrame:
        """All live files as a data frame; fields of metadata are columns ``metadata.<name>``. Needs pandas."""
        return self.list().to_dataframe()

    # ---- writing -------------------------------------------------------------------------------------------------

    @overload
    def upload(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        path: str | os.PathLike[str] = "/",
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        filename: str | None = None,
        include: Sequence[str] = (),
        ignore: Sequence[str] = (),
        encoding: str | None = None,
        keep: Any = None,
        wait: Literal[False],
    ) -> PendingUpload: ...

    @overload
    def upload(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        path: str | os.PathLike[str] = "/",
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        filename: str | None = None,
        include: Sequence[str] = (),
        ignore: Sequence[str] = (),
        encoding: str | None = None,
        keep: Any = None,
        wait: Literal[True] = True,
    ) -> Record: ...

    def upload(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        path: str | os.PathLike[str] = "/",
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        filename: str | None = None,
        include: Sequence[str] = (),
        ignore: Sequence[str] = (),
        encoding: str | None = None,
        keep: Any = None,
        wait: bool = True,
    ) -> Record | PendingUpload:
        """Store a file, or a whole folder, durably.

        Args:
            file_path: path of a file or folder (``~`` is expanded), or bytes or a binary file object with ``filename``.
            path: logical folder; "/models", "models" and "/models/" are the same.
            description, tags, metadata: what to know about it; NumPy scalars and 0-d tensors become plain numbers.
            filename: another name than the file's own.
            encoding: "auto", "coded" or "raw"; see ``Session``. Content and checksum are the same in each.
            keep: a retention rule for this path (for a folder: all below it), e.g. ``keep=3`` or ``keep={"last": 3,
                "best": 2, "by": "loss", "order": "lower"}``; see ``retention``.
            include, ignore: for a folder: shell patterns on the relative path or the name.
            wait: False stores it in the background, after everything that was uploaded so before, and returns a
                ``concurrent.futures.Future`` of the record at once (unless the queue is full). Bytes and streams are
                taken as they are now; a file is read when its turn comes, and refused then if it was changed or
                removed meanwhile. ``session.flush`` waits, and so do ``session.close`` and the end of the program.

        Returns:
            The record, or its future. For a folder, which is one atomic commit: ``{"path", "count", "uploaded",
            "unchanged", "sizeBytes", "newBytes", "files": [records]}``; files whose content and attributes are stored
            already keep their version.

        Raises:
            ValueError: bad input of any kind (a missing file is also a ``FileNotFoundError``); nothing was changed.
            TypeError: metadata or tags of a type that cannot be stored.
        """
        self._guard(True)
        attributes = _attributes(description, tags, metadata)
        folder = folder_path(path)
        if isinstance(file_path, (str, os.PathLike)):
            local = _local(file_path)
            if os.path.isdir(local):
                if filename is not None:
                    raise InvalidInput(f"{local} is a folder; filename={filename!r} is for a single file", path=local)
                return self._upload_folder(local, folder, attributes, include, ignore, encoding, keep, wait)
            key = file_key(folder, filename if filename is not None else os.path.basename(local.rstrip("/")))
            source: str | bytes | BinaryIO = local
            size = check_source(local, self._store.max_file_bytes).st_size
        else:
            key = file_key(folder, _name_of_stream(file_path, filename))
            in_memory = isinstance(file_path, (bytes, bytearray, memoryview))
            source = bytes(file_path) if in_memory else _binary(file_path)  # type: ignore[arg-type]
            size = 0
        store_it = partial(self._upload_file, key, attributes, encoding, keep)
        if wait:
            return store_it(source, size)
        from dreamlake.operations import retention

        retention.parse(keep, path=literal(key))  # bad input is an error of the call, not of the future
        return self.in_background(key, source, lambda taken: store_it(taken, 0))

    def in_background(
        self, name: str, source: str | bytes | BinaryIO, work: Callable[[str | bytes | BinaryIO], Record]
    ) -> PendingUpload:
        """Queue ``work`` on a source, after all that was queued before; ``upload(..., wait=False)`` does this.

        Args:
            name: what it is about, for messages.
            source: a path, bytes or a stream; ``work`` is called with it, as it is now, when its turn comes.
            work: stores it, and perhaps does more; returns the record.
        """
        from dreamlake.background import hold

        self._guard(True)
        held = hold(source)
        return self._queue().submit(name, lambda: work(held.take()), size_bytes=held.size_bytes, drop=held.drop)

    def _upload_file(
        self,
        key: str,
        attributes: Attributes,
        encoding: str | None,
        keep: Any,
        source: str | bytes | BinaryIO,
        shown: int,
    ) -> Record:
        """``shown``: how many bytes a progress bar is about; 0: none."""
        also = self._rule_entries(keep, literal(key))
        with meter(shown, f"upload {split_key(key)[1]}") as progress:
            version = upload.upload_file(
                self._store, self._session, source, key, attributes, encoding=encoding, also=also, progress=progress
            )
        return record(version, self._session, self._store)

    def _queue(self) -> Background:
        """The queue of uploads in the background, made when it is first needed."""
        from dreamlake.background import Background

        queue = self._background
        if queue is None:
            queue = self._background = self.__dict__.setdefault("_made_background", Background())  # one for all threads
        return queue

    def flush(self) -> None:
        """Wait until all uploads in the background are stored.

        Raises ``UploadsFailed`` with every error that nobody was told of by the futures.
        """
        if self._background is not None:
            self._background.flush()

    def _upload_folder(
        self,
        local: str,
        folder: str,
        attributes: Attributes,
        include: Sequence[str],
        ignore: Sequence[str],
        encoding: str | None,
        keep: Any,
        wait: bool,
    ) -> Record | PendingUpload:
        limit = self._store.max_file_bytes
        found = folders.scan_folder(
            local, include=_patterns(include, "include"), ignore=_patterns(ignore, "ignore"), limit=limit
        )
        if not found:
            raise InvalidInput(f"{local} holds no files to upload", path=local)
        pattern, total = f"{folder.rstrip('/')}/**", sum(f.size for f in found)
        store_it = partial(self._store_folder, local, folder, attributes, found, encoding, keep, pattern)
        if wait:
            return store_it(total)
        from dreamlake.operations import retention

        retention.parse(keep, path=pattern)
        return self._queue().submit(local, lambda: store_it(0), size_bytes=total, files=len(found))

    def _store_folder(
        self,
        local: str,
        folder: str,
        attributes: Attributes,
        found: Sequence[folders.FolderFile],
        encoding: str | None,
        keep: Any,
        pattern: str,
        shown: int,
    ) -> Record:
        also = self._rule_entries(keep, pattern)
        with meter(shown, f"upload {len(found):,} files") as progress:
            done = folders.upload_folder(
                self._store, self._session, local, folder, attributes, found,
                progress=progress, encoding=encoding, also=also,
            )  # fmt: skip
        return {
            "path": folder,
            "count": len(done.versions),
            "uploaded": done.uploaded,
            "unchanged": done.unchanged,
            "sizeBytes": sum(v.size_bytes for v in done.versions),
            "newBytes": done.new_bytes,
            "files": records(done.versions, self._session, self._store),
        }

    def _rule_entries(self, keep: Any, pattern: str) -> builtins.list[dict[str, Any]]:
        """What stores a retention rule in the record of an upload."""
        if keep is None:
            return []
        view = self._view()
        from dreamlake.operations import retention

        rules = retention.merge(retention.rules_of(view), retention.parse(keep, path=pattern))
        entry = retention.rules_entry(view, rules, iso(self._store.ports.now()))
        return [entry] if entry is not None else []

    def retention(self, rules: Any = None, **rule: Any) -> builtins.list[dict[str, Any]]:
        """Declare which older versions collection may let go; without arguments, tell the rules.

        Args:
            rules: a list of rules that replaces all (``[]``: keep everything again).
            rule: one rule, added; it replaces the one for the same ``path``: ``path`` (glob, or a folder), ``last``
                (keep that many newest versions), ``best`` with ``by`` (metadata field) and ``order`` ("higher" or
                "lower" is better), ``every`` (every Nth version), ``younger`` (e.g. "7d").

        A version stays if any part of a rule for its path keeps it. The current version, tagged and aliased ones always
        stay, and so does everything at paths without a rule. ``dreamlake gc --dry-run`` shows what would go and why.

        Returns the rules of the session. Raises ``ValueError`` or ``TypeError`` with an example of what is meant.
        """
        from dreamlake.operations import retention

        if rules is None and not rule:
            self._guard(False)
            return [made.record() for made in retention.get_rules(self._store, self._session)]
        self._guard(True)
        if rules is not None and rule:
            raise InvalidInput("give either a list of all rules or the fields of one rule")
        wanted = retention.parse(rules if rules is not None else rule)
        if rule:
            wanted = retention.merge(retention.get_rules(self._store, self._session), wanted)
        return [made.record() for made in retention.set_rules(self._store, self._session, wanted)]

    def update(
        self,
        file: Reference,
        *,
        description: str | _Keep | None = KEEP,
        tags: Iterable[str] | _Keep | None = KEEP,
        metadata: Mapping[str, Any] | _Keep | None = KEEP,
    ) -> Record:
        """Change what is known about a file; fields left out are kept. Returns the new record."""
        self._guard(True)
        given: dict[str, Any] = {}
        if not isinstance(description, _Keep):
            given["description"] = check_description(description)
        if not isinstance(tags, _Keep):
            given["tags"] = check_tags(tags)
        if not isinstance(metadata, _Keep):
            given["metadata"] = _metadata(metadata)
        text, view = _reference(file), self._view()
        version = tree.resolve(view, text)
        if version != view.current_at(version.key):
            raise InvalidInput(f"{text} is an older version; only the newest can be changed", path=text)
        return record(tree.update(self._store, self._session, version, given), self._session, self._store)

    def move(self, file: Reference, to: str | os.PathLike[str]) -> Record | list[Record]:
        """Move a file with its history; a target that is a folder or ends in "/" takes it under its own name.

        A folder moves as a whole, and then the list of its records is returned.
        """
        self._guard(True)
        single = tree.names_file(self._view(), _reference(file))
        made = tree.move(self._store, self._session, _reference(file), _target(to))
        return self._one_or_all(single, made, self._session)

    def copy(self, file: Reference, to: str | os.PathLike[str], *, session: str | None = None) -> Record | list[Record]:
        """Copy a file or folder; no bytes move. ``session="workspace/name"`` copies into another session."""
        self._guard(session is None)
        goal = self._session if session is None else self._store.session(*_session_of(session))
        if not self._store.catalog.view(goal).info.exists:
            raise NotFound(f"no session {goal}; open it once to create it", path=str(goal))
        single = tree.names_file(self._view(), _reference(file))
        made = tree.copy(self._store, self._session, _reference(file), _target(to), to_session=goal)
        return self._one_or_all(single, made, goal)

    def delete(self, file: Reference, *, recursive: bool = False) -> Record:
        """Delete a file with its history; ``restore`` brings it back until collection lets it go.

        Returns ``{"id", "deletedAt", "path", "filename"}``. A folder needs ``recursive=True`` and gives
        ``{"path", "count", "deletedAt", "files": [...]}``.
        """
        self._guard(True)
        text, view = _reference(file), self._view()
        versions = tree.select(view, text)
        single = tree.names_file(view, text)
        if not single and not recursive:
            raise InvalidInput(f"{text} is a folder of {len(versions)} files; delete it with recursive=True", path=text)
        if single and versions != [view.current_at(versions[0].key)]:
            raise InvalidInput(
                f"{text} is an older version; versions go by retention, or delete the whole file", path=text
            )
        gone = [_deleted(v) for v in tree.delete(self._store, self._session, versions)]
        if single:
            return gone[0]
        return {"path": folder_path(text), "count": len(gone), "deletedAt": gone[0]["deletedAt"], "files": gone}

    def restore(self, file: Reference, *, version: int | None = None) -> Record:
        """Bring back a deleted file, or make an older version (``path@vN`` or ``version``) the newest again."""
        self._guard(True)
        number = None if version is None else values.whole_number(version, what="version")
        return record(
            tree.restore(self._store, self._session, _reference(file), number=number), self._session, self._store
        )

    def alias(self, file: Reference, name: str, *, remove: bool = False) -> Record | None:
        """Let ``path@name`` stand for the file's newest version, or for the one that ``path@vN`` names.

        Moving an alias is atomic. ``remove=True`` takes it away and returns None.
        """
        self._guard(True)
        made = tree.alias(self._store, self._session, _reference(file), check_alias(name), remove=remove)
        return None if made is None else record(made, self._session, self._store)

    def aliases(self, file: Reference) -> dict[str, int]:
        """Alias -> version number of one file."""
        self._guard(False)
        view = self._view()
        state = view.file_at(tree.resolve(view, _reference(file)).key)
        if state is None:
            return {}
        numbers = {v.id: v.number for v in state.versions}
        named = lineage.plain_aliases(state.aliases)
        return {name: numbers[i] for name, i in sorted(named.items()) if i in numbers}

    def used_by(self, file: Reference) -> dict[int, list[str]]:
        """Version number -> the sessions ("workspace/name") that use it as an input; see ``Session.use``."""
        self._guard(False)
        return lineage.users_of(self._store, self._view(), _reference(file))

    # ---- reading -------------------------------------------------------------------------------------------------

    def list(
        self, *, path: str | os.PathLike[str] | None = None, tags: Iterable[str] | None = None, match: str = "any"
    ) -> FileRecords:
        """Live files in upload order.

        Args:
            path: folder; it and everything below it. Unknown gives [].
            tags: with ``match="any"`` files that have at least one of these, with "all" those that have every one.
                An empty list is no condition.
        """
        self._guard(False)
        if match not in ("any", "all"):
            raise InvalidInput(f"match={match!r}; use 'any' or 'all'")
        view, wanted = self._view(), frozenset(check_tags(tags))
        prefix = "/" if path is None else below(folder_path(path))
        with paused_gc():  # once for rows and records
            return records(_chosen(view.live_rows(), prefix, wanted, match == "any"), self._session, self._store)

    def find(
        self,
        glob: str | None = None,
        *,
        where: str | None = None,
        path: str | os.PathLike[str] | None = None,
        tags: Iterable[str] | None = None,
        all_tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        checksum: str | None = None,
        order: str | Iterable[str] | None = None,
        limit: int | None = None,
        scope: str = "session",
    ) -> FileRecords:
        """Live files that meet every given condition.

        Args:
            where: an expression, e.g. ``"metadata.val_accuracy > 0.9 and tag:best"``; see docs/finding.md.
            glob, path, tags, all_tags, metadata, min_size, max_size, after, before, checksum: single conditions; see
                ``operations.search.conditions``.
            order: a field, ``-`` in front for descending, or several: ``uploaded`` (default), ``updated``, ``path``,
                ``name``, ``size``, ``version``, ``type``, ``session``, ``workspace``, ``metadata.<field>``. Files
                without such a field come last.
            limit: at most that many, the first ones.
            scope: where to look: ``"session"``, ``"workspace"`` or ``"lake"``.

        Raises:
            ValueError: a malformed condition; of an expression the message names the column.

        Example: ``files.find("/models/**/*.pth", order="-metadata.val_accuracy", limit=1)`` gives the best model.
        """
        self._guard(False)
        from dreamlake.operations import search  # the language of expressions: not every run asks

        wanted = search.conditions(
            where=where, glob=glob, path=path, tags=tags, all_tags=all_tags, metadata=metadata, min_size=min_size,
            max_size=max_size, after=after, before=before, checksum=checksum,
        )  # fmt: skip
        keys = search.sessions_of(self._store, scope, self._session)
        return records_of_hits(search.find(self._store, keys, wanted, order=order, limit=limit), self._store)

    def get(self, file: Reference) -> Record:
        """The record of one file. Raises ``FileNotFoundError`` when it is unknown, deleted or replaced."""
        self._guard(False)
        return record(self._resolve(file), self._session, self._store)

    def exists(self, file: Reference) -> bool:
        """True if ``get`` would find it."""
        self._guard(False)
        try:
            self._resolve(file)
        except NotFound:
            return False
        return True

    def history(self, file: Reference) -> FileRecords:
        """All kept versions, newest first; read an old one as ``path@vN``."""
        self._guard(False)
        return records(tree.history(self._view(), _reference(file)), self._session, self._store)

    def open(self, file: Reference) -> io.BufferedReader:
        """A seekable binary stream of the content.

        A copy whose tamper mark is broken is checked before it is handed out, and a read from start to end is checked
        at its end; both raise ``ValueError`` (``Corrupt``). Use it in a ``with`` block.
        """
        self._guard(False)
        version = self._resolve(file)
        with self._reading(version):
            return reading.open_plain(self._store.blobs, version.digest, version.size_bytes)

    def read_bytes(self, file: Reference) -> bytes:
        """The verified content. Raises ``ValueError`` (``Corrupt``) when it is damaged."""
        self._guard(False)
        version = self._resolve(file)
        with self._reading(version):
            return reading.read_all(self._store.blobs, version.digest, version.size_bytes)

    def read_text(self, file: Reference, encoding: str = "utf-8") -> str:
        """The verified content as text."""
        return self.read_bytes(file).decode(encoding)

    def tensors(self, file: Reference) -> builtins.list[Record]:
        """The tensors of a checkpoint (torch, safetensors, npz, npy, GGUF, HDF5) without reading them.

        Returns ``{"name", "dtype", "shape", "nbytes"}`` for each, in the order of the file; those in a form that has
        no NumPy type (quantized, compressed) are left out. Raises ``ValueError`` for a file that is no container.
        """
        self._guard(False)
        from dreamlake.operations import tensor_access

        with tensor_access.open_version(self._store, self._resolve(file)) as found:
            return [tensor_access.described(tensor) for tensor in found.tensors]

    def tensor(self, file: Reference, name: str | None = None) -> NDArray[Any]:
        """One tensor of a checkpoint as a NumPy array in memory of its own; torch is not needed.

        Only the stored parts that the tensor touches are read. ``bfloat16`` and ``float8_...`` come as arrays of the
        package ``ml_dtypes`` where it is installed, else as ``uint16`` and ``uint8`` with the same bits.

        Args:
            name: as ``tensors`` gives it; may be left out when the file holds exactly one.

        Raises:
            FileNotFoundError: no such file, or no tensor of this name (the message has similar ones).
            ValueError: the file is no container of tensors, or is damaged.
        """
        self._guard(False)
        if name is not None and not isinstance(name, str):
            raise InvalidType(f"the name of a tensor is text, not {type(name).__name__}")
        version = self._resolve(file)
        from dreamlake.operations import tensor_access

        with tensor_access.open_version(self._store, version) as found:
            return found.array(found.find(name, version.key))

    def download(self, file: Reference, dest: str | os.PathLike[str] | None = None) -> str:
        """Write the content to ``dest``: a file, or a folder that takes it under its own name (default: here).

        Atomic: an existing file is replaced only by complete, verified content. A logical folder is downloaded with
        its tree below ``dest``. Returns the destination.
        """
        self._guard(False)
        text, view = _reference(file), self._view()
        versions = tree.select(view, text)
        target = _local(dest, "dest") if dest is not None else "."
        if isinstance(dest, str) and dest.endswith("/"):
            target = target.rstrip("/") + "/"
        with meter(sum(v.size_bytes for v in versions), "download") as progress:
            if tree.names_file(view, text):
                with self._reading(versions[0]):
                    made = download_version(self._store, versions[0], target, progress=progress)
                return made[2:] if dest is None and made.startswith("./") else made
            prefix = below(folder_path(text))
            for version in versions:
                place = f"{target.rstrip('/')}/{version.key[len(prefix) :]}"
                with self._reading(version):
                    download_version(self._store, version, place, progress=progress)
        return target

    def link(self, file: Reference, *, expires_s: int = 3600) -> str:
        """A URL from which anybody can read the content for a while, without credentials: for remote lakes.

        Args:
            expires_s: seconds, at most a week; signed with short-lived credentials it ends with them.

        Content that is stored in parts is first made an object of its own, as ``materialize(bucket=True)`` does.

        Raises ``ValueError`` for a lake whose contents are not in a bucket.
        """
        from dreamlake.operations import object_files

        self._guard(False)
        version = self._resolve(file)
        seconds = values.whole_number(expires_s, what="expires_s")
        with self._reading(version):
            return object_files.link(self._store, self._session, version, seconds)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _view(self) -> Fold:
        return self._store.catalog.view(self._session)

    def _resolve(self, file: Reference) -> Version:
        return tree.resolve(self._view(), _reference(file))

    @contextmanager
    def _reading(self, version: Version) -> Iterator[None]:
        """Errors of reading name the file, not only its content."""
        try:
            yield
        except (Corrupt, NotFound) as error:
            where = f"{version.key}@v{version.number} in session {self._session}"
            raise type(error)(f"{where}: {error}", path=version.key) from error

    def _one_or_all(
        self, single: bool, made: builtins.list[Version], session: SessionKey
    ) -> Record | builtins.list[Record]:
        found = records(made, session, self._store)
        return found[0] if single else found


def _chosen(rows: Iterable[VersionRow], prefix: str, tags: frozenset[str], any_tag: bool) -> Iterable[VersionRow]:
    """The rows below a folder that have one of these tags, or all of them."""
    if prefix != "/":
        rows = (row for row in rows if row[_KEY].startswith(prefix))
    if not tags:
        return rows
    if any_tag:
        return (row for row in rows if not tags.isdisjoint(row[_TAGS]))
    return (row for row in rows if tags.issubset(row[_TAGS]))


def _deleted(version: Version) -> Record:
    folder, filename = split_key(version.key)
    return {"id": version.id, "deletedAt": version.deleted_at, "path": folder, "filename": filename}


def _reference(file: Reference) -> str:
    if isinstance(file, Mapping):
        try:
            file = file["id"]
        except KeyError:
            raise InvalidInput("this mapping is not a file record: it has no 'id'") from None
    if not isinstance(file, (str, os.PathLike)):
        raise InvalidType(f"a file is named by its path, its id or its record, not by a {type(file).__name__}")
    file = path_text(file)
    if not file:
        raise InvalidInput("the path of the file is empty")
    return file


def _attributes(description: Any, tags: Any, metadata: Any) -> Attributes:
    return Attributes(check_description(description), check_tags(tags), _metadata(metadata))


def _metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidType(f"metadata must be a mapping, not {type(metadata).__name__}")
    plain: dict[str, Any] = values.checked(metadata, what="metadata")
    return plain


def _local(path: str | os.PathLike[str], what: str = "file_path") -> str:
    text: Any = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidType(f"{what} must be text or a path of text, not {type(text).__name__}")
    if not text:
        raise InvalidInput(f"{what} is empty")
    if "\0" in text:
        raise InvalidInput(f"{what} {text!r} contains a NUL character", path=text)
    return os.path.expanduser(text)


def _target(to: str | os.PathLike[str]) -> str:
    if not isinstance(to, (str, os.PathLike)):
        raise InvalidType(f"to must be a logical path, not a {type(to).__name__}")
    return path_text(to)


def _session_of(text: str) -> tuple[str, str]:
    if not isinstance(text, str):
        raise InvalidType(f"session must be text ('workspace/name'), not {type(text).__name__}")
    workspace, slash, name = text.partition("/")
    if not slash:
        raise InvalidInput(f"session {text!r} must be 'workspace/name'")
    return workspace, name


def _name_of_stream(source: Any, filename: str | None) -> str:
    if filename is not None:
        return check_name(filename, "filename")
    if not isinstance(source, (bytes, bytearray, memoryview)):
        _binary(source)  # which says what is wrong with it
    raise InvalidInput(f"content given as {type(source).__name__} has no name of its own; add filename='...'")


def _binary(source: Any) -> BinaryIO:
    if isinstance(source, io.TextIOBase) or not callable(getattr(source, "read", None)):
        raise InvalidType(
            f"file_path must be a path, bytes or a file opened in binary mode ('rb'), not {type(source).__name__}"
        )
    stream: BinaryIO = source
    return stream


def _patterns(patterns: Sequence[str], what: str) -> Sequence[str]:
    given: Any = [patterns] if isinstance(patterns, str) else patterns
    found = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(pattern, str) for pattern in found):
        raise InvalidType(f"{what} must be a list of shell patterns, not {patterns!r}")
    return found
