"""OpenAI's /v1/moderations, answered by a model that was trained to classify; its labels are the categories."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallFields, Field
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.openai_unsupported import OPENAI, parse_supported
from llmos.api.shapes.services import Services
from llmos.tasks.text import quote_value

BODY = msgspec.json.Decoder(dict[str, Any])


class ModerationRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """Texts, or one list of parts of text, for the classifier `model`.

    `safe_labels` are the labels that flag nothing. A model that gives each text one label needs them.
    """

    input: str | list[Json]
    model: str = ""
    safe_labels: list[str] | None = None


class Moderated(msgspec.Struct):
    """One text: the labels that it has, and their scores. `flagged` if it has one that is not safe."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class ModerationReply(msgspec.Struct):
    """One result per text, in order."""

    id: str
    model: str
    results: list[Moderated]


class Moderations:
    """The route of moderations."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models = services.kernel.models

    def endpoints(self) -> list[Endpoint]:
        doc = "Flag texts by the labels of a classifier, in OpenAI's shape"
        return [
            Endpoint(
                "POST", "/v1/moderations", self.moderate, doc, ModerationRequest, ModerationReply, scope=KeyScope.INFER
            )
        ]

    async def moderate(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), ModerationRequest, OPENAI)
        if not body.model:
            said = "Moderation needs a classifier of yours: name it in `model`. llmos train classify makes one"
            raise BadInput(said, key="model", task="classify")
        texts, is_list = _texts(body.input)
        wanted = self._calls.call_for(body, "classify", texts, {}, Field("input", is_list))
        manifest = self._models.get(wanted.model).manifest
        safe = _safe_labels(body, wanted.model, manifest.labels, is_many=bool(manifest.options.get("multi_label")))
        chunk = await self._calls.whole(wanted, request)
        results = [_result_of(one, manifest.labels, safe) for one in chunk.outputs]
        return reply(ModerationReply(f"modr-{os.urandom(12).hex()}", wanted.model, results))


def _texts(given: str | list[Json]) -> tuple[list[Json], bool]:
    """The texts, and whether each is an input of its own. A list of parts is one text, as OpenAI's clients send it."""
    if isinstance(given, str):
        return [given], False
    if not given:
        raise BadInput("input is an empty list. Send at least one text", key="input", reason="empty")
    if not any(isinstance(one, dict) for one in given):
        return [_text_of(index, one) for index, one in enumerate(given)], True
    return ["\n".join(_text_of(index, one) for index, one in enumerate(given))], False


def _text_of(index: int, part: Json) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
    if not isinstance(text, str):
        key = f"input[{index}]"
        raise BadInput(f"{key} is {quote_value(part)}; only text can be read here", key=key)
    return text


def _safe_labels(body: ModerationRequest, model: str, labels: tuple[str, ...], *, is_many: bool) -> frozenset[str]:
    said = f"{model} has the labels {', '.join(labels) or '(none of its own)'}"
    if not labels:
        raise BadInput(f"{said}: moderation needs a model that was trained to classify", key="model", model=model)
    if body.safe_labels is None and not is_many:
        way_out = 'Say which of them flag nothing: "safe_labels": ["..."]'
        raise BadInput(f"{said}, and gives each text one. {way_out}", key="safe_labels", expected=list(labels))
    safe = frozenset(body.safe_labels or ())
    if unknown := sorted(safe - set(labels)):
        said = f"safe_labels names {quote_value(unknown[0])}; {said}"
        raise BadInput(said, key="safe_labels", value=quote_value(unknown[0]), expected=list(labels))
    return safe


def _result_of(output: Json, labels: tuple[str, ...], safe: frozenset[str]) -> Moderated:
    given = set(output["labels"]) if "labels" in output else {output["label"]}
    scores: dict[str, float] = output["scores"]
    categories = {label: label in given for label in labels}
    flagged = any(has and label not in safe for label, has in categories.items())
    applied = {label: ["text"] for label in labels}
    return Moderated(flagged, categories, {label: scores[label] for label in labels}, applied)


SHAPE = Moderations
