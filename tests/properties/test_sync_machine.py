"""Three lakes, used and synchronised in any order, cut off at any call, with collections in between.

Two are folders, one is in memory with a namespace. After every sync in both directions the two say the same, down to
every byte; what was acknowledged in any of them is never missing afterwards; at the end all are whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sync_support import memory_side, side, told

from dreamlake.errors import LakeError
from dreamlake.files import Files
from dreamlake.lake import open_lake
from dreamlake.logs import Logs
from dreamlake.operations.collect import collect
from dreamlake.operations.commit import commit
from dreamlake.operations.sync import Side, sync
from dreamlake.operations.verify import verify
from dreamlake.parameters import Parameters
from dreamlake.ports import OsFs, Ports, iso
from dreamlake.tracks import Tracks

who = st.integers(0, 2)
path = st.sampled_from(["/a", "/b", "/a/x", "/w.npy"])
small = st.binary(max_size=3)
_WEIGHTS = np.random.default_rng(0).standard_normal(270_000).astype(np.float32)


class PowerOff(BaseException):
    """The process is gone."""


class CutFs(OsFs):
    """Fails at the n-th change from now on, and ever after, as a process that was killed; never waits for a disk."""

    left: int | None = None
    CHANGES = frozenset("write append rename rename_new link unlink make_dir create".split())  # noqa: SIM905

    def __getattribute__(self, name: str) -> Any:
        if name in CutFs.CHANGES:
            self._step()
        return super().__getattribute__(name)

    def _step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise PowerOff

    def fsync(self, path: str) -> None:
        os.stat(path)

    fsync_dir = sync = fsync


class Machine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="dreamlake-sync-", dir=memory))
        self.fs = CutFs()
        self.memory = memory_side("team", "team")
        self.acknowledged: dict[str, bytes] = {}  # id of a version -> what was uploaded
        self.let_go: set[str] = set()
        for number in range(3):
            commit(self.side(number).store, self.key(number), [{"op": "session", "at": iso(Ports().now())}])

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                self.fs.left = None
                for a, b in ((0, 1), (1, 2), (0, 1), (0, 2), (1, 2)):
                    self.sync_both(a, b)
                assert told(self.side(0)) == told(self.side(1)) == told(self.side(2))
                for number in range(3):
                    report = verify(self.side(number).store, deep=True)
                    assert not [f for f in report.findings if f.severity == "damage"], report.findings
            finally:
                shutil.rmtree(self.root)

    def side(self, number: int) -> Side:
        """As a new process would open it."""
        if number == 2:
            return self.memory
        return side(open_lake(self.root / str(number), create=True, ports=Ports(fs=self.fs)))

    def key(self, number: int) -> Any:
        return self.side(number).store.session("w", "s")

    def files(self, number: int) -> Files:
        return Files(self.side(number).store, self.key(number), lambda write: None)

    # ---- use -----------------------------------------------------------------------------------------------------

    @rule(who=who, path=path, data=small)
    def upload(self, who: int, path: str, data: bytes) -> None:
        self._upload(who, path, data)

    @rule(who=who, step=st.integers(0, 5))
    def upload_checkpoint(self, who: int, step: int) -> None:
        import io

        buffer = io.BytesIO()
        np.save(buffer, _WEIGHTS + np.float32(step * 1e-4))
        self._upload(who, "/w.npy", buffer.getvalue())

    def _upload(self, who: int, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        try:
            record = self.files(who).upload(data, filename=name, path=folder or "/", tags=["t"] if data else [])
        except LakeError:
            return
        self.acknowledged[record["id"]] = data

    @rule(who=who, path=path, action=st.sampled_from(["delete", "restore", "tags", "alias", "move"]), to=path)
    def change(self, who: int, path: str, action: str, to: str) -> None:
        files = self.files(who)
        try:
            if action == "delete":
                files.delete(path)
            elif action == "restore":
                files.restore(path)
            elif action == "tags":
                files.update(path, tags=["later"])
            elif action == "alias":
                files.alias(path, "best")
            else:
                files.move(path, to)
        except LakeError:
            pass

    @rule(who=who, value=st.integers(0, 3))
    def note(self, who: int, value: int) -> None:
        lake = self.side(who)
        journal = lake.place.journal(self.key(who))
        ports = Ports()
        Parameters(journal, lambda write: None, ports).set({f"p{value}": value})
        Logs(journal, lambda write: None, ports).log(f"line {value}")
        Tracks(journal, lambda write: None, ports).track("x").append(value=value)
        journal.close()

    # ---- sync ----------------------------------------------------------------------------------------------------

    @rule(a=who, b=who)
    def push(self, a: int, b: int) -> None:
        if a != b:
            done = sync(self.side(a), self.side(b), pull=False)
            assert not done.failed, done.failed

    @rule(a=who, b=who)
    def sync_both(self, a: int, b: int) -> None:
        if a == b:
            return
        done = sync(self.side(a), self.side(b))
        assert not done.failed, done.failed
        assert told(self.side(a)) == told(self.side(b))
        again = sync(self.side(b), self.side(a))
        assert not again.sent.changed and not again.received.changed, again.record()

    @rule(a=who, b=who, calls=st.integers(0, 60))
    def cut_off(self, a: int, b: int, calls: int) -> None:
        if a == b:
            return
        first, second = self.side(a), self.side(b)
        self.fs.left = calls
        try:
            sync(first, second)
        except PowerOff:
            pass
        finally:
            self.fs.left = None

    @rule(who=who, keep=st.booleans())
    def collect(self, who: int, keep: bool) -> None:
        store = self.side(who).store
        before = {v.id for v in store.catalog.view(self.key(who)).versions()}
        collect(store, now=True, keep_deleted_s=0.0 if not keep else 1e6, trash_s=0.0, force=True)
        self.let_go |= before - {v.id for v in store.catalog.view(self.key(who)).versions()}

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        """Each upload is somewhere, until a collection let it go after a deletion."""
        if not hasattr(self, "root"):
            return
        kept = {v.id for n in range(3) for v in self.side(n).store.catalog.view(self.key(n)).versions()}
        assert set(self.acknowledged) <= kept | self.let_go


TestSync = Machine.TestCase
TestSync.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_version_let_go_here_and_by_a_merge_there() -> None:
    """Both sides know the same end of a version; only the log that made it knows its guard. Found by the machine."""
    machine = Machine()
    machine.start()
    machine.upload(who=2, path="/a", data=b"")
    machine.change(who=2, path="/a", action="delete", to="/a")
    machine.push(a=2, b=0)
    machine.collect(who=2, keep=False)
    machine.teardown()
