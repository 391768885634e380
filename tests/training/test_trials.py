"""Trials whole: rungs with checkpoints, and a candidate that is measured only at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
from trial_runs import SHARES, paused, trial

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import PAUSED
from llmos.testing.daemon import beside

pytestmark = pytest.mark.torch


def job_of(folder: Path, rung: int, **args: Json) -> Job:
    path = tiny_training.sorting(folder, rows=120)
    recipe = {"task": "classify", "method": "lora", "epochs": 4.0, "data": {"train": str(path)}, "batch_size": 8}
    told = tiny_training.assignment(folder, recipe | args)
    return replace(told, args={**told.args, "number": 0, "shares": SHARES, "rung": rung, "trials": 3})


def test_a_trial_with_rungs_makes_the_candidate_that_one_run_makes(tmp_path: Path) -> None:
    from llmos.programs import train

    job = job_of(tmp_path, 0)
    first = trial(job)
    assert first.offers == []
    at_first = paused(first)
    assert (at_first.figures["rung"], at_first.done) == (0.0, 0.25)
    second = trial(replace(job, args={**job.args, "rung": 1}))
    at_second = paused(second)
    assert at_second.figures["step"] == 4 * at_first.figures["step"]
    assert second.offers == []
    made = trial(replace(job, args={**job.args, "rung": 2}))
    dataset, model = made.offers
    assert model.draft["lineage"]["tuning"] == "trial 0 of 3, by the validation rows"
    plain = {key: job.args[key] for key in job.args if key not in ("number", "shares", "rung", "trials")}
    (tmp_path / "plain").mkdir()
    daemon, channel, close = beside()
    train.main(channel, replace(job, args=plain, scratch=str(tmp_path / "plain")))
    close()
    assert daemon.offers[1].draft["evidence"]["metrics"] == model.draft["evidence"]["metrics"]
    assert daemon.offers[1].draft["lineage"]["epochs"] == model.draft["lineage"]["epochs"]
    assert dataset.draft["splits"] == daemon.offers[0].draft["splits"]


def test_a_trial_that_is_stopped_before_its_rung_goes_on_to_the_same_result(tmp_path: Path) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
    broken, whole = job_of(tmp_path / "broken", 0), job_of(tmp_path / "whole", 0)
    stopped = trial(broken, stop_at=5)
    assert not [one for one in stopped.progress if one.phase == PAUSED]
    result = paused(trial(broken)).figures
    expected = paused(trial(whole)).figures
    assert {key: result[key] for key in ("metric", "step", "rung")} == {
        key: expected[key] for key in ("metric", "step", "rung")
    }


def test_a_rung_that_was_reached_is_reported_again_without_training(tmp_path: Path) -> None:
    job = job_of(tmp_path, 0)
    first = paused(trial(job))
    again = trial(job)
    assert paused(again) == first
    assert [one.phase for one in again.progress] == [PAUSED]
