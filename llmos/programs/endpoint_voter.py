"""A voter that asks a model behind an OpenAI-shaped address for the label of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.weak_labels.label_shares import plain_label
from llmos.data.weak_labels.prompt import messages
from llmos.data.weak_labels.rules import EndpointRule
from llmos.data.weak_labels.voters import ABSTAIN, text_of_row
from llmos.programs.channel import Channel
from llmos.programs.endpoint_client import EndpointAnswer, EndpointClient, endpoint_client

MOST_CHARS = 8_000  # of a text
MOST_TOKENS = 32  # of an answer
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(slots=True)
class EndpointVoter:
    """The label that the model's answer is, where it is at least as likely as the rule says."""

    channel: Channel
    rule: EndpointRule
    numbers: Mapping[str, int]
    client: EndpointClient

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        found: list[int] = []
        requests = [[self._body(text_of_row(one)[:MOST_CHARS])] for one in rows]
        for answer in self.client.ask(requests, self.channel):
            found.append(self._vote(answer))
            self.channel.report(Progress("ask", len(found), len(rows), "rows"))
        return found

    def _vote(self, answer: EndpointAnswer) -> int:
        said = plain_label(answer.text)
        number = next((number for label, number in self.numbers.items() if plain_label(label) == said), ABSTAIN)
        is_sure = answer.probability is None or answer.probability >= self.rule.least
        return number if is_sure else ABSTAIN

    def _body(self, text: str) -> dict[str, Json]:
        return {
            "model": self.rule.model,
            "messages": messages(self.rule.labels, self.rule.examples, text),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "logprobs": True,
        }


def endpoint_voter(
    channel: Channel, job: Job, rule: EndpointRule, numbers: Mapping[str, int], where: str
) -> EndpointVoter:
    """The voter of a rule; Forbidden for a server that the daemon's owner has not named."""
    return EndpointVoter(channel, rule, numbers, endpoint_client(job, rule.address, where))
