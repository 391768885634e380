"""TensorBoard: curves and parameters in an event file, written by tensorboardX. Nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.tracking import not_installed


class TensorBoard:
    """One run's folder. A run that goes on adds a file; TensorBoard shows both as one curve."""

    def __init__(self, writer: Any) -> None:  # Any: tensorboardX has no types
        self._writer = writer

    def parameters(self, values: Mapping[str, Json]) -> None:
        rows = [f"| {name} | {value} |" for name, value in sorted(values.items())]
        self._writer.add_text("parameters", "\n".join(["| setting | value |", "|---|---|", *rows]), 0)
        self._writer.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def open_run(folder: Path, run: str, group: str) -> TensorBoard:
    try:
        from tensorboardX import SummaryWriter  # an extra: only a run that asks for it needs it
    except ImportError as error:
        raise not_installed("tensorboardX", "tensorboard") from error
    return TensorBoard(SummaryWriter(str(folder / group / run), flush_secs=10))
