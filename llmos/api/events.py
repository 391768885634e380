"""/v1/events: everything that happens, from now on, as server-sent events."""

from __future__ import annotations

from starlette.requests import Request

from llmos.abi.api_types import StreamEvent
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Reply
from llmos.api.processes import event_stream
from llmos.api.stream import EVENTS, ServerSentEvents
from llmos.kernel.interface import KernelInterface


class Events:
    """The route of the event stream."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._processes = kernel.processes

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/events",
                self.follow,
                "Follow all events from now on",
                gives=StreamEvent,
                media=EVENTS,
                scope=KeyScope.MONITOR,
            )
        ]

    async def follow(self, request: Request) -> Reply:
        return ServerSentEvents(event_stream(self._processes.watch()))
