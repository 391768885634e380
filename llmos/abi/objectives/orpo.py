"""orpo: learns better answers and the odds against worse ones at once, without a reference (Hong et al. 2024)."""

from __future__ import annotations

from llmos.abi.method import MethodSetting
from llmos.abi.objective import PAIRED, ObjectiveSpec

OBJECTIVE = ObjectiveSpec(
    name="orpo",
    about="Learns the better answers, and raises their odds over those of the worse ones.",
    rows=(PAIRED,),
    settings=(
        MethodSetting("beta", float, 0.1, "how much the odds count beside the better answer's likelihood", 0, 100),
    ),
    needs_reference=False,
    primary_metric="preference_accuracy",
    rate=0.1,
    source="Hong et al. 2024, arXiv:2403.07691",
)
