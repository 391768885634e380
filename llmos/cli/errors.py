"""errors: the rows that a model answers wrongly, the worst first, with their kinds and what is near to them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.row_outcome import check_sentence
from llmos.cli.client import box
from llmos.cli.models import Ref
from llmos.cli.terminal import note, say, say_json, say_table

if TYPE_CHECKING:
    from llmos.abi.row_outcome import RowErrors, RowOutcome, SpanMark

SHOWN_TEXT = 400  # characters of a text
SHOWN_KINDS = 12
RED, GREEN, YELLOW, DIM, BOLD, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def errors(
    model: Ref,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind: missed, invented, boundary, type, partial, or 'true -> given'.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only rows with this true or given label.")] = None,
    slice: Annotated[
        str | None, typer.Option(help="Only rows of this slice, such as language=de or word=refund.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 20,
    evaluation: Annotated[
        int | None, typer.Option(help="The pid of the `eval` whose rows are meant (default: the version's own).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the rows that a model answers wrongly."""
    with box() as client:
        found = client.errors(model, kind=kind, label=label, slice=slice, limit=limit, evaluation=evaluation)
    if as_json:
        say_json(found)
        return
    _say_errors(found, sys.stdout.isatty())


def _say_errors(found: RowErrors, is_coloured: bool) -> None:
    measured = "" if found.evaluation is None else f", measured by process {found.evaluation}"
    wrong = f"{found.errors:,} of {found.rows:,} test rows wrongly"
    asked = "" if found.matching == found.errors else f"; {found.matching:,} of them are as asked"
    say(f"{found.model} answers {wrong}{asked}{measured}.")
    if found.kinds:
        say()
        rows = list(found.kinds.items())
        say_table(("KIND", "ROWS"), rows[:SHOWN_KINDS])
        if len(rows) > SHOWN_KINDS:
            say(f"and {len(rows) - SHOWN_KINDS} more kinds")
    if found.checks:
        counts = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in found.checks.items())
        say(f"\nOf these rows, `llmos data check` has found: {counts}.")
    for one in found.data:
        say()
        for line in outcome_lines(one, is_coloured=is_coloured):
            say(line)
    if len(found.data) < found.matching:
        note(f"\n{found.matching - len(found.data):,} more: --limit {min(found.matching, 1000)}")


def outcome_lines(one: RowOutcome, *, is_coloured: bool) -> Iterable[str]:
    """One row: where it stands and how it was answered, then its text, and the training rows near to it."""
    paint = _Paint(is_coloured)
    figures = [f"confidence {one.confidence:.2f}"] if one.confidence is not None else []
    figures += [f"loss {one.loss:.2f}"] if one.loss is not None else []
    figures += [f"score {one.score:.2f}"] if one.score not in (None, 0.0, 1.0) else []
    where = f"{one.file.rsplit('/', 1)[-1]}:{one.line}"
    yield f"{paint(BOLD, where)}  {one.id}  {', '.join(one.kinds)}  {paint(DIM, ', '.join(figures))}".rstrip()
    if one.spans:
        yield f"  true   {_mark_spans(one.texts[0], [m for m in one.spans if m.label], paint)}"
        yield f"  given  {_mark_spans(one.texts[0], [m for m in one.spans if m.given], paint)}"
    else:
        yield from (f"  {_short(text)}" for text in one.texts)
        yield f"  true   {paint(GREEN, _short(one.target))}"
        yield f"  given  {paint(RED, _short(one.prediction))}"
    if one.suspect:
        yield f"  {paint(YELLOW, f'its label may be wrong: {one.suspect}')}"
    if one.checks:
        yield f"  {paint(YELLOW, f'data check: {check_sentence(one)}')}"
    for near in one.nearest:
        place = f"{near.file.rsplit('/', 1)[-1]}:{near.line}  " if near.file else ""
        yield paint(DIM, f"  near {near.cosine:.2f}  {place}{near.target}: {_short(near.text)}")


class _Paint:
    """Colours text, or leaves it alone where there is no terminal."""

    def __init__(self, is_coloured: bool) -> None:
        self._is_coloured = is_coloured

    def __call__(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._is_coloured and text else text


def _mark_spans(text: str, marks: Iterable[SpanMark], paint: _Paint) -> str:
    """The text with its spans in brackets, each after its label."""
    pieces, at = [], 0
    for mark in sorted(marks, key=lambda one: (one.start, one.end)):
        if mark.start < at or mark.end > len(text):  # it overlaps another one, or lies beyond what was kept of the text
            continue
        word = f"[{mark.label or mark.given} {text[mark.start : mark.end]}]"
        pieces += [text[at : mark.start], paint(GREEN if mark.kind == "hit" else RED, word)]
        at = mark.end
    return "".join([*pieces, text[at:]])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else f"{line[: SHOWN_TEXT - 1]}…"


VERBS: dict[str, Any] = {"errors": errors}  # Any: verbs differ in what they take
