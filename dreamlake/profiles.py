"""Writing profiles of remote lakes into the configuration file, without touching the rest of it.

A profile is a run of lines of its own, so that comments and order of everything else stay. What was written is read
again and compared before it takes the place of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

from dreamlake import config
from dreamlake.errors import Conflict, InvalidInput, NotFound
from dreamlake.location import RemoteAddress, check_profile_name
from dreamlake.ports import Ports
from dreamlake.services.s3_calling import S3Settings

__all__ = ["add_profile", "profile_text", "profiles", "remove_profile", "table_of"]

_HEADER = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+")


def profiles() -> dict[str, dict[str, Any]]:
    """The profiles of the configuration file, as they stand there."""
    found = config.read_file().get("profiles", {})
    return {name: table for name, table in sorted(found.items()) if isinstance(table, dict)}


def table_of(address: RemoteAddress, variables: dict[str, str], *, namespace: str | None) -> dict[str, Any]:
    """A profile that means this address.

    Args:
        variables: settings such as ``mongodb_password_env`` or ``secret_access_key_env`` -> environment variable.
    """
    table: dict[str, Any] = {"mongodb": address.mongodb}
    table.update({name: value for name, value in variables.items() if name.startswith("mongodb")})
    if namespace is not None:
        table["namespace"] = namespace
    if isinstance(address.blobs, str):
        table["folder"] = address.blobs
    elif isinstance(address.blobs, S3Settings):
        names = ("bucket", "prefix", "endpoint", "region", "addressing", "profile")
        given = {name: getattr(address.blobs, name) for name in names}
        table["s3"] = {name: value for name, value in given.items() if value not in (None, "", "auto")}
        table["s3"].update({name: value for name, value in variables.items() if not name.startswith("mongodb")})
    return table


def profile_text(name: str, table: dict[str, Any]) -> str:
    """The lines of a profile."""
    plain = [f"{key} = {_quoted(value)}" for key, value in table.items() if isinstance(value, str)]
    lines = [f"[profiles.{name}]", *plain]
    for key, inner in table.items():
        if isinstance(inner, dict):
            lines += [
                "",
                f"[profiles.{name}.{key}]",
                *(f"{field} = {_quoted(value)}" for field, value in inner.items()),
            ]
    return "\n".join(lines) + "\n"


def add_profile(ports: Ports, name: str, table: dict[str, Any]) -> str:
    """Add a profile; returns the file. Raises ``Conflict`` when there is one of that name."""
    before = config.read_file()
    if check_profile_name(name) in before.get("profiles", {}):
        raise Conflict(f"there is a profile {name!r} in {config.config_file()}; remove it first, or take another name")
    text = _read()
    joined = f"{text.rstrip()}\n\n{profile_text(name, table)}" if text.strip() else profile_text(name, table)
    after = {**before, "profiles": {**before.get("profiles", {}), name: table}}
    return _write(ports, joined, after)


def remove_profile(ports: Ports, name: str) -> str:
    """Remove a profile; returns the file. Raises ``NotFound``, or ``InvalidInput`` when that must be done by hand."""
    before = config.read_file()
    known = before.get("profiles", {})
    if name not in known:
        raise NotFound(f"there is no profile {name!r} in {config.config_file()}", path=name)
    kept, ours = [], False
    for line in _read().splitlines():
        header = _HEADER.match(line)
        if header:
            parts = [part.strip().strip("\"'") for part in header[1].split(".")]
            ours = parts[:2] == ["profiles", name]
        if not ours:
            kept.append(line)
    after = {**before, "profiles": {other: table for other, table in known.items() if other != name}}
    if not after["profiles"]:
        del after["profiles"]
    return _write(ports, "\n".join(kept).strip() + "\n", after)


def _read() -> str:
    try:
        with open(config.config_file(), encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _write(ports: Ports, text: str, expected: dict[str, Any]) -> str:
    """Put ``text`` in the place of the file if it reads as expected; atomically."""
    path = os.path.realpath(config.config_file())
    if config.parse(text, path) != expected:
        raise InvalidInput(
            f"{path} is written in a way that cannot be edited safely here; change it by hand", path=path
        )
    ports.fs.make_dir(os.path.dirname(path))
    scratch = f"{path}.{ports.scratch_name('new')}"
    ports.fs.write(scratch, text.encode())
    try:
        ports.fs.fsync(scratch)
        ports.fs.rename(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            ports.fs.unlink(scratch)
        raise
    return path


def _quoted(value: str) -> str:
    """Text as a TOML basic string: JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
