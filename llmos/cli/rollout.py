"""rollout: tries a version on live traffic, shows how it stands, watches it to its end, or ends it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.terminal import note, number, say, say_json, say_table

if TYPE_CHECKING:
    from llmos.abi.rollout import RolloutView
    from llmos.sdk.client import Client


def rollout(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's bare name.")],
    candidate: Annotated[
        str | None, typer.Option(help="Begin one: the version to try, by its number (3) or ref (support:3).")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="shadow, canary (the default) or ab.")] = None,
    share: Annotated[float | None, typer.Option(help="The candidate's share of calls, at first (0.1).")] = None,
    steps: Annotated[
        str | None, typer.Option(help="A canary's shares, separated by commas (default: 0.1,0.25,0.5,1).")
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(help="A bound, such as 'errors<=0.02', 'p95<=200ms', 'agreement>=0.9'. May be repeated."),
    ] = None,
    calls: Annotated[int | None, typer.Option(help="The candidate's calls in each step (default 100).")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="The most often that a candidate as good is rolled back (default 0.05).")
    ] = None,
    promote: Annotated[
        bool | None, typer.Option(help="Promote it at the end (default; a shadow never promotes).")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End it: all calls go to the promoted version.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show each change until it ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try a version on live traffic beside the promoted one, or show how it stands."""
    asked: dict[str, Any] = {  # Any: the values differ in type
        "mode": mode,
        "share": share,
        "steps": None if steps is None else _shares(steps),
        "guards": guard or None,
        "calls": calls,
        "alpha": alpha,
        "promote": promote,
    }
    given = [key for key, value in asked.items() if value is not None]
    if candidate is None and given:
        raise BadInput(f"--{given[0].replace('_', '-')} begins a rollout; name the version to try: --candidate 3")
    if stop and candidate is not None:
        raise BadInput("--stop ends a rollout; give it without --candidate")
    with box() as client:
        if stop:
            view = client.stop_rollout(name)
        elif candidate is not None:
            view = client.start_rollout(name, candidate, **asked)
        else:
            view = client.rollout(name)
        if watch:
            _watch(client, name, as_json=as_json)
        elif as_json:
            say_json(view)
        else:
            _show(view)


def _shares(text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise BadInput(f"--steps is {text!r}; it is shares separated by commas, such as 0.05,0.25,1") from None


def _watch(client: Client, name: str, *, as_json: bool) -> None:
    """Each entry of the history as it comes, until the end; with --json a view for each change."""
    told = 0
    for view in client.follow_rollout(name):
        if as_json:
            say_json(view)
            continue
        for one in view.rollout.history[told:]:
            say(_entry(one.at, one.what, one.share, one.reason))
        told = len(view.rollout.history)


def _entry(at: float, what: str, share: float, reason: str) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}  {what.replace('_', ' '):<11} {share:>4.0%}  {reason}"


def _show(view: RolloutView) -> None:
    rollout = view.rollout
    say(f"{rollout.candidate_ref} beside {rollout.promoted_ref}: {rollout.summary}")
    if not rollout.is_ended:
        done = rollout.candidate_calls - rollout.step_from
        what = "copies" if rollout.plan.mode == "shadow" else "calls of the candidate"
        say(f"  step {rollout.step + 1} of {len(rollout.plan.steps)}, {done:,} of {rollout.plan.calls:,} {what}")
    say()
    head = ("GUARD", "STATE", "ESTIMATE", "LOW", "HIGH", "OBSERVED")
    rows = [
        (one.guard, one.state, number(one.estimate), number(one.low), number(one.high), f"{one.count:,}")
        for one in view.guards
    ]
    say_table(head, rows)
    say()
    for one in rollout.history:
        say(_entry(one.at, one.what, one.share, one.reason))
    say(view.disagreements.sentence)
    if view.copies:
        note(", ".join(f"{count:,} copies {what}" for what, count in view.copies.items()))


VERBS: dict[str, Any] = {"rollout": rollout}  # Any: verbs differ in what they take
