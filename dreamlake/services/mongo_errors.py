"""What pymongo raises, in the words of ``dreamlake.errors``, and never with a password in it."""

from __future__ import annotations

import re
from urllib.parse import unquote

from dreamlake.errors import AccessDenied, Conflict, Corrupt, InvalidInput, LakeError, OutcomeUnknown, Unavailable

_DENIED = frozenset({8, 11, 13, 18, 31, 33, 8000})  # Unauthorized, AuthenticationFailed, AtlasError, unknown users
_FULL = frozenset({14031})  # OutOfDiskSpace
_OPTIONS_DIFFER = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
_CODES = """
    6 7 43 50 63 64 89 91 112 134 189 202 234 237 262 317 358 384 9001 10058 10107 11600 11602 13388 13435 13436 16500
"""
# Network, not primary, stepping down, shutting down, over a time limit, throttled: another attempt may succeed.
_TRANSIENT = frozenset(int(code) for code in _CODES.split())
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")


def scrub(text: str, url: str) -> str:
    """``text`` without the user and the password of ``url``, however they are spelled."""
    text = _USERINFO.sub("", text)
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> list[str]:
    before, at, _ = url.partition("://")[2].rpartition("@")
    _, colon, password = before.partition(":")
    found = {password, unquote(password)} if at and colon else set()
    found |= {unquote(found) for found in re.findall(r"AWS_SESSION_TOKEN:([^,&]+)", url)}
    return sorted((secret for secret in found if secret), key=len, reverse=True)


def place(url: str) -> str:
    """Where a URL leads, fit to be shown: scheme, hosts and database."""
    scheme, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    hidden = "@" in query and "@" not in before  # perhaps a password with a question mark in it
    return f"{scheme}://{'...' if hidden else before.rpartition('@')[2]}"


def database_of(url: str) -> str:
    """The name that a URL ends in, "" if it has none."""
    return unquote(url.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[2])


def is_transient(error: BaseException) -> bool:
    """True if the same call may succeed a moment later. Server selection has been waiting already: it is not."""
    from pymongo import errors

    if isinstance(error, errors.ServerSelectionTimeoutError):
        return False
    if isinstance(error, (*_broken(), errors.WaitQueueTimeoutError)):
        return True
    return isinstance(error, errors.OperationFailure) and _transient_code(error.code)


def _broken() -> tuple[type[Exception], ...]:
    """What a call raises whose reply did not come, or was none of its own."""
    from pymongo import errors

    return errors.AutoReconnect, errors.CursorNotFound, errors.ProtocolError


def _transient_code(code: int | None) -> bool:
    return code is not None and code in _TRANSIENT


def refused(error: Exception, url: str) -> LakeError:
    """The error for a URL that pymongo does not take, or whose names do not resolve."""
    detail = scrub(str(error), url)
    if type(error.__cause__).__module__.startswith("dns."):
        return Unavailable(f"the database {place(url)} cannot be reached: {detail}")
    return InvalidInput(f"the MongoDB URL for {place(url)} cannot be used: {detail}")


def translate(error: Exception, url: str, doing: str, *, changing: bool) -> LakeError:
    """The error to raise instead. ``changing``: the call may have changed something before its reply was lost."""
    from pymongo import errors

    where = f"the database {place(url)}"
    detail = scrub(str(error).partition(", full error:")[0], url)
    text = f"{where}: {doing} failed: {detail}"
    if isinstance(error, errors.DuplicateKeyError):
        return Conflict(f"{where}: {doing}: a unique index refuses it")
    if isinstance(error, (errors.ServerSelectionTimeoutError, errors.WaitQueueTimeoutError)):
        return Unavailable(f"{where} cannot be reached: {detail.partition(', Timeout:')[0]}")
    if isinstance(error, (*_broken(), errors.WriteConcernError, errors.ConnectionFailure)):
        return OutcomeUnknown(text) if changing else Unavailable(text)
    if isinstance(error, errors.OperationFailure):
        if error.code in _DENIED:
            return AccessDenied(f"{where} refuses these credentials, or what they may do: {detail}")
        if error.code in _FULL:
            return Unavailable(f"{where} has no room left: {detail}")
        if error.code in _OPTIONS_DIFFER:
            return InvalidInput(f"{where} has an index of this name with other options; drop it: {detail}")
        if _transient_code(error.code) or error.has_error_label("RetryableWriteError"):
            certain = error.has_error_label("NoWritesPerformed") or not changing
            return Unavailable(text) if certain else OutcomeUnknown(text)
        return LakeError(text)
    if isinstance(error, errors.ConfigurationError):
        return refused(error, url)
    if isinstance(error, errors.InvalidOperation):
        return Unavailable(text)  # the client was closed
    if "bson" in type(error).__module__:
        return Corrupt(text)
    return LakeError(text)
