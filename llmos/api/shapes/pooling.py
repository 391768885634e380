"""Classification and scores as vLLM has them: /v1/classify and /v1/score."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Tokens
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.task import Output, spec_of
from llmos.api.call_service import CallFields, Field
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.shapes.services import Services
from llmos.api.texts import texts_of

BODY = msgspec.json.Decoder(dict[str, Any])
UNSUPPORTED = Unsupported(
    hints=frozenset({"request_id", "cache_salt", "encoding_format"}),
    neutral={
        "add_special_tokens": (True,),
        "truncate_prompt_tokens": (),
        "activation": (True,),
        "use_activation": (True,),
        "softmax": (True,),
        "mm_processor_kwargs": ({},),
        "instruction": ("",),
    },
    unset={"priority": (0,)},
)
CLASSIFY, SIMILARITY, RERANK = "classify", "similarity", "rerank"


class ClassifyRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A text or several, for a model that was trained to classify."""

    input: str | list[Json]


class ScoreRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """Pairs of texts: one with each of the others, or each with the one at its place.

    `queries` and `documents` are newer names of `text_1` and `text_2`; so are `data_1` and `data_2`.
    """

    text_1: str | list[Json] | None = None
    text_2: str | list[Json] | None = None
    queries: str | list[Json] | None = None
    documents: str | list[Json] | None = None
    data_1: str | list[Json] | None = None
    data_2: str | list[Json] | None = None


class PoolingUsage(msgspec.Struct):
    """Tokens of the texts."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class LabelledText(msgspec.Struct):
    """One text's label, and the probability of every label in the order of the model's own."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class ScoredPair(msgspec.Struct):
    """One pair's score."""

    index: int
    score: float
    object: str = "score"


class ClassifyReply(msgspec.Struct):
    """One label per text, in order."""

    id: str
    created: int
    model: str
    data: list[LabelledText]
    usage: PoolingUsage
    object: str = "list"


class ScoreReply(msgspec.Struct):
    """One score per pair, in order."""

    id: str
    created: int
    model: str
    data: list[ScoredPair]
    usage: PoolingUsage
    object: str = "list"


class Pooling:
    """The routes of classification and scores."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models = services.kernel.models

    def endpoints(self) -> list[Endpoint]:
        said, infer = "Classify texts, in vLLM's shape", KeyScope.INFER
        scored, paths = "Score pairs of texts, in vLLM's shape", ("/v1/score", "/score")
        ask, score, each = self.classify, self.score, (ScoreRequest, ScoreReply)
        return [
            Endpoint("POST", "/v1/classify", ask, said, ClassifyRequest, ClassifyReply, scope=infer),
            Endpoint("POST", "/classify", ask, said, ClassifyRequest, ClassifyReply, tag=CLASSIFY, scope=infer),
            *(Endpoint("POST", one, score, scored, *each, scope=infer, tag="score") for one in paths),
        ]

    async def classify(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), ClassifyRequest, UNSUPPORTED)
        field = Field("input", isinstance(body.input, list))
        wanted = self._calls.call_for(body, CLASSIFY, _texts(body.input, "input"), {}, field)
        labels = self._models.get(wanted.model).manifest.labels
        chunk = await self._calls.whole(wanted, request)
        data = [_label_of(i, one, labels) for i, one in enumerate(chunk.outputs)]
        return reply(ClassifyReply(_id("classify"), int(time.time()), wanted.model, data, _usage(chunk.tokens)))

    async def score(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), ScoreRequest, UNSUPPORTED)
        first_name, first = _one_of(body, "text_1", "queries", "data_1")
        second_name, second = _one_of(body, "text_2", "documents", "data_2")
        pairs = _pairs(_texts(first, first_name), _texts(second, second_name), first_name, second_name)
        ranks = spec_of(self._calls.task_of(body.model)).output is Output.RANKING
        inputs: list[Json] = [
            {"query": one, "documents": [other]} if ranks else {"text": one, "other": other} for one, other in pairs
        ]
        field = Field(second_name, isinstance(second, list))
        wanted = self._calls.call_for(body, RERANK if ranks else SIMILARITY, inputs, {}, field)
        chunk = await self._calls.whole(wanted, request)
        data = [ScoredPair(i, (one[0] if ranks else one)["score"]) for i, one in enumerate(chunk.outputs)]
        return reply(ScoreReply(_id("score"), int(time.time()), wanted.model, data, _usage(chunk.tokens)))


def _one_of(body: ScoreRequest, *names: str) -> tuple[str, str | list[Json]]:
    """The one of these fields that is given, with its name."""
    found = [(name, value) for name in names if (value := getattr(body, name)) is not None]
    if len(found) != 1:
        said = "none of" if not found else "several of"
        raise BadInput(f"The body has {said} {', '.join(names)}. Send one", key=names[0])
    return found[0]


def _texts(given: str | list[Json], name: str) -> list[Json]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise BadInput(f"{name} is an empty list. Send at least one text", key=name, reason="empty")
    return texts_of(texts, name)


def _pairs(first: list[Json], second: list[Json], first_name: str, second_name: str) -> list[tuple[Json, Json]]:
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second):
        said = f"{first_name} has {len(first):,} texts and {second_name} {len(second):,}"
        raise BadInput(f"{said}. Send one text, or as many as there are others", key=first_name)
    return list(zip(first, second, strict=True))


def _label_of(index: int, output: Json, labels: tuple[str, ...]) -> LabelledText:
    scores: dict[str, float] = output["scores"]
    probs = [scores[label] for label in labels or scores]
    label = output["label"] if "label" in output else max(scores, key=scores.__getitem__)
    return LabelledText(index, label, probs, len(probs))


def _usage(tokens: Tokens) -> PoolingUsage:
    return PoolingUsage(tokens.prompt, tokens.prompt)


def _id(prefix: str) -> str:
    return f"{prefix}-{os.urandom(12).hex()}"


SHAPE = Pooling
