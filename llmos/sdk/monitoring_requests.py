"""What the client's verbs of monitors and SLOs send, and how their answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from llmos.abi.json_type import Json
from llmos.abi.monitoring import MonitorState
from llmos.abi.slo import SloState
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request


def monitor(name: str, method: str) -> Request[MonitorState]:
    """GET shows what is found, POST begins, DELETE ends."""
    return Request(method, f"/v1/models/{quote(name)}/monitor", lambda answer: from_plain(answer, MonitorState))


def report_path(name: str) -> str:
    return f"/v1/models/{quote(name)}/monitor/report"


def slos() -> Request[list[SloState]]:
    return Request("GET", "/v1/slos", lambda answer: from_plain(answer["data"], list[SloState]))


def slo(name: str) -> Request[SloState]:
    return Request("GET", _slo(name), _slo_state)


def set_slo(name: str, objectives: Mapping[str, Json]) -> Request[SloState]:
    return Request("POST", _slo(name), _slo_state, {"objectives": dict(objectives)})


def remove_slo(name: str) -> Request[SloState]:
    return Request("DELETE", _slo(name), _slo_state)


def _slo(name: str) -> str:
    return f"/v1/models/{quote(name)}/slo"


def _slo_state(answer: Json) -> SloState:
    return from_plain(answer, SloState)
