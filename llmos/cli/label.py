"""label: asks for the labels that are worth most, at the keyboard, and puts the answers into a dataset."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.abi.labelling import STRATEGIES, RowAnswer
from llmos.cli.answer_file import AnswerFile
from llmos.cli.client import box
from llmos.cli.data_versions import DatasetRef
from llmos.cli.terminal import note, say, say_json
from llmos.cli.train import AsJson
from llmos.cli.typed_label import read_typed

if TYPE_CHECKING:
    from llmos.abi.json_type import Json
    from llmos.abi.process import Process
    from llmos.sdk.client import Client

BATCH = 20
FOLDER = "labelling"
HELP = {
    "Enter": "take the first suggestion",
    "a number, a label or its beginning": "that one; with commas between, where a row has several",
    "+NAME": "a new label",
    "2-3 PER, 5 LOC": "tags: the first and last word of each entity; - for none",
    "/s": "skip this row",
    "/u": "undo the last answer",
    "/c TEXT": "a comment on this row, kept with its answer",
    "/q": "stop; everything so far is kept",
}


def label(
    ref: DatasetRef,
    by: Annotated[str | None, typer.Option(help="Who answers (default: the user's name).")] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Rows that are asked before the order is made anew.")] = BATCH,
    strategy: Annotated[str, typer.Option(help=f"How rows are chosen: {', '.join(STRATEGIES)}.")] = STRATEGIES[0],
    base: Annotated[str | None, typer.Option(help="The base that gives vectors (default: minilm).")] = None,
    split: Annotated[str | None, typer.Option(help="The split that answered rows go to (default: train).")] = None,
    answers: Annotated[str | None, typer.Option(help="Take answers from a file of JSON lines; ask nothing.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Only print the rows that would be asked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for labels of the rows that are worth most, and put them into a new version."""
    with box() as client:
        if answers is not None:
            _put(client, ref, answers, split, quiet=as_json, as_json=as_json)
            return
        if queue:
            _show_queue(client.queue_dataset(ref, n=n, strategy=strategy, base=base), as_json=as_json)
            return
        name = by or getpass.getuser()
        session = _Session(client, client.dataset(ref).ref, name, split)
        session.send_left_over()
        while session.ask(session.queue(n=n, strategy=strategy, base=base)):
            session.send()
        session.send()


class _Session:
    """Asks for one batch of rows after another. Answers are in a file at once, and are sent after each batch."""

    def __init__(self, client: Client, ref: str, by: str, split: str | None) -> None:
        self.client, self.ref, self.by, self.split = client, ref, by, split
        self.skipped: list[str] = []  # ids of rows that are not asked again
        self.given = AnswerFile(_folder() / f"{ref.partition('@')[0]}.jsonl")

    def send_left_over(self) -> None:
        """Send what an earlier asking could not; an error names the file, which stays."""
        if self.given.answers:
            note(f"{len(self.given.answers):,} answers from before are put in first ({self.given.path})")
            self.send()

    def queue(self, *, n: int, strategy: str, base: str | None) -> Json:
        """The next rows to ask for."""
        return self.client.queue_dataset(self.ref, n=n, strategy=strategy, base=base, without=self.skipped)

    def ask(self, queue: Json) -> bool:
        """Ask for these rows; False when there is nothing more to ask, or the person stops."""
        rows: list[Json] = queue["rows"]
        if queue["estimate"]:
            note(f"{queue['labelled']:,} rows have labels. {queue['estimate']['sentence']}")
        labels = list(queue["labels"])
        at = 0
        while at < len(rows):
            typed = self._ask_row(rows[at], labels, f"{at + 1}/{len(rows)}", is_many=bool(queue.get("is_multi")))
            if typed is None:
                return False
            if typed == "undo":
                at = max(0, at - 1)
                self.given.undo()
                continue
            at += 1
        return bool(rows) and queue["unlabelled"] > len(rows)

    def _ask_row(self, row: Json, labels: list[str], where: str, *, is_many: bool) -> str | None:
        """`undo`, anything else when it is answered, None to stop."""
        words = row.get("tokens")
        values = [one["value"] for one in row["suggestions"]]
        say(f"\n[{where}] {row['text'] if words is None else _with_numbers(words)}")
        if suggested := _say_suggestions(row["suggestions"], labels, words):
            say(f"  {suggested}")
        comment = ""
        while True:
            line = _read_line()
            if line is None:
                return None
            try:
                typed = read_typed(line, labels, values, words=None if words is None else len(words), is_many=is_many)
            except BadInput as error:
                note(error.message)
                continue
            if typed.command == "help":
                for key, what in HELP.items():
                    say(f"  {key}: {what}")
            elif typed.command == "comment":
                comment = typed.text
                note("The comment is kept with the answer to this row")
            elif typed.command == "quit":
                return None
            elif typed.command == "undo":
                return "undo"
            else:
                value = None if typed.command == "skip" else typed.value
                labels += [one for one in _names(value, words) if one not in labels]
                self.given.add(RowAnswer(row["id"], value, self.by, comment))
                return "answered"

    def send(self) -> None:
        """Put the answers into a new version, which is asked of from then on."""
        if not self.given.answers:
            return
        made = _put(self.client, self.ref, str(self.given.path), self.split)
        self.ref = made.made[-1] if made.made else self.ref
        self.skipped += [one.id for one in self.given.answers if one.value is None]
        self.given.clear()


