"""trackio, in a local database: `TRACKIO_DIR=FOLDER trackio show` shows it. Nothing leaves the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.tracking import not_installed

PROJECT = "llmos"


class Trackio:
    """One run; a training that goes on writes to the same."""

    def __init__(self, run: Any) -> None:  # Any: trackio is not installed where types are checked
        self._run = run

    def parameters(self, values: Mapping[str, Json]) -> None:
        self._run.config.update({name: str(value) for name, value in values.items()})

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def open_run(folder: Path, run: str, group: str) -> Trackio:
    os.environ["TRACKIO_DIR"] = str(folder)  # trackio takes its folder from the environment alone, when it is imported
    try:
        import trackio  # the user's own: only a run that asks for it needs it
    except ImportError as error:
        raise not_installed("trackio", "trackio") from error
    return Trackio(
        trackio.init(
            project=PROJECT,
            name=run,
            group=group or None,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    )
