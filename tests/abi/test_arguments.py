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
    check_arguments(program, dict.fromkeys(ARGUMENTS[program], "x"))


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
    assert args.keys() <= {*ARGUMENTS[program]}
