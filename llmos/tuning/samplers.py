"""Samplers: the settings of the next trial, as a function of the seed and of what the search has shown."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json
from llmos.tuning.halving import Sample
from llmos.tuning.history import History
from llmos.tuning.space import Dimension, Space

STARTUP = 8  # trials before the estimator of optuna's TPE has something to go by
PACKAGE = "optuna"


def sampler_of(word: str, space: Space, seed: int) -> tuple[str, Sample]:
    """The sampler of this name and its real name; `auto` is tpe where optuna is installed, else quasi-random.

    The first trial always has the defaults.
    """
    name = ("tpe" if find_spec(PACKAGE) else "quasi-random") if word == "auto" else word
    if name == "tpe" and not find_spec(PACKAGE):
        raise BadSetting(
            "The sampler tpe needs optuna: pip install 'llmos[tune]'. Or take another: --sampler quasi-random",
            key="sampler",
            value=name,
            expected="quasi-random or random",
        )
    draw = SAMPLERS[name]

    def sample(number: int, history: History) -> dict[str, Json]:
        return space.defaults() if number == 0 else draw(space, seed, number, history)

    return name, sample


def _random(space: Space, seed: int, number: int, history: History) -> dict[str, Json]:
    chance = random.Random(f"{seed}/{number}")
    return space.settings([chance.random() for _ in space.dimensions])


def _quasi_random(space: Space, seed: int, number: int, history: History) -> dict[str, Json]:
    """The additive recurrence of Roberts (2018): multiples of powers of a number that is hard to approximate.

    It covers the space evenly however many points are taken. The seed shifts it.
    """
    count = len(space.dimensions)
    root = 2.0
    for _ in range(60):  # of x ** (count + 1) == x + 1
        root = (1 + root) ** (1 / (count + 1))
    chance = random.Random(f"{seed}/shift")
    return space.settings([(chance.random() + number * root ** -(i + 1)) % 1.0 for i in range(count)])


def _tpe(space: Space, seed: int, number: int, history: History) -> dict[str, Json]:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), given the results of the first rung.

    A study is made anew for every trial, so that the same history gives the same settings.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed * 1_000 + number, n_startup_trials=STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for result in sorted(history.at(0), key=lambda one: one.trial):
        given = history.settings[result.trial]
        dimensions = [one for one in space.dimensions if one.name in given]
        study.add_trial(
            optuna.trial.create_trial(
                params={one.name: given[one.name] for one in dimensions},
                distributions={one.name: _distribution(optuna, one) for one in dimensions},
                value=result.metric,
            )
        )
    trial = study.ask()
    found: dict[str, Json] = {}
    for one in space.dimensions:
        if not space.has(one, found):
            continue
        if one.values:
            found[one.name] = trial.suggest_categorical(one.name, list(one.values))
        else:
            found[one.name] = round(trial.suggest_float(one.name, 1 / one.width, one.width, log=True), 4)
    return found


def _distribution(optuna: Any, one: Dimension) -> Any:  # Any: optuna has no types of its own here
    if one.values:
        return optuna.distributions.CategoricalDistribution(list(one.values))
    return optuna.distributions.FloatDistribution(1 / one.width, one.width, log=True)


Draw = Callable[[Space, int, int, History], dict[str, Json]]
SAMPLERS: dict[str, Draw] = {"random": _random, "quasi-random": _quasi_random, "tpe": _tpe}
