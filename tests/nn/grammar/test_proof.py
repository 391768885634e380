"""Rules that end, stall or fill whoever compiles them are sentences, and cost one process that nobody misses."""

from __future__ import annotations

import psutil
import pytest

pytest.importorskip("llguidance")

from llmos.abi.error import BadInput, Cancelled
from llmos.abi.waiting import is_for_nobody, waited_for
from llmos.nn.grammar.proof import is_plain, prove
from llmos.tasks.grammar import Grammar

pytestmark = pytest.mark.slow

NESTED = "start: r0\n" + "\n".join(f'r{i}: r{i + 1} r{i + 1} | "a"' for i in range(3000)) + '\nr3000: "a"\n'


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("grammar", NESTED, "ends the process that tries"),
        ("regex", "(a{1000}){1000}", "too many expressions|would take longer|ends the process"),
        ("grammar", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000, "nested"),
        ("regex", "(", "regex parse error"),
        ("grammar", "start: missing", "missing"),
    ],
    ids=["nested rules", "repeats of repeats", "brackets", "malformed", "no such rule"],
)
def test_a_rule_that_cannot_be_compiled_safely_is_a_sentence_that_names_its_param(kind, text, says):
    with pytest.raises(BadInput, match=says) as refused:
        prove(Grammar(kind, text))
    assert refused.value.detail["key"] == kind


@pytest.mark.parametrize(
    ("kind", "text"), [("regex", "(a|b){3}c"), ("grammar", 'start: start "a" | "b"'), ("grammar", 'root ::= "a" | "b"')]
)
def test_a_rule_that_can_be_kept_to_is_proven(kind, text):
    prove(Grammar(kind, text))


def test_small_plain_rules_need_no_proof_and_what_multiplies_does():
    assert is_plain(Grammar("json_schema", '{"type": "object", "properties": {"a": {"type": "string"}}}'))
    assert is_plain(Grammar("regex", "yes|no"))
    for kind, text in [
        ("regex", "(a{100}){100}"),
        ("grammar", 'start: "a"'),
        ("json_schema", '{"type": "array", "minItems": 100000}'),
        ("json_schema", '{"pattern": "(a{9}){9}"}'),
        ("json_schema", '{"enum": ["' + "x" * 8000 + '"]}'),
    ]:
        assert not is_plain(Grammar(kind, text))


def test_a_proof_without_waiters_is_broken_off_and_made_again_for_the_next():
    """The process that tries is halted at the first look, so that it cannot have ended before the second."""
    rule = Grammar("grammar", 'start: "a"{2,900}')
    halted = []

    def has_left() -> bool:
        if halted:
            return True
        alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
        (trying,) = [one for one in alive if "llmos.nn.grammar.proof" in one.cmdline()]
        trying.suspend()
        halted.append(trying)
        return False

    with waited_for(has_left), pytest.raises(Cancelled):
        prove(rule)
    assert not halted[0].is_running(), "it is ended with the wait"
    assert not is_for_nobody()
    prove(rule)
