"""The error tree: every error a caller may see, each also the built-in that users expect.

Owns: the classes, their fields and the exit code of the command for each. Vendor exceptions never cross a
backend's edge; what the operating system says about the user's own disk (``OSError``: full, read-only,
permission) passes through unchanged, because its errno and filename are the clearest text there is.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AccessDenied",
    "ClaimRevoked",
    "Conflict",
    "Corrupt",
    "InvalidInput",
    "InvalidType",
    "LakeError",
    "NotFound",
    "OutcomeUnknown",
    "StateError",
    "Unavailable",
    "UnsupportedFormat",
    "UploadsFailed",
]


class LakeError(Exception):
    """Base of all errors of dreamlake.

    Attributes:
        path: the file or logical path the error is about, or None.
        exit_code: what the ``dreamlake`` command exits with for it.
    """

    exit_code = 1

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class InvalidInput(LakeError, ValueError):
    """The caller's input cannot be accepted; nothing was changed."""

    exit_code = 2


class InvalidType(LakeError, TypeError):
    """A value of a type that cannot be stored (metadata, parameters, tags); nothing was changed."""

    exit_code = 2


class NotFound(LakeError, FileNotFoundError, ValueError):
    """A file, session, version, alias or track that does not exist, was deleted or was replaced."""

    exit_code = 3

    def __str__(self) -> str:  # OSError.__str__ would do, but only while errno is unset
        return str(self.args[0]) if self.args else ""


class Conflict(InvalidInput, FileExistsError):
    """The target is taken: a file where a folder is, a folder where a file is, or an existing name."""

    exit_code = 4


class Corrupt(LakeError, ValueError):
    """Stored bytes that do not match their checksum; the user's destination was left alone."""

    exit_code = 5


class StateError(LakeError, RuntimeError):
    """The session is not open, or is write-protected."""

    exit_code = 6


class UnsupportedFormat(LakeError, ValueError):
    """Data of a newer format than this release reads, or not a lake at all; never guessed (I9)."""

    exit_code = 7


class ClaimRevoked(LakeError):
    """A claim was revoked before its commit (I5). Operations start again with a new claim."""

    exit_code = 8


class Unavailable(LakeError, ConnectionError):
    """A remote service cannot be reached, or does not answer in time; the call did not happen."""

    exit_code = 11

    def __str__(self) -> str:  # like NotFound: OSError has its own idea of arguments
        return str(self.args[0]) if self.args else ""


class OutcomeUnknown(Unavailable):
    """The reply of a remote service was lost: the call may or may not have happened, or may still happen."""


class AccessDenied(LakeError, PermissionError):
    """A remote service refuses these credentials, or what they may do."""

    exit_code = 10

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UploadsFailed(LakeError):
    """Uploads in the background that failed, and that nobody was told of before.

    Attributes:
        errors: one each, in the order in which they were asked for.
    """

    def __init__(self, message: str, errors: Iterable[BaseException] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
