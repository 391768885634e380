"""label: asks for the labels that are worth most, at the keyboard, and trains a model with them in the background."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.labelling import STRATEGIES
from llmos.cli.answer_file import AnswerFile
from llmos.cli.client import box, settings_of
from llmos.cli.data_versions import DatasetRef
from llmos.cli.label_exchange import LabelPlan
from llmos.cli.label_session import Keyboard, LabelSession
from llmos.cli.label_text import estimate_line, suggestion
from llmos.cli.recipe_options import AsJson, Set
from llmos.cli.terminal import say, say_json

if TYPE_CHECKING:
    from llmos.abi.json_type import Json
    from llmos.sdk.client import Client

BATCH = 20
FOLDER = "labelling"


def label(
    ref: DatasetRef,
    model: Annotated[
        str | None, typer.Option(help="The model that is trained in the background with the answers, by name.")
    ] = None,
    retrain: Annotated[
        int | None,
        typer.Option(help="Labels between two trainings (default: a quarter more, 50 at least; 0: none)."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who answers (default: the user's name).")] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Rows that are asked before the order is made anew.")] = BATCH,
    strategy: Annotated[str, typer.Option(help=f"How rows are chosen: {', '.join(STRATEGIES)}.")] = STRATEGIES[0],
    base: Annotated[str | None, typer.Option(help="The base that gives vectors (default: minilm).")] = None,
    split: Annotated[str | None, typer.Option(help="The split that answered rows go to (default: train).")] = None,
    answers: Annotated[str | None, typer.Option(help="Take answers from a file of JSON lines; ask nothing.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Only print the rows that would be asked.")] = False,
    second: Annotated[
        bool, typer.Option("--second-opinion", help="Ask about rows that others have answered, without suggestions.")
    ] = False,
    disagreements: Annotated[
        str | None,
        typer.Option(help="Ask about texts on which this model's versions disagreed in rollouts (default: --model's)."),
    ] = None,
    pairs: Set = None,
    as_json: AsJson = False,
) -> None:
    """Ask for labels of the rows that are worth most, put them into a new version, and train a model with them."""
    settings = settings_of(pairs or [])
    plan = LabelPlan(by or getpass.getuser(), n, strategy, split, base, model, retrain, settings, second, disagreements)
    with box() as client:
        if answers is not None:
            _put(client, ref, answers, plan, as_json=as_json)
        elif queue:
            asked = plan.by if second else None
            found = client.queue_dataset(
                ref, n=n, strategy=strategy, base=base, model=model, second=asked, disagreements=disagreements
            )
            _show_queue(found, as_json=as_json)
        else:
            given = AnswerFile(_folder() / f"{client.dataset(ref).name}.jsonl")
            LabelSession(client, box, ref, plan, given, Keyboard()).run()


def _put(client: Client, ref: str, answers: str, plan: LabelPlan, *, as_json: bool) -> None:
    from llmos.cli.progress import follow
    from llmos.cli.sending import reachable

    process = client.label_dataset(
        ref,
        reachable(client, answers),
        split=plan.split,
        model=plan.model,
        retrain=plan.retrain,
        base=plan.base,
        disagreements=plan.disagreements,
        wait=False,
        **plan.settings,
    )
    ended = follow(client, process, quiet=as_json)
    if as_json:
        say_json(ended)
    elif ended.progress is not None:
        say(ended.progress.message)


def _folder() -> Path:
    from llmos.config import read_config

    return read_config().home / FOLDER


def _show_queue(queue: Json, *, as_json: bool) -> None:
    if as_json:
        say_json(queue)
        return
    say(estimate_line(queue))
    for row in queue["rows"]:
        first = f"  {suggestion(row['suggestions'][0], row.get('tokens'))}" if row["suggestions"] else ""
        say(f"{row['id']}{first}  {' '.join(row['text'].split())[:100]}")


VERBS: dict[str, Any] = {"label": label}  # Any: verbs differ in what they take
