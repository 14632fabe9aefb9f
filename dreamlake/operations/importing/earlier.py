"""Trees that DreamLake 0.2 to 0.4 wrote in local mode, as a source.

<root>/<workspace>/<name>/session.json or episode.json    name, workspace, description, tags, folder, metadata
  parameters.json                                         {"data": {dotted name: value}}
  logs/logs.jsonl                                         a line an entry
  files/.files_metadata.json                              {"files": [records]}
  files/<path>/<id>/<filename>                            the content of a record (0.2.1: without <path>)
  tracks/<name>/metadata.json, data.jsonl                 a line a point (0.2, 0.3), or
  tracks/<name>/data.msgpack                              maps of columns, a line feed after each (0.4)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.journal.names import check_track_name
from dreamlake.model import SessionKey, file_key, is_digest, session_key
from dreamlake.operations.importing import FoundFile, FoundSession, FoundTrack, Skip, read_small
from dreamlake.operations.importing.folders import files_below

__all__ = ["sessions_of"]

_ABOUT = ("session.json", "episode.json")
_MAX_LINE = 16 << 20
_LEVELS = {"warning": "warn", "critical": "fatal"}


def sessions_of(root: str, skip: Skip) -> Iterator[FoundSession]:
    """The sessions (0.4: episodes) below a folder, sorted; or the one that the folder itself is."""
    places = [root] if _about_file(root) else []
    for workspace in [] if places else sorted(_folders(root, skip)):
        places += [place for place in sorted(_folders(workspace, skip)) if _about_file(place)]
    for place in places:
        try:
            yield _session(place, skip)
        except (InvalidInput, InvalidType, OSError) as error:
            skip(place, str(error))


def _folders(folder: str, skip: Skip) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".dreamlake")]
    except OSError as error:
        skip(folder, f"cannot be listed: {error.strerror}")
        return []


def _about_file(place: str) -> str | None:
    found = (os.path.join(place, name) for name in _ABOUT)
    return next((file for file in found if os.path.isfile(file) and not os.path.islink(file)), None)


def _session(place: str, skip: Skip) -> FoundSession:
    about = _document(_about_file(place) or "", skip)
    key = _key(about, place)
    if about.get("write_protected"):
        skip(place, "was write-protected; what is imported is not")
    given = {name: about.get(name) for name in ("description", "tags", "folder", "metadata")}
    parameters = _document(os.path.join(place, "parameters.json"), skip).get("data")
    return FoundSession(
        key.workspace,
        key.name,
        place,
        files=_files(place, skip),
        about={name: value for name, value in given.items() if value not in (None, [], {})},
        parameters=parameters if isinstance(parameters, dict) else {},
        logs=partial(_logs, os.path.join(place, "logs", "logs.jsonl"), skip),
        tracks=_tracks(os.path.join(place, "tracks"), skip),
    )


def _key(about: dict[str, Any], place: str) -> SessionKey:
    workspace, name = about.get("workspace"), about.get("name")
    parent, base = os.path.split(os.path.abspath(place))
    return session_key(
        workspace if isinstance(workspace, str) else os.path.basename(parent), name if isinstance(name, str) else base
    )


def _document(file: str, skip: Skip) -> dict[str, Any]:
    """A JSON object; {} where there is none, or none that reads."""
    if not file or os.path.islink(file) or not os.path.exists(file):
        return {}
    try:
        found = json.loads(read_small(file))
        if isinstance(found, dict):
            return found
        skip(file, "is no JSON object")
    except (ValueError, RecursionError, OSError) as error:
        skip(file, f"does not read: {error}")
    return {}


# ---- files -------------------------------------------------------------------------------------------------------


def _files(place: str, skip: Skip) -> Iterator[FoundFile]:
    base = os.path.join(place, "files")
    records = _document(os.path.join(base, ".files_metadata.json"), skip).get("files")
    known = set()
    for record in records if isinstance(records, list) else []:
        if not isinstance(record, dict):
            skip(base, "has a record that is no JSON object")
            continue
        where = f"{base}: {record.get('path')}/{record.get('filename')}"
        try:
            found, inside = _file(base, record)
        except (InvalidInput, InvalidType, KeyError, TypeError) as error:
            skip(where, f"its record is not usable: {error}")
            continue
        known.add(inside)
        if record.get("deletedAt"):
            skip(found.shown, "was deleted")
        elif not os.path.isfile(found.shown) or _through_link(base, inside):
            skip(found.shown, "has no content on disk")
        else:
            yield found
    if os.path.isdir(base):
        for file, relative, _ in files_below(base, skip):
            if relative not in known and not os.path.basename(relative).startswith(".files_metadata"):
                skip(file, "no record names it")


def _file(base: str, record: dict[str, Any]) -> tuple[FoundFile, str]:
    """A file by its record, and where it lies below ``base``."""
    name, version_id = str(record["filename"]), str(record["id"])
    key = file_key(str(record.get("path") or "/"), name)
    folder = key.rpartition("/")[0].strip("/")
    inside = file_key(f"{folder}/{version_id}", name).lstrip("/")  # checked: it stays below ``base``
    alone = file_key(version_id, name).lstrip("/")
    if not os.path.lexists(os.path.join(base, inside)) and os.path.lexists(os.path.join(base, alone)):
        inside = alone
    file = os.path.join(base, *inside.split("/"))
    checksum, size = record.get("checksum"), record.get("sizeBytes")
    found = FoundFile(
        key,
        file,
        size if isinstance(size, int) else 0,
        lambda: nullcontext(file),
        description=record.get("description"),
        tags=tuple(record.get("tags") or ()),
        metadata=record.get("metadata"),
        at=_time(record.get("uploadedAt")),
        checksum=checksum if isinstance(checksum, str) and is_digest(checksum) else None,
    )
    return found, inside


def _through_link(base: str, inside: str) -> bool:
    """True if any part of the way below ``base`` is a symbolic link."""
    place = base
    for part in inside.split("/"):
        place = os.path.join(place, part)
        if os.path.islink(place):
            return True
    return os.path.islink(base)


def _time(text: Any) -> str | None:
    from datetime import datetime

    from dreamlake.ports import iso

    if not isinstance(text, str):
        return None
    try:
        return iso(datetime.fromisoformat(text.replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        return None


# ---- logs and tracks ---------------------------------------------------------------------------------------------


def _lines(file: str, skip: Skip) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines. What does not read is told, and the rest goes on."""
    if os.path.islink(file) or not os.path.isfile(file):
        return
    with open(file, "rb") as lines:
        number = 0
        while line := lines.readline(_MAX_LINE):
            number += 1
            try:
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError("no JSON object")
            except (ValueError, RecursionError) as error:
                if line.strip():
                    skip(f"{file}:{number}", f"does not read: {error}")
                continue
            yield found


