"""What a failed attempt at S3 means: did it happen, may it have happened, is it worth another try; in our words.

No message here ever holds a credential: it is made of the bucket, the endpoint's host, and the code of the error.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

from dreamlake.errors import AccessDenied, Conflict, Corrupt, InvalidInput, LakeError, NotFound, Unavailable

_BAD_DIGEST_TRIES = 3
_MAX_TEXT = 200  # of a server's own words in a message


class BeyondEnd(LakeError):
    """Bytes were asked for that lie behind the end of an object. Stays within ``services``."""


class Verdict(NamedTuple):
    """What a failed attempt means. ``again``: worth another try; ``maybe``: it may have happened all the same."""

    error: LakeError
    again: bool = False
    maybe: bool = False
    expired: bool = False
    tries: int | None = None  # most attempts, when fewer than patience allows
    wait_s: float = 0.0  # what the server asked for


_CODES = {
    "denied": """AccessDenied AccountProblem AllAccessDisabled AuthorizationHeaderMalformed InvalidAccessKeyId
        InvalidPayer InvalidSecurity NotSignedUp SignatureDoesNotMatch Forbidden UnauthorizedAccess Unauthorized""",
    "expired": "ExpiredToken ExpiredTokenException InvalidToken TokenRefreshRequired",
    "full": """InsufficientStorage InsufficientStorageSpace QuotaExceeded QuotaExceededException StorageFull
        XMinioStorageFull XMinioAdminBucketQuotaExceeded ServiceQuotaExceededException""",
    "slow": """SlowDown SlowDownRead SlowDownWrite Throttling ThrottlingException RequestThrottled
        RequestLimitExceeded TooManyRequests BandwidthLimitExceeded ServiceUnavailable OperationAborted
        ConditionalRequestConflict""",
    "bad digest": "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch IncompleteBody",
    "skewed": "RequestTimeTooSkewed RequestExpired",
    "elsewhere": "PermanentRedirect IllegalLocationConstraintException TemporaryRedirect",
}
_CLASS = {code: name for name, codes in _CODES.items() for code in codes.split()}
_STATUS = {
    401: "denied",
    403: "denied",
    507: "full",
    409: "slow",
    429: "slow",
    503: "slow",
    301: "elsewhere",
    307: "elsewhere",
}


def judge(error: Exception, where: str, operation: str, shown: str) -> Verdict:
    """What became of an attempt that raised this, in our words. Anything that is not the vendor's is raised again."""
    from botocore import exceptions as vendor
    from botocore.parsers import ResponseParserError

    if isinstance(error, vendor.ClientError):
        return _judge_answer(error.response, where, operation, shown)
    if isinstance(error, LakeError):
        raise error
    name = type(error).__name__
    if isinstance(error, vendor.ParamValidationError):
        return Verdict(InvalidInput(f"{where}: the name {shown!r} cannot be used here", path=shown))
    if isinstance(error, (vendor.NoCredentialsError, vendor.PartialCredentialsError)):
        return Verdict(AccessDenied(f"no credentials for {where} were found; {_KEYS}"))
    if isinstance(error, vendor.SSLError):
        return Verdict(Unavailable(f"no secure connection to {where} ({name}): check its certificate and the URL"))
    if isinstance(error, (vendor.EndpointConnectionError, vendor.ConnectTimeoutError, vendor.ProxyConnectionError)):
        return Verdict(Unavailable(f"{where} cannot be reached ({name}); check the endpoint and the network"), True)
    if isinstance(error, (vendor.HTTPClientError, vendor.IncompleteReadError, ResponseParserError)) or _is_cut(error):
        return Verdict(Unavailable(f"the connection to {where} was cut or stood still ({name})"), True, maybe=True)
    if isinstance(error, vendor.BotoCoreError):  # credential providers, single sign-on, redirects
        return Verdict(AccessDenied(f"credentials for {where} could not be had ({name}); {_KEYS}"))
    raise error


_KEYS = "give keys, log in again, or name a profile (the usual AWS variables and files are read)"


def _is_cut(error: Exception) -> bool:
    from urllib3 import exceptions as http

    return isinstance(error, (http.HTTPError, ConnectionError, TimeoutError))


def _judge_answer(response: Any, where: str, operation: str, shown: str) -> Verdict:
    """The same for an answer of the server with an error code."""
    details, facts = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(facts.get("HTTPStatusCode", 0))
    text = f"{where} says {code}"
    kind = _CLASS.get(code) or _STATUS.get(status)
    if kind == "expired":
        error: LakeError = AccessDenied(f"the credentials for {where} have expired; {_KEYS}")
        return Verdict(error, expired=True)
    if kind == "skewed":
        return Verdict(AccessDenied(f"{where} refuses this machine's clock{_skew(facts)}; set it (for example by NTP)"))
    if kind == "full":
        return Verdict(Unavailable(f"{where} is full or over its quota ({code}); free space or raise the quota"))
    if code == "NoSuchBucket":
        return Verdict(Unavailable(f"there is no bucket for {where}; create it, or correct the name"))
    if kind == "denied":
        return Verdict(AccessDenied(f"{where} refuses {operation} on {shown!r} ({code}); {_RIGHTS}"))
    if status == 416:
        return Verdict(BeyondEnd(f"{shown!r} in {where} is shorter", path=shown))
    if status == 404:
        return Verdict(NotFound(f"nothing at {shown!r} in {where} ({code})", path=shown))
    if status == 412 or code == "PreconditionFailed":
        return Verdict(Conflict(f"{shown!r} in {where} is taken", path=shown))
    if kind == "slow":
        wait = str(facts.get("HTTPHeaders", {}).get("retry-after", "0"))
        return Verdict(Unavailable(f"{text}: it is overloaded"), True, wait_s=float(wait) if wait.isdecimal() else 0.0)
    if kind == "bad digest":
        return Verdict(
            Corrupt(f"{text}: bytes of {shown!r} changed on their way", path=shown), True, tries=_BAD_DIGEST_TRIES
        )
    if code == "RequestTimeout" or (status >= 500 and status != 501):
        return Verdict(Unavailable(f"{text or status}"), True, maybe=True)
    if kind == "elsewhere":
        return Verdict(InvalidInput(f"{text}: the bucket is in another region; set region=..."))
    said = str(details.get("Message", ""))[:_MAX_TEXT]
    if status == 501 or code == "NotImplemented":
        return Verdict(Unavailable(f"{where} does not know {operation} as dreamlake needs it ({code}: {said})"))
    return Verdict(Unavailable(f"{text} to {operation} on {shown!r} (status {status}: {said})"))


_RIGHTS = "check the keys, and the rights of their user (docs: administration)"


def _skew(facts: Any) -> str:
    """By how much the clocks differ, from the date of the answer."""
    from email.utils import parsedate_to_datetime

    with contextlib.suppress(TypeError, ValueError):
        seconds = time.time() - parsedate_to_datetime(facts["HTTPHeaders"]["date"]).timestamp()
        return f", which is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}"
    return ""
