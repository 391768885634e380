"""The prompt of rules that ask a model which writes: what the labels mean, examples, and the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.abi.json_type import Json

Examples = Sequence[tuple[str, str]]


def instruction(labels: Mapping[str, str]) -> str:
    """What the model is asked to do, with the labels and what they mean."""
    said = "\n".join(f"- {label}: {text}" for label, text in labels.items())
    return f"Say which label fits the text best. The labels are:\n{said}\nAnswer with the label alone."


def messages(labels: Mapping[str, str], examples: Examples, text: str) -> list[Json]:
    """For a chat model: the instruction, the examples as turns, and the text."""
    made: list[Json] = []
    for number, (shown, label) in enumerate([*examples, (text, "")]):
        head = f"{instruction(labels)}\n\n" if number == 0 else ""
        made.append({"role": "user", "content": f"{head}Text: {shown}"})
        if number < len(examples):
            made.append({"role": "assistant", "content": label})
    return made


def prompt(labels: Mapping[str, str], examples: Examples, text: str) -> str:
    """The same as one text, for a model that goes on writing."""
    shown = "".join(f"Text: {one}\nLabel: {label}\n\n" for one, label in examples)
    return f"{instruction(labels)}\n\n{shown}Text: {text}\nLabel:"
