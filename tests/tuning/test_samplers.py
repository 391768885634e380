"""Samplers: the same seed and history give the same settings, the first of which are the defaults."""

from __future__ import annotations

from collections import Counter

import pytest
from searches import played

from llmos.abi.error import BadSetting
from llmos.abi.tuning import Budget
from llmos.tuning import samplers
from llmos.tuning.halving import plan_of
from llmos.tuning.history import Begun, History, history_of
from llmos.tuning.samplers import sampler_of
from llmos.tuning.space import SpaceFacts, space_of

SPACE = space_of(SpaceFacts(("full", "lora", "head"), "full", True, "mean", "", frozenset()))


@pytest.mark.parametrize("word", ["random", "quasi-random", "tpe"])
def test_settings_follow_from_seed_and_history(word):
    if word == "tpe":
        pytest.importorskip("optuna")
    plan = plan_of(Budget(trials=12))
    runs = [
        [one.settings for one in played(plan, lambda trial, rung: trial % 5 / 10, sample) if isinstance(one, Begun)]
        for sample in (sampler_of(word, SPACE, seed)[1] for seed in (7, 7, 8))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][0] == SPACE.defaults()
    assert len({str(one) for one in runs[0]}) > 8


def test_quasi_random_settings_cover_every_choice_evenly():
    _, sample = sampler_of("quasi-random", SPACE, 7)
    found = [sample(number, History()) for number in range(1, 61)]
    for name in ("method", "pooling", "batch"):
        counts = Counter(one[name] for one in found)
        assert len(counts) == 3
        assert min(counts.values()) >= 16
    assert min(one["rate"] for one in found) < 0.3
    assert max(one["rate"] for one in found) > 3.4


def test_the_estimator_learns_what_is_good():
    pytest.importorskip("optuna")
    _, sample = sampler_of("tpe", SPACE, 7)
    plan = plan_of(Budget(trials=40))
    begun: dict[int, dict[str, object]] = {}

    def noting(number, history):
        begun[number] = sample(number, history)
        return begun[number]

    played(plan, lambda trial, rung: 1.0 if begun[trial]["method"] == "lora" else 0.2, noting)
    late = [begun[number]["method"] for number in range(20, 40)]
    assert late.count("lora") > 12


def test_without_optuna_the_automatic_sampler_is_another_and_tpe_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(samplers, "PACKAGE", "optuna_is_not_here")
    name, sample = sampler_of("auto", SPACE, 7)
    assert name == "quasi-random"
    assert history_of(played(plan_of(Budget(trials=4)), lambda trial, rung: 0.5, sample)).made is not None
    with pytest.raises(BadSetting):
        sampler_of("tpe", SPACE, 7)
