"""How records, sessions and lakes look: text in a terminal, HTML in a notebook, data frames for pandas.

Everything in the HTML is escaped, and every part of it has a limit, whoever wrote the names and the content (I10, I11):
no scripts, no links, no SVG; images are embedded from a list of types. Nothing here changes or fetches anything else
than the beginning of one content. Looking never raises: what cannot be read says so.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dreamlake.texts import count, local_time, padded, safe, size, table, width

if TYPE_CHECKING:
    import pandas

    from dreamlake.model import SessionInfo
    from dreamlake.operations.context import Store

__all__ = [
    "frame",
    "record_html",
    "record_text",
    "records_frame",
    "records_html",
    "records_text",
    "session_html",
    "sessions_html",
]

MAX_ROWS = 20  # of a table
MAX_FIELDS = 30  # of metadata
MAX_CELL = 200  # characters
MAX_TEXT_BYTES = 4096  # of a text that is shown
MAX_IMAGE_BYTES = 512 << 10  # of an image that is embedded
_NEWEST = 5  # files that a session shows
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TEXTS = ("text/", "application/json", "application/jsonl", "application/yaml", "application/toml", "application/xml")
_CELL = 'style="text-align:left;padding:1px 12px 1px 0;vertical-align:top"'
_TIGHT = 'style="text-align:left;padding:1px 12px 1px 0;white-space:nowrap"'
_FAINT = 'style="opacity:.65"'
_BOX = 'style="border-left:3px solid rgba(128,128,128,.4);padding:2px 0 2px 10px;margin:4px 0;overflow-x:auto"'


# ---- text ------------------------------------------------------------------------------------------------------------


def record_text(record: Mapping[str, Any]) -> str:
    """A record in a few lines."""
    pairs = _facts(record)
    wide = max(width(name) for name, _ in pairs)
    lines = [_title(record), *(f"  {padded(safe(name), wide)}  {_short(value)}" for name, value in pairs)]
    return "\n".join(lines)


def records_text(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of records."""
    shown = list(records[:MAX_ROWS])
    heads = ["FILE", "SIZE", "VERSION", "UPLOADED", "TAGS"]
    lines = table(heads, [_row(record) for record in shown], right=["SIZE", "VERSION"], columns=120)
    more = len(records) - len(shown)
    total = sum(int(record.get("sizeBytes") or 0) for record in records)
    tail = f"{count(len(records), 'file')}, {size(total)}" + (f"; the first {len(shown)} are shown" if more else "")
    return "\n".join([*lines, tail])


def _title(record: Mapping[str, Any]) -> str:
    path = f"{str(record.get('path', '')).rstrip('/')}/{record.get('filename', '')}"
    version = f"@v{record['version']}" if record.get("version") is not None else ""
    return safe(f"{record.get('sessionId', '')}:{path}{version}")


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a record that has some; metadata with dots."""
    pairs = [
        ("size", f"{size(int(record.get('sizeBytes') or 0))}, {record.get('contentType', '')}"),
        ("uploaded", local_time(record.get("uploadedAt"))),
        ("deleted", local_time(record.get("deletedAt"))),
        ("description", record.get("description") or ""),
        ("tags", ", ".join(record.get("tags") or ())),
        ("checksum", str(record.get("checksum", ""))),
    ]
    fields = list(_flat(record.get("metadata") or {}))
    pairs += [(name, _json(value)) for name, value in fields[:MAX_FIELDS]]
    if len(fields) > MAX_FIELDS:
        pairs.append(("...", f"and {count(len(fields) - MAX_FIELDS, 'field')} more"))
    return [(name, value) for name, value in pairs if value]


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    path = f"{str(record.get('path', '')).rstrip('/')}/{record.get('filename', '')}"
    return (
        _short(path),
        size(int(record.get("sizeBytes") or 0)),
        f"v{record.get('version', '')}",
        local_time(record.get("uploadedAt")),
        _short(", ".join(record.get("tags") or ())),
    )


def _short(text: str) -> str:
    text = safe(text)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _flat(metadata: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in metadata.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# ---- HTML ------------------------------------------------------------------------------------------------------------


def record_html(record: Mapping[str, Any], store: Store | None) -> str:
    """A record with a preview of its content."""
    return f"<div {_BOX}><b>{_escape(_title(record))}</b>{_pairs(_facts(record))}{_preview(record, store)}</div>"


def records_html(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of records."""
    shown = list(records[:MAX_ROWS])
    heads = ("file", "size", "version", "uploaded", "tags")
    rows = [_row(record) for record in shown]
    some = f", the first {len(shown)} are shown" if len(shown) < len(records) else ""
    return f"<div {_BOX}>{_table(heads, rows)}<span {_FAINT}>{count(len(records), 'file')}{some}</span></div>"


