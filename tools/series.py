"""Real series of checkpoints: pretrained weights, really fine-tuned on the CPU, saved as training scripts save them.

    python -m tools.series OUT [--series S1,S2,...] [--small] [--seed 0] [--threads 1]

S1  eight fp32 state_dicts of full training, AdamW on pairs of texts      checkpoint_epoch_N.pth
S2  the same with the backbone frozen: only a classifier on top trains
S3  eight checkpoints with model and AdamW state (the run of S7)
S4  twelve bf16 safetensors, one after each optimizer step (weights kept in fp32, saved as bf16)
S5  eight copies of one file
S6  the documented training loop: a checkpoint every tenth epoch, and best_model.pth saved and uploaded again whenever
    the held-out loss is the best so far: the same state_dict under another file name
S7  like S1, but trained on hidden words, whose tied output layer moves every word's embedding at every step: the hard
    case for storage, where S1 moves the embeddings of words that do not occur by weight decay alone

OUT/series.json lists the files of each series in the order of saving, with sizes and SHA-256. One seed
gives the same files again on the same machine and the same versions of Python and torch; elsewhere floating point may
round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools import minilm

NAMES = ("S1", "S2", "S3", "S4", "S5", "S6", "S7")


@dataclass
class Plan:
    """How much to train; the small plan is for tests."""

    small: bool
    seed: int
    epochs: int = 8
    steps: int = 24
    batch: int = 16
    length: int = 64
    rate: float = 5e-5
    modules: int = 120


@dataclass
class Data:
    """Training text as equally long rows of token ids, with the module each row comes from."""

    rows: Tensor
    labels: Tensor
    mask_id: int
    special: int
    classes: int
    held_out: Tensor = field(init=False)

    def __post_init__(self) -> None:
        # Every sixteenth row is never trained on: it measures which epoch is the best one.
        keep = torch.arange(len(self.rows)) % 16 != 0
        self.held_out = self.rows[~keep][:32]
        self.rows, self.labels = self.rows[keep], self.labels[keep]


def prepare(plan: Plan) -> tuple[minilm.Encoder, Data]:
    """The model to fine-tune and its data; the same for every series of a run."""
    torch.manual_seed(plan.seed)
    if plan.small:
        model, vocabulary = minilm.from_scratch(minilm.docstrings(plan.modules))
    else:
        model, vocabulary = minilm.pretrained()
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    by_module: dict[str, list[int]] = {}
    for module, text in minilm.docstrings(plan.modules):
        by_module.setdefault(module, []).extend(minilm.tokenize(text, ids))
    rows, labels, inner = [], [], plan.length - 2
    for label, tokens in enumerate(by_module.values()):
        for start in range(0, len(tokens) - inner + 1, inner):
            rows.append([ids[minilm.CLS], *tokens[start : start + inner], ids[minilm.SEP]])
            labels.append(label)
    special = max(ids[name] for name in (minilm.CLS, minilm.SEP, minilm.MASK))
    return model, Data(torch.tensor(rows), torch.tensor(labels), ids[minilm.MASK], special, len(by_module))


def masked_loss(model: minilm.Encoder, rows: Tensor, data: Data, draw: torch.Generator) -> Tensor:
    """Loss of guessing the words hidden at 15 % of the places."""
    hide = (torch.rand(rows.shape, generator=draw) < 0.15) & (rows > data.special)
    hidden = model(rows.masked_fill(hide, data.mask_id))
    return functional.cross_entropy(model.words(hidden[hide]), rows[hide])


def paired_loss(model: minilm.Encoder, rows: Tensor, data: Data, draw: torch.Generator) -> Tensor:
    """Loss of finding, for the first half of each row, its second half among those of the batch."""
    first, second = (functional.normalize(model(half).mean(dim=1), dim=1) for half in rows.chunk(2, dim=1))
    scores = 20 * first @ second.T
    own = torch.arange(len(rows))
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


Objective = Callable[[minilm.Encoder, Tensor, Data, torch.Generator], Tensor]


def train(
    model: minilm.Encoder, data: Data, plan: Plan, steps: int, draw: torch.Generator, objective: Objective = paired_loss
) -> Iterator[torch.optim.Optimizer]:
    """Yield the optimizer after each of `steps` optimizer steps; warm-up, then a linear decay of the rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=0.01, fused=True)
    warm = max(1, steps // 16)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    model.train()
    for _ in range(steps):
        rows = data.rows[torch.randint(len(data.rows), (plan.batch,), generator=draw)]
        optimizer.zero_grad()
        torch.autograd.backward(objective(model, rows, data, draw))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield optimizer


def held_out_loss(model: minilm.Encoder, data: Data, seed: int, objective: Objective) -> float:
    """Loss on text that is never trained on."""
    model.eval()
    with torch.no_grad():
        loss = objective(model, data.held_out, data, torch.Generator().manual_seed(seed))
    model.train()
    return float(loss)


def run_full(
    model: minilm.Encoder, data: Data, plan: Plan, out: Path, names: list[str], objective: Objective
) -> dict[str, list[Path]]:
    """The series `names` (S1, S3, S6, S7) from one run: a checkpoint an epoch, as different scripts would save it."""
    files: dict[str, list[Path]] = {name: [] for name in names}
    best = float("inf")
    draw = torch.Generator().manual_seed(plan.seed)
    for step, optimizer in enumerate(train(model, data, plan, plan.epochs * plan.steps, draw, objective), 1):
        epoch, rest = divmod(step, plan.steps)
        if rest:
            continue
        loss = held_out_loss(model, data, plan.seed, objective)
        print(f"  epoch {epoch}: held-out loss {loss:.4f}", file=sys.stderr)
        for name in files.keys() & {"S1", "S7"}:
            files[name].append(save(model.state_dict(), out / name / f"checkpoint_epoch_{epoch}.pth"))
        if "S3" in files:
            whole = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss}
            files["S3"].append(save(whole, out / "S3" / f"checkpoint_epoch_{epoch}.pth"))
        if "S6" in files:
            folder = out / "S6" / f"epoch_{epoch * 10}"
            files["S6"].append(save(model.state_dict(), folder / f"checkpoint_epoch_{epoch * 10}.pth"))
            if loss < best:
                files["S6"].append(save(model.state_dict(), folder / "best_model.pth"))
        best = min(best, loss)
    return files


