"""The frozen values everything else speaks in: session keys, logical paths, versions, records.

Owns: what a legal name and path is (I8), what a version of a file is, and the limits on both. No I/O.
"""

from __future__ import annotations

import copy
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple

from dreamlake.errors import InvalidInput, InvalidType

MAX_SEGMENT_BYTES = 255  # one name on every common file system, in UTF-8
MAX_PATH_BYTES = 2048  # a whole logical path; leaves room for the root in PATH_MAX
MAX_PATH_DEPTH = 64
MAX_TAGS = 256
MAX_TAG_BYTES = 1024
MAX_DESCRIPTION_BYTES = 64 << 10
DEFAULT_MAX_FILE_BYTES = 5 << 30

GLOB_CHARACTERS = "*?["

_RESERVED = re.compile(r'[<>:"|?*\\]')
_USUAL = re.compile(r"[!-\-0-\[\]-~][ -.0-\[\]-~]{0,254}")  # a plain ASCII name: nearly every one, checked at once
_HEX64 = re.compile(r"[0-9a-f]{64}")
_STORE_PREFIX = ".dreamlake"
_ALIAS = re.compile(r"[^\s@/\\]{1,128}")
_VERSION_NAME = re.compile(r"v[0-9]+")
_BAD_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, surrogate, line and paragraph separators


class SessionKey(NamedTuple):
    """Which session: all are single path segments. ``namespace`` says whose it is; a folder has only one, ``""``.

    As text it is ``workspace/name``, as everybody calls it who works in its namespace; ``full`` names that, too.
    """

    workspace: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.workspace}/{self.name}"

    @property
    def full(self) -> str:
        """``workspace/name``, with ``namespace/`` in front where there is one: for what spans namespaces."""
        return f"{self.namespace}/{self}" if self.namespace else str(self)

    @property
    def parts(self) -> tuple[str, ...]:
        """Workspace and name, and the namespace where there is one."""
        return tuple(self) if self.namespace else (self.workspace, self.name)

    @property
    def sid(self) -> str:
        """The session's identity in the store: exact names never collide, whatever a file system folds."""
        return hashlib.sha256("\n".join(self.parts).encode()).hexdigest()[:32]


class Version(NamedTuple):
    """One version of one file. ``seq`` orders all versions of a session by upload; times are ISO-8601 UTC."""

    seq: int
    file_id: str
    key: str
    id: str
    number: int
    digest: str
    size_bytes: int
    content_type: str
    description: str | None
    tags: Sequence[str]
    metadata: dict[str, Any]
    uploaded_at: str
    updated_at: str
    deleted_at: str | None = None
    extra: dict[str, Any] | None = None


VersionRow = tuple[Any, ...]  # the fields of a Version in order; a Version is one


class SessionInfo(NamedTuple):
    """What is known of a session itself; ``created_at`` None means that it does not exist (any more)."""

    key: SessionKey
    description: str | None = None
    tags: Sequence[str] = ()
    folder: str | None = None
    metadata: dict[str, Any] | None = None
    write_protected: bool = False
    created_at: str | None = None
    updated_at: str | None = None
    dropped_at: str | None = None
    extra: dict[str, Any] | None = None

    @property
    def exists(self) -> bool:
        return self.created_at is not None and self.dropped_at is None


def session_document(info: SessionInfo) -> dict[str, Any]:
    """The content of ``session.json``."""
    return {
        "name": info.key.name,
        "workspace": info.key.workspace,
        "description": info.description,
        "tags": list(info.tags),
        "folder": info.folder,
        "metadata": copy.deepcopy(info.metadata or {}),
        "created_at": info.created_at,
        "updated_at": info.updated_at,
        "write_protected": info.write_protected,
    }


def session_key(workspace: str, name: str, namespace: str = "") -> SessionKey:
    """Checked key. Raises ``InvalidInput`` with the offending name."""
    if namespace:
        check_name(namespace, "namespace")
    return SessionKey(check_name(workspace, "workspace"), check_name(name, "session name"), namespace)


def check_name(text: str, what: str) -> str:
    """One path segment of printable Unicode: returns it unchanged or raises ``InvalidInput``."""
    if not isinstance(text, str):
        raise InvalidType(f"{what} must be text, not {type(text).__name__}")
    if _USUAL.fullmatch(text):
        return text
    if not text or not text.strip():
        raise InvalidInput(f"{what} is empty")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_SEGMENT_BYTES:
        raise InvalidInput(
            f"{what} {text[:40]!r}... has {size} bytes in UTF-8; the limit is {MAX_SEGMENT_BYTES}", path=text
        )
    if text in (".", ".."):
        raise InvalidInput(f"{what} {text!r} is not allowed: it would leave its folder", path=text)
    for char in text:
        if char in "/\\":
            raise InvalidInput(
                f"{what} {text!r} contains a separator ({char!r}); use one name without slashes", path=text
            )
        if unicodedata.category(char) in _BAD_CATEGORIES:
            raise InvalidInput(f"{what} {text!r} contains the unprintable character U+{ord(char):04X}", path=text)
    if same_name(text).startswith(_STORE_PREFIX):
        raise InvalidInput(f"{what} {text!r} is reserved for the store itself", path=text)
    return text


def same_name(text: str) -> str:
    """Equal for all spellings that some file system may take for one name: case, Unicode forms, ignored characters."""
    visible = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", visible).casefold()


