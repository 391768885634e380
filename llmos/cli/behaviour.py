"""test: runs behaviour suites on a model, drafts one, and measures how robust its answers are to noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.terminal import FAILED, note, say, say_json, say_table

if TYPE_CHECKING:
    from llmos.sdk.client import Client
    from llmos.suites.result import SuiteResult, TestOutcome
    from llmos.suites.robustness import NoisePoint, NoisyRow

SHOWN = 5  # failures of a test


def run_suites(
    model: Annotated[str, typer.Argument(help="A name (its promoted version), or name:version.")],
    suites: Annotated[
        list[Path] | None, typer.Option("--suite", help="A behaviour suite, in YAML; may be repeated.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Print the draft of a suite, from the model's labels and rows.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="The robustness curve: answers by the share of words with a slip.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Labelled rows for --new or --robustness (default: its own test rows).")
    ] = None,
    noises: Annotated[
        list[str] | None,
        typer.Option("--noise", help="A noise of the curve; may be repeated (default: typo, keyboard, ocr)."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML into this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page into this file.")] = None,
    shown: Annotated[int, typer.Option("--show", min=0, help="Failures of each test to print.")] = SHOWN,
    engine: Annotated[str | None, typer.Option(help="The engine: pytorch, llamacpp, onnx or vllm.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds until the answers must be there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Test how a model behaves."""
    if not suites and not new and not robustness:
        raise BadInput(
            f"There is nothing to do. Give --suite FILE; draft one: llmos test {model} --new > FILE; or --robustness"
        )
    if new and (suites or robustness):
        raise BadInput("--new prints the draft of a suite and does nothing else. Leave --suite and --robustness out")
    with box() as client:
        if new:
            return _print_draft(client, model, data, as_json=as_json)
        results = [client.test(model, suite, timeout_s=timeout, engine=engine) for suite in suites or []]
        curve: tuple[NoisePoint, ...] = ()
        if robustness:
            rows = _rows(client, model, data, suites or [])
            curve = client.robustness(model, rows, noises=noises, timeout_s=timeout, engine=engine)
    _write(results, curve, junit, html)
    if as_json:
        _print_json(results, curve)
    else:
        for result in results:
            _print_result(result, shown)
        if curve:
            _print_curve(curve)
    return 0 if all(one.is_passed for one in results) else FAILED


def _print_draft(client: Client, model: str, data: str | None, *, as_json: bool) -> int:
    draft = client.draft_suite(model, data)
    if as_json:
        say_json({"suite": draft})
        return 0
    say(draft.rstrip("\n"))
    note(f"Read and correct it, then: llmos test {model} --suite FILE")
    return 0


def _rows(client: Client, model: str, data: str | None, suites: Sequence[Path]) -> list[NoisyRow]:
    """The rows named, else the texts of the suites, else the model's own test rows."""
    from llmos.suites.reading import load_suite
    from llmos.suites.rows import as_noisy_rows, measured_rows, noisy_rows, suite_rows

    found = client.model(model)
    if data is not None:
        return noisy_rows(data, found.task, found.options)
    if suites:
        return [row for suite in suites for row in suite_rows(load_suite(suite))]
    return as_noisy_rows(measured_rows(found, client.status().home), found.task)


def _write(results: Sequence[SuiteResult], curve: Sequence[NoisePoint], junit: Path | None, html: Path | None) -> None:
    from llmos.suites.junit import junit_xml
    from llmos.suites.page import page

    if junit is not None:
        _save(junit, junit_xml(results))
    if html is not None:
        _save(html, page(results, curve).encode())


def _save(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Name a file in a folder that is there") from error


def _print_json(results: Sequence[SuiteResult], curve: Sequence[NoisePoint]) -> None:
    whole: dict[str, Any] = {"passed": all(one.is_passed for one in results)}  # Any: JSON
    whole["suites"] = [one.plain() for one in results]
    say_json(whole | ({"robustness": list(curve)} if curve else {}))


def _print_result(result: SuiteResult, shown: int) -> None:
    rows = [(_mark(one), one.name, one.kind, one.cases, _rate(one), f"{one.max_failures:.0%}") for one in result.tests]
    say_table(("", "TEST", "KIND", "CASES", "PASSED", "MAY FAIL"), rows)
    from llmos.suites.junit import describe_failures

    for test in result.tests:
        if test.failures and shown:
            allowed = " (allowed)" if test.is_passed else ""
            say(f"\n{test.name}{allowed}")
            say("\n".join(f"  {line}" for line in describe_failures(test, shown).splitlines()))
    say(f"\n{result.summary()}.")


def _mark(test: TestOutcome) -> str:
    return "ok" if test.is_passed else "FAILED"


def _rate(test: TestOutcome) -> str:
    return f"{1 - test.failed_share:.0%}"


def _print_curve(curve: Sequence[NoisePoint]) -> None:
    say()
    rows = [
        (
            one.noise,
            f"{one.level:.0%}",
            one.rows,
            one.changed,
            _share(one.agreement, one.agreement_interval),
            None if one.accuracy is None else _share(one.accuracy, one.accuracy_interval),
        )
        for one in curve
    ]
    say_table(("NOISE", "WORDS", "ROWS", "CHANGED", "SAME ANSWER (95 %)", "RIGHT (95 %)"), rows)


def _share(value: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (value, value)
    return f"{value:.3f}  {low:.3f} to {high:.3f}"


VERBS: dict[str, Any] = {"test": run_suites}  # Any: verbs differ in what they take
