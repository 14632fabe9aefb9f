"""Fixtures for the tests of the public API."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = "/dev/shm"


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """An empty folder on a file system in memory where there is one: a durable call costs nothing there.

    For tests about what happens, not about what the disk does; they run several times faster.
    """
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="dreamlake-test-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
