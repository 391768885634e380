"""Text Embeddings Inference (TEI): /embed, /predict, /info and /health; with /tei/{model} before it, of that model.

/rerank is beside its namesakes in rerank.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos import __version__
from llmos.abi.call import MAX_INPUTS
from llmos.abi.error import BadInput, Fault
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.model import Manifest
from llmos.abi.task import spec_of
from llmos.api.call_service import CallFields, Field, without_unset
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.errors import ErrorShape
from llmos.api.key_guard import check_model, check_name
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.shapes.models import model_for
from llmos.api.shapes.rerank import UNSUPPORTED as RERANK_UNSUPPORTED
from llmos.api.shapes.rerank import RerankRequest, RerankRoutes, TextRank
from llmos.api.shapes.services import Services
from llmos.api.tasks import floats
from llmos.api.texts import are_token_ids, texts_of
from llmos.kernel.interface import ModelsInterface

BODY = msgspec.json.Decoder(dict[str, Any])
NAME_IT = "Put /tei/NAME before the route, or send `model`"
UNSUPPORTED = Unsupported(
    neutral={
        "parameters": ({},),
        "prompt_name": (),
        "raw_scores": (False,),
        "truncation_direction": ("right", "Right"),
    },
)


class EmbedRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A text or several. `truncate` cuts long ones; `normalize` false gives vectors of any length."""

    inputs: str | list[Json]
    model: str = ""
    truncate: bool | None = None
    normalize: bool | None = None
    dimensions: int | None = None


class PredictRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A text, or a list of lists of one text each. `truncate` true is accepted: what is too long is refused."""

    inputs: str | list[Json]
    model: str = ""
    truncate: bool | None = None


class Prediction(msgspec.Struct):
    """One label's score."""

    score: float
    label: str


class Info(msgspec.Struct):
    """A model, as TEI describes the one that it serves."""

    model_id: str
    model_type: dict[str, Json]
    max_client_batch_size: int
    version: str
    max_input_length: int | None = None
    model_sha: str | None = None
    model_dtype: str = ""
    auto_truncate: bool = False


class TeiRefusal(msgspec.Struct):
    """TEI's shape of an error, with our `code` and `detail` beside it."""

    error: str
    error_type: str
    code: str
    detail: dict[str, Json]


def _refusal(fault: Fault, status: int) -> TeiRefusal:
    kinds = {404: "unhealthy", 429: "overloaded", 503: "overloaded"}
    kind = kinds.get(status, "validation" if status < 500 else "backend")
    return TeiRefusal(fault.message, kind, fault.code, fault.detail)


ERRORS = ErrorShape(_refusal, TeiRefusal)


