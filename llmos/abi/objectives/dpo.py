"""dpo: makes better answers likelier than worse ones, relative to the frozen base (Rafailov et al. 2023)."""

from __future__ import annotations

from llmos.abi.method import MethodSetting
from llmos.abi.objective import PAIRED, ObjectiveSpec

BETA = MethodSetting(
    "beta", float, 0.1, "how closely the model stays to the base; a small one lets it go farther", 0, 100
)

OBJECTIVE = ObjectiveSpec(
    name="dpo",
    about="Raises the likelihood of better answers over worse ones, relative to the frozen base.",
    rows=(PAIRED,),
    settings=(
        BETA,
        MethodSetting("smoothing", float, 0.0, "the share of pairs that may be the wrong way round", -1e-9, 0.499),
        MethodSetting("nll_weight", float, 0.0, "how much the better answer's likelihood counts besides", -1e-9, 100),
    ),
    needs_reference=True,
    primary_metric="reward_accuracy",
    source="Rafailov et al. 2023, arXiv:2305.18290",
)
