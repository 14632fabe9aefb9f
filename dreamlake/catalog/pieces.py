"""The text of a record in a database: in the record's document, or in pieces of its own when it is large.

A database limits a document (MongoDB: 16 MB), a record may have 512 MiB. Pieces are ``{_id: "<id>/<number>", text}`` in
the collection ``record_pieces``; the record's document names their ids. They are written before anybody may rely on the
record and removed only after nobody can commit it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dreamlake.errors import Corrupt, OutcomeUnknown
from dreamlake.services.docs import Doc, Docs

PIECE = 1 << 20  # characters: at most 4 MiB
PIECES = "record_pieces"
_AT_ONCE = 8  # pieces in one call


def cut(writer: str, text: str) -> list[Doc]:
    """The pieces of a text; none when it fits into its record's document. ``writer``: an id never used before."""
    if len(text) <= PIECE:
        return []
    return [
        {"_id": f"{writer}/{number}", "text": text[start : start + PIECE]}
        for number, start in enumerate(range(0, len(text), PIECE))
    ]


def put(docs: Docs, pieces: Sequence[Doc], again: Callable[[], Iterator[None]]) -> None:
    """Store pieces. One that is there already is ours: nobody else knows its id. ``again`` paces the tries."""
    for start in range(0, len(pieces), _AT_ONCE):
        for _ in again():
            try:
                docs.insert(PIECES, pieces[start : start + _AT_ONCE])
                break
            except OutcomeUnknown:
                continue


def text_of(docs: Docs, doc: Doc, where: str) -> bytes:
    """The text of a record's document as bytes. Raises ``Corrupt`` when something of it is missing."""
    if isinstance(doc.get("text"), str):
        return str(doc["text"]).encode()
    ids = doc.get("pieces")
    if not isinstance(ids, list):
        raise Corrupt(f"{where}: it has no text", path=where)
    found: dict[Any, str] = {}
    for start in range(0, len(ids), _AT_ONCE):
        for piece in docs.find(PIECES, {"_id": {"$in": ids[start : start + _AT_ONCE]}}):
            found[piece["_id"]] = str(piece.get("text"))
    lost = [piece_id for piece_id in ids if piece_id not in found]
    if lost:
        raise Corrupt(f"{where}: its piece {lost[0]} is missing", path=where)
    return "".join([found[piece_id] for piece_id in ids]).encode()


def remove(docs: Docs, ids: Sequence[str]) -> None:
    """Remove pieces that nothing refers to any more."""
    for start in range(0, len(ids), 1000):
        docs.delete(PIECES, {"_id": {"$in": list(ids[start : start + 1000])}})
