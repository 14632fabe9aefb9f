"""``lake.find``: files of a whole lake, of a workspace or of a session, without opening any of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from dreamlake.records import FileRecords, records_of_hits

if TYPE_CHECKING:
    from dreamlake.lake import Lake
    from dreamlake.model import SessionKey
    from dreamlake.operations.context import Store


class Finding:
    """The part of a ``Lake`` that finds files, and shows what is there."""

    store: Store

    def _repr_html_(self) -> str:
        from dreamlake.showing import sessions_html

        lake = cast("Lake", self)
        return sessions_html(lake.where, lake.sessions())

    def find(
        self,
        glob: str | None = None,
        *,
        scope: str | SessionKey | None = None,
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
    ) -> FileRecords:
        """Live files that meet every given condition; ``sessionId`` of a record says where it is.

        Args:
            scope: ``"workspace/session"``, ``"workspace"``, or None for the whole lake.
            glob, where, path, tags, all_tags, metadata, min_size, max_size, after, before, checksum, order, limit: as
                for ``files.find``.

        Raises:
            FileNotFoundError: no such session or workspace (``NotFound``).
            ValueError: a malformed condition.

        Example: ``lake.find(where="tag:best and workspace:vision", order="-metadata.val_accuracy", limit=1)``.
        """
        from dreamlake.operations import search
        from dreamlake.operations.wanted import sessions_of

        wanted = search.conditions(
            where=where, glob=glob, path=path, tags=tags, all_tags=all_tags, metadata=metadata, min_size=min_size,
            max_size=max_size, after=after, before=before, checksum=checksum,
        )  # fmt: skip
        hits = search.find(self.store, sessions_of(self.store, scope), wanted, order=order, limit=limit)
        return records_of_hits(hits, self.store)
