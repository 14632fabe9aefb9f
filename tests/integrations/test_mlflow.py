"""MLflow with artifacts in a lake: a real run, real models, one setting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamlake import Session, open_lake
from dreamlake.errors import InvalidInput
from dreamlake.integrations import mlflow as ours


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def mlflow(database, monkeypatch, tmp_path):
    import logging

    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    return mlflow


@pytest.fixture
def experiment(mlflow, root, request):
    return mlflow.create_experiment(request.node.name, artifact_location=f"dreamlake://mlflow/vision?local_path={root}")


def listed(mlflow, run, path=None):
    found = mlflow.MlflowClient().list_artifacts(run.info.run_id, path)
    return [(info.path, info.is_dir, info.file_size) for info in found]


def test_artifacts_of_a_run(mlflow, experiment, root, tmp_path):
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f.txt").write_text("f")
    (tmp_path / "d/g.txt").write_text("gg")
    (tmp_path / "empty").mkdir()
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_artifact("d/g.txt")
        mlflow.log_artifact("d/g.txt", "sub/deep")
        mlflow.log_artifacts("d", "tree")
        mlflow.log_artifacts("empty", "nothing")
        mlflow.log_dict({"a": 1}, "config.json")
        mlflow.log_text("what: is? this", "odd: name?.txt")
    assert listed(mlflow, run) == [
        ("config.json", False, 12),
        ("g.txt", False, 2),
        ("odd: name?.txt", False, 14),
        ("sub", True, None),
        ("tree", True, None),
    ]
    assert listed(mlflow, run, "tree") == [("tree/e", True, None), ("tree/g.txt", False, 2)]
    assert listed(mlflow, run, "g.txt") == listed(mlflow, run, "none") == []
    got = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path / "got")))
    assert (got / "tree/e/f.txt").read_text() == "f" and (got / "sub/deep/g.txt").read_text() == "gg"
    assert (got / "odd: name?.txt").read_text() == "what: is? this"
    one = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="tree/g.txt")
    assert Path(one).read_text() == "gg"
    with Session("vision", "mlflow", local_path=root) as session:
        assert session.files.read_text(f"/{run.info.run_id}/artifacts/tree/e/f.txt") == "f"
    assert not (tmp_path / "experiments").exists()


def test_artifacts_are_deleted_and_can_be_restored(mlflow, experiment, root, tmp_path):
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("a", "a.txt")
        mlflow.log_text("b", "d/b.txt")
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(run.info.artifact_uri)
    assert type(repository) is ours.DreamLakeArtifactRepository
    repository.delete_artifacts("a.txt")
    assert listed(mlflow, run) == [("d", True, None)]
    repository.delete_artifacts("none")
    repository.delete_artifacts()
    assert listed(mlflow, run) == []
    with Session("vision", "mlflow", local_path=root) as session:
        session.files.restore(f"/{run.info.run_id}/artifacts/a.txt")
    assert listed(mlflow, run) == [("a.txt", False, 1)]
    with pytest.raises(mlflow.MlflowException):
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="../x", dst_path=str(tmp_path))


def test_models_are_stored_once(mlflow, experiment, root):
    import numpy
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(numpy.arange(4000.0).reshape(2, 2000), [0, 1])
    for _ in range(3):
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.sklearn.log_model(
                model, name="model", pip_requirements=[], serialization_format="cloudpickle"
            )
    loaded = mlflow.sklearn.load_model(info.model_uri)
    numpy.testing.assert_array_equal(loaded.coef_, model.coef_)
    with Session("vision", "mlflow", local_path=root) as session:
        pickles = session.files.find("**/model.pkl")
        assert len(pickles) == 3 and len({file["checksum"] for file in pickles}) == 1
    stats = open_lake(root).stats()
    assert stats.live_bytes > 2 * stats.stored_bytes


def test_a_torch_model(mlflow, experiment):
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_params({"lr": 0.1})
        info = mlflow.pytorch.log_model(model, name="net", pip_requirements=[], serialization_format="pickle")
    loaded = mlflow.pytorch.load_model(info.model_uri)
    assert torch.equal(loaded.weight, model.weight)


def test_a_session_for_every_run(mlflow, root, monkeypatch):
    monkeypatch.setenv("DREAMLAKE_LOCAL_PATH", str(root))
    experiment = mlflow.create_experiment("by run", artifact_location="dreamlake://trial")
    with mlflow.start_run(experiment_id=experiment) as run:
        assert listed(mlflow, run) == []
        mlflow.log_text("x", "x.txt")
    assert [str(info.key) for info in open_lake(root).sessions()] == [f"trial/{run.info.run_id}"]
    assert listed(mlflow, run) == [("x.txt", False, 1)]


@pytest.mark.parametrize(
    ("uri", "session", "path", "local"),
    [
        ("dreamlake://w/s", "w/s", "/", None),
        ("dreamlake://w/s/", "w/s", "/", None),
        ("dreamlake://w/s 1/a/b?local_path=/x y/z", "w/s 1", "/a/b", "/x y/z"),
        ("dreamlake://w/s/a?local_path=/x%20y", "w/s", "/a", "/x y"),
    ],
)
def test_locations(uri, session, path, local):
    address, found = ours.location_of(uri)
    assert (str(address.session), address.path, found) == (session, path, local)


@pytest.mark.parametrize("uri", ["dreamlake://w", "dreamlake://", "dreamlake://w/s?other=1", "dreamlake://../s"])
def test_bad_locations(uri):
    with pytest.raises(InvalidInput):
        ours.location_of(uri)


def test_the_plugin_costs_nothing_to_import():
    code = "import sys, dreamlake.integrations.mlflow; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
    with pytest.raises(AttributeError):
        ours.Unheard  # noqa: B018
