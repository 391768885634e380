"""data check, findings, fix: what may be wrong with a dataset's rows, and versions in which it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.check_marks import KINDS
from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.data_import import finish
from llmos.cli.data_versions import DatasetRef
from llmos.cli.recipe_options import AsJson, Wait, name_of
from llmos.cli.terminal import note, say, say_json

if TYPE_CHECKING:
    from llmos.abi.json_type import Json
    from llmos.sdk.client import Client

SEVERITIES = ("note", "warning", "error")
FOUND = 1  # the exit code where a finding is as bad as --fail-on says
SHOWN_IDS = 6
Kinds = Annotated[str | None, typer.Option(help="Kinds of findings, with commas between.")]


def check(
    ref: Annotated[str, typer.Argument(metavar="DATASET|FILE", help="A dataset, or a file that is imported first.")],
    base: Annotated[str | None, typer.Option(help="The base that is asked for vectors (default: minilm).")] = None,
    without: Annotated[list[str] | None, typer.Option(help="A check to leave out; may be repeated.")] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels-check", help="Do not look for wrong labels.")] = False,
    fail_on: Annotated[
        str | None, typer.Option(help="Exit with 1 if there is: a kind of finding, warning, error or note.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task of a file's rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check rows for duplicates, leaks, wrong labels, personal data and more."""
    level = None if fail_on is None else _level_of(fail_on)
    with box() as client:
        ref = _import_file(client, ref, task, quiet=as_json)
        left_out = [*(without or []), *(["labels"] if no_labels else [])]
        process = client.check_dataset(ref, base=base, without=left_out or None, wait=False)
        found = _result(client, process, quiet=as_json)
    if as_json:
        say_json(found)
    else:
        say_findings(found)
    if level is not None and any(_is_at(one, level) for one in found["findings"]):
        raise typer.Exit(FOUND)


def fix(
    ref: DatasetRef,
    drop: Kinds = None,
    relabel: Kinds = None,
    keep: Annotated[list[str] | None, typer.Option(help="A row's id: it stays, and is not reported again.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A row's id: no other row is changed.")] = None,
    least_score: Annotated[float | None, typer.Option(help="Relabel only from this score on (0 to 1).")] = None,
    with_test: Annotated[bool, typer.Option("--with-test", help="Drop and relabel test rows too.")] = False,
    with_doubt: Annotated[
        bool, typer.Option("--with-doubt", help="Relabel though the model of the suggestions is often wrong itself.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="The new version's name.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Drop, relabel or keep rows that a check has found, in a new version."""
    with box() as client:
        process = client.fix_dataset(
            ref,
            drop=_split_kinds(drop),
            relabel=_split_kinds(relabel),
            keep=keep,
            only=only,
            least_score=least_score,
            with_test=with_test,
            with_doubt=with_doubt,
            dry_run=dry_run,
            name=name,
            wait=False,
        )
        finish(client, process, wait=wait, as_json=as_json)


def say_findings(found: Json) -> None:
    """Print a report's findings."""
    for one in found["findings"]:
        say(f"{one['severity']}: {one['kind'].replace('_', ' ')}")
        say(f"  {one['sentence']}")
        for example in one["examples"][:3]:
            say(f"  {_line(example)}")
        if one["fixes"] and one["row_ids"]:
            ids = " ".join(one["row_ids"][:SHOWN_IDS])
            say(f"  rows: {ids}{' ...' if len(one['row_ids']) > SHOWN_IDS else ''}")
    if not found["findings"]:
        say(f"{found['dataset']}: nothing was found")
    for remark in found["notes"]:
        note(remark)
    note(f"Report: {found['page']}")


def _line(example: Json) -> str:
    change = f"{example['label']} -> {example['likelier']}: " if "likelier" in example else ""
    tags = f" ({', '.join(example['tags'])})" if "tags" in example else ""
    targets = f" {example['targets']}" if "targets" in example else ""
    twin = example.get("of_text") or example.get("like_text")
    return f"{change}{example['text']}{tags}{targets}{f' ~ {twin}' if twin else ''}"


def _import_file(client: Client, ref: str, task: str | None, *, quiet: bool) -> str:
    """The ref of the dataset, which is imported if the argument is a file."""
    from llmos.cli.progress import follow

    if not Path(ref).exists() or ("@" in ref and not Path(ref).is_file()):
        return ref
    process = follow(client, client.import_dataset(ref, name=name_of(ref), task=task, wait=False), quiet=quiet)
    return process.made[0]


def _result(client: Client, process: Any, *, quiet: bool) -> Json:  # Any: a process, imported for types alone
    from llmos.cli.progress import follow

    return client.result(follow(client, process, quiet=quiet).pid)


def _is_at(one: Json, level: str) -> bool:
    if level in SEVERITIES:
        return SEVERITIES.index(one["severity"]) >= SEVERITIES.index(level)
    return bool(one["kind"] == level)


def _level_of(said: str) -> str:
    """The severity or the kind of finding that is meant; BadInput, with all there are, for another word."""
    level = said.strip().lower().replace("-", "_")
    expected = [*SEVERITIES, *KINDS]
    if level not in expected:
        raise BadInput(
            f"--fail-on is {said!r}; it is one of {', '.join(SEVERITIES)}, or a kind of finding: {', '.join(KINDS)}",
            key="fail_on",
            value=said,
            expected=expected,
        )
    return level


def _split_kinds(kinds: str | None) -> list[str] | None:
    return [one.strip().replace("-", "_") for one in kinds.split(",") if one.strip()] if kinds else None


VERBS: dict[str, Any] = {"check": check, "fix": fix}  # Any: verbs differ in what they take
