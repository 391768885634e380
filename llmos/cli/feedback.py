"""feedback, learn: rows that say what answers should have been, and the order by which a model learns from them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmos.abi.json_type import Json
from llmos.abi.learning import FEEDBACK, LearningState
from llmos.cli.client import box
from llmos.cli.terminal import note, say, say_json, say_table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MOST_SHOWN = 60
app = typer.Typer(help="What answers should have been: give, list, erase.", no_args_is_help=True)


@app.command()
def give(
    call: Annotated[str | None, typer.Option(help="The answer's x-request-id.")] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Which of the call's inputs, from 0.")] = None,
    model: Annotated[str | None, typer.Option(help="In place of a call: the model.")] = None,
    text_in: Annotated[str | None, typer.Option("--input", help="In place of a call: the text it was asked.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="The right label; may be repeated.")] = None,
    score: Annotated[float | None, typer.Option(help="The right score, or a rating of a text.")] = None,
    text: Annotated[str | None, typer.Option(help="The right text.")] = None,
    user: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    source: Annotated[str | None, typer.Option(help="person (the default) or outcome.")] = None,
    new_label: Annotated[bool, typer.Option("--new-label", help="The model does not have this label yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what an answer should have been."""
    labels: Json = None if not label else label[0] if len(label) == 1 else label
    with box() as client:
        row = client.feedback(
            call,
            index=index,
            model=model,
            input=text_in,
            label=labels,
            score=score,
            text=text,
            user=user,
            source=source,
            new_label=new_label or None,
        )
    if as_json:
        say_json(row)
        return
    use = "held out to measure on" if row.is_held_out else "to learn from"
    say(f"Row {row.id} on {row.ref} is kept, {use}.")


@app.command()
def ls(
    model: Annotated[str | None, typer.Option(help="Only rows on this name.")] = None,
    user: Annotated[str | None, typer.Option(help="Only rows of this user.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List rows of feedback."""
    with box() as client:
        rows = client.feedback_rows(model=model, user=user, limit=limit)
    if as_json:
        say_json(rows)
        return
    from llmos.abi.feedback import texts_of

    shown = [(one.id, one.ref, one.value, one.answer, one.by, texts_of(one.input)[:MOST_SHOWN]) for one in rows]
    say_table(("ROW", "MODEL", "SAYS", "ANSWER", "BY", "INPUT"), shown)


@app.command()
def erase(user: Annotated[str, typer.Option(help="Whose rows are erased.")], as_json: AsJson = False) -> None:
    """Erase the rows that a user gave, and those on a user's calls."""
    with box() as client:
        erased = client.erase_feedback(user)
    if as_json:
        say_json({"erased": erased})
        return
    say(f"Erased {erased:,} rows of {user}.")
    if erased:
        note("Datasets that were made before may still have them: llmos data ls, llmos rm NAME@VERSION")


def learn(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    source: Annotated[str, typer.Option("--from", help="What to learn from: feedback.")] = FEEDBACK,
    when: Annotated[str | None, typer.Option(help='When: "200 rows", further ones.')] = None,
    off: Annotated[bool, typer.Option("--off", help="Learn no more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn from feedback from now on, or show how learning stands."""
    with box() as client:
        state = client.stop_learning(name) if off else client.learn(name, when, source=source)
    if as_json:
        say_json(state)
        return
    _say_state(state)


def _say_state(state: LearningState) -> None:
    if state.when:
        say(
            f"{state.name} learns from feedback every {state.when}; {state.waiting:,} wait. A new version must be "
            f"{', '.join(state.gate)} (llmos gate {state.name})."
        )
    else:
        say(f"{state.name} has no order to learn. Give one: llmos learn {state.name} --from feedback --when '200 rows'")
    if state.pid is not None:
        note(f"At work: process {state.pid} (llmos ps)")
    rows = [
        (one.at[:19], one.dataset, one.rows, one.held_out, one.ref, "yes" if one.is_promoted else "no", one.verdict)
        for one in state.steps
    ]
    if rows:
        say_table(("AT", "ROWS OF", "LEARNED", "HELD OUT", "MODEL", "PROMOTED", "WHY"), rows)


VERBS: dict[str, Any] = {"learn": learn}  # Any: verbs differ in what they take
