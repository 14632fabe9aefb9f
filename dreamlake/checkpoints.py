"""Questions about checkpoints before and after they are stored: ``scan`` and ``Lake.diff``.

Thin: the work is in ``operations``, which is imported when it is needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dreamlake.errors import InvalidType
from dreamlake.operations.context import Store
from dreamlake.progress import meter

if TYPE_CHECKING:
    from dreamlake.operations.diff import Diff
    from dreamlake.operations.scan import Scan
    from dreamlake.operations.sides import Place, Side

__all__ = ["Checkpoints", "diff_sides", "scan"]


def scan(
    folder: str | os.PathLike[str],
    *,
    encoding: str = "auto",
    quick: bool = False,
    top: int = 10,
    order: str = "saved",
    workers: int | None = None,
) -> Scan:
    """What storing a folder would take, before anything is stored.

    Every checkpoint is cut and coded as an upload would, each against the one before it, into a store that only
    counts: files are taken in natural order (``epoch_2`` before ``epoch_10``). Writes nothing; does not follow links.

    Args:
        encoding: "auto" codes checkpoints, "coded" every large file; see ``Session``.
        quick: read an eighth of each large file and estimate the rest.
        top: how many single files to report, those with most of ``order``: "saved", "stored" or "size".
        workers: threads (default: one a core).

    Raises:
        NotFound, InvalidInput: no such folder, or a bad option. Files that cannot be read are in ``Scan.skipped``.
    """
    from dreamlake.operations.scan import find_files
    from dreamlake.operations.scan import scan as weigh

    found = find_files(folder)
    with meter(found.size_bytes, f"scan {len(found.files):,} files") as progress:
        return weigh(
            found, encoding=encoding, quick=quick, top=top, order=order, workers=workers, progress=progress
        )  # fmt: skip


def diff_sides(a: Side, b: Side, *, tensors: bool = True) -> Diff:
    """Compare two sides, see ``operations.sides`` and ``operations.diff``; local ones need no lake."""
    from dreamlake.operations.diff import diff

    with meter(None, "compare") as progress:
        return diff(a, b, tensors=tensors, progress=progress)


class Checkpoints:
    """The part of ``Lake`` that this module is about."""

    store: Store

    def diff(
        self, a: str | os.PathLike[str] | Place, b: str | os.PathLike[str] | Place, *, tensors: bool = True
    ) -> Diff:
        """What differs between two sessions, folders, files or versions, and how much their tensors do.

        Args:
            a, b: addresses: ``"workspace/session"``, ``"workspace/session:/models"``,
                ``"workspace/session:/models/best.pth@v2"``, a glob; or a ``pathlib.Path``, which is a file or folder
                on disk. Two files are compared whatever their names are, all others by path.
            tensors: compare the tensors of changed checkpoints, too; that reads them.

        Raises:
            NotFound: no such session or file.  InvalidInput: a malformed address, or a file against a folder.
            Corrupt: damaged content.
        """
        return diff_sides(self._side(a), self._side(b), tensors=tensors)

    def _side(self, what: str | os.PathLike[str] | Place) -> Side:
        from dreamlake.operations.sides import Place, local_side, place_of, stored_side

        if isinstance(what, Place):
            return stored_side(self.store, what)
        if isinstance(what, str):
            return stored_side(self.store, place_of(what, self.store.namespace))
        if isinstance(what, os.PathLike):
            return local_side(what)
        raise InvalidType(f"what to compare is an address or a path on disk, not {type(what).__name__}")
