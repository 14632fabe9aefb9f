"""The oracle: reads the raw simulated disk, with none of the store's code, and says which invariant is broken.

After every step it judges what is there, and what would be there after a power cut at that moment: every combination
of states that the directories may fall back to. A record and the blobs it needs lie in different directories, and a
broken invariant needs one record and one blob only; so all pairs of states of their two directories are looked at,
which covers every combination of all directories.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from simulation.simfs import Dir, File, SimFs


class Facts(NamedTuple):
    """What a log says: the digests that must be readable, the entries in it, and the live tree."""

    needed: frozenset[str]
    entries: frozenset[tuple[str, str]]
    tree: dict[str, str]


class Judge:
    """Judges one store below ``root``.

    Attributes:
        acked: what was acknowledged: (session, operation, id).
        healing: digests whose stored bytes were damaged on purpose, and not uploaded again yet; ``damage`` those bytes.
        revoked: tokens of claims that somebody removed before they were committed.
    """

    def __init__(self, fs: SimFs, root: str, *, power: bool = True) -> None:
        self.fs, self.root, self.power = fs, root, power
        self.acked: set[tuple[str, str, str]] = set()  # (sid, operation, id)
        self.healing: set[str] = set()
        self.damage: bytes | None = None
        self.revoked: set[str] = set()
        self._facts: dict[tuple[int, ...], Facts] = {}
        self._judged: dict[str, tuple[int, set[str], int]] = {}  # session -> when, digests it needs, shortest log
        self._copies_judged = -1
        self._told = (-1, 0, 0)

    # ---- what the test tells ------------------------------------------------------------------------------------

    def acknowledge(
        self, sid: str, operation: str, ids: Iterable[str], *, after: Iterable[tuple[str, str, str]]
    ) -> None:
        """An operation has returned. ``after``: what had been acknowledged when it began (I4, in order)."""
        made = {(sid, operation, version_id) for version_id in ids}
        assert made
        position = self._positions(sid)
        for earlier in after:
            if earlier[0] == sid:
                assert all(position[earlier[1:]] < position[new[1:]] for new in made), f"I4: {made} overtook {earlier}"
        self.acked |= made
        self._judged.pop(sid, None)

    def _positions(self, sid: str) -> dict[tuple[str, str], int]:
        return {
            (entry["op"], entry.get("id", "")): number
            for number, file in sorted(self.log(sid).items())
            for entry in _record(file)["entries"]
        }

    # ---- the check after every step -------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that changed since the last call, in all the states that it may be left in."""
        told = (self.fs.version, len(self.acked), len(self.healing))
        if told == self._told:
            return
        self._told = told
        shards, sids = self._dir("blobs"), self._sessions()
        stamp = max([home.stamp for home in shards.names.values() if isinstance(home, Dir)])
        if stamp != self._copies_judged:
            self._check_copies()
        for sid in sids:
            changed = self._changed(sid)
            known = self._judged.get(sid)
            if known is None or known[0] != changed:
                known = self._judged[sid] = (changed, *self._check_session(sid))
                self._check_blobs(sid, known[1])
            elif stamp != self._copies_judged:
                self._check_blobs(sid, known[1])
        self._copies_judged = stamp
        assert {sid for sid, _, _ in self.acked} <= set(sids)

    def _changed(self, sid: str) -> int:
        """When the session's directories last changed."""
        start = f"{self.root}/sessions/{sid}"
        return max(
            home.stamp for path, home in self.fs.dirs.items() if path.startswith(start) or path.endswith("sessions")
        )

    def _check_session(self, sid: str) -> tuple[set[str], int]:
        """All logs that there are or may be after a power cut: what they need, and the length of the shortest."""
        now = self.log(sid)
        self._check_log(sid, now, "")
        needed, shortest = set(self._read(now).needed), len(now)
        for log in self.possible_logs(sid) if self.power else ():
            self._check_log(sid, log, " after a power cut")
            torn = [n for n, file in log.items() if file.torn]
            assert not torn, f"I4 after a power cut: record {torn[0]} of {sid} is torn"
            needed |= self._read(log).needed
            shortest = min(shortest, len(log))
        for state in self._checkpoints(sid) if self.power else ():
            ahead = [name for name in state if _number(name) > shortest]
            assert not ahead, (
                f"I4 after a power cut: checkpoint {ahead[0]} of {sid} knows more than its log ({shortest})"
            )
        return needed - self.healing, shortest

    def _check_blobs(self, sid: str, needed: set[str]) -> None:
        now = self._read(self.log(sid)).needed
        for digest in needed - self.healing:
            if digest in now:
                self._check_blob(sid, digest, [self._shard(digest).names], "")
            if self.power:
                self._check_blob(sid, digest, self._shard(digest).history, " after a power cut")

    def _check_log(self, sid: str, log: dict[int, File], when: str) -> None:
        assert sorted(log) == list(range(1, len(log) + 1)), f"I4{when}: the log of {sid} has a gap: {sorted(log)}"
        facts = self._read(log)
        for acked_sid, operation, version_id in self.acked:
            assert acked_sid != sid or (operation, version_id) in facts.entries, (
                f"I4{when}: acknowledged {operation} of {version_id} is not in the log of {sid}"
            )

    def _check_blob(self, sid: str, digest: str, states: list[dict[str, File | Dir]], when: str) -> None:
        for state in states:
            copies = [state[digest]] if digest in state else [f for n, f in state.items() if n.startswith(digest + "~")]
            assert copies, f"I1{when}: {sid} refers to {digest[:8]}, which is gone"
            good = [c for c in copies if isinstance(c, File) and _whole(c, digest) and not (when and c.torn)]
            assert good, f"I1{when}: {sid} refers to {digest[:8]}, whose bytes are damaged"

    def _check_copies(self) -> None:
        for home in self._dir("blobs").names.values():
            if isinstance(home, Dir):
                for state in home.history if self.power else [home.names]:
                    for name, file in state.items():
                        digest = name.partition("~")[0]
                        if isinstance(file, File) and file.data != self.damage:
                            assert _whole(file, digest), f"I3: partial bytes are visible under {name[:8]}"
                            assert not (self.power and file.torn), f"I3: after a power cut {name[:8]} could be torn"

    # ---- reading the disk ------------------------------------------------------------------------------------------

    def _dir(self, path: str) -> Dir:
        return self.fs.dirs[f"{self.root}/{path}"]

    def _sessions(self) -> list[str]:
        return [sid for sid, home in self._dir("sessions").names.items() if isinstance(home, Dir)]

    def _shard(self, digest: str) -> Dir:
        return self._dir(f"blobs/{digest[-64:-62]}")

    def log(self, sid: str) -> dict[int, File]:
        """The records as they are now."""
        home = self._dir("sessions").names.get(sid)
        log = home.names.get("log") if isinstance(home, Dir) else None
        groups = log.names.values() if isinstance(log, Dir) else ()
        return {_number(n): f for group in groups if isinstance(group, Dir) for n, f in group.names.items() if _is(f)}

    def possible_logs(self, sid: str) -> Iterator[dict[int, File]]:
        """The records as every power cut at this moment could leave them."""
        seen = set()
        for home in _children(self._dir("sessions").history, sid):
            for log in _children(home.history, "log") if home else [None]:
                for groups in _unique(log.history) if log else [{}]:
                    histories = [_unique(g.history) for g in groups.values() if isinstance(g, Dir)]
                    for states in itertools.product(*histories):
                        files = {_number(n): f for state in states for n, f in state.items() if _is(f)}
                        key = tuple(sorted((n, f.number) for n, f in files.items()))
                        if key not in seen:
                            seen.add(key)
                            yield files

    def _checkpoints(self, sid: str) -> list[dict[str, File | Dir]]:
        home = self._dir("sessions").names[sid]
        folder = home.names.get("ckpt") if isinstance(home, Dir) else None
        if not isinstance(folder, Dir):
            return []
        return [{n: f for n, f in state.items() if _is(f) and not f.torn} for state in folder.history]

    def _read(self, log: dict[int, File]) -> Facts:
        key = tuple(log[n].number for n in sorted(log))
        facts = self._facts.get(key)
        if facts is None:
            facts = self._facts[key] = fold([_record(log[n]) for n in sorted(log)])
        return facts

    def tokens(self, sid: str) -> set[str]:
        """Of all claims that became records of a session."""
        return {_record(file)["tok"] for file in self.log(sid).values()}

    def stored(self) -> dict[str, File]:
        """Everything that lies under a key, condemned or live."""
        shards = [home for home in self._dir("blobs").names.values() if isinstance(home, Dir)]
        return {name: file for home in shards for name, file in home.names.items() if _is(file)}

    def tree(self, sid: str) -> dict[str, str]:
        """path -> digest of what is live in a session."""
        return self._read(self.log(sid)).tree

    def needed(self) -> set[str]:
        """Every digest that some session keeps."""
        return {digest for sid in self._sessions() for digest in self._read(self.log(sid)).needed}


