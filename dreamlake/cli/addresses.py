"""Addresses: how the command line names workspaces, sessions and files.

    vision                                 a workspace
    vision/run 1                           a session
    vision/run 1:/models/best.pth          a file; also a folder or, where a verb says so, a glob
    vision/run 1:/models/best.pth@v3       a version of it; @best: the version an alias names

The first slash ends the workspace, and the first ``:/`` after it ends the session. So a session's name may hold spaces
and colons; a path always begins with a slash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from dreamlake.errors import InvalidInput
from dreamlake.model import SessionKey, check_name, session_key

__all__ = ["ADDRESS", "Address", "AddressType", "parse"]


if TYPE_CHECKING:
    _ParamType = click.ParamType["Address"]
else:
    _ParamType = click.ParamType  # generic only since click 8.4


class Address(NamedTuple):
    """A parsed address. ``path`` is as written: it may end in a slash, in ``@v3``, or be a glob."""

    text: str
    workspace: str
    session: str | None = None
    path: str | None = None
    namespace: str = ""

    @property
    def key(self) -> SessionKey:
        """The session. Raises ``InvalidInput`` for an address of a workspace."""
        if self.session is None:
            raise InvalidInput(
                f"{self.text!r} names a workspace; a session is WORKSPACE/SESSION, e.g. {self.workspace}/run-1",
                path=self.text,
            )
        return SessionKey(self.workspace, self.session, self.namespace)

    @property
    def file(self) -> str:
        """The path. Raises ``InvalidInput`` for an address without one."""
        if self.path is None:
            key = self.key
            session, colon, tail = str(key).rpartition(":")
            meant = f"{session}:/{tail}" if colon else f"{key}:/path"
            raise InvalidInput(
                f"{self.text!r} names a session; a file is WORKSPACE/SESSION:/PATH, e.g. {meant}", path=self.text
            )
        return self.path


def parse(text: str) -> Address:
    """Take an address apart. Raises ``InvalidInput`` saying how it should be written."""
    workspace, slash, rest = text.partition("/")
    if not slash:
        return Address(text, check_name(text, "workspace"))
    if not workspace:
        raise InvalidInput(f"{text!r} begins with a slash; a file is WORKSPACE/SESSION:/PATH", path=text)
    head, mark, tail = rest.partition(":/")
    if "/" in head.rstrip("/") or (head.endswith("/") and mark):
        session, _, path = head.partition("/")
        meant = f"{workspace}/{session}:/{path}{mark}{tail}"
        raise InvalidInput(f"{text!r} has no ':' between session and path; do you mean {meant!r}?", path=text)
    head = head.rstrip("/")
    if not head:
        if mark:
            raise InvalidInput(f"{text!r} has no session; a file is WORKSPACE/SESSION:/PATH", path=text)
        return Address(text, check_name(workspace, "workspace"))
    key = session_key(workspace, head)
    return Address(text, key.workspace, key.name, "/" + tail if mark else None)


class AddressType(_ParamType):
    """A parameter that is an address; completes sessions and paths."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        return value if isinstance(value, Address) else parse(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from dreamlake.cli.completing import addresses

        return addresses(ctx, incomplete)


ADDRESS = AddressType()
