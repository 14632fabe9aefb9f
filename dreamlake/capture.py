"""What a run was made with: command, code, Python, packages, environment. Taken once a process, in some milliseconds.

Owns: what is taken and what is masked. Secrets are never stored: values that belong to names like ``--token`` or
``password=``, credentials in URLs, tokens of well-known shapes, and variables named after a secret. Reads only; the
one program it runs is ``git``, with a limit on its time. Nothing here ever fails a run.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, cast

from dreamlake import config, values
from dreamlake.catalog import Catalog
from dreamlake.errors import LakeError
from dreamlake.journal import RUNS, Journal
from dreamlake.operations.context import Store
from dreamlake.ports import iso

__all__ = ["MASK", "environment", "mask_command", "mask_text", "taken", "watched"]

MASK = "***"
GIT_TIMEOUT_S = 0.5  # of one call; a larger work tree is told as commit only
MAX_ARGUMENTS = 1000
MAX_ARGUMENT_CHARS = 2000
MAX_CHANGED = 50  # changed files that are named

_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE", re.IGNORECASE)
_SECRET_WORD = re.compile(
    r"(?:pass(?:word|wd|phrase)|secret|credentials?|(?:^|[^a-z])(?:pwd|pass|auth|bearer)(?=$|[^a-z])|(?:token|key)(?=$|[^a-z]))",
    re.IGNORECASE,
)
_OPTION = re.compile(r"-{1,2}([A-Za-z][\w.-]*)")
_ASSIGNED = re.compile(r"([-+~]*[A-Za-z_][\w.\-/]*)=(.*)", re.DOTALL)
_INSIDE = (
    re.compile(  # token="...", ['KEY'] = '...', setenv("TOKEN", "..."), {"password": "..."}: in a program, in JSON
        r"""((?<![\w-])[\w-]*(?:pass(?:word|wd|phrase)|secret|credential|token|key)\b(?:["']\]?\s*[:=,]|\s*[:=])\s*)"""
        r"""("[^"]*"|'[^']*'|[^\s,;}&"']+)""",
        re.IGNORECASE,
    )
)
_URL_USER = re.compile(r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/_.=~-]{8,}", re.IGNORECASE)
_KNOWN_SHAPES = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|xox[a-z]-[\w-]{10,}"
    r"|A(?:KI|SI)A[A-Z0-9]{16}|eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?)"
)
_VARIABLES = (
    "CUDA_*", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "RANK", "LOCAL_RANK",
    "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_JOB_NAME",
    "SLURM_NNODES", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_ARRAY_*", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTORCH_*", "TORCH_*", "NCCL_*", "XLA_FLAGS", "JAX_*",
    "KERAS_BACKEND", "TF_DETERMINISTIC_OPS", "TF_XLA_FLAGS", "CUBLAS_WORKSPACE_CONFIG", "CONDA_DEFAULT_ENV",
    "VIRTUAL_ENV",
)  # fmt: skip


def taken(variables: Iterable[str] = ()) -> dict[str, Any]:
    """All that is known of this process, as JSON values; the same for its whole life.

    Args:
        variables: further environment variables, as shell patterns.
    """
    global _facts
    if _facts is None or _facts[0] != os.getpid():
        _facts = (os.getpid(), _take())
    return {**_facts[1], "environment": environment(os.environ, variables)}


_facts: tuple[int, dict[str, Any]] | None = None


def _take() -> dict[str, Any]:
    folder = _script_folder()
    return {
        "command": mask_command(getattr(sys, "orig_argv", None) or sys.argv),
        "folder": _quiet(os.getcwd),
        "host": _quiet(socket.gethostname),
        "pid": os.getpid(),
        "git": _git(folder),
        "python": {
            "version": sys.version.split()[0],
            "implementation": sys.implementation.name,
            "executable": sys.executable,
        },
        "platform": _platform(),
        "packages": _packages(sys.path),
    }


def _quiet(call: Any) -> Any:
    try:
        return call()
    except (OSError, ValueError):
        return None


# ---- when it is written ------------------------------------------------------------------------------------------


def watched(journal: Journal, store: Store) -> tuple[Journal, Store]:
    """The same journal and store; the first write through either adds what is known of this run to the journal.

    After that write, so that a run which only reads, or whose input was refused, leaves nothing.
    """
    once = threading.Lock()

    def note() -> None:
        if once.acquire(blocking=False):  # never released: one line a run
            with contextlib.suppress(OSError, LakeError):  # for whatever reason it fails: none is worth a run
                facts = {"at": iso(store.ports.now()), **taken(config.capture_variables())}
                journal.append(RUNS, [values.checked(facts, what="what is known of this run")])

    seen = _Watched(journal, ("append", "update_document"), note)
    return cast(Journal, seen), replace(store, catalog=cast(Catalog, _Watched(store.catalog, ("commit",), note)))


