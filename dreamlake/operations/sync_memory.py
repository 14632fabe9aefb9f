"""What two lakes had when they last met: a cache beside one of them, so that meeting again costs next to nothing.

Losing it costs time, and for parameters that both have changed since the knowledge of who changed what. One file a
session, ``<scratch>/sync/<id of the other lake>/<sid>.json``; written by the process that synchronises the two, one at
a time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dreamlake import values
from dreamlake.model import SessionKey
from dreamlake.operations.context import Store
from dreamlake.operations.sync_journals import Met
from dreamlake.ports import Ports

FORMAT = 1


@dataclass
class Remembered:
    """What is remembered of one session; see ``Met`` for the rest.

    Attributes:
        tokens: the newest records of the two logs when both said the same.
        sent: what each of the two said when all of it had come to the other, see ``state_of``.
    """

    tokens: tuple[str, str] = ("", "")
    met: Met = field(default_factory=Met)
    sent: tuple[str, str] = ("", "")


def state_of(token: str, seen: dict[str, Any]) -> str:
    """A mark of all that a session says: of its newest record and of ``seen_in`` its journal. Changes with it."""
    return hashlib.sha256(values.encode([token, sorted(seen.items())])).hexdigest()[:32]


def was_sent(ports: Ports, scratch: str, key: SessionKey, state: str) -> bool:
    """True if all that the session says came to some other lake. ``scratch`` is that of the session's own lake."""
    try:
        others = ports.fs.list(f"{scratch}/sync")
    except OSError:
        return False
    for other in others:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if state in values.decode(ports.fs.read(f"{scratch}/sync/{other}/{key.sid}.json"))["sent"]:
                return True
    return False


class Memory:
    """The cache in one folder, or none. Seen from the lake that is named first."""

    def __init__(self, ports: Ports, folder: str | None, turned: bool) -> None:
        self._ports, self._folder, self._turned = ports, folder, turned

    @classmethod
    def of(cls, here: Store, there: Store, here_id: str, there_id: str) -> Memory:
        """Beside the lake that is a folder: it goes where that goes. Of two, beside the one with the lower id."""
        ours = [(store.root is None, own, other, store) for store, own, other in
                ((here, here_id, there_id), (there, there_id, here_id)) if store.scratch is not None]  # fmt: skip
        if not ours:
            return cls(here.ports, None, False)
        _, own, other, store = min(ours, key=lambda row: row[:3])
        return cls(store.ports, f"{store.scratch}/sync/{other}-{there.namespace or here.namespace}", own != here_id)

    @contextlib.contextmanager
    def opened(self, pair: tuple[str, str]) -> Iterator[Remembered]:
        """What is remembered of a session; meanwhile no other process of this machine synchronises it."""
        with contextlib.ExitStack() as held:
            found = Remembered()
            if self._folder is not None:
                with contextlib.suppress(OSError):  # beside a lake that may only be read
                    self._ports.fs.make_dir(self._folder)
                    held.enter_context(self._ports.fs.lock(f"{self._path(pair)}.lock"))
                    found = self._load(pair)
            yield found

    def save(self, pair: tuple[str, str], found: Remembered) -> None:
        """Remember; a failure costs the next run time, nothing else."""
        if self._folder is None:
            return
        met = found.met.turned() if self._turned else found.met
        tokens = found.tokens[::-1] if self._turned else found.tokens
        sent = found.sent[::-1] if self._turned else found.sent
        said = {"tokens": list(tokens), "sent": list(sent), "rows": met.rows, "documents": met.documents}
        data = values.encode({"format": FORMAT, **said})
        path = self._path(pair)
        scratch = f"{self._folder}/{self._ports.scratch_name('sync')}"
        with contextlib.suppress(OSError):
            self._ports.fs.write(scratch, data + b"\n")
            self._ports.fs.rename(scratch, path)

    def _load(self, pair: tuple[str, str]) -> Remembered:
        try:
            raw: Any = values.decode(self._ports.fs.read(self._path(pair)))
            if raw["format"] != FORMAT:
                return Remembered()
            rows = {str(name): (int(a), int(b)) for name, (a, b) in raw["rows"].items()}
            (first, second), (mine, theirs) = map(str, raw["tokens"]), map(str, raw["sent"])
            found = Remembered((first, second), Met(rows, dict(raw["documents"])), (mine, theirs))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Remembered()
        if self._turned:
            return Remembered((second, first), found.met.turned(), (theirs, mine))
        return found

    def _path(self, pair: tuple[str, str]) -> str:
        return f"{self._folder}/{SessionKey(*pair).sid}.json"
