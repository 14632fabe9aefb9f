"""Tracks of a session: named series of data points, each a dict of JSON values with the next index.

Owns the shapes of what is returned, and the description of a track. A track is one stream of the session's
journal, which numbers the points, and one document beside it (``metadata.json`` in a folder). The points are the
truth: a track exists once it has one. The totals in the document are a summary for people who open the file, written
by ``Tracks.close``, and never read here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from dreamlake import values
from dreamlake.errors import Conflict, Corrupt, InvalidInput, InvalidType, NotFound
from dreamlake.journal import TRACKS, Document, Extent, Journal
from dreamlake.journal.names import check_track_name, folded
from dreamlake.model import check_description, check_tags
from dreamlake.ports import Ports, iso

if TYPE_CHECKING:
    import pandas

MAX_BATCH_POINTS = 1_000_000  # points of one append_batch; one point: values.MAX_VALUE_BYTES
CHUNK_SIZE = 10_000  # points that a remote store packs into one object; a folder keeps single lines
_PAGE = 1000  # points read at a time when iterating


class Tracks:
    """All tracks of one session; ``session.track(...)`` is ``Tracks.track``.

    Args:
        journal: the session's side data.
        guard: called with True before a write and False before a read; raises when that is not allowed now.
        ports: clock and ids.
    """

    def __init__(self, journal: Journal, guard: Callable[[bool], None], ports: Ports) -> None:
        self._journal, self._guard, self._ports = journal, guard, ports
        self._written: dict[str, Document] = {}  # documents of the tracks that this object appended to, by name

    def track(
        self,
        name: str,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Track:
        """A track by name. Nothing is created or changed before the first append.

        Args:
            name: e.g. ``"loss"`` or ``"train/loss"``; the parts are names of any printable characters.
            description, tags, metadata: stored with the next append; None keeps what is stored.

        Raises:
            ValueError: a name with an empty, reserved, unprintable or over-long part, or with ``..`` or a backslash;
                or a description, tags or metadata over the limit.
            TypeError: an argument of another type, or metadata without JSON form.
            RuntimeError: the session is not open.
        """
        self._guard(False)
        given: Document = {}
        if description is not None:
            given["description"] = check_description(description)
        if tags is not None:
            given["tags"] = check_tags(tags)
        if metadata is not None:
            if not isinstance(metadata, Mapping):
                raise InvalidType(f"metadata is a mapping, not {type(metadata).__name__}")
            given["metadata"] = values.checked(metadata, what="metadata")
        return Track(self, check_track_name(name), given)

    def list_all(self) -> list[dict[str, Any]]:
        """``Track.stats`` of every track with at least one point, sorted by name.

        Raises:
            ValueError: the description or the newest point of a track is damaged (``Corrupt``).
            RuntimeError: the session is not open.
        """
        self._guard(False)
        return sorted(map(self._stats, self._journal.streams(TRACKS)), key=lambda stats: str(stats["name"]))

    def to_dataframe(self) -> pandas.DataFrame:
        """One row a track: what ``list_all`` tells. Needs pandas."""
        from dreamlake.showing import frame

        return frame(self.list_all(), ("createdAt", "updatedAt"))

    def close(self) -> None:
        """Bring the totals in the documents of the tracks appended to up to date. Before ``Journal.close``."""
        while self._written:
            name, document = self._written.popitem()
            extent = self._journal.extent(TRACKS + name)
            if document.get("totalDataPoints") != extent.total:
                self._journal.update_document(TRACKS + name, partial(self._summary, name), durable=False)

    # ---- what Track needs ----------------------------------------------------------------------------------------

    def add(self, name: str, points: list[Document], given: Document) -> tuple[str, int]:
        """Append checked points: the track's id and the index of the first."""
        document = self._described(name, given)
        now = iso(self._ports.now())
        first = self._journal.append(TRACKS + name, [{"data": point, "createdAt": now} for point in points])
        return str(document["trackId"]), first

    def describe(self, name: str, given: Document) -> None:
        """Set description, tags and metadata of a track whose points somebody else appended (an import)."""
        self._described(name, given)

    def points(self, name: str, start: int, limit: int) -> list[dict[str, Any]]:
        """Points as ``Track.read`` returns them, from index ``start`` on."""
        rows = self._journal.read(TRACKS + name, start, limit) if self._is_named(name) else []
        return [{"index": row["index"], "data": row.get("data"), "createdAt": row.get("createdAt")} for row in rows]

    def extent(self, name: str) -> Extent:
        """How many points there are."""
        return self._journal.extent(TRACKS + name) if self._is_named(name) else Extent(0, 0, None)

    def guard(self, write: bool) -> None:
        """Raise if that is not allowed now."""
        self._guard(write)

    def stats(self, name: str) -> dict[str, Any]:
        """``Track.stats``."""
        if self.extent(name).total == 0:
            raise NotFound(f"track {name!r} has no points; append one first", path=name)
        return self._stats(TRACKS + name)

    def _stats(self, stream: str) -> dict[str, Any]:
        extent = self._journal.extent(stream)
        document = self._journal.read_document(stream) or {}
        name = stream[len(TRACKS) :]
        stored = document.get("name")
        last = extent.last or {}
        return {
            "trackId": document.get("trackId"),
            "name": stored if isinstance(stored, str) and folded(stored) == folded(name) else name,
            "description": document.get("description"),
            "tags": document.get("tags") or [],
            "metadata": document.get("metadata"),
            "totalDataPoints": extent.total,
            "bufferedDataPoints": extent.total,
            "chunkedDataPoints": 0,
            "chunkSize": CHUNK_SIZE,
            "firstIndex": 0,
            "lastIndex": extent.total - 1,
            "sizeBytes": extent.size_bytes,
            "createdAt": document.get("createdAt"),
            "updatedAt": last.get("createdAt"),
        }

    def _described(self, name: str, given: Document) -> Document:
        """The track's document with ``given`` in it, written only if that changes something."""
        document = self._written.get(name)
        if document is None:
            document = self._journal.read_document(TRACKS + name)
        if document is None or not _says(document, name, given):
            change = partial(self._description, name, given)
            document = self._journal.update_document(TRACKS + name, change, durable=False)  # as the points are
        self._written[name] = document
        return document

    def _description(self, name: str, given: Document, old: Document | None) -> Document:
        stored = (old or {}).get("name", name)
        if stored != name and folded(str(stored)) == folded(name):
            raise Conflict(
                f"track {name!r} and the existing track {stored!r} are the same folder on this file system; "
                "use the existing spelling or another name",
                path=name,
            )
        now = iso(self._ports.now())
        fresh: Document = {
            "trackId": self._ports.new_id(),
            "name": name,
            "description": None,
            "tags": [],
            "metadata": None,
            "totalDataPoints": 0,
            "bufferedDataPoints": 0,
            "chunkedDataPoints": 0,
            "createdAt": now,
        }
        return {**fresh, **(old or {}), **given, "name": name, "updatedAt": now}

    def _summary(self, name: str, old: Document | None) -> Document:
        total = self._journal.extent(TRACKS + name).total
        document = self._description(name, {}, old)
        return {**document, "totalDataPoints": total, "bufferedDataPoints": total, "chunkedDataPoints": 0}

    def _is_named(self, name: str) -> bool:
        """False if the file system shows us another track that differs only in case or Unicode form."""
        if name in self._written:
            return True
        try:
            stored = (self._journal.read_document(TRACKS + name) or {}).get("name", name)
        except Corrupt:  # a damaged description must not hide the points
            return True
        return stored == name or folded(str(stored)) != folded(name)