def session_html(session: Any) -> str:
    """A session: what is known of it, and its newest files. ``session`` is asked for what every user may ask."""
    facts, newest = [("state", "closed")], None
    if session.is_open:
        info, files = session.info, session.files.list()
        tracks, parameters = session.tracks().list_all(), session.parameters().get()
        total = sum(record["sizeBytes"] for record in files)
        points = sum(track["totalDataPoints"] for track in tracks)
        facts = [
            ("state", "open, write-protected" if info["write_protected"] else "open"),
            ("description", info["description"] or ""),
            ("tags", ", ".join(info["tags"])),
            ("created", local_time(info["created_at"])),
            ("updated", local_time(info["updated_at"])),
            ("files", f"{len(files):,}, {size(total)}" if files else ""),
            ("parameters", ", ".join(f"{k}={_json(v)}" for k, v in parameters.items())),
            ("tracks", f"{', '.join(track['name'] for track in tracks)}: {count(points, 'point')}" if tracks else ""),
        ]
        newest = files[::-1][:_NEWEST]
    rows = _pairs([(name, value) for name, value in facts if value])
    return f"<div {_BOX}><b>{_escape(session.id)}</b>{rows}{records_html(newest) if newest else ''}</div>"


def sessions_html(where: str, infos: Sequence[SessionInfo]) -> str:
    """A lake: its sessions."""
    shown = infos[:MAX_ROWS]
    rows = [(str(i.key), local_time(i.updated_at), ", ".join(i.tags), i.description or "") for i in shown]
    some = f", the first {len(shown)} are shown" if len(shown) < len(infos) else ""
    body = _table(("session", "updated", "tags", "description"), rows)
    return f"<div {_BOX}><b>{_escape(where)}</b>{body}<span {_FAINT}>{count(len(infos), 'session')}{some}</span></div>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td {_CELL}><span {_FAINT}>{_escape(name)}</span></td><td {_CELL}>{_escape(value)}</td></tr>"
        for name, value in pairs
    )
    return f"<table>{rows}</table>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th {_TIGHT}>{_escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td {_TIGHT}>{_escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>" if rows else ""


def _escape(text: str) -> str:
    return html.escape(_short(text), quote=True)


def _preview(record: Mapping[str, Any], store: Store | None) -> str:
    """The image, or the beginning of the text, that the content is; nothing for anything else."""
    kind, total = str(record.get("contentType")), int(record.get("sizeBytes") or 0)
    image = kind in _IMAGES and total <= MAX_IMAGE_BYTES
    if store is None or record.get("deletedAt") or not (image or kind.startswith(_TEXTS)):
        return ""
    try:
        data = _beginning(store, str(record["checksum"]), total, total if image else MAX_TEXT_BYTES)
    except Exception as error:  # a cell that shows a record must not fail because its content is gone
        return f"<div {_FAINT}>no preview: {_escape(str(error))}</div>"
    if image:
        code = base64.b64encode(data).decode()
        return f'<img src="data:{kind};base64,{code}" style="max-width:360px;max-height:240px;margin:4px 0">'
    text = "".join(char if char in "\n\t" else safe(char) for char in data.decode("utf-8", "replace"))
    more = f"<div {_FAINT}>the first {size(len(data))} of {size(total)}</div>" if total > len(data) else ""
    pre = 'style="max-height:240px;overflow:auto;margin:4px 0;white-space:pre-wrap;font-size:90%"'
    return f"<pre {pre}>{html.escape(text, quote=True)}</pre>{more}"


def _beginning(store: Store, digest: str, total: int, limit: int) -> bytes:
    from dreamlake.content import reading

    with reading.open_plain(store.blobs, digest, total) as stream:
        return stream.read(limit)


# ---- data frames -----------------------------------------------------------------------------------------------------


def frame(rows: Sequence[Mapping[str, Any]], times: Iterable[str] = ()) -> pandas.DataFrame:
    """A data frame of rows; columns named in ``times`` become times in UTC. Raises ``ImportError`` without pandas."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; install it with: pip install 'dreamlake[pandas]'", name="pandas") from None

    made = pandas.DataFrame.from_records(list(rows))
    for name in times:
        if name in made:
            made[name] = pandas.to_datetime(made[name], utc=True, format="ISO8601", errors="coerce")
    return made


def records_frame(records: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """One row a file; metadata flattened into ``metadata.<name>``."""
    rows = []
    for record in records:
        row = {name: value for name, value in record.items() if name != "metadata"}
        row.update((f"metadata.{name}", value) for name, value in _flat(record.get("metadata") or {}))
        rows.append(row)
    return frame(rows, ("uploadedAt", "updatedAt", "deletedAt"))
