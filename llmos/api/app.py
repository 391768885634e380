"""The ASGI app: all endpoints, and the routing of a request to one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Message, Receive, Scope, Send

from llmos import __version__
from llmos.abi.call_record import new_call_id
from llmos.abi.call_trace import trace_context_of
from llmos.abi.error import BadInput, LlmosError, NotFound
from llmos.abi.frame import RouteCalled, RouteReplied
from llmos.abi.model import split_ref
from llmos.api.alerts import AlertRoutes
from llmos.api.audit import AuditRoutes
from llmos.api.auditing import entry_of
from llmos.api.call_service import CallApi, Meter
from llmos.api.datasets import Datasets
from llmos.api.embeddings import Embeddings
from llmos.api.endpoint import Bodies, BodyBudget, Endpoint, ErrorBoundary, Reply
from llmos.api.errors import OURS, WRONG_METHOD, ErrorShape, refusal
from llmos.api.events import Events
from llmos.api.exchange import Leaving
from llmos.api.feedback import Feedback
from llmos.api.guard import Guard, let_read
from llmos.api.health import Health
from llmos.api.key_guard import OWN, KeyGuard, visit_of
from llmos.api.keys import KeyRoutes
from llmos.api.metrics import Metrics
from llmos.api.models import Models
from llmos.api.monitors import Monitors
from llmos.api.openai import OpenAI
from llmos.api.processes import Processes
from llmos.api.requests import Requests
from llmos.api.rollouts import Rollouts
from llmos.api.schema import Schema
from llmos.api.shapes import Services, shape_endpoints
from llmos.api.slos import Slos
from llmos.api.tasks import Tasks
from llmos.api.uploads import UploadRoutes
from llmos.api.usage import UsageRoutes
from llmos.config import Config
from llmos.kernel.alerts.windows import MetricSample
from llmos.kernel.interface import AuditInterface, KernelInterface

NO_WEBSOCKETS = "There are no websockets here: what is streamed is server-sent events. All routes are at /docs"


MODELS = "/v1/models/"


@dataclass(slots=True)
class Route:
    """One path with an error boundary for each method."""

    path: str
    doors: dict[str, ErrorBoundary] = field(default_factory=dict)

    @property
    def methods(self) -> set[str]:
        return {*self.doors, *(("HEAD",) if "GET" in self.doors else ())}


class App:
    """The ASGI app.

    Starlette's class would add two layers that catch errors; every route here has an error boundary already.
    """

    def __init__(
        self,
        found: Sequence[Endpoint],
        guard: Guard,
        keys: KeyGuard,
        budget: BodyBudget,
        meter: Meter,
        audit: AuditInterface,
    ) -> None:
        self._audit = audit
        self._guard = guard
        self._keys = keys
        self._budget = budget
        self._refused = meter.refusals
        self.readings: Callable[[], Iterable[MetricSample]] = tuple  # every sample of /metrics
        places: dict[str, Route] = {}
        for one in found:
            places.setdefault(one.path, Route(one.path)).doors[one.method] = ErrorBoundary(one, meter.refusals)
        self.routes = list(places.values())
        self._shapes = _shapes_by_folder(found)
        self._plain = {path: place for path, place in places.items() if "{" not in path}
        self._patterns = [(compile_path(path)[0], place) for path, place in places.items() if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            assert scope["type"] == "websocket", f"a scope of type {scope['type']}"
            await send({"type": "websocket.close", "code": 1000, "reason": NO_WEBSOCKETS})
            return
        share = scope["share"] = self._budget.share()
        call_id = scope["call_id"] = new_call_id(time.time())
        for name, value in scope["headers"]:
            if name == b"traceparent":
                scope["trace"] = trace_context_of(value.decode("latin-1"))
        try:
            verdict = self._guard.judge(scope)
            answer = await self._answer(Request(scope, receive)) if verdict.answer is None else verdict.answer
            if isinstance(answer, LlmosError):
                answer = self._refusal(answer)
            if answer is not None:
                # The call's id, which OpenAI's clients put into their exceptions.
                answer.raw_headers.append((b"x-request-id", call_id.encode()))
                if (context := scope.get("trace")) is not None:
                    answer.raw_headers.append((b"traceparent", context.header.encode()))
                if (visit := visit_of(scope)) is not None:
                    answer.raw_headers += visit.headers()
                if self._guard.knows_origins:
                    let_read(verdict.origin, answer.raw_headers)
                await answer(scope, receive, send)
        finally:
            if (visit := visit_of(scope)) is not None:
                visit.leave()
            share.give_back()

    async def answer_route(self, call: RouteCalled, key: str = "") -> RouteReplied:
        """A route's answer to a process of this daemon, without a connection; `key` is the id of whose it is."""
        share = self._budget.share()
        call_id = new_call_id(time.time())
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": call.path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "call_id": call_id,
            "share": share,
            "leaving": Leaving(),
            OWN: key,
        }
        try:
            answer = await self._answer(Request(scope, _body_of(call)))
            if isinstance(answer, LlmosError):
                answer = self._refusal(answer)
            assert isinstance(answer, Response), f"{call.path} has answered with a {type(answer).__name__}"
            return RouteReplied(call.request_id, answer.status_code, bytes(answer.body), call_id)
        finally:
            share.give_back()

    async def _answer(self, request: Request) -> Reply | LlmosError | None:
        """The endpoint's response to this request; None if the client has left."""
        scope = request.scope
        method, place = scope["method"], self._place(scope)
        door = None if place is None else place.doors.get("GET" if method == "HEAD" else method)
        if (b"upgrade", b"websocket") in scope["headers"]:
            return BadInput(NO_WEBSOCKETS)
        if door is None:
            return self._no_door(request, place)
        try:
            self._keys.enter(scope, door.scopes)
        except LlmosError as error:
            return self._refusal(error, shape=door.shape)
        answer = await door.answer(request)
        if door.audited is not None and answer is not None:
            await self._audit.add(entry_of(scope, *door.audited))
        return answer

    def _refusal(
        self,
        error: LlmosError,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        shape: ErrorShape = OURS,
    ) -> Response:
        """The refusal of a request before or outside of all routes. It is counted like those of routes."""
        self._refused[error.code] += 1
        return refusal(error, status=status, headers=headers, shape=shape)

    def _no_door(self, request: Request, place: Route | None) -> Response:
        method, path = request.method, request.url.path
        shape = self._shapes.get(_folder(path), OURS)
        if place is not None:
            allowed = ", ".join(sorted(place.methods))
            reason = BadInput(f"{method} does not work on {path}. It takes: {allowed}. All routes are at /docs")
            return self._refusal(reason, status=WRONG_METHOD, headers={"Allow": allowed}, shape=shape)
        # a model name may contain a slash, percent-encoded or not
        if method in ("GET", "HEAD") and path.startswith(MODELS):
            return self._refusal(_no_model(path.removeprefix(MODELS)))
        return self._refusal(NotFound(f"No route {method} {path}. All routes are at /docs"), shape=shape)

    def _place(self, scope: Scope) -> Route | None:
        path: str = scope["path"]
        if path in self._plain:
            return self._plain[path]
        if path.endswith("/"):
            path = path.rstrip("/")
        for pattern, place in self._patterns:
            found = pattern.match(path)
            if found:
                scope["path_params"] = found.groupdict()
                return place
        return self._plain.get(path)


