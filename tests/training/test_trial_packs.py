"""Trials that train together: their rungs, and a pack that is stopped goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
from trial_runs import SHARES, paused, trial

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import PAUSED
from llmos.testing.daemon import FakeDaemon

pytestmark = pytest.mark.torch

CHANGES: list[dict[str, Json]] = [
    {"learning_rate": 3e-3},
    {"learning_rate": 3e-3, "batch_size": 4},
    {"method": "rslora", "learning_rate": 1e-2, "method_settings": {"rank": 4, "alpha": 4}, "epochs": 9.0},
]


def pack_job(folder: Path, rung: int, active: list[int]) -> Job:
    path = tiny_training.sorting(folder, rows=120)
    recipe = {"task": "classify", "method": "lora", "epochs": 12.0, "data": {"train": str(path)}, "batch_size": 8}
    told = tiny_training.assignment(folder, recipe)
    pack = [{"number": i, "changes": one} for i, one in enumerate(CHANGES)]
    own: dict[str, Json] = {"number": 0, "shares": SHARES, "rung": rung, "trials": 3, "pack": pack, "active": active}
    return replace(told, args={**told.args, **CHANGES[0], **own})


def at_rung(job: Job, rung: int, active: list[int]) -> Job:
    return replace(job, args={**job.args, "rung": rung, "active": active})


def metrics(daemon: FakeDaemon) -> dict[str, float]:
    return {key: value for key, value in paused(daemon).figures.items() if key.startswith("metric")}


def test_trials_that_train_together_learn(tmp_path: Path) -> None:
    job = pack_job(tmp_path, 0, [0, 1, 2])
    for rung in (0, 1):
        found = metrics(trial(at_rung(job, rung, [0, 1, 2])))
        assert set(found) == {"metric_0", "metric_1", "metric_2"}
    assert max(found.values()) > 0.9


def test_a_pack_that_is_stopped_goes_on_to_the_same_results(tmp_path: Path) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
    job = pack_job(tmp_path / "broken", 0, [0, 1, 2])
    stopped = trial(job, stop_at=4)
    assert not [one for one in stopped.progress if one.phase == PAUSED]
    assert metrics(trial(job)) == metrics(trial(pack_job(tmp_path / "whole", 0, [0, 1, 2])))


def test_some_of_a_pack_train_on_and_one_becomes_the_candidate(tmp_path: Path) -> None:
    job = pack_job(tmp_path, 0, [0, 1, 2])
    first = metrics(trial(job))
    assert set(first) == {"metric_0", "metric_1", "metric_2"}
    again = trial(job)
    assert metrics(again) == first
    assert [one.phase for one in again.progress if one.phase == "train"] == []
    second = trial(at_rung(job, 1, [0, 2]))
    assert set(metrics(second)) == {"metric_0", "metric_2"}
    assert second.offers == []
    dataset, model = trial(at_rung(job, 2, [2])).offers
    assert model.draft["lineage"]["tuning"] == "trial 2 of 3, by the validation rows"
    assert model.draft["method"] == "rslora"
    assert model.draft["evidence"]["metrics"]["macro_f1"] > 0.5
    assert dataset.draft["splits"]


def test_a_trial_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    job = pack_job(tmp_path, 1, [0, 1, 2])
    pack = [*job.args["pack"][:1], {"number": 1, "changes": {"learning_rate": 1e30}}, *job.args["pack"][2:]]
    found = metrics(trial(replace(job, args={**job.args, "pack": pack})))
    assert set(found) == {"metric_0", "metric_2"}
    assert max(found.values()) > 0.9
