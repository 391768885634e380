"""/v1/fine_tuning/jobs: trainings in OpenAI's shape. A job's recipe comes from its request and the form of its rows."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request

from llmos.abi.error import BadInput, NotFound
from llmos.abi.fine_tuning import FineTuningJob, JobEvent, JobRequest, JobStatus
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.process import Process
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.key_guard import check_model, key_of, may_use
from llmos.api.query import Query, asked_of
from llmos.api.shapes.metadata import check_metadata
from llmos.api.shapes.pages import page_of
from llmos.api.shapes.rows_of_jobs import task_of_rows
from llmos.api.shapes.services import Services
from llmos.kernel.file_service import upload_of
from llmos.kernel.fine_tuning_service import status_of

MOST, USUAL = 100, 20  # of a page
PAGE = (
    Query("after", "the id of the last one of the page before", "string"),
    Query("limit", f"at most this many, to {MOST} (default {USUAL})", "integer"),
)
MOST_SUFFIX, MOST_SEED = 64, 2**31 - 1
PLAIN = re.compile(r"[^a-z0-9._-]+")
Short = Annotated[str, msgspec.Meta(max_length=256)]
Auto = Literal["auto"]


class Hyperparameters(msgspec.Struct, forbid_unknown_fields=True):
    """Those of a method; `auto` or left out: chosen by task and rows. `beta` is of `dpo` alone."""

    n_epochs: Annotated[float, msgspec.Meta(gt=0, le=1000)] | Auto | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=4096)] | Auto | None = None
    learning_rate_multiplier: Annotated[float, msgspec.Meta(gt=0, le=100)] | Auto | None = None
    beta: Annotated[float, msgspec.Meta(gt=0, le=100)] | Auto | None = None


class MethodSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The hyperparameters of a method."""

    hyperparameters: Hyperparameters | None = None


class JobMethod(msgspec.Struct, forbid_unknown_fields=True):
    """`supervised` learns the answers of rows; `dpo` learns which of two is preferred. There is no `reinforcement`."""

    type: Literal["supervised", "dpo"]
    supervised: MethodSettings | None = None
    dpo: MethodSettings | None = None


class JobCreation(msgspec.Struct, forbid_unknown_fields=True):
    """A training to begin. `model` names a base. `hyperparameters` is the earlier place of those of `method`.

    `task` is our own: the task of the rows, where their columns do not tell it.
    """

    model: Short
    training_file: Short
    validation_file: Short | None = None
    method: JobMethod | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[str, msgspec.Meta(max_length=MOST_SUFFIX)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=MOST_SEED)] | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Json]] | None = None
    task: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class JobError(msgspec.Struct):
    """Why a job has failed."""

    code: str
    message: str
    param: str | None = None


class JobView(msgspec.Struct, kw_only=True):
    """A job. Times are seconds since the epoch; `pid` is its process. `fine_tuned_model` answers calls."""

    id: str
    object: str = "fine_tuning.job"
    model: str
    status: JobStatus
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    fine_tuned_model: str | None
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Json]
    method: dict[str, Json]
    seed: int
    error: JobError | None
    user_provided_suffix: str | None
    metadata: dict[str, Json] | None
    pid: int | None
    organization_id: str = "llmos"
    result_files: list[str] = []
    integrations: list[dict[str, Json]] = []
    trained_tokens: int | None = None


class JobList(msgspec.Struct):
    """A page of jobs, the newest first."""

    data: list[JobView]
    has_more: bool
    object: str = "list"


class JobEventView(msgspec.Struct):
    """An event of a job. `data` has figures of its training."""

    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, float]
    object: str = "fine_tuning.job.event"


class JobEventList(msgspec.Struct):
    """A page of events, the newest first."""

    data: list[JobEventView]
    has_more: bool
    object: str = "list"


class CheckpointView(msgspec.Struct):
    """The model that a job has made. There is one for a job: that of the weights it keeps."""

    id: str
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]
    object: str = "fine_tuning.job.checkpoint"


class CheckpointList(msgspec.Struct):
    """The checkpoints of a job."""

    data: list[CheckpointView]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
    object: str = "list"


CREATE = msgspec.json.Decoder(JobCreation)


