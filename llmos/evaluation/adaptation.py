"""What an adaptation has gained on held-out texts, and what it costs on others: a base before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from llmos.abi.error import BadInput
from llmos.abi.gate import BETTER
from llmos.abi.json_type import Json
from llmos.abi.model import Verdict
from llmos.evaluation.statistics.comparison import Comparison, Standing, compare
from llmos.evaluation.statistics.samples import Floats, Sums, Values, columns_of, ratio
from llmos.training.adaptation import TextLoss

LIKELIHOOD = "log_likelihood"  # of a target, in nats: the loss with its sign turned
CAN_TELL = 2  # texts: of fewer, no interval


@dataclass(frozen=True, slots=True)
class LossChange:
    """The mean loss of the same targets of the same texts, in nats, before and after."""

    comparison: Comparison
    targets: int

    @property
    def before(self) -> float:
        return -self.comparison.theirs

    @property
    def after(self) -> float:
        return -self.comparison.ours

    @property
    def is_better(self) -> bool:
        return self.comparison.standing() is Standing.BETTER

    @property
    def sentence(self) -> str:
        """Both losses, and the difference with its bounds, each at 95 %."""
        found = self.comparison
        change = f"{-found.difference:+.4f}, {-found.high:+.4f} to {-found.low:+.4f}"
        return f"loss {self.after:.4f} for {self.before:.4f} ({change}) on {found.units:,} texts"

    def plain(self) -> dict[str, Json]:
        found = self.comparison
        return {
            "before": self.before,
            "after": self.after,
            "change": -found.difference,
            "low": -found.high,
            "high": -found.low,
            "texts": found.units,
            "targets": self.targets,
            "method": found.method,
        }


def change_of(before: Sequence[TextLoss], after: Sequence[TextLoss]) -> LossChange:
    """The change on texts in the same order; BadInput for texts too few to compare, or a loss that is no number."""
    if len(before) < CAN_TELL:
        raise BadInput(f"{len(before)} texts are too few to measure a base on. Give more", reason="too_few_texts")
    samples = _sample(after), _sample(before)
    if not all(np.isfinite(one.statistics.toarray()).all() for one in samples):
        raise BadInput("The loss on held-out texts is not a number: the weights are damaged", reason="not_finite")
    found = compare(*samples, LIKELIHOOD)
    assert found is not None, "the mean of losses can always be computed"
    return LossChange(found, sum(one.targets for one in before))


def _sample(losses: Sequence[TextLoss]) -> Sums:
    columns = [[-one.total for one in losses], [float(one.targets) for one in losses]]
    return Sums(columns_of(columns), _mean, len(losses))


def _mean(sums: Floats) -> Values:
    return {LIKELIHOOD: ratio(sums[:, 0], sums[:, 1])}


def likelihood(losses: Sequence[TextLoss]) -> float:
    """How likely the mean target was, from 0 to 1: what the best epoch is chosen by."""
    return exp(-sum(one.total for one in losses) / max(1, sum(one.targets for one in losses)))


def decide(change: LossChange, base: str, promoted: str | None) -> Verdict:
    """Promote a base that is better on held-out texts than the one it was made of, beyond chance.

    `promoted` is what its name means today: a version that it was not compared with stays.
    """
    if not change.is_better:
        return Verdict(False, f"held-out {change.sentence}: not better than {base} beyond chance", promoted)
    if promoted not in (None, base):
        said = f"it was compared with {base}, and {promoted} is promoted. Promote it yourself if you want it"
        return Verdict(False, f"held-out {change.sentence}; {said}", promoted)
    return Verdict(True, f"held-out {change.sentence}: better than {base}", promoted)


def gate_of(change: LossChange, verdict: Verdict) -> dict[str, Json]:
    """What the gate has found, as evidence keeps it."""
    found = {"require": BETTER, "is_met": change.is_better, "sentence": f"held-out {change.sentence}"}
    return {"promoted": verdict.promote, "standing": str(change.comparison.standing()), "conditions": [found]}
