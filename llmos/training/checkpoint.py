"""Checkpoints: everything a run needs to resume to the same bits, written atomically, without pickles."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from llmos.abi.error import Conflict
from llmos.abi.standard_error import standard_error
from llmos.abi.wire import from_json, to_json

WEIGHTS = "weights.safetensors"
MOMENTS = "moments.safetensors"
BEST = "best.safetensors"
STATE = "state.json"
FOLDER = re.compile(r"step-(\d+)")
FEW_ROWS = 100  # to validate on: with fewer, a difference between two epochs may be chance


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Metric and loss at the end of an epoch."""

    step: int
    epoch: float
    loss: float
    metric: float


@dataclass(slots=True)
class TrainState:
    """The position of a run. The order of its data follows from seed and epoch; `step` counts optimizer steps."""

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    marks: list[EpochRecord] = field(default_factory=list)
    best_step: int = -1
    best_metric: float = -1.0
    loss_sum: float = 0.0  # of this epoch
    trained_s: float = 0.0
    threads: int = 0  # the order of sums depends on the number of threads
    recipe_digest: str = ""

    def keeps_best(self, validation_rows: int) -> bool:
        """Whether the weights of the best epoch are kept, and not the last ones.

        On few rows, the best of many epochs is luck: it must beat the last by more than its standard error there.
        """
        if not 0 < validation_rows < FEW_ROWS or not self.marks:
            return True
        return self.best_metric - self.marks[-1].metric > standard_error(self.best_metric, validation_rows)


@dataclass(frozen=True, slots=True)
class SavedState:
    """A checkpoint in memory."""

    position: TrainState
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    best: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one run in a folder: the newest complete one counts; older ones are removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._best_step = -1

    def write(
        self,
        position: TrainState,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Tensor],
        best: Mapping[str, Tensor],
    ) -> Path:
        """Write and fsync every file in a temporary folder, then rename it into place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"step-{position.step}"
        if target.exists():
            return target
        before = self._newest()
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        _save(weights, draft / WEIGHTS)
        _save(moments, draft / MOMENTS)
        if best:
            if before is not None and self._best_step == position.best_step and (before / BEST).exists():
                os.link(before / BEST, draft / BEST)
            else:
                _save(best, draft / BEST)
            self._best_step = position.best_step
        (draft / STATE).write_bytes(to_json(position))
        for file in draft.iterdir():
            _sync(file)
        _sync(draft)
        draft.rename(target)
        _sync(self.folder)
        for old in self._all():
            if old != target:
                shutil.rmtree(old)
        return target

    def read(self, recipe_digest: str) -> SavedState | None:
        """The newest checkpoint, or None. It needs no generator state: random numbers follow from the step."""
        found = self._newest()
        if found is None:
            return None
        position = from_json((found / STATE).read_bytes(), TrainState)
        if position.recipe_digest != recipe_digest:
            raise Conflict(
                "The checkpoint is of another recipe or other data. Start a new training run, or give this one up",
                reason="other_recipe",
            )
        best = load_file(found / BEST) if (found / BEST).exists() else {}
        self._best_step = position.best_step
        return SavedState(position, load_file(found / WEIGHTS), load_file(found / MOMENTS), best)

    def _all(self) -> list[Path]:
        return [one for one in self.folder.glob("step-*") if FOLDER.fullmatch(one.name)]

    def _newest(self) -> Path | None:
        return max(self._all(), key=lambda one: int(one.name.removeprefix("step-")), default=None)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
