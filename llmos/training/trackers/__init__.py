"""Trackers: where the curves and parameters of a training go besides its evidence. A file for each, by its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from llmos.abi.error import LlmosError
from llmos.abi.tracking import track_of
from llmos.training.trackers.tracker import QuietTracker, Tracker


def open_tracker(track: str, folder: Path, run: str, say: Callable[[str], None], group: str = "") -> Tracker:
    """The tracker of this name for a run, in the folder that it names, else in one of its own below `folder`.

    BadInput if its package is not installed. Whatever else fails, now or later, is only said. Runs of one `group`
    belong together: the trials of a search.
    """
    name, own = track_of(track)
    place = Path(own) if own else folder / name
    made: Tracker | None = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        made = import_module(f"{__name__}.{name}").open_run(place, run, group)
        say(f"{name}: {place}")
    except LlmosError:
        raise
    except Exception as error:  # noqa: BLE001  # foreign code: whatever is wrong with it, the training goes on
        say(f"{name} could not be started, and nothing is tracked: {type(error).__name__}: {error}")
    return QuietTracker(made, name, say)