def _put(
    client: Client, ref: str, answers: str, split: str | None, *, quiet: bool = False, as_json: bool = False
) -> Process:
    from llmos.cli.progress import follow
    from llmos.cli.sending import reachable

    ended = follow(client, client.label_dataset(ref, reachable(client, answers), split=split, wait=False), quiet=quiet)
    if as_json:
        say_json(ended)
    elif ended.progress is not None:
        say(ended.progress.message)
    return ended


def _folder() -> Path:
    from llmos.config import read_config

    return read_config().home / FOLDER


def _read_line() -> str | None:
    """A line from the keyboard, or from what is piped in; None at its end."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _show_queue(queue: Json, *, as_json: bool) -> None:
    if as_json:
        say_json(queue)
        return
    if queue["estimate"]:
        say(f"{queue['labelled']:,} rows have labels. {queue['estimate']['sentence']}")
    for row in queue["rows"]:
        first = f"  {_show(row['suggestions'][0], row.get('tokens'))}" if row["suggestions"] else ""
        say(f"{row['id']}{first}  {' '.join(row['text'].split())[:100]}")


def _with_numbers(words: list[str]) -> str:
    return " ".join(f"{at}:{word}" for at, word in enumerate(words))


def _say_suggestions(suggestions: list[Json], labels: list[str], words: list[str] | None) -> str:
    if words is not None:
        return _show(suggestions[0], words) if suggestions else ""
    numbers = not any(label.isdecimal() for label in labels)
    return "  ".join(
        f"{at}) {_show(one, None)}" if numbers else _show(one, None) for at, one in enumerate(suggestions, 1)
    )


def _show(one: Json, words: list[str] | None) -> str:
    """A suggestion and how likely it is."""
    value = one["value"]
    if words is not None:
        said = ", ".join(f"{' '.join(words[a:b])} {name} ({a}-{b - 1})" for a, b, name in value) or "no entity"
    else:
        said = ", ".join(value) if isinstance(value, list) else str(value)
    return f"{said} {one['confidence']:.0%}"


def _names(value: Any, words: list[str] | None) -> list[str]:  # Any: the value of an answer
    if value is None:
        return []
    if words is not None:
        return [name for _, _, name in value]
    return value if isinstance(value, list) else [value]


VERBS: dict[str, Any] = {"label": label}  # Any: verbs differ in what they take
