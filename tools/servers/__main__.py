"""``python3 -m tools.servers start | stop | run -- COMMAND``; see the package."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import tools.servers
from tools.servers import keeper
from tools.servers.environment import HOME

STATE = HOME / "running.json"


def main(arguments: Sequence[str]) -> int:
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb == "keep" and len(rest) == 1:
        keeper.keep(int(rest[0]))
        return 0
    if verb == "start" and not rest:
        return start()
    if verb == "stop" and not rest:
        return stop()
    if verb == "run" and rest[:1] == ["--"] and len(rest) > 1:
        return run(rest[1:])
    print(tools.servers.__doc__, file=sys.stderr)
    return 2


def start() -> int:
    if STATE.is_file():
        print("They run already; `python3 -m tools.servers stop` ends them.", file=sys.stderr)
        show(json.loads(STATE.read_text()))
        return 0
    found = keeper.kept(0)
    STATE.write_text(json.dumps(found))
    show(found)
    return 0


def show(found: dict[str, str]) -> None:
    for name, value in keeper.for_users(found).items():
        if name != "pid":
            print(f"export {name}={shlex.quote(value)}")


def stop() -> int:
    if not STATE.is_file():
        print("Nothing was started here.", file=sys.stderr)
        return 1
    keeper.end(int(json.loads(STATE.read_text())["pid"]))
    STATE.unlink()
    return 0


def run(command: Sequence[str]) -> int:
    found = keeper.kept(os.getpid())
    pid = int(found.pop("pid"))
    try:
        return subprocess.run(command, env={**os.environ, **keeper.for_users(found)}, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        keeper.end(pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