def _folder(path: str) -> str:
    """The first part of a path, by which the clients of some products are known: `/api/pull` -> `api`."""
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _shapes_by_folder(found: Iterable[Endpoint]) -> dict[str, ErrorShape]:
    """The form of errors that all routes of a folder share: a route that is not there is refused in it, too."""
    shapes: dict[str, set[ErrorShape]] = {}
    for one in found:
        shapes.setdefault(_folder(one.path), set()).add(one.errors)
    return {folder: next(iter(some)) for folder, some in shapes.items() if len(some) == 1}


def _body_of(call: RouteCalled) -> Receive:
    """The messages of a request that is there as a whole, whose client does not leave."""

    async def receive() -> Message:
        return {"type": "http.request", "body": call.body, "more_body": False}

    return receive


def create_app(kernel: KernelInterface, config: Config) -> App:
    """Create the app that serves this kernel."""
    budget = BodyBudget(max(config.max_held_bytes, config.max_body_bytes))
    meter = Meter()
    app = App(endpoints(kernel, config, meter), Guard(config), KeyGuard(kernel.keys), budget, meter, kernel.audit)
    app.readings = Metrics(kernel, meter).readings
    return app


def endpoints(kernel: KernelInterface, config: Config, meter: Meter | None = None) -> list[Endpoint]:
    """Every endpoint of the daemon, with its request and response types."""
    bodies, meter = Bodies(config.max_body_bytes), meter or Meter()
    caller = CallApi(kernel, meter)
    found = [
        *Tasks(caller, bodies).endpoints(),
        *Embeddings(caller, bodies).endpoints(),
        *OpenAI(caller, bodies).endpoints(),
        *shape_endpoints(Services(caller, kernel, bodies, config)),
        *Models(kernel, bodies).endpoints(),
        *Rollouts(kernel, bodies).endpoints(),
        *Slos(kernel, bodies).endpoints(),
        *Monitors(kernel).endpoints(),
        *Processes(kernel, bodies).endpoints(),
        *Datasets(kernel, bodies).endpoints(),
        *UploadRoutes(kernel, bodies).endpoints(),
        *Requests(kernel).endpoints(),
        *UsageRoutes(kernel).endpoints(),
        *AuditRoutes(kernel).endpoints(),
        *Feedback(kernel, bodies).endpoints(),
        *KeyRoutes(kernel, bodies).endpoints(),
        *AlertRoutes(kernel, bodies).endpoints(),
        *Events(kernel).endpoints(),
        *Health(kernel).endpoints(),
        *Metrics(kernel, meter).endpoints(),
    ]
    return [*found, *Schema(found, __version__).endpoints()]


def _no_model(name: str) -> LlmosError:
    try:
        split_ref(name)
    except LlmosError as error:
        return error
    return NotFound(f"No route GET {MODELS}{name}. All routes are at /docs")
