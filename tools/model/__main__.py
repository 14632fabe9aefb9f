"""Command line of the model: `python -m tools.model [--traces] [--big]`. Exits with 1 if a run surprises."""

from __future__ import annotations

import argparse

from tools.model.explorer import explore
from tools.model.runs import BIG, HOLDS, MUTATIONS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.model", description=__doc__)
    parser.add_argument("--traces", action="store_true", help="print every counter-example, step by step")
    parser.add_argument("--big", action="store_true", help="add the large explorations: some minutes, some gigabytes")
    options = parser.parse_args(arguments)
    surprises = states = 0
    for title, runs in (("must hold", HOLDS + (BIG if options.big else [])), ("must break", MUTATIONS)):
        print(title)
        for run in runs:
            lake = run.make()
            verdict = explore(lake)
            expected = verdict.wrong is None if run.breaks is None else (verdict.wrong or "").startswith(run.breaks)
            surprises += not expected
            states += verdict.states
            print(f"  {'ok ' if expected else 'BAD'} {run.name:<50} {verdict}", flush=True)
            if verdict.wrong and (options.traces or run.breaks is None):
                for number, (label, state) in enumerate(verdict.trace, 1):
                    print(f"      {number:2}. {label:<64} {lake.show(state)}")
    print(f"{states:,} states; {surprises} not as expected")
    return 1 if surprises else 0


if __name__ == "__main__":
    raise SystemExit(main())
