"""The budget of a search, in the words of people."""

import pytest

from llmos.abi.error import BadSetting
from llmos.abi.tuning import Budget, budget_of, check_tuning


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("24 trials", Budget(trials=24)),
        ("1 trial", Budget(trials=1)),
        (" 7 ", Budget(trials=7)),
        ("15m", Budget(seconds=900.0)),
        ("1h30m", Budget(seconds=5400.0)),
        ("1 h 30 min", Budget(seconds=5400.0)),
        ("90s", Budget(seconds=90.0)),
        ("0.5h", Budget(seconds=1800.0)),
    ],
)
def test_a_budget_is_a_number_of_trials_or_a_time(text, budget):
    assert budget_of(text) == budget


@pytest.mark.parametrize("text", ["", "soon", "0 trials", "0m", "-3", "15 m trials", "9999 trials", "99999h"])
def test_any_other_budget_is_refused(text):
    with pytest.raises(BadSetting) as refused:
        budget_of(text)
    assert refused.value.detail["key"] == "budget"


def test_a_search_has_defaults_for_what_is_not_given():
    assert check_tuning({}) == {"budget": "24 trials", "sampler": "auto", "methods": []}


@pytest.mark.parametrize("given", [{"sampler": "grid"}, {"methods": ["lora", "magic"]}, {"budget": "x"}])
def test_a_sampler_method_or_budget_that_there_is_not_is_refused(given):
    with pytest.raises(BadSetting):
        check_tuning(given)
