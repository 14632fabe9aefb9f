"""Integrations cost nothing until they are used, and say what to install when their library is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from api_support import PACKAGE_ROOT

WANTED = {
    "lightning": ("DreamLakeLogger", ("lightning", "pytorch_lightning")),
    "transformers": ("DreamLakeCallback", ("transformers",)),
    "keras": ("DreamLakeCallback", ("keras",)),
    "mlflow": ("DreamLakeArtifactRepository", ("mlflow",)),
}


def python(code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)


def test_importing_the_modules_imports_no_library():
    heavy = ["torch", "lightning", "pytorch_lightning", "transformers", "keras", "mlflow", "numpy", "fsspec"]
    names = ", ".join(f"dreamlake.integrations.{name}" for name in (*WANTED, "torch", "checkpoints"))
    done = python(f"import sys, {names}; print([n for n in {heavy!r} if n in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("extra", WANTED)
def test_a_missing_library_is_named_with_what_to_install(extra):
    name, libraries = WANTED[extra]
    blocked = "; ".join(f"sys.modules[{library!r}] = None" for library in libraries)
    done = python(f"import sys; {blocked}\nfrom dreamlake.integrations.{extra} import {name}")
    assert done.returncode == 1 and f"pip install 'dreamlake[{extra}]'" in done.stderr.splitlines()[-1], done.stderr