class _Watched:
    """An object of which some methods are followed by a call."""

    def __init__(self, inner: Any, methods: Iterable[str], after: Callable[[], None]) -> None:
        self._inner = inner
        for name in methods:
            setattr(self, name, _followed(getattr(inner, name), after))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _followed(method: Callable[..., Any], after: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        after()
        return result

    return call


# ---- masking -----------------------------------------------------------------------------------------------------


def is_secret(name: str) -> bool:
    """True for the name of an option or field whose value must not be stored."""
    return _SECRET_WORD.search(name.replace("_", "-")) is not None


def mask_command(arguments: Iterable[str]) -> list[str]:
    """The command line without secrets: ``--token abc`` becomes ``--token ***``, ``db.password=x`` likewise."""
    shown: list[str] = []
    hidden = False  # the argument before was an option that a secret follows
    for argument in list(arguments)[:MAX_ARGUMENTS]:
        follows_secret, hidden = hidden, False
        if follows_secret and not argument.startswith("--"):
            shown.append(MASK)
            continue
        assigned = _ASSIGNED.fullmatch(argument)
        option = _OPTION.fullmatch(argument)
        if assigned and is_secret(assigned[1]):
            shown.append(f"{assigned[1]}={MASK}")
            continue
        hidden = option is not None and is_secret(option[1])
        shown.append(mask_text(argument))
    return shown


def mask_text(text: str) -> str:
    """Text without credentials in URLs, ``name=value`` pairs named after secrets, and tokens of known shapes.

    Long text is cut, further before the cut than a secret is long: half of one could not be told any more.
    """
    whole = len(text) <= 2 * MAX_ARGUMENT_CHARS
    text = text[: 2 * MAX_ARGUMENT_CHARS].encode("utf-8", "replace").decode()  # it may hold bytes that are no text
    text = _URL_USER.sub(rf"\1{MASK}@", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _INSIDE.sub(rf"\1{MASK}", text)
    text = _KNOWN_SHAPES.sub(MASK, text)
    return text[: MAX_ARGUMENT_CHARS if whole else min(MAX_ARGUMENT_CHARS, max(0, len(text) - MAX_ARGUMENT_CHARS))]


def environment(variables: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """The variables that say how a run was set up, and those that match ``more``; never one named after a secret."""
    patterns = (*_VARIABLES, *more)
    return {
        name: mask_text(value)
        for name, value in sorted(variables.items())
        if not _SECRET_NAME.search(name) and any(fnmatchcase(name, pattern) for pattern in patterns)
    }


# ---- where the code comes from -----------------------------------------------------------------------------------


def _script_folder() -> str:
    """The folder of the program; the current one for code that is typed in or given with ``-c`` or ``-m``."""
    script = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    folder = os.path.dirname(os.path.abspath(script)) if script else ""
    return folder if folder and os.path.isdir(folder) else (_quiet(os.getcwd) or "/")


def _git(folder: str) -> dict[str, Any] | None:
    """Commit, branch and what differs from the commit; None where there is no repository or no git."""
    if _repository(folder) is None:
        return None
    status = _run_git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:  # too large a work tree for the time given
        commit = _run_git(folder, "rev-parse", "HEAD")
        return {"commit": commit.strip(), "branch": None, "dirty": None} if commit else None
    heads = dict(line[2:].split(" ", 1) for line in status.splitlines() if line.startswith("# ") and " " in line[2:])
    changed = [_changed_path(line) for line in status.splitlines() if line[:1] in ("1", "2", "u")]
    found: dict[str, Any] = {
        "commit": _known(heads.get("branch.oid")),
        "branch": _known(heads.get("branch.head")),
        "dirty": bool(changed),
    }
    if changed:
        summary = _run_git(folder, "diff", "--shortstat", "--no-ext-diff", "--no-textconv", "HEAD") or ""
        found.update(summary=summary.strip(), changed=changed[:MAX_CHANGED])
    return found


def _known(text: str | None) -> str | None:
    return None if text is None or text.startswith("(") else text


def _changed_path(line: str) -> str:
    """The path in a line of the second porcelain format: 8 fields before it, 9 for a rename, 10 for a conflict."""
    fields = {"1": 8, "2": 9, "u": 10}[line[0]]
    return mask_text(line.split(" ", fields)[-1].partition("\t")[0])


def _repository(folder: str) -> str | None:
    """The top of the work tree around a folder; saves the start of a program where there is none."""
    while True:
        if os.path.lexists(os.path.join(folder, ".git")):
            return folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _run_git(folder: str, *arguments: str) -> str | None:
    # no monitor and no lock: a look must neither start programs that the repository names nor disturb others
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-C", folder, *arguments]
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, stdin=subprocess.DEVNULL, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


# ---- what it runs on ---------------------------------------------------------------------------------------------


def _platform() -> dict[str, Any]:
    system = os.uname() if hasattr(os, "uname") else None
    return {
        "system": system.sysname if system else sys.platform,
        "release": system.release if system else None,
        "machine": system.machine if system else None,
        "cores": os.cpu_count(),
    }


def _packages(places: Iterable[str]) -> dict[str, str]:
    """Installed distributions and their versions, by the names of their metadata folders.

    ``importlib.metadata`` would read and parse every one of them: a hundred times the cost for the same answer.
    """
    found: dict[str, str] = {}
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place or ".") as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                name, dash, rest = stem.partition("-")
                if dash and suffix in (".dist-info", ".egg-info"):
                    version = rest.partition("-")[0] if suffix == ".egg-info" else rest
                    found.setdefault(name.replace("_", "-").lower(), version)
    return dict(sorted(found.items()))