def path_text(path: str | PathLike[str]) -> str:
    """A logical path as text; ``pathlib.PurePosixPath("/models")`` is one, too. Raises ``InvalidType``."""
    text: Any = fspath(path) if isinstance(path, PathLike) else path
    if not isinstance(text, str):
        raise InvalidType(f"path must be text, not {type(path).__name__}")
    return text


def folder_path(path: str | PathLike[str]) -> str:
    """A logical folder in its one normal form: ``"/models"``, or ``"/"``. "models", "/models/" are the same."""
    path = path_text(path)
    reserved = _RESERVED.search(path)
    if reserved:
        raise InvalidInput(
            f"path {_shown(path)} contains the reserved character {reserved.group()!r}; "
            "use letters, digits, spaces, '-', '_', '.' and '/'",
            path=path,
        )
    segments = [check_name(s, f"a part of path {_shown(path)}") for s in path.split("/") if s not in ("", ".")]
    return _joined(segments, path)


def file_key(folder: str, filename: str) -> str:
    """The full logical path of a file, e.g. ``"/models/best.pth"``."""
    name = check_name(filename, "filename")
    parent = folder_path(folder)
    parts = parent.split("/")[1:] if parent != "/" else []
    return _joined([*parts, name], f"{folder}/{filename}")


def parse_key(path: str | PathLike[str]) -> str:
    """A full logical path of a file as a user writes it. The last part may hold any printable character."""
    path = path_text(path)
    parent, _, name = path.rstrip("/").rpartition("/")
    return file_key(parent or "/", name)


def split_key(key: str) -> tuple[str, str]:
    """``"/models/best.pth"`` -> (``"/models"``, ``"best.pth"``)."""
    parent, _, name = key.rpartition("/")
    return parent or "/", name


def ancestors(key: str) -> list[str]:
    """All proper folders above a path, nearest first, without the root."""
    out = []
    parent = key.rpartition("/")[0]
    while parent:
        out.append(parent)
        parent = parent.rpartition("/")[0]
    return out


def below(folder: str) -> str:
    """The prefix that all paths inside ``folder`` start with ("/models" never matches "/models2")."""
    return "/" if folder == "/" else folder + "/"


def is_glob(path: str) -> bool:
    """True for text that a shell would take for a pattern."""
    return any(char in path for char in GLOB_CHARACTERS)


def literal(path: str) -> str:
    """A glob that matches exactly this path."""
    return "".join(f"[{char}]" if char in GLOB_CHARACTERS else char for char in path)


def split_reference(text: str) -> tuple[str, str | None]:
    """``"/m/best.pth@best"`` -> path and alias or version name; without one, (text, None)."""
    head, at, tail = text.rpartition("@")
    if at and head and "/" not in tail and _ALIAS.fullmatch(tail):
        return head, tail
    return text, None


def check_alias(name: str) -> str:
    """An alias as it may be set. Raises ``InvalidInput`` or ``InvalidType``."""
    if not isinstance(name, str):
        raise InvalidType(f"alias must be text, not {type(name).__name__}")
    if not _ALIAS.fullmatch(name) or any(unicodedata.category(char) in _BAD_CATEGORIES for char in name):
        raise InvalidInput(
            f"alias {_shown(name)} must be 1 to 128 printable characters without spaces, '@' and slashes"
        )
    if _VERSION_NAME.fullmatch(name):
        raise InvalidInput(f"alias {name!r} would hide the version of that number; choose another word")
    return name


def version_number(name: str) -> int | None:
    """3 for ``"v3"``, None for an alias."""
    return int(name[1:]) if _VERSION_NAME.fullmatch(name) and len(name) < 12 else None


def check_tags(tags: Iterable[str] | None) -> list[str]:
    """A list of distinct tags in the given order. Raises ``InvalidType`` for a plain string."""
    if tags is None:
        return []
    if isinstance(tags, (str, bytes)):
        raise InvalidType(f"tags must be a list of text, not the single value {tags!r}; write tags=[{tags!r}]")
    if not isinstance(tags, Iterable):
        raise InvalidType(f"tags must be a list of text, not {type(tags).__name__}")
    out: dict[str, None] = {}
    for tag in tags:
        if not isinstance(tag, str):
            raise InvalidType(f"tag {_shown(tag)} must be text, not {type(tag).__name__}")
        out[_limit_text(tag, f"tag {tag[:40]!r}", MAX_TAG_BYTES)] = None
    if len(out) > MAX_TAGS:
        raise InvalidInput(f"{len(out)} tags; the limit is {MAX_TAGS}")
    return list(out)


def check_description(text: str | None) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidType(f"description must be text, not {type(text).__name__}")
    return _limit_text(text, "description", MAX_DESCRIPTION_BYTES)


def is_digest(text: str) -> bool:
    """True for 64 lower-case hexadecimal digits."""
    return bool(_HEX64.fullmatch(text))


def _limit_text(text: str, what: str, limit: int) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} is not valid Unicode (a lone surrogate)") from error
    if size > limit:
        raise InvalidInput(f"{what} has {size:,} bytes; the limit is {limit:,}")
    return text


def _shown(value: object) -> str:
    """For an error: the value, cut short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _joined(segments: list[str], shown: str) -> str:
    key = "/" + "/".join(segments)
    if len(segments) > MAX_PATH_DEPTH:
        raise InvalidInput(
            f"path {_shown(shown)} is {len(segments)} folders deep; the limit is {MAX_PATH_DEPTH}", path=shown
        )
    if len(key.encode()) > MAX_PATH_BYTES:
        raise InvalidInput(f"path {_shown(shown)} has more than {MAX_PATH_BYTES} bytes", path=shown)
    return key
