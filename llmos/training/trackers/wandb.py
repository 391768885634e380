"""Weights & Biases, offline: runs are files, and nothing leaves the machine until their owner runs `wandb sync`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.tracking import not_installed

PROJECT = "llmos"
STEP = "step"  # of ours: wandb's own may not go back, as that of a training does that goes on from a checkpoint


class WeightsAndBiases:
    """One run. A training that goes on writes another part under the same id; `wandb sync` joins them."""

    def __init__(self, run: Any) -> None:  # Any: wandb is not installed where types are checked
        self._run = run
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP)

    def parameters(self, values: Mapping[str, Json]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, STEP: step})

    def close(self) -> None:
        self._run.finish()


def open_run(folder: Path, run: str, group: str) -> WeightsAndBiases:
    try:
        import wandb  # the user's own: only a run that asks for it needs it
    except ImportError as error:
        raise not_installed("wandb", "wandb") from error
    settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
    found = wandb.init(
        project=PROJECT,
        id=run,
        name=run,
        group=group or None,
        dir=str(folder),
        mode="offline",
        resume="allow",
        settings=settings,
    )
    return WeightsAndBiases(found)
