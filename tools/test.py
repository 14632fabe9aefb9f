"""All tests, with one command on a fresh machine: ``python3 tools/test.py [pytest arguments]``.

Makes a virtual environment of its own in the checkout (``.venv-test``), installs the project with everything that the
tests and the documentation need, starts the servers that remote mode is tested on (``tools/servers``, in
``.venv-servers``), runs the linters, the type checker and pytest, and says which stores were tested.
Without arguments the tests that measure time or start many processes run alone, after the rest. Exits with 0 only if
everything passed; the last line counts tests and checks. Leaves nothing running and writes only to the checkout and to
a temporary folder that it removes.

Needs Python 3.10 or newer with ``venv``, nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-test"
STAMP = ENVIRONMENT / "installed"
PYTHON = ENVIRONMENT / "bin" / "python"
REQUIREMENTS = ROOT / "tools" / "requirements-test.txt"
EXTRAS = "test,docs-test,examples,torch,lightning,transformers,keras,mlflow,import,ecosystem-test"
WORKERS = "2"
SERIAL_FOLDERS = ("tests/crash",)  # what is marked "serial" elsewhere runs with them
SUITES = ("conformance", "integration.test_s3_objects", "integration.test_s3_blobs")  # the latter: the same on servers
REQUIRED_STORES = ("folder", "memory", "s3", "mongo")  # the conformance suites must have run on each of these
ORPHANS_MAY_LIVE_S = 5.0
_NO_TESTS = 5  # pytest's exit code when nothing was selected
_SUBREAPER = 36  # linux/prctl.h

CHECKS: dict[str, list[str]] = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy", "--strict", "dreamlake", "tools"],
}


class Count(NamedTuple):
    """What became of the tests of one pytest run, and the stores whose conformance suites were among them."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    stores: frozenset[str] = frozenset()

    def plus(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.stores | other.stores,
        )


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs before anything could check it
        sys.exit(f"dreamlake needs Python 3.10 or newer; this is {sys.version.split()[0]} ({sys.executable})")
    started = time.monotonic()
    adopt_orphans()
    scratch = tempfile.mkdtemp(prefix="dreamlake-test-")
    try:
        environment = variables(scratch)
        install(environment)
        broken = [name for name, command in CHECKS.items() if run(name, command, environment) != 0]
        with servers(environment, wanted=not arguments) as complaints:
            count, crashed = tests(arguments, environment, Path(scratch))
        broken += crashed + complaints
        if not arguments:
            broken += missing_stores(count)
        broken += [f"left running: {name}" for name in end_orphans()]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"{time.monotonic() - started:.0f} s in all")
    for name in broken:
        say(f"FAILED: {name}")
    good = len(CHECKS) - sum(name in CHECKS for name in broken)
    skipped = f", {count.skipped} skipped" if count.skipped else ""
    print(f"{count.passed + good} passed, {count.failed + len(broken)} failed{skipped}", flush=True)
    return 1 if broken or count.failed or not count.passed else 0


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def variables(scratch: str) -> dict[str, str]:
    """The environment of everything that runs: no setting of the user's, no file outside checkout and scratch."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("DREAMLAKE_", "PYTEST_"))}
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if (home / "pip" / "pip.conf").is_file():  # tests that install need the user's package index
        mine.setdefault("PIP_CONFIG_FILE", str(home / "pip" / "pip.conf"))
    mine.pop("PYTHONPATH", None)
    return {
        **mine,
        "PATH": f"{PYTHON.parent}{os.pathsep}{mine.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(ENVIRONMENT),
        "TMPDIR": scratch,
        "XDG_CONFIG_HOME": f"{scratch}/config",
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "MPLCONFIGDIR": f"{scratch}/matplotlib",
        "MPLBACKEND": "Agg",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def install(environment: dict[str, str]) -> None:
    """The virtual environment with what the project's files ask for; made anew for another Python or place only."""
    made_for = f"{sys.version} {ROOT}\n"
    inputs = (ROOT / "pyproject.toml").read_bytes() + REQUIREMENTS.read_bytes()
    wanted = made_for + hashlib.sha256(inputs).hexdigest()
    found = STAMP.read_text() if STAMP.is_file() and PYTHON.exists() else ""
    if found == wanted:
        return
    say(f"installing into {ENVIRONMENT.name} (Python {sys.version.split()[0]})")
    if not found.startswith(made_for):
        need_venv()
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    command = ["-m", "pip", "install", "-qq", "-e", f".[{EXTRAS}]", "-r", str(REQUIREMENTS)]
    if run("installation", command, environment) != 0:
        sys.exit("the installation failed; see above")
    STAMP.write_text(wanted)


