"""A call and a training run pass no more files of llmos than now: each file more is one more to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces import MAX_CLASSIFY, MAX_TRAINING, trace

pytestmark = [pytest.mark.acceptance, pytest.mark.torch]


def test_a_warm_call_and_a_training_run_pass_no_more_files_than_their_bounds(tmp_path: Path) -> None:
    traces = trace(tmp_path)
    assert "kernel/calls/router.py" in traces.classify
    assert "training/trainer.py" in traces.training
    assert len(traces.classify) <= MAX_CLASSIFY, traces.text()
    assert len(traces.training) <= MAX_TRAINING, traces.text()
