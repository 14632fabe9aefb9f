"""The verb that weighs checkpoints before they are stored: ``scan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, size

if TYPE_CHECKING:
    from dreamlake.operations.scan import Group, Scan
    from dreamlake.operations.weighing import FileCost

_ORDERS = ["saved", "stored", "size"]
_ENCODINGS = ["auto", "coded"]
_ROWS = 20  # kinds of files shown one by one


@verb()
@click.argument("folder", metavar="DIR")
@click.option("--quick", is_flag=True, help="Read an eighth of each large file and estimate the rest.")
@click.option("--encoding", type=click.Choice(_ENCODINGS), default="auto", show_default=True,
              help="auto codes checkpoints, coded every large file.")  # fmt: skip
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, metavar="N", help="Show N single files.")
@click.option("--sort", "order", type=click.Choice(_ORDERS), default="saved", show_default=True,
              help="Which: those that save most, take most when stored, or are largest.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Number of threads.")
def scan(run: Run, folder: str, quick: bool, encoding: str, top: int, order: str, workers: int | None) -> None:
    """Say what storing a folder would take, before anything is stored.

    Every checkpoint is cut and coded as an upload would, each against the one before it (epoch_2 comes before
    epoch_10), and only counted. Nothing is written. Links are not followed.

    Compared are: each file once; each tensor once, whatever file it is in; and differences: tensors coded, against
    the version before where that is smaller, as uploads store them.

    \b
    dreamlake scan runs
    dreamlake scan runs --quick --sort stored --top 3
    """
    from dreamlake.checkpoints import scan as weigh

    found = weigh(folder, encoding=encoding, quick=quick, top=top, order=order, workers=workers)
    run.out.record(scan_record(found))
    _print_scan(run, found, order)
    for path, reason in found.skipped:
        run.out.note(f"skipped {path}: {reason}")
    if found.skipped_count > len(found.skipped):
        run.out.note(f"skipped {found.skipped_count - len(found.skipped):,} more")
    if found.links:
        run.out.note(f"{count(found.links, 'link')} not followed")


def scan_record(found: Scan) -> dict[str, Any]:
    """The result as JSON: bytes throughout."""
    return {
        "root": escaped(found.root),
        "quick": found.quick,
        "files": found.total.files,
        "sizeBytes": found.total.size,
        "storedBytes": _stored(found.total),
        "ratio": {name: _ratio(n, found.total.size) for name, n in _stored(found.total).items()},
        "kinds": [
            {
                "suffix": escaped(group.suffix), "kind": group.kind, "files": group.files, "sizeBytes": group.size,
                "storedBytes": _stored(group),
            }
            for group in found.groups
        ],
        "top": [
            {"path": escaped(cost.relative), "kind": cost.kind, "sizeBytes": cost.size, "storedBytes": _stored(cost)}
            for cost in found.top
        ],
        "skipped": [{"path": escaped(path), "reason": reason} for path, reason in found.skipped],
        "skippedCount": found.skipped_count,
        "links": found.links,
        "readBytes": found.read_bytes,
        "seconds": round(found.seconds, 3),
    }  # fmt: skip


def _stored(cost: Group | FileCost) -> dict[str, int]:
    return {"files": cost.whole, "tensors": cost.parts, "differences": cost.differences}


def _print_scan(run: Run, found: Scan, order: str) -> None:
    total, about = found.total, "~" if found.quick else ""
    methods = [
        ("as it is", total.size),
        ("each file once", total.whole),
        ("each tensor once", total.parts),
        ("differences", total.differences),
    ]
    run.out.table(
        ["STORED", "SIZE", "RATIO", "SAVED"],
        [
            (name, about * bool(i) + size(n), _shown(n, total.size), about + _saved(total.size - n) if i else "")
            for i, (name, n) in enumerate(methods)
        ],
        right=["SIZE", "RATIO", "SAVED"],
    )
    run.out.line()
    columns = ["FILES", "SIZE", "FILE ONCE", "TENSOR ONCE", "DIFFERENCES", "RATIO"]
    run.out.table(
        ["KIND", *columns],
        [
            (
                name, f"{g.files:,}", size(g.size), about + size(g.whole), about + size(g.parts),
                about + size(g.differences), _shown(g.differences, g.size),
            )
            for name, g in _kinds(found)
        ],
        right=columns,
    )  # fmt: skip
    if found.top:
        run.out.line()
        title = {"saved": "SAVES MOST", "stored": "TAKES MOST", "size": "LARGEST"}[order]
        run.out.table(
            [title, *columns[1:]],
            [
                (
                    cost.relative, size(cost.size), about + size(cost.whole), about + size(cost.parts),
                    about + size(cost.differences), _shown(cost.differences, cost.size),
                )
                for cost in found.top
            ],
            right=columns,
        )  # fmt: skip
    run.out.line()
    speed = f" ({size(round(found.read_bytes / found.seconds))}/s)" if found.read_bytes and found.seconds else ""
    run.out.line(
        f"{count(total.files, 'file')}, {size(total.size)}; "
        f"{size(found.read_bytes)} read in {found.seconds:.1f} s{speed}{'; ~ is estimated' if found.quick else ''}"
    )


def _kinds(found: Scan) -> list[tuple[str, Group]]:
    """Name and sums of the largest kinds of files, and of all others together."""
    rows = [(f"{g.suffix or 'no suffix'}{f' ({g.kind})' if g.kind else ''}", g) for g in found.groups[:_ROWS]]
    rest = found.groups[_ROWS:]
    if rest:
        names = ("files", "size", "whole", "parts", "differences")
        sums = {name: sum(getattr(group, name) for group in rest) for name in names}
        rows.append((f"{len(rest):,} more kinds", type(rest[0])(**sums)))
    return rows


def _ratio(stored: int, plain: int) -> float | None:
    return round(stored / plain, 4) if plain else None


def _shown(stored: int, plain: int) -> str:
    return f"{stored / plain:.3f}" if plain else "-"


def _saved(count: int) -> str:
    """Bytes; below zero where a folder of little checkpoints takes more than it is."""
    return size(count) if count >= 0 else f"-{size(-count)}"


def escaped(name: str) -> str:
    """A name that is no valid Unicode (a file on disk may have one) with escapes instead."""
    return name.encode("utf-8", "backslashreplace").decode()
