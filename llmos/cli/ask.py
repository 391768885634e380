"""run: asks a model and prints its answer in a form that suits the task."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.call import MAX_INPUTS
from llmos.abi.encoding import decode_text
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.cli.client import box, settings_of
from llmos.cli.task_options import RunCommand
from llmos.cli.terminal import note, say, say_json

if TYPE_CHECKING:
    from llmos.sdk.result import Classified, Result
    from llmos.tasks.command_texts import SourcedInput, SourcedText


SHOWN_NUMBERS = 6
SOME_HAVE = ("logprobs", "abstained", "set", "stop")


def run(
    model: Annotated[str, typer.Argument(help="A name (its promoted version), or name:version.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; - reads them from stdin, one per line.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, one per line.")] = None,
    task: Annotated[str | None, typer.Option(help="The task (default: the model's own).")] = None,
    labels: Annotated[str | None, typer.Option(help="For a base: labels to choose from, separated by commas.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds until the answer must be there.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "--class", help="The priority: interactive, batch or background.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="The engine: pytorch, llamacpp, onnx or vllm.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="A param of the task, as key=value; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry per text.")] = False,
) -> None:
    """Ask a model."""
    if not texts and file is None:
        raise BadInput("There is no text. Give one or more, or - to read lines, or --file")
    params = settings_of(pairs or [])
    if labels is not None:
        task, params["labels"] = task or "classify", [one.strip() for one in labels.split(",")]
    with box() as client:
        task_name = task or client.model(model).task
        sourced = inputs_of(task_name, texts or [], file)
        inputs, places = [one.data for one in sourced], [one.place for one in sourced]
        n = params.get("n")
        at_once = max(1, MAX_INPUTS // n) if isinstance(n, int) and n > 1 else MAX_INPUTS
        results: list[Result] = []
        for start in range(0, len(inputs), at_once):
            some = inputs[start : start + at_once]
            with naming_line(places[start : start + at_once]):
                results += client.run(
                    model, some, task=task_name, timeout_s=timeout, priority=priority, engine=engine, **params
                )
    copies = len(results) // len(inputs)  # more than one if `n` was set
    if as_json:
        say_json([_format_result(result, sourced[i // copies].line) for i, result in enumerate(results)])
        return
    for i, result in enumerate(results):
        say(readable(inputs[i // copies], result, is_alone=len(results) == 1))


def _format_result(result: Result, line: int) -> dict[str, Json]:
    """The result as text, with the line of its file; what only some have, such as log-probabilities, if it is there."""
    shown = {field.name: getattr(result, field.name) for field in fields(result)}
    where = {"line": line} if line else {}
    return where | {key: value for key, value in shown.items() if key not in SOME_HAVE or value}


@contextmanager
def naming_line(places: Sequence[str]) -> Iterator[None]:
    """Inside this block, a refusal of one input names the line it was read from, instead of its index in the call."""
    try:
        yield
    except BadInput as error:
        index = error.detail.get("index")
        if not isinstance(index, int) or not 0 <= index < len(places) or not places[index]:
            raise
        sentence = error.message.removeprefix(f"inputs[{index}]: ")
        raise type(error)(f"{places[index]}: {sentence}", **error.detail) from error


def inputs_of(task: str, words: Sequence[str], file: Path | None) -> list[SourcedInput]:
    """The inputs of this task from the command line and a file, and where each was read (empty for words)."""
    from llmos.tasks.command_texts import arrange_texts  # imported late: other verbs need no task

    return arrange_texts(task, Texts(words, file))


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a command line: words, and a file. Implements tasks.command_texts.CommandTexts."""

    words: Sequence[str]
    file: Path | None

    def read(self, words: Sequence[str]) -> list[SourcedText]:
        """These words as texts; a lone "-" means the lines of standard input."""
        from llmos.tasks.command_texts import SourcedText  # as above

        if words != ["-"]:
            return [SourcedText(text) for text in words]
        return _lines("standard input", sys.stdin.buffer.read())

    def read_all(self) -> list[SourcedText]:
        """All words, and each line of the file."""
        lines = _lines(str(self.file), _bytes(self.file)) if self.file else []
        return [*self.read(self.words), *lines]

    def whole_file(self) -> str | None:
        """The file as one text; None where there is none."""
        return read_text(_bytes(self.file), str(self.file)) if self.file else None


def _lines(where: str, data: bytes) -> list[SourcedText]:
    """The non-empty lines, numbered as in an editor, where empty lines count too. Lines end at LF alone, as in rows."""
    from llmos.tasks.command_texts import SourcedText  # as above

    text = read_text(data, where)
    lines = enumerate(text.split("\n" if "\n" in text else "\r"), 1)
    return [
        SourcedText(line.removesuffix("\r"), f"{where}, line {number}", number)
        for number, line in lines
        if line.strip()
    ]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error


def read_text(data: bytes, where: str) -> str:
    """Decode as files of rows are: UTF-8, UTF-16, or what the letters tell, which is said; BadInput if none fits."""
    if data.isascii():
        return data.decode()
    decoded = decode_text(data)
    if decoded is None:
        raise BadInput(
            f"{where} is not UTF-8, and its bytes do not tell what it is. Convert it: iconv -f ENCODING -t UTF-8"
        )
    text, detection = decoded
    if detection.words:
        words = ", ".join(map(repr, detection.words))
        note(f"{where}: its bytes are not UTF-8, and are read as {detection.name} ({words})")
    return text


def readable(data: Json, result: Result, *, is_alone: bool) -> str:
    """A result for people, with its input before it if there are several."""
    from llmos.sdk.result import Answered, Classified, Embedded, Reranked, Similar, Tagged

    text = str(next(iter(data.values()))) if isinstance(data, dict) else data
    lead = "" if is_alone else f"{text}\n  "
    if isinstance(result, Answered):
        where = f"  [{result.start}:{result.end}] {result.score:.3f}"
        return lead + (result.text + where if result.text else f"the passage does not say {result.no_answer:.3f}")
    if isinstance(result, Similar):
        return f"{lead}{result.score:.3f}"
    if isinstance(result, Reranked):
        return "\n".join(f"{one.score:6.3f}  {data['documents'][one.index]}" for one in result.ranking)
    if isinstance(result, Classified):
        return lead + _readable_label(result)
    if isinstance(result, Tagged):
        spans = [f"{s.label:<8} {s.text}  [{s.start}:{s.end}] {s.score:.3f}" for s in result.spans]
        return lead + (("\n" if is_alone else "\n  ").join(spans) or "nothing found")
    if isinstance(result, Embedded):
        head = ", ".join(f"{x:.4f}" for x in result.vector[:SHOWN_NUMBERS])
        return f"{lead}{len(result.vector)} numbers: {head} ..."
    return lead + result.text


def _readable_label(result: Classified) -> str:
    """The label, or labels; those of a conformal set in braces; of a withheld answer what was likeliest."""
    if result.abstained:
        likeliest = max(result.scores, key=result.scores.__getitem__, default="")
        said = f"I do not know (perhaps {likeliest} {result.scores.get(likeliest, 0):.3f})"
    elif result.label is None:
        said = ", ".join(f"{one} {result.scores.get(one, 0):.3f}" for one in result.labels) or "no label"
    else:
        said = f"{result.label} {result.score or 0:.3f}"
    return f"{said}  {{{', '.join(result.set)}}}" if result.set else said


COMMANDS = {"run": RunCommand}
VERBS: dict[str, Any] = {"run": run}  # Any: verbs differ in what they take
