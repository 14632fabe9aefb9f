"""How far a verification has come, in a file of the user's choice, so that a crash costs little. A hint only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from dreamlake import values
from dreamlake.errors import InvalidInput
from dreamlake.operations.context import Store
from dreamlake.operations.findings import Problem, Verification

FORMAT = 1


class Saved:
    """Shards of keys that an earlier run with the same file has finished, and what it found in them."""

    def __init__(self, store: Store, file: str | None, report: Verification) -> None:
        self._fs, self._ids = store.ports.fs, store.ports.new_id
        self._file = os.path.abspath(file) if file is not None else None
        self._report = report
        head = {"format": FORMAT, "lake": store.where, "deep": report.deep, "shard": list(report.shard)}
        self._state: dict[str, Any] = {**head, "hashed": 0, "hashedBytes": 0, "done": [], "problems": []}
        self._earlier: list[list[Any]] = []
        if self._file is not None:
            self._load(head)
        self._had = frozenset(self._state["done"])

    def has(self, shard: str) -> bool:
        """True for a shard that an earlier run has finished."""
        return shard in self._had

    def add(self, shard: str, problems: list[Problem]) -> None:
        """Remember a finished shard."""
        if self._file is None:
            return
        self._state["done"].append(shard)
        self._state["problems"] += [list(problem) for problem in problems]
        self._state["hashed"], self._state["hashedBytes"] = self._report.hashed, self._report.hashed_bytes
        scratch = f"{self._file}.{self._ids()}"
        try:
            self._fs.write(scratch, values.encode(self._state))
            self._fs.rename(scratch, self._file)
        except FileNotFoundError:
            raise InvalidInput(f"cannot remember progress in {self._file}: no such folder", path=self._file) from None

    def problems(self) -> Iterator[Problem]:
        """What the earlier run found."""
        yield from (Problem(*row) for row in self._earlier)

    def done(self) -> None:
        """All shards are finished: the next run starts afresh."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.unlink(self._file)

    def _load(self, head: dict[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            state = values.decode(self._fs.read(str(self._file)))
            if all(state[name] == value for name, value in head.items()):
                self._report.hashed += int(state["hashed"])
                self._report.hashed_bytes += int(state["hashedBytes"])
                self._earlier = [list(row) for row in state["problems"]]
                self._state = dict(state)
