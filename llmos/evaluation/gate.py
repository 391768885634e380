"""The promotion gate: whether a candidate may replace the promoted version, by the policy of its name."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from llmos.abi.gate import ABSTAIN, AT_LEAST, AT_MOST, KINDS, METRIC, GatePolicy, Requirement
from llmos.abi.json_type import Json
from llmos.abi.model import Verdict
from llmos.evaluation.conditions import CONDITIONS
from llmos.evaluation.conditions.condition import Checked, GateFacts


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, and what each condition found; the first finding is the comparison's."""

    verdict: Verdict
    findings: tuple[tuple[Requirement, Checked], ...]

    @property
    def standing(self) -> str:
        """How the candidate stands to the promoted version, in a word or two."""
        return next((one.standing for _, one in self.findings if one.standing), "")

    def plain(self, margin: float) -> dict[str, Json]:
        """As evidence keeps it."""
        return {
            "promoted": self.verdict.promote,
            "standing": self.standing,
            "margin": margin,
            "conditions": [finding.plain(requirement) for requirement, finding in self.findings],
        }


def decide(
    policy: GatePolicy, facts: GateFacts, min_metric: float | None = None, abstain: float | None = None
) -> Decision:
    """Promote what meets every requirement.

    The recipe's own: `min_metric`, a floor under the primary metric, and `abstain`, a promised share of wrong answers.
    """
    value = facts.result.metrics[facts.metric]
    compared = facts.incumbent.comparison if facts.incumbent else None
    for figure in (value, *((compared.ours, compared.theirs) if compared else ())):
        assert isfinite(figure), f"a {facts.metric} of {figure} decides nothing"
    requirements = [*policy.requirements]
    if min_metric is not None:
        requirements.append(Requirement(METRIC, facts.metric, operator=AT_LEAST, number=min_metric))
    if abstain:
        requirements.append(Requirement(ABSTAIN, ABSTAIN, operator=AT_MOST, number=abstain))
    requirements = list(dict.fromkeys(requirements))
    requirements.sort(key=lambda one: not KINDS[one.kind].is_comparison)
    findings = tuple((one, CONDITIONS[one.kind](one, facts)) for one in requirements)
    return Decision(_verdict(facts, findings), findings)


def _verdict(facts: GateFacts, findings: tuple[tuple[Requirement, Checked], ...]) -> Verdict:
    """The failures alone where there are any; else all that was found."""
    failed = [finding for _, finding in findings if not finding.is_met]
    interval = facts.result.intervals.get(facts.metric)
    within = f" (95 % interval {interval.low:.4f} to {interval.high:.4f})" if interval else ""
    ours = f"{facts.metric} {facts.result.metrics[facts.metric]:.4f}{within} on the test rows"
    said = "; ".join(finding.sentence for finding in (failed or [finding for _, finding in findings]))
    against = facts.incumbent.ref if facts.incumbent else None
    return Verdict(not failed, f"{ours}; {'not met: ' if failed else ''}{said}", against)
