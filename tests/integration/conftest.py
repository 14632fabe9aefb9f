"""Servers of one test's own, to be killed, suspended, or reached through a network that fails (``proxy.py``).

Tests that leave servers alone use the shared pair: ``mongo_url``, ``s3_place`` (``tests/conftest.py``). All tests here
are marked serial: they start processes and wait for time-outs, and run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.servers.processes import MongoServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.serial)


@pytest.fixture
def own_mongo(tmp_path: Path) -> Iterator[MongoServer]:
    """A database server of this test's own: what it has acknowledged survives its death."""
    with MongoServer(tmp_path / "mongo", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def faulty_mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A database server of this module's own, for fail points and proxies; it is never killed."""
    with MongoServer(tmp_path_factory.mktemp("mongo")) as server:
        yield server
