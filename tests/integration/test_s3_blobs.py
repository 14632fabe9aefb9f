"""The suite of the blobs seam, on a real object store and a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.conftest import ObjectBlobsWorld
from conformance.test_blobs import *  # noqa: F403 - the tests themselves

from dreamlake.services.docs import Docs
from dreamlake.services.mongo import MongoDocs
from dreamlake.services.objects import Objects
from dreamlake.services.s3 import S3Objects, S3Settings

for _name in [name for name in globals() if name.startswith("test_")]:
    if {"sim", "tmp_path"} & set(globals()[_name].__code__.co_varnames[: globals()[_name].__code__.co_argcount]):
        del globals()[_name]  # of folders, and of the power


@pytest.fixture(params=["s3"])  # the name by which the test command knows that the suite ran
def store(mongo_url: str, s3_place: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    class World(ObjectBlobsWorld):
        def servers(self) -> tuple[Docs, Objects]:
            return MongoDocs(mongo_url), S3Objects(S3Settings(**s3_place, patience_s=10.0))

    made = World(tmp_path)
    yield made
    made.close()
    made.docs.close()
    made.objects.close()
