"""Fits a head's calibration on validation rows, from predictions without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    Floats,
    cross_fit_temperature,
    precision_thresholds,
    rows_needed,
    set_thresholds,
    thresholds_for,
    try_thresholds,
)
from llmos.evaluation.confidence import Decisions
from llmos.evaluation.families import calibrated_family
from llmos.evaluation.label_biases import cross_fit_biases, has_enough_rows
from llmos.tasks import Settings
from llmos.tasks.calibration import BIASES, FILE, PLAIN, TEMPERATURE, Calibration

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
    answers = family.answers(rows, predicted, settings) if rows else None
    has_one_label = answers is not None and answers.one_label is not None
    scores, unseen = _fit_scores(choices, settings.labels if has_one_label else (), len(rows), tries)
    if answers is None:
        return scores
    if unseen is not None:
        answers = family.answers(rows, predicted, settings, unseen.argmax(-1))
        assert answers is not None
    asked = _share_option(settings, "abstain")
    tried = try_thresholds(answers.surety, answers.right, tries)
    risks = thresholds_for(tried, RISKS if asked is None else (*RISKS, asked))
    one = answers.one_label
    coverages = () if one is None else set_thresholds(one.shares[np.arange(len(one.true)), one.true])
    precision = _share_option(settings, "precision")
    thresholds = {}
    if precision is not None:
        served = family.answers(rows, family.apply_calibration(predicted, scores, settings), settings)
        assert served is not None
        thresholds = precision_thresholds(settings.labels, served.by_label, precision)
    return replace(
        scores,
        confidence=CONFIDENCE,
        risks=risks,
        coverages=coverages,
        abstain=asked,
        why_not="" if asked is None or (risks and risks[0][0] <= asked) else why_not(tried, asked, len(rows)),
        precision=precision,
        thresholds=thresholds,
    )


def _fit_scores(choices: Decisions, labels: Sequence[str], rows: int, tries: int) -> tuple[Calibration, Floats | None]:
    """What scores are made of: of none, a temperature, or a temperature and biases of these labels, the one that is
    shown to be best on rows not seen; with biases, the probabilities that each row has by a fit on others."""
    if len(np.unique(choices.units)) < LEAST_ROWS:
        return Calibration(1.0, rows, tries), None
    fitted = cross_fit_temperature(choices.shares, choices.true, choices.units)
    if has_enough_rows(rows, len(labels)):
        biased = cross_fit_biases(choices.shares, choices.true)
        losses = dict(zip((PLAIN, TEMPERATURE, BIASES), biased.losses, strict=True))
        if biased.is_shown:
            biases = dict(zip(labels, biased.biases.tolist(), strict=True))
            made = Calibration(biased.temperature, rows, tries, biases=biases, unseen_losses=losses)
            return made, biased.unseen
    else:
        losses = {PLAIN: fitted.losses[0], TEMPERATURE: fitted.losses[1]}
    temperature, refused = (fitted.value, None) if fitted.is_shown else (1.0, fitted.value)
    return Calibration(temperature, rows, tries, refused_temperature=refused, unseen_losses=losses), None


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
