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
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 512 << 20  # containers often have 64 MiB
    where = _MEMORY if roomy else None
    path = Path(tempfile.mkdtemp(prefix="dreamlake-test-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
