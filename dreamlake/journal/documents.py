"""A journal in a database of documents: what remote mode keeps beside the files of a session.

    journals         {_id: sid/name, sid, rev, writer, writers, text | pieces}       a document; rev counts its changes
    chunks           {_id: sid/stream/first, sid, stream, first, count, before, size, writer, text | pieces}      rows
    journal_pieces   {_id: writer/number, text}                                      of what is too large

Content is the JSON text of SPEC "Values", never the database's own types. A chunk is immutable and holds the rows of
one append, numbered from ``first`` on. The ``_id`` of a chunk is the number it begins with, which is where the last one
ends: so two writers that saw the same end cannot both succeed, and numbers have neither gaps nor repeats. A document is
replaced by a compare-and-set of ``rev``. What is large lies in pieces (``journal.pieces``), which are written first,
under an id that nobody knows yet. Every change is durable when it returns, so ``sync`` has nothing to do.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dreamlake import values
from dreamlake.errors import Corrupt, InvalidInput, OutcomeUnknown, Unavailable
from dreamlake.journal import MAX_ROW_BYTES, Change, Document, Extent, Row, number_key
from dreamlake.journal.pieces import REPEATS, Pieces
from dreamlake.ports import Ports
from dreamlake.services.docs import Doc, Docs, Filter, Index

__all__ = ["INDEXES", "DocumentJournal"]

BEGINNINGS = Index("chunks", (("first", 1), ("sid", 1)), where={"first": 0})  # one of each stream
INDEXES = (Index("chunks", (("sid", 1), ("stream", 1), ("first", 1))), BEGINNINGS)
MAX_TRIES = 300  # of a change beside other writers; each failure means that another one has succeeded
_KNOWN_WRITERS = 32  # of a document: whoever lost a reply finds out whether it was one of the last
_WAIT_S = 0.002  # at first, between two tries; doubled up to
_LONGEST_WAIT_S = 0.1


class _End(NamedTuple):
    """Where a stream ends: number of rows, and their size as JSON lines."""

    total: int
    size: int


class DocumentJournal:
    """``Journal`` of one session.

    Args:
        ports: ids, and waiting.
        docs: the database.
        sid: the session's identity.
    """

    def __init__(self, ports: Ports, docs: Docs, sid: str) -> None:
        self._ports, self._docs, self._sid = ports, docs, sid
        self._pieces = Pieces(docs, self._wait)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the fields below
        self._ends: dict[str, _End] = {}  # as this object left them: a guess, which the insert checks
        self._writing: dict[str, threading.Lock] = {}  # one append a stream at a time: ours need not race each other

    # ---- documents -----------------------------------------------------------------------------------------------

    def read_document(self, name: str) -> Document | None:
        _, text = self._current(name)
        return None if text is None else self._parsed(name, text)

    def update_document(self, name: str, change: Change, *, durable: bool = True) -> Document:
        for attempt in range(MAX_TRIES):
            stored, text = self._current(name)
            updated = change(None if text is None else self._parsed(name, text))
            if self._replace(name, stored, values.encode(updated).decode()):
                return updated
            self._wait(attempt)
        raise Unavailable(f"{name} of this session was changed by others {MAX_TRIES} times in a row; try again")

    def _current(self, name: str) -> tuple[Doc, str | None]:
        """A document as it is stored and its text; None if there is none."""
        known = -1
        while True:
            stored = self._one("journals", {"_id": self._id(name)})
            if stored is None:
                return {"rev": 0, "writers": []}, None
            text = self._pieces.text(stored)
            if text is not None:
                return stored, text
            if stored["rev"] == known:
                raise self._damaged(name, "pieces of it are missing")
            known = stored["rev"]  # its pieces may be gone because it has just been replaced: look again

    def _replace(self, name: str, stored: Doc, text: str) -> bool:
        """Put ``text`` in the place of ``stored``. False when somebody else was quicker: nothing was changed."""
        writer = self._ports.new_id()
        writers = [*stored["writers"], writer][-_KNOWN_WRITERS:]
        new = {"_id": self._id(name), "sid": self._sid, "rev": stored["rev"] + 1, "writer": writer, "writers": writers}
        new.update(self._pieces.pack(writer, [text]))
        done = self._swap(new, stored["rev"])
        self._pieces.drop(stored if done else new)
        return done

    def _swap(self, new: Doc, rev: int) -> bool:
        """The compare-and-set. A lost reply is answered by the same change again: it can only happen once."""
        where, keep = {"_id": new["_id"], "rev": rev}, {field: new[field] for field in new if field != "_id"}
        gone = {field: "" for field in ("text", "pieces") if field not in new}

        def attempt() -> bool:
            if rev == 0:
                done = not self._docs.insert("journals", [new])
            else:
                done = self._docs.update("journals", where, {"$set": keep, "$unset": gone})
            return done or self._wrote(new)

        return self._told(attempt, f"whether {new['_id']} was changed; read it again")

    def _told(self, attempt: Callable[[], bool], what: str) -> bool:
        """What an attempt says that may be repeated because it can only happen once, whichever replies are lost.

        Raises ``OutcomeUnknown`` when none comes: "the database does not say", and then ``what``.
        """
        lost = False
        for _ in range(REPEATS):
            try:
                return attempt()
            except OutcomeUnknown:
                lost = True
                self._wait(0)
            except Unavailable as error:  # this call did not happen, but the one whose reply was lost may have
                if not lost:
                    raise
                raise OutcomeUnknown(str(error)) from error
        raise OutcomeUnknown(f"the database does not say {what}")

    def _wrote(self, new: Doc) -> bool:
        """True if a change that was refused had happened before: its reply was lost."""
        now = self._one("journals", {"_id": new["_id"]}, ["writers"])
        return now is not None and new["writer"] in now["writers"]

    def _parsed(self, name: str, text: str) -> Document:
        try:
            document = values.decode(text)
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, f"not valid JSON ({error})") from error
        if not isinstance(document, dict):
            raise self._damaged(name, "no JSON object")
        return document

    # ---- streams -------------------------------------------------------------------------------------------------

    def append(self, stream: str, rows: Sequence[Row]) -> int:
        lines = [values.encode(row).decode() + "\n" for row in rows]
        size = 0
        for line in lines:
            length = len(line.encode())
            if length - 1 > MAX_ROW_BYTES:
                text = f"a row for {stream} has {length - 1:,} bytes; the limit is {MAX_ROW_BYTES:,}"
                raise InvalidInput(text, path=stream)
            size += length
        if not lines:
            return self._end(stream).total
        writer = self._ports.new_id()
        chunk = {"sid": self._sid, "stream": stream, "count": len(lines), "size": size, "writer": writer}
        chunk.update(self._pieces.pack(writer, lines))
        with self._turn(stream):
            return self._add(stream, chunk)

    def _add(self, stream: str, chunk: Doc) -> int:
        end = self._ends.get(stream) or self._end(stream)
        for attempt in range(MAX_TRIES):
            before = end.size
            placed = {**chunk, "_id": f"{self._id(stream)}/{end.total}", "first": end.total, "before": before}
            if self._inserted(placed):
                self._ends[stream] = _End(end.total + chunk["count"], before + chunk["size"])
                return end.total
            if attempt:
                self._wait(attempt)
            end = self._end(stream)
        raise Unavailable(f"{stream} of this session was written to by others {MAX_TRIES} times in a row; try again")

    def _inserted(self, chunk: Doc) -> bool:
        """Insert a chunk; False if its number is taken by somebody else's."""

        def attempt() -> bool:
            if not self._docs.insert("chunks", [chunk]):
                return True
            there = self._one("chunks", {"_id": chunk["_id"]}, ["writer"])
            return there is not None and there["writer"] == chunk["writer"]

        return self._told(attempt, f"whether rows were added to {chunk['stream']}; read its end")

    def read(self, stream: str, start: int, limit: int) -> list[Row]:
        found: list[Row] = []
        if limit <= 0:
            return found
        expected = start
        for chunk in self._chunks_from(stream, start, limit):
            if chunk["first"] > expected:
                raise self._damaged(stream, f"{number_key(stream)} {expected} is missing")
            skip = expected - chunk["first"]
            take = min(chunk["count"] - skip, limit - len(found))
            found += self._rows(chunk, skip, take)
            expected += take
            if len(found) >= limit:
                break
        return found

    def _chunks_from(self, stream: str, start: int, limit: int) -> Iterator[Doc]:
        """The chunk with row ``start``, and those after it, as far as they exist; at most ``limit`` of them."""
        mine: Filter = {"sid": self._sid, "stream": stream}
        for look in range(2):
            first = self._last({**mine, "first": {"$lte": start}})
            if first is not None and start < first["first"] + first["count"]:
                later = {**mine, "first": {"$gte": first["first"]}}
                yield from self._docs.find("chunks", later, sort=[("first", 1)], limit=limit)
                return
            if self._last({**mine, "first": {"$gt": start}}, ["first"]) is None:
                return
            if look:  # not one that was added just now
                raise self._damaged(stream, f"{number_key(stream)} {start} is missing")

    def extent(self, stream: str) -> Extent:
        last = self._last({"sid": self._sid, "stream": stream})
        if last is None:
            return Extent(0, 0, None)
        (row,) = self._rows(last, last["count"] - 1, 1)
        return Extent(last["first"] + last["count"], last["before"] + last["size"], row)

    def streams(self, prefix: str = "") -> list[str]:
        begun = self._docs.find("chunks", {"first": 0, "sid": self._sid}, fields=["stream"], hint=BEGINNINGS.keys)
        return sorted(doc["stream"] for doc in begun if doc["stream"].startswith(prefix))

    def sync(self) -> None:
        """Nothing to do: what returned is durable."""

    def close(self) -> None:
        """Nothing to do; whoever opened the database closes it."""

    # ---- inside --------------------------------------------------------------------------------------------------

    def _end(self, stream: str) -> _End:
        fields = ["first", "count", "before", "size"]
        last = self._last({"sid": self._sid, "stream": stream}, fields)
        return _End(0, 0) if last is None else _End(last["first"] + last["count"], last["before"] + last["size"])

    def _last(self, where: Filter, fields: Sequence[str] | None = None) -> Doc | None:
        """Of the chunks that match, the one with the highest number."""
        return next(self._docs.find("chunks", where, sort=[("first", -1)], limit=1, fields=fields), None)

    def _rows(self, chunk: Doc, skip: int, take: int) -> list[Row]:
        """Rows of one chunk, with their numbers. Raises ``Corrupt`` when they do not read."""
        stream, key, rows = chunk["stream"], number_key(chunk["stream"]), []
        lines = self._pieces.lines(chunk, skip, take)
        for number in range(chunk["first"] + skip, chunk["first"] + skip + take):
            try:
                row = values.decode(next(lines))
            except (ValueError, RecursionError, StopIteration):
                row = None
            if not isinstance(row, dict):
                raise self._damaged(stream, f"the row of {key} {number} is missing or does not read")
            rows.append({key: number, **row})
        return rows

    def _one(self, collection: str, where: Filter, fields: Sequence[str] | None = None) -> Doc | None:
        return next(self._docs.find(collection, where, limit=1, fields=fields), None)

    def _id(self, name: str) -> str:
        return f"{self._sid}/{name}"

    def _turn(self, stream: str) -> threading.Lock:
        if self._pid != os.getpid():  # forked: a thread that stayed in the parent may hold a lock for ever
            self._begin()
        with self._lock:
            return self._writing.setdefault(stream, threading.Lock())

    def _wait(self, attempt: int) -> None:
        self._ports.sleep(min(_LONGEST_WAIT_S, _WAIT_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))

    def _damaged(self, name: str, why: str) -> Corrupt:
        return Corrupt(f"{name} of session {self._sid} in the database is damaged: {why}", path=name)
