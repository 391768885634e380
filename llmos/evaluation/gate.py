"""The promotion gate: whether a candidate may replace the promoted version, decided from metrics alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from llmos.abi.model import Verdict


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The promoted version: what it scored on the same test rows, or why it could not be measured on them."""

    ref: str
    metric: float | None
    task: str
    note: str = ""  # how it was judged, where its labels differ
    ours: float | None = None  # the candidate's on the same rows, where those are not all the test rows


def decide(task: str, headline: str, metric: float, min_metric: float | None, rival: Incumbent | None) -> Verdict:
    """Promote what reaches the least metric and is at least as good as the promoted version."""
    for figure in (metric, *((rival.metric, rival.ours) if rival else ())):
        assert figure is None or isfinite(figure), f"a {headline} of {figure} decides nothing"
    against = rival.ref if rival else None
    ours = f"{headline} {metric:.4f} on the test rows"
    if min_metric is not None and metric < min_metric:
        return Verdict(False, f"{ours} is below the least that was asked, {min_metric:.4f}", against)
    if rival is None:
        return Verdict(True, f"{ours}; no version was promoted before", None)
    if rival.metric is None:
        why = rival.note or f"it does another task, {rival.task} and not {task}"
        return Verdict(False, f"{ours}, but {rival.ref} cannot be compared with it: {why}", against)
    theirs = f"{rival.ref} has {rival.metric:.4f}" + (f" ({rival.note})" if rival.note else "")
    compared = metric if rival.ours is None else rival.ours
    if rival.ours is not None:
        ours += f", {compared:.4f} on those that the promoted version has not learned from"
    if compared < rival.metric:
        return Verdict(False, f"{ours}, and the promoted {theirs}: {rival.metric - compared:.4f} better", against)
    return Verdict(True, f"{ours}, at least as good as the promoted version: {theirs}", against)
