"""What a client may give a program: what is the daemon's own is refused, and what is too large to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.arguments import ARGUMENTS, check_arguments
from llmos.abi.error import BadInput, BadSetting, LlmosError
from llmos.abi.process import Program

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize("program", ARGUMENTS)
def test_every_argument_that_is_declared_may_be_given(program):
    for key in ARGUMENTS[program]:
        with pytest.raises(BadSetting, match=f"{key} of {program} does not fit"):
            check_arguments(program, {key: object()})
    check_arguments(program, dict.fromkeys((*ARGUMENTS[program], "of nobody")))


@pytest.mark.parametrize(
    ("program", "args"),
    [
        (Program.PULL, {"labels": [["hf_abcdefghijk"]]}),
        (Program.PULL, {"labels": {"a": 1}}),
        (Program.PULL, {"labels": ["a" * 4_097]}),
        (Program.PULL, {"source": 5}),
        (Program.PULL, {"max_drop": "0.1"}),
        (Program.SERVE, {"base": ["minilm"]}),
        (Program.EVALUATE, {"data": 5}),
        (Program.EVALUATE, {"options": {"a": [{"b": "x" * 4_097}]}}),
        (Program.QUANTIZE, {"data": [1]}),
        (Program.TRAIN, {"epochs": "3"}),
        (Program.TRAIN, {"data": {"train": 5}}),
        (Program.TRAIN, {"name": "n" * 4_097}),
    ],
)
def test_an_argument_of_another_type_or_with_a_text_too_long_is_refused_by_its_name(program, args):
    with pytest.raises(BadSetting, match=f"of {program}") as refused:
        check_arguments(program, args)
    assert refused.value.detail["key"] == next(iter(args))


@pytest.mark.parametrize(
    ("program", "args"),
    [
        (Program.PULL, {"source": "hf:a/b", "labels": ["no", "yes"], "max_drop": 0, "task": None}),
        (Program.EVALUATE, {"model": "m:1", "data": {"test": "/a.csv", "text": "0"}, "options": {"max_tokens": 3}}),
        (Program.QUANTIZE, {"model": "m:1", "data": "rows@1", "max_drop": 0.01}),
        (
            Program.TRAIN,
            {"task": "classify", "name": "n", "base": "b", "data": {"train": "/a"}, "epochs": 3, "lora": None},
        ),
    ],
)
def test_arguments_of_their_types_are_let_through(program, args):
    check_arguments(program, args)


def test_a_program_that_only_the_daemon_starts_is_refused_with_those_that_a_client_may_start():
    with pytest.raises(BadInput, match=r"probe is started by the daemon alone\. There are: pull, train") as refused:
        check_arguments(Program.PROBE, {"devices": [], "engine": "null"})
    assert refused.value.detail["key"] == "program"


@pytest.mark.parametrize(
    ("program", "key"),
    [(Program.PULL, key) for key in ("token", "catalog", "hub", "index", "downloads")]
    + [(Program.SERVE, key) for key in ("vllm_command", "token_budget", "kv_bytes")]
    + [(Program.EVALUATE, "reports"), (Program.QUANTIZE, "dtype"), (Program.TRAIN, "scratch")],
)
def test_what_the_daemon_fills_in_no_client_may_give(program, key):
    with pytest.raises(BadSetting, match=f"{program} takes no argument '{key}'") as refused:
        check_arguments(program, {key: "/anything"})
    assert refused.value.detail["key"] == key


def test_a_slip_is_told_the_nearest():
    with pytest.raises(BadSetting, match=r"near: source"):
        check_arguments(Program.PULL, {"sorce": "minilm"})


@given(st.sampled_from(Program), st.dictionaries(st.text(), JSON, max_size=3))
def test_no_arguments_make_the_check_itself_fail(program, args):
    try:
        check_arguments(program, args)
    except LlmosError:
        return
    assert {key for key, value in args.items() if value is not None} <= {*ARGUMENTS[program]}