def _logs(file: str, skip: Skip) -> Iterator[dict[str, Any]]:
    for line in _lines(file, skip):
        level = str(line.get("level", "info")).lower()
        metadata = line.get("metadata")
        yield {
            "timestamp": _time(line.get("timestamp")) or "1970-01-01T00:00:00.000000Z",
            "level": _LEVELS.get(level, level),
            "message": str(line.get("message", "")),
            "metadata": metadata if isinstance(metadata, dict) else None,
        }


def _tracks(base: str, skip: Skip) -> list[FoundTrack]:
    found: list[FoundTrack] = []
    if not os.path.isdir(base) or os.path.islink(base):
        return found
    for file, relative, _ in files_below(base, skip):
        folder, _, kind = relative.rpartition("/")
        rows = _ROWS.get(kind)
        if rows is None or not folder:
            continue
        try:
            name = check_track_name(folder)
        except (InvalidInput, InvalidType) as error:
            skip(file, str(error))
            continue
        document = _document(os.path.join(os.path.dirname(file), "metadata.json"), skip)
        about = {field: document[field] for field in ("description", "tags", "metadata") if document.get(field)}
        found.append(FoundTrack(name, partial(rows, file, skip, document), about))
    return found


def _json_points(file: str, skip: Skip, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for line in _lines(file, skip):
        yield {"data": line.get("data"), "createdAt": _time(line.get("createdAt"))}


def _packed_points(file: str, skip: Skip, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Columns become points again. A value that a point did not have was written as nothing (null), and stays so."""
    created = _time(document.get("createdAt"))
    try:
        for columns in _unpacked(file):
            lists = {str(name): values for name, values in columns.items() if isinstance(values, list)}
            for index in range(max(map(len, lists.values()), default=0)):
                point = {name: values[index] for name, values in lists.items() if index < len(values)}
                yield {"data": point, "createdAt": _moment(point.get("_ts")) or created}
    except (ValueError, InvalidInput) as error:
        skip(file, f"does not read further: {error}")


def _unpacked(file: str) -> Iterator[dict[Any, Any]]:
    try:
        import msgpack
    except ModuleNotFoundError:
        raise InvalidInput(f"reading {file} needs msgpack: pip install 'dreamlake[import]'", path=file) from None
    with open(file, "rb") as stream:
        unpacker = msgpack.Unpacker(stream, raw=False, strict_map_key=False, max_buffer_size=_MAX_LINE * 16)
        try:
            for found in unpacker:
                if isinstance(found, dict):
                    yield found
                elif found != 10:  # the line feed after a map reads as the number ten
                    raise ValueError(f"a {type(found).__name__} where a map of columns should be")
        except (msgpack.UnpackException, UnicodeDecodeError) as error:
            raise ValueError(str(error) or type(error).__name__) from None


def _moment(seconds: Any) -> str | None:
    from datetime import datetime, timezone

    from dreamlake.ports import iso

    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    try:
        return iso(datetime.fromtimestamp(seconds, timezone.utc))
    except (ValueError, OverflowError, OSError):
        return None


_ROWS: dict[str, Callable[[str, Skip, dict[str, Any]], Iterator[dict[str, Any]]]] = {
    "data.jsonl": _json_points,
    "data.msgpack": _packed_points,
}
