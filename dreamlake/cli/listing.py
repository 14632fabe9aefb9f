"""Verbs that list: ``ls``, ``tree``, ``find``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, local_time, safe, size, width
from dreamlake.cli.selecting import matcher, select, session_record
from dreamlake.errors import InvalidInput
from dreamlake.model import is_glob

if TYPE_CHECKING:
    from dreamlake.model import SessionKey, Version
    from dreamlake.operations.search import Hit

_ORDERS = ["uploaded", "updated", "path", "size"]


@verb(pages=True)
@click.argument("scope", type=ADDRESS, required=False)
@click.option("--tag", "-t", "tags", multiple=True, help="Only files with this tag (repeat: with any of them).")
@click.option(
    "--sort", "order", type=click.Choice(_ORDERS), default="uploaded", show_default=True, help="Order of files."
)
@click.option("--reverse", "-r", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most N files.")
@click.option("--deleted", is_flag=True, help="Deleted files instead, which restore can bring back.")
def ls(
    run: Run, scope: Address | None, tags: Sequence[str], order: str, reverse: bool, limit: int | None, deleted: bool
) -> None:
    """List sessions, or the files of a session.

    \b
    dreamlake ls                            all sessions
    dreamlake ls vision                     the sessions of a workspace
    dreamlake ls "vision/run 1"             the files of a session
    dreamlake ls "vision/run 1:/models"     a folder and all below it
    dreamlake ls "vision/run 1:/**/*.pth"   files that match a glob
    """
    if scope is None or scope.session is None:
        _list_sessions(run, scope.workspace if scope else None)
        return
    from dreamlake.operations.search import Hit, ordered

    if deleted:
        found = _deleted(run, scope)
    else:
        found = select(run, scope)
    if tags:
        wanted = frozenset(tags)
        found = [v for v in found if not wanted.isdisjoint(v.tags)]
    hits = [Hit(scope.key, version) for version in found]
    print_files(run, ordered(hits, turned(order, reverse), limit=limit, one_session=True))


def turned(order: str, reverse: bool) -> str:
    """The order the other way round, if that is wanted."""
    if not reverse:
        return order
    return ",".join(part[1:] if part.startswith("-") else "-" + part.lstrip("+") for part in order.split(","))


def _list_sessions(run: Run, workspace: str | None) -> None:
    if workspace is not None:
        run.workspace(workspace)
    infos = [info for info in run.lake.sessions() if workspace in (None, info.key.workspace)]
    rows = [session_record(run, info) for info in infos]
    run.out.records(rows)
    run.out.table(
        ["SESSION", "FILES", "SIZE", "UPDATED", "PROTECTED", "TAGS"],
        [
            (
                row["sessionId"], f"{row['files']:,}", size(row["sizeBytes"]), local_time(row["updatedAt"]),
                "yes" if row["writeProtected"] else "", ", ".join(row["tags"]),
            )
            for row in rows
        ],
        right=["FILES", "SIZE"],
    )  # fmt: skip
    files, total = sum(row["files"] for row in rows), sum(row["sizeBytes"] for row in rows)
    run.out.line(f"{count(len(rows), 'session')}, {count(files, 'file')}, {size(total)}")


def _deleted(run: Run, scope: Address) -> list[Version]:
    run.need_session(scope.key)
    view, path = run.lake.store.catalog.view(scope.key), (scope.path or "/").rstrip("/")
    below, matches = path + "/", matcher(scope.path or "/")
    gone = [state.versions[-1] for state in view.files() if state.versions and state.current is None]
    return sorted(
        (v for v in gone if v.key == path or v.key.startswith(below) or matches(v.key)), key=lambda version: version.seq
    )


def print_files(run: Run, hits: Sequence[Hit], *, sessions: bool = False) -> None:
    """A table of files, or their records. ``sessions``: say which session each belongs to."""
    from dreamlake.model import Version
    from dreamlake.records import records_of_hits

    if run.out.as_json:
        run.out.records(records_of_hits(hits))
        return
    found = [(key, Version._make(row)) for key, row in hits]
    run.out.table(
        ["FILE" if sessions else "PATH", "SIZE", "VERSION", "UPLOADED", "DELETED", "TAGS"],
        [
            (
                f"{key}:{v.key}" if sessions else v.key, size(v.size_bytes), f"v{v.number}", local_time(v.uploaded_at),
                local_time(v.deleted_at), ", ".join(v.tags),
            )
            for key, v in found
        ],
        right=["SIZE", "VERSION"],
    )  # fmt: skip
    run.out.line(f"{count(len(found), 'file')}, {size(sum(v.size_bytes for _, v in found))}")


# ---- tree --------------------------------------------------------------------------------------------------------


@verb(pages=True)
@click.argument("scope", type=ADDRESS, required=False)
@click.option("--depth", "-L", type=click.IntRange(1), metavar="N", help="At most N levels.")
def tree(run: Run, scope: Address | None, depth: int | None) -> None:
    """Draw the folders and files of a session, a workspace or the lake.

    With --json it prints the records of the files, as ls does.
    """
    if scope is not None and scope.session is not None:
        _draw_session(run, scope.key, f":{scope.path}" if scope.path else "", select(run, scope), depth)
        return
    keys = [info.key for info in run.lake.sessions()] if scope is None else run.workspace(scope.workspace)
    for number, key in enumerate(keys):
        if number:
            run.out.line()
        _draw_session(run, key, "", run.lake.store.catalog.view(key).live(), depth)


def _draw_session(run: Run, key: SessionKey, path: str, versions: Sequence[Version], depth: int | None) -> None:
    from dreamlake.records import record

    if run.out.as_json:
        run.out.records(record(version, key) for version in versions)
        return
    root: dict[str, Any] = {}
    for version in sorted(versions, key=lambda v: v.key):
        *folders, name = version.key.split("/")[1:]
        here = root
        for folder in folders:
            here = here.setdefault(folder + "/", {})
        here[name] = version
    lines = [(safe(f"{key}{path}"), "")]
    _branches(root, "", depth, lines)
    wide = max(width(text) for text, _ in lines)
    for text, facts in lines:
        run.out.line(f"{text}{' ' * (wide - width(text))}  {facts}".rstrip())
    run.out.line(f"{count(len(versions), 'file')}, {size(sum(v.size_bytes for v in versions))}")


def _branches(folder: dict[str, Any], indent: str, depth: int | None, lines: list[tuple[str, str]]) -> None:
    for number, (name, entry) in enumerate(folder.items(), 1):
        last = number == len(folder)
        text = f"{indent}{'└── ' if last else '├── '}{safe(name)}"
        if not isinstance(entry, dict):
            version = f"v{entry.number}" if entry.number > 1 else ""
            lines.append((text, f"{size(entry.size_bytes):>10}  {version:<4}  {safe(', '.join(entry.tags))}"))
        elif depth == 1:
            files = list(_leaves(entry))
            lines.append((text, f"{size(sum(v.size_bytes for v in files)):>10}  {count(len(files), 'file')}"))
        else:
            lines.append((text, ""))
            _branches(entry, indent + ("    " if last else "│   "), None if depth is None else depth - 1, lines)


def _leaves(folder: dict[str, Any]) -> Iterable[Version]:
    for entry in folder.values():
        if isinstance(entry, dict):
            yield from _leaves(entry)
        else:
            yield entry


# ---- find --------------------------------------------------------------------------------------------------------


@verb(pages=True)
@click.argument("scope", type=ADDRESS, required=False)
@click.option("--where", "-w", "expressions", multiple=True, metavar="EXPR",
              help="Expression, e.g. 'metadata.acc > 0.9 and tag:best'; see dreamlake help expressions.")  # fmt: skip
@click.option("--glob", "-g", metavar="GLOB", help="Pattern on the path; without a slash, on the file name.")
@click.option("--tag", "-t", "tags", multiple=True, help="With this tag (repeat: with any of them).")
@click.option("--all-tags", "-T", "all_tags", multiple=True, help="With this tag (repeat: with every one).")
@click.option("--metadata", "-m", "fields", multiple=True, metavar="COND",
              help="Condition on a field, e.g. 'loss<0.5', 'model=resnet', 'epoch'; repeat for more.")  # fmt: skip
@click.option("--min-size", metavar="SIZE", help="At least this large, e.g. 10M.")
@click.option("--max-size", metavar="SIZE", help="At most this large.")
@click.option("--after", metavar="TIME", help="Uploaded at or after this time.")
@click.option("--before", metavar="TIME", help="Uploaded before this time.")
@click.option("--checksum", metavar="HEX", help="SHA-256 of the content, or its beginning.")
@click.option("--order", "--sort", "order", metavar="FIELD",
              help="uploaded, updated, path, name, size, version, metadata.NAME; '-' in front turns it.")  # fmt: skip
@click.option("--reverse", "-r", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most N files.")
def find(
    run: Run,
    scope: Address | None,
    expressions: Sequence[str],
    glob: str | None,
    tags: Sequence[str],
    all_tags: Sequence[str],
    fields: Sequence[str],
    min_size: str | None,
    max_size: str | None,
    after: str | None,
    before: str | None,
    checksum: str | None,
    order: str | None,
    reverse: bool,
    limit: int | None,
) -> None:
    """Find files in the lake, a workspace, a session or a folder.

    All conditions must hold. Times of --after and --before are ISO-8601; without a zone they are local.

    \b
    dreamlake find -w "metadata.val_accuracy > 0.9 and tag:best"
    dreamlake find vision --order=-metadata.val_accuracy --limit 1
    dreamlake find "vision/run 1:/models" --glob "*.pth" --min-size 10M
    """
    from dreamlake.operations import search

    path = scope.path if scope else None
    if path is not None and is_glob(path):
        if glob is not None:
            raise InvalidInput(f"{path} and --glob {glob} are two patterns; give one", path=path)
        path, glob = None, path
    wanted = search.conditions(
        where=f"({') and ('.join(expressions)})" if len(expressions) > 1 else "".join(expressions) or None,
        glob=glob,
        path=path,
        tags=tags or None,
        all_tags=all_tags or None,
        min_size=None if min_size is None else parse_size(min_size),
        max_size=None if max_size is None else parse_size(max_size),
        after=None if after is None else local_moment(after),
        before=None if before is None else local_moment(before),
        checksum=checksum,
    )
    tests = [*wanted.tests, *(search.metadata_test(*metadata_condition(text)) for text in fields)]
    hits = search.find(
        run.lake.store,
        _sessions(run, scope),
        search.Conditions(tests, wanted.where),
        order=turned(order or "uploaded", reverse) if reverse else order,
        limit=limit,
    )
    print_files(run, hits, sessions=scope is None or scope.session is None)


def _sessions(run: Run, scope: Address | None) -> list[SessionKey]:
    if scope is None:
        return run.lake.store.sessions()
    if scope.session is None:
        return run.workspace(scope.workspace)
    run.need_session(scope.key)
    return [scope.key]


def metadata_condition(text: str) -> tuple[str, Any]:
    """``"loss<0.5"`` -> ("loss", {"<": 0.5}); a name alone: the field exists."""
    import json
    import re

    match = re.fullmatch(r"([^<>=!]+?)\s*(<=|>=|==|!=|<|>|=)\s*(.*)", text, re.DOTALL)
    if match is None:
        if not text.strip() or re.search(r"[<>=!]", text):
            raise InvalidInput(f"condition {text!r} is none; use NAME<VALUE, <=, >, >=, = or !=, or NAME alone")
        return text.strip(), {"exists": True}
    name, op, value = match.groups()
    try:
        wanted = json.loads(value)
    except ValueError:
        wanted = value
    return name.strip(), {"==" if op == "=" else op: wanted}


def parse_size(text: str) -> int:
    """``"10M"`` -> 10485760. Raises ``InvalidInput``."""
    from dreamlake.operations.parsing import size_bytes

    found = size_bytes(text)
    if found is None:
        raise InvalidInput(f"size {text!r} is none; write bytes or e.g. 10K, 1.5M, 2GiB (powers of 1024)")
    return found


def local_moment(text: str) -> datetime:
    """ISO-8601 text; without a zone it means local time, as it is shown. Raises ``InvalidInput``."""
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"time {text!r} is not ISO-8601, e.g. 2026-01-31T12:00 (local) or 2026-01-31T12:00:00Z"
        ) from None
