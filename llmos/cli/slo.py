"""slo: objectives of a name for errors and latency, and how fast their budgets burn."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.abi.slo import SloState
from llmos.cli.client import box
from llmos.cli.terminal import say, say_json, say_table

Time = Annotated[str | None, typer.Option(help="Within this time, such as 50ms or 1.5s.")]
SHOWN = ("5m", "1h", "6h", "3d")


def slo(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The model's bare name; without it: all.")
    ] = None,
    p50: Time = None,
    p90: Time = None,
    p95: Time = None,
    p99: Time = None,
    errors: Annotated[str | None, typer.Option(help="At most this share of calls fails, such as 0.1%.")] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Remove the objectives.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set objectives for errors and latency, or show how fast their budgets burn."""
    given = {"p50": p50, "p90": p90, "p95": p95, "p99": p99, "errors": errors}
    asked = {key: value for key, value in given.items() if value is not None}
    if name is None and (asked or rm):
        raise BadInput("Name the model: llmos slo NAME --p99 50ms", key="name")
    if rm and asked:
        raise BadInput("--rm removes all objectives; give it alone", key="rm")
    with box() as client:
        if name is None:
            found = client.slos()
        elif rm:
            found = [client.remove_slo(name)]
        else:
            found = [client.set_slo(name, **asked) if asked else client.slo(name)]
    if as_json:
        say_json(found if name is None else found[0])
    elif rm:
        say(f"{name} has no objectives any more.")
    elif not found:
        say("No model has objectives. Set some: llmos slo NAME --p99 50ms --errors 0.1%")
    else:
        _show(found)


def _show(found: list[SloState]) -> None:
    rows = [
        (
            one.name,
            state.objective,
            f"{state.calls:,}",
            f"{state.bad:,}",
            f"{state.budget_left:.1%}",
            *(f"{state.burn_rates.get(window, 0.0):.3g}" for window in SHOWN),
            f"{state.severity} since {datetime.fromtimestamp(state.since or 0.0):%Y-%m-%d %H:%M}"
            if state.severity
            else "met"
            if state.budget_left > 0.0
            else "spent",
        )
        for one in found
        for state in one.objectives
    ]
    burns = (f"BURN {window}" for window in SHOWN)
    say_table(("MODEL", "OBJECTIVE", "CALLS", "BAD", "BUDGET LEFT", *burns, "STATE"), rows)


VERBS: dict[str, Any] = {"slo": slo}  # Any: verbs differ in what they take