class FineTuningRoutes:
    """The routes of fine-tuning jobs."""

    def __init__(self, services: Services) -> None:
        self._kernel = services.kernel
        self._bodies = services.bodies

    def endpoints(self) -> list[Endpoint]:
        jobs, one, scope = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{job_id}", KeyScope.TRAIN
        return [
            Endpoint("GET", jobs, self.list, "List fine-tuning jobs", gives=JobList, query=PAGE, scope=scope),
            Endpoint("POST", jobs, self.create, "Fine-tune a base", JobCreation, JobView, scope=scope),
            Endpoint("GET", one, self.show, "Show a fine-tuning job", gives=JobView, scope=scope),
            Endpoint("POST", f"{one}/cancel", self.cancel, "End a fine-tuning job", gives=JobView, scope=scope),
            Endpoint("POST", f"{one}/pause", self.pause, "Stop a job at a checkpoint", gives=JobView, scope=scope),
            Endpoint("POST", f"{one}/resume", self.resume, "Continue a paused job", gives=JobView, scope=scope),
            Endpoint(
                "GET", f"{one}/events", self.events, "What has happened", gives=JobEventList, query=PAGE, scope=scope
            ),
            Endpoint(
                "GET",
                f"{one}/checkpoints",
                self.checkpoints,
                "The model that it made",
                gives=CheckpointList,
                query=PAGE,
                scope=scope,
            ),
        ]

    async def list(self, request: Request) -> Reply:
        asked = asked_of(request)
        newest = [one for one in self._kernel.fine_tuning.all()[::-1] if may_use(request, one.name)]
        page, has_more = page_of(newest, lambda one: one.id, asked.get("after"), asked.get("limit") or USUAL, MOST)
        return reply(JobList([self._view(one) for one in page], has_more))

    async def create(self, request: Request) -> Reply:
        body = await self._bodies.read(request, CREATE)
        check_model(request, body.model)
        if body.integrations:
            said = "integrations is not supported. Leave it out: the job's events have its figures"
            raise BadInput(said, key="integrations", reason="not_supported")
        metadata = check_metadata(body.metadata)
        path = self._kernel.files.path(body.training_file)
        if body.validation_file is not None:
            self._kernel.files.get(body.validation_file)
        task, prefers = await asyncio.to_thread(task_of_rows, path, body.task)
        method = method_of(body, prefers=prefers)
        seed = secrets.randbelow(MOST_SEED) if body.seed is None else body.seed
        asked = JobRequest(
            body.model,
            body.training_file,
            msgspec.to_builtins(method),
            seed,
            body.validation_file,
            body.suffix or None,
            metadata,
        )
        args = recipe_args(asked, task, method)
        check_model(request, args["name"])
        return reply(self._view(await self._kernel.fine_tuning.create(asked, args, key_of(request))))

    async def show(self, request: Request) -> Reply:
        return reply(self._view(self._job(request)))

    async def cancel(self, request: Request) -> Reply:
        return reply(self._view(await self._kernel.fine_tuning.cancel(self._job(request).id)))

    async def pause(self, request: Request) -> Reply:
        return reply(self._view(await self._kernel.fine_tuning.pause(self._job(request).id)))

    async def resume(self, request: Request) -> Reply:
        return reply(self._view(await self._kernel.fine_tuning.resume(self._job(request).id)))

    async def events(self, request: Request) -> Reply:
        asked, job = asked_of(request), self._job(request)
        newest = (await self._kernel.fine_tuning.events(job))[::-1]
        views = [event_view(job, one) for one in newest]
        page, has_more = page_of(views, lambda one: one.id, asked.get("after"), asked.get("limit") or USUAL, MOST)
        return reply(JobEventList(list(page), has_more))

    async def checkpoints(self, request: Request) -> Reply:
        job = self._job(request)
        if job.end is None or job.end.model is None:
            return reply(CheckpointList([]))
        figures = dict(job.figures)
        step = int(figures.get("step", 0))
        metrics = {"step": float(step)}
        if "loss" in figures:
            metrics["train_loss"] = figures["loss"]
        if "metric" in figures:
            metrics["valid_metric"] = figures["metric"]
        name = f"ftckpt_{job.id.removeprefix('ftjob-')}"
        view = CheckpointView(name, int(job.end.at), job.id, job.end.model, step, metrics)
        return reply(CheckpointList([view], first_id=name, last_id=name))

    def _job(self, request: Request) -> FineTuningJob:
        job = self._kernel.fine_tuning.get(request.path_params["job_id"])
        if not may_use(request, job.name):
            raise NotFound(f"No fine-tuning job {job.id} of this key. All: GET /v1/fine_tuning/jobs", job=job.id)
        return job

    def _view(self, job: FineTuningJob) -> JobView:
        return job_view(job, self._kernel.fine_tuning.process(job))


