"""The records of files that users get: plain dicts in plain lists, which also show themselves in notebooks.

``FileRecord`` is a dict and ``FileRecords`` a list, equal to and pickled as plain ones; what they have besides is a
text and an HTML form and ``to_dataframe``. Making them costs nothing until somebody looks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from dreamlake.bulk import paused_gc
from dreamlake.model import SessionKey, Version, VersionRow

if TYPE_CHECKING:
    import pandas

    from dreamlake.operations.context import Store
    from dreamlake.operations.search import Hit

__all__ = ["FileRecord", "FileRecords", "Record", "record", "records", "records_of_hits"]

Record = dict[str, Any]


class FileRecord(dict[str, Any]):
    """The record of one version of a file: a dict with always the same keys."""

    __slots__ = ("_store",)

    def __init__(self, fields: Record, store: Store | None = None) -> None:
        super().__init__(fields)
        self._store = store

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return dict, (dict(self),)

    def __str__(self) -> str:
        from dreamlake.showing import record_text

        return record_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        from dreamlake.showing import record_html

        return record_html(self, self._store)


class FileRecords(list[Record]):
    """Records of files in a list."""

    __slots__ = ("_store",)

    def __init__(self, items: Iterable[Record] = (), store: Store | None = None) -> None:
        super().__init__(items)
        self._store = store

    @overload
    def __getitem__(self, index: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> FileRecords: ...
    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        if isinstance(index, slice):
            return FileRecords(item, self._store)
        if type(item) is dict:  # made when it is looked at: a listing may have 100,000 of them
            item = FileRecord(item, self._store)
            self[index] = item
        return item

    def __iter__(self) -> Iterator[Record]:
        index = 0
        while index < len(self):
            yield self[index]
            index += 1

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, ([dict(item) for item in super().__iter__()],)

    def __str__(self) -> str:
        from dreamlake.showing import records_text

        return records_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        from dreamlake.showing import records_html

        return records_html(self)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row a file; fields of metadata become columns ``metadata.<name>``. Needs pandas."""
        from dreamlake.showing import records_frame

        return records_frame(list(super().__iter__()))


def record(version: VersionRow, session: SessionKey, store: Store | None = None) -> Record:
    """The public record of a version; always all of these keys."""
    return records([version], session, store)[0]


def records(versions: Iterable[VersionRow], session: SessionKey, store: Store | None = None) -> FileRecords:
    """Public records, built in one loop without further calls: a listing makes 100,000 of them."""
    session_id = f"{session.workspace}/{session.name}"
    made: list[Record] = []
    with paused_gc():
        for row in versions:
            _, _, key, version_id, number, digest, size, kind, about, tags, metadata, at, updated, deleted, _ = row
            if isinstance(row, Version):  # state of the catalog, which users must not be able to change
                tags, metadata = list(tags), copy.deepcopy(metadata)
            folder, _, filename = key.rpartition("/")
            made.append(
                {
                    "id": version_id,
                    "sessionId": session_id,
                    "path": folder or "/",
                    "filename": filename,
                    "description": about,
                    "tags": tags,
                    "contentType": kind,
                    "sizeBytes": size,
                    "checksum": digest,
                    "metadata": metadata,
                    "uploadedAt": at,
                    "updatedAt": updated,
                    "deletedAt": deleted,
                    "version": number,
                }
            )
    return FileRecords(made, store)


def records_of_hits(hits: Iterable[Hit], store: Store | None = None) -> FileRecords:
    """The records of what ``find`` found, in its order."""
    made = FileRecords((), store)
    with paused_gc():
        for session, found in groupby(hits, key=itemgetter(0)):
            made.extend(list.__iter__(records(map(itemgetter(1), found), session)))
    return made
