"""The verb that compares: ``diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamlake.cli.addresses import AddressType, parse
from dreamlake.cli.checkpoints import escaped
from dreamlake.cli.command import Run, verb
from dreamlake.cli.output import count, safe, size

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dreamlake.operations.diff import Diff, FileChange
    from dreamlake.operations.sides import Side
    from dreamlake.operations.tensor_diff import TensorChange

DIFFERENT = 1  # exit code of diff --exit-code, as that of git diff and of diff itself


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    if ctx.params.get("local") or _is_local(incomplete):
        return [CompletionItem(incomplete, type="file")]
    return AddressType().shell_complete(ctx, param, incomplete)


@verb(pages=True)
@click.argument("a", shell_complete=_complete)
@click.argument("b", shell_complete=_complete)
@click.option("--local", is_flag=True, help="A and B are files or folders on disk; no lake is needed.")
@click.option("--files-only", is_flag=True, help="Do not compare the tensors of changed checkpoints.")
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, metavar="N",
              help="Show the N tensors of each checkpoint that changed most.")  # fmt: skip
@click.option("--exit-code", is_flag=True, help=f"Exit with {DIFFERENT} when they differ.")
def diff(run: Run, a: str, b: str, local: bool, files_only: bool, top: int, exit_code: bool) -> int:
    """Show what differs between two sessions, folders, files or versions.

    Two files are compared whatever their names are; sessions and folders file by file, by path. Of changed checkpoints
    it tells which tensors were added, removed or changed, and by how much: the share of changed elements, the largest
    absolute difference, and the norm of the difference relative to that of the tensor before. What begins with /, ./,
    ../ or ~ is a file or folder on disk.

    The exit code is 0 whether they differ or not; with --exit-code it is 1 when they differ.

    \b
    dreamlake diff vision/run-1 vision/run-2
    dreamlake diff vision/run-1:/models/best.pth@v1 vision/run-1:/models/best.pth
    dreamlake diff vision/run-1:/models ./models
    dreamlake diff --local epoch_1.pth epoch_2.pth
    """
    from dreamlake.checkpoints import diff_sides

    found = diff_sides(*(_side(run, text, local) for text in (a, b)), tensors=not files_only)
    run.out.record(diff_record(found))
    _print_diff(run, found, top)
    for path, reason in found.skipped:
        run.out.note(f"skipped {path}: {reason}")
    return DIFFERENT if exit_code and found.differs else 0


def _is_local(text: str) -> bool:
    return text in (".", "..") or text.startswith(("/", "./", "../", "~"))


def _side(run: Run, text: str, local: bool) -> Side:
    from dreamlake.operations.sides import Place, local_side, stored_side

    if local or _is_local(text):
        return local_side(text)
    address = run.own(parse(text))
    run.need_session(address.key)
    return stored_side(run.lake.store, Place(address.key, address.path))


def diff_record(found: Diff) -> dict[str, Any]:
    """The result as JSON. Tensors that are the same are only counted."""
    return {
        "a": escaped(found.a),
        "b": escaped(found.b),
        "differs": found.differs,
        "same": found.same,
        **{change: found.count(change) for change in ("added", "removed", "changed", "moved")},
        "sizeBytes": {"a": found.sizes[0], "b": found.sizes[1]},
        "sharedBytes": found.shared,
        "files": [_file_record(change) for change in found.changes],
        "skipped": [{"path": escaped(path), "reason": reason} for path, reason in found.skipped],
    }


def _file_record(change: FileChange) -> dict[str, Any]:
    tensors = change.tensors
    return {
        "change": change.change,
        "path": escaped(change.path),
        "movedFrom": None if change.moved_from is None else escaped(change.moved_from),
        "sizeBytes": {"before": change.before, "after": change.after},
        "checksum": dict(zip(("before", "after"), change.checksums, strict=True)),
        "sharedBytes": change.shared,
        "sameTensors": None if tensors is None else sum(1 for tensor in tensors if tensor.change == "same"),
        "tensors": None if tensors is None else [_tensor_record(t) for t in tensors if t.change != "same"],
    }


def _tensor_record(tensor: TensorChange) -> dict[str, Any]:
    sides = {"before": tensor.before, "after": tensor.after}
    value: dict[str, Any] = {
        "name": escaped(tensor.name),
        "change": tensor.change,
        "dtype": {when: None if side is None else side.dtype for when, side in sides.items()},
        "shape": {when: None if side is None else list(side.shape) for when, side in sides.items()},
    }
    measure = tensor.measure
    if measure is not None:
        value |= {
            "elements": measure.elements,
            "changedElements": measure.changed,
            "maxAbs": measure.max_abs,
            "relativeL2": measure.relative,
            "nan": dict(zip(("before", "after"), measure.nan, strict=True)),
            "inf": dict(zip(("before", "after"), measure.inf, strict=True)),
        }
    return value


def _print_diff(run: Run, found: Diff, top: int) -> None:
    if not found.differs:
        run.out.line(f"no difference: {count(found.same, 'file')}, {size(found.sizes[1])}")
    if run.out.as_json or not found.differs:
        return
    run.out.table(
        ["CHANGE", "FILE", "BEFORE", "AFTER", "SHARED", "TENSORS"],
        [
            (
                change.change,
                f"{change.moved_from} -> {change.path}" if change.moved_from is not None else change.path,
                "" if change.before is None else size(change.before),
                "" if change.after is None else size(change.after),
                size(change.shared) if change.shared and change.change != "moved" else "",
                _tally(change.tensors),
            )
            for change in found.changes
        ],
        right=["BEFORE", "AFTER", "SHARED"],
    )
    for change in found.changes:
        differing = [tensor for tensor in change.tensors or () if tensor.change != "same"]
        if differing and top:
            run.out.line()
            _print_tensors(run, change.path, differing, top)
    run.out.line()
    counts = [(found.count(word), word) for word in ("changed", "added", "removed", "moved")]
    words = [f"{number:,} {word}" for number, word in [*counts, (found.same, "the same")] if number]
    share = f" ({_percent(found.shared / found.sizes[1])})" if found.sizes[1] else ""
    run.out.line(f"{', '.join(words)}; {size(found.shared)} of {size(found.sizes[1])} shared{share}")


def _tally(tensors: list[TensorChange] | None) -> str:
    if tensors is None:
        return ""
    from collections import Counter

    counts = Counter(tensor.change for tensor in tensors)
    order = {"changed": "changed", "dtype": "of other dtype", "shape": "of other shape", "added": "added",
             "removed": "removed", "same": "same"}  # fmt: skip
    return ", ".join(f"{counts[change]:,} {word}" for change, word in order.items() if counts[change]) or "none"


def _print_tensors(run: Run, path: str, differing: list[TensorChange], top: int) -> None:
    shown = sorted(differing, key=_weight, reverse=True)[:top]
    run.out.table(
        [f"TENSOR OF {safe(path)}", "CHANGE", "DTYPE", "SHAPE", "CHANGED", "MAX ABS", "REL L2", "NAN", "INF"],
        [
            (
                tensor.name, tensor.change, _two(tensor, lambda t: t.dtype),
                _two(tensor, lambda t: "x".join(map(str, t.shape)) or "scalar"), *_measures(tensor),
            )
            for tensor in shown
        ],
        right=["CHANGED", "MAX ABS", "REL L2", "NAN", "INF"],
    )  # fmt: skip
    if len(differing) > len(shown):
        run.out.line(f"... {count(len(differing) - len(shown), 'more tensor')} (--top {len(differing)} shows all)")


def _weight(tensor: TensorChange) -> tuple[bool, float, float]:
    """What has no measure comes first, then what changed most."""
    measure = tensor.measure
    if measure is None:
        return True, 0.0, 0.0
    return measure.nan != (0, 0), measure.relative if measure.relative is not None else 0.0, measure.max_abs


def _two(tensor: TensorChange, tell: Any) -> str:
    """A fact before and after; one word where it is the same."""
    facts = [tell(side) for side in (tensor.before, tensor.after) if side is not None]
    return " -> ".join(dict.fromkeys(facts))


def _measures(tensor: TensorChange) -> tuple[str, str, str, str, str]:
    measure = tensor.measure
    if measure is None:
        return "", "", "", "", ""
    share = measure.changed / measure.elements if measure.elements else 0.0
    relative = "-" if measure.relative is None else f"{measure.relative:.3g}"
    odd = [f"{pair[0]:,} -> {pair[1]:,}" if pair != (0, 0) else "" for pair in (measure.nan, measure.inf)]
    return _percent(share), f"{measure.max_abs:.3g}", relative, odd[0], odd[1]


def _percent(share: float) -> str:
    """Never rounded to all or nothing."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"
