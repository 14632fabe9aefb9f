"""One call to S3: configured explicitly, tried again with backoff and jitter.

Owns: the settings of a client, one client a process (boto3's own are not fork-safe), and the loop of attempts.
botocore's own retries are switched off, because only a loop that sees every attempt knows whether an earlier one may
have happened. What an answer means: ``s3_errors``.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dreamlake.errors import InvalidInput, OutcomeUnknown
from dreamlake.ports import NO_FORK
from dreamlake.services.s3_errors import Verdict, judge

BACKOFF_S = 0.2  # before the second attempt; doubled for each one after it
MAX_BACKOFF_S = 8.0
MIN_TRIES = 3  # however long one attempt took
AT_ONCE_BYTES = 256 << 10  # of a body that is sent with its headers; what is larger waits for the store's leave


@dataclass(frozen=True)
class S3Settings:
    """Where the objects are and how to talk to the store. Credentials are never shown.

    Attributes:
        prefix: the lake's place in the bucket, without slashes at its ends; may be empty.
        endpoint: URL of an S3-compatible service; None for AWS.
        region: None for what the environment says, else ``us-east-1``.
        addressing: ``path``, ``virtual``, or ``auto`` (path with an endpoint, virtual at AWS).
        profile: of AWS's own configuration files. Without it and without keys, AWS's own chain is asked.
        connections: most at the same time. connect_timeout_s: for one connection to come about.
        read_timeout_s: how long nothing may move on a connection before it counts as stalled.
        patience_s: how long a call that fails is tried again.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing: str = "auto"
    profile: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    connections: int = 32
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    patience_s: float = 60.0

    @property
    def shown(self) -> str:
        """How errors call the place."""
        host = urlsplit(self.endpoint).hostname if self.endpoint else None
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {host}" if host else place


class Caller:
    """Calls operations of a boto3 client. Any thread, and a forked child, may use it at any time."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._sleep, self._clock = sleep, clock
        self._lock = threading.Lock()
        self._made: tuple[int, Any] | None = None

    def client(self) -> Any:
        """The boto3 client of this process. Raises ``InvalidInput`` for settings that boto3 refuses."""
        made = self._made
        if made is not None and made[0] == os.getpid():
            return made[1]
        if made is not None:
            self._lock = threading.Lock()  # another thread of the parent may have held it at the fork
            self._made = None
        with self._lock:
            if self._made is None:
                self._made = (os.getpid(), _new_client(self.settings))
            return self._made[1]

    def call(
        self, operation: str, shown: str, *, writes: bool = False, needs: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Call until it works or nothing more can be hoped for.

        Args:
            shown: the key, for messages. writes: a lost reply leaves doubt (else repeating is harmless).
            needs: a field of every whole answer. (One that is cut among its headers passes for an empty one.)

        Raises: NotFound, Conflict (a condition failed), AccessDenied, Corrupt (bytes did not arrive as meant),
            InvalidInput (settings), OutcomeUnknown (writes only), Unavailable.
        """
        doubt, renewed, began, tries = False, False, self._clock(), 0
        while True:
            client = self.client()
            try:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
                if needs is None or needs in answer:
                    return answer
                raise ConnectionError("the answer was cut")
            except Exception as error:
                verdict = judge(error, self.settings.shown, operation, shown)
            tries += 1
            doubt = doubt or verdict.maybe
            if verdict.expired and not renewed and self._renew(client):
                renewed = True
                continue
            if verdict.again and self.may_wait(tries, began, verdict):
                continue
            if writes and doubt and verdict.again:
                raise OutcomeUnknown(str(verdict.error), path=shown)
            raise verdict.error

    def may_wait(self, tries: int, began: float, verdict: Verdict) -> bool:
        """Sleep before the next try; False when patience is over. ``began`` by the same clock, of the first try."""
        if verdict.tries is not None and tries >= verdict.tries:
            return False
        if tries >= MIN_TRIES and self._clock() - began >= self.settings.patience_s:
            return False
        wait = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(tries - 1, 16)) * (0.5 + random.random() / 2)
        self._sleep(max(wait, min(verdict.wait_s, MAX_BACKOFF_S)))
        return True

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            with contextlib.suppress(Exception):
                made[1].close()

    def _renew(self, failed: Any) -> bool:
        """Ask the chain of credentials once more. False when they were given and cannot change."""
        if self.settings.access_key_id is not None:
            return False
        with self._lock:
            if self._made is not None and self._made[1] is failed:
                self._made = None
        return True


def _new_client(settings: S3Settings) -> Any:
    try:
        with NO_FORK:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
    except ImportError:
        raise InvalidInput("remote mode needs boto3: pip install 'dreamlake[remote]'") from None
    addressing = settings.addressing
    if addressing == "auto":
        addressing = "path" if settings.endpoint else "virtual"
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # see the top of this module
        signature_version="s3v4",  # presigned links would otherwise be signed the old way
        max_pool_connections=settings.connections,
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",  # SHA-256 is given with every write
        response_checksum_validation="when_required",  # content is proven by its own key
        s3={
            "addressing_style": addressing,
            "payload_signing_enabled": False,
        },  # the checksum is signed, with its header
        user_agent_extra="dreamlake",
    )
    try:
        session = boto3.session.Session(profile_name=settings.profile)
        region = settings.region or session.region_name or "us-east-1"
        client = session.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            aws_session_token=settings.session_token,
            config=config,
        )
        client.meta.events.register("before-call.s3", _at_once)  # after botocore's own, which asks for leave
        return client
    except (BotoCoreError, ValueError) as error:
        raise InvalidInput(f"these settings of {settings.shown} cannot be used ({type(error).__name__})") from None


def _at_once(params: dict[str, Any], **_: Any) -> None:
    """Take back ``Expect: 100-continue`` for a small body.

    boto3 asks for leave before every body: one more round trip, and a sixth of the processor time of a small put. That
    pays only where a refusal spares much sending.
    """
    body = params.get("body")
    if isinstance(body, io.BytesIO) and len(body.getvalue()) <= AT_ONCE_BYTES:  # which copies nothing; getbuffer does
        params["headers"].pop("Expect", None)
