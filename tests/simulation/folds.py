"""Logs of one session for tests: builders of entries, a log that is applied record by record, and what a fold says."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

from dreamlake.catalog.checkpoint import Checkpoint, dump
from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import Record
from dreamlake.errors import LakeError
from dreamlake.model import SessionKey
from dreamlake.ports import Owner

KEY = SessionKey("w", "s")
OWNER = Owner("host", "boot", 1, "1")


def digest_of(version_id: str) -> str:
    return hashlib.sha256(version_id.encode()).hexdigest()


def put(path: str, version_id: str, **fields: Any) -> dict[str, Any]:
    digest = digest_of(version_id)
    return {"op": "put", "id": version_id, "path": path, "digest": digest, "size": 1, "type": "t/t", **fields}


def move(version_id: str, to: str) -> dict[str, Any]:
    return {"op": "move", "id": version_id, "to": to}


def delete(version_id: str) -> dict[str, Any]:
    return {"op": "del", "id": version_id}


def undelete(version_id: str, *ids: str) -> dict[str, Any]:
    return {"op": "undel", "id": version_id, "ids": list(ids)}


def alias(path: str, name: str, version_id: str | None) -> dict[str, Any]:
    return {"op": "alias", "path": path, "name": name, "id": version_id}


def trim(*ids: str) -> dict[str, Any]:
    return {"op": "trim", "ids": list(ids)}


class Log:
    """Records one after the other; ``at`` counts minutes."""

    def __init__(self, *records: list[dict[str, Any]]) -> None:
        self.fold = Fold(KEY)
        for entries in records:
            self.must(*entries)

    def __call__(self, *entries: dict[str, Any]) -> list[Any]:
        n = self.fold.n + 1
        made = Record(f"t{n}", OWNER, KEY, f"2026-01-01T00:{n:02d}:00.000000Z", (), entries)
        return self.fold.apply(n, copy.deepcopy(made))

    def must(self, *entries: dict[str, Any]) -> list[Any]:
        outcomes = self(*entries)
        assert not [o for o in outcomes if isinstance(o, LakeError)], outcomes
        return outcomes

    def rebase(self) -> Log:
        """The same state, held by a checkpoint instead of in memory."""
        self.fold = Fold(KEY, Checkpoint(KEY, None, dump(self.fold)))
        return self

    def paths(self) -> dict[str, str]:
        return {v.key: v.id for v in self.fold.live()}


class RebasedLog(Log):
    """Before each record its state goes into a checkpoint, so that every entry meets it there."""

    def __call__(self, *entries: dict[str, Any]) -> list[Any]:
        self.rebase()
        return super().__call__(*entries)


def state(fold: Fold) -> Any:
    """Everything that a fold says, in a comparable form."""
    files = {f.file_id: (f.key, f.primary, f.aliases, f.versions) for f in fold.files() if f.versions}
    keys = {f[0] for f in files.values()}
    owners = {key: owner.file_id for key in keys if (owner := fold.file_at(key)) is not None}
    folders = {k[:i] for k in keys for i in range(1, len(k)) if k[i] == "/"} | keys
    versions = sorted(fold.versions())
    by_id = {v.id: (f.file_id, f.key, f.versions) if (f := fold.file_with(v.id)) else None for v in versions}
    kept = sorted(fold.kept(), key=lambda k: k.id)
    info = fold.info._replace(tags=list(fold.info.tags))
    head = (fold.n, fold.token, fold.seq, info)
    newest = fold.newest(0, ""), fold.newest(1, "a")
    return (*head, files, owners, fold.live(), versions, by_id, kept, newest, {f: fold.is_folder(f) for f in folders})
