"""monitor: whether calls to a name differ from its version's evaluation rows."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.abi.monitoring import AccuracyState, MonitorState
from llmos.cli.client import box
from llmos.cli.terminal import note, number, say, say_json, say_table


def monitor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's bare name.")],
    on: Annotated[bool, typer.Option("--on", help="Begin, or go on.")] = False,
    off: Annotated[bool, typer.Option("--off", help="End it; what it has found stays, without texts.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write the report page of its newest look.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the calls to a model with its evaluation rows, or show what was found."""
    with box() as client:
        page = client.monitor_report(name) if report is not None else ""
        state = client.stop_monitor(name) if off else client.start_monitor(name) if on else client.monitor(name)
    if report is not None:
        _write(report, page)
    if as_json:
        say_json(state)
    elif report is not None:
        say(str(report))
    else:
        _show(state)


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}. Name another file") from error


def _show(state: MonitorState) -> None:
    work = f"process {state.pid}" if state.pid is not None else "no process is at work"
    say(f"{state.ref or state.name}: {state.status} ({work}); {state.calls:,} calls, {state.looks:,} looks")
    if state.reference:
        source = state.reference.replace("evaluation", "evaluation rows")
        say(f"  compared with {state.reference_rows:,} inputs: {source}")
    if state.signals:
        rows = [
            (
                one.signal,
                number(one.statistic),
                number(one.threshold),
                number(one.p_value),
                "drift" if one.is_drifting else "quiet",
            )
            for one in state.signals
        ]
        say_table(("SIGNAL", "STATISTIC", "THRESHOLD", "P", "STATE"), rows)
    if state.labels:
        say_table(("LABEL", "REFERENCE", "WINDOW"), [(k, f"{a:.1%}", f"{b:.1%}") for k, (a, b) in state.labels.items()])
    _show_accuracy(state.accuracy)
    for text, score in state.texts:
        say(f"  {score:>6.2f}  {text[:100]}")
    for one in state.alarms[:10]:
        end = "" if one.ended_at is None else f", ended {_time(one.ended_at)}"
        note(f"{_time(one.at)}  {one.model} {one.signal}: {number(one.statistic)} above {number(one.threshold)}{end}")


def _show_accuracy(found: AccuracyState) -> None:
    if found.reference is not None:
        say(f"accuracy on the reference: {found.reference:.1%}")
    if found.estimated is not None:
        interval = f"{found.estimated_low:.1%} to {found.estimated_high:.1%}"
        say(f"estimated by confidence:   {found.estimated:.1%} ({interval})")
    if found.measured is not None:
        interval = f"{found.measured_low:.1%} to {found.measured_high:.1%}"
        say(f"by feedback:               {found.measured:.1%} ({interval}, {found.measured_rows:,} rows)")


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M}"


VERBS: dict[str, Any] = {"monitor": monitor}  # Any: verbs differ in what they take
