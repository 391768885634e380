"""Trackers: curves and parameters are in TensorBoard's file, and a tracker that fails does not fail the training."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_training

pytest.importorskip("torch")
pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data, Recipe, check
from llmos.abi.tracking import TRACKERS
from llmos.programs import train
from llmos.testing.daemon import beside
from llmos.testing.errors import fails_with
from llmos.training.trackers import open_tracker
from llmos.training.trackers.tracker import QuietTracker

pytestmark = pytest.mark.torch


def events(folder: Path) -> Iterator[Any]:
    """The events in TensorBoard's files: each has its length, a checksum, the message and another checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.glob("events*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size


def curves(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


class Failing:
    """A tracker that works once."""

    def __init__(self) -> None:
        self.calls = 0

    def parameters(self, values: Mapping[str, Json]) -> None:
        self.calls += 1

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.calls += 1
        raise OSError("the disk is full")

    def close(self) -> None:
        self.calls += 1


def test_what_is_given_is_in_the_file(tmp_path: Path) -> None:
    tracker = open_tracker("tensorboard", tmp_path, "run-1", print)
    tracker.parameters({"seed": 7})
    tracker.scalars({"train/loss": 0.5}, 3)
    tracker.close()
    folder = tmp_path / "tensorboard" / "run-1"
    assert curves(folder) == {"train/loss": {3: 0.5}}
    texts = [
        value.tensor.string_val[0]
        for event in events(folder)
        for value in event.summary.value
        if value.tensor.string_val
    ]
    assert b"| seed | 7 |" in texts[0]


def test_a_failing_tracker_is_said_once_and_left_alone() -> None:
    inner, said = Failing(), []
    tracker = QuietTracker(inner, "tensorboard", said.append)
    tracker.parameters({})
    for step in range(3):
        tracker.scalars({"loss": 1.0}, step)
    tracker.close()
    assert inner.calls == 2
    assert said == ["tensorboard failed, and nothing more is tracked: OSError: the disk is full"]


def test_a_training_leaves_its_curves_and_settings(tmp_path: Path) -> None:
    recipe = {"task": "classify", "track": "tensorboard", "data": {"train": str(tiny_training.sorting(tmp_path))}}
    job = replace(tiny_training.assignment(tmp_path, recipe), tracks=str(tmp_path / "tracks"))
    daemon, channel, close = beside()
    train.main(channel, job)
    close()
    (folder,) = (tmp_path / "tracks" / "tensorboard").iterdir()
    found = curves(folder)
    assert folder.name == "sorter-1"
    assert found["train/loss"][max(found["train/loss"])] < found["train/loss"][1]
    assert {"train/rate", "train/metric", "train/epoch"} <= found.keys()
    (last,) = found["test/accuracy"].values()
    assert last == pytest.approx(daemon.offers[-1].draft["evidence"]["metrics"]["accuracy"])


def test_a_tracker_that_there_is_not_is_refused() -> None:
    for track in ("paper", "wandb:here"):
        with fails_with(BadSetting, key="track", value=track, expected=f"one of {', '.join(TRACKERS)}"):
            check(Recipe("classify", "n", "b", Data("/rows.csv"), track=track))
    check(Recipe("classify", "n", "b", Data("/rows.csv"), track="wandb:/a/folder"))


@pytest.mark.parametrize("name", [one for one in TRACKERS if find_spec(one) is None and one != "tensorboard"])
def test_a_tracker_whose_package_is_missing_is_refused_with_the_way_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as raised:
        open_tracker(name, tmp_path, "run-1", print)
    assert raised.value.detail["lacks"] == name


def test_a_tracker_that_cannot_start_is_said_and_the_training_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "taken").write_text("a file where a folder should be")
    tracker = open_tracker(f"tensorboard:{tmp_path / 'taken'}", tmp_path, "run-1", said.append)
    tracker.scalars({"loss": 1.0}, 1)
    tracker.close()
    assert len(said) == 1


def test_runs_of_a_group_lie_together_in_the_folder_that_is_named(tmp_path: Path) -> None:
    tracker = open_tracker(f"tensorboard:{tmp_path / 'mine'}", tmp_path, "run-1", print, "search-7")
    tracker.scalars({"train/loss": 0.5}, 3)
    tracker.close()
    assert curves(tmp_path / "mine" / "search-7" / "run-1") == {"train/loss": {3: 0.5}}
