"""/v1/alerts: rules are shown and silenced over HTTP, and no request can name an address."""

import asyncio

import pytest

from llmos.abi.key import KeyScope
from llmos.api.app import endpoints
from llmos.config import Config

RULES = """
[channels.team]
url = "https://hooks.example.org/T/secretpath"
secret = "whsec_a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5"

[rules.known]
when = "llmos_calls_in_flight >= 0"
severity = "critical"
"""


@pytest.fixture
def alerts(kernel, ask):
    """The service with one rule that fires, because it has looked once."""
    service = kernel.alerts
    service.read_from(ask.app.readings)
    service.path.write_text(RULES)
    asyncio.run(service.look())
    return service


def test_rules_alerts_and_channels_are_shown_without_what_is_secret(alerts, ask):
    found = ask("GET", "/v1/alerts").json()
    assert [(one["name"], one["is_true"], one["value"]) for one in found["rules"]] == [("known", True, 0.0)]
    assert [(one["rule"], one["state"]) for one in found["alerts"]] == [("known", "firing")]
    assert found["channels"][0]["target"] == "https://hooks.example.org"
    text = ask("GET", "/v1/alerts").text
    assert "secretpath" not in text
    assert "a2V5" not in text


def test_a_rule_is_silenced_and_acknowledged_and_told_again(alerts, ask):
    made = ask("POST", "/v1/alerts/silences", {"rule": "known", "for_s": 7200, "reason": "we know"})
    assert made.status_code == 201
    assert made.json()["until"] - made.json()["created_at"] == 7200
    assert ask("GET", "/v1/alerts").json()["silences"][0]["reason"] == "we know"
    assert ask("DELETE", "/v1/alerts/silences/known").json() == {"rule": "known"}
    assert ask("DELETE", "/v1/alerts/silences/known").status_code == 404
    assert ask("POST", "/v1/alerts/known/acknowledge").json()["acknowledged_at"] > 0
    assert ask("POST", "/v1/alerts/nobody/acknowledge").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"rule": "known"},
        {"rule": "known", "for_s": -1},
        {"rule": "known", "for_s": "1h"},
        {"rule": "known", "for_s": 60, "url": "http://169.254.169.254/"},
    ],
)
def test_a_wrong_silence_is_refused(alerts, ask, body):
    assert ask("POST", "/v1/alerts/silences", body).status_code in (400, 422)


def test_a_test_names_a_channel_of_the_file_and_never_an_address(alerts, ask):
    assert ask("POST", "/v1/alerts/test", {"channel": "team"}).json() == {"data": [{"channel": "team", "error": ""}]}
    assert ask("POST", "/v1/alerts/test", {"channel": "http://169.254.169.254/"}).status_code == 404
    assert ask("POST", "/v1/alerts/test", {"url": "http://169.254.169.254/"}).status_code in (400, 422)


def test_a_mistake_in_the_file_is_answered_with_its_line(alerts, ask):
    alerts.path.write_text(RULES + "for = 5\n")
    refused = ask("POST", "/v1/alerts/reload")
    assert refused.status_code == 400
    assert refused.json()["error"]["detail"]["line"] == 9
    assert "line 9" in ask("GET", "/v1/alerts").json()["problem"]
    alerts.path.write_text(RULES)
    assert ask("POST", "/v1/alerts/reload").json()["problem"] == ""


def test_alerts_are_counted_in_metrics(alerts, ask):
    ask("POST", "/v1/alerts/test", {"channel": "team"})
    text = ask("GET", "/metrics").text
    assert 'llmos_alerts_firing{severity="critical"} 1.0' in text
    assert 'llmos_alert_messages_total{channel="team",outcome="failed"} 0.0' in text
    assert "llmos_alert_messages_waiting 1.0" in text


def test_every_change_asks_for_the_scope_admin(kernel):
    found = [one for one in endpoints(kernel, Config("/nowhere")) if one.path.startswith("/v1/alerts")]
    assert {one.scope for one in found if one.method != "GET"} == {KeyScope.ADMIN}
    assert {one.scope for one in found if one.method == "GET"} == {KeyScope.MONITOR}
