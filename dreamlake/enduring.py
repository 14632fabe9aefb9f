"""What a session hands out while its lake may become unreachable: writes that fail for that go on in the spool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dreamlake.errors import Unavailable

__all__ = ["Enduring"]

_WRITES = frozenset(["upload", "set", "log", "append", "append_batch"])


class Enduring:
    """Stands for a part of a session (its files, a track, ...) and does what that does.

    A call that adds something, and finds the lake unreachable after all retries, is made again on the part in the
    spool. Such a call may have happened in the lake, too: then what it added is there twice. Calls that read or change
    what is there fail: the spool does not have it.

    Args:
        find: the part as it is now.
        give_up: makes the session go on in the spool; called with why, by any thread, perhaps again.
    """

    def __init__(self, find: Callable[[], Any], give_up: Callable[[Unavailable], None]) -> None:
        self._find, self._give_up = find, give_up

    def __repr__(self) -> str:
        return repr(self._find())

    def __iter__(self) -> Any:
        return iter(self._find())

    def __call__(self) -> Enduring:  # ``session.files()`` is ``session.files``
        return self

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._find(), name)
        adds = name in _WRITES or name.startswith("save_")
        return partial(self._write, name) if adds else found

    def _write(self, name: str, *args: Any, **options: Any) -> Any:
        source: Any = args[0] if args else None
        start = source.tell() if name == "upload" and hasattr(source, "tell") and source.seekable() else None
        try:
            return getattr(self._find(), name)(*args, **options)
        except Unavailable as error:
            self._give_up(error)
            if start is not None:
                source.seek(start)
            return getattr(self._find(), name)(*args, **options)
