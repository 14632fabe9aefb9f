"""Command line of the comparison: `python -m tools.peers SERIES_DIR [--peers ...] [--series ...] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tools.peers.base import Peer, PeerError
from tools.peers.borg import Borg, BorgZstd
from tools.peers.casync import Casync
from tools.peers.dvc import Dvc
from tools.peers.lake import Lake, LakeCoded, LakeOptimized, LakeRaw
from tools.peers.measure import Result, load, measure, warm
from tools.peers.mlflow import Mlflow
from tools.peers.restic import Restic
from tools.peers.wandb import Wandb
from tools.peers.xet import Xet

PEERS: dict[str, type[Peer]] = {
    "raw": LakeRaw,
    "default": Lake,
    "coded": LakeCoded,
    "optimized": LakeOptimized,
    "dvc": Dvc,
    "restic": Restic,
    "borg": Borg,
    "borg-zstd": BorgZstd,
    "casync": Casync,
    "xet": Xet,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def table(results: list[Result], series: list[str]) -> str:
    """The results as two Markdown tables: stored by logical bytes, then `ingest / read back` as ratios of time.

    A cell without a figure says why: `failed` (the error stands below the tables), or `-` for what cannot be done.
    """
    by_peer: dict[str, dict[str, Result]] = {}
    for result in results:
        by_peer.setdefault(result.peer, {})[result.series] = result
    stored, times = _head("stored / logical bytes", series), _head("ingest / read back, x plain copy", series)
    for peer, row in by_peer.items():
        cells = [row[name] for name in series]
        stored.append(f"| {peer} | " + " | ".join(cell(each, each.stored, 3) for each in cells) + " |")
        pairs = (f"{cell(each, each.ingest, 1)} / {cell(each, each.read, 1)}" for each in cells)
        times.append(f"| {peer} | " + " | ".join(pairs) + " |")
    failures = [f"- {result.peer}, {result.series}: {result.error}" for result in results if result.error]
    return "\n".join([*stored, "", *times, *(["", *failures] if failures else [])])


def _head(title: str, series: list[str]) -> list[str]:
    return [f"| {title} | " + " | ".join(series) + " |", "| --- " * (len(series) + 1) + "|"]


def cell(result: Result, value: float | None, digits: int) -> str:
    """One figure of the table."""
    if result.error:
        return "failed"
    return "-" if value is None else f"{value:.{digits}f}"


def install(peers: list[Peer]) -> int:
    """Install what is missing; says what happened to each peer and returns the number that cannot be had."""
    missing = 0
    for peer in peers:
        try:
            if peer.version() is None:
                peer.install()
            found = peer.version()
        except PeerError as error:
            found = None
            print(f"{peer.name}: {error}", file=sys.stderr)
        print(f"{peer.name}: {found or 'MISSING'}")
        missing += found is None
    return missing


def compare(peers: list[Peer], folder: Path, names: list[str], runs: int, work: Path) -> list[Result]:
    """Measure every peer on every series; a peer that is not installed gets results with an error."""
    series = load(folder)
    unknown = [name for name in names if name not in series]
    if unknown:
        raise PeerError(f"{folder} has no series {', '.join(unknown)}; it has {', '.join(series)}")
    results = []
    for name in names or list(series):
        items = series[name]
        warm(items)
        for peer in peers:
            if peer.version() is None:
                size = sum(item.size_bytes for item in items)
                result = Result(peer.name, name, size, error="not installed (python -m tools.peers --install)")
            else:
                result = measure(peer, name, items, runs=runs, work=work)
            results.append(result)
            print(f"{name} {peer.name}: {result.error or describe(result)}", file=sys.stderr)
    return results


def describe(result: Result) -> str:
    """One line of progress."""
    parts = (("stored", result.stored), ("ingest x", result.ingest), ("read back x", result.read))
    return ", ".join(f"{label} {value:.3f}" for label, value in parts if value is not None)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 when a peer is missing or failed, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.add_argument("series_dir", nargs="?", type=Path, help="a folder made by `python -m tools.series`")
    parser.add_argument("--install", action="store_true", help="install the missing peers (pip in venvs, apt-get)")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help=f"which, separated by commas (default: {','.join(PEERS)})"
    )
    parser.add_argument("--series", default="", help="which, separated by commas (default: all of the folder)")
    parser.add_argument("--runs", type=int, default=1, help="runs of each peer and of the baseline, alternating")
    parser.add_argument("--json", type=Path, help="file for the raw results")
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's folder for temporary files)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dreamlake-peers"
    parser.add_argument("--home", type=Path, default=cache, help="where the peers are installed")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.peers.split(",")) - set(PEERS))
    if unknown or (options.series_dir is None and not options.install):
        parser.print_usage(sys.stderr)
        print(f"error: unknown peers {unknown}" if unknown else "error: SERIES_DIR or --install", file=sys.stderr)
        return 2
    peers = [PEERS[name](options.home.resolve()) for name in options.peers.split(",")]
    missing = install(peers) if options.install else 0
    if options.series_dir is None:
        return 1 if missing else 0
    names = [name for name in options.series.split(",") if name]
    try:
        with tempfile.TemporaryDirectory(prefix="peers-", dir=options.dir) as work:
            results = compare(peers, options.series_dir, names, options.runs, Path(work))
    except PeerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results, names or list(dict.fromkeys(result.series for result in results))))
    if options.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {peer.name: peer.version() for peer in peers}
        document = {**about, "versions": versions, "results": [result.document() for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result.error for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
