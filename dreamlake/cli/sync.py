"""Verbs between two lakes: ``push``, ``pull``, ``sync``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dreamlake.cli.command import Run, check_shown, verb
from dreamlake.cli.output import count, safe, size
from dreamlake.progress import phases

if TYPE_CHECKING:
    from dreamlake.operations.sync_report import Synced, Way


@verb(changes=True)
@click.argument("target", metavar="LAKE")
@click.argument("sessions", metavar="[WORKSPACE[/SESSION]|GLOB]...", nargs=-1)
@click.option("--create", is_flag=True, help="Make the other lake when there is none.")
def push(run: Run, target: str, sessions: tuple[str, ...], create: bool) -> int:
    """Bring what is in this lake into another one.

    LAKE is a folder, a profile or a URL. Sends what is missing there: versions with their ids, times, tags and
    aliases, deletions, parameters, logs and tracks. May be cut off and run again. Exits with the code of the first
    session that could not be brought over; the others are.

    \b
    dreamlake push team
    dreamlake push /backup/lake "vision/run-*" --dry-run
    """
    check_shown(target)
    with phases("B") as progress:
        return _told(run, run.lake.push(target, *sessions, dry_run=run.dry, create=create, progress=progress))


@verb(changes=True)
@click.argument("target", metavar="LAKE")
@click.argument("sessions", metavar="[WORKSPACE[/SESSION]|GLOB]...", nargs=-1)
def pull(run: Run, target: str, sessions: tuple[str, ...]) -> int:
    """Bring what is in another lake into this one, which is created if need be.

    \b
    dreamlake pull team vision/run-1
    """
    from dreamlake.lake import open_lake

    check_shown(target)
    lake = run.lake if run.dry else open_lake(run.place, create=True)
    with phases("B") as progress:
        return _told(run, lake.pull(target, *sessions, dry_run=run.dry, progress=progress))


@verb(changes=True)
@click.argument("target", metavar="LAKE")
@click.argument("sessions", metavar="[WORKSPACE[/SESSION]|GLOB]...", nargs=-1)
@click.option("--create", is_flag=True, help="Make the other lake when there is none.")
def sync(run: Run, target: str, sessions: tuple[str, ...], create: bool) -> int:
    """Bring two lakes to the same sessions, in both directions.

    Of what both changed, every version stays, and the later of two values; where that happened is told.

    \b
    dreamlake sync team
    dreamlake --lake /mnt/usb/lake sync team vision
    """
    check_shown(target)
    with phases("B") as progress:
        return _told(run, run.lake.sync(target, *sessions, dry_run=run.dry, create=create, progress=progress))


def _told(run: Run, done: Synced) -> int:
    run.out.record(done.record())
    for session in done.sessions:
        for way, verb_done, verb_would in ((session.sent, "sent", "send"), (session.received, "received", "receive")):
            if way.changed:
                run.out.did(run.dry, verb_done, verb_would, f"{session.session}: {_says(way)}")
        for clash in session.clashes:
            where = f"{session.session}:{clash.path}" if clash.path else session.session
            run.out.note(safe(f"{where} {clash.what}"))
        if session.error is not None:
            run.out.note(safe(f"{session.session} was left as it is: {session.error}"))
    if not any(session.sent.changed or session.received.changed for session in done.sessions) and not done.failed:
        run.out.line(f"nothing to do: {count(len(done.sessions), 'session')}")
    return done.exit_code


def _says(way: Way) -> str:
    parts = [
        count(way.versions, "version") if way.versions else "",
        f"{count(way.contents, 'content')} of {size(way.content_bytes)}" if way.contents else "",
        f"{size(way.stored_bytes)} as stored" if way.stored_bytes else "",
        count(way.rows, "row") if way.rows else "",
        count(way.documents, "document") if way.documents else "",
    ]
    return ", ".join(part for part in parts if part) or "what is said of it"
