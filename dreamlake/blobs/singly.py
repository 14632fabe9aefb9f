"""The calls of the blobs seam that take many at a time, for implementations to which one by one is as quick."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from dreamlake.blobs import HEAD_BYTES, Copy, Proof, Ready, Staged, Stager, Wanted
from dreamlake.errors import NotFound

_PIECE = 1 << 20


class _Single(Protocol):
    def stage(self) -> Stager: ...
    def look(self, key: str, size: int | None, prove: Proof, *, resurrect: bool, check: Proof | None) -> bool: ...
    def publish(self, key: str, staged: Staged, *, replace: bool) -> bool: ...
    def open(self, key: str) -> BinaryIO: ...
    def condemn(self, key: str, batch: str) -> Copy | None: ...
    def settle(self, copy: Copy, *, keep: bool) -> bool: ...


class OneByOne:
    """Mixin for a ``Blobs`` that has the single calls."""

    sending_is_dear = False

    def stage_file(self: _Single, path: str, prefix: bytes, size: int, digest: str) -> tuple[Stager, Staged]:
        stager = self.stage()
        try:
            stager.write(prefix)
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    stager.write(piece)
            return stager, stager.finish()
        except BaseException:
            stager.discard()
            raise

    def look_all(self: _Single, wanted: Sequence[Wanted], *, resurrect: bool = True) -> list[bool]:
        return [self.look(key, size, prove, resurrect=resurrect, check=check) for key, size, prove, check in wanted]

    def publish_all(self: _Single, ready: Sequence[Ready]) -> list[bool]:
        return [self.publish(key, staged, replace=replace) for key, staged, replace in ready]

    def heads(self: _Single, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for key in keys:
            head = None
            with contextlib.suppress(NotFound), self.open(key) as stream:
                head = stream.read(HEAD_BYTES)
            found.append(head)
        return found

    def condemn_all(self: _Single, keys: Sequence[str], batch: str) -> list[Copy | None]:
        return [self.condemn(key, batch) for key in keys]

    def settle_all(self: _Single, copies: Sequence[Copy], *, keep: bool) -> list[bool]:
        return [self.settle(copy, keep=keep) for copy in copies]


def passes(stream: BinaryIO, wanted: int | None, size: int, sealed: bool, prove: Proof, check: Proof | None) -> bool:
    """What ``look`` decides of a copy of ``size`` stored bytes."""
    if not sealed or (wanted is not None and wanted != size):
        return prove(stream)
    return wanted is not None or check is None or check(stream)
