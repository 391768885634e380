"""The requests about alerts, one function for each."""

from __future__ import annotations

from urllib.parse import quote

from llmos.abi.alert import Alert, AlertSilence, AlertsView, AlertTest
from llmos.abi.json_type import Json
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request

PATH = "/v1/alerts"


def _view(answer: Json) -> AlertsView:
    return from_plain(answer, AlertsView)


def _tests(answer: Json) -> list[AlertTest]:
    return from_plain(answer["data"], list[AlertTest])


def alerts() -> Request[AlertsView]:
    return Request("GET", PATH, _view)


def reload_alerts() -> Request[AlertsView]:
    return Request("POST", f"{PATH}/reload", _view)


def test_alerts(channel: str | None) -> Request[list[AlertTest]]:
    return Request(
        "POST", f"{PATH}/test", lambda answer: from_plain(answer["data"], list[AlertTest]), {"channel": channel}
    )


def silence_alert(rule: str, for_s: float, reason: str) -> Request[AlertSilence]:
    body = {"rule": rule, "for_s": for_s, "reason": reason}
    return Request("POST", f"{PATH}/silences", lambda answer: from_plain(answer, AlertSilence), body)


def end_alert_silence(rule: str) -> Request[str]:
    return Request("DELETE", f"{PATH}/silences/{quote(rule, safe='')}", lambda answer: str(answer["rule"]))


def acknowledge_alert(rule: str) -> Request[Alert]:
    return Request("POST", f"{PATH}/{quote(rule, safe='')}/acknowledge", lambda answer: from_plain(answer, Alert))
