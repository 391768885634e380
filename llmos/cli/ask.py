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

Json = Any  # Any: an input in its task's schema

SHOWN_NUMBERS = 6


def run(
    model: Annotated[str, typer.Argument(help="A name (its promoted version), or name:version.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; - reads lines.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, one a line.")] = None,
    task: Annotated[str | None, typer.Option(help="The model's own unless said.")] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="A param of the task, as key=value.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one entry per text.")] = False,
) -> None:
    """Ask a model. For rerank the first text is the query, the others its documents; for similarity, texts in pairs."""
    said = [*_said(texts or []), *(_lines(file) if file else [])]
    if not said:
        raise BadInput("There is no text. Give one or more, or - to read lines, or --file")
    with box() as client:
        asked = task or client.model(model).task
        inputs = inputs_of(asked, said)
        results = client.run(model, inputs, task=asked, **settings_of(given or []))
    if as_json:
        say_json(results)
        return
    for one, result in zip(inputs, results, strict=True):
        say(readable(one, result, is_alone=len(inputs) == 1))


def inputs_of(task: str, texts: Sequence[str]) -> list[Json]:
    """The texts of a command line as inputs of this task."""
    if task == "rerank":
        if len(texts) < 2:
            raise BadInput("rerank needs a query and documents: llmos run MODEL 'query' 'document' 'document' ...")
        return [{"query": texts[0], "documents": list(texts[1:])}]
    if task == "similarity":
        if len(texts) % 2:
            raise BadInput(f"similarity compares texts in pairs, and there are {len(texts)}. Give two, or four ...")
        return [{"text": texts[i], "other": texts[i + 1]} for i in range(0, len(texts), 2)]
    return list(texts)


def _said(texts: Sequence[str]) -> list[str]:
    if texts != ["-"]:
        return list(texts)
    return _not_empty(_text(sys.stdin.buffer.read(), "standard input"))


def _lines(file: Path) -> list[str]:
    try:
        return _not_empty(_text(file.read_bytes(), str(file)))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 at byte {error.start}. Convert it, for one with iconv") from error


def _not_empty(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def readable(asked: Json, result: Result, *, is_alone: bool) -> str:
    """A result for people; where there are several, what was asked stands before it."""
    from llmos.sdk.result import Classified, Embedded, Reranked, Similar, Tagged

    text = " | ".join(map(str, asked.values())) if isinstance(asked, dict) else asked
    lead = "" if is_alone else f"{text}\n  "
    if isinstance(result, Similar):
        return f"{lead}{result.score:.3f}"
    if isinstance(result, Reranked):
        return "\n".join(f"{one.score:6.3f}  {asked['documents'][one.index]}" for one in result.ranking)
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
