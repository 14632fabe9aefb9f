"""Tests against the real libraries. What the large frameworks warn of is not ours, so it is no error in their tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamlake import Session

os.environ.setdefault("KERAS_BACKEND", "torch")  # before anything imports keras
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


_TALKATIVE = {Path(__file__).with_name(f"test_{name}.py") for name in ("keras", "lightning", "mlflow", "transformers")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path in _TALKATIVE:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def session(root: Path) -> Iterator[Session]:
    with Session("run", "w", local_path=root) as opened:
        yield opened
