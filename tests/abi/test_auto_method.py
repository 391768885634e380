"""The rule for methods: whatever it chooses is among what admission has reserved memory for, and it says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.auto_method import AUTO, MOST_WHOLE_BYTES, MethodFacts, choosable, choose_method, labelling_method
from llmos.abi.error import BadSetting
from llmos.abi.method import method_names, method_of
from llmos.abi.recipe import Data, Lora, Recipe, check, needs_frozen_base
from llmos.abi.task import trainable_tasks
from llmos.testing.errors import fails_with

FACTS = st.builds(
    MethodFacts,
    task=st.sampled_from(trainable_tasks()),
    rows=st.integers(1, 10**7),
    base_bytes=st.integers(0, 10**12),
    is_static=st.booleans(),
    needs_frozen_base=st.booleans(),
)


@given(FACTS)
def test_the_chosen_method_is_one_that_may_be_chosen_with_a_reason(facts: MethodFacts) -> None:
    able = choosable(facts.task, is_static=facts.is_static, needs_frozen_base=facts.needs_frozen_base)
    choice = choose_method(facts)
    assert choice.method in able
    assert set(able) <= set(method_names())
    assert choice.sentence.startswith(f"auto: {choice.method}, because ")
    assert choose_method(facts) == choice


@given(FACTS)
def test_an_objective_that_compares_with_the_base_gets_a_method_that_keeps_it(facts: MethodFacts) -> None:
    if facts.needs_frozen_base and not facts.is_static:
        assert method_of(choose_method(facts).method).keeps_base


def test_a_table_is_trained_whole() -> None:
    assert not method_of(choose_method(MethodFacts("classify", 100, 10**6, is_static=True)).method).keeps_base


@pytest.mark.parametrize(
    ("method", "base_bytes", "needs_frozen_base", "expected"),
    [
        ("lora", MOST_WHOLE_BYTES, False, "full"),
        ("lora", MOST_WHOLE_BYTES + 1, False, "lora"),
        ("dora", 0, True, "dora"),
        ("head", 0, False, "head"),
        ("full", MOST_WHOLE_BYTES + 1, False, "full"),
    ],
)
def test_models_that_only_give_labels_learn_by_all_weights_of_a_small_base(
    method: str, base_bytes: int, needs_frozen_base: bool, expected: str
) -> None:
    assert labelling_method(method, base_bytes, needs_frozen_base=needs_frozen_base) == expected


def test_a_recipe_without_a_method_is_left_to_the_rule() -> None:
    recipe = Recipe("classify", "n", "b", Data("/rows.csv"))
    assert recipe.method == AUTO
    check(recipe)


def test_a_base_in_fewer_bits_is_for_methods_that_leave_it_as_it_is() -> None:
    open_ = Recipe("classify", "n", "b", Data("/rows.csv"), base_dtype="int8")
    check(open_)
    assert needs_frozen_base(open_)
    check(replace(open_, method="lora"))
    for wrong in ({"method": "full"}, {"base_dtype": "int2"}):
        with fails_with(BadSetting, key="base_dtype"):
            check(replace(open_, **wrong))
    with fails_with(BadSetting, key="base_dtype"):
        check(replace(open_, task="chat", options={"objective": "dpo"}))


def test_settings_of_a_method_need_its_name() -> None:
    with fails_with(BadSetting, key="rank", value=4):
        check(Recipe("classify", "n", "b", Data("/rows.csv"), method_settings={"rank": 4}))
    with fails_with(BadSetting, key="alpha", value=4):
        check(Recipe("classify", "n", "b", Data("/rows.csv"), lora=Lora(alpha=4)))
