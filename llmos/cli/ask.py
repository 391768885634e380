"""run: ask a model, and print what it says as its task is best read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.box import box, settings_of
from llmos.cli.terminal import say, say_json

if TYPE_CHECKING:
    from llmos.sdk.result import Result

SHOWN_NUMBERS = 6


def run(
    model: Annotated[str, typer.Argument(help="A name (its promoted version), or name:version.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; - reads lines.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, one a line.")] = None,
    task: Annotated[str | None, typer.Option(help="The model's own unless said.")] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="A param of the task, as key=value.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one entry per text.")] = False,
) -> None:
    """Ask a model."""
    inputs = [*_said(texts or []), *(_lines(file) if file else [])]
    if not inputs:
        raise BadInput("There is no text. Give one or more, or - to read lines, or --file")
    with box() as client:
        results = client.run(model, inputs, task=task, **settings_of(given or []))
    if as_json:
        say_json(results)
        return
    copies = len(results) // len(inputs)  # more than one where `n` was set
    for i, result in enumerate(results):
        say(readable(inputs[i // copies], result, is_alone=len(results) == 1))


def _said(texts: Sequence[str]) -> list[str]:
    if texts != ["-"]:
        return list(texts)
    return _not_empty(read_text(sys.stdin.buffer.read(), "standard input"))


def _lines(file: Path) -> list[str]:
    try:
        return _not_empty(read_text(file.read_bytes(), str(file)))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error


def read_text(data: bytes, where: str) -> str:
    """The bytes as UTF-8; BadInput that says where they are from."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 at byte {error.start}. Convert it, for one with iconv") from error


def _not_empty(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def readable(text: str, result: Result, *, is_alone: bool) -> str:
    """A result for people; where there are several, its text stands before it."""
    from llmos.sdk.result import Classified, Embedded, Tagged

    lead = "" if is_alone else f"{text}\n  "
    if isinstance(result, Classified):
        if result.label is None:
            return lead + (", ".join(f"{one} {result.scores.get(one, 0):.3f}" for one in result.labels) or "no label")
        return f"{lead}{result.label} {result.score or 0:.3f}"
    if isinstance(result, Tagged):
        spans = [f"{s.label:<8} {s.text}  [{s.start}:{s.end}] {s.score:.3f}" for s in result.spans]
        return lead + (("\n" if is_alone else "\n  ").join(spans) or "nothing found")
    if isinstance(result, Embedded):
        head = ", ".join(f"{x:.4f}" for x in result.vector[:SHOWN_NUMBERS])
        return f"{lead}{len(result.vector)} numbers: {head} ..."
    return lead + result.text


VERBS: dict[str, Any] = {"run": run}  # Any: verbs differ in what they take
