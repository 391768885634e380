"""How `llmos run` shows a label that the model is not sure of."""

from __future__ import annotations

from llmos.cli.ask import readable
from llmos.sdk.result import result_of

UNSURE = {"label": None, "score": 0.46, "scores": {"billing": 0.46, "delivery": 0.44}, "abstained": True}


def shown(output: dict[str, object]) -> str:
    return readable("Where is it?", result_of("classify", output), is_alone=True)


def test_a_withheld_answer_says_so_with_the_likeliest_label() -> None:
    assert shown(UNSURE) == "I do not know (perhaps billing 0.460)"
    many = {"labels": [], "scores": {"billing": 0.46}, "abstained": True}
    assert shown(many) == "I do not know (perhaps billing 0.460)"


def test_a_given_answer_looks_as_ever_and_a_set_stands_in_braces() -> None:
    sure = {**UNSURE, "label": "billing", "abstained": False}
    assert shown(sure) == "billing 0.460"
    assert shown({**sure, "set": ["billing", "delivery"]}) == "billing 0.460  {billing, delivery}"
    assert shown({"labels": ["a"], "scores": {"a": 0.9}}) == "a 0.900"
    assert shown({"labels": [], "scores": {"a": 0.1}}) == "no label"
