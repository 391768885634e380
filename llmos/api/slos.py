"""/v1/slos: objectives of names for errors and latency, set, shown and removed."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from llmos.abi.key import KeyScope
from llmos.abi.slo import SloState
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.kernel.interface import KernelInterface


class SloRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Objectives by name, such as {"p99": "50ms", "errors": "0.1%"}; they replace those that the model has."""

    objectives: dict[str, str | float]


class SloList(msgspec.Struct):
    """Every SLO, by name."""

    data: list[SloState]
    object: str = "list"


SET = msgspec.json.Decoder(SloRequest)


class Slos:
    """The routes of SLOs."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._slos = kernel.slos
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        path = "/v1/models/{name}/slo"
        give, show = "Give a name objectives for errors and latency", "How a name's objectives stand"
        rm, ls = "Remove a name's objectives", "How the objectives of all names stand"
        return [
            Endpoint("GET", "/v1/slos", self.ls, ls, gives=SloList, scope=KeyScope.MONITOR),
            Endpoint("POST", path, self.set, give, SloRequest, SloState, scope=KeyScope.MODELS),
            Endpoint("GET", path, self.show, show, gives=SloState, scope=KeyScope.MONITOR),
            Endpoint("DELETE", path, self.remove, rm, gives=SloState, scope=KeyScope.MODELS),
        ]

    async def ls(self, request: Request) -> Reply:
        return reply(SloList(self._slos.all()))

    async def set(self, request: Request) -> Reply:
        body = await self._bodies.read(request, SET)
        return reply(await self._slos.set(request.path_params["name"], body.objectives))

    async def show(self, request: Request) -> Reply:
        return reply(self._slos.get(request.path_params["name"]))

    async def remove(self, request: Request) -> Reply:
        return reply(await self._slos.remove(request.path_params["name"]))
