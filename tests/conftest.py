"""Helpers of the tests are packages below this folder: ``from simulation.simfs import SimFs``. And the real servers.

A test that asks for ``mongo_url`` or ``s3_place`` gets a place of its own on them, which costs next to nothing:

    mongo_url   the URL of a database that nobody else uses and that is dropped after the test
    s3_place    {"bucket", "prefix", "endpoint", "region", "addressing", "access_key_id", "secret_access_key"}, as
                ``remote=`` takes it under "s3"; the prefix is fresh

The pair is started once for all tests and all pytest-xdist workers: by ``tools/test.py``, or by the first test that
asks when pytest is run by hand. A test that kills a server starts one of its own (``tools.servers.processes``).

Property tests try the same examples in every run, so that a change is judged by what it changed; with
DREAMLAKE_EXPLORE=1 in the environment they try new ones (for nights, and for hunting).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("same", derandomize=True, database=None)
if not os.environ.get("DREAMLAKE_EXPLORE"):
    hypothesis.settings.load_profile("same")

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables that lead to the pair of servers (``tools.servers.keeper.settings``)."""
    if os.environ.get("DREAMLAKE_TEST_MONGODB"):
        return dict(os.environ)
    from tools.servers.keeper import kept

    worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.getbasetemp()
    state = folder / "servers.json"
    with open(folder / "servers.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.is_file():
            state.write_text(json.dumps(kept(os.getppid() if worker else os.getpid())))
    return dict(json.loads(state.read_text()))


@pytest.fixture
def mongo_url(servers: dict[str, str]) -> Iterator[str]:
    """The URL of a fresh database."""
    from pymongo import MongoClient

    name = f"test-{uuid.uuid4().hex[:16]}"
    yield servers["DREAMLAKE_TEST_MONGODB"].replace("/?", f"/{name}?")
    with MongoClient(servers["DREAMLAKE_TEST_MONGODB"]) as client:
        client.drop_database(name)


@pytest.fixture
def s3_place(servers: dict[str, str]) -> dict[str, str]:
    """A fresh prefix in the test bucket, and what else ``remote=`` needs to know under "s3"."""
    return {
        "bucket": servers["DREAMLAKE_TEST_BUCKET"],
        "prefix": f"test-{uuid.uuid4().hex[:16]}",
        "endpoint": servers["DREAMLAKE_TEST_S3"],
        "region": "us-east-1",
        "addressing": "path",
        "access_key_id": servers["DREAMLAKE_TEST_ACCESS_KEY"],
        "secret_access_key": servers["DREAMLAKE_TEST_SECRET_KEY"],
    }
