"""The public API of files against a plain model: what a user would expect, written down as lists and dicts.

Two sessions, several ``Session`` objects on each, closed and opened again at any time; a catalog that writes a
checkpoint every few records, so that every answer also comes from a checkpoint and what followed it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes.remote import FakeServers
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import dreamlake.lake
from dreamlake import Session
from dreamlake.catalog import documents
from dreamlake.catalog.folder import FolderCatalog
from dreamlake.errors import Conflict, InvalidInput, NotFound

KEYS = ["/a", "/a/x", "/m/f", "/m/g", "/m/deep/h", "/m@v1", "/m/f@best", "/é:?"]
FOLDERS = ["/", "/a", "/m", "/m/deep", "/new", "/new/er"]
NAMES = ["one", "two"]
ALIASES = ["best", "last"]
LARGE = b"x" * 70_000
DATA = (st.binary(max_size=4) | st.sampled_from([b"same", b"large"])).map(lambda d: LARGE if d == b"large" else d)
TAGS = st.lists(st.sampled_from(["t", "u", "ü"]), unique=True, max_size=2)
METADATA = st.dictionaries(st.sampled_from(["loss", "k"]), st.sampled_from([0, 1, 0.5, "s", None, [1]]), max_size=2)
SESSIONS = st.sampled_from(["one", "one", "one", "two"])
WHO = st.integers(0, 1)


@dataclass
class Version:
    id: str
    number: int
    data: bytes
    tags: list[str]
    metadata: dict[str, Any]
    order: int
    deleted: int | None = None  # by which deletion


@dataclass
class File:
    key: str
    versions: list[Version] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.versions[-1].deleted is None

    @property
    def newest(self) -> Version:
        return self.versions[-1]


class Model:
    """One session."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.at: dict[str, File] = {}  # who owns a path, deleted or not
        self.order = 0

    def live(self, below: str = "/") -> list[File]:
        prefix = below.rstrip("/") + "/"
        found = [f for f in self.files if f.live and f.key.startswith(prefix)]
        return sorted(found, key=lambda f: f.newest.order)

    def is_live(self, key: str) -> bool:
        return key in self.at and self.at[key].live

    def is_folder(self, path: str) -> bool:
        return bool(self.live(path))

    def fits(self, key: str) -> bool:
        """Neither is the place a folder nor does it lie inside a file."""
        parts = key.split("/")
        return not self.is_folder(key) and not any(self.is_live("/".join(parts[:i])) for i in range(2, len(parts)))

    def put(self, key: str, record: dict[str, Any], data: bytes, tags: list[str], metadata: dict[str, Any]) -> None:
        file = self.at.get(key)
        if file is None:
            file = self.at[key] = File(key)
            self.files.append(file)
        self.order += 1
        number = file.newest.number + 1 if file.versions else 1
        assert record["version"] == number
        file.versions.append(Version(record["id"], number, data, tags, metadata, self.order))

    def owner(self, key: str, file: File) -> None:
        self.at[key] = file
        file.key = key


def split(key: str) -> tuple[str, str]:
    folder, _, name = key.rpartition("/")
    return folder or "/", name


