"""Verbs that show one thing closely: ``info``, ``history``."""

from __future__ import annotations

from typing import Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, local_time, pairs_of, size
from dreamlake.cli.selecting import is_single, session_record
from dreamlake.errors import NotFound


@verb()
@click.argument("what", type=ADDRESS, required=False)
def info(run: Run, what: Address | None) -> None:
    """Show all that is known of the lake, a workspace, a session, a folder or a file."""
    if what is None:
        _lake(run)
    elif what.session is None:
        _workspace(run, what.workspace)
    elif what.path is None or what.path.strip("/") == "":
        run.need_session(what.key)
        _session(run, what)
    else:
        run.need_session(what.key)
        if is_single(run, what):
            _file(run, what)
        else:
            _folder(run, what)


def _lake(run: Run) -> None:
    rows = [session_record(run, info) for info in run.lake.sessions()]
    value = {
        "root": run.lake.where,
        "storeId": run.lake.store_id,
        "workspaces": len({row["workspace"] for row in rows}),
        "sessions": len(rows),
        "files": sum(row["files"] for row in rows),
        "sizeBytes": sum(row["sizeBytes"] for row in rows),
    }
    more: list[tuple[str, str]] = []
    if not isinstance(run.place, str):
        value |= {"database": run.place.place, "namespace": run.place.namespace}
        more = [("database", run.place.place), ("namespace", run.place.namespace)]
    run.out.record(value)
    run.out.facts(
        [
            ("lake", value["root"]),
            *more,
            ("store id", value["storeId"]),
            ("workspaces", f"{value['workspaces']:,}"),
            ("sessions", f"{value['sessions']:,}"),
            ("files", f"{value['files']:,}, {size(value['sizeBytes'])}"),
        ]
    )


def _workspace(run: Run, workspace: str) -> None:
    run.workspace(workspace)
    rows = [session_record(run, info) for info in run.lake.sessions() if info.key.workspace == workspace]
    files, total = sum(row["files"] for row in rows), sum(row["sizeBytes"] for row in rows)
    run.out.record({"workspace": workspace, "sessions": len(rows), "files": files, "sizeBytes": total})
    run.out.facts(
        [("workspace", workspace), ("sessions", f"{len(rows):,}"), ("files", f"{files:,}, {size(total)}")],
    )


def _session(run: Run, what: Address) -> None:
    from dreamlake.journal import RUNS
    from dreamlake.operations.lineage import inputs

    findings = run.lake.check_session(what.key)
    about = run.lake.info(what.key)
    value, used = session_record(run, about), inputs(about)
    runs = run.lake.journal(what.key).extent(RUNS)
    run.out.record(
        {
            **value, "inputs": used, "runs": runs.total, "lastRun": runs.last,
            "findings": [finding.record() for finding in findings],
        }
    )  # fmt: skip
    run.out.facts(
        [
            ("session", value["sessionId"]),
            ("description", value["description"] or ""),
            ("tags", ", ".join(value["tags"])),
            ("folder", value["folder"] or ""),
            ("metadata", pairs_of(value["metadata"])),
            ("files", f"{value['files']:,}, {size(value['sizeBytes'])}"),
            ("created", local_time(value["createdAt"])),
            ("updated", local_time(value["updatedAt"])),
            ("write-protected", "yes" if value["writeProtected"] else ""),
            ("inputs", "\n".join(f"{i['session']}:{i['path']}@v{i['version']}  {i['checksum'][:12]}" for i in used)),
            *_run_facts(runs.last or {}, runs.total),
            ("on disk", run.lake.session_folder(what.key) or ""),
        ]
    )
    for finding in findings if not run.out.as_json else ():  # there they stand in the record
        run.out.note(finding.text())


