"""/v1/models/{name}/rollout: a candidate on live traffic beside the promoted version; begun, shown, ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import Request

from llmos.abi.call_record import user_of
from llmos.abi.disagreement import Disagreement
from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.rollout import Mode, RolloutView
from llmos.abi.wire import to_plain
from llmos.api.call_service import without_unset
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED, shape_of
from llmos.api.query import Query, asked_of
from llmos.api.stream import EVENTS, ServerSentEvents, event
from llmos.kernel.interface import KernelInterface


class RolloutRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The candidate's version, and how it is tried.

    `mode` is shadow, canary (the default) or ab. `share` is its share of calls; a canary has `steps`, rising shares,
    each for `calls` of its calls. `guards` are such as `errors<=0.02`; they wrongly roll an equal candidate back with
    probability `alpha` at most. `promote` false: at the end nothing is promoted.
    """

    candidate: int
    mode: Mode | None = None
    share: float | None = None
    steps: list[float] | None = None
    guards: list[str] | None = None
    calls: int | None = None
    alpha: float | None = None
    promote: bool | None = None


class DisagreementList(msgspec.Struct):
    """Texts on which two versions disagreed, the newest first."""

    data: list[Disagreement]
    object: str = "list"


START = msgspec.json.Decoder(RolloutRequest)
MOST_ROWS = 1_000
QUERY = (
    Query("user", "Only texts of this user's calls.", "string"),
    Query("limit", f"At most this many, the newest first (default 20, at most {MOST_ROWS:,}).", "integer"),
)


class Rollouts:
    """The routes of rollouts."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._rollouts = kernel.rollouts
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        path = "/v1/models/{name}/rollout"
        start, show = "Try a version on live traffic", "Show the rollout under way, else the last one"
        stop = "End a rollout: all calls go to the promoted version again"
        texts = "The texts that are kept on which versions of this name disagreed in rollouts"
        follow = "Follow a rollout: how it stands now, and after each change, until it has ended"
        return [
            Endpoint(
                "POST", path, self.start, start, RolloutRequest, RolloutView, status=CREATED, scope=KeyScope.MODELS
            ),
            Endpoint("GET", path, self.show, show, gives=RolloutView, scope=KeyScope.MODELS),
            Endpoint("DELETE", path, self.stop, stop, gives=RolloutView, scope=KeyScope.MODELS),
            Endpoint(
                "GET",
                f"{path}/disagreements",
                self.disagreements,
                texts,
                gives=DisagreementList,
                query=QUERY,
                scope=KeyScope.DATA,
            ),
            Endpoint(
                "GET", f"{path}/events", self.follow, follow, gives=RolloutView, media=EVENTS, scope=KeyScope.MODELS
            ),
        ]

    async def start(self, request: Request) -> Reply:
        body = await self._bodies.read(request, START)
        asked: dict[str, Json] = without_unset(msgspec.structs.asdict(body))
        asked |= {key: tuple(asked[key]) for key in ("steps", "guards") if key in asked}
        candidate = asked.pop("candidate")
        return reply(to_plain(await self._rollouts.start(request.path_params["name"], candidate, asked)), CREATED)

    async def show(self, request: Request) -> Reply:
        return reply(to_plain(self._rollouts.get(request.path_params["name"])))

    async def follow(self, request: Request) -> Reply:
        name = request.path_params["name"]
        self._rollouts.get(name)  # raises while the status is not sent yet
        return ServerSentEvents(_views(self._rollouts.watch(name)))

    async def disagreements(self, request: Request) -> Reply:
        asked = asked_of(request)
        user, limit = user_of(asked.get("user")), min(asked.get("limit", 20), MOST_ROWS)
        return reply(DisagreementList(await self._rollouts.disagreements(request.path_params["name"], user, limit)))

    async def stop(self, request: Request) -> Reply:
        return reply(to_plain(await self._rollouts.stop(request.path_params["name"])))


async def _views(source: AsyncGenerator[RolloutView, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(source):
            async for view in source:
                yield event(to_plain(view), name="rollout")
    except LlmosError as error:  # the status was sent long ago: the error becomes the stream's last event
        yield event(shape_of(error), name="error")
