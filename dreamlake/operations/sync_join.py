"""The join of what two lakes say of one session: the same whichever is asked first, and however often.

The rules (SPEC "Sync"):

- A version is known by its id. Every version that one of them has is there. The versions of a file are ordered by the
  time they were uploaded; the newest is the current one.
- Of a value that both set, the later one stays: tags, metadata, description, path, deletion, each alias.
- Two files at one path are one file. A file where the other lake has a folder gets another name.
- An upload or a restore wins over a deletion that did not know it.
- What one of them let go for good goes, unless the other needs it: its current version, or one with an alias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

from dreamlake import values
from dreamlake.model import MAX_SEGMENT_BYTES, ancestors, split_key
from dreamlake.operations.sync_registers import (
    VERSION_FIELDS,
    FileReg,
    Gone,
    Reg,
    Registers,
    VersionReg,
    Writer,
    emptied,
    same,
)

Entry = dict[str, Any]


class Clash(NamedTuple):
    """Something that both lakes changed without knowing of each other, and what became of it."""

    path: str | None
    what: str


def join(a: Registers, b: Registers) -> tuple[Registers, list[Clash]]:
    """The join of two, and where they clashed. Neither is changed."""
    joined = Registers(last=max(a.last, b.last))
    for version_id in {*a.gone, *b.gone}:
        found = [r.gone[version_id] for r in (a, b) if version_id in r.gone]
        joined.gone[version_id] = max(found, key=lambda gone: (gone.stamp, gone.before or ""))  # a merge told no guard
    clashes: list[Clash] = []
    files = [_unite(group) for group in _same_files([*a.files.values(), *b.files.values()])]
    _settle(files)
    files = [_unite(group) for group in _by_place(files)]
    _settle(files)
    _let_go(files, joined.gone)
    files = [file for file in files if file.versions]
    _apart(files, clashes)
    _number(files)
    joined.files = {file.id: file for file in files}
    joined.info = _join_info(a, b, any(file.live for file in files), clashes)
    _tell_diverged(joined, a, b, clashes)
    return joined, clashes


def difference(have: Registers, joined: Registers) -> Entry | None:
    """The entry ``merge`` that takes a lake from what it has to the join; None when that is the same."""
    writer = Writer()
    files = [writer.file(f) for f in joined.files.values() if not _equal_files(have.files.get(f.id), f)]
    files += [emptied(file) for file in have.files.values() if file.id not in joined.files]
    kept = {version.id for version in joined.versions()}
    gone = [version.id for version in have.versions() if version.id not in kept]
    changed = have.info.keys() != joined.info.keys() or any(
        not _equal(reg, joined.info[name]) for name, reg in have.info.items()
    )
    if not (files or changed):
        return None
    info = writer.info(joined.info) if changed else None
    marks = {version_id: writer.mark(joined.gone[version_id].stamp) for version_id in gone}
    return {"op": "merge", "after": have.token, "files": files, "info": info, "gone": marks, "stamps": writer.stamps}


# ---- files -------------------------------------------------------------------------------------------------------


def _same_files(files: list[FileReg]) -> Iterable[list[FileReg]]:
    """Files grouped by identity: the same id, or a version in common."""
    return _groups(files, lambda file: [file.id, *(("version", version_id) for version_id in file.versions)])


def _by_place(files: list[FileReg]) -> Iterable[list[FileReg]]:
    """Files grouped by the path that they own: two that meet there are one."""
    return _groups(files, lambda f: [("path", f.path.value)] if f.live or f.primary.value else [f.id])


def _groups(files: list[FileReg], marks: Callable[[FileReg], Iterable[Any]]) -> list[list[FileReg]]:
    """Files that share a mark, directly or through others, together."""
    group_of: dict[Any, list[FileReg]] = {}
    for file in files:
        found = [group_of[mark] for mark in marks(file) if mark in group_of]
        merged = [file, *(f for group in {id(g): g for g in found}.values() for f in group)]
        for member in merged:
            for mark in marks(member):
                group_of[mark] = merged
    return list({id(group): group for group in group_of.values()}.values())


def _unite(group: list[FileReg]) -> FileReg:
    """One file with all versions, aliases and the latest values of these."""
    if len(group) == 1:
        return _copied(group[0])
    path, primary = reduce(_later, (f.path for f in group)), reduce(_later, (f.primary for f in group))
    united = FileReg(min(file.id for file in group), path, primary)
    for file in group:
        for name, reg in file.aliases.items():
            united.aliases[name] = _later(united.aliases.get(name), reg)
        for version in file.versions.values():
            known = united.versions.get(version.id)
            united.versions[version.id] = _join_versions(known, version) if known else _copied_version(version)
    return united


def _join_versions(a: VersionReg, b: VersionReg) -> VersionReg:
    fields = {name: _later(a.fields[name], b.fields[name]) for name in VERSION_FIELDS}
    born = min(a.born, b.born)
    return VersionReg(a.id, born, max(a.seq, b.seq), max(a.number, b.number), a.fixed, fields)


def _copied(file: FileReg) -> FileReg:
    versions = {version.id: _copied_version(version) for version in file.versions.values()}
    return FileReg(file.id, file.path, file.primary, dict(file.aliases), versions)


def _copied_version(v: VersionReg) -> VersionReg:
    return VersionReg(v.id, v.born, v.seq, v.number, v.fixed, dict(v.fields))


def _settle(files: list[FileReg]) -> None:
    """A file of which any version is live is live, and then it owns its path."""
    for file in files:
        if not file.live and not all(version.deleted for version in file.versions.values()):
            newest = file.ordered()[-1]
            newest.fields["deleted_at"] = Reg(None, newest.fields["deleted_at"].stamp.bumped())
        if file.live and not file.primary.value:
            file.primary = Reg(True, file.primary.stamp.bumped())


def _let_go(files: list[FileReg], gone: dict[str, Gone]) -> None:
    """Drop what was let go for good, as the entry ``trim`` would; what is still needed stays, and is not gone."""
    for file in files:
        newest = file.ordered()[-1].id if file.live else None
        named = {reg.value for reg in file.aliases.values()}
        for version in list(file.versions.values()):
            found = gone.get(version.id)
            if found is None:
                continue
            deleted = version.fields["deleted_at"].value
            restored = found.before is not None and (deleted is None or deleted >= found.before)
            if restored or version.id == newest or (file.live and deleted is None and version.id in named):
                del gone[version.id]
            else:
                del file.versions[version.id]
        for name, reg in file.aliases.items():
            if reg.value is not None and reg.value not in file.versions:
                file.aliases[name] = Reg(None, reg.stamp.bumped())


def _apart(files: list[FileReg], clashes: list[Clash]) -> None:
    """No path is both file and folder (I8): such a file gets a name with the first digits of its id."""
    live = [file for file in files if file.live]
    folders = {folder for file in live for folder in ancestors(file.path.value)}
    taken = {file.path.value for file in files} | folders
    for file in sorted(live, key=lambda f: f.id):
        path = file.path.value
        if path not in folders:
            continue
        parent, name = split_key(path)
        for mark in (file.id[:8], file.id):
            short = name.encode()[: MAX_SEGMENT_BYTES - 1 - len(mark.encode())].decode(errors="ignore")
            other = f"{parent.rstrip('/')}/{short}~{mark}"
            if other not in taken:
                break
        file.path = Reg(other, file.path.stamp.bumped())
        taken.add(other)
        clashes.append(Clash(path, f"is a file in one lake and a folder in the other; the file is {other} now"))


def _number(files: list[FileReg]) -> None:
    """Versions of a file, and all of the session, numbered in the order of their births; numbers only ever rise."""
    for file in files:
        last = 0
        for version in file.ordered():
            last = version.number = max(version.number, last + 1)
    last = 0
    for version in sorted((v for file in files for v in file.versions.values()), key=lambda v: v.order):
        last = version.seq = max(version.seq, last + 1)


# ---- the session, and what to tell ---------------------------------------------------------------------------------


def _join_info(a: Registers, b: Registers, any_live: bool, clashes: list[Clash]) -> dict[str, Reg]:
    info = dict(a.info)
    for name, reg in b.info.items():
        info[name] = _later(info.get(name), reg)
    created = [r.info["created_at"] for r in (a, b) if r.known]
    if created:
        info["created_at"] = min(created, key=lambda reg: (reg.value, reg.stamp))
    if info["dropped_at"].value is not None and any_live:
        info["dropped_at"] = Reg(None, info["dropped_at"].stamp.bumped())
        clashes.append(Clash(None, "was dropped in one lake while the other got uploads; it stays, with these"))
    for mine, other in ((a, b), (b, a)):
        if mine.info["write_protected"].value and not other.info["write_protected"].value:
            known = {version.id for version in mine.versions()}
            late = sum(1 for version in other.versions() if version.id not in known and version.id not in mine.gone)
            if late and mine.known and other.known:
                clashes.append(Clash(None, f"is write-protected in one lake; the other had {late:,} more versions"))
    return info


def _tell_diverged(joined: Registers, a: Registers, b: Registers, clashes: list[Clash]) -> None:
    mine, theirs = ({v.id: v for v in r.versions()} for r in (a, b))
    for file in joined.files.values():
        only_a = [i for i in file.versions if i not in theirs and i not in b.gone]
        only_b = [i for i in file.versions if i not in mine and i not in a.gone]
        path, newest = file.path.value, file.ordered()[-1]
        if only_a and only_b:
            clashes.append(Clash(path, f"got versions in both lakes; all are kept, current is @v{newest.number}"))
            continue
        both = [v for i in file.versions if (v := mine.get(i)) is not None and i in theirs]
        if (only_a or only_b) and file.live and both and not newest.deleted:
            deleted = [i for i in (v.id for v in both) if mine[i].deleted != theirs[i].deleted]
            if deleted:
                clashes.append(Clash(path, "was deleted in one lake and uploaded in the other; it stays"))


def _equal_files(a: FileReg | None, b: FileReg) -> bool:
    return (
        a is not None
        and _equal(a.path, b.path)
        and _equal(a.primary, b.primary)
        and a.aliases.keys() == b.aliases.keys()
        and all(_equal(reg, b.aliases[name]) for name, reg in a.aliases.items())
        and a.versions.keys() == b.versions.keys()
        and all(_equal_versions(version, b.versions[i]) for i, version in a.versions.items())
    )


def _equal_versions(a: VersionReg, b: VersionReg) -> bool:
    return (a.seq, a.number, a.born) == (b.seq, b.number, b.born) and all(
        _equal(a.fields[name], b.fields[name]) for name in VERSION_FIELDS
    )


def _equal(a: Reg, b: Reg) -> bool:
    return a.stamp == b.stamp and same(a.value, b.value)


def _later(a: Reg | None, b: Reg) -> Reg:
    """The one that was set later; of two that one stamp set, the one that comes later as JSON."""
    if a is None or a.stamp != b.stamp:
        return b if a is None or b.stamp > a.stamp else a
    return a if values.encode(a.value) >= values.encode(b.value) else b
