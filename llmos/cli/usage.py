"""usage: requests, errors and tokens by key, model and day."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmos.abi.call_record import DAY, day_of
from llmos.abi.usage import ALL_PARTS, UsagePart, UsageRow, check_day, usage_parts
from llmos.cli.client import box
from llmos.cli.keys import seconds_in
from llmos.cli.terminal import note, say_json, say_table

TITLES = {UsagePart.DAY: "DAY", UsagePart.KEY: "KEY", UsagePart.MODEL: "MODEL"}


def usage(
    by: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(ALL_PARTS)}; may be repeated (default: all three).")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this day (UTC) on, 2026-01-31, or 30d before now.")] = None,
    until: Annotated[str | None, typer.Option(help="To this day (UTC), included.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of the key with this id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this version, or of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show requests, errors and tokens by key, model and day."""
    parts = usage_parts(by or ())
    first = None if since is None else day_before(since)
    check_day("until", until or "")
    with box() as client:
        found = client.usage(*parts, since=first, until=until, key=key, model=model)
    if as_json:
        say_json(found)
        return
    say_table(
        (*(TITLES[part] for part in parts), "REQUESTS", "ERRORS", "IN", "OUT"), [_row(one, parts) for one in found]
    )
    if not found:
        note("No call was counted. Calls are counted when they end")


def day_before(since: str) -> str:
    """A day, or that of a span such as 30d before now; BadInput otherwise."""
    return since if DAY.fullmatch(since) else day_of(time.time() - seconds_in(since))


def _row(one: UsageRow, parts: tuple[UsagePart, ...]) -> tuple[str, ...]:
    counts = (one.requests, one.errors, one.input_tokens, one.output_tokens)
    return (*(getattr(one, part) or "-" for part in parts), *(f"{count:,}" for count in counts))


VERBS = {"usage": usage}
