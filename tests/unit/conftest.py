"""Fixtures for the tests of the public API."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_world import FOLDER_ONLY, MODULES, SHARED, RemoteWorld, ServerWorld

_MEMORY = "/dev/shm"


def _memory() -> str | None:
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 512 << 20  # containers often have 64 MiB
    return _MEMORY if roomy else None


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """An empty folder on a file system in memory where there is one: a durable call costs nothing there.

    For tests about what happens, not about what the disk does; they run several times faster.
    """
    path = Path(tempfile.mkdtemp(prefix="dreamlake-test-", dir=_memory()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of the public API run on a folder and on a remote lake.

    With ``DREAMLAKE_TEST_WORLD=servers`` they run on real servers instead (some twenty minutes).
    """
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in MODULES and metafunc.function.__name__ not in FOLDER_ONLY:
        worlds = ["folder", "remote", "shared"] if module in SHARED else ["folder", "remote"]
        worlds = ["servers"] if os.environ.get("DREAMLAKE_TEST_WORLD") == "servers" else worlds
        metafunc.parametrize("lake_world", worlds, indirect=True)


@pytest.fixture(autouse=True)
def lake_world(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Where the lakes of a test are: in the folders it names, or in a database and a bucket instead of each."""
    if getattr(request, "param", "folder") == "folder":
        yield None
        return
    cache = Path(tempfile.mkdtemp(prefix="dreamlake-cache-", dir=_memory()))
    try:
        with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo those of ``monkeypatch``
            if request.param == "servers":
                yield ServerWorld(patch, cache, request.module, request.getfixturevalue("servers"))
            else:
                yield RemoteWorld(patch, cache, request.module, shared=request.param == "shared")
    finally:
        shutil.rmtree(cache, ignore_errors=True)
