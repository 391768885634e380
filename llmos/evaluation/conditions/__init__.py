"""The conditions of the gate: a file for each kind of requirement, found by its word."""

from __future__ import annotations

from collections.abc import Mapping

from llmos.abi.gate import (
    ABSTAIN,
    AS_GOOD,
    BETTER,
    BETTER_OR_WIDER,
    CALIBRATION_ERROR,
    METRIC,
    NO_COMPARISON,
    NOT_WORSE,
    SLICE,
    SUITE,
)
from llmos.evaluation.conditions import behaviour, comparison, cost, metric, promise, slices
from llmos.evaluation.conditions.condition import Condition

CONDITIONS: Mapping[str, Condition] = {
    AS_GOOD: comparison.check,
    NOT_WORSE: comparison.check,
    BETTER: comparison.check,
    BETTER_OR_WIDER: comparison.check,
    NO_COMPARISON: comparison.check,
    METRIC: metric.check,
    SUITE: behaviour.check,
    SLICE: slices.check,
    ABSTAIN: promise.check_abstain,
    CALIBRATION_ERROR: promise.check_calibration_error,
    "latency_ms": cost.check_latency,
    "size_mb": cost.check_size,
}
