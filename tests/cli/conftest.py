"""Fixtures of the tests of the command: a lake in a folder of its own, and a warm process to fork from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import Cli, Warm, fill


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    process = Warm(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


@pytest.fixture
def cli(tmp_path: Path, warm: Warm) -> Cli:
    """A folder with a lake in ./experiments that the test may change."""
    cli = Cli(tmp_path, warm)
    fill(cli)
    return cli


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Cli:
    """The same, shared by the tests of a module, which must not change it."""
    cli = Cli(tmp_path_factory.mktemp("lake"), warm)
    fill(cli)
    return cli


@pytest.fixture
def empty(tmp_path: Path, warm: Warm) -> Cli:
    """A folder without a lake."""
    return Cli(tmp_path, warm)
