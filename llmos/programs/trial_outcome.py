"""What the end of a trial's process means for its search."""

from __future__ import annotations

from llmos.abi.process import PAUSED, Process, State
from llmos.tuning.history import Dropped, Reached, VersionMade


def outcome_of(process: Process, trial: int, rung: int, *, is_last: bool) -> Reached | Dropped | VersionMade | None:
    """The outcome of a trial that was to reach this rung, or with `is_last` to be made; None if it is to be resumed.

    A trial that ends without a fault and without a result was ended by somebody, and is left alone.
    """
    progress = process.progress
    if process.state is State.EXITED:
        made = next((ref for ref in process.made if ":" in ref), "")
        if is_last and made:
            return VersionMade(trial, made, "" if progress is None else progress.message)
        word = "stopped" if process.fault is None else "failed"
        return Dropped(trial, word, process.fault.message if process.fault else process.reason)
    if process.state is not State.INTERRUPTED:
        return None
    figures = progress.figures if progress is not None and progress.phase == PAUSED else {}
    if not is_last and figures.get("rung") == rung:
        return Reached(trial, rung, figures["metric"], round(figures["seconds"], 3), round(figures["trained_s"], 3))
    if process.exit_code == 0 and process.fault is None:
        return Dropped(trial, "stopped", process.reason)
    return None
