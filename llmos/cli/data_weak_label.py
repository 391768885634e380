"""data weak-label: labels for unlabelled rows by rules that vote, in a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.weak_labels import COMBINES
from llmos.cli.client import box
from llmos.cli.data_operations import Name
from llmos.cli.data_versions import DatasetRef
from llmos.cli.recipe_options import AsJson, Wait
from llmos.cli.terminal import note, say, say_json, say_table

if TYPE_CHECKING:
    from llmos.abi.json_type import Json

HEAD = ("RULE", "LINE", "LABEL", "VOTES", "COVERAGE", "OVERLAPS", "CONFLICTS", "BELIEVED", "CHECKED")
SHOWN_LABELS = 3


def weak_label(
    ref: DatasetRef,
    rules: Annotated[str, typer.Option(help="A file of rules, YAML or JSON, or upload:ID.")],
    models: Annotated[
        str | None, typer.Option(help="The models that rules ask, by commas (default: as the file has them).")
    ] = None,
    combine: Annotated[
        str | None, typer.Option(help=f"How votes become one label: {', '.join(COMBINES)} (default: the first).")
    ] = None,
    least: Annotated[float | None, typer.Option(help="Label only rows whose label is at least so likely.")] = None,
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Label rows without labels by rules that vote, and say how right the rules are."""
    from llmos.cli.progress import follow
    from llmos.cli.sending import reachable
    from llmos.sdk.request import models_of_rules

    with box() as client:
        asked = models_of_rules(rules) if models is None else [one.strip() for one in models.split(",") if one.strip()]
        source = reachable(client, rules, quiet=as_json)
        process = client.weak_label_dataset(
            ref, source, models=asked, combine=combine, least=least, name=name, wait=False
        )
        if not wait:
            say_json(process) if as_json else say(f"pid {process.pid}: {process.spec.title}")
            return
        ended = follow(client, process, quiet=as_json)
        found = client.result(ended.pid)
    if as_json:
        say_json(found)
        return
    say_votes(found)
    say(ended.progress.message if ended.progress and ended.progress.message else ended.reason)
    for one in found["notes"]:
        note(one)


def say_votes(found: Json) -> None:
    """Print the table of rules, the labels that were given, and what labelled rows say of them."""
    say_table(HEAD, [_line(rule) for rule in found["rules"]])
    say()
    say_table(("LABEL", "ROWS"), [(label, f"{count:,}") for label, count in found["given"].items()])
    say()
    check = found["check"]
    if check["accuracy"] is None:
        return
    by_majority, loss = check["majority"], check["log_loss"]
    say(f"Of {check['rows']:,} labelled rows ({check['split']}) the rules vote on {check['covered']:,}.")
    say(f"  {found['combine']}: {_share(check)} right; the majority of votes: {_share(by_majority)}")
    if loss is not None:
        heat, chance = check["temperature"], check["calibration_error_by_chance"]
        say(
            f"  probabilities: log loss {loss:.3f} (the majority's {check['majority_log_loss']:.3f}), calibration "
            f"error {check['calibration_error']:.3f} ({chance:.3f} by chance)"
            + (f", after a temperature of {heat:.2f}" if heat != 1 else "")
        )


def _line(rule: Json) -> tuple[str, ...]:
    labels = rule["labels"]
    shown = ", ".join(labels[:SHOWN_LABELS]) + (
        f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    )
    shares = [f"{rule[key]:.1%}" for key in ("coverage", "overlaps", "conflicts")]
    believed = "" if rule["believed_accuracy"] is None else f"{rule['believed_accuracy']:.2f}"
    checked = rule["checked"]
    held = "" if checked["accuracy"] is None else f"{_share(checked)} of {checked['rows']:,}"
    return (rule["name"], str(rule["line"]), shown, f"{rule['votes']:,}", *shares, believed, held)


def _share(found: Json) -> str:
    return f"{found['accuracy']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


VERBS: dict[str, Any] = {"weak-label": weak_label}  # Any: verbs differ in what they take