class Tei:
    """The routes of TEI."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models, self._kernel_calls = services.kernel.models, services.kernel.calls
        self._rerank = RerankRoutes(services)

    def endpoints(self) -> list[Endpoint]:
        route = partial(Endpoint, tag="tei", errors=ERRORS, scope=KeyScope.INFER)
        embed, predict = "Embed texts, in TEI's shape", "Classify texts, in TEI's shape"
        info, rank = "Describe the model, in TEI's shape", "Rerank texts, in TEI's shape"
        healthy, has_it = "Check that the daemon answers, with an empty answer", "Check that this model is here"
        vectors, labels = list[list[float]], list[Prediction | list[Prediction]]
        return [
            route("POST", "/embed", self.embed, embed, EmbedRequest, vectors),
            route("POST", "/tei/{model}/embed", self.embed, embed, EmbedRequest, vectors),
            route("POST", "/predict", self.predict, predict, PredictRequest, labels),
            route("POST", "/tei/{model}/predict", self.predict, predict, PredictRequest, labels),
            route("POST", "/tei/{model}/rerank", self.rerank, rank, RerankRequest, list[TextRank]),
            route("GET", "/info", self.info, info, gives=Info),
            route("GET", "/tei/{model}/info", self.info, info, gives=Info),
            route("GET", "/tei/{model}/health", self.health, has_it),
            Endpoint("GET", "/health", self.health, healthy, tag="tei", scope=None),
        ]

    async def embed(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), EmbedRequest, UNSUPPORTED)
        body.model = self._model(request, body.model, "embed")
        given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        if are_token_ids(given):
            raise BadInput("inputs are token ids. Send texts", key="inputs", reason="token_ids")
        params = {"truncate": body.truncate, "normalize": body.normalize, "dimensions": body.dimensions}
        field = Field("inputs", isinstance(body.inputs, list))
        wanted = self._calls.call_for(body, "embed", texts_of(_some(given), "inputs"), without_unset(params), field)
        chunk = await self._calls.whole(wanted, request)
        return reply([floats(one["data"]) for one in chunk.outputs])

    async def predict(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), PredictRequest, UNSUPPORTED)
        body.model = self._model(request, body.model, "classify")
        is_batch = isinstance(body.inputs, list) and any(isinstance(one, list) for one in body.inputs)
        given = body.inputs if isinstance(body.inputs, list) and is_batch else [body.inputs]
        texts = [_one_text(one, f"inputs[{i}]" if is_batch else "inputs") for i, one in enumerate(_some(given))]
        wanted = self._calls.call_for(body, "classify", texts, {}, Field("inputs", is_batch))
        chunk = await self._calls.whole(wanted, request)
        answers = [[Prediction(score, label) for label, score in one["scores"].items()] for one in chunk.outputs]
        return reply(answers if is_batch else answers[0])

    async def rerank(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), RerankRequest, RERANK_UNSUPPORTED)
        if body.texts is None:
            raise BadInput("Send texts, as TEI has them", key="texts")
        body.model = self._model(request, "", "rerank")
        return await self._rerank.answer(request, body)

    async def info(self, request: Request) -> Reply:
        ref = self._kernel_calls.ref(self._model(request, "", "embed"))
        check_model(request, ref)
        manifest = self._models.get(ref).manifest
        kind = _kind_of(manifest)
        limit = manifest.options.get("max_tokens")
        return reply(Info(manifest.ref, kind, MAX_INPUTS, __version__, limit, manifest.base_digest, manifest.dtype))

    async def health(self, request: Request) -> Reply:
        if request.path_params.get("model"):
            check_model(request, self._kernel_calls.ref(self._model(request, "", "embed")))
        return Response(b"")

    def _model(self, request: Request, model: str, task: str) -> str:
        """The model in the path, else in the body, else the only one of the task."""
        return named_model(request, self._models, model, task)


def named_model(request: Request, models: ModelsInterface, model: str, task: str, *, for_tokens: bool = False) -> str:
    """The model in the path, else this one of the body, else the only one of the task; see `model_for`."""
    if named := request.path_params.get("model", ""):
        check_name(request, named)
    return model_for(request, models, named or model, task, NAME_IT, for_tokens=for_tokens)


def _some(given: list[Json]) -> list[Json]:
    if not given:
        raise BadInput("inputs is an empty list. Send at least one text", key="inputs", reason="empty")
    return given


def _one_text(given: Json, key: str) -> str:
    """TEI's sequence: a text, or a list of one. A list of two is a pair, which no classifier here reads."""
    one = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(one, str):
        said = "a text, or a list of one text. Several texts are a list of such lists"
        raise BadInput(f"{key} is no single text. Send {said}", key=key, reason="pair")
    return one


def _kind_of(manifest: Manifest) -> dict[str, Json]:
    """What the model is, in TEI's words."""
    spec = spec_of(manifest.task)
    if spec.has_labels:
        ids = {str(i): label for i, label in enumerate(manifest.labels)}
        return {"classifier": {"id2label": ids, "label2id": {label: int(i) for i, label in ids.items()}}}
    if spec.head == "sequence":
        return {"reranker": {"id2label": {"0": manifest.task}, "label2id": {manifest.task: 0}}}
    return {"embedding": {"pooling": manifest.options["pooling"]} if "pooling" in manifest.options else {}}


SHAPE = Tei