class Machine(RuleBasedStateMachine):
    @initialize(every=st.sampled_from([3, 12, 10_000]), fanout=st.sampled_from([4, 1000]))
    def start(self, every: int, fanout: int) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="dreamlake-machine-", dir=memory))
        self.patch = pytest.MonkeyPatch()
        self.prepare(every, fanout)
        self.open: dict[tuple[str, int], Session] = {}
        self.models = {name: Model() for name in NAMES}
        self.deletions = 0
        for name in NAMES:
            self.files(name, 0)
        for key in ("/m/f", "/m/g", "/a"):  # something to work with
            for data in (b"1", b"2"):
                self.upload("one", 0, key, data, [], {"k": data.decode()}, "bytes")

    def teardown(self) -> None:
        if hasattr(self, "root"):
            for session in self.open.values():
                session.close()
            self.patch.undo()
            shutil.rmtree(self.root)

    def prepare(self, every: int, fanout: int) -> None:
        """Where the lake is."""
        catalog = partial(FolderCatalog, fanout=fanout, checkpoint_every=every)
        self.patch.setattr(dreamlake.lake, "FolderCatalog", catalog)
        self.place: dict[str, Any] = {"local_path": self.root / "lake"}

    def nothing_is_under_way(self) -> None:
        store = self.root / "lake/.dreamlake"
        assert os.listdir(store / "pending") == os.listdir(store / "tmp") == []

    def files(self, name: str, who: int) -> Any:
        if (name, who) not in self.open:
            self.open[name, who] = Session(name, "w", **self.place).open()
        return self.open[name, who].files()

    # ---- life ----------------------------------------------------------------------------------------------------

    @rule(name=SESSIONS, who=WHO)
    def reopen(self, name: str, who: int) -> None:
        if (name, who) in self.open:
            self.open.pop((name, who)).close()
        self.files(name, who)

    @rule(what=st.sampled_from(["ckpt", "cache", "session.json"]))
    def lose_what_is_only_a_cache(self, what: str) -> None:
        patterns = {"ckpt": "**/*.sqlite", "cache": "**/cache/*.json", "session.json": "lake/w/*/session.json"}
        for path in self.root.glob(patterns[what]):
            path.unlink()

    # ---- upload --------------------------------------------------------------------------------------------------

    @rule(
        name=SESSIONS, who=WHO, key=st.sampled_from(KEYS), data=DATA, tags=TAGS, metadata=METADATA,
        how=st.sampled_from(["bytes", "stream", "file", "renamed"]),
    )  # fmt: skip
    def upload(self, name: str, who: int, key: str, data: bytes, tags: list[str], metadata: Any, how: str) -> None:
        model, (folder, filename) = self.models[name], split(key)
        given: Any = {"bytes": data, "stream": io.BytesIO(data)}.get(how)
        options: dict[str, Any] = {"path": folder, "tags": tags, "metadata": metadata}
        if given is None:
            given = self.root / (filename if how == "file" else "source")
            given.write_bytes(data)
        if how != "file":
            options["filename"] = filename
        if not model.fits(key):
            with pytest.raises(Conflict):
                self.files(name, who).upload(given, **options)
            return
        record = self.files(name, who).upload(given, **options)
        assert (record["path"], record["filename"]) == (folder, filename)
        model.put(key, record, data, tags, metadata)

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), data=DATA, tags=TAGS)
    def upload_again(self, name: str, who: int, pick: int, data: bytes, tags: list[str]) -> None:
        file = self.pick(name, pick)
        if file is not None:
            self.upload(name, who, file.key, data, tags, {"k": 1}, "bytes")

    @rule(
        name=SESSIONS, who=WHO, folder=st.sampled_from(FOLDERS), tags=st.sampled_from([[], ["t"]]),
        tree=st.dictionaries(st.sampled_from(["f", "g", "deep/h", "x@y"]), DATA, min_size=1, max_size=4),
    )  # fmt: skip
    def upload_folder(self, name: str, who: int, folder: str, tags: list[str], tree: dict[str, bytes]) -> None:
        model, source = self.models[name], self.root / "tree"
        shutil.rmtree(source, ignore_errors=True)
        for relative, data in tree.items():
            (source / relative).parent.mkdir(parents=True, exist_ok=True)
            (source / relative).write_bytes(data)
        keys = {folder.rstrip("/") + "/" + relative: data for relative, data in sorted(tree.items())}
        if not all(model.fits(key) for key in keys):
            with pytest.raises(Conflict):
                self.files(name, who).upload(source, path=folder, tags=tags)
            return
        result = self.files(name, who).upload(source, path=folder, tags=tags)
        new = 0
        for (key, data), record in zip(keys.items(), result["files"], strict=True):
            if model.is_live(key):
                old = model.at[key].newest
                if (old.data, old.tags, old.metadata) == (data, tags, {}):
                    assert record["id"] == old.id
                    continue
            model.put(key, record, data, tags, {})
            new += 1
        assert (result["count"], result["uploaded"]) == (len(keys), new)

    # ---- update, delete, restore ---------------------------------------------------------------------------------

    def any(self, *, live: bool) -> bool:
        return any(file.live == live for model in self.models.values() for file in model.files)

    def pick(self, name: str, pick: int, *, live: bool = True) -> File | None:
        files = [f for f in self.models[name].files if f.live == live]
        return files[pick % len(files)] if files else None

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), tags=TAGS, metadata=METADATA, by_id=st.booleans())
    def update(self, name: str, who: int, pick: int, tags: list[str], metadata: Any, by_id: bool) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        record = self.files(name, who).update(file.newest.id if by_id else file.key, tags=tags, metadata=metadata)
        file.newest.tags, file.newest.metadata = tags, metadata
        assert (record["id"], record["version"]) == (file.newest.id, file.newest.number)

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), by_id=st.booleans())
    def delete(self, name: str, who: int, pick: int, by_id: bool) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        gone = self.files(name, who).delete(file.newest.id if by_id else file.key)
        assert gone["id"] == file.newest.id
        self.mark_deleted([file])

    @rule(name=SESSIONS, who=WHO, folder=st.sampled_from(FOLDERS))
    def delete_folder(self, name: str, who: int, folder: str) -> None:
        model = self.models[name]
        inside = model.live(folder)
        if not inside or model.is_live(folder):
            return
        with pytest.raises(InvalidInput, match="recursive"):
            self.files(name, who).delete(folder)
        gone = self.files(name, who).delete(folder, recursive=True)
        assert [record["id"] for record in gone["files"]] == [file.newest.id for file in inside]
        self.mark_deleted(inside)

    def mark_deleted(self, files: list[File]) -> None:
        self.deletions += 1
        for file in files:
            for version in file.versions:
                if version.deleted is None:
                    version.deleted = self.deletions

    @precondition(lambda self: self.any(live=False))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), by_id=st.booleans())
    def restore(self, name: str, who: int, pick: int, by_id: bool) -> None:
        model, file = self.models[name], self.pick(name, pick, live=False)
        if file is None:
            return
        if model.at.get(file.key) is not file:
            by_id = True  # another file answers to that path
        reference = file.newest.id if by_id else file.key
        if model.is_live(file.key) or not model.fits(file.key):
            with pytest.raises(Conflict):
                self.files(name, who).restore(reference)
            return
        record = self.files(name, who).restore(reference)
        assert record["id"] == file.newest.id
        deletion = file.newest.deleted
        for version in file.versions:
            if version.deleted == deletion:
                version.deleted = None
        model.owner(file.key, file)

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99))
    def delete_and_restore(self, name: str, who: int, pick: int) -> None:
        file = self.pick(name, pick)
        if file is not None:
            self.mark_deleted([file])
            self.files(name, who).delete(file.key)
            self.restore(name, 1 - who, self.place_among_deleted(name, file), False)

    def place_among_deleted(self, name: str, file: File) -> int:
        return [f for f in self.models[name].files if not f.live].index(file)

    @precondition(lambda self: self.any(live=False))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), other=st.integers(0, 99), back=st.booleans())
    def move_onto_a_deleted_path(self, name: str, who: int, pick: int, other: int, back: bool) -> None:
        file, gone = self.pick(name, pick), self.pick(name, other, live=False)
        if file is None or gone is None:
            return
        place = file.key
        self.move(name, who, pick, gone.key)
        if back and file.key == gone.key and file.key != place:
            self.move(name, who, [f for f in self.models[name].files if f.live].index(file), place)
            self.restore(name, who, self.place_among_deleted(name, gone), True)

    @precondition(lambda self: self.any(live=True))
    @rule(
        name=SESSIONS,
        who=WHO,
        pick=st.integers(0, 99),
        which=st.integers(0, 99),
        alias=st.sampled_from([None, *ALIASES]),
    )
    def restore_version(self, name: str, who: int, pick: int, which: int, alias: str | None) -> None:
        model, file = self.models[name], self.pick(name, pick)
        if file is None:
            return
        version = file.versions[which % len(file.versions)]
        reference = f"{file.key}@v{version.number}"
        if alias is not None:
            if alias not in file.aliases or model.is_live(f"{file.key}@{alias}"):
                return
            version = next(v for v in file.versions if v.id == file.aliases[alias])
            reference = f"{file.key}@{alias}"
        elif model.at.get(reference) is not None:
            return  # a file of that very name comes first
        record = self.files(name, who).restore(reference)
        model.put(file.key, record, version.data, version.tags, version.metadata)

    # ---- move, copy, alias ---------------------------------------------------------------------------------------

    def goal(self, model: Model, source: str, to: str) -> str:
        """Where a file goes: into a folder that is there, else to that very name."""
        return f"{to.rstrip('/')}/{split(source)[1]}" if to == "/" or model.is_folder(to) else to

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), to=st.sampled_from([*KEYS, *FOLDERS]))
    def move(self, name: str, who: int, pick: int, to: str) -> None:
        model, file = self.models[name], self.pick(name, pick)
        if file is None:
            return
        goal = self.goal(model, file.key, to)
        inside = goal.startswith(file.key + "/")
        refused = goal != file.key and (model.is_live(goal) or inside or not self.fits_without(model, file, goal))
        if refused:
            with pytest.raises(Conflict):
                self.files(name, who).move(file.key, to)
            return
        record = self.files(name, who).move(file.key, to)
        assert (record["id"], record["path"], record["filename"]) == (file.newest.id, *split(goal))
        if goal != file.key:
            del model.at[file.key]
        model.owner(goal, file)

    def fits_without(self, model: Model, file: File, goal: str) -> bool:
        """The place is judged while the file is still where it was."""
        return model.fits(goal)

    @rule(name=SESSIONS, who=WHO, folder=st.sampled_from(FOLDERS[1:]), to=st.sampled_from(FOLDERS[1:]))
    def move_folder(self, name: str, who: int, folder: str, to: str) -> None:
        model = self.models[name]
        inside = model.live(folder)
        if not inside or model.is_live(folder):
            return
        base = f"{to}/{split(folder)[1]}" if model.is_folder(to) else to
        goals = [base + file.key[len(folder) :] for file in inside]
        pairs = [(file, goal) for file, goal in zip(inside, goals, strict=True) if file.key != goal]
        if any(model.is_live(goal) or not model.fits(goal) or goal.startswith(f.key + "/") for f, goal in pairs):
            with pytest.raises(Conflict):
                self.files(name, who).move(folder, to)
            return
        records = self.files(name, who).move(folder, to)
        assert [r["id"] for r in records] == [file.newest.id for file in inside]
        for file, _ in pairs:
            del model.at[file.key]
        for file, goal in pairs:
            model.owner(goal, file)

    @precondition(lambda self: self.any(live=True))
    @rule(
        name=SESSIONS, who=WHO, pick=st.integers(0, 99), which=st.integers(0, 99), into=SESSIONS,
        to=st.sampled_from([*KEYS, *FOLDERS]),
    )  # fmt: skip
    def copy(self, name: str, who: int, pick: int, which: int, into: str, to: str) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        version, target = file.versions[which % len(file.versions)], self.models[into]
        reference = f"{file.key}@v{version.number}"
        if version.deleted is not None or reference in self.models[name].at:
            version, reference = file.newest, file.key
        goal = self.goal(target, file.key, to)
        options = {} if into == name and which % 2 else {"session": f"w/{into}"}
        if not target.fits(goal):
            with pytest.raises(Conflict):
                self.files(name, who).copy(reference, to, **options)
            return
        record = self.files(name, who).copy(reference, to, **options)
        assert record["sessionId"] == f"w/{into}"
        target.put(goal, record, version.data, version.tags, version.metadata)

    @rule(name=SESSIONS, who=WHO, folder=st.sampled_from(FOLDERS), to=st.sampled_from(FOLDERS[1:]), into=SESSIONS)
    def copy_folder(self, name: str, who: int, folder: str, to: str, into: str) -> None:
        model, target = self.models[name], self.models[into]
        inside = model.live(folder)
        if not inside or model.is_live(folder):
            return
        base = f"{to}/{split(folder)[1]}".rstrip("/") if target.is_folder(to) else to
        goals = [base + "/" + file.key[len(folder.rstrip("/")) + 1 :] for file in inside]
        if not all(target.fits(goal) for goal in goals):
            with pytest.raises(Conflict):
                self.files(name, who).copy(folder, to, session=f"w/{into}")
            return
        if max(goal.count("/") for goal in goals) > 12:
            return  # copies of copies of everything grow without end
        records = self.files(name, who).copy(folder, to, session=f"w/{into}")
        newest = [file.newest for file in inside]
        for version, goal, record in zip(newest, goals, records, strict=True):
            target.put(goal, record, version.data, version.tags, version.metadata)

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), which=st.integers(0, 99), alias=st.sampled_from(ALIASES))
    def alias(self, name: str, who: int, pick: int, which: int, alias: str) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        version = file.versions[which % len(file.versions)]
        reference = f"{file.key}@v{version.number}"
        if version.deleted is not None or reference in self.models[name].at:
            version, reference = file.newest, file.key
        assert self.files(name, who).alias(reference, alias)["id"] == version.id
        file.aliases[alias] = version.id

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), alias=st.sampled_from(ALIASES))
    def remove_alias(self, name: str, who: int, pick: int, alias: str) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        with contextlib.nullcontext() if alias in file.aliases else pytest.raises(NotFound):
            self.files(name, who).alias(file.key, alias, remove=True)
        file.aliases.pop(alias, None)

    # ---- reading -------------------------------------------------------------------------------------------------

    @rule(name=SESSIONS, who=WHO, folder=st.sampled_from(["/none", *FOLDERS]), tags=TAGS, every=st.booleans())
    def list_part(self, name: str, who: int, folder: str, tags: list[str], every: bool) -> None:
        judge = all if every else any
        expected = [
            file.newest.id
            for file in self.models[name].live(folder)
            if not tags or judge(tag in file.newest.tags for tag in tags)
        ]
        got = self.files(name, who).list(path=folder, tags=tags, match="all" if every else "any")
        assert [record["id"] for record in got] == expected

    @rule(
        name=SESSIONS, who=WHO, least=st.sampled_from([0, 1, 3, 70_000]), loss=st.sampled_from([0, 0.5, "s"]),
        glob=st.sampled_from(["*", "f*", "[!f]", "?@*"]),
    )  # fmt: skip
    def find(self, name: str, who: int, least: int, glob: str, loss: Any) -> None:
        files, live = self.files(name, who), self.models[name].live()
        expected = [f for f in live if fnmatch.fnmatchcase(split(f.key)[1], glob) and len(f.newest.data) >= least]
        assert [r["id"] for r in files.find(glob, min_size=least)] == [f.newest.id for f in expected]
        found = files.find(metadata={"loss": loss}, order="path")
        hits = [f for f in live if "loss" in f.newest.metadata and f.newest.metadata["loss"] == loss]
        assert [r["id"] for r in found] == [f.newest.id for f in sorted(hits, key=lambda f: f.key)]
        everywhere = [r["id"] for r in files.find(glob, scope="lake", order="size")]
        both = [f for model in self.models.values() for f in model.live() if fnmatch.fnmatchcase(split(f.key)[1], glob)]
        assert sorted(everywhere) == sorted(f.newest.id for f in both)

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99))
    def read_versions(self, name: str, who: int, pick: int) -> None:
        files, model, file = self.files(name, who), self.models[name], self.pick(name, pick)
        if file is None:
            return
        for version in file.versions:
            reference = f"{file.key}@v{version.number}"
            if model.is_live(reference):
                continue
            if version.deleted is None:
                assert files.read_bytes(reference) == version.data
            else:
                with pytest.raises(NotFound):
                    files.get(reference)
        numbers = {v.id: v.number for v in file.versions}
        assert files.aliases(file.key) == {name: numbers[i] for name, i in file.aliases.items()}
        for alias, version_id in file.aliases.items():
            version = next(v for v in file.versions if v.id == version_id)
            if version.deleted is None and not model.is_live(f"{file.key}@{alias}"):
                assert files.read_bytes(f"{file.key}@{alias}") == version.data

    @precondition(lambda self: self.any(live=True))
    @rule(name=SESSIONS, who=WHO, pick=st.integers(0, 99), at=st.integers(0, 80_000), count=st.integers(0, 9))
    def read_somewhere(self, name: str, who: int, pick: int, at: int, count: int) -> None:
        file = self.pick(name, pick)
        if file is None:
            return
        with self.files(name, who).open(file.key) as stream:
            stream.seek(at)
            assert stream.read(count) == file.newest.data[at : at + count]
            assert stream.seek(0, os.SEEK_END) == len(file.newest.data)
            stream.seek(0)
            assert stream.read() == file.newest.data

    @rule(name=SESSIONS, who=WHO, folder=st.sampled_from(FOLDERS))
    def download(self, name: str, who: int, folder: str) -> None:
        model, dest = self.models[name], self.root / "out"
        shutil.rmtree(dest, ignore_errors=True)
        inside = model.live(folder)
        if model.is_live(folder):
            self.files(name, who).download(folder, f"{dest}/")
            assert (dest / split(folder)[1]).read_bytes() == model.at[folder].newest.data
        elif not inside:
            with pytest.raises(NotFound):
                self.files(name, who).download(folder, dest)
        else:
            self.files(name, who).download(folder, dest)
            got = {str(p.relative_to(dest)): p.read_bytes() for p in dest.rglob("*") if p.is_file()}
            prefix = len(folder.rstrip("/")) + 1
            assert got == {file.key[prefix:]: file.newest.data for file in inside}

    @invariant()
    @precondition(lambda self: hasattr(self, "models"))
    def everything_is_as_the_model_says(self) -> None:
        for name, model in self.models.items():
            files = self.files(name, 0)
            live = model.live()
            got, fields = files.list(), ("id", "version", "tags", "metadata", "sizeBytes")
            assert [f"{r['path'].rstrip('/')}/{r['filename']}" for r in got] == [f.key for f in live]
            versions = [f.newest for f in live]
            assert [tuple(r[name] for name in fields) for r in got] == [
                (v.id, v.number, v.tags, v.metadata, len(v.data)) for v in versions
            ]
            for folder in FOLDERS[1:]:
                assert [r["id"] for r in files.list(path=folder)] == [f.newest.id for f in model.live(folder)]
            for file in live[:6]:
                assert files.read_bytes(file.key) == file.newest.data
            for file in model.files:
                self.history_is_as_the_model_says(files, model, file)
        self.nothing_is_under_way()

    def history_is_as_the_model_says(self, files: Any, model: Model, file: File) -> None:
        expected = [(v.number, v.id, v.deleted is None, v.tags, v.metadata) for v in reversed(file.versions)]
        references = [file.newest.id] if model.at.get(file.key) is not file else [file.key, file.newest.id]
        for reference in references:
            history = files.history(reference)
            got = [(r["version"], r["id"], r["deletedAt"] is None, r["tags"], r["metadata"]) for r in history]
            assert got == expected
            if file.live or "@" not in reference:  # else it may be an alias of another file
                assert files.exists(reference) == file.live
        assert not any(files.exists(version.id) for version in file.versions[:-1])


class RemoteMachine(Machine):
    """The same on a remote lake, its database and bucket in memory."""

    def prepare(self, every: int, fanout: int) -> None:
        self.servers = FakeServers()
        self.servers.install(self.patch)
        catalog = partial(documents.DocumentCatalog, checkpoint_every=every)
        self.patch.setattr(documents, "DocumentCatalog", catalog)
        self.patch.setenv("XDG_CACHE_HOME", str(self.root / "cache"))
        at = {"mongodb": "mongodb://h/d", "s3": {"bucket": "our-lake"}}
        self.place = {"remote": at, "namespace": "ana"}

    def nothing_is_under_way(self) -> None:
        (docs,), (objects,) = self.servers.databases.values(), self.servers.buckets.values()
        assert docs.count("records", {"open": True}) == 0 and list(objects.uploads()) == []
        assert {doc["state"] for doc in docs.find("copies", {})} == {"live"}


TestApi = Machine.TestCase
TestRemoteApi = RemoteMachine.TestCase
TestRemoteApi.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestApi.settings = settings(
    max_examples=70, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
