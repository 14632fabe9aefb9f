"""The contract suite of object stores, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conformance.objects_worlds import S3World
from conformance.test_objects import *  # noqa: F403 - the tests themselves

from dreamlake.services.s3 import S3Settings


@pytest.fixture(params=["s3"])  # the name by which the test command knows that the suite ran
def world(s3_place: dict[str, Any]) -> Iterator[Any]:
    made = S3World(S3Settings(**s3_place, patience_s=10.0))
    yield made
    made.objects.close()