def method_of(body: JobCreation, *, prefers: bool) -> JobMethod:
    """The method with its hyperparameters; without one, the rows say it."""
    kind = body.method.type if body.method is not None else ("dpo" if prefers else "supervised")
    if kind == "dpo" and not prefers:
        raise BadInput(
            "method is dpo, and the rows have no preferred and non-preferred answer. Send such rows, or supervised",
            key="method",
        )
    given = getattr(body.method, kind) if body.method is not None else None
    found = (given.hyperparameters if given is not None else None) or body.hyperparameters or Hyperparameters()
    if kind != "dpo" and found.beta is not None:
        raise BadInput("beta is a hyperparameter of dpo alone. Leave it out", key="method.hyperparameters.beta")
    settings = MethodSettings(found)
    return JobMethod("dpo", dpo=settings) if kind == "dpo" else JobMethod("supervised", supervised=settings)


def recipe_args(asked: JobRequest, task: str, method: JobMethod) -> dict[str, Json]:
    """The recipe of a job, as `train` takes it. What is left to `auto` is not in it."""
    settings = method.dpo or method.supervised
    found = (settings.hyperparameters if settings else None) or Hyperparameters()
    data: dict[str, Json] = {"train": upload_of(asked.training_file)}
    if asked.validation_file is not None:
        data["validation"] = upload_of(asked.validation_file)
    args: dict[str, Json] = {
        "task": task,
        "base": asked.model,
        "name": model_name(asked),
        "data": data,
        "seed": asked.seed,
    }
    places = {"n_epochs": "epochs", "batch_size": "batch_size", "learning_rate_multiplier": "rate_multiplier"}
    args |= {place: value for key, place in places.items() if (value := _number(getattr(found, key))) is not None}
    if method.type == "dpo":
        args["options"] = {"objective": "dpo"}
        if (beta := _number(found.beta)) is not None:
            args["objective_settings"] = {"beta": beta}
    return args


def model_name(asked: JobRequest) -> str:
    """The name of the model that a job makes: of its base, and its suffix or a name that nothing else has."""
    base = PLAIN.sub("-", asked.model.partition(":")[0].lower()).strip("-.")[:40]
    own = PLAIN.sub("-", (asked.suffix or "").lower()).strip("-.")[:40]
    return f"ft-{base}-{own or os.urandom(4).hex()}"


def job_view(job: FineTuningJob, process: Process | None) -> JobView:
    """A job as OpenAI's clients read it."""
    asked, end = job.asked, job.end
    kind = str(asked.method.get("type"))
    hyperparameters = _with_auto((asked.method.get(kind) or {}).get("hyperparameters") or {})
    eta_s = process.progress.figures.get("eta_s") if process is not None and process.progress is not None else None
    status = status_of(job, process)
    is_known = status is JobStatus.RUNNING and eta_s is not None and process is not None
    error = JobError(end.code, end.message) if end is not None and status is JobStatus.FAILED else None
    return JobView(
        id=job.id,
        model=asked.model,
        status=status,
        created_at=int(job.created_at),
        finished_at=int(end.at) if end is not None else None,
        estimated_finish=_after(eta_s) if is_known else None,
        fine_tuned_model=end.model if end is not None else None,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        hyperparameters=hyperparameters,
        method={"type": kind, kind: {"hyperparameters": hyperparameters}},
        seed=asked.seed,
        error=error,
        user_provided_suffix=asked.suffix,
        metadata=asked.metadata or None,
        pid=job.pid,
    )


def event_view(job: FineTuningJob, event: JobEvent) -> JobEventView:
    """An event as OpenAI's clients read it."""
    name = f"ftevent-{job.id.removeprefix('ftjob-')}-{event.number}"
    return JobEventView(name, int(event.at), event.level, event.message, event.type, event.data)


def _with_auto(given: dict[str, Json]) -> dict[str, Json]:
    """The hyperparameters, with `auto` for those that were left out."""
    usual = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    return usual | {key: value for key, value in given.items() if value is not None}


def _number(value: float | int | str | None) -> Any:  # Any: a number of the kind that was given
    return None if value == "auto" else value


def _after(seconds: float | None) -> int:
    return int(time.time() + (seconds or 0.0))


SHAPE = FineTuningRoutes
