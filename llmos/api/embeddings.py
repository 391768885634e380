"""/v1/embeddings: vectors in OpenAI's shape. Base64 is made from the engine's bytes, without parsing numbers."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallApi, CallFields, Field, without_unset
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.openai_unsupported import parse_supported
from llmos.api.tasks import floats
from llmos.api.texts import are_token_ids, texts_of
from llmos.tasks.embed import CUTS, DIMENSIONS
from llmos.tasks.inputs import PARSE_SPECIAL


class EmbeddingRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed. `dimensions` is a length that the model's vectors may have.

    `truncate` and `truncate_prompt_tokens` cut long texts.
    """

    input: str | list[Json]
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    truncate_prompt_tokens: int | None = None
    parse_special: bool | None = None


class Embedding(msgspec.Struct):
    """One vector: numbers, or base64 of little-endian float32."""

    index: int
    embedding: tuple[float, ...] | str
    object: str = "embedding"


class EmbeddingUsage(msgspec.Struct):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingReply(msgspec.Struct):
    """One vector per input, in order."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: str = "list"


BODY = msgspec.json.Decoder(dict[str, Any])


class Embeddings:
    """The route of embeddings."""

    def __init__(self, caller: CallApi, bodies: Bodies) -> None:
        self._caller = caller
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        doc = "Embed texts, in OpenAI's shape"
        return [
            Endpoint("POST", "/v1/embeddings", self.embed, doc, EmbeddingRequest, EmbeddingReply, scope=KeyScope.INFER)
        ]

    async def embed(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), EmbeddingRequest)
        if body.encoding_format not in (None, "float", "base64"):
            raise BadInput(
                f"encoding_format is {body.encoding_format!r}; it must be float or base64", key="encoding_format"
            )
        field = Field("input", isinstance(body.input, list), is_openai=True)
        own = {key: getattr(body, key) for key in (DIMENSIONS, *CUTS)}
        params = without_unset({PARSE_SPECIAL: body.parse_special, **own})
        wanted = self._caller.call_for(body, "embed", _texts(body.input), params, field)
        chunk = await self._caller.whole(wanted, request)
        _check_dimensions(body.dimensions, chunk.outputs[0]["dim"], wanted.model)
        is_text = body.encoding_format == "base64"
        vectors = (b64encode(o["data"]).decode() if is_text else floats(o["data"]) for o in chunk.outputs)
        data = [Embedding(index, vector) for index, vector in enumerate(vectors)]
        return reply(EmbeddingReply(data, wanted.model, EmbeddingUsage(chunk.tokens.prompt, chunk.tokens.prompt)))


def _texts(given: str | list[Json]) -> list[Json]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise BadInput("input is an empty list. Send at least one text", key="input", reason="empty")
    if are_token_ids(texts):
        raise BadInput(
            "input must be a string or a list of strings: token ids are another tokenizer's, and are "
            "not accepted. Make the client send texts: LangChain's OpenAIEmbeddings does with "
            "check_embedding_ctx_length=False",
            key="input",
            reason="token_ids",
        )
    return texts_of(texts, "input")


def _check_dimensions(wanted: int | None, has: int, model: str) -> None:
    if wanted not in (None, has):
        raise BadInput(
            f"{model} has {has} dimensions, not {wanted}. Leave `dimensions` out",
            key="dimensions",
            expected=has,
            value=wanted,
        )
