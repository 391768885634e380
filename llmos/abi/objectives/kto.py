"""kto: learns from single answers that are good or bad, relative to the frozen base (Ethayarajh et al. 2024)."""

from __future__ import annotations

from llmos.abi.method import MethodSetting
from llmos.abi.objective import PAIRED, UNPAIRED, ObjectiveSpec
from llmos.abi.objectives.dpo import BETA

OBJECTIVE = ObjectiveSpec(
    name="kto",
    about="Makes good answers likelier and bad ones less likely, relative to the frozen base. It needs no pairs.",
    rows=(UNPAIRED, PAIRED),
    settings=(
        BETA,
        MethodSetting("desirable_weight", float, 1.0, "how much a good answer counts", 0, 100),
        MethodSetting("undesirable_weight", float, 1.0, "how much a bad answer counts", 0, 100),
    ),
    needs_reference=True,
    needs_mismatched=True,
    primary_metric="reward_accuracy",
    source="Ethayarajh et al. 2024, arXiv:2402.01306",
)