def _run_facts(last: dict[str, Any], total: int) -> list[tuple[str, str]]:
    """What was captured of the newest run, in lines that a person reads; the rest is in the JSON."""
    if not last:
        return []
    git, python, platform = (last.get(name) or {} for name in ("git", "python", "platform"))
    state = {True: f", changed: {git.get('summary') or 'yes'}", None: ", changes unknown"}.get(git.get("dirty"), "")
    branch = f" ({git['branch']})" if git.get("branch") else ""
    machine = " ".join(str(platform[name]) for name in ("system", "release", "machine") if platform.get(name))
    return [
        ("last run", f"{local_time(last.get('at'))}{f', the last of {total:,}' if total > 1 else ''}"),
        ("command", " ".join(map(str, last.get("command") or []))),
        ("git", f"{git['commit']}{branch}{state}" if git.get("commit") else ""),
        ("python", f"{python.get('version', '?')} on {machine}, {count(len(last.get('packages') or ()), 'package')}"),
        ("environment", pairs_of(last.get("environment") or {})),
    ]


def _file(run: Run, what: Address) -> None:
    files = run.files(what.key)
    value: dict[str, Any] = {**files.get(what.file), "aliases": files.aliases(what.file)}
    value["usedBy"] = files.used_by(what.file).get(value["version"], [])
    run.out.record(value)
    run.out.facts(
        [
            ("file", f"{what.key}:{value['path'].rstrip('/')}/{value['filename']}"),
            ("description", value["description"] or ""),
            ("tags", ", ".join(value["tags"])),
            ("metadata", pairs_of(value["metadata"])),
            ("size", f"{size(value['sizeBytes'])} ({value['sizeBytes']:,} bytes)"),
            ("type", value["contentType"]),
            ("checksum", value["checksum"]),
            ("version", f"v{value['version']}"),
            ("aliases", ", ".join(f"{name} = v{number}" for name, number in value["aliases"].items())),
            ("used by", "\n".join(value["usedBy"])),
            ("uploaded", local_time(value["uploadedAt"])),
            ("updated", local_time(value["updatedAt"])),
            ("id", value["id"]),
        ]
    )


def _folder(run: Run, what: Address) -> None:
    from dreamlake.model import folder_path

    files = run.files(what.key)
    try:
        folder = folder_path(what.file)
        rows: list[Any] = files.list(path=folder)
    except ValueError:
        folder, rows = what.file, []
    if not rows:
        files.get(what.file)  # raises, and says whether it was deleted
        raise NotFound(f"no file or folder {what.file!r} in session {what.key}", path=what.file)
    total = sum(row["sizeBytes"] for row in rows)
    run.out.record({"sessionId": str(what.key), "path": folder, "files": len(rows), "sizeBytes": total})
    run.out.facts([("folder", f"{what.key}:{folder}"), ("files", f"{len(rows):,}, {size(total)}")])


@verb(pages=True)
@click.argument("file", type=ADDRESS)
def history(run: Run, file: Address) -> None:
    """List the versions of a file, newest first, of a deleted one too.

    An older version is named WORKSPACE/SESSION:/path@v2; restore makes it the newest again.
    """
    files = run.files(file.key)
    used = files.used_by(file.file)
    rows = [{**row, "usedBy": used.get(row["version"], [])} for row in files.history(file.file)]
    run.out.records(rows)
    named: dict[int, list[str]] = {}
    if files.exists(file.file):
        for name, number in files.aliases(file.file).items():
            named.setdefault(number, []).append(name)
    run.out.table(
        ["VERSION", "SIZE", "UPLOADED", "DELETED", "CHECKSUM", "ALIASES", "USED BY", "TAGS", "DESCRIPTION"],
        [
            (
                f"v{row['version']}", size(row["sizeBytes"]), local_time(row["uploadedAt"]),
                local_time(row["deletedAt"]), row["checksum"][:12], ", ".join(named.get(row["version"], [])),
                ", ".join(row["usedBy"]), ", ".join(row["tags"]), row["description"] or "",
            )
            for row in rows
        ],
        right=["VERSION", "SIZE"],
    )  # fmt: skip
    run.out.line(count(len(rows), "version"))