def need_venv() -> None:
    """Debian splits ``venv`` off into a package of its own."""
    try:
        import ensurepip  # noqa: F401
    except ModuleNotFoundError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if os.environ.get("CI") != "true" or os.geteuid() != 0:
            sys.exit(f"this Python has no venv module; install it first, e.g. `apt-get install {package}`")
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def run(name: str, command: Sequence[str], environment: dict[str, str]) -> int:
    """One step with the environment's Python, in a process group that does not outlive it; returns its exit code."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(PYTHON), *command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        code = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    say(f"{name}: {'ok' if code == 0 else f'exit code {code}'} ({time.monotonic() - begun:.0f} s)")
    return code


@contextlib.contextmanager
def servers(environment: dict[str, str], *, wanted: bool) -> Iterator[list[str]]:
    """One pair of servers for all test processes; their addresses go into ``environment``. Yields complaints.

    A run of chosen tests starts them when a test asks for them (``tests/conftest.py``).
    """
    if not wanted:
        yield []
        return
    begun = time.monotonic()
    sys.path.insert(0, str(ROOT))
    from tools.servers import keeper

    try:
        found = keeper.kept(os.getpid(), environment)
    except (RuntimeError, OSError) as error:
        say(f"servers: {error}")
        yield ["the servers did not start"]
        return
    say(f"servers: ok ({time.monotonic() - begun:.0f} s)")
    pid = int(found.pop("pid"))
    environment.update(found)
    try:
        yield []
    finally:
        keeper.end(pid)


def tests(arguments: Sequence[str], environment: dict[str, str], scratch: Path) -> tuple[Count, list[str]]:
    """Run pytest; returns the counts, and the runs that broke off rather than fail tests."""
    serial = [folder for folder in SERIAL_FOLDERS if (ROOT / folder).is_dir()]
    if arguments:
        plan = {"tests": list(arguments)}
    else:
        ignored = [f"--ignore={folder}" for folder in serial]
        plan = {
            "tests": ["-n", WORKERS, "--dist", "worksteal", "-m", "not slow and not serial", *ignored, "tests"],
            "marked serial": ["-m", "serial and not slow", *ignored, "tests"],
            **{folder: ["-m", "not slow", folder] for folder in serial},
        }
    total, crashed = Count(), []
    for number, (name, selection) in enumerate(plan.items()):
        report = scratch / f"report-{number}.xml"
        code = run(f"pytest, {name}", ["-m", "pytest", "-q", f"--junitxml={report}", *selection], environment)
        if code == _NO_TESTS and not arguments:
            continue
        count = read_report(report)
        total = total.plus(count)
        if code != 0 and not count.failed:
            crashed.append(f"pytest, {name}: exit code {code}")
    return total, crashed


def read_report(report: Path) -> Count:
    """Counts and stores from the JUnit file that pytest wrote."""
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return Count()
    failed = sum(any(child.tag in ("failure", "error") for child in case) for case in cases)
    skipped = sum(any(child.tag == "skipped" for child in case) for case in cases)
    stores: set[str] = set()
    for case in cases:
        if any(suite in case.get("classname", "") for suite in SUITES) and len(case) == 0:
            parameters = case.get("name", "").partition("[")[2].rstrip("]").lower()
            stores.update(store for store in REQUIRED_STORES if store in parameters)
    return Count(len(cases) - failed - skipped, failed, skipped, frozenset(stores))


def missing_stores(count: Count) -> list[str]:
    """Say what the conformance suites ran on; returns a complaint for every store that they must run on."""
    say(f"stores tested: {', '.join(sorted(count.stores)) or 'none'}")
    return [f"no conformance test ran on the {store} store" for store in REQUIRED_STORES if store not in count.stores]


def adopt_orphans() -> None:
    """Processes that lose their parent become children of this one, so that ``end_orphans`` finds them (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> list[str]:
    """End what tests left running, after a moment in which helpers may end by themselves; returns command lines."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    if not listing.exists():
        return []
    deadline = time.monotonic() + ORPHANS_MAY_LIVE_S
    while (children := listing.read_text().split()) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.1)
    lines = []
    for child in children:
        with contextlib.suppress(OSError):
            lines.append(
                Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
            )
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
