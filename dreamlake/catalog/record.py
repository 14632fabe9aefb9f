"""A record of a session's log: one atomic change, claimed first, then committed. Owns its bytes (SPEC "Records").

Encoding: one JSON object in UTF-8 on one line whose last member is ``"sum"``: the first 32 hexadecimal digits of the
SHA-256 of everything before ``,"sum"``. Entries keep fields they do not know (I9).
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from dreamlake import values
from dreamlake.catalog.entries import OPS, check_shape
from dreamlake.errors import Corrupt, InvalidInput, UnsupportedFormat
from dreamlake.model import SessionKey, session_key
from dreamlake.ports import Owner

VERSION = 1
MAX_RECORD_BYTES = 512 << 20
MAX_ENTRIES = 200_000
_SUM = len(',"sum":""}\n') + 32


class Record(NamedTuple):
    """``needs`` are the blobs the record refers to; ``at`` is when it was made (ISO-8601 UTC)."""

    token: str
    owner: Owner
    session: SessionKey
    at: str
    needs: tuple[str, ...]
    entries: tuple[dict[str, Any], ...]


def encode(record: Record) -> bytes:
    """Raises ``InvalidInput`` for a record larger than ``MAX_RECORD_BYTES``."""
    body = values.encode(
        {
            "v": VERSION,
            "tok": record.token,
            "host": record.owner.host,
            "boot_id": record.owner.boot,
            "pid": record.owner.pid,
            "started": record.owner.started,
            "workspace": record.session.workspace,
            "session": record.session.name,
            **({"namespace": record.session.namespace} if record.session.namespace else {}),
            "at": record.at,
            "needs": list(record.needs),
            "entries": list(record.entries),
        }
    )[:-1]
    if len(body) > MAX_RECORD_BYTES:
        raise InvalidInput(
            f"a record of {len(body):,} bytes; the limit is {MAX_RECORD_BYTES:,}. Upload sub-folders one by one."
        )
    return body + b',"sum":"' + _checksum(body) + b'"}\n'


def decode(data: bytes, where: str) -> Record:
    """Raises ``Corrupt`` (damaged, torn) or ``UnsupportedFormat`` (newer), both naming ``where``."""
    body = data[:-_SUM]
    if len(data) <= _SUM or data[-_SUM:] != b',"sum":"' + _checksum(body) + b'"}\n':
        raise Corrupt(f"{where}: damaged record (its checksum does not match)", path=where)
    try:
        raw = values.decode(data)
        if raw["v"] != VERSION:
            raise UnsupportedFormat(
                f"{where}: record format {raw['v']!r}; this release reads format {VERSION}", path=where
            )
        entries = tuple(raw["entries"])
        for entry in entries:
            if entry["op"] not in OPS:
                raise UnsupportedFormat(
                    f"{where}: unknown operation {entry['op']!r}; a newer release wrote it", path=where
                )
            check_shape(entry)
        owner = Owner(raw["host"], raw["boot_id"], int(raw["pid"]), raw["started"])
        key = session_key(raw["workspace"], raw["session"], raw.get("namespace", ""))
        needs = tuple(raw["needs"])
        if not all(isinstance(text, str) for text in (raw["tok"], raw["at"], key.namespace, *needs)):
            raise TypeError("tok, at, namespace and needs are text")
        return Record(raw["tok"], owner, key, raw["at"], needs, entries)
    except UnsupportedFormat:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Corrupt(f"{where}: not a record ({error!r})", path=where) from error


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:32].encode()
