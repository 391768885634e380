"""Tracks a training run: its settings, its curves and its last figures, in the tracker that its recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.frame import Job
from llmos.abi.recipe import Recipe
from llmos.abi.wire import to_plain

if TYPE_CHECKING:
    from llmos.training.trackers.tracker import Tracker

PARTS = ("data", "lora", "options", "method_settings", "objective_settings")  # of a recipe, which have settings


def begin_tracking(recipe: Recipe, job: Job) -> Tracker | None:
    """The recipe's tracker, which has been given the settings; None without one.

    The trials of a search are runs of one group.
    """
    if not recipe.track:
        return None
    from llmos.training.trackers import open_tracker  # what other runs do not need

    search = job.args.get("search")
    group = "" if search is None else f"{recipe.name}-{search}"
    folder = Path(job.tracks or job.scratch)
    tracker = open_tracker(
        recipe.track, folder, f"{recipe.name}-{job.pid}", lambda said: print(said, flush=True), group
    )
    plain = to_plain(recipe)
    settings = {f"{part}.{key}": value for part in PARTS for key, value in plain.pop(part).items()}
    tracker.parameters({**plain, **settings})
    return tracker


def track_figures(tracker: Tracker | None, part: str, figures: Mapping[str, float], step: int) -> None:
    """Figures of a part of the run, `train` or `test`; nothing without a tracker."""
    if tracker is not None:
        tracker.scalars({f"{part}/{key}": value for key, value in figures.items()}, step)
