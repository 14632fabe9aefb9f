"""The bytes of one object as a stream that takes up a cut connection where it broke off."""

from __future__ import annotations

import io
from typing import Any

from dreamlake.errors import Conflict, NotFound
from dreamlake.services.s3_calling import Caller
from dreamlake.services.s3_errors import BeyondEnd, judge

_PIECE = 8 << 20


class S3Stream(io.RawIOBase):
    """The bytes of one object from ``start`` to ``stop``, in order. A cut connection is taken up where it broke off."""

    def __init__(self, caller: Caller, place: dict[str, Any], start: int, stop: int | None) -> None:
        super().__init__()
        self._caller, self._place, self._at, self._stop = caller, place, start, stop
        self._body: Any = None
        self._end: int | None = None
        self._etag: str | None = None

    def readable(self) -> bool:
        return True

    def connect(self) -> None:
        """Raises ``NotFound``."""
        given = dict(self._place)
        if self._at or self._stop is not None:
            given["Range"] = f"bytes={self._at}-" + ("" if self._stop is None else str(self._stop - 1))
        if self._etag is not None:
            given["IfMatch"] = self._etag
        try:
            answer = self._caller.call("get_object", self._place["Key"], needs="ETag", **given)
        except Conflict:
            raise NotFound(f"{self._place['Key']!r} was replaced while it was read", path=self._place["Key"]) from None
        except BeyondEnd:
            self._end = self._at
            return
        self._body, self._etag = answer["Body"], answer["ETag"]
        self._end = self._at + answer["ContentLength"]

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        began, tries = self._caller.now(), 0
        while True:
            if self._end is None or (self._body is None and self._at < self._end):
                self.connect()
            if not size or self._end is None or self._at >= self._end:
                return b""
            try:
                piece: bytes = self._body.read(min(size, self._end - self._at))
                if piece:
                    self._at += len(piece)
                    return piece
                error: Exception = ConnectionError("the connection ended too early")
            except Exception as caught:
                error = caught
            self._drop()
            tries += 1
            verdict = judge(error, self._caller.settings.shown, "get_object", self._place["Key"])
            if not (verdict.again and self._caller.may_wait(tries, began, verdict)):
                raise verdict.error

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(_PIECE):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
