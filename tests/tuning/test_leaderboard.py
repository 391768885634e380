"""The leaderboard, the importances and the page of a search."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest
from searches import played

from llmos.abi.tuning import Budget, Leaderboard
from llmos.abi.wire import from_json, to_json
from llmos.tuning.halving import plan_of
from llmos.tuning.history import history_of
from llmos.tuning.importance import importances
from llmos.tuning.leaderboard import Search, leaderboard
from llmos.tuning.page import page, parallel_coordinates
from llmos.tuning.samplers import sampler_of
from llmos.tuning.space import SpaceFacts, recipe_changes, space_of

SPACE = space_of(SpaceFacts(("full", "lora"), "full", True, "mean", "", frozenset()))
PLAN = plan_of(Budget(trials=24))


def shown(settings):
    found = recipe_changes(settings, lambda method: (4.0, 1e-4, 10.0, 32))
    return {key: value for key, value in found.items() if isinstance(value, str | float | int)}


SEARCH = Search("classify", "<mood>", "tiny:1", "accuracy", "24 trials", "quasi-random", PLAN.shares, SPACE, shown)


def records(seed: int = 3):
    """A search where LoRA is better by far, and trial 5 fails."""
    _, sample = sampler_of("quasi-random", SPACE, seed)
    settings = {}

    def noting(number, history):
        settings[number] = sample(number, history)
        return settings[number]

    def answer(trial, rung):
        chance = random.Random(f"{seed}/{trial}")
        good = 0.9 if settings[trial]["method"] == "lora" else 0.6
        return None if trial == 5 else round(good + 0.02 * rung + 0.02 * chance.random(), 4)

    return played(PLAN, answer, noting)


def test_the_winner_stands_first_and_a_failed_trial_says_why():
    board = leaderboard(SEARCH, history_of(records()), {0: 11, 5: 16})
    first, last = board.trials[0], board.trials[-1]
    assert (board.winner, board.made) == (first.number, "mood:1")
    assert (first.state, len(first.metrics), first.share) == ("done", 3, 1.0)
    assert (last.number, last.state, last.note, last.pid) == (5, "failed", "it diverged", 16)
    assert [row.is_default for row in board.trials].count(True) == 1
    assert len(board.trials) == 24
    assert from_json(to_json(board), Leaderboard) == board


@pytest.mark.parametrize(
    ("pids", "queued", "state"), [({}, (), "waiting"), ({5: 16}, (16,), "waiting"), ({5: 16}, (), "running")]
)
def test_a_search_that_goes_on_shows_who_runs_and_who_waits(pids, queued, state):
    board = leaderboard(SEARCH, history_of(records()[:11]), pids, queued=queued)
    states = {row.number: row.state for row in board.trials}
    assert states == {**dict.fromkeys(range(5), "paused"), 5: state}
    assert board.winner is None


def test_the_setting_that_decides_is_the_most_important():
    found = importances(SPACE, history_of(records()))
    assert next(iter(found)) == "method"
    assert found["method"] > 0.9
    assert all(0 <= share <= 1 for share in found.values())
    assert found["batch"] < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_settings_that_do_not_matter_explain_next_to_nothing(seed):
    chance = random.Random(seed)
    _, sample = sampler_of("quasi-random", SPACE, seed)
    done = played(plan_of(Budget(trials=200)), lambda trial, rung: chance.random(), sample)
    assert max(importances(SPACE, history_of(done)).values()) < 0.1


def test_nothing_is_said_of_few_trials_or_of_equal_ones():
    _, sample = sampler_of("quasi-random", SPACE, 7)
    few = played(plan_of(Budget(trials=4)), lambda trial, rung: trial / 10, sample)
    assert importances(SPACE, history_of(few)) == {}
    equal = played(PLAN, lambda trial, rung: 0.5, sample)
    assert set(importances(SPACE, history_of(equal)).values()) == {0.0}


def test_the_page_draws_a_line_for_each_trial_and_escapes_what_users_wrote():
    board = leaderboard(SEARCH, history_of(records()), {})
    drawing = ElementTree.fromstring(parallel_coordinates(board, SPACE))
    lines = list(drawing.iter("polyline"))
    assert len(lines) == 23
    assert [one.get("class") for one in lines].count("line b") == 1
    html = page(board, SPACE)
    assert "&lt;mood&gt;" in html
    assert "<mood>" not in html
    assert "prefers-color-scheme: dark" in html
    assert "<script" not in html
    assert "Importance of each setting" in html


def test_a_search_without_results_has_a_page_too():
    board = leaderboard(SEARCH, history_of([]), {})
    assert parallel_coordinates(board, SPACE) == ""
    assert "Leaderboard" in page(board, SPACE)
