"""A head's calibration, kept in its model's folder, and what serving does with it: scores, sets and abstention.

The thresholds of promises are on the scores before temperature and biases: those have seen the validation rows that the
promises were made on, and an order that does not depend on them keeps the promises exact. Where biases change which
label is given, the answers that the thresholds were tested on are those of biases fitted on other rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.wire import from_json
from llmos.tasks.text import quote_value

FILE = "calibration.json"
ANY_SURETY = -1e9  # a threshold that every answer reaches
PLAIN, TEMPERATURE, BIASES = "none", "temperature", "temperature and biases"  # the ways that are compared


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted on validation rows, for one head.

    `risks`: pairs of a share of wrong answers among those given and the surety (log-odds) that keeps it with this
    `confidence`. `coverages`: pairs of a coverage and the least probability of a label in a conformal set. Both are on
    uncalibrated scores and start with the smallest. `thresholds`: the least calibrated score of each label, for the
    wanted `precision`. `abstain`: the share that is kept where a call says nothing. `tries`: models that were compared
    on the same rows. `why_not`: why `abstain` is not kept. `refused_temperature`: one that was fitted and not taken,
    because on rows that it had not seen it was not better than none beyond chance. `biases`: what is added to the logit
    of each label once it is divided by the temperature; empty: nothing. `unseen_losses`: the mean negative log
    likelihood of validation rows, each by a fit on others, of every way that was compared, by its name.
    """

    temperature: float = 1.0
    rows: int = 0
    tries: int = 1
    confidence: float = 0.95
    risks: tuple[tuple[float, float], ...] = ()
    coverages: tuple[tuple[float, float], ...] = ()
    abstain: float | None = None
    why_not: str = ""
    precision: float | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    refused_temperature: float | None = None
    biases: dict[str, float] = field(default_factory=dict)
    unseen_losses: dict[str, float] = field(default_factory=dict)

    def scale(self, logits: Sequence[float], labels: Sequence[str]) -> list[float]:
        """The logits that calibrated scores are made of; the logits are in the order of the labels."""
        scaled = [x / self.temperature for x in logits]
        if not self.biases:
            return scaled
        return [x + bias for x, bias in zip(scaled, self.biases_of(labels), strict=True)]

    def biases_of(self, labels: Sequence[str]) -> list[float]:
        """The bias of each label, in this order; 0 where it has none."""
        return [self.biases.get(label, 0.0) for label in labels]


NONE = Calibration()  # of models trained before there was one, and of those from elsewhere


def load_calibration(folder: Path) -> Calibration | None:
    """The calibration in this folder; None where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = from_json(path.read_bytes(), Calibration)
    if not (math.isfinite(found.temperature) and found.temperature > 0):
        raise BadInput(
            f"{path} has the temperature {found.temperature}; it must be over 0. Train the model again",
            key="temperature",
        )
    if not all(map(math.isfinite, found.biases.values())):
        raise BadInput(f"{path} has biases that are no finite numbers. Train the model again", key="biases")
    return found


def least_surety(calibration: Calibration | None, params: dict[str, Json]) -> float | None:
    """The surety under which an answer is withheld: of the call's `abstain`, else the model's own; None: of neither.

    A call that says false gets every answer. BadInput where it asks for a promise that the model's validation rows do
    not suffice for.
    """
    asked = params.get("abstain")
    if asked is False:
        return None
    if asked is None:
        if calibration is None or calibration.abstain is None or calibration.why_not:
            return None
        asked = calibration.abstain
    risk = _share("abstain", asked, "the share of wrong answers among those given")
    kept = _of_model("abstain", calibration).risks
    reached = [threshold for share, threshold in kept if share <= risk]
    if not reached:
        promised = f"{kept[0][0]:g} at least. Ask for that, or train" if kept else "no such share. Train"
        raise BadInput(
            f"abstain is {risk:g}; the model's {_rows(calibration)} validation rows suffice to promise {promised} it "
            "with more of them",
            key="abstain",
        )
    return reached[-1]


def least_share(calibration: Calibration | None, params: dict[str, Json]) -> float | None:
    """The least uncalibrated probability of a label in the conformal set that the call asks for; None: for none."""
    if params.get("coverage") is None:
        return None
    coverage = _share("coverage", params["coverage"], "how often the set shall contain the true label")
    kept = _of_model("coverage", calibration).coverages
    reached = [threshold for share, threshold in kept if share >= coverage]
    if not reached:
        promised = f"{kept[-1][0]:g} at most. Ask for that, or train" if kept else "no such share. Train"
        raise BadInput(
            f"coverage is {coverage:g}; the model's {_rows(calibration)} validation rows suffice to promise {promised} "
            "it with more of them",
            key="coverage",
        )
    return reached[0]


def refuse_calibration(params: Mapping[str, Json], why: str) -> None:
    """BadInput where a call asks for what only a calibrated model of this kind can promise."""
    for key in ("abstain", "coverage"):
        if params.get(key) not in (None, False):
            raise BadInput(f"{key} cannot be kept here: {why}. Leave it out", key=key)


def _of_model(key: str, calibration: Calibration | None) -> Calibration:
    if calibration is None:
        raise BadInput(
            f"{key} needs a model that was calibrated on validation rows, and this one was not. Train it again, or "
            f"leave {key} out",
            key=key,
        )
    return calibration


def _rows(calibration: Calibration | None) -> str:
    return f"{0 if calibration is None else calibration.rows:,}"


def _share(key: str, value: Json, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise BadInput(f"{key} is {quote_value(value)}; it must be over 0 and under 1: {what}", key=key)
    return float(value)
