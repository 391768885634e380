"""Methods declare themselves: what they train, how they are served and their settings. Nothing asks for their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmos
from llmos.abi.error import BadSetting
from llmos.abi.method import (
    Widths,
    find_method,
    has_own_weights,
    is_on_base,
    method_names,
    method_of,
    method_specs,
    setting_names,
)
from llmos.abi.recipe import Data, Lora, Recipe, check, identity_of, settings_of_method
from llmos.abi.task import recipe_options
from llmos.sdk.request import DATA_KEYS, RECIPE_KEYS
from llmos.sdk.request import recipe as recipe_of
from llmos.testing.errors import fails_with

ROOT = Path(llmos.__file__).parent
SHAPE = Widths(384, 1536, 6)


def recipe(**more: object) -> Recipe:
    return Recipe("classify", "support", "minilm:1", Data("/rows.csv"), **more)  # type: ignore[arg-type]  # any field


def compares_a_method(node: ast.AST) -> bool:
    """Whether a node compares something called `method` with a literal name of one."""
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    words = {one.value for side in sides for one in ast.walk(side) if isinstance(one, ast.Constant)}
    names = {getattr(one, "attr", getattr(one, "id", "")) for side in sides for one in ast.walk(side)}
    return bool(words & {*method_names()}) and "method" in names


def offenders(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if compares_a_method(node):
                yield f"{path.relative_to(root)}: {ast.unparse(node)}"


def test_no_code_decides_by_the_name_of_a_method():
    assert [*offenders(ROOT)] == []


def test_code_that_decides_by_the_name_of_a_method_is_found(tmp_path: Path):
    (tmp_path / "one.py").write_text("x = recipe.method == 'lora'\ny = method in ('full', 'lora')\n")
    assert len([*offenders(tmp_path)]) == 2


@pytest.mark.parametrize("spec", method_specs().values(), ids=lambda spec: spec.name)
def test_a_declaration_is_whole(spec):
    assert spec.about.endswith(".")
    assert spec.trains
    assert spec.values({}) == spec.values(spec.values({})), "defaults are values that the method takes"
    assert (spec.count_weights(SHAPE, spec.values({})) > 0) is bool(spec.reads_as)
    assert is_on_base(spec.name) is not has_own_weights(spec.name)


def test_no_setting_of_a_method_has_the_name_of_another_setting():
    assert not setting_names() & (RECIPE_KEYS | DATA_KEYS | recipe_options())


def test_a_base_and_a_method_of_another_version_have_no_declaration():
    assert find_method(None) is None
    assert not is_on_base(None)
    assert not has_own_weights("unknown")
    with fails_with(BadSetting, key="method", value="unknown", expected=list(method_names())):
        method_of("unknown")


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"ranks": 8}, "ranks"), ({"rank": 0}, "rank"), ({"rank": True}, "rank"), ({"rank": 8.5}, "rank")],
)
def test_an_unknown_setting_or_a_wrong_value_is_refused(settings, key):
    with fails_with(BadSetting, key=key, value=settings[key]):
        check(recipe(method="lora", method_settings=settings))


def test_settings_of_lora_are_refused_for_another_method():
    with fails_with(BadSetting, key="lora.rank"):
        check(recipe(method="full", lora=Lora(rank=8)))


def test_a_setting_of_the_method_wins_over_the_field_of_lora():
    both = recipe(method="lora", lora=Lora(rank=4, targets=("query",)), method_settings={"rank": 8})
    assert settings_of_method(both) == {"rank": 8, "alpha": 32, "dropout": 0.0, "targets": ("query",)}


def test_a_recipe_made_before_there_were_settings_of_methods_keeps_its_identity():
    assert b"method_settings" not in identity_of(recipe(method="lora"))
    assert b"method_settings" in identity_of(recipe(method="lora", method_settings={"rank": 8}))


def test_the_client_takes_settings_of_the_method_by_their_names():
    made = recipe_of("classify", "support", None, Data("rows@1"), {"method": "lora", "rank": 8, "lora_alpha": 4})
    assert made.method_settings == {"rank": 8}
    assert made.lora == Lora(alpha=4)


@given(rank=st.integers(1, 1024))
def test_the_weights_of_lora_grow_with_its_rank(rank):
    spec = method_of("lora")
    assert spec.count_weights(SHAPE, spec.values({"rank": rank})) == rank * spec.count_weights(
        SHAPE, spec.values({"rank": 1})
    )


def test_a_method_has_the_name_of_its_file_so_that_one_is_found_without_the_others():
    assert {name: spec.name for name, spec in method_specs().items()} == {name: name for name in method_names()}