def fold(records: list[dict[str, Any]]) -> Facts:
    """What the records add up to, by the letter of SPEC "Records" as far as the simulation uses it."""
    files: dict[str, dict[str, Any]] = {}  # file id -> path, versions [id, digest, deleted]
    owner: dict[str, str] = {}  # path -> file id
    entries: set[tuple[str, str]] = set()
    for record in records:
        entries |= {(entry["op"], entry.get("id", "")) for entry in record["entries"]}
        if all(_allowed(entry, files, owner) for entry in record["entries"]):
            for entry in record["entries"]:
                _apply(entry, files, owner)
    needed, tree = set(), {}
    for file in files.values():
        kept = [digest for _, digest, deleted in file["versions"] if not deleted]
        needed.update(kept)
        if file["versions"] and not file["versions"][-1][2]:
            tree[file["path"]] = kept[-1]
    return Facts(frozenset(needed), frozenset(entries), tree)


def _file_of(version_id: str, files: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    return next((f for f in files.values() if any(v[0] == version_id for v in f["versions"])), None)


def _is_live(file: dict[str, Any] | None) -> bool:
    return file is not None and bool(file["versions"]) and not file["versions"][-1][2]


def _allowed(entry: dict[str, Any], files: dict[str, dict[str, Any]], owner: dict[str, str]) -> bool:
    if entry["op"] in ("del", "set", "move"):
        file = _file_of(entry["id"], files)
        if file is None or not _is_live(file) or file["versions"][-1][0] != entry["id"]:
            return False
        taken = files.get(owner.get(entry.get("to", ""), ""))
        return entry["op"] != "move" or taken is file or not _is_live(taken)
    if entry["op"] == "undel":
        file = _file_of(entry["id"], files)
        if file is None or file["versions"][-1][0] != entry["id"] or _is_live(file):
            return False
        return not _is_live(files.get(owner.get(file["path"], "")))
    return True


def _apply(entry: dict[str, Any], files: dict[str, dict[str, Any]], owner: dict[str, str]) -> None:
    operation = entry["op"]
    if operation == "put":
        file = files.get(owner.get(entry["path"], ""))
        if file is None:
            file = files[entry["id"]] = {"path": entry["path"], "versions": []}
            owner[entry["path"]] = entry["id"]
        file["versions"].append([entry["id"], entry["digest"], False])
    elif operation == "trim":
        for file_id, file in list(files.items()):
            keep = [v for v in file["versions"] if v[0] not in entry["ids"] or (v is file["versions"][-1] and not v[2])]
            file["versions"] = keep
            if not keep:
                del files[file_id]
                if owner.get(file["path"]) == file_id:
                    del owner[file["path"]]
    elif operation in ("del", "undel", "move"):
        file = _file_of(entry["id"], files)
        assert file is not None
        file_id = next(i for i, f in files.items() if f is file)
        if operation == "del":
            file["versions"] = [[v[0], v[1], True] for v in file["versions"]]
        elif operation == "undel":
            back = {entry["id"], *(entry.get("ids") or ())}
            file["versions"] = [[v[0], v[1], v[2] and v[0] not in back] for v in file["versions"]]
            owner[file["path"]] = file_id
        else:
            if owner.get(file["path"]) == file_id:
                del owner[file["path"]]
            file["path"] = entry["to"]
            owner[entry["to"]] = file_id


def _record(file: File) -> dict[str, Any]:
    if file.parsed is None:
        body, _, tail = file.data.rpartition(b',"sum":"')
        assert tail == hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n', "I3: a torn record in a log"
        file.parsed = json.loads(file.data)
    assert isinstance(file.parsed, dict)
    return file.parsed


def _whole(file: File, digest: str) -> bool:
    if not isinstance(file.parsed, tuple) or file.parsed[0] is not file.data:
        file.parsed = (file.data, hashlib.sha256(file.data).hexdigest())
    return bool(file.parsed[1] == digest)


def _is(what: File | Dir) -> bool:
    return isinstance(what, File)


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def _unique(history: list[dict[str, File | Dir]]) -> list[dict[str, File | Dir]]:
    if len(history) == 1:
        return history
    return list({tuple(sorted((n, id(w)) for n, w in state.items())): state for state in history}.values())


def _children(history: list[dict[str, File | Dir]], name: str) -> list[Dir | None]:
    """The directories of that name which a power cut could leave; None if it could leave none."""
    found = {id(state.get(name)): state.get(name) for state in history}
    return [what if isinstance(what, Dir) else None for what in found.values()]
