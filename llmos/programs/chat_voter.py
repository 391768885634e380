"""A voter that asks a model which writes: how likely it finds each label as its answer, by examples in the prompt.

Each label is forced as the answer, and the model's own log-probabilities of its tokens are summed. What the model finds
of a label whatever the text says is taken away: its likelihood as the answer to a text without content (contextual
calibration, Zhao et al. 2021, arXiv:2102.09690).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmos.abi.error import WrongTask
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.task import spec_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.weak_labels.prompt import messages, prompt
from llmos.data.weak_labels.rules import ChatRule
from llmos.data.weak_labels.voters import ABSTAIN, text_of_row
from llmos.programs.channel import Channel, Stopped
from llmos.programs.rewriters import WritingModel

BATCH = 16  # rows asked at a time, with each label
MOST_CHARS = 2_000  # of a text in the prompt
EMPTY = "N/A"  # a text without content
SIGNS = re.compile(r"([\\.^$|?*+()\[\]{}])")  # that mean something in a regular expression
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(slots=True)
class ChatVoter:
    """The likeliest label by the model, where its share among all labels is at least what the rule says."""

    channel: Channel
    model: WritingModel
    rule: ChatRule
    votes_of: Sequence[int]
    _without_content: Any = field(init=False, default=None)  # Any: an array, [labels]

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(rows), BATCH):
            if self.channel.stop_asked:
                raise Stopped
            found += self._votes([text_of_row(one)[:MOST_CHARS] for one in rows[start : start + BATCH]])
            self.channel.report(Progress("ask", len(found), len(rows), "rows"))
        return found

    def _votes(self, texts: Sequence[str]) -> list[int]:
        shares = self.shares(texts)
        best = shares.argmax(axis=1)
        sure = shares[np.arange(len(shares)), best] >= self.rule.least
        known = ~np.isnan(shares).any(axis=1)
        return [
            self.votes_of[int(one)] if is_sure and is_known else ABSTAIN
            for one, is_sure, is_known in zip(best, sure, known, strict=True)
        ]

    def shares(self, texts: Sequence[str]) -> Any:  # Any: an array
        """How likely each label is among all of them, [texts, labels]; not a number for a text that is too long."""
        if self._without_content is None:
            self._without_content = self._likelihoods([EMPTY])[0]
        logs = self._likelihoods(texts) - self._without_content
        grown = np.exp(logs - logs.max(axis=1, keepdims=True))
        return grown / grown.sum(axis=1, keepdims=True)

    def _likelihoods(self, texts: Sequence[str]) -> Any:  # Any: an array
        """The log-probability of each label as the answer, in nats, [texts, labels]."""
        task = self.model.manifest.task
        is_chat = spec_of(task).is_conversation
        inputs = [self._input(text, is_chat=is_chat) for text in texts]
        forced = [label if is_chat else f" {label}" for label in self.rule.labels]
        pairs = [(one, forced_answer(label)) for one in inputs for label in forced]
        found = self.model.outputs(task, [one for one, _ in pairs], [params for _, params in pairs])
        return np.array([_log_probability(one) for one in found]).reshape(len(texts), len(forced))

    def _input(self, text: str, *, is_chat: bool) -> Json:
        parts = self.rule.labels, self.rule.examples, text
        return {"messages": messages(*parts)} if is_chat else prompt(*parts)


def forced_answer(text: str) -> dict[str, Json]:
    """The params of a call whose answer is this text and nothing else, with its log-probabilities."""
    pattern = SIGNS.sub(r"\\\1", text)
    return {"regex": pattern, "temperature": 0.0, "logprobs": True, "max_tokens": 4 * len(text.encode()) + 8}


def _log_probability(output: Json) -> float:
    """The sum over the answer's tokens; not a number where there is no answer."""
    return float("nan") if output is None else float(sum(one["logprob"] for one in output["logprobs"]))


def chat_voter(
    channel: Channel, model: WritingModel | None, rule: ChatRule, votes_of: Sequence[int], where: str
) -> ChatVoter:
    """The voter of a rule; WrongTask for a model that answers no free prompt, which has no engine here."""
    if model is None or not spec_of(model.manifest.task).is_open_ended:
        has = "" if model is None else model.manifest.task
        raise WrongTask(
            f"{where}: {rule.model} answers no free prompt. Name a model for chat or generate: llmos ls",
            model=rule.model,
            has=has,
        )
    return ChatVoter(channel, model, rule, votes_of)
