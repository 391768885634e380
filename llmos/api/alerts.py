"""/v1/alerts: rules and what they find, silences, acknowledgements and test messages. Rules are in the home's file."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from starlette.requests import Request

from llmos.abi.alert import Alert, AlertSilence, AlertsView, AlertTest
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED
from llmos.kernel.interface import KernelInterface


class SilenceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Nobody is told of this rule for `for_s` seconds."""

    rule: Annotated[str, msgspec.Meta(max_length=64)]
    for_s: float
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class AlertTestRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The channel that gets a test message; without one, all do."""

    channel: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class AlertTests(msgspec.Struct):
    """How each test message went."""

    data: list[AlertTest]


class EndedSilence(msgspec.Struct):
    """The rule that is not silenced any more."""

    rule: str


SILENCE = msgspec.json.Decoder(SilenceRequest)
TEST = msgspec.json.Decoder(AlertTestRequest)


class AlertRoutes:
    """The routes of alerts."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._alerts = kernel.alerts
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        path, endpoint = "/v1/alerts", partial(Endpoint, scope=KeyScope.ADMIN)
        show, again = "Rules, channels, alerts, silences, and messages that wait", "Read the file of rules now"
        silence, end = "Tell nobody of a rule for a while", "End a silence"
        look_after = "Acknowledge a rule's alert: it is not told again until it ends"
        return [
            Endpoint("GET", path, self.show, show, gives=AlertsView, scope=KeyScope.MONITOR),
            endpoint("POST", f"{path}/reload", self.reload, again, gives=AlertsView),
            endpoint("POST", f"{path}/test", self.test, "Send a test message", AlertTestRequest, AlertTests),
            endpoint("POST", f"{path}/silences", self.silence, silence, SilenceRequest, AlertSilence, status=CREATED),
            endpoint("DELETE", f"{path}/silences/{{rule}}", self.end_silence, end, gives=EndedSilence),
            endpoint("POST", f"{path}/{{rule}}/acknowledge", self.acknowledge, look_after, gives=Alert),
        ]

    async def show(self, request: Request) -> Reply:
        return reply(self._alerts.view())

    async def reload(self, request: Request) -> Reply:
        return reply(await self._alerts.reload())

    async def test(self, request: Request) -> Reply:
        body = await self._bodies.read(request, TEST)
        return reply(AlertTests(await self._alerts.test(body.channel)))

    async def silence(self, request: Request) -> Reply:
        body = await self._bodies.read(request, SILENCE)
        return reply(await self._alerts.silence(body.rule, body.for_s, body.reason), CREATED)

    async def end_silence(self, request: Request) -> Reply:
        rule = request.path_params["rule"]
        await self._alerts.end_silence(rule)
        return reply(EndedSilence(rule))

    async def acknowledge(self, request: Request) -> Reply:
        return reply(await self._alerts.acknowledge(request.path_params["rule"]))
