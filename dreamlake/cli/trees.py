"""Verbs that build trees on disk: ``materialize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.listing import local_moment
from dreamlake.cli.output import Output, count, safe, size
from dreamlake.errors import Conflict, Corrupt, InvalidInput, NotFound
from dreamlake.model import is_glob, literal

if TYPE_CHECKING:
    from dreamlake.operations.materialize import Materialized, Plan, Problem

DIFFERS = 9  # exit code of a check that found something
_LINKS = ["auto", "reflink", "hardlink", "symlink", "copy"]


@verb(changes=True)
@click.argument("scope", type=ADDRESS, required=False, metavar="[WORKSPACE[/SESSION[:/PATH]]]")
@click.option("--path", metavar="GLOB", help="Only files whose path matches.")
@click.option(
    "--to", metavar="DIR", type=click.Path(file_okay=False), help="Build the tree there, not in the lake's folder."
)
@click.option("--bucket", is_flag=True, help="Make objects files/NAMESPACE/WORKSPACE/SESSION/ID/NAME in the bucket.")
@click.option("--link", type=click.Choice(_LINKS), default="auto", show_default=True,
              help="How to make files: auto shares blocks where the disk can (reflink), else copies.")  # fmt: skip
@click.option("--at", metavar="VERSION|TIME", help="The tree as it was at a time, or up to a version such as 3.")
@click.option("--check", is_flag=True, help=f"Only report what is not as it should be (then exit with {DIFFERS}).")
@click.option("--delete", is_flag=True, help="Remove files placed earlier that are no longer in the tree.")
@click.option("--force", is_flag=True, help="Overwrite files that were edited.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Number of threads.")
def materialize(
    run: Run,
    scope: Address | None,
    path: str | None,
    to: str | None,
    bucket: bool,
    link: str,
    at: str | None,
    check: bool,
    delete: bool,
    force: bool,
    workers: int | None,
) -> int:
    """Build the files of sessions as an ordinary folder tree.

    The tree is ROOT/WORKSPACE/SESSION/files/PATH. What is there already is left as it is; a file that you edited is
    reported and never overwritten without --force. Hard and symbolic links save space but are read-only. A remote lake
    has no folder of its own: say where with --to, or use --bucket.

    \b
    dreamlake materialize                                    all sessions, in the lake's folder
    dreamlake materialize "vision/run 1" --to /tmp/tree
    dreamlake materialize "vision/run 1:/models" --at 2026-01-31T12:00
    dreamlake materialize vision --delete --dry-run
    """
    from dreamlake.operations.materialize import Options

    target = _scope(run, scope)
    if scope is not None and scope.path is not None:
        if path is not None:
            raise InvalidInput(f"{scope.path} and --path {path} are two patterns; give one", path=scope.path)
        path = _pattern(run, scope)
    options = Options(path, _moment(at), link, force, delete)
    plan = run.lake.plan_materialize(target, options, to=to, bucket=bucket, extras=check)
    if check:
        return _print_check(run, plan)
    if run.dry:
        return _print_plan(run, plan)
    return _print_done(run, run.lake.materialize(plan, workers=workers))


def _scope(run: Run, scope: Address | None) -> Any:
    if scope is None:
        return None
    if scope.session is None:
        return scope.workspace
    if run.lake.info(scope.key).dropped_at is None:
        run.need_session(scope.key)
    return scope.key


def _pattern(run: Run, scope: Address) -> str:
    """The glob for the path of an address: a file, all below a folder, or itself."""
    path = scope.file
    state = run.lake.store.catalog.view(scope.key).file_at(path)
    if state is not None and state.current is not None:
        return literal(path)
    return path if is_glob(path) else literal(path.rstrip("/")) + "/**"


def _moment(at: str | None) -> Any:
    return at if at is None or at.removeprefix("v").isdecimal() else local_moment(at)


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "sessionId": str(problem.session),
        "file": problem.key,
        "path": problem.path,
        "reason": problem.reason,
    }


def _print_plan(run: Run, plan: Plan) -> int:
    actions = list(plan.actions())
    run.out.record(
        {
            "root": plan.root,
            "dryRun": True,
            "actions": [{"action": action, "path": path} for action, path in actions],
            "sizeBytes": plan.bytes,
            "unchanged": sum(tree.unchanged for tree in plan.trees),
            "conflicts": [_problem(p) for p in plan.conflicts],
        }
    )
    for action, path in actions:
        if action != "conflict":
            run.out.did(True, "", action, path)
    _report(run, "conflict", plan.conflicts)
    files = sum(len(tree.jobs) for tree in plan.trees)
    unchanged = sum(tree.unchanged for tree in plan.trees)
    run.out.line(
        f"would place {count(files, 'file')}, {size(plan.bytes)}, in {safe(plan.root)}; {unchanged:,} unchanged"
    )
    return Conflict.exit_code if plan.conflicts else 0


def _print_check(run: Run, plan: Plan) -> int:
    from dreamlake.operations.survey import State

    lists = {
        "missing": _paths(plan, State.ABSENT),
        "stale": _paths(plan, State.STALE) + _paths(plan, State.RELINK),
        "edited": [tree.base + p.key for tree in plan.trees for p in tree.conflicts if p.code == "edited"]
        + _paths(plan, State.EDITED),
        "blocked": [tree.base + p.key for tree in plan.trees for p in tree.conflicts if p.code != "edited"],
        "obsolete": [tree.base + key for tree in plan.trees for key, _ in tree.obsolete],
        "extra": [tree.base + key for tree in plan.trees for key in tree.extra],
    }
    unchanged = sum(tree.unchanged for tree in plan.trees)
    run.out.record({"root": plan.root, "inOrder": plan.in_order, "unchanged": unchanged, **lists})
    for state, paths in lists.items():
        for path in paths:
            run.out.line(f"{state:<8}  {safe(path)}")
    found = ", ".join(f"{len(paths):,} {state}" for state, paths in lists.items() if paths)
    run.out.line(f"{count(unchanged, 'file')} in order{f'; {found}' if found else ''} in {safe(plan.root)}")
    return 0 if plan.in_order else DIFFERS


def _paths(plan: Plan, state: Any) -> list[str]:
    return [tree.base + job.key for tree in plan.trees for why, job in tree.jobs if why is state]


def _print_done(run: Run, done: Materialized) -> int:
    run.out.record(
        {
            "root": done.root,
            "placed": done.placed,
            "sizeBytes": done.bytes,
            "unchanged": done.unchanged,
            "removed": done.removed,
            "obsolete": done.obsolete,
            "links": done.links,
            "conflicts": [_problem(p) for p in done.conflicts],
            "missing": [_problem(p) for p in done.missing],
        }
    )
    _report(run, "conflict", done.conflicts)
    _report(run, "missing", done.missing)
    kinds = ", ".join(f"{number:,} by {kind}" for kind, number in sorted(done.links.items()) if kind != "copy")
    parts = [
        f"placed {count(done.placed, 'file')}, {size(done.bytes)}{f' ({kinds})' if kinds else ''}, in {safe(done.root)}"
    ]
    parts.append(f"{done.unchanged:,} unchanged")
    if done.removed:
        parts.append(f"{done.removed:,} removed")
    if done.conflicts:
        parts.append(f"{count(len(done.conflicts), 'conflict')}")
    if done.missing:
        parts.append(f"{len(done.missing):,} missing")
    run.out.line("; ".join(parts))
    if done.obsolete:
        run.out.line(f"{count(done.obsolete, 'file')} placed earlier no longer in the tree; --delete removes them")
    return _exit_code(done)


def _report(run: Run, word: str, problems: list[Problem]) -> None:
    """Problems on standard error, so that they are seen even when standard output goes elsewhere."""
    if not run.out.as_json:
        for problem in problems:
            Output.note(f"{word}: {problem.reason}".replace(" with force", " with --force"))


def _exit_code(done: Materialized) -> int:
    """The worst of what happened: damaged, missing, conflicts."""
    if any(p.code == "damaged" for p in done.missing):
        return Corrupt.exit_code
    if done.missing:
        return NotFound.exit_code
    return Conflict.exit_code if done.conflicts else 0
