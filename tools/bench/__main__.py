"""Command line of the benchmarks: `python -m tools.bench [NAME ...] [--quick] [--runs 5] [--json FILE] [--dir DIR]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tools.bench.harness import BenchError, Result, Room, Target, table
from tools.bench.workloads import BENCHMARKS, describe


def run(names: list[str], room: Room) -> list[Result]:
    """The rows of the benchmarks `names`, a failed one with its error; progress goes to the standard error."""
    results = []
    for name in names:
        start = time.monotonic()
        try:
            result = BENCHMARKS[name](room)
        except BenchError as error:
            result = Result(name, f"{name}: {describe(BENCHMARKS[name])}", Target("ratio", 0), error=str(error))
        results.append(result)
        said = result.error or f"done in {time.monotonic() - start:.1f} s"
        print(f"{name}: {said}", file=sys.stderr, flush=True)
    return results


def about(room: Room) -> dict[str, object]:
    """What a reader must know to judge the figures."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "runs": room.runs,
        "quick": room.quick,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0, 1 when a benchmark failed (--check: or missed its target), 2 for wrong arguments."""
    listed = "\n".join(f"  {name:20} {describe(function)}" for name, function in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all)")
    parser.add_argument("--quick", action="store_true", help="small amounts of work: shows that all runs, says little")
    parser.add_argument("--runs", type=int, help="runs of each side, alternating (default 5, with --quick 2)")
    parser.add_argument("--json", type=Path, help="file for all samples")
    parser.add_argument("--dir", type=Path, help="where to work: the disk that is measured (default: temporary files)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        print(f"error: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as folder:
        room = Room(Path(folder), options.runs or (2 if options.quick else 5), options.quick)
        head = about(room)
        results = run(options.names or list(BENCHMARKS), room)
    print(table(results))
    if options.json:
        document = {**head, "results": [result.document() for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    failed = any(result.error for result in results)
    missed = any(result.error is None and not result.target.reached(result) for result in results)
    return 1 if failed or (options.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
