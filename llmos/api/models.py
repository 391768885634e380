"""/v1/models: what the store holds, in OpenAI's list shape with our fields beside; promote, roll back, remove, pull."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.api_types import Model, ModelView, model_of, process_json
from llmos.abi.check_marks import read_check_marks, with_check_marks
from llmos.abi.error import BadInput
from llmos.abi.gate import Gate
from llmos.abi.json_type import Json
from llmos.abi.key import ALL_SCOPES, WORK_SCOPES, KeyScope
from llmos.abi.model import LATEST, Manifest
from llmos.abi.process import Process, Spec
from llmos.abi.row_outcome import MOST_ERRORS, ErrorFilter, RowErrors, parse_slice, read_outcomes, select_errors
from llmos.abi.wire import to_plain
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED
from llmos.api.key_guard import may_use
from llmos.api.query import Query, asked_of
from llmos.kernel.interface import KernelInterface
from llmos.kernel.programs.arguments import check_arguments
from llmos.kernel.programs.pull import Pull

REPORT = "report.html"


class PullRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The base or adapter to pull. `source` is a catalog name, `hf:org/name`, or an absolute path; `name` is its name
    here.

    `base` is the base of an adapter that fits several. `dtype` int8 also makes an int8 version, if it loses no more
    than `max_drop`. `engine` serves it. `task` is for ONNX graphs and generative adapters, `labels` for ONNX graphs.
    """

    source: str
    name: str | None = None
    base: str | None = None
    dtype: str | None = None
    max_drop: float | None = None
    engine: str | None = None
    task: str | None = None
    labels: list[str] | None = None


class GateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What new versions must meet to be promoted; a field that is left out stays as it is.

    `require` replaces all requirements, such as `f1.low>=0.8`; `margin` is how much worse the primary metric may be.
    """

    require: list[str] | None = None
    margin: float | None = None


class ModelList(msgspec.Struct):
    """The promoted versions with their bare name as `id`, then all versions of all models and bases."""

    data: list[Model]
    object: str = "list"


class Removed(msgspec.Struct):
    """The removed refs; `deleted` is OpenAI's field for the same."""

    removed: list[str]
    deleted: bool = True


ERRORS = (
    Query("kind", "Only errors of this kind, such as missed, or the true label -> the given one.", "string"),
    Query("label", "Only rows with this true or given label.", "string"),
    Query("slice", "Only rows of this slice, such as language=de.", "string"),
    Query("limit", f"At most this many rows, the worst first (default 20, at most {MOST_ERRORS:,}).", "integer"),
    Query("evaluation", "The pid of the evaluation whose rows are meant (default: the version's own).", "integer"),
)
PULL = msgspec.json.Decoder(PullRequest)
GATE = msgspec.json.Decoder(GateRequest)


