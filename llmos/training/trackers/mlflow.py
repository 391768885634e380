"""MLflow, in its store of files: `mlflow ui --backend-store-uri FOLDER` shows it. Nothing leaves the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.tracking import not_installed

EXPERIMENT = "llmos"
LONGEST = 6_000  # characters of a parameter, which MLflow bounds
# MLflow reads these from the environment alone: that its store of files is wanted, and that it sends nothing home.
WANTED = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class MLflow:
    """One run of the experiment, by its name; a training that goes on writes to the same."""

    def __init__(self, client: Any, run_id: str) -> None:  # Any: mlflow is not installed where types are checked
        self._client, self._run_id = client, run_id

    def parameters(self, values: Mapping[str, Json]) -> None:
        known = self._client.get_run(self._run_id).data.params  # a parameter is written once
        for name, value in values.items():
            if name not in known:
                self._client.log_param(self._run_id, name, str(value)[:LONGEST])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def open_run(folder: Path, run: str, group: str) -> MLflow:
    os.environ.update(WANTED)
    try:
        from mlflow.tracking import MlflowClient  # the user's own: only a run that asks for it needs it
    except ImportError as error:
        raise not_installed("mlflow", "mlflow") from error
    client = MlflowClient(tracking_uri=folder.as_uri())
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment is not None else client.create_experiment(EXPERIMENT)
    known = [one for one in client.search_runs([number]) if one.info.run_name == run]
    if known:
        return MLflow(client, known[0].info.run_id)
    tags = {"mlflow.runName": run, **({"group": group} if group else {})}
    return MLflow(client, client.create_run(number, run_name=run, tags=tags).info.run_id)
