"""Trackers: where the curves and parameters of a training go besides its evidence. A file for each, by its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from llmos.training.trackers.tracker import QuietTracker, Tracker


def open_tracker(name: str, folder: Path, run: str, say: Callable[[str], None]) -> Tracker:
    """The tracker of this name for a run; BadInput if its package is not installed. Later failures are only said."""
    made: Tracker = import_module(f"{__name__}.{name}").open_run(folder, run)
    return QuietTracker(made, name, say)