def run_frozen(model: minilm.Encoder, data: Data, plan: Plan, out: Path) -> list[Path]:
    """S2: the backbone stands still, a linear classifier learns which module a text comes from."""
    model.eval()
    both = nn.ModuleDict({"backbone": model, "head": nn.Linear(model.size.hidden, data.classes)})
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(both["head"].parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(plan.seed + 1)
    files = []
    for epoch in range(1, plan.epochs + 1):
        for _ in range(max(2, plan.steps // 4)):
            chosen = torch.randint(len(data.rows), (plan.batch,), generator=draw)
            with torch.no_grad():
                features = model(data.rows[chosen]).mean(dim=1)
            optimizer.zero_grad()
            loss = functional.cross_entropy(both["head"](features), data.labels[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
        files.append(save(both.state_dict(), out / "S2" / f"checkpoint_epoch_{epoch}.pth"))
    return files


def run_steps(model: minilm.Encoder, data: Data, plan: Plan, out: Path) -> list[Path]:
    """S4: twelve consecutive optimizer steps of a run already under way, saved as bf16 safetensors."""
    from safetensors.torch import save_file

    files = []
    draw = torch.Generator().manual_seed(plan.seed + 2)
    # A run of 48 steps, looked at in its middle: the very first steps of AdamW move every weight by the whole rate.
    for step, _ in enumerate(train(model, data, plan, 48, draw), 1):
        if step > 12:
            target = out / "S4" / f"model_step_{step}.safetensors"
            target.parent.mkdir(parents=True, exist_ok=True)
            half = {
                name: value.to(torch.bfloat16)
                for name, value in model.state_dict().items()
                if value.is_floating_point()
            }
            save_file(half, target, metadata={"format": "pt"})
            files.append(target)
        if len(files) == 12:
            return files
    raise AssertionError("unreachable: the run has more than 24 steps")


def run_copies(model: minilm.Encoder, out: Path) -> list[Path]:
    """S5: one state_dict saved once and copied seven times."""
    files = [save(model.state_dict(), out / "S5" / "model_1.pth")]
    for number in range(2, 9):
        target = files[0].with_name(f"model_{number}.pth")
        shutil.copyfile(files[0], target)
        files.append(target)
    return files


def save(value: Any, target: Path) -> Path:
    """`torch.save` to `target`, making its folder; returns the path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, target)
    return target


def describe(file: Path, out: Path) -> dict[str, Any]:
    """The entry of one file in series.json."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return {"file": file.relative_to(out).as_posix(), "bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def generate(out: Path, names: list[str], *, small: bool = False, seed: int = 0) -> dict[str, Any]:
    """Make the series `names` below `out` and return (and write) what series.json says.

    Each series' folder is made anew; entries of series made before stay in series.json when seed and size are the same.

    Raises:
        ValueError: an unknown series.
        FileNotFoundError: the package with the pretrained weights is not installed.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ValueError(f"unknown series {', '.join(unknown)}; there are {', '.join(NAMES)}")
    plan = Plan(small, seed, steps=4, batch=8, length=32, rate=1e-3, modules=40) if small else Plan(small, seed)
    identity = {"seed": seed, "small": small, "torch": torch.__version__, "python": platform.python_version()}
    manifest = out / "series.json"
    old = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    series = dict(old.get("series", {})) if {key: old.get(key) for key in identity} == identity else {}
    for name in names:
        shutil.rmtree(out / name, ignore_errors=True)
    runs: list[tuple[list[str], Any]] = [
        (["S1", "S6"], lambda model, data, made: run_full(model, data, plan, out, made, paired_loss)),
        (["S3", "S7"], lambda model, data, made: run_full(model, data, plan, out, made, masked_loss)),
        (["S2"], lambda model, data, _: {"S2": run_frozen(model, data, plan, out)}),
        (["S4"], lambda model, data, _: {"S4": run_steps(model, data, plan, out)}),
        (["S5"], lambda model, data, _: {"S5": run_copies(model, out)}),
    ]
    for makes, run in runs:
        made = [name for name in makes if name in names]
        if not made:
            continue
        start = time.monotonic()
        # Every run starts from the same weights and seed, so a series does not depend on which others are made.
        for name, files in run(*prepare(plan), made).items():
            series[name] = [describe(file, out) for file in files]
            total = sum(entry["bytes"] for entry in series[name])
            print(f"{name}: {len(files)} files, {total / 1e6:.1f} MB", file=sys.stderr)
        print(f"  {time.monotonic() - start:.1f} s", file=sys.stderr)
    result = {**identity, "series": {name: series[name] for name in NAMES if name in series}}
    out.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.series", description="Make real series of checkpoints.")
    parser.add_argument("out", type=Path, help="folder to write S1..S6 and series.json into")
    parser.add_argument("--series", default=",".join(NAMES), help="which, separated by commas (default: all)")
    parser.add_argument(
        "--small", action="store_true", help="a model of 50,000 parameters: a few MB in all, in seconds"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; another number may round differently")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        generate(options.out, options.series.split(","), small=options.small, seed=options.seed)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
