"""Addresses of files in one line of text: ``workspace/session/path[@version|@alias]``, perhaps after ``dreamlake://``.

The grammar of file systems and artifact URIs, where a path has slashes only. Workspace and session are one segment
each, so the rest is the path in the session. (The command line writes ``workspace/session:/path``, which tells a
session from a folder at a glance.) Nothing is percent-encoded.
"""

from __future__ import annotations

from typing import NamedTuple

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import SessionKey, session_key

__all__ = ["SCHEME", "Address", "parse", "text_of"]

SCHEME = "dreamlake"


class Address(NamedTuple):
    """What an address names. ``path`` begins with a slash; it is as written, so it may end in ``@best`` or ``@v3``."""

    session: SessionKey
    path: str = "/"


def parse(text: str, namespace: str = "") -> Address:
    """Take an address apart.

    Raises:
        InvalidInput: it does not name a session, or names that cannot be.  InvalidType: it is no text.
    """
    if not isinstance(text, str):
        raise InvalidType(f"an address is text like 'workspace/session/path', not {type(text).__name__}")
    plain = text.removeprefix(f"{SCHEME}://")
    workspace, _, rest = plain.partition("/")
    name, _, path = rest.partition("/")
    if not workspace or not name:
        raise InvalidInput(f"{text!r} names no session; write {SCHEME}://workspace/session/path", path=text)
    return Address(session_key(workspace, name, namespace), "/" + path.strip("/"))


def text_of(session: SessionKey, path: str = "/") -> str:
    """The address, with its scheme: ``parse`` gives session and path back."""
    return f"{SCHEME}://{session}/{path.strip('/')}".rstrip("/")
