"""/v1/models/{name}/monitor: whether calls to a name differ from its version's reference rows."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.key import KeyScope
from llmos.abi.monitoring import MonitorState
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.kernel.interface import KernelInterface


class Monitors:
    """The routes of monitors."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._monitoring = kernel.monitoring

    def endpoints(self) -> list[Endpoint]:
        path = "/v1/models/{name}/monitor"
        start, show, stop = "Monitor the calls to a name", "What a monitor has found", "End a monitor"
        page = "The report page of a monitor's newest look"
        return [
            Endpoint("POST", path, self.start, start, gives=MonitorState, scope=KeyScope.MODELS),
            Endpoint("GET", path, self.show, show, gives=MonitorState, scope=KeyScope.MODELS),
            Endpoint("DELETE", path, self.stop, stop, gives=MonitorState, scope=KeyScope.MODELS),
            Endpoint("GET", f"{path}/report", self.report, page, gives=str, media="text/html", scope=KeyScope.MODELS),
        ]

    async def start(self, request: Request) -> Reply:
        return reply(await self._monitoring.start(request.path_params["name"]))

    async def show(self, request: Request) -> Reply:
        return reply(await self._monitoring.get(request.path_params["name"]))

    async def report(self, request: Request) -> Reply:
        page = await self._monitoring.report(request.path_params["name"])
        return Response(page, media_type="text/html; charset=utf-8")

    async def stop(self, request: Request) -> Reply:
        return reply(await self._monitoring.stop(request.path_params["name"]))
