"""What trials have found at their rungs: kept by rung and trials, and told to the search in one form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmos.abi.process import Process, Progress, Spec, State
from llmos.programs.rung_results import RungResult, RungResults, report_rung
from llmos.programs.trial_outcome import outcomes_of
from llmos.testing.daemon import beside
from llmos.tuning.history import Dropped, Reached, Record

FOUND = RungResult(1, [2, 5], {2: 0.5, 5: 0.25}, 4.0, 3.0, 60)


def test_a_result_is_found_again_by_its_rung_and_its_trials(tmp_path: Path):
    RungResults(tmp_path).keep(FOUND)
    RungResults(tmp_path).keep(replace(FOUND, rung=2, active=[5], metrics={5: 0.75}))
    again = RungResults(tmp_path)
    assert again.at(1, [2, 5]) == FOUND
    assert again.at(1, [5]) is None
    assert (found := again.at(2, [5])) is not None
    assert found.metrics == {5: 0.75}


def reported(found: RungResult) -> Progress:
    daemon, channel, close = beside()
    report_rung(channel, found, [0.25, 0.5, 1.0], "accuracy")
    close()
    (progress,) = daemon.progress
    return progress


def outcomes(found: RungResult) -> list[Record]:
    paused = Process(9, Spec("trial"), State.INTERRUPTED, exit_code=0, progress=reported(found))
    return outcomes_of(paused, found.active, found.rung, is_last=False)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({2: 0.5, 5: 0.25}, [Reached(2, 1, 0.5, 2.0, 1.5), Reached(5, 1, 0.25, 2.0, 1.5)]),
        ({2: 0.5}, [Reached(2, 1, 0.5, 2.0, 1.5), Dropped]),
        ({}, [Dropped, Dropped]),
    ],
)
def test_a_search_reads_what_trials_report(metrics: dict[int, float], expected: list[object]):
    found = outcomes(replace(FOUND, metrics=metrics))
    assert [one if isinstance(one, Reached) else type(one) for one in found] == expected


def test_a_lone_trial_reports_its_metric_as_any_trainer_does():
    lone = RungResult(1, [5], {5: 0.25}, 4.0, 3.0, 60)
    assert outcomes(lone) == [Reached(5, 1, 0.25, 4.0, 3.0)]
    assert reported(lone).figures["metric"] == 0.25
    assert "metric" not in reported(FOUND).figures
