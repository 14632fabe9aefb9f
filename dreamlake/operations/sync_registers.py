"""What a session's log says, value by value, each with the stamp of the record that set it: what two lakes can join.

A stamp is (time, step, token of the record). Along one log stamps only rise, whatever the clocks of its writers say:
a record whose clock lags behind the newest stamp so far takes that time and the next step. So the order of stamps is
the order of a log, and among changes that did not know of each other it is that of their times. A value that came
from another lake keeps the stamp it got there (the entry ``merge`` carries it), hence every lake that has a value has
it with the same stamp, and "the later one" means the same everywhere.

Values are told from the fold, before and after each record: what an entry means has one home, the fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dreamlake import values
from dreamlake.catalog.fold import FileState, Fold
from dreamlake.catalog.merging import INFO_FIELDS
from dreamlake.catalog.record import Record
from dreamlake.model import SessionKey, Version

Entry = dict[str, Any]


class Stamp(NamedTuple):
    """When a value was set; see above."""

    at: str
    step: int
    token: str

    def bumped(self) -> Stamp:
        """The next later stamp: of a value that a join had to choose."""
        return self._replace(step=self.step + 1)


START = Stamp("", 0, "")


class Reg(NamedTuple):
    """A value and its stamp."""

    value: Any
    stamp: Stamp


ABSENT = ("absent",)  # the value of a field that is not there (any more)
_EXTRA = "extra:"  # in front of each field that this release does not know: they are joined one by one
_KNOWN = tuple(name for name in INFO_FIELDS if name != "extra")

VERSION_FIELDS = ("type", "description", "tags", "metadata", "updated_at", "deleted_at", "extra")
FIXED = ("digest", "size", "uploaded_at")


@dataclass
class VersionReg:
    """One version: ``fixed`` never changes, ``born`` orders the versions of a session."""

    id: str
    born: Stamp
    seq: int
    number: int
    fixed: dict[str, Any]
    fields: dict[str, Reg]

    @property
    def deleted(self) -> bool:
        return self.fields["deleted_at"].value is not None

    @property
    def order(self) -> tuple[Stamp, str]:
        return self.born, self.id

    def move_birth(self, stamp: Stamp) -> None:
        """Another time of birth, before anything was changed since."""
        self.fields = {name: reg._replace(stamp=stamp) for name, reg in self.fields.items()}
        self.born = stamp


@dataclass
class FileReg:
    """One file. An alias whose value is None was removed."""

    id: str
    path: Reg
    primary: Reg
    aliases: dict[str, Reg] = field(default_factory=dict)
    versions: dict[str, VersionReg] = field(default_factory=dict)

    def ordered(self) -> list[VersionReg]:
        return sorted(self.versions.values(), key=lambda v: v.order)

    @property
    def live(self) -> bool:
        return bool(self.versions) and not max(self.versions.values(), key=lambda v: v.order).deleted


class Gone(NamedTuple):
    """A version that was let go for good; ``before`` as of the entry ``trim``."""

    stamp: Stamp
    before: str | None


@dataclass
class Registers:
    """A whole session. ``token`` is that of the last record it is made from ("": none)."""

    token: str = ""
    last: Stamp = START
    info: dict[str, Reg] = field(default_factory=lambda: {name: Reg(None, START) for name in _KNOWN})
    files: dict[str, FileReg] = field(default_factory=dict)
    gone: dict[str, Gone] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """True once the session has been created."""
        return self.info["created_at"].value is not None

    @property
    def dropped(self) -> bool:
        return self.info["dropped_at"].value is not None

    def versions(self) -> Iterator[VersionReg]:
        for file in self.files.values():
            yield from file.versions.values()


class Replay:
    """Registers of a log, record by record."""

    def __init__(self, session: SessionKey) -> None:
        self.registers = Registers()
        self._fold = Fold(session)

    def take(self, n: int, record: Record) -> None:
        """The next record of the log."""
        regs, fold = self.registers, self._fold
        stamp = Stamp(record.at, 0, record.token)
        if stamp.at <= regs.last.at:
            stamp = Stamp(regs.last.at, regs.last.step + 1, record.token)
        regs.last, regs.token = stamp, record.token
        touched: dict[str, None] = dict.fromkeys(i for entry in record.entries for i in self._touched(entry))
        if fold.refusal(record.entries) is not None:
            fold.apply(n, record)
            return
        fold.apply(n, record)
        for entry in record.entries:
            if entry["op"] == "merge":
                self._merged(entry)
                return
            touched.update(dict.fromkeys(self._touched(entry)))
        before = next((e.get("deleted_before") for e in record.entries if e["op"] == "trim"), None)
        for file_id in touched:
            self._update(file_id, fold.file(file_id), stamp, before)
        fresh = sorted((v for f in touched if f in regs.files for v in self._fresh(f, stamp)), key=lambda v: v.seq)
        for place, version in enumerate(fresh):  # several of one record: in the order in which it names them
            version.move_birth(stamp._replace(step=stamp.step + place))
            regs.last = version.born
        found = {name: _plain(getattr(fold.info, name)) for name in _KNOWN}
        found.update((_EXTRA + name, value) for name, value in (fold.info.extra or {}).items())
        for name in {*regs.info, *found}:
            _set(regs.info, name, found.get(name, ABSENT), stamp)

    def _fresh(self, file_id: str, stamp: Stamp) -> list[VersionReg]:
        return [v for v in self.registers.files[file_id].versions.values() if v.born == stamp]

    def _touched(self, entry: Entry) -> Iterator[str]:
        """Ids of the files that an entry may change; asked before and after it."""
        fold, op = self._fold, entry["op"]
        if op == "drop":
            yield from [state.file_id for state in fold.files()]
        ids = entry["ids"] if op == "trim" else [entry["id"]] if op in ("set", "move", "del", "undel") else []
        states = [fold.file_with(version_id) for version_id in ids]
        states += [fold.file_at(state.key) for state in states if state is not None and op == "undel"]
        if op in ("put", "alias", "move"):
            states.append(fold.file_at(entry["to"] if op == "move" else entry["path"]))
        yield from (state.file_id for state in states if state is not None)

    def _update(self, file_id: str, state: FileState | None, stamp: Stamp, before: str | None) -> None:
        regs = self.registers
        file = regs.files.get(file_id)
        if state is None:
            for version_id in file.versions if file is not None else ():
                regs.gone[version_id] = Gone(stamp, before)
            regs.files.pop(file_id, None)
            return
        if file is None:
            file = regs.files[file_id] = FileReg(file_id, Reg(state.key, stamp), Reg(state.primary, stamp))
        file.path = _later(file.path, state.key, stamp)
        file.primary = _later(file.primary, state.primary, stamp)
        for name in {*file.aliases, *state.aliases}:
            _set(file.aliases, name, state.aliases.get(name), stamp)
        kept = {version.id for version in state.versions}
        for version_id in [v for v in file.versions if v not in kept]:
            del file.versions[version_id]
            regs.gone[version_id] = Gone(stamp, before)
        for version in state.versions:
            known = file.versions.get(version.id)
            if known is None:
                file.versions[version.id] = _born(version, stamp)
            else:
                for name, value in _fields(version).items():
                    _set(known.fields, name, value, stamp)

    def _merged(self, entry: Entry) -> None:
        regs, stamps = self.registers, [Stamp(*stamp) for stamp in entry["stamps"]]
        for stored in entry["files"]:
            regs.files.pop(stored["id"], None)
            if stored["versions"]:
                regs.files[stored["id"]] = _file_of(stored, stamps)
            for version in stored["versions"]:
                regs.gone.pop(version["id"], None)
        for version_id, mark in entry["gone"].items():
            regs.gone[version_id] = Gone(stamps[mark], None)
        info = entry.get("info")
        if info is not None:
            regs.info = _info_of(info, stamps)
        regs.last = max([regs.last, *stamps])


def registers_of(session: SessionKey, records: Iterable[tuple[int, Record]]) -> Registers:
    """The registers of a whole log. Errors of reading it pass through."""
    replay = Replay(session)
    for n, record in records:
        replay.take(n, record)
    return replay.registers


# ---- as JSON values ----------------------------------------------------------------------------------------------


class Writer:
    """Makes the members of an entry ``merge``; stamps are written once, and named by their number."""

    def __init__(self) -> None:
        self.stamps: list[list[Any]] = [list(START)]
        self._numbers: dict[Stamp, int] = {START: 0}

    def mark(self, stamp: Stamp) -> int:
        if stamp not in self._numbers:
            self._numbers[stamp] = len(self.stamps)
            self.stamps.append(list(stamp))
        return self._numbers[stamp]

    def file(self, file: FileReg) -> Entry:
        return {
            "id": file.id,
            "path": file.path.value,
            "primary": file.primary.value,
            "versions": [self._version(version) for version in file.ordered()],
            "aliases": {name: [reg.value, self.mark(reg.stamp)] for name, reg in sorted(file.aliases.items())},
            "marks": {"path": self.mark(file.path.stamp), "primary": self.mark(file.primary.stamp)},
        }

    def _version(self, version: VersionReg) -> Entry:
        later = {name: reg.stamp for name, reg in version.fields.items() if reg.stamp != version.born}
        return {
            "id": version.id,
            "seq": version.seq,
            "number": version.number,
            **version.fixed,
            **{name: reg.value for name, reg in version.fields.items()},
            "born": self.mark(version.born),
            "marks": {name: self.mark(stamp) for name, stamp in later.items()},
        }

    def info(self, info: dict[str, Reg]) -> Entry:
        marks = {name: self.mark(reg.stamp) for name, reg in info.items()}
        more = {n[len(_EXTRA) :]: r.value for n, r in info.items() if n.startswith(_EXTRA) and r.value != ABSENT}
        return {**{name: info[name].value for name in _KNOWN}, "extra": more or None, "marks": marks}


def emptied(file: FileReg) -> Entry:
    """The member ``files`` for a file of which nothing is left."""
    return {"id": file.id, "path": file.path.value, "primary": False, "versions": [], "aliases": {}, "marks": {}}


def _info_of(stored: Entry, stamps: list[Stamp]) -> dict[str, Reg]:
    found = {name: _plain(stored[name]) for name in _KNOWN}
    found.update((_EXTRA + name, value) for name, value in (stored["extra"] or {}).items())
    marks = stored["marks"]
    return {n: Reg(found.get(n, ABSENT), stamps[marks.get(n, 0)]) for n in dict.fromkeys([*found, *marks])}


def _file_of(stored: Entry, stamps: list[Stamp]) -> FileReg:
    marks = stored["marks"]
    file = FileReg(
        stored["id"],
        Reg(stored["path"], stamps[marks.get("path", 0)]),
        Reg(stored["primary"], stamps[marks.get("primary", 0)]),
        {name: Reg(target, stamps[mark]) for name, (target, mark) in stored["aliases"].items()},
    )
    for v in stored["versions"]:
        born = stamps[v["born"]]
        later = v["marks"]
        fields = {n: Reg(_plain(v[n]), stamps[later[n]] if n in later else born) for n in VERSION_FIELDS}
        fixed = {name: v[name] for name in FIXED}
        file.versions[v["id"]] = VersionReg(v["id"], born, v["seq"], v["number"], fixed, fields)
    return file


def _born(version: Version, stamp: Stamp) -> VersionReg:
    fixed = {"digest": version.digest, "size": version.size_bytes, "uploaded_at": version.uploaded_at}
    fields = {name: Reg(value, stamp) for name, value in _fields(version).items()}
    return VersionReg(version.id, stamp, version.seq, version.number, fixed, fields)


def _fields(version: Version) -> dict[str, Any]:
    found = {name: getattr(version, name) for name in VERSION_FIELDS if name != "type"}
    return {"type": version.content_type, **{name: _plain(value) for name, value in found.items()}}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def same(a: Any, b: Any) -> bool:
    """Equal as stored: NaN is itself."""
    if a is ABSENT or b is ABSENT:
        return a is b
    return bool(a == b) or values.encode(a) == values.encode(b)


def _later(old: Reg, value: Any, stamp: Stamp) -> Reg:
    return old if same(old.value, value) else Reg(value, stamp)


def _set(regs: dict[str, Reg], name: str, value: Any, stamp: Stamp) -> None:
    old = regs.get(name)
    if old is None or not same(old.value, value):
        regs[name] = Reg(value, stamp)
