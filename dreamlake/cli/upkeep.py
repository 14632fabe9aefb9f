"""Verbs that keep a lake small and whole: ``gc``, ``retention``, ``verify``, ``repair``, ``stats``, ``du``, ``why``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, local_time, safe, size
from dreamlake.errors import InvalidInput, NotFound
from dreamlake.model import is_glob
from dreamlake.progress import phases

if TYPE_CHECKING:
    from dreamlake.operations.collection import Collection, Tally
    from dreamlake.operations.findings import Finding

_GROUPS = ["session", "path", "kind", "state"]


# ---- gc and retention --------------------------------------------------------------------------------------------


@verb(changes=True)
@click.option("--now", is_flag=True, help="Remove at once what nothing refers to, without the trash time.")
@click.option("--keep-deleted", default="7d", show_default=True, metavar="TIME", help="Deleted files stay that long.")
@click.option(
    "--trash-time", default="1d", show_default=True, metavar="TIME", help="Blobs stay in the trash that long."
)
@click.option("--force", is_flag=True, help="Also when most of the lake would go although nobody deleted it.")
@click.option("--list", "listed", is_flag=True, help="Name every version that is let go, and why.")
def gc(run: Run, now: bool, keep_deleted: str, trash_time: str, force: bool, listed: bool) -> int:
    """Free what nothing refers to any more.

    Lets go what was deleted long ago and what no retention rule keeps, puts content that nothing refers to into the
    trash, and empties the trash. Safe beside uploads and other collections, at any moment.

    \b
    dreamlake gc --dry-run
    dreamlake gc --now --keep-deleted 0s
    """
    with phases() as progress:
        done = run.lake.collect(
            now=now, keep_deleted=keep_deleted, trash_time=trash_time, dry_run=run.dry, force=force, progress=progress
        )
    run.out.record(done.record())
    if listed:
        for gone in done.details:
            address = f"{gone.session}:{gone.path}@v{gone.version}"
            run.out.did(run.dry, "let go", "let go", f"{address}  {size(gone.size_bytes)}  {gone.why}")
    _print_collection(run, done)
    if done.refused:
        run.out.note(done.refused)
        return InvalidInput.exit_code
    return 0


def _print_collection(run: Run, done: Collection) -> None:
    def took(tally: Tally, what: str = "blob") -> str:
        return f"{count(tally.count, what)}, {size(tally.bytes)}" if tally.count else ""

    stay = [f"{reason} {took(tally)}" for reason, tally in done.stay.items() if tally.count]
    until = f" until {local_time(done.trash_until)}" if done.trash_until else ""
    kept = f"the first may go {local_time(done.kept_until[0])}" if done.kept_until else ""
    run.out.facts(
        [
            ("let go, deleted", took(done.let_go["deleted"], "version")),
            ("let go, retention", took(done.let_go["retention"], "version")),
            ("would free" if run.dry else "freed", took(done.freed)),
            ("would trash" if run.dry else "into the trash", took(done.condemned)),
            ("in the trash", took(done.trash) + until if done.trash.count else ""),
            ("brought back", took(done.restored)),
            ("stay", "\n".join(stay)),
            ("deleted, kept", kept),
            ("dead claims", count(done.revoked, "claim") if done.revoked else ""),
            ("left-over scratch", took(done.scratch, "file")),
        ]
    )
    if not (done.condemned.count or done.freed.count or done.trash.count):
        run.out.line("nothing to collect")
    for note in done.notes:
        run.out.note(note)


@verb(changes=True)
@click.argument("session", type=ADDRESS, metavar="WORKSPACE/SESSION[:/PATH]")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Keep that many newest versions.")
@click.option("--best", type=click.IntRange(1), metavar="N", help="Keep that many by the metadata field --by.")
@click.option("--by", metavar="FIELD", help="Metadata field that ranks versions.")
@click.option("--order", type=click.Choice(["higher", "lower"]), help="Which is better.")
@click.option("--every", type=click.IntRange(1), metavar="N", help="Keep every Nth version.")
@click.option("--younger", metavar="TIME", help="Keep versions younger than that, e.g. 7d.")
@click.option("--clear", is_flag=True, help="Take all rules of the session back: keep everything.")
@click.option("--explain", is_flag=True, help="Show what the rules decide about every version, and why.")
def retention(run: Run, session: Address, clear: bool, explain: bool, **rule: Any) -> int:
    """Show or declare which older versions gc may let go.

    The path is a folder or a glob; without one the rule is about the whole session. A version stays if any part of a
    rule for its path keeps it; current, tagged and aliased versions always stay.

    \b
    dreamlake retention "vision/run 1:/models" --last 3 --best 2 --by loss --order lower
    dreamlake retention "vision/run 1" --explain
    """
    from dreamlake.operations import retention as rules_of

    given = {name: value for name, value in rule.items() if value is not None}
    if session.path is not None:
        given["path"] = session.path if is_glob(session.path) else session.path.rstrip("/") or "/"
    files = run.files(session.key)
    changes = set(given) - {"path"}
    if clear and changes:
        raise InvalidInput("--clear takes all rules back; declare new ones in a second call")
    if given and not changes and not clear and not explain:
        raise InvalidInput("a rule says what to keep: --last, --best, --every or --younger")
    store = run.lake.store
    rules = rules_of.get_rules(store, session.key)
    if clear:
        rules = ()
    elif changes:
        rules = rules_of.merge(rules, rules_of.parse(given))
    if (clear or changes) and not run.dry:
        files.retention([made.record() for made in rules])
    if explain:
        view = store.catalog.view(session.key)
        decided = sorted(
            rules_of.evaluate(view, rules, store.ports.now()), key=lambda d: (d.version.key, d.version.number)
        )
        rows = []
        for version, keep, reasons in decided:
            run.out.record({"path": version.key, "version": version.number, "keep": keep, "reasons": list(reasons)})
            rows.append((version.key, f"v{version.number}", "stays" if keep else "may go", "; ".join(reasons)))
        run.out.table(("FILE", "VERSION", "", "WHY"), rows)
        return 0
    run.out.record({"sessionId": str(session.key), "retention": [made.record() for made in rules]})
    for made in rules:
        run.out.line(safe(rules_of.describe(made)))
    if not rules:
        run.out.line("no rules: every version stays")
    return 0


# ---- verify and repair -------------------------------------------------------------------------------------------


@verb()
@click.option("--deep", is_flag=True, help="Read and hash every byte.")
@click.option("--quick", is_flag=True, help="Records, presence, size and tamper marks only (the default).")
@click.option("--shard", default="1/1", metavar="I/N", help="Only the I-th of N parts of the lake, for job arrays.")
@click.option(
    "--resume", metavar="FILE", type=click.Path(dir_okay=False), help="Note progress there and go on from it."
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Number of threads that hash.")
def verify(run: Run, deep: bool, quick: bool, shard: str, resume: str | None, workers: int | None) -> int:
    """Look for what is missing or damaged; change nothing.

    Exit code 5 when content is damaged or missing, 7 when a newer release wrote something, else 0 (also with notes and
    warnings).
    """
    from concurrent.futures import ThreadPoolExecutor

    if deep and quick:
        raise InvalidInput("--deep and --quick are two ways to look; give one")
    part = _shard(shard)
    with ThreadPoolExecutor(workers) as pool, phases() as progress:
        report = run.lake.verify(
            deep=deep, shard=part, resume=resume, executor=pool if workers else None, progress=progress
        )
    _print_findings(run, report.findings)
    run.out.record(report.record())
    hashed = f", {size(report.hashed_bytes)} read" if deep else ""
    verdict = "damage found" if report.damaged else "nothing is damaged"
    run.out.line(
        f"{verdict}: {count(report.sessions, 'session')}, {count(report.records, 'record')}, "
        f"{count(report.copies, 'blob')}{hashed}"
    )
    return report.exit_code


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InvalidInput(f"--shard {text}: write I/N with I from 1 to N, e.g. 3/16")
    return int(found[1]), int(found[2])


def _print_findings(run: Run, findings: Sequence[Finding]) -> None:
    for finding in findings:
        run.out.record(finding.record())
        run.out.line(safe(finding.text()))


@verb(changes=True)
@click.option(
    "--from", "sources", multiple=True, metavar="LAKE|DIR", help="Where good content may be; repeat for more."
)
@click.option("--deep", is_flag=True, help="Read every byte first, to find damage that left no trace.")
def repair(run: Run, sources: Sequence[str], deep: bool) -> int:
    """Put right what verify finds.

    Heals from the trash, from the trees of this lake, and from other lakes, folders and files by content. Bad bytes are
    kept in quarantine; no record is ever dropped.
    """
    with phases() as progress:
        done = run.lake.repair(*sources, deep=deep, dry_run=run.dry, progress=progress)
    run.out.record(done.record())
    for where, source in done.healed:
        run.out.did(run.dry, "healed", "heal", f"{where} from {source}")
    if done.resealed:
        run.out.did(run.dry, "checked and resealed", "check and reseal", count(done.resealed, "blob"))
    for finding in done.left:
        run.out.line(safe(finding.text()))
    if not (done.healed or done.resealed or done.left):
        run.out.line("nothing to repair")
    return done.exit_code


# ---- questions ---------------------------------------------------------------------------------------------------


@verb()
def stats(run: Run) -> None:
    """Show the totals of a lake: logical against stored bytes."""
    found = run.lake.stats()
    run.out.record(found.record())
    share = f" ({found.stored_bytes / found.logical_bytes:.1%})" if found.logical_bytes else ""
    run.out.facts(
        [
            ("sessions", f"{found.sessions:,}"),
            ("files", f"{found.files:,}, {size(found.live_bytes)}"),
            ("versions", f"{found.versions:,}, {size(found.logical_bytes)}; {found.deleted:,} of them deleted"),
            ("stored", f"{size(found.stored_bytes)}{share} in {count(found.blobs, 'blob')}"),
            *([("on the disk", size(found.disk_bytes))] if found.disk_bytes else []),  # of a bucket nobody knows
            *((name, f"{count(n, 'file')}, {size(total)}") for name, (n, total) in found.other.items() if n),
        ]
    )


@verb(pages=True)
@click.argument("scope", type=ADDRESS, required=False, metavar="[WORKSPACE[/SESSION[:/PATH]]]")
@click.option("--by", type=click.Choice(_GROUPS), default="session", show_default=True, help="What to add up.")
@click.option("--depth", type=click.IntRange(1), default=1, show_default=True, help="Folders deep, with --by path.")
def du(run: Run, scope: Address | None, by: str, depth: int) -> None:
    """Show what takes the space.

    STORED counts each blob once; SHARED is what others need, too; FREED is what deleting the row would free once it is
    collected.
    """
    rows = run.lake.du(by, depth=depth, select=_selection(run, scope))
    run.out.records(row.record() for row in rows)
    heads = ("FILES", "LOGICAL", "STORED", "SHARED", "FREED")
    cells = [
        (r.group, f"{r.files:,}", size(r.logical), size(r.stored), size(r.shared), size(r.exclusive)) for r in rows
    ]
    run.out.table((by.upper(), *heads), cells, right=heads)
    if not rows:
        run.out.line("nothing is stored there")


def _selection(run: Run, scope: Address | None) -> Any:
    if scope is None:
        return None
    if scope.session is None:
        known = set(run.workspace(scope.workspace))
        return lambda session, version: session in known
    run.need_session(scope.key)
    if scope.path is None:
        return lambda session, version: session == scope.key
    path = scope.path.rstrip("/")
    return lambda session, version: session == scope.key and (version.key + "/").startswith(path + "/")


@verb(pages=True)
@click.argument("checksum")
def why(run: Run, checksum: str) -> int:
    """Show what keeps a content: everything that refers to the blob of a checksum (or its first 6 digits)."""
    from dreamlake.operations.lineage import plain_aliases, user_names

    links = run.lake.why(checksum)
    if not links:
        raise NotFound(f"no blob starts with {checksum!r}", path=checksum)
    run.out.records(link.record() for link in links)
    rows = []
    for link in links:
        where = f"{link.session}:{link.path}@v{link.version}" if link.session else ""
        plain = ", ".join(plain_aliases(dict.fromkeys(link.aliases)))
        users = ", ".join(user_names(run.lake.store, link.aliases))
        rows.append((link.key[:19], link.reason, where, plain, users, link.detail))
    run.out.table(("BLOB", "KEPT BY", "VERSION", "ALIASES", "USED BY", ""), rows)
    return 0
