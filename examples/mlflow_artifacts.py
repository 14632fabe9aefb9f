"""MLflow with its artifacts in a lake: one setting, and equal models are stored once.

Needs: pip install 'dreamlake[mlflow]'
"""

import logging
import os
import warnings

warnings.filterwarnings("ignore")  # of the libraries
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from dreamlake import open_lake

logging.disable(logging.WARNING)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
experiment = mlflow.create_experiment("digits", artifact_location="dreamlake://mlflow/digits")  # the setting

x, y = load_digits(return_X_y=True)
for seed in (0, 0, 1):  # two of the runs give the same model
    with mlflow.start_run(experiment_id=experiment) as run:
        model = SGDClassifier(random_state=seed).fit(x, y)
        mlflow.log_param("seed", seed)
        mlflow.log_metric("accuracy", model.score(x, y))
        info = mlflow.sklearn.log_model(model, name="model", pip_requirements=[], serialization_format="cloudpickle")
        mlflow.log_text(f"seed {seed}", "notes/seed.txt")

print("artifacts:", [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)])
print("model again:", mlflow.sklearn.load_model(info.model_uri).score(x, y) == model.score(x, y))
stats = open_lake().stats()
print(f"{stats.files} files; less is stored than logged: {stats.stored_bytes < stats.logical_bytes}")
