"""The records of files that users get: plain dicts, whatever is asked and wherever the lake lies."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any

from dreamlake.bulk import paused_gc
from dreamlake.model import SessionKey, Version, VersionRow
from dreamlake.operations.search import Hit

__all__ = ["Record", "record", "records", "records_of_hits"]

Record = dict[str, Any]


def record(version: VersionRow, session: SessionKey) -> Record:
    """The public record of a version; always all of these keys."""
    return records([version], session)[0]


def records(versions: Iterable[VersionRow], session: SessionKey) -> list[Record]:
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
    return made


def records_of_hits(hits: Iterable[Hit]) -> list[Record]:
    """The records of what ``find`` found, in its order."""
    made: list[Record] = []
    with paused_gc():
        for session, found in groupby(hits, key=itemgetter(0)):
            made += records(map(itemgetter(1), found), session)
    return made
