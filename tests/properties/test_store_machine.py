"""The store against a plain model: two clients of one lake, whatever they do; crashes at any call, power cuts.

The lake lies on a simulated disk with small directories and frequent checkpoints. One process runs at a time (races are
the business of ``tests/simulation``). After every step each client, and one that has just come, sees the model.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from simulation.scheduler import Killed
from simulation.simfs import SimFs

from dreamlake.blobs.folder import FolderBlobs
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.content import reading
from dreamlake.errors import Conflict, LakeError, NotFound
from dreamlake.model import SessionKey, ancestors
from dreamlake.operations import tree
from dreamlake.operations.collect import collect
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.ports import Owner, Ports

ROOT, KEY = "/lake", SessionKey("w", "s")
START = datetime(2026, 1, 1, tzinfo=timezone.utc)

clients = st.integers(0, 1)
paths = st.sampled_from(["/a", "/b", "/c/x", "/c/y", "/c/x/deep"])
contents = st.sampled_from([b"", b"one", b"two", b"three"])
tags = st.sampled_from([[], ["t"], ["t", "u"]])
names = st.sampled_from(["best", "last"])
calls = st.integers(1, 45)


@dataclass
class ModelFile:
    """What the model keeps of one file: versions as [content, tags, deleted], and alias -> index of a version."""

    path: str
    versions: list[list[Any]] = field(default_factory=list)
    aliases: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return bool(self.versions) and not self.versions[-1][2]


class Model:
    """The tree as a dict of files; ``owner`` says who has a path, deleted or not."""

    def __init__(self) -> None:
        self.owner: dict[str, ModelFile] = {}

    def live(self) -> dict[str, tuple[bytes, list[str]]]:
        return {path: (f.versions[-1][0], f.versions[-1][1]) for path, f in self.owner.items() if f.live}

    def is_folder(self, path: str) -> bool:
        return any(path in ancestors(other) for other in self.live())

    def blocked(self, path: str) -> bool:
        return self.is_folder(path) or any(folder in self.live() for folder in ancestors(path))

    def put(self, path: str, content: bytes, tags: list[str]) -> None:
        self.owner.setdefault(path, ModelFile(path)).versions.append([content, list(tags), None])

    def target(self, source: str, target: str) -> str:
        return f"{target}/{source.rpartition('/')[2]}" if self.is_folder(target) else target

    def collect(self) -> None:
        for path, file in list(self.owner.items()):
            file.versions = [v for v in file.versions if v[2] is None]
            file.aliases = {name: v for name, v in file.aliases.items() if v[2] is None}
            if not file.versions:
                del self.owner[path]


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.fs = SimFs()
        for name in ("tmp", "pending", "blobs", "sessions", "quarantine"):
            self.fs.make_dir(f"{ROOT}/{name}")
        for content in (b"", b"one", b"two", b"three"):
            self.fs.make_dir(f"{ROOT}/blobs/{hashlib.sha256(content).hexdigest()[:2]}")
        self.fs.sync("/")
        self.ids, self.pids, self.minutes = itertools.count(1), itertools.count(1), itertools.count()
        self.model = Model()
        self.stores = [self.open(), self.open()]
        commit(self.stores[0], KEY, [{"op": "session"}])

    def open(self) -> Store:
        me = Owner("host", "boot", next(self.pids), "1")
        ports = Ports(
            fs=self.fs,
            now=lambda: START + timedelta(minutes=next(self.minutes)),
            new_id=lambda: f"{next(self.ids):032x}",
            owner=lambda: me,
            is_dead=lambda owner: True,
            is_local=lambda path: True,
        )
        catalog = FolderCatalog(ports, ROOT, fanout=3, checkpoint_every=20)
        return Store(ports=ports, catalog=catalog, blobs=FolderBlobs(ports, ROOT))

    def expect(self, error: type[LakeError] | None, work: Any) -> bool:
        """True if it worked, as it should; False if it was refused, as it should."""
        try:
            work()
        except LakeError as refused:
            assert error is not None and isinstance(refused, error), refused
            return False
        assert error is None, f"{error} was expected"
        return True

    # ---- what users do -------------------------------------------------------------------------------------------

    @rule(client=clients, path=paths, content=contents, tags=tags)
    def upload(self, client: int, path: str, content: bytes, tags: list[str]) -> None:
        error = Conflict if self.model.blocked(path) else None
        if self.expect(error, lambda: self._upload(self.stores[client], path, content, tags)):
            self.model.put(path, content, tags)

    def _upload(self, store: Store, path: str, content: bytes, tags: list[str]) -> None:
        upload_file(store, KEY, content, path, Attributes(tags=list(tags)))

    @rule(client=clients, path=paths)
    def delete(self, client: int, path: str) -> None:
        store, file = self.stores[client], self.model.owner.get(path)
        live = file is not None and file.live

        def work() -> None:
            tree.delete(store, KEY, [tree.resolve(store.catalog.view(KEY), path)])

        if self.expect(None if live else NotFound, work):
            assert file is not None
            batch = object()
            for version in file.versions:
                version[2] = version[2] or batch

    @rule(client=clients, path=paths)
    def restore(self, client: int, path: str) -> None:
        file = self.model.owner.get(path)
        error = NotFound if file is None else Conflict if file.live or self.model.blocked(path) else None
        if self.expect(error, lambda: tree.restore(self.stores[client], KEY, path)):
            assert file is not None
            batch = file.versions[-1][2]
            for version in file.versions:
                version[2] = None if version[2] is batch else version[2]

    @rule(client=clients, source=paths, to=paths)
    def move(self, client: int, source: str, to: str) -> None:
        file = self.model.owner.get(source)
        if file is None or not file.live:
            return
        goal = self.model.target(source, to)
        taken = goal != source and (
            goal in self.model.live() or goal.startswith(source + "/") or self.model.blocked(goal)
        )
        if self.expect(Conflict if taken else None, lambda: tree.move(self.stores[client], KEY, source, to)):
            del self.model.owner[source]
            file.path = goal
            self.model.owner[goal] = file

    @rule(client=clients, source=paths, to=paths)
    def copy(self, client: int, source: str, to: str) -> None:
        file = self.model.owner.get(source)
        if file is None or not file.live:
            return
        goal = self.model.target(source, to)
        error = Conflict if self.model.blocked(goal) else None
        if self.expect(error, lambda: tree.copy(self.stores[client], KEY, source, to)):
            self.model.put(goal, file.versions[-1][0], file.versions[-1][1])

    @rule(client=clients, path=paths, tags=tags)
    def update(self, client: int, path: str, tags: list[str]) -> None:
        store, file = self.stores[client], self.model.owner.get(path)
        if file is not None and file.live:
            tree.update(store, KEY, tree.resolve(store.catalog.view(KEY), path), {"tags": list(tags)})
            file.versions[-1][1] = list(tags)

    @rule(client=clients, path=paths, name=names)
    def alias(self, client: int, path: str, name: str) -> None:
        file = self.model.owner.get(path)
        error = None if file is not None and file.live else NotFound
        if self.expect(error, lambda: tree.alias(self.stores[client], KEY, path, name)):
            assert file is not None
            file.aliases[name] = file.versions[-1]

    # ---- what happens to them ------------------------------------------------------------------------------------

    @rule(client=clients)
    def gc(self, client: int) -> None:
        """Everything deleted goes at once, and exactly what is left is stored.

        A torn claim hides those of other dead processes from the run that revokes it: they go with the next one.
        """
        while collect(self.stores[client], now=True, keep_deleted_s=0, force=True, claim_age_s=-1).revoked:
            pass
        self.model.collect()
        kept = {hashlib.sha256(v[0]).hexdigest() for f in self.model.owner.values() for v in f.versions}
        assert {copy.key for copy in self.stores[client].blobs.copies()} == kept

    @rule(client=clients)
    def reopen(self, client: int) -> None:
        self.stores[client] = self.open()

    @rule(lucky=st.booleans())
    def power_cut(self, lucky: bool) -> None:
        """As little as possible is left, or as much; what was acknowledged is there either way."""
        chosen = {} if lucky else dict.fromkeys(self.fs.dirs, 0)
        self.fs = self.fs.after_power_cut(chosen, lambda data: bytes(len(data)))
        self.stores = [self.open(), self.open()]

    @rule(client=clients, path=paths, content=contents, call=calls)
    def crash(self, client: int, path: str, content: bytes, call: int) -> None:
        """An upload is killed before its n-th call: it happened, or it did not.

        Nobody was told, so a power cut may still take it back until somebody makes durable what he has seen.
        """
        made = itertools.count(1)

        def hook(name: str, where: str, other: str) -> None:
            if next(made) >= call:
                raise Killed

        blocked = self.model.blocked(path)
        self.fs.hook = hook
        try:
            self.expect(Conflict if blocked else None, lambda: self._upload(self.stores[client], path, content, ["k"]))
        except Killed:
            pass
        finally:
            self.fs.hook = lambda name, where, other: None
            self.stores[client] = self.open()
        file = self.stores[client].catalog.view(KEY).file_at(path)
        self.stores[client].catalog.barrier()
        known = self.model.owner.get(path)
        if file is not None and len(file.versions) > (len(known.versions) if known else 0):
            assert not blocked
            self.model.put(path, content, ["k"])

    # ---- what everybody sees -------------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_the_model(self) -> None:
        if not hasattr(self, "stores"):
            return
        for store in (*self.stores, self.open()):
            view = store.catalog.view(KEY)
            live = {}
            for version in view.live():
                live[version.key] = (reading.read_all(store.blobs, version.digest, version.size_bytes), version.tags)
            assert live == self.model.live()
            for path, file in self.model.owner.items():
                found = view.file_at(path)
                assert found is not None
                digests = [hashlib.sha256(v[0]).hexdigest() for v in file.versions]
                assert [v.digest for v in found.versions] == digests
                assert [bool(v.deleted_at) for v in found.versions] == [v[2] is not None for v in file.versions]
                places = {v.id: i for i, v in enumerate(found.versions)}
                told = {name: places[version_id] for name, version_id in found.aliases.items()}
                where = {id(v): i for i, v in enumerate(file.versions)}
                assert told == {name: where[id(v)] for name, v in file.aliases.items()}
            assert view.is_folder("/c") == self.model.is_folder("/c")


StoreMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = StoreMachine.TestCase
