"""MLflow with a local database and a local artifact folder: one `mlflow.log_artifact` a file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.peers.base import LibraryPeer, drive


class Mlflow(LibraryPeer):
    """mlflow-skinny with SQLite. A file logged twice under one name replaces the first, so each gets its own folder."""

    name = "MLflow (local)"
    packages = ("mlflow-skinny", "sqlalchemy", "alembic")
    distribution = "mlflow-skinny"
    module = "tools.peers.mlflow"


def _connect(request: dict[str, Any]) -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{request['store']}/mlflow.db")
    return mlflow


def _ingest(request: dict[str, Any]) -> Callable[[], None]:
    mlflow = _connect(request)
    mlflow.create_experiment("measured", artifact_location=str(Path(request["store"]) / "artifacts"))
    mlflow.set_experiment("measured")
    tracked = mlflow.start_run()
    (Path(request["store"]).parent / "run").write_text(tracked.info.run_id, encoding="utf-8")

    def work() -> None:
        for number, (source, _, _) in enumerate(request["items"]):
            mlflow.log_artifact(source, artifact_path=str(number))
        mlflow.end_run()

    return work


def _read(request: dict[str, Any]) -> Callable[[], None]:
    mlflow = _connect(request)
    name = (Path(request["store"]).parent / "run").read_text(encoding="utf-8")

    def work() -> None:
        mlflow.artifacts.download_artifacts(run_id=name, dst_path=request["dest"])

    return work


if __name__ == "__main__":
    drive(_ingest, _read)
