"""The HTTP surface, put together: every noun's endpoints on one Starlette app."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route

from llmos import __version__
from llmos.abi.error import BadInput, NotFound
from llmos.api.caller import Caller
from llmos.api.datasets import Datasets
from llmos.api.embeddings import Embeddings
from llmos.api.endpoint import Bodies, Door, Endpoint
from llmos.api.errors import WRONG_METHOD, refusal
from llmos.api.events import Events
from llmos.api.health import Health
from llmos.api.metrics import Meter, Metrics
from llmos.api.models import Models
from llmos.api.openai import OpenAI
from llmos.api.processes import Processes
from llmos.api.schema import Schema
from llmos.api.tasks import Tasks
from llmos.config import Config
from llmos.kernel.port import Kernel


def create_app(kernel: Kernel, config: Config) -> Starlette:
    """The app that serves this kernel. Routes are tried in order, so the hot ones come first."""
    routes = [Route(one.path, Door(one), methods=[one.method]) for one in endpoints(kernel, config)]
    # Starlette's handlers take any exception by their type; ours only ever see HTTPException, for which they stand.
    handlers = {HTTPException: _no_route}
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]  # see above


def endpoints(kernel: Kernel, config: Config) -> list[Endpoint]:
    """Every endpoint of the box, with what it takes and gives."""
    bodies, meter = Bodies(config.max_body_bytes), Meter()
    caller = Caller(kernel, meter)
    found = [
        *Tasks(caller, bodies).endpoints(),
        *Embeddings(caller, bodies).endpoints(),
        *OpenAI(caller, bodies).endpoints(),
        *Models(kernel, bodies).endpoints(),
        *Processes(kernel, bodies).endpoints(),
        *Datasets(kernel).endpoints(),
        *Events(kernel).endpoints(),
        *Health(kernel).endpoints(),
        *Metrics(kernel, meter).endpoints(),
    ]
    return [*found, *Schema(found, __version__).endpoints()]


async def _no_route(request: Request, error: HTTPException) -> Response:
    method, path = request.method, request.url.path
    if error.status_code == WRONG_METHOD:
        routes = [r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE]
        allowed = ", ".join(sorted({word for route in routes for word in route.methods}))
        reason = BadInput(f"{method} does not work on {path}. It takes: {allowed}. All routes are at /docs")
        return refusal(reason, status=WRONG_METHOD, headers={"Allow": allowed})
    if path == "/":
        return RedirectResponse("/docs")
    return refusal(NotFound(f"No route {method} {path}. All routes are at /docs"))
