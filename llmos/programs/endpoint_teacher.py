"""A teacher behind an OpenAI-shaped address that says which label fits. It is asked for the rows without labels, and
for some test rows, so that the evidence can compare.

The server is asked for an answer that can only be a label, in the forms that servers know, and for the tokens that it
was chosen among: they make a soft label. What it answers otherwise is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmos.abi.endpoint import endpoint_in
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.data.dataset import LoadedData
from llmos.data.unlabelled import unlabelled_rows
from llmos.data.weak_labels.label_shares import LEAST, label_shares
from llmos.data.weak_labels.prompt import messages
from llmos.evaluation.families.labels import LabelPrediction
from llmos.programs.channel import Channel
from llmos.programs.endpoint_client import Bodies, EndpointAnswer, endpoint_client, median_seconds
from llmos.programs.teaching import Lessons, SpokenLessons

MOST_CHARS = 8_000  # of a text
MOST_TOKENS = 64  # of an answer
TOP = 20  # tokens that an answer's token was chosen among
TESTED = 200  # test rows that the teacher is asked too

Shares = list[float]


def ask_for_labels(channel: Channel, job: Job, recipe: Recipe, data: LoadedData) -> Lessons:
    """What the endpoint says of the rows without labels; BadInput where there are none, or no answer is a label."""
    labels, train = data.splits.labels, data.splits.train
    bare = rows_to_ask(job, recipe, data)
    places = test_places(data)
    tested = [data.splits.test[i] for i in places]
    answers = _ask(channel, job, recipe, [*bare, *tested], labels)
    shares = [label_shares(one.text, one.tokens, labels) for one in answers]
    known = [(row, one) for row, one in zip(bare, shares, strict=False) if one is not None]
    if not known:
        refuse_all(str(recipe.teacher), len(bare), "a label", answers[0].refusal or answers[0].text)
    told = SpokenLessons(
        str(recipe.teacher),
        len(bare),
        len(bare) - len(known),
        len(train),
        median_seconds(answers),
        {
            place: LabelPrediction(np.array(one, np.float32))
            for place, one in zip(places, shares[len(bare) :], strict=True)
            if one is not None
        },
    )
    message = _say(told, data)
    channel.report(Progress("teach", len(answers), len(answers), "rows", message=message))
    print(message, flush=True)
    logits = tuple(_logits(one) for _, one in known)
    unknown = torch.full((1, len(labels)), float("nan"))  # a row that has a label learns that alone
    return Lessons(tuple(row for row, _ in known), (unknown,) * len(train), logits, _digest(recipe, known), told)


def _say(told: SpokenLessons, data: LoadedData) -> str:
    """What a user should know before the training begins: how many answers there are, and how right they are."""
    test, labels = data.splits.test, data.splits.labels
    right = sum(test[i].kinds == {labels[int(one.probabilities.argmax())]} for i, one in told.tested.items())
    rate = f"{right / len(told.tested):.3f}" if told.tested else "none"
    return (
        f"{told.teacher} gave {told.asked - told.refused:,} of {told.asked:,} rows a label, and is right on {right:,} "
        f"of {len(told.tested):,} test rows ({rate})"
    )


def rows_to_ask(job: Job, recipe: Recipe, data: LoadedData) -> list[Any]:  # Any: rows of the task's family
    """The rows that nobody has answered; BadInput without any."""
    rows = unlabelled_rows(recipe.data, recipe.task, recipe.options, job.datasets, data.splits)
    if not rows:
        raise BadInput(
            f"{recipe.teacher} answers rows that have no answer yet, and there are none that train, validation or test "
            "does not have already. Name some: --unlabelled FILE",
            key="data.unlabelled",
            value=recipe.data.unlabelled,
        )
    return rows


def test_places(data: LoadedData) -> list[int]:
    """Which test rows the teacher is asked: all, or so many at equal distances."""
    count = len(data.splits.test)
    return list(range(count)) if count <= TESTED else [i * count // TESTED for i in range(TESTED)]


def refuse_all(teacher: str, rows: int, what: str, answer: str) -> None:
    """BadInput: of no row there is an answer that can be learned."""
    raise BadInput(
        f"{teacher} was asked {rows:,} rows, and no answer is {what}: the first is {answer[:200]!r}. Take another "
        "model",
        key="teacher",
        value=teacher,
        rows=rows,
    )


def _ask(
    channel: Channel, job: Job, recipe: Recipe, rows: Sequence[Any], labels: Sequence[str]
) -> list[EndpointAnswer]:  # Any: as above
    endpoint = endpoint_in(str(recipe.teacher))
    assert endpoint is not None, "the recipe was checked"
    asking = endpoint_client(job, endpoint, "teacher")
    described = {label: label.replace("_", " ") for label in labels}
    requests = [_forms(endpoint.model, messages(described, (), _text(row)), labels) for row in rows]
    found: list[EndpointAnswer] = []
    with asking:
        for one in asking.ask(requests, channel, may_refuse=True):
            found.append(one)
            channel.report(Progress("teach", len(found), len(rows), "rows"))
    return found


def _text(row: Any) -> str:  # Any: as above
    return " ".join(row.texts)[:MOST_CHARS]


def _forms(model: str, asked: list[Json], labels: Sequence[str]) -> Bodies:
    """The request as servers with choices take it, as those with schemas, as others that score tokens, and as any."""
    plain: dict[str, Json] = {"model": model, "messages": asked}
    scored = plain | {"temperature": 0, "max_tokens": MOST_TOKENS, "logprobs": True, "top_logprobs": TOP}
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    named = {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}
    choices = {"structured_outputs": {"choice": list(labels)}}
    return [scored | choices, scored | {"response_format": named}, scored, plain]


def _logits(shares: Shares) -> Tensor:
    """[1, labels]: what a softmax makes these shares of."""
    return torch.tensor([shares]).clamp(min=LEAST).log()


def _digest(recipe: Recipe, known: Sequence[tuple[Any, Shares]]) -> str:  # Any: as above
    seen = hashlib.sha256(str(recipe.teacher).encode())
    for row, shares in known:
        seen.update(f"{row.identity} {[round(one, 6) for one in shares]}".encode())
    return seen.hexdigest()
