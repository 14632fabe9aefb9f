"""The tamper mark of a copy in an object store: the size and etag that its document remembers."""

from __future__ import annotations

from dreamlake.services.docs import Doc
from dreamlake.services.objects import ObjectInfo, Objects


class Listing:
    """The objects of the bucket, beside documents in the same order."""

    def __init__(self, objects: Objects) -> None:
        self._listing = objects.list("blobs/")
        self._next: ObjectInfo | None = next(self._listing, None)

    def find(self, name: str) -> ObjectInfo | None:
        """The object of this name, or None when the listing has none. Names must be asked for in order."""
        while self._next is not None and self._next.key < name:
            self._next = next(self._listing, None)
        return self._next if self._next is not None and self._next.key == name else None


def is_intact(doc: Doc, info: ObjectInfo | None) -> bool:
    return info is not None and (info.size, info.etag) == (doc["size"], doc["etag"])
