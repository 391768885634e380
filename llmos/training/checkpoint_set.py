"""Checkpoints of several runs of one moment: a kill leaves those of the last moment that is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from llmos.abi.wire import from_json, to_json
from llmos.training.checkpoint import Checkpoints
from llmos.training.trainer import Trainer

INDEX = "index.json"  # of runs to the folders that hold their checkpoints; it is replaced as a whole


class CheckpointSet:
    """The checkpoints of numbered runs in a folder. Runs that are not written keep theirs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / INDEX
        self._places: dict[int, str] = from_json(file.read_bytes(), dict[int, str]) if file.exists() else {}

    def read_into(self, number: int, trainer: Trainer) -> bool:
        """Set a trainer to its checkpoint; False if there is none."""
        if number not in self._places:
            return False
        trainer.checkpoints = Checkpoints(self._folder / self._places[number])
        return trainer.resume()

    def write(self, trainers: Mapping[int, Trainer]) -> None:
        """Write what has changed, all or nothing."""
        moment = 1 + max((int(place.rpartition("-")[2]) for place in self._places.values()), default=0)
        places = dict(self._places)
        for number, trainer in trainers.items():
            if f"step-{trainer.position.step}" in self._steps(number):
                continue
            places[number] = f"{number}-{moment}"
            shutil.rmtree(self._folder / places[number], ignore_errors=True)  # of a moment that was cut off
            trainer.checkpoints = Checkpoints(self._folder / places[number])
            trainer.save()
        aside = self._folder / f"{INDEX}.tmp"
        with aside.open("wb") as file:
            file.write(to_json(places))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._folder / INDEX)
        self._places = places
        for old in self._folder.iterdir():
            if old.is_dir() and old.name not in places.values():
                shutil.rmtree(old)

    def _steps(self, number: int) -> list[str]:
        place = self._places.get(number)
        return [] if place is None else [one.name for one in (self._folder / place).glob("step-*")]
