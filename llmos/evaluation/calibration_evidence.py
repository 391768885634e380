"""Measures on test rows what a calibration promises: calibration error, wrong answers, coverage, precision, scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmos.abi.json_type import Json
from llmos.data.row import Row
from llmos.evaluation.binomial import clopper_pearson
from llmos.evaluation.calibration import Flags, Floats, Indices, Reliability, auroc, log_shares, reliability
from llmos.evaluation.confidence import Answers, Decisions
from llmos.evaluation.families import calibrated_family
from llmos.tasks import Settings
from llmos.tasks.calibration import NONE, Calibration

SHOWN_RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
SHOWN_COVERAGES = (0.8, 0.9, 0.95, 0.99)
KEPT_IN_SCOPE = 0.95
OUT_OF_SCOPE = frozenset({"oos", "ood", "outofscope", "outofdomain", "none", "noneofthese", "noneoftheabove"})


def measure(
    task: str,
    rows: Sequence[Row],
    predicted: Sequence[Any],  # Any: predictions of the task's family
    settings: Settings,
    outside: Sequence[Row] = (),
    predicted_outside: Sequence[Any] = (),
) -> dict[str, Json]:
    """The figures of these predictions without a calibration and with that of the settings; {} where there are none.

    Every share has its exact 95 % interval (Clopper and Pearson 1934). A promise is `kept` where the interval does not
    lie beyond it. `outside`: rows of a label out of scope that the model has not learned.
    """
    family = calibrated_family(task)
    if family is None or not predicted:
        return {}
    calibration = settings.calibration or NONE
    served = family.apply_calibration(predicted, calibration, settings)
    before, after = (family.decisions(rows, some, settings) for some in (predicted, served))
    if not len(after.true):
        return {}
    figures: dict[str, Json] = {
        "temperature": calibration.temperature,
        "refused_temperature": calibration.refused_temperature,
        "fitted_on": calibration.rows,
        "biases": calibration.biases,
        "unseen_losses": calibration.unseen_losses,
        "before": _calibration_error(before),
        "after": _calibration_error(after),
    }
    answers = family.answers(rows, served, settings)
    raw = family.answers(rows, predicted, settings, None if answers is None else answers.given)
    if raw is None or answers is None:
        return figures
    figures |= {**_promises(calibration, raw), **_precision(calibration, answers, settings)}
    if not outside:
        return figures | _scope(rows, answers, settings)
    served = family.apply_calibration(predicted_outside, calibration, settings)
    theirs = family.answers(outside, served, settings)
    others = family.answers(outside, predicted_outside, settings, None if theirs is None else theirs.given)
    return figures | ({} if others is None else _unlearned_scope(outside, raw, others, calibration))


def _calibration_error(choices: Decisions) -> Json:
    found = reliability(choices.confidence, choices.right)
    logs = log_shares(choices.shares)[np.arange(len(choices.true)), choices.true]
    return {
        "error": found.error,
        "debiased": found.debiased,
        "by_chance": found.by_chance,
        "limit": found.limit,
        "decisions": found.count,
        "loss": -float(logs.mean()),
        "accuracy": float(choices.right.mean()),
        "bins": _plain_bins(found),
    }


def _plain_bins(found: Reliability) -> Json:
    return [[one.count, one.confidence, one.accuracy] for one in found.bins]


def _promises(calibration: Calibration, raw: Answers) -> dict[str, Json]:
    """What was promised of wrong answers and of sets, beside what was observed."""
    figures: dict[str, Json] = {}
    shown = {*SHOWN_RISKS, *([] if calibration.abstain is None else [calibration.abstain])}
    risks = [(risk, least) for risk, least in calibration.risks if risk in shown]
    if risks or calibration.why_not:
        figures["abstain"] = {
            "asked": calibration.abstain,
            "why_not": calibration.why_not,
            "confidence": calibration.confidence,
            "risks": [measure_risk(risk, raw.surety >= least, raw.right) for risk, least in risks],
        }
    if raw.one_label is not None and raw.given is not None:
        sets = [pair for pair in calibration.coverages if pair[0] in SHOWN_COVERAGES]
        figures["sets"] = [_coverage(coverage, least, raw.one_label, raw.given) for coverage, least in sets]
    return figures


def measure_risk(risk: float, given: Flags, right: Flags) -> dict[str, Json]:
    """Of a promised share of wrong answers: how many rows were answered and how many wrongly."""
    answered, wrong = int(given.sum()), int((~right[given]).sum())
    low, high = clopper_pearson(wrong, answered)
    return {
        "promised": risk,
        "rows": len(given),
        "answered": answered,
        "wrong": wrong,
        "share": wrong / max(1, answered),
        "interval": [low, high],
        "kept": low <= risk,
    }


def _coverage(coverage: float, least: float, choices: Decisions, given: Indices) -> Json:
    """Of conformal sets: how often they have the true label, and how large they are."""
    members = choices.shares >= least
    places = np.arange(len(members))
    members[places, given] = True
    inside, sizes = int(members[places, choices.true].sum()), members.sum(-1)
    low, high = clopper_pearson(inside, len(members))
    return {
        "promised": coverage,
        "rows": len(members),
        "covered": inside / len(members),
        "interval": [low, high],
        "mean_size": float(sizes.mean()),
        "of_one": float((sizes == 1).mean()),
        "kept": high >= coverage,
    }


def _precision(calibration: Calibration, answers: Answers, settings: Settings) -> dict[str, Json]:
    """Of each label at its threshold: how often it is right, and how many of its rows are still found."""
    if calibration.precision is None:
        return {}
    labels = {}
    for label in settings.labels:
        scores, right = answers.by_label[label]
        given = scores >= calibration.thresholds[label]
        count, hits = int(given.sum()), int(right[given].sum())
        labels[label] = {
            "threshold": calibration.thresholds[label],
            "given": count,
            "precision": hits / max(1, count),
            "interval": [*clopper_pearson(hits, count)] if count else [0.0, 1.0],
            "kept": hits / max(1, int(right.sum())),  # of the right answers without a threshold
        }
    return {"precision": {"wanted": calibration.precision, "labels": labels}}


def _scope(rows: Sequence[Row], answers: Answers, settings: Settings) -> dict[str, Json]:
    """How well rows out of scope are told from others, where rows have such a label and the model knows it."""
    label = scope_label(settings)
    if label is None or answers.one_label is None:
        return {}
    outside = np.array([label in row.kinds for row in rows])
    scores = 1.0 - answers.one_label.shares[:, settings.labels.index(label)]
    return {"out_of_scope": scope_figures(label, scores[~outside], scores[outside])} if outside.any() else {}


def _unlearned_scope(
    rows: Sequence[Row], inside: Answers, outside: Answers, calibration: Calibration
) -> dict[str, Json]:
    """How well surety tells rows of a label that the model has not learned from others, and how many it withholds."""
    label = ", ".join(sorted({kind for row in rows for kind in row.kinds}))
    shown = [(risk, least) for risk, least in calibration.risks if risk in (*SHOWN_RISKS, calibration.abstain)]
    withheld = [{"promised": risk, "share": float((outside.surety < least).mean())} for risk, least in shown]
    return {"out_of_scope": {**scope_figures(label, inside.surety, outside.surety), "withheld": withheld}}


def scope_label(settings: Settings) -> str | None:
    """The model's label of rows that are out of scope: the option `oos_label`, or the one with a known name."""
    return next((label for label in settings.labels if is_out_of_scope(label, settings)), None)


def is_out_of_scope(label: str, settings: Settings) -> bool:
    """Whether rows of this label are out of scope."""
    asked = settings.options.get("oos_label")
    if asked is not None:
        return bool(label == asked)
    return "".join(sign for sign in label.casefold() if sign.isalnum()) in OUT_OF_SCOPE


def scope_figures(label: str, inside: Floats, outside: Floats) -> Json:
    """From scores that are high in scope: the AUROC, and the recall of rows outside with 95 % of those inside kept."""
    if not len(inside) or not len(outside):
        return {}
    least = float(np.quantile(inside, 1.0 - KEPT_IN_SCOPE, method="lower"))
    hits = int((outside < least).sum())
    low, high = clopper_pearson(hits, len(outside))
    return {
        "label": label,
        "rows": len(outside),
        "in_scope": len(inside),
        "auroc": auroc(inside, outside),
        "kept_in_scope": float((inside >= least).mean()),
        "recall": hits / len(outside),
        "interval": [low, high],
    }
