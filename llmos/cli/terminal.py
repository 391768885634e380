"""Prints text, aligned tables, JSON, sizes and ages, and errors with their exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llmos.abi.error import BadInput, Forbidden, LlmosError, NotFound, Unavailable, fault_of

FAILED, WRONG_INPUT, NO_DAEMON = 1, 2, 3
INTERRUPTED = 130


def say(text: str = "") -> None:
    """Print a line of the answer to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line beside the answer to stderr: progress, and what to do next."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:  # Any: one of our dataclasses, or plain data
    """Print a value as indented JSON."""
    say(msgspec.json.format(msgspec.json.encode(value, enc_hook=list), indent=2).decode())


def say_metrics(metrics: Mapping[str, object], intervals: Mapping[str, tuple[float, float]]) -> None:
    """A table of metrics, with the 95 % intervals of those that have one; versions made earlier have none."""
    if not intervals:
        say_table(("METRIC", "VALUE"), [(name, number(value)) for name, value in metrics.items()])
        return
    rows = [(name, number(value), _span_of(intervals.get(name))) for name, value in metrics.items()]
    say_table(("METRIC", "VALUE", "95 % INTERVAL"), rows)


def _span_of(ends: tuple[float, float] | None) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else ""


def say_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns; the last one is not padded."""
    cells = [list(head), *([("-" if cell in (None, "") else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        say(f"\x1b[1m{line}\x1b[0m" if number == 0 and sys.stdout.isatty() else line)


def say_error(error: LlmosError, *, as_json: bool, words: Sequence[str] = ()) -> int:
    """Print the error on stderr, as a sentence or as JSON; returns its exit code.

    A setting that the sentence begins with is named by the option among the `words` that gave it.
    """
    if as_json:
        sys.stderr.write(msgspec.json.encode({"error": fault_of(error)}, enc_hook=str).decode() + "\n")
    else:
        sys.stderr.write(f"{_with_option(error, words)}\n")
    return exit_code(error)


def _with_option(error: LlmosError, words: Sequence[str]) -> str:
    key = str(error.detail.get("key") or "")
    option = f"--{key.replace('_', '-')}"
    typed = any(word.partition("=")[0] == option for word in words)
    is_first = bool(key) and error.message.startswith(f"{key} ")
    return option + error.message[len(key) :] if typed and is_first else error.message


def exit_code(error: LlmosError) -> int:
    """2 for wrong input, 3 if no daemon answers, 1 for all other errors."""
    if isinstance(error, BadInput | Forbidden | NotFound):
        return WRONG_INPUT
    if type(error) is Unavailable and "url" in error.detail:
        return NO_DAEMON
    return FAILED


def size(number: float) -> str:
    """Bytes in human-readable units."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def span(seconds: float) -> str:
    """A duration in human-readable units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m" if whole < 86_400 else f"{whole // 86_400}d"


def age(at: float | None) -> str:
    """How long ago a time was."""
    return "" if at is None else span(time.time() - at)


def number(value: object) -> str:
    """A figure, short; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