class Track:
    """One series of data points. Get it from ``session.track(name)``; it is cheap to get again and again."""

    def __init__(self, tracks: Tracks, name: str, given: Document) -> None:
        self._tracks, self._name, self._given = tracks, name, given

    @property
    def name(self) -> str:
        """The name, with its slashes."""
        return self._name

    def append(self, /, **fields: Any) -> dict[str, Any]:
        """Add one data point. It survives the death of this process when the call returns, and a power cut after
        about a second or after the session was closed.

        Args:
            fields: the point's values, e.g. ``value=0.5, epoch=1``; points of one track may differ in their fields.

        Returns:
            ``trackId``; ``index`` (the point's number from 0, as text); ``bufferedDataPoints`` (points not packed into
            chunks: all of them, in a folder); ``chunkSize`` (points a chunk).

        Raises:
            ValueError: no field at all, or a point over the limit. Nothing was written.
            TypeError: a value without JSON form. Nothing was written.
            RuntimeError: the session is not open, or is write-protected.
        """
        self._tracks.guard(True)
        track_id, first = self._tracks.add(self._name, [_point(fields, "the point")], self._given)
        return _appended(track_id, first)

    def append_batch(self, points: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Add many data points at once, with consecutive indices: all of them, or none if one is refused.

        Args:
            points: one mapping of fields a point.

        Returns:
            What ``append`` returns, for the last point, and ``startIndex``, ``endIndex`` (the last one), ``count``.

        Raises:
            ValueError: no point at all, more than ``MAX_BATCH_POINTS``, or a point that ``append`` would refuse.
            TypeError: not an iterable of mappings, or a value without JSON form.
            RuntimeError: the session is not open, or is write-protected.
        """
        self._tracks.guard(True)
        if isinstance(points, (str, bytes, Mapping)) or not isinstance(points, Iterable):
            raise InvalidType(f"a batch is a list of mappings, not {type(points).__name__}")
        batch = [_point(point, f"point {number} of the batch") for number, point in enumerate(points)]
        if not batch:
            raise InvalidInput(f"the batch for track {self._name!r} is empty")
        if len(batch) > MAX_BATCH_POINTS:
            raise InvalidInput(f"a batch of {len(batch):,} points; the limit is {MAX_BATCH_POINTS:,}. Split it.")
        track_id, first = self._tracks.add(self._name, batch, self._given)
        last = first + len(batch) - 1
        return {**_appended(track_id, last), "startIndex": first, "endIndex": last, "count": len(batch)}

    def read(self, start_index: int = 0, limit: int = 1000) -> dict[str, Any]:
        """Data points by index. The cost does not depend on how many points lie before them.

        Args:
            start_index: index of the first point wanted.
            limit: at most this many points.

        Returns:
            ``data``: a list of ``{"index": int, "data": {...}, "createdAt": ISO-8601 UTC}``; ``startIndex`` and
            ``endIndex`` of it (``endIndex`` is ``startIndex - 1`` when it is empty); ``total`` points of the track;
            ``hasMore``: whether there are points after these. An unknown track is an empty one.

        Raises:
            ValueError: a negative number, or a damaged point in that range (``Corrupt``).
            TypeError: an argument that is no whole number.
            RuntimeError: the session is not open.
        """
        self._tracks.guard(False)
        start, limit = values.whole_number(start_index, what="start_index"), values.whole_number(limit, what="limit")
        data = self._tracks.points(self._name, start, limit)
        total = max(self._tracks.extent(self._name).total, start + len(data) if data else 0)
        end = start + len(data) - 1
        return {"data": data, "startIndex": start, "endIndex": end, "total": total, "hasMore": end + 1 < total}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All points, as in ``read()["data"]``, read piece by piece."""
        self._tracks.guard(False)
        return self._pages()

    def _pages(self, start: int = 0) -> Iterator[dict[str, Any]]:
        while page := self._tracks.points(self._name, start, _PAGE):
            yield from page
            start += len(page)

    def to_dataframe(self, start_index: int = 0, limit: int | None = None) -> pandas.DataFrame:
        """Data points as a data frame: a column for each field, and ``createdAt``; indexed by the points' numbers.

        Args:
            start_index: index of the first point wanted.
            limit: at most this many points; None: all.

        Needs pandas. Raises like ``read``.
        """
        from dreamlake.showing import frame

        self._tracks.guard(False)
        start = values.whole_number(start_index, what="start_index")
        most = None if limit is None else values.whole_number(limit, what="limit")
        points = list(itertools.islice(self._pages(start), most))
        made = frame([{**point["data"], "createdAt": point["createdAt"]} for point in points], ("createdAt",))
        made.index = [point["index"] for point in points]
        made.index.name = "index"
        return made

    def stats(self) -> dict[str, Any]:
        """What is known of the track.

        Returns:
            ``trackId``, ``name``, ``description``, ``tags``, ``metadata``, ``totalDataPoints``,
            ``bufferedDataPoints``, ``chunkedDataPoints``, ``chunkSize`` (all in points), ``firstIndex``,
            ``lastIndex``, ``sizeBytes`` (of the stored points), ``createdAt``, ``updatedAt`` (of the newest point).

        Raises:
            FileNotFoundError: the track has no points (``NotFound``).
            ValueError: its description or its newest point is damaged (``Corrupt``).
            RuntimeError: the session is not open.
        """
        self._tracks.guard(False)
        return self._tracks.stats(self._name)

    def list_all(self) -> list[dict[str, Any]]:
        """``stats`` of every track of the session, sorted by name; see ``Tracks.list_all``."""
        return self._tracks.list_all()


def _point(fields: Mapping[str, Any], what: str) -> Document:
    if not isinstance(fields, Mapping):
        raise InvalidType(f"{what} is a {type(fields).__name__}; a point is a mapping of fields")
    if not fields:
        raise InvalidInput(f"{what} has no fields; write e.g. append(value=0.5)")
    point: Document = values.checked(fields, what=what)
    return point


def _appended(track_id: str, index: int) -> dict[str, Any]:
    return {"trackId": track_id, "index": str(index), "bufferedDataPoints": index + 1, "chunkSize": CHUNK_SIZE}


def _says(document: Document, name: str, given: Document) -> bool:
    """Whether a document says all that already. Compared as stored: NaN does not equal itself."""
    if document.get("name") != name or not document.get("trackId"):
        return False
    return not given or values.encode(given) == values.encode({key: document.get(key) for key in given})
