"""Names of tracks: what is legal, and what some file system may confuse.

One rule for every implementation, so that a track made anywhere can be copied into a folder.
"""

from __future__ import annotations

import unicodedata

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import check_name

MAX_NAME_BYTES = 1024  # a whole track name with its slashes, in UTF-8; one part: model.MAX_SEGMENT_BYTES
MAX_NAME_DEPTH = 32  # parts of a name
DATA_FILE = "data.jsonl"
METADATA_FILE = "metadata.json"


def scratch_name(file: str) -> str:
    """Where the next content of a document is prepared, beside it."""
    return f".{file}.new"


# "a/data.jsonl" would be a folder where track "a" keeps a file
RESERVED_NAMES = frozenset({DATA_FILE, METADATA_FILE, scratch_name(METADATA_FILE)})


def check_track_name(name: str) -> str:
    """A legal track name, unchanged. Raises ``InvalidInput`` or ``InvalidType``."""
    if not isinstance(name, str):
        raise InvalidType(f"a track name is text, not {type(name).__name__}")
    parts = name.split("/")
    for part in parts:
        check_name(part, f"a part of track name {name[:80]!r}" if len(parts) > 1 else "track name")
        if folded(part) in RESERVED_NAMES:
            raise InvalidInput(f"track name {name!r} uses the reserved name {part!r}", path=name)
    size = len(name.encode())
    if size > MAX_NAME_BYTES or len(parts) > MAX_NAME_DEPTH:
        raise InvalidInput(
            f"track name {name[:80]!r}... has {size:,} bytes in {len(parts)} parts; "
            f"the limits are {MAX_NAME_BYTES:,} and {MAX_NAME_DEPTH}",
            path=name,
        )
    return name


def folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
