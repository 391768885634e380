"""alerts ls, silence, unsilence, ack, test, reload, secret: the rules of the home's alerts.toml and what they find."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import typer

from llmos.abi.alert import Alert, AlertsView
from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.terminal import age, note, number, say, say_json, say_table, span

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Rule = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name in alerts.toml.")]
SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d|w)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
SECRET_BYTES = 32
SHOWN_ENDED = 10
app = typer.Typer(help="Alerts: list, silence, acknowledge, test.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def ls(as_json: AsJson = False) -> None:
    """Show rules, alerts, silences and messages that wait; exit code 1 if something fires or the file is wrong."""
    with box() as client:
        view = client.alerts()
    if as_json:
        say_json(view)
    else:
        _show(view)
    if view.problem or any(one.ended_at is None for one in view.alerts):
        raise typer.Exit(1)


@app.command()
def silence(
    rule: Rule,
    during: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")],
    reason: Annotated[str, typer.Option(help="Why, for those who look.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell nobody of a rule for a while."""
    with box() as client:
        made = client.silence_alert(rule, seconds_of(during), reason=reason)
    if as_json:
        say_json(made)
    else:
        say(f"Nobody is told of {rule} until {_time(made.until)}.")


@app.command()
def unsilence(rule: Rule, as_json: AsJson = False) -> None:
    """End a silence."""
    with box() as client:
        client.end_alert_silence(rule)
    if as_json:
        say_json({"rule": rule})
    else:
        say(f"{rule} is told again.")


@app.command()
def ack(rule: Rule, as_json: AsJson = False) -> None:
    """Acknowledge a rule's alert: it is not told again until it ends."""
    with box() as client:
        found = client.acknowledge_alert(rule)
    if as_json:
        say_json(found)
    else:
        say(f"{rule} is acknowledged. Its end will be told.")


@app.command("test")
def send_test(
    channel: Annotated[str | None, typer.Argument(metavar="[CHANNEL]", help="One channel; without, all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message; exit code 1 if one does not arrive."""
    with box() as client:
        found = client.test_alerts(channel)
    if as_json:
        say_json(found)
    else:
        for one in found:
            say(f"{one.channel}: {one.error or 'sent'}")
        if not found:
            note("There is no channel. Name one in alerts.toml")
    if any(one.error for one in found):
        raise typer.Exit(1)


@app.command()
def reload(as_json: AsJson = False) -> None:
    """Read alerts.toml now, and say what is wrong with it."""
    with box() as client:
        view = client.reload_alerts()
    if as_json:
        say_json(view)
    else:
        say(f"{len(view.rules)} rules and {len(view.channels)} channels of {view.path} are in force.")


@app.command()
def secret() -> None:
    """Make a secret for a webhook, which the receiver checks signatures with. It is kept nowhere."""
    import base64
    import secrets

    say(f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")


def seconds_of(text: str) -> float:
    """The seconds of a duration such as 30m."""
    found = SPAN.fullmatch(text)
    if found is None:
        raise BadInput(f"--for is {text!r}; it is a duration such as 30m, 2h or 1d", key="for")
    return float(found[1]) * SECONDS[found[2]]


def _show(view: AlertsView) -> None:
    if view.problem:
        note(f"{view.path} is not in force: {view.problem}")
    states = {one.rule: _state(one) for one in view.alerts if one.ended_at is None}
    rows = []
    for rule in view.rules:
        state = states.get(rule.name, "pending" if rule.is_true else "")
        quiet = "" if rule.silenced_until is None else f"until {_time(rule.silenced_until)}"
        rows.append((rule.name, rule.severity, state, number(rule.value), quiet, rule.expression))
    say_table(("RULE", "SEVERITY", "STATE", "VALUE", "SILENCED", "EXPRESSION"), rows)
    if not view.rules:
        note(f"There are no rules. Write some into {view.path}: docs/alerts.md")
    fired = [one for one in view.alerts if one.ended_at is None]
    over = [one for one in view.alerts if one.ended_at is not None][:SHOWN_ENDED]
    if fired or over:
        say()
        say_table(("ALERT", "STATE", "SINCE", "LASTED", "SUMMARY"), [_row(one) for one in (*fired, *over)])
    for one in view.deliveries:
        note(f"{one.rule} ({one.status}) is not told by {one.channel or 'its action'} yet: {one.error or 'waits'}")


def _row(alert: Alert) -> tuple[str, ...]:
    lasted = age(alert.started_at) if alert.ended_at is None else span(alert.ended_at - alert.started_at)
    return (alert.rule, _state(alert), _time(alert.started_at), lasted, alert.summary or alert.expression)


def _state(alert: Alert) -> str:
    return "acknowledged" if alert.ended_at is None and alert.acknowledged_at is not None else str(alert.state)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"
