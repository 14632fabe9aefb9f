"""Where a session lives when its constructor does not say: environment, configuration file, or ./experiments.

The file is ``$DREAMLAKE_CONFIG`` or ``$XDG_CONFIG_HOME/dreamlake/config.toml`` (``~/.config`` by default)::

    local_path = "~/experiments"
    max_file_bytes = 5368709120
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType

DEFAULT_LOCAL_PATH = "experiments"
_KNOWN = frozenset({"local_path", "remote", "namespace", "max_file_bytes", "profiles", "capture", "capture_variables"})


def local_path(given: str | os.PathLike[str] | None = None) -> str:
    """The absolute root folder: the argument, ``DREAMLAKE_LOCAL_PATH``, the file's ``local_path``, ``./experiments``.

    Raises:
        InvalidInput: an unreadable file, or an empty path.
        InvalidType: an argument of another type.
    """
    chosen: Any
    if given is not None:
        chosen = os.fspath(given) if isinstance(given, os.PathLike) else given
    elif os.environ.get("DREAMLAKE_LOCAL_PATH"):
        chosen = os.environ["DREAMLAKE_LOCAL_PATH"]
    else:
        chosen = read_file().get("local_path", DEFAULT_LOCAL_PATH)
        if not isinstance(chosen, str):
            raise InvalidInput(f"{config_file()}: local_path must be text, not {chosen!r}", path=config_file())
    if not isinstance(chosen, str):
        raise InvalidType(f"local_path must be text or a path of text, not {type(chosen).__name__} ({chosen!r})")
    if not chosen or "\0" in chosen:
        raise InvalidInput(f"local_path {chosen!r} is not a folder path")
    return os.path.abspath(os.path.expanduser(chosen))


def max_file_bytes(given: int | None = None) -> int | None:
    """The upload limit in bytes: the argument, ``DREAMLAKE_MAX_FILE_BYTES``, the file's setting, or None."""
    value: Any = given
    source = "max_file_bytes"
    if value is None and os.environ.get("DREAMLAKE_MAX_FILE_BYTES"):
        source, value = "DREAMLAKE_MAX_FILE_BYTES", os.environ["DREAMLAKE_MAX_FILE_BYTES"]
    elif value is None:
        source, value = f"{config_file()}: max_file_bytes", read_file().get("max_file_bytes")
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number <= 0 or isinstance(value, (bool, float)):
        raise InvalidInput(f"{source}={value!r} is not a positive number of bytes")
    return number


def capture(given: bool | None = None) -> bool:
    """Whether runs are captured: the argument, ``DREAMLAKE_CAPTURE`` (0 or 1), the file's ``capture``, or True."""
    value: Any = given
    source = "capture"
    if value is None and os.environ.get("DREAMLAKE_CAPTURE"):
        source, text = "DREAMLAKE_CAPTURE", os.environ["DREAMLAKE_CAPTURE"]
        value = {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
    elif value is None:
        source, value = f"{config_file()}: capture", read_file().get("capture", True)
    if not isinstance(value, bool):
        raise InvalidInput(f"{source}={value!r} is neither true nor false")
    return value


def capture_variables() -> list[str]:
    """Shell patterns of further environment variables to capture: the file's ``capture_variables``, a list of text."""
    value = read_file().get("capture_variables", [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidInput(f"{config_file()}: capture_variables must be a list of names, not {value!r}")
    return value


def config_file() -> str:
    if os.environ.get("DREAMLAKE_CONFIG"):
        return os.path.expanduser(os.environ["DREAMLAKE_CONFIG"])
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "dreamlake", "config.toml")


def read_file() -> dict[str, Any]:
    """The settings in the configuration file; {} when there is none."""
    path = config_file()
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if not os.path.lexists(path):  # in a folder that is not ours to look into: another user's home after `su`
            return {}
        raise InvalidInput(f"the configuration file {path} cannot be read: {error.strerror}", path=path) from error
    try:
        return parse(data.decode(), path)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", path=path) from None


def parse(text: str, path: str) -> dict[str, Any]:
    """Settings in TOML. Raises ``InvalidInput`` naming ``path``."""
    if sys.version_info >= (3, 11):
        from tomllib import loads
    else:
        from tomli import loads
    try:
        settings: dict[str, Any] = loads(text)
    except ValueError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", path=path) from None
    unknown = sorted(set(settings) - _KNOWN)
    if unknown:
        raise InvalidInput(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}", path=path)
    return settings
