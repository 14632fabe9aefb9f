"""Any sequence of uploads, deletions, moves, local edits and materialize runs: the disk is what a plain model says.

The model knows for every path on disk whose it is: ours as placed, ours but edited, or the user's own. Materialize may
touch only what it placed and nobody touched since.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dreamlake import Session
from dreamlake.errors import LakeError
from dreamlake.folder_store import FORMAT
from dreamlake.lake import open_lake
from dreamlake.operations.materialize import Materialized
from dreamlake.ports import OsFs

KEYS = ["/a", "/A", "/d/x", "/d"]
CONTENTS = [b"", b"one", b"two"]
LINKS = ["auto", "copy", "hardlink", "symlink"]

key = st.sampled_from(KEYS)
content = st.sampled_from(CONTENTS)


def bare_store(root: Path) -> None:
    """An empty lake without the 256 folders for blobs, which are made when they are missing: examples start quicker."""
    for name in ("tmp", "pending", "blobs", "sessions", "quarantine", "cache", "placed"):
        (root / ".dreamlake" / name).mkdir(parents=True)
    head = {"format": FORMAT, "store_id": "0" * 32, "created_at": "2026-01-01T00:00:00.000000Z"}
    (root / ".dreamlake" / "store.json").write_text(json.dumps(head))


def _nothing(fs: OsFs, path: str) -> None:
    pass


class MaterializeMachine(RuleBasedStateMachine):
    """``live``: the tree in the lake. ``ours``: path -> content as placed and untouched; ``others``: all other files.

    ``memory``: what the memory knows was placed. A file with that content is nobody's edit, whoever wrote it.
    """

    @initialize()
    def start(self) -> None:
        self.quick = mock.patch.multiple(
            OsFs, fsync=_nothing, fsync_dir=_nothing, sync=_nothing
        )  # durability is not at stake
        self.quick.start()
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        bare_store(self.root)
        self.session = Session("s", "w", local_path=self.root).open()
        self.disk = self.root / "w" / "s" / "files"
        self.live: dict[str, bytes] = {}
        self.ours: dict[str, bytes] = {}
        self.others: dict[str, bytes] = {}
        self.memory: dict[str, bytes] = {}

    # ---- the lake ------------------------------------------------------------------------------------------------

    @rule(key=key, data=content)
    def upload(self, key: str, data: bytes) -> None:
        folder, _, name = key.rpartition("/")
        try:
            self.session.files.upload(data, filename=name, path=folder or "/")
        except LakeError:  # a file where a folder is, or the other way round
            assert any(k.startswith(key + "/") or key.startswith(k + "/") for k in self.live)
            return
        self.live[key] = data

    @rule(number=st.integers(0, 9), data=content)
    def upload_a_new_version(self, number: int, data: bytes) -> None:
        if self.live:
            self.upload(sorted(self.live)[number % len(self.live)], data)

    @rule(key=key)
    def delete(self, key: str) -> None:
        if key in self.live:
            self.session.files.delete(key)
            del self.live[key]

    @rule(old=key, new=key)
    def move(self, old: str, new: str) -> None:
        if old not in self.live or new in self.live or old == new:
            return
        try:
            self.session.files.move(old, new)
        except LakeError:
            return
        if any(k.startswith(new + "/") for k in self.live):  # it was a folder: the file went inside
            new = f"{new}/{old.rpartition('/')[2]}"
        self.live[new] = self.live.pop(old)

    def is_no_edit(self, path: str, data: bytes) -> bool:
        """Content that was placed there; with the memory lost, any version of that file."""
        if path in self.memory:
            return data in (self.memory[path], self.live.get(path))
        digests = {record["checksum"] for record in self.session.files.history(path)} if path in self.live else set()
        return hashlib.sha256(data).hexdigest() in digests

    # ---- the user's own hands ------------------------------------------------------------------------------------

    @rule(key=key, data=st.sampled_from([b"edited", b"ONE", b"two"]))
    def edit(self, key: str, data: bytes) -> None:
        """Write a file; through a link it would be the stored copy, so a link is replaced, as editors do."""
        path = self.disk / key[1:]
        if path.is_dir() or any(p.is_file() for p in path.parents if p != self.root):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        self.ours.pop(key, None)
        self.others[key] = data

    @rule(number=st.integers(0, 9), data=st.sampled_from([b"edited", b"ONE", b"two", b""]))
    def edit_what_is_there(self, number: int, data: bytes) -> None:
        there = sorted(self.ours)
        if there:
            self.edit(there[number % len(there)], data)

    @rule(key=key)
    def remove_by_hand(self, key: str) -> None:
        path = self.disk / key[1:]
        if path.is_file():
            path.unlink()
            self.ours.pop(key, None)
            self.others.pop(key, None)

    @rule(key=key)
    def touch(self, key: str) -> None:
        path = self.disk / key[1:]
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            os.utime(path)

    @rule()
    def lose_the_memory(self) -> None:
        for path in (self.root / ".dreamlake" / "placed").iterdir():
            path.unlink()
        self.memory.clear()

    # ---- materialize ---------------------------------------------------------------------------------------------

    @rule(link=st.sampled_from(LINKS), delete=st.booleans(), force=st.booleans())
    def materialize(self, link: str, delete: bool, force: bool) -> None:
        self.check_plan(delete, force, link)
        before, inodes = self.on_disk(), self.inodes()
        result = open_lake(self.root).materialize("w/s", link=link, delete=delete, force=force)
        assert result.missing == []
        conflicts = {p.key for p in result.conflicts}
        after = self.on_disk()
        for path, data in before.items():
            gone_or_other = after.get(path) != data
            if path in self.others and gone_or_other:
                replaced = (
                    path in after and after[path] == self.live.get(path) and (force or self.is_no_edit(path, data))
                )
                removed = path not in after and path not in self.live and delete and self.memory.get(path) == data
                assert replaced or removed, f"{path} of the user was touched"
            if path in self.ours and gone_or_other:
                assert after.get(path) == self.live.get(path), path
                assert path in after or delete, path
        for path, data in self.live.items():
            assert after.get(path) == data or path in conflicts, f"{path} is neither right nor reported"
        for path in conflicts:
            assert after.get(path) == before.get(path), f"{path} was reported and yet changed"
        obsolete = {path for path in self.memory.keys() & self.ours.keys() if path not in self.live}
        assert (delete and not obsolete & after.keys()) or (not delete and obsolete <= after.keys())
        self.learn(result, before, after, delete)
        again = open_lake(self.root).materialize("w/s", link=link, delete=delete, force=force)
        assert (again.placed, again.removed) == (0, 0)
        assert self.on_disk() == after
        assert {p.key for p in again.conflicts} == conflicts
        assert inodes.keys() == before.keys()

    def check_plan(self, delete: bool, force: bool, link: str) -> None:
        from dreamlake.operations.materialize import Options

        before = self.on_disk()
        lake = open_lake(self.root)
        todo = lake.plan_materialize("w/s", Options(link=link, delete=delete, force=force), extras=True)
        assert self.on_disk() == before
        if todo.in_order:
            assert before == self.live

    def learn(self, result: Materialized, before: dict[str, bytes], after: dict[str, bytes], delete: bool) -> None:
        """What is ours now: everything of the tree that is right; the rest stays what it was."""
        for path in list(before):
            if path not in after:
                assert path in self.ours or path in self.others
                self.ours.pop(path, None)
                self.others.pop(path, None)
                self.memory.pop(path, None)
        for path, data in self.live.items():
            if after.get(path) == data:
                self.others.pop(path, None)
                self.ours[path] = data
                self.memory[path] = data

    # ---- looking -------------------------------------------------------------------------------------------------

    def on_disk(self) -> dict[str, bytes]:
        found = {}
        for here, _, names in os.walk(self.disk):
            for name in names:
                path = Path(here) / name
                found["/" + path.relative_to(self.disk).as_posix()] = path.read_bytes()
        return found

    def inodes(self) -> dict[str, int]:
        return {path: os.lstat(self.disk / path[1:]).st_ino for path in self.on_disk()}

    @invariant()
    def the_model_knows_every_file(self) -> None:
        assert self.on_disk() == self.ours | self.others
        assert not self.ours.keys() & self.others.keys()

    @invariant()
    def nothing_is_left_lying_about(self) -> None:
        assert not [*self.root.glob(".dreamlake-*"), *(self.root / "w").rglob(".dreamlake-*")]
        assert list((self.root / ".dreamlake" / "pending").iterdir()) == []

    @invariant()
    def the_lake_is_whole(self) -> None:
        for path, data in self.live.items():
            assert self.session.files.read_bytes(path) == data

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.session.close()
            self.quick.stop()
            shutil.rmtree(self.root)


MaterializeMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMaterialize = MaterializeMachine.TestCase
