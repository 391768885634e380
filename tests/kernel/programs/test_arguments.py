"""What a client may give a program: what is the daemon's own is refused, and what is too large to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadSetting, LlmosError
from llmos.kernel.programs import declarations
from llmos.kernel.programs.arguments import check_arguments, startable
from llmos.testing.errors import fails_with

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize("program", startable())
def test_every_argument_that_is_declared_may_be_given(program):
    arguments = declarations()[program].arguments or {}
    for key in arguments:
        with fails_with(BadSetting, key=key, program=program):
            check_arguments(program, {key: object()})
    check_arguments(program, dict.fromkeys((*arguments, "of nobody")))


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("pull", {"labels": [["hf_abcdefghijk"]]}),
        ("pull", {"labels": {"a": 1}}),
        ("pull", {"labels": ["a" * 4_097]}),
        ("pull", {"source": 5}),
        ("pull", {"max_drop": "0.1"}),
        ("serve", {"base": ["minilm"]}),
        ("evaluate", {"data": 5}),
        ("evaluate", {"options": {"a": [{"b": "x" * 4_097}]}}),
        ("quantize", {"data": [1]}),
        ("train", {"epochs": "3"}),
        ("train", {"data": {"train": 5}}),
        ("train", {"name": "n" * 4_097}),
    ],
)
def test_an_argument_of_another_type_or_with_a_text_too_long_is_refused_by_its_name(program, args):
    with fails_with(BadSetting, key=next(iter(args)), program=program):
        check_arguments(program, args)


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("pull", {"source": "hf:a/b", "labels": ["no", "yes"], "max_drop": 0, "task": None}),
        ("evaluate", {"model": "m:1", "data": {"test": "/a.csv", "text": "0"}, "options": {"max_tokens": 3}}),
        ("quantize", {"model": "m:1", "data": "rows@1", "max_drop": 0.01}),
        (
            "train",
            {"task": "classify", "name": "n", "base": "b", "data": {"train": "/a"}, "epochs": 3, "lora": None},
        ),
    ],
)
def test_arguments_of_their_types_are_let_through(program, args):
    check_arguments(program, args)


def test_a_program_that_only_the_daemon_starts_is_refused():
    with fails_with(BadInput, key="program", value="probe", expected=list(startable())):
        check_arguments("probe", {"devices": [], "engine": "null"})


@pytest.mark.parametrize(
    ("program", "key"),
    [("pull", key) for key in ("token", "catalog", "hub", "index", "downloads")]
    + [("serve", key) for key in ("vllm_command", "token_budget", "kv_bytes")]
    + [("evaluate", "reports"), ("quantize", "dtype"), ("train", "scratch")],
)
def test_what_the_daemon_fills_in_no_client_may_give(program, key):
    with fails_with(BadSetting, key=key, program=program):
        check_arguments(program, {key: "/anything"})


def test_a_slip_is_told_the_nearest_in_the_sentence():
    with pytest.raises(BadSetting, match=r"near: source"):
        check_arguments("pull", {"sorce": "minilm"})


@given(st.sampled_from(list(declarations())), st.dictionaries(st.text(), JSON, max_size=3))
def test_no_arguments_make_the_check_itself_fail(program, args):
    try:
        check_arguments(program, args)
    except LlmosError:
        return
    assert {key for key, value in args.items() if value is not None} <= {*(declarations()[program].arguments or ())}
