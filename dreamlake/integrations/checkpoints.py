"""What the helpers for training frameworks share: checkpoints as versions of one path, the best one under an alias.

A checkpoint is one file, every save a new version with its step and metrics as metadata. Which older versions stay is
a retention rule of the session (keep last, keep best), which ``dreamlake gc`` applies; the alias ``best`` moves
at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO

from dreamlake import values
from dreamlake.errors import InvalidInput, InvalidType, NotFound
from dreamlake.model import file_key, literal
from dreamlake.operations import retention

if TYPE_CHECKING:
    from dreamlake.session import Session

__all__ = ["BEST", "Checkpoints", "number", "plain_values"]

BEST = "best"

Record = dict[str, Any]


class Checkpoints:
    """The checkpoints of one path of a session.

    Args:
        session: an open session.
        path, filename: where they are.
        keep_last: how many of the newest stay; None: all.
        keep_best: how many of the best by ``by`` stay.
        by, order: name of a metric, and whether "lower" or "higher" is better. Needed for ``keep_best`` and ``best``.

    Raises:
        ValueError, TypeError: a bad name, or a rule that says nothing.
    """

    def __init__(
        self,
        session: Session,
        path: str = "/checkpoints",
        filename: str = "checkpoint.pth",
        *,
        keep_last: int | None = 3,
        keep_best: int | None = None,
        by: str | None = None,
        order: str = "lower",
    ) -> None:
        self.session, self.path, self.filename = session, path, filename
        self.key = file_key(path, filename)
        self.by, self.order = by, order
        if order not in ("lower", "higher"):
            raise InvalidInput(f"order={order!r}; use 'lower' or 'higher': which values of the metric are better")
        if by is None and keep_best is not None:
            raise InvalidInput(f"keep_best={keep_best} needs by=<name of a metric>")
        best = {} if by is None else {"best": keep_best or 1, "by": by, "order": order}
        self._keep = None if keep_last is None else {"path": literal(self.key), "last": keep_last, **best}
        retention.parse(self._keep)

    def save(
        self, source: str | bytes | BinaryIO, metadata: Mapping[str, Any], *, wait: bool = True
    ) -> Record | Future[Record]:
        """Store a checkpoint as the newest version; it becomes ``best`` if its metric beats that of the best so far.

        Args:
            source: a file on disk, or its content.
            metadata: step and metrics; numbers of any library.
            wait: False stores it in the background, see ``Files.upload``; a file on disk must stay until then.
        """
        files = self.session.files
        options: dict[str, Any] = {"path": self.path, "filename": self.filename, "metadata": plain_values(metadata)}
        if wait:
            return self._store(source, options)
        return files.in_background(self.key, source, lambda taken: self._store(taken, options))

    def _store(self, source: str | bytes | BinaryIO, options: dict[str, Any]) -> Record:
        made: Record = self.session.files.upload(source, keep=self._keep, **options)
        if self.by is not None and self._beats_best(made):
            self.session.files.alias(f"{self.key}@v{made['version']}", BEST)
        return made

    def _beats_best(self, made: Record) -> bool:
        value = number(made["metadata"].get(self.by))
        if value is None:
            return False
        best = self.find(BEST)
        known = None if best is None else number(best["metadata"].get(self.by))
        return known is None or (value < known if self.order == "lower" else value > known)

    def find(self, which: str | int = "last") -> Record | None:
        """The record of "last", "best", a version number or an alias; None when there is none."""
        try:
            return self.session.files.get(self.reference(which))
        except NotFound:
            return None

    def reference(self, which: str | int = "last") -> str:
        """How to name "last", "best", a version number or an alias in calls of the session."""
        if isinstance(which, bool) or not isinstance(which, (str, int)):
            raise InvalidType(f"which checkpoint is 'last', 'best', an alias or a version number, not {which!r}")
        if which == "last":
            return self.key
        return f"{self.key}@v{which}" if isinstance(which, int) else f"{self.key}@{which}"

    def fetch(self, dest: str | os.PathLike[str], which: str | int = "last") -> str | None:
        """Download a checkpoint into a folder or to a file; returns the file, or None when there is no checkpoint."""
        if self.find(which) is None:
            return None
        return self.session.files.download(self.reference(which), dest)

    def history(self) -> list[Record]:
        """All versions, the newest first; [] before the first."""
        try:
            return self.session.files.history(self.key)
        except NotFound:
            return []


def number(value: Any) -> float | None:
    """A finite number, or None: NaN never is the best."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def plain_values(given: Mapping[str, Any], convert: Callable[[Any], Any] = str) -> dict[str, Any]:
    """What a framework tells, as JSON values: numbers of tensors, and text for what has no JSON form."""
    made: dict[str, Any] = {}
    for name, value in given.items():
        item = getattr(value, "item", None)
        if callable(item) and getattr(value, "ndim", None) == 0:
            value = item()
        try:
            made[str(name)] = values.plain(value, what=str(name))
        except (InvalidInput, InvalidType):
            made[str(name)] = plain_values(value, convert) if isinstance(value, Mapping) else convert(value)
    return made