class Models:
    """The routes of models."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._models, self._processes = kernel.models, kernel.processes
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        one, gate = "/v1/models/{ref}", "/v1/models/{name}/gate"
        return [
            Endpoint(
                "GET",
                "/v1/models",
                self.list,
                "List models and bases",
                gives=ModelList,
                scope=KeyScope.INFER,
                also_for=ALL_SCOPES,
            ),
            Endpoint(
                "POST",
                "/v1/models/pull",
                self.pull,
                "Bring in a base or an adapter",
                PullRequest,
                Process,
                status=CREATED,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "GET",
                one,
                self.show,
                "Show a version; a bare name means the promoted one",
                gives=Model,
                scope=KeyScope.INFER,
                also_for=ALL_SCOPES,
            ),
            Endpoint(
                "DELETE",
                one,
                self.remove,
                "Remove a version, or all versions of a name",
                gives=Removed,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "POST",
                f"{one}/promote",
                self.promote,
                "Promote a version: its name means it from now on",
                gives=Model,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "POST",
                "/v1/models/{name}/rollback",
                self.rollback,
                "Promote the version promoted before",
                gives=Model,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "GET",
                gate,
                self.gate,
                "Show what new versions must meet to be promoted",
                gives=Gate,
                scope=KeyScope.MODELS,
                also_for=WORK_SCOPES,
            ),
            Endpoint(
                "POST",
                gate,
                self.set_gate,
                "Change what new versions must meet",
                GateRequest,
                Gate,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "DELETE",
                gate,
                self.reset_gate,
                "Go back to the default policy of the gate",
                gives=Gate,
                scope=KeyScope.MODELS,
            ),
            Endpoint(
                "GET",
                f"{one}/errors",
                self.errors,
                "List the rows that it answers wrongly",
                None,
                RowErrors,
                ERRORS,
                scope=KeyScope.MODELS,
                also_for=WORK_SCOPES,
            ),
            Endpoint(
                "GET",
                f"{one}/report",
                self.report,
                "Show the evaluation page",
                media="text/html",
                scope=KeyScope.MODELS,
                also_for=WORK_SCOPES,
            ),
        ]

    async def list(self, request: Request) -> Reply:
        views = [view for view in self._models.all() if may_use(request, view.manifest.ref)]
        named = [_model_json(view) | {"id": view.manifest.name} for view in views if view.is_promoted]
        return reply({"object": "list", "data": [*named, *map(_model_json, views)]})

    async def show(self, request: Request) -> Reply:
        ref = request.path_params["ref"]
        return reply(_model_json(self._models.get(ref)) | {"id": ref})

    async def remove(self, request: Request) -> Reply:
        ref = request.path_params["ref"]
        if ref.endswith(f":{LATEST}"):  # that version alone: the bare name would mean all of them
            ref = self._models.get(ref).manifest.ref
        return reply(Removed(await self._models.remove(ref)))

    async def promote(self, request: Request) -> Reply:
        return reply(_model_json(await self._models.promote(request.path_params["ref"])))

    async def rollback(self, request: Request) -> Reply:
        return reply(_model_json(await self._models.rollback(request.path_params["name"])))

    async def gate(self, request: Request) -> Reply:
        return reply(to_plain(self._models.gate(request.path_params["name"])))

    async def set_gate(self, request: Request) -> Reply:
        body = await self._bodies.read(request, GATE)
        if body.require is None and body.margin is None:
            raise BadInput('Nothing to change. Send require, margin or both: {"margin": 0.01}', key="require")
        return reply(to_plain(await self._models.set_gate(request.path_params["name"], body.require, body.margin)))

    async def reset_gate(self, request: Request) -> Reply:
        return reply(to_plain(await self._models.reset_gate(request.path_params["name"])))

    async def report(self, request: Request) -> Reply:
        path = Path(self._models.file(request.path_params["ref"], REPORT))
        return Response(await asyncio.to_thread(path.read_bytes), media_type="text/html; charset=utf-8")

    async def errors(self, request: Request) -> Reply:
        asked = dict(asked_of(request))
        evaluation, limit = asked.pop("evaluation", None), asked.pop("limit", None)
        chosen = ErrorFilter(**asked) if limit is None else ErrorFilter(**asked, limit=min(limit, MOST_ERRORS))
        manifest = self._models.get(request.path_params["ref"]).manifest
        return reply(await asyncio.to_thread(self._select_errors, manifest, chosen, evaluation))

    def _select_errors(self, manifest: Manifest, chosen: ErrorFilter, evaluation: int | None) -> RowErrors:
        if chosen.slice is not None:
            parse_slice(chosen.slice)
        path, made_by = self._models.predictions(manifest.ref, evaluation)
        marks = read_check_marks(self._models.check_reports(manifest.ref, made_by))
        outcomes = with_check_marks(read_outcomes(Path(path)), marks)
        return select_errors(outcomes, chosen, manifest.ref, manifest.task, made_by)

    async def pull(self, request: Request) -> Reply:
        body = await self._bodies.read(request, PULL)
        said: dict[str, Json] = {
            "base": body.base,
            "dtype": body.dtype,
            "max_drop": body.max_drop,
            "engine": body.engine,
        }
        said |= {"task": body.task, "labels": body.labels}
        args = {"source": body.source, "name": body.name, **{k: v for k, v in said.items() if v is not None}}
        check_arguments(Pull.name, args)
        process = await self._processes.submit(Spec(Pull.name, args, f"pull {body.source}"))
        return reply(process_json(process), CREATED)


def _model_json(view: ModelView) -> Json:
    model = model_of(view)
    made = int(datetime.fromisoformat(model.created_at).timestamp()) if model.created_at else 0
    return {"id": model.ref, "object": "model", "created": made, "owned_by": "llmos", **to_plain(model)}
