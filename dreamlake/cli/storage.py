"""Verbs about how content is stored: ``optimize`` and ``settings``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dreamlake.cli.addresses import ADDRESS, Address
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, size
from dreamlake.errors import InvalidInput

if TYPE_CHECKING:
    from dreamlake.model import SessionKey

_ENCODINGS = ["auto", "coded", "raw"]


@verb(changes=True)
@click.argument("scope", type=ADDRESS, required=False, metavar="[WORKSPACE[/SESSION]]")
@click.option("--all-kinds", is_flag=True, help="Also cut large files that are no checkpoints.")
def optimize(run: Run, scope: Address | None, all_kinds: bool) -> int:
    """Store checkpoints as parts and differences in the background.

    What was uploaded with another encoding, or by streams, is stored anew, smaller; content and checksums never change.
    Long chains of differences are turned round, so that the newest version of a checkpoint is read fastest; what they
    were before waits for the next gc.
    Whole copies that are no longer needed are removed at once, and bases that only differences still need are freed
    for the next gc. Safe beside uploads and collections.
    """
    from dreamlake.progress import phases

    sessions = _sessions(run, scope)
    with phases() as progress:
        done = run.lake.optimize(
            *sessions, encoding="coded" if all_kinds else "auto", dry_run=run.dry, progress=progress
        )
    run.out.record(
        {
            "dryRun": done.dry_run,
            "candidates": done.candidates,
            "candidateBytes": done.candidate_bytes,
            "recoded": done.recoded,
            "left": done.left,
            "dropped": done.dropped,
            "bytesBefore": done.bytes_before,
            "bytesAfter": done.bytes_after,
            "turnedChains": done.turned_chains,
            "turnedVersions": done.turned_versions,
            "turnedBytesBefore": done.turned_bytes_before,
            "turnedBytesAfter": done.turned_bytes_after,
            "rebasedParts": done.rebased_parts,
            "rebaseCostBytes": done.rebase_cost_bytes,
            "freedBaseBytes": done.freed_base_bytes,
        }
    )
    whole = done.candidates or not (done.turned_chains or done.rebased_parts)  # else that is all there is to say
    if run.dry:
        if whole:
            run.out.line(
                f"would look at {count(done.candidates, 'large file')} stored whole ({size(done.candidate_bytes)});"
                " what that brings is known once they are coded"
            )
        if done.turned_chains:
            run.out.line(f"would turn round {count(done.turned_chains, 'chain')} of {done.turned_versions} versions")
        return 0
    if whole:
        run.out.line(
            f"{count(done.recoded, 'file')} coded: {size(done.bytes_before)} became {size(done.bytes_after)}; "
            f"{done.left} better left whole"
        )
    if done.turned_chains:
        run.out.line(
            f"{count(done.turned_chains, 'chain')} of {done.turned_versions} versions turned round, the newest reads "
            f"fastest: {size(done.turned_bytes_after)} instead of {size(done.turned_bytes_before)}, which gc can free"
        )
    if done.rebased_parts:
        gain = done.freed_base_bytes - done.rebase_cost_bytes
        run.out.line(f"{count(done.rebased_parts, 'part')} no longer need an old base: gc can free {size(gain)} more")
    return 0


def _sessions(run: Run, scope: Address | None) -> list[SessionKey]:
    if scope is None:
        return []
    if scope.path is not None:
        raise InvalidInput(f"{scope}: optimize takes a workspace or a session, not a file")
    if scope.session is None:
        return run.workspace(scope.workspace)
    run.need_session(scope.key)
    return [scope.key]


@verb(changes=True)
@click.option(
    "--encoding", type=click.Choice(_ENCODINGS), help="auto: checkpoints; coded: every large file; raw: none."
)
def settings(run: Run, encoding: str | None) -> int:
    """Show or change how uploads to a lake are stored.

    A session or an upload may say otherwise (encoding=...), and so may the environment (DREAMLAKE_ENCODING).
    """
    if encoding is not None and not run.dry:
        run.lake.configure(encoding=encoding)
    shown = encoding or run.lake.store.encoding
    run.out.record({"encoding": shown})
    run.out.facts([("encoding", shown)])
    return 0
