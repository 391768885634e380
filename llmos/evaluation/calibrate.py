"""Fits a head's calibration on validation rows, from predictions without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmos.abi.model import Part
from llmos.abi.wire import to_json
from llmos.data.row import Row
from llmos.evaluation.calibration import (
    CONFIDENCE,
    RISKS,
    Candidates,
    cross_fit_temperature,
    precision_thresholds,
    rows_needed,
    set_thresholds,
    thresholds_for,
    try_thresholds,
)
from llmos.evaluation.families import calibrated_family
from llmos.tasks import Settings
from llmos.tasks.calibration import FILE, Calibration

LEAST_ROWS = 30  # with fewer, a temperature is noise


def fit(
    task: str,
    rows: Sequence[Row],
    predicted: Sequence[Any],  # Any: predictions of the task's family
    settings: Settings,
    *,
    tries: int = 1,
) -> Calibration | None:
    """The calibration of a head that predicted these validation rows; None where its outputs are no probabilities.

    `tries`: as many models were compared on these rows before this one was kept.
    """
    family = calibrated_family(task)
    if family is None:
        return None
    choices = family.decisions(rows, predicted, settings)
    is_enough = len(np.unique(choices.units)) >= LEAST_ROWS
    fitted = cross_fit_temperature(choices.shares, choices.true, choices.units) if is_enough else None
    temperature = fitted.value if fitted is not None and fitted.is_shown else 1.0
    refused = None if fitted is None or fitted.is_shown else fitted.value
    answers = family.answers(rows, predicted, settings) if rows else None
    if answers is None:
        return Calibration(temperature, len(rows), tries, refused_temperature=refused)
    asked = _share_option(settings, "abstain")
    tried = try_thresholds(answers.surety, answers.right, tries)
    risks = thresholds_for(tried, RISKS if asked is None else (*RISKS, asked))
    one = answers.one_label
    coverages = () if one is None else set_thresholds(one.shares[np.arange(len(one.true)), one.true])
    precision = _share_option(settings, "precision")
    thresholds = {}
    if precision is not None:
        served = family.answers(rows, family.apply_temperature(predicted, temperature, settings), settings)
        assert served is not None
        thresholds = precision_thresholds(settings.labels, served.by_label, precision)
    return Calibration(
        temperature,
        len(rows),
        tries,
        CONFIDENCE,
        risks,
        coverages,
        asked,
        "" if asked is None or (risks and risks[0][0] <= asked) else why_not(tried, asked, len(rows)),
        precision,
        thresholds,
        refused,
    )


def why_not(tried: Candidates, risk: float, rows: int) -> str:
    """Why these rows do not suffice for a promise, and how many would."""
    needed = rows_needed(tried, risk)
    said = f"{rows:,} validation rows do not suffice to promise that at most {risk:g} of the answers given are wrong: "
    if needed is not None:
        return f"{said}it takes about {max(needed, rows + 1):,}. Add rows, or allow more than {risk:g}"
    shares = [wrong / answered for answered, wrong in zip(tried.answered, tried.wrong, strict=True) if answered]
    surest = f"even of the surest answers {min(shares):.1%} are wrong, so that more rows do not help" if shares else ""
    return f"{said}{surest or 'there are none'}. Allow more than {risk:g}, or train a better model"


def write(calibration: Calibration | None, folder: Path) -> tuple[tuple[str, Part], ...]:
    """Its file in the model's folder, for the store; nothing where there is none."""
    if calibration is None:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(to_json(calibration))
    return ((FILE, Part.CONFIG),)


def _share_option(settings: Settings, name: str) -> float | None:
    """An option that is a share; 0 means that it was not asked for."""
    return float(settings.options.get(name) or 0.0) or None
