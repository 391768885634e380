"""What the labelling terminal prints: a row with its suggestions, the estimate, and the training in one line."""

from __future__ import annotations

from typing import Any

from llmos.abi.disagreement import EXTRA
from llmos.abi.json_type import Json
from llmos.abi.labelling import LabellingState


def row_lines(row: Json, labels: list[str], number: int) -> list[str]:
    """A row as it is asked, the session's `number`th."""
    words = row.get("tokens")
    shown = row["text"] if words is None else " ".join(f"{at}:{word}" for at, word in enumerate(words))
    suggested = suggestions_line(row["suggestions"], labels, words)
    lines = [f"\n[{number}] {shown}", *([f"  {suggested}"] if suggested else [])]
    if answers := row.get(EXTRA, {}).get("answers"):
        lines.append("  " + ", ".join(f"{ref} said {_value_text(value)}" for ref, value in answers.items()))
    return lines


def _value_text(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def suggestions_line(suggestions: list[Json], labels: list[str], words: list[str] | None) -> str:
    """The suggestions of a row; numbered, unless labels are numbers."""
    if words is not None:
        return suggestion(suggestions[0], words) if suggestions else ""
    has_numbers = not any(label.isdecimal() for label in labels)
    return "  ".join(
        f"{at}) {suggestion(one, None)}" if has_numbers else suggestion(one, None)
        for at, one in enumerate(suggestions, 1)
    )


def suggestion(one: Json, words: list[str] | None) -> str:
    """A suggestion and how likely it is."""
    value = one["value"]
    if words is not None:
        said = ", ".join(f"{' '.join(words[a:b])} {name} ({a}-{b - 1})" for a, b, name in value) or "no entity"
    else:
        said = ", ".join(value) if isinstance(value, list) else str(value)
    return f"{said} {one['confidence']:.0%}"


def names_in(value: Any, words: list[str] | None) -> list[str]:  # Any: the value of an answer
    """The labels in an answer's value."""
    if value is None:
        return []
    if words is not None:
        return [name for _, _, name in value]
    return value if isinstance(value, list) else [value]


def estimate_line(queue: Json) -> str:
    """How many rows have labels, how good what suggests is, and what more labels should bring."""
    said = f"{queue['labelled']:,} rows have labels."
    if queue.get("second"):
        return f"{said} {queue['unlabelled']:,} that others have answered wait for {queue['second']}."
    if queue["estimate"]:
        said += f" {queue['estimate']['sentence']}"
    if queue.get("suggested_by"):
        said += f" Suggested by {queue['suggested_by']}."
    return said


def training_line(model: str | None, state: LabellingState) -> str:
    """What is trained now, or what came of the last training; empty before the first."""
    training, newest = state.training, state.model
    if training is not None and training.state in ("queued", "starting", "ready", "suspended", "stopping"):
        is_waiting = "waits to be trained" if training.state == "queued" else "is being trained"
        return f"{model} {is_waiting} on {training.labelled:,} labels (pid {training.pid})"
    if training is not None and training.state == "interrupted":
        return f"The training of {model} on {training.labelled:,} labels was interrupted (pid {training.pid})"
    if training is not None and (newest is None or newest.labelled < training.labelled):
        return f"{model} could not be trained on {training.labelled:,} labels (pid {training.pid}): {training.reason}"
    if newest is None or newest.value is None:
        return "" if state.next_at is None else f"{model} is trained from {state.next_at:,} labels on"
    span = "" if newest.low is None else f" ({newest.low:.3f} to {newest.high:.3f})"
    said = f"{newest.ref} has learned {newest.labelled:,} labels: {newest.metric} {newest.value:.3f}{span}"
    return f"{said}, {'promoted' if newest.is_promoted else 'a candidate'}"
