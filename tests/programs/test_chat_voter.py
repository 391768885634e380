"""A model that writes as a voter: each label is forced as its answer, and what it finds likely anyway is taken away."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_rewriters import model

from llmos.abi.call import Call
from llmos.abi.error import WrongTask
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow
from llmos.data.weak_labels.reading import read_rules
from llmos.data.weak_labels.rules import ChatRule
from llmos.programs.chat_voter import EMPTY, ChatVoter, chat_voter, forced_answer
from llmos.testing.daemon import beside

RULES = """
rules:
  - chat: talker
    labels: {sports: games, business: markets}
    examples: [{text: The team won., label: sports}]
    least: 0.6
"""
LIKELY = {
    "ball": {"sports": -1.0, "business": -4.0},
    "bank": {"sports": -2.0, "business": -2.0},
    EMPTY: {"sports": -1.0, "business": -3.0},
}


def rows(*texts: str) -> list[StoredRow[Any]]:
    return [StoredRow(f"{at:016x}", LabelRow({"text": text}, (), "f", at)) for at, text in enumerate(texts)]


def rule() -> ChatRule:
    (one,) = read_rules(RULES, "rules.yaml").rules
    assert isinstance(one, ChatRule)
    return one


def answer(call: Call) -> Json:
    """As an engine answers a forced label: its tokens with their log-probabilities."""
    label = call.params["regex"].strip()
    asked = call.inputs[0]
    said = asked["messages"][-1]["content"] if isinstance(asked, dict) else asked
    (word,) = [one for one in LIKELY if f"Text: {one}" in said.rpartition("\n\n")[2]]
    return {
        "message": {"content": label},
        "logprobs": [{"logprob": LIKELY[word][label] / 2}] * 2,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("task", ["chat", "generate"])
def test_votes_are_by_likelihood_less_that_without_content(task: str) -> None:
    _, channel, close = beside()
    writer, engine = model(task, answer)
    voter = chat_voter(channel, writer, rule(), (0, 1), "rules.yaml, line 3")
    try:
        # ball: sports 0, business -1 after the correction; bank: sports -1, business +1
        assert voter.shares(["ball", "bank"])[:, 0] == pytest.approx([0.7311, 0.1192], abs=1e-3)
        assert voter.votes(rows("ball", "bank")) == [0, 1]
    finally:
        close()
    assert {call.params["temperature"] for call in engine.calls} == {0.0}
    shown = str(engine.calls[0].inputs[0])
    assert "sports: games" in shown
    assert "The team won." in shown


def test_a_text_that_is_too_long_or_unsure_abstains() -> None:
    _, channel, close = beside()
    writer, _ = model("chat", answer)
    sure = chat_voter(channel, writer, rule(), (0, 1), "here")
    unsure = ChatVoter(channel, writer, ChatRule("n", 1, "talker", rule().labels, (), 0.99), (0, 1))
    try:
        assert unsure.votes(rows("ball")) == [-1]
        assert sure.votes(rows("ball")) == [0]
    finally:
        close()


@pytest.mark.parametrize("label", ["sports", "a.b (c)", "50%+", "[x]{2}\\d"])
def test_a_forced_answer_allows_its_label_alone(label: str) -> None:
    pattern = str(forced_answer(label)["regex"])
    assert re.fullmatch(pattern, label)
    assert not re.fullmatch(pattern, label + "x")


def test_a_model_that_answers_no_free_prompt_is_refused() -> None:
    _, channel, close = beside()
    try:
        for one in (None, model("translate", answer)[0]):
            with pytest.raises(WrongTask):
                chat_voter(channel, one, rule(), (0, 1), "here")
    finally:
        close()
