"""Verbs that move whole sessions in and out of a lake: ``import``, ``export``."""

from __future__ import annotations

import os
from typing import Any

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, safe, size
from dreamlake.cli.selecting import select
from dreamlake.errors import InvalidInput

_SHOWN = 20  # of what was left out, that many are named without --json
KINDS = ("folder", "tar", "mlflow", "dreamlake")


@verb(changes=True)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("source", type=click.Path())
@click.argument("dest", type=ADDRESS, required=False, metavar="[WORKSPACE[/SESSION[:/FOLDER]]]")
def import_(run: Run, kind: str, source: str, dest: Address | None) -> None:
    """Import a folder, a tar, MLflow runs, or what DreamLake 0.2 to 0.4 wrote.

    folder and tar go into one session. mlflow (a folder mlruns) makes a session of every run, dreamlake one of every
    session or episode; WORKSPACE puts all of them into one workspace. Links, devices and what leads out of its tree are
    left out, and told. A second import adds nothing.

    \b
    dreamlake import folder ~/checkpoints vision/old:/models
    dreamlake import tar results.tar.gz vision/old
    dreamlake import mlflow mlruns
    dreamlake import dreamlake ~/old-project/.dreamlake --dry-run
    """
    from dreamlake.imports import import_into
    from dreamlake.progress import meter

    options: dict[str, Any] = {}
    if kind in ("folder", "tar"):
        if dest is None:
            raise InvalidInput(f"a {kind} goes into a session: add WORKSPACE/SESSION[:/FOLDER]")
        options = {"session": str(dest.key), "path": dest.path or "/"}
    elif dest is not None:
        if dest.session is not None:
            raise InvalidInput(f"{kind} makes sessions of its own; give a WORKSPACE only, or nothing")
        options = {"workspace": dest.workspace}
    with meter(None, f"import {os.path.basename(source.rstrip('/'))}") as progress:
        done = import_into(run.place, kind, source, dry_run=run.dry, progress=progress, **options)
    run.out.record(done.record())
    for where, why in done.skipped[:_SHOWN]:
        run.out.line(safe(f"left out {where}: {why}"))
    if done.skipped_count > _SHOWN:
        run.out.line(f"left out {done.skipped_count - _SHOWN:,} more; --json names them")
    stored = "" if run.dry else f", {size(done.stored_bytes)} of it stored"
    parts = [f"{count(done.files, 'file')}: {size(done.bytes)}{stored}"]
    parts += [f"{done.unchanged:,} unchanged"] if done.unchanged else []
    for number, noun in ((done.parameters, "parameter"), (done.log_lines, "log line"), (done.points, "point")):
        parts += [count(number, noun)] if number else []
    where = f"into {count(len(done.sessions), 'session')}"
    run.out.line(safe(f"{'would import' if run.dry else 'imported'} {', '.join(parts)} {where}"))


@verb(changes=True)
@click.argument("source", type=ADDRESS, metavar="WORKSPACE/SESSION[:/PATH]")
@click.argument("dest", type=click.Path())
@click.option("--format", "kind", type=click.Choice(["folder", "tar", "tar.gz"]), help="Default: what DEST ends in.")
def export(run: Run, source: Address, dest: str, kind: str | None) -> None:
    """Export files of a session as a folder or tar, with a manifest and checksums.

    The files are below files/, beside them manifest.json and SHA256SUMS, which sha256sum -c checks. Of a whole session,
    parameters, logs and tracks are exported, too.

    \b
    dreamlake export "vision/run 1" run-1.tar.gz
    dreamlake export vision/run-2:/models models/ && cd models && sha256sum -c SHA256SUMS
    """
    from dreamlake.operations.exporting import Exported, format_of
    from dreamlake.operations.exporting import export as write
    from dreamlake.progress import meter

    run.need_session(source.key)
    whole = (source.path or "/").strip("/") == ""
    versions = run.lake.store.catalog.view(source.key).live() if whole else select(run, source)
    total = sum(version.size_bytes for version in versions)
    if run.dry:
        done: dict[str, Any] = Exported(dest, format_of(dest, kind), len(versions), total).record()
    else:
        journal = run.lake.journal(source.key) if whole else None
        with meter(total, "export") as progress:
            done = write(
                run.lake.store, source.key, versions, dest, format=kind, journal=journal, progress=progress
            ).record()
    run.out.record(done)
    run.out.did(run.dry, "exported", "export", f"{count(done['files'], 'file')}: {size(done['sizeBytes'])} to {dest}")


import_.name = "import"
globals()["import"] = import_  # the name of the verb, which Python keeps for itself
