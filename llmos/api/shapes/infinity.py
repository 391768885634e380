"""Infinity's interface under /infinity: embeddings, rerank, classify, models and health, as its own client reads them.

Its fields are OpenAI's and Cohere's, and so are most of its paths; answers differ in what its client insists on.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallFields, Field, without_unset
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.key_guard import may_use
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.shapes.models import model_for
from llmos.api.shapes.services import Services
from llmos.api.tasks import floats
from llmos.api.texts import are_token_ids, texts_of

BODY = msgspec.json.Decoder(dict[str, Any])
NAME_IT = "Send `model`"
UNNAMED = ("", "default/not-specified")  # what its client sends for a server of one model
EMBED, RERANK, CLASSIFY = "embed", "rerank", "classify"
WORDS = (EMBED, RERANK, CLASSIFY)
UNSUPPORTED = Unsupported(neutral={"modality": ("text",), "raw_scores": (False,)}, unset={"dimensions": (0,)})


class InfinityEmbed(CallFields, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed. `dimensions` 0 is the model's own; `modality` is text."""

    input: str | list[Json]
    model: str = ""
    encoding_format: str | None = None
    dimensions: int | None = None


class InfinityRerank(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A query and documents. With `raw_scores`, a trained model's scores are logits."""

    query: str
    documents: list[Json]
    model: str = ""
    top_n: int | None = None
    return_documents: bool = False
    raw_scores: bool | None = None


class InfinityClassify(CallFields, kw_only=True, forbid_unknown_fields=True):
    """Texts to classify."""

    input: str | list[Json]
    model: str = ""


class InfinityUsage(msgspec.Struct):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class InfinityReply(msgspec.Struct):
    """Vectors (`object` is list), or the labels of each text with their scores (classify)."""

    object: str
    data: list[Json]
    model: str
    usage: InfinityUsage
    id: str
    created: int


class InfinityRanks(msgspec.Struct):
    """Documents by their index with a `relevance_score`, the best first; `document` on request."""

    results: list[dict[str, Json]]
    model: str
    usage: InfinityUsage
    id: str
    created: int
    object: str = "rerank"


class InfinityModel(msgspec.Struct):
    """A model and what may be asked of it. Its client insists on `owned_by` and `stats`."""

    id: str
    capabilities: list[str]
    backend: str = ""
    created: int = 0
    stats: dict[str, Json] = {}
    object: str = "model"
    owned_by: str = "infinity"


class InfinityModels(msgspec.Struct):
    """The promoted models that do one of these tasks."""

    data: list[InfinityModel]
    object: str = "list"


class InfinityHealth(msgspec.Struct):
    """When it was asked, in seconds since the epoch."""

    unix: float


class Infinity:
    """The routes of Infinity."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models = services.kernel.models

    def endpoints(self) -> list[Endpoint]:
        route = partial(Endpoint, tag="infinity", scope=KeyScope.INFER)
        post, said = partial(route, "POST"), "in Infinity's shape"
        healthy = f"Check that the daemon answers, {said}"
        return [
            post("/infinity/embeddings", self.embed, f"Embed texts, {said}", InfinityEmbed, InfinityReply),
            post("/infinity/rerank", self.rerank, f"Rerank, {said}", InfinityRerank, InfinityRanks),
            post("/infinity/classify", self.classify, f"Classify texts, {said}", InfinityClassify, InfinityReply),
            route("GET", "/infinity/models", self.models, f"List models, {said}", gives=InfinityModels),
            Endpoint("GET", "/infinity/health", self.health, healthy, gives=InfinityHealth, tag="infinity", scope=None),
        ]

    async def embed(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY, UNNAMED), InfinityEmbed, UNSUPPORTED)
        if body.encoding_format not in (None, "float", "base64"):
            said = f"encoding_format is {body.encoding_format!r}; it must be float or base64"
            raise BadInput(said, key="encoding_format")
        body.model = model_for(request, self._models, body.model, EMBED, NAME_IT)
        params = without_unset({"dimensions": body.dimensions})
        wanted = self._calls.call_for(body, EMBED, _texts(body.input), params, _field(body.input))
        chunk = await self._calls.whole(wanted, request)
        is_text = body.encoding_format == "base64"
        vectors = [b64encode(o["data"]).decode() if is_text else floats(o["data"]) for o in chunk.outputs]
        data = [{"object": "embedding", "embedding": one, "index": i} for i, one in enumerate(vectors)]
        return reply(InfinityReply("list", data, wanted.model, *_usage_and_id(chunk.tokens.prompt)))

    async def rerank(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY, UNNAMED), InfinityRerank, Unsupported())
        body.model = model_for(request, self._models, body.model, RERANK, NAME_IT)
        inputs = {"query": body.query, "documents": body.documents}
        params = without_unset({"top_n": body.top_n, "raw_scores": body.raw_scores})
        wanted = self._calls.call_for(body, RERANK, [inputs], params, Field("documents"))
        chunk = await self._calls.whole(wanted, request)
        results = [
            {"relevance_score": one["score"], "index": one["index"]}
            | ({"document": body.documents[one["index"]]} if body.return_documents else {})
            for one in chunk.outputs[0]
        ]
        return reply(InfinityRanks(results, wanted.model, *_usage_and_id(chunk.tokens.prompt)))

    async def classify(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY, UNNAMED), InfinityClassify, UNSUPPORTED)
        body.model = model_for(request, self._models, body.model, CLASSIFY, NAME_IT)
        wanted = self._calls.call_for(body, CLASSIFY, _texts(body.input), {}, _field(body.input))
        chunk = await self._calls.whole(wanted, request)
        data = [[{"label": label, "score": score} for label, score in one["scores"].items()] for one in chunk.outputs]
        return reply(InfinityReply(CLASSIFY, data, wanted.model, *_usage_and_id(chunk.tokens.prompt)))

    async def models(self, request: Request) -> Reply:
        found = [one for one in self._models.all() if one.is_promoted and may_use(request, one.manifest.ref)]
        able = [(one.manifest.name, [word for word in WORDS if word in one.capabilities]) for one in found]
        return reply(InfinityModels([InfinityModel(name, words) for name, words in able if words]))

    async def health(self, request: Request) -> Reply:
        return reply(InfinityHealth(time.time()))


def _texts(given: str | list[Json]) -> list[Json]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise BadInput("input is an empty list. Send at least one text", key="input", reason="empty")
    if are_token_ids(texts):
        raise BadInput("input is token ids. Send texts", key="input", reason="token_ids")
    return texts_of(texts, "input")


def _field(given: str | list[Json]) -> Field:
    return Field("input", isinstance(given, list))


def _usage_and_id(tokens: int) -> tuple[InfinityUsage, str, int]:
    """The usage, the id and the time of an answer."""
    return InfinityUsage(tokens, tokens), f"infinity-{os.urandom(12).hex()}", int(time.time())


SHAPE = Infinity
