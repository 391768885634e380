"""Reranking as Cohere, Jina and Text Embeddings Inference (TEI) have it: /v1/rerank, /v2/rerank and /rerank."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallFields, Field, without_unset
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.shapes.models import model_for
from llmos.api.shapes.services import Services
from llmos.tasks.text import quote_value

BODY = msgspec.json.Decoder(dict[str, Any])
TASK = "rerank"
TEXT = "text"  # the part of a document that is read, and the name of TEI's lists
NAME_IT = "Send `model`"
PATHS = {"/v1/rerank": "Cohere's and Jina's", "/v2/rerank": "Cohere's newer", "/rerank": "TEI's or Jina's"}
VERSIONS = {"/v1/rerank": "1", "/v2/rerank": "2"}  # of Cohere's interface, which its clients are told
UNSUPPORTED = Unsupported(
    hints=frozenset({"metadata", "truncation"}),
    neutral={"rank_fields": ([], [TEXT]), "max_chunks_per_doc": (), "max_tokens_per_doc": (), "overlap_tokens": (0,)},
    unset={"priority": (0,), "truncation_direction": ("right", "Right")},
)


class RerankRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A query and documents, each a text or an object with `text`; TEI has them as `texts`.

    TEI's `return_text` is `return_documents`. With `raw_scores`, a trained model's scores are logits. `truncate` true
    is accepted: a text that is too long is refused all the same. Without `model`, the only reranker here answers.
    """

    query: str
    model: str = ""
    documents: list[Json] | None = None
    texts: list[str] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None


class RerankResult(msgspec.Struct, omit_defaults=True):
    """A document's place in the request and its score; the document itself on request."""

    index: int
    relevance_score: float
    document: Json = None


class RerankUsage(msgspec.Struct):
    """Tokens of the query and the documents, as often as they were read."""

    total_tokens: int
    prompt_tokens: int


class RerankReply(msgspec.Struct):
    """Results, the best first. `meta` has the tokens as Cohere says them, `usage` as Jina does."""

    id: str
    model: str
    results: list[RerankResult]
    meta: dict[str, Json]
    usage: RerankUsage
    object: str = "list"


class TextRank(msgspec.Struct, omit_defaults=True):
    """A text's place in TEI's request and its score; the text itself on request."""

    index: int
    score: float
    text: str | None = None


class RerankRoutes:
    """The routes of reranking. A body with `texts` is TEI's, and is answered with TEI's list."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models = services.kernel.models

    def endpoints(self) -> list[Endpoint]:
        gives, infer, ask = RerankReply | list[TextRank], KeyScope.INFER, self.rerank
        return [
            Endpoint("POST", path, ask, f"Rerank, in {whose} shape", RerankRequest, gives, scope=infer, tag=TASK)
            for path, whose in PATHS.items()
        ]

    async def rerank(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), RerankRequest, UNSUPPORTED)
        return await self.answer(request, body)

    async def answer(self, request: Request, body: RerankRequest) -> Reply:
        """The answer to this body."""
        if (body.documents is None) is (body.texts is None):
            raise BadInput("Send either documents, or texts as TEI has them", key="documents")
        body.model = model_for(request, self._models, body.model, TASK, NAME_IT)
        documents: list[Json] = body.texts if body.documents is None else body.documents  # type: ignore[assignment]
        inputs = {"query": body.query, "documents": [_text_of(i, one) for i, one in enumerate(documents)]}
        params = without_unset({"top_n": body.top_n, "raw_scores": body.raw_scores})
        wanted = self._calls.call_for(body, TASK, [inputs], params, Field("documents"))
        chunk = await self._calls.whole(wanted, request)
        ranked = [(one["index"], one["score"]) for one in chunk.outputs[0]]
        shown = body.return_documents or body.return_text
        if body.texts is not None:
            return reply([TextRank(i, score, body.texts[i] if shown else None) for i, score in ranked])
        results = [RerankResult(i, score, _returned_document(documents[i]) if shown else None) for i, score in ranked]
        read = chunk.tokens.prompt
        meta = {"api_version": {"version": VERSIONS.get(request.url.path, "")}, "tokens": {"input_tokens": read}}
        return reply(RerankReply(_answer_id(), wanted.model, results, meta, RerankUsage(read, read)))


def _text_of(index: int, document: Json) -> Json:
    if not isinstance(document, dict):
        return document
    if not isinstance(document.get(TEXT), str):
        key = f"documents[{index}]"
        said = f"{key} is {quote_value(document)}; it is a text, or an object with `text`"
        raise BadInput(said, key=key, value=quote_value(document))
    return document[TEXT]


def _returned_document(document: Json) -> Json:
    return document if isinstance(document, dict) else {TEXT: document}


def _answer_id() -> str:
    return f"rerank-{os.urandom(12).hex()}"


SHAPE = RerankRoutes
