"""A process that has everything imported and forks for every command: a real process each, without its start-up.

Reads one JSON request a line (argv, cwd, env, and files for the standard streams), answers with the exit status.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

from dreamlake.cli import VERBS, run


def main() -> None:
    for name in {verb.module for verb in VERBS.values()}:
        import_module(f"dreamlake.cli.{name}")
    for name in ("session", "cli.completing", "operations.materialize", "operations.packed"):
        import_module(f"dreamlake.{name}")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(become(request))
        status = os.waitpid(pid, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def become(request: dict[str, object]) -> int:
    """Be the command: its folder, environment, standard streams; returns the exit code."""
    try:
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]
        time.tzset()
        for number, name, flags in ((0, "in", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
            os.dup2(os.open(str(request[name]), flags), number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))
        code = run(request["argv"])  # type: ignore[arg-type]
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
