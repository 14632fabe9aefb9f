"""Upload of one file: read once, stage, then claim, look, publish, commit (SPEC "Protocol", U0 to U3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dreamlake.content.staging import Plain, Progress
from dreamlake.model import SessionKey, Version
from dreamlake.operations.commit import commit, refused_early, secure
from dreamlake.operations.context import Store, check_encoding
from dreamlake.operations.mediatypes import content_type
from dreamlake.operations.taking import Taker
from dreamlake.ports import iso


@dataclass(frozen=True)
class Attributes:
    """What a user says about a file besides its bytes, already checked and plain."""

    description: str | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


def put_entry(store: Store, key: str, plain: Plain, attributes: Attributes, *, at: str | None = None) -> dict[str, Any]:
    """The record entry that makes this content the newest version at ``key``; ``at`` is when, by default now."""
    return {
        "op": "put",
        "id": store.ports.new_id(),
        "path": key,
        "digest": plain.digest,
        "size": plain.size,
        "type": content_type(key),
        "description": attributes.description,
        "tags": attributes.tags,
        "metadata": attributes.metadata,
        "at": at or iso(store.ports.now()),
    }


def upload_file(
    store: Store,
    session: SessionKey,
    source: str | bytes | BinaryIO,
    key: str,
    attributes: Attributes,
    *,
    encoding: str | None = None,
    also: Sequence[dict[str, Any]] = (),
    progress: Progress | None = None,
) -> Version:
    """Store one file under the logical path ``key``, with the entries ``also`` in the same record.

    Raises what ``take``, ``code`` and ``commit`` raise.
    """
    view = refused_early(store, session, [{"op": "put", "path": key}])  # before any byte is read
    take_one = Taker(store, view, check_encoding(encoding, store.encoding), progress)
    plain = take_one.from_path(source, key) if isinstance(source, str) else take_one.from_memory(source, key)
    shown = source if isinstance(source, str) else key
    try:
        secure(store, [plain])
        entries = [put_entry(store, key, plain, attributes), *also]
        made = commit(store, session, entries, [plain], shown=lambda p: shown)[0]
        assert made is not None
        return made
    finally:
        plain.discard()


def upload_together(
    store: Store, session: SessionKey, sources: Sequence[tuple[str, bytes | BinaryIO, Attributes]]
) -> list[Version]:
    """Store several files, each (path, content, attributes), in one record: all or none. Paths must differ."""
    view = refused_early(store, session, [{"op": "put", "path": key} for key, _, _ in sources])
    take_one, plains = Taker(store, view, store.encoding, None), list[Plain]()
    try:
        for key, source, _ in sources:
            plains.append(take_one.from_memory(source, key))
        secure(store, plains)
        pairs = zip(sources, plains, strict=True)
        entries = [put_entry(store, key, plain, attributes) for (key, _, attributes), plain in pairs]
        shown = {plain.digest: key for (key, _, _), plain in zip(sources, plains, strict=True)}
        made = commit(store, session, entries, plains, shown=lambda plain: shown[plain.digest])
        return [version for version in made if version is not None]
    finally:
        for plain in plains:
            plain.discard()
