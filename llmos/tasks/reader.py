"""Readers: bases that read a text whole before they write (an encoder with a decoder), and how one is told what to do.

T5's family is told by words before the text; the others were made for one thing and get the text as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadInput
from llmos.tasks import Rendered, Settings, Teacher, Tokenizer, lesson
from llmos.tasks.length import fitted, too_long

Json = Any  # Any: a config file of transformers, read by key

TOLD = ("t5", "mt5")  # as their config.json names them
MADE = {"marian": "translate", "mbart": "translate", "bart": "summarize"}  # what most of each kind are for
KINDS = (*TOLD, *MADE)
TASKS = ("translate", "summarize", "generate")
SUMMARIZE = "summarize: "


@dataclass(frozen=True, slots=True)
class Reader:
    """What an answer opens with, the most tokens that one has with it, and what of prefixes its config knows.

    `prefixes` None: it takes none. `opens_whole`: an answer that is learnt has the special tokens that texts have.
    """

    opening: tuple[int, ...]
    longest: int
    prefixes: tuple[str, ...] | None = None
    opens_whole: bool = True

    def translate(self, source: str | None, target: str | None) -> str:
        """What stands before a text that is to be translated; BadInput where the languages cannot be told so."""
        if self.prefixes is None:
            if source or target:
                raise BadInput(
                    "This model translates between the languages that it was made for, and cannot be told others. "
                    "Leave source_language and target_language out",
                    key="target_language",
                )
            return ""
        if target is None:
            raise BadInput(
                "translate must know the language to write. Say target_language, such as German: a param of a "
                "call, and of training an option, --set target_language=German",
                key="target_language",
            )
        if source is None:
            known = (one for one in self.prefixes if one.lower().endswith(f" to {target.lower()}: "))
            return next(known, f"translate to {target}: ")
        return f"translate {source} to {target}: "

    def summarize(self) -> str:
        return "" if self.prefixes is None else next((p for p in self.prefixes if p.startswith("summar")), SUMMARIZE)


def prefixes_of(config: Json) -> tuple[str, ...] | None:
    """The words that this config has for its tasks; None where a text goes in as it is."""
    params = config.get("task_specific_params")
    named = params.values() if isinstance(params, dict) else ()
    found = tuple(str(one["prefix"]) for one in named if isinstance(one, dict) and one.get("prefix"))
    return found if found or config.get("model_type") in TOLD else None


def rendered(prefix: str, text: str, tokenizer: Tokenizer, settings: Settings) -> Rendered:
    """The text as the encoder reads it, whole, or its beginning where the options say that it may be cut."""
    (one,) = fitted(tokenizer.encode([prefix + text]), "The text", tokenizer, settings)
    return Rendered(one.ids)


def taught(prefix: str, text: str, answer: str, tokenizer: Teacher, settings: Settings) -> Rendered:
    """The same with its answer as a lesson: two sequences, what is read and what is written."""
    reader = tokenizer.reader
    assert reader is not None, "only what reads is taught to write of it"
    source = rendered(prefix, text, tokenizer, settings).ids
    said = tokenizer.encode_answer(answer, special=reader.opens_whole)
    forced = list(reader.opening[1:])
    said = lesson.closed(said[len(forced) :] if forced and said[: len(forced)] == forced else said, tokenizer)
    if (size := len(forced) + len(said)) > reader.longest:
        raise too_long("The answer", size, reader.longest, settings)
    ids = [*reader.opening, *said[:-1]]
    first = len(reader.opening) - 1
    one = lesson.Lesson(ids, list(range(first, len(ids))), said)
    return Rendered([], (one,), (source, ids))
