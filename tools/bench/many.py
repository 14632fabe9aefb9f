"""Benchmarks of many files: folders, listing, looking up, collecting."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.bench import inputs
from tools.bench.harness import SUBJECT, Result, Room, Sample, Side, Target, child, command, counted
from tools.bench.sides import copy_tree, materialize, upload


def folder_upload(room: Room) -> Result:
    """A folder of small text files, durable."""
    count = room.size(20_000, 1_000)
    source = inputs.text_folder(room.fresh("input"), count, room.seed)
    result = Result("folder", f"upload a folder of {count:,} small text files, durable", Target("ratio", 2))
    sides: dict[str, Side] = {
        "cp -r, then one sync": lambda: copy_tree(room, source, durable=True),
        SUBJECT: lambda: upload(room, [source], "raw", "/data"),
    }
    return room.alternate(result, sides)


def folder_again(room: Room) -> Result:
    """The same unchanged folder again, in a fresh process."""
    count = room.size(20_000, 1_000)
    source = inputs.text_folder(room.fresh("input"), count, room.seed)
    upload(room, [source], "raw", "/data")
    result = Result("folder-again", f"the same unchanged folder of {count:,} files again", Target("seconds", 1))
    lake = str(room.folder / "lake")
    request = {"lake": lake, "sources": [str(source)], "encoding": "raw", "path": "/data"}
    sides: dict[str, Side] = {
        "walk the folder and stat each file": lambda: child("baselines", "walk", {"source": str(source)}),
        SUBJECT: lambda: child("subject", "upload", request),
    }
    return room.alternate(result, sides)


def materialize_folder(room: Room) -> Result:
    """Many small files."""
    count = room.size(20_000, 1_000)
    source = inputs.text_folder(room.fresh("input"), count, room.seed)
    upload(room, [source], "raw", "/data")
    result = Result("materialize-folder", f"materialize {count:,} small files, copy", Target("ratio", 1.5))
    sides: dict[str, Side] = {
        "cp -r": lambda: copy_tree(room, source, durable=False),
        SUBJECT: lambda: materialize(room, "copy", count),
    }
    return room.alternate(result, sides)


def _many(room: Room) -> tuple[int, Path]:
    """A lake with a session of many tiny files in lake/; its number of files and the folder they came from."""
    count = room.size(100_000, 5_000)
    source = inputs.tiny_folder(room.fresh("input"), count)
    upload(room, [source], "raw", "/many")
    return count, source


def listing(room: Room) -> Result:
    """List a session of many files in a fresh process."""
    count, _ = _many(room)
    result = Result("list", f"list a session of {count:,} files", Target("ratio", 0.5))
    request = {"lake": str(room.folder / "lake"), "file": str(room.folder / "records.json")}
    child("subject", "records", request)
    sides: dict[str, Side] = {
        "read one JSON file of the same records": lambda: counted("baselines", "read-json", request, count),
        SUBJECT: lambda: counted("subject", "list", request, count),
    }
    return room.alternate(result, sides)


def find(room: Room) -> Result:
    """The ten largest of many files that meet an expression, in a fresh process."""
    count, _ = _many(room)
    result = Result("find", f"find the ten largest of half of {count:,} files", Target("ratio", 0.5))
    where = "path:/many/odd/ and size > 0 and not tag:best and metadata.loss not in (1, 2) or path:/many/odd/**/*.txt"
    request = {"lake": str(room.folder / "lake"), "file": str(room.folder / "records.json"), "where": where}
    child("subject", "records", request)
    sides: dict[str, Side] = {
        "read one JSON file of the same records": lambda: counted("baselines", "read-json", request, count),
        SUBJECT: lambda: counted("subject", "find", request, 10),
    }
    return room.alternate(result, sides)


def look_up(room: Room) -> Result:
    """Look one file up in a session of many, in a fresh process."""
    count, source = _many(room)
    result = Result("look-up", f"look one file up in a session of {count:,}", Target("seconds", 0.1))
    middle = sorted((source / "odd").rglob("*.txt"))[count // 4].relative_to(source).as_posix()
    request = {"lake": str(room.folder / "lake"), "file": str(room.folder / "records.json"), "path": f"/many/{middle}"}
    child("subject", "records", request)
    sides: dict[str, Side] = {
        "read one JSON file of the same records": lambda: child("baselines", "read-json", request),
        SUBJECT: lambda: child("subject", "look-up", request),
    }
    return room.alternate(result, sides)


def collect(room: Room) -> Result:
    """Collect a lake of which half the content is dead, dropping included. Each run gets a copy of the same lake."""
    count, source = _many(room)
    lake, names = room.folder / "lake", room.folder / "dead.list"
    child("subject", "delete", {"lake": str(lake), "path": "/many/odd"})
    prepared = lake.rename(room.fresh("prepared") / "lake")
    dead = sorted(path.relative_to(source).as_posix() for path in (source / "odd").rglob("*.txt"))
    names.write_bytes(b"\0".join(name.encode() for name in dead))

    def remove() -> Sample:
        command(["cp", "-r", str(source), str(room.fresh("plain") / "copy")])
        command(["sync", "-f", str(room.folder)])
        return child("baselines", "remove", {"folder": str(room.folder / "plain" / "copy"), "list": str(names)})

    def collected() -> Sample:
        shutil.rmtree(lake, ignore_errors=True)
        command(["cp", "-r", "--preserve=all", str(prepared), str(lake)])
        command(["sync", "-f", str(room.folder)])
        return counted("subject", "collect", {"lake": str(lake)}, len(dead))

    result = Result("collect", f"collect {count:,} blobs, half of them dead", Target("ratio", 1.5))
    sides: dict[str, Side] = {"rm of the dead half, then one sync": remove, SUBJECT: collected}
    return room.alternate(result, sides)
