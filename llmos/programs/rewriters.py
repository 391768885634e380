"""Rewriters: texts said anew by models that write, which are asked by calls to their engines in this process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from llmos.abi.call import Call
from llmos.abi.error import TooLong, error_of
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.process import Priority
from llmos.abi.task import spec_of
from llmos.data.augmentation.augmenter import Rewriter
from llmos.data.noise import is_negation
from llmos.engines import Engine
from llmos.programs.channel import Channel
from llmos.programs.resident import with_resident
from llmos.programs.served_answers import loaded_engine

LONGER, LEAST_TOKENS, BYTES_A_TOKEN = 2, 24, 3  # an answer has at most twice the text's tokens
SAMPLED: dict[str, Json] = {"temperature": 0.5, "top_p": 0.9}
GREEDY: dict[str, Json] = {"temperature": 0.0}
ORDER = "Paraphrase: "
EXAMPLES = (
    ("How do I change my address?", "What is the way to update my address?"),
    ("The parcel I ordered has not come yet.", "I am still waiting for the parcel that I ordered."),
)
OPENING = re.compile(r"^\s*(?:[Pp]araphrased?|[Ss]entence|[Aa]nswer|[Rr]ewritten)[^:\n]{0,20}:\s*")
QUOTES = "\"'“”‘’«»` "
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
STEM, LEAST_SHARED = 4, 0.3  # letters of a word's beginning; the share of these that a text said anew has too
LEAST_LENGTH, MOST_LENGTH = 0.4, 2.0  # of a text said anew, in letters of the text before


@dataclass(slots=True)
class WritingModel:
    """A model in its engine, asked for texts; an answer follows from its input, params and seed."""

    engine: Engine
    manifest: Manifest
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def answers(self, task: str, inputs: Sequence[Json], params: Sequence[Mapping[str, Json]]) -> list[str]:
        """A text for each input; empty where the model refuses it, as one that is too long, or came to no end."""
        found = self.outputs(task, inputs, params)
        return ["" if one is None else _whole_text(one) for one in found]

    def outputs(self, task: str, inputs: Sequence[Json], params: Sequence[Mapping[str, Json]]) -> list[Json]:
        """The model's output to each input; None where it is too long."""
        found: list[Json] = [None] * len(inputs)
        places: dict[int, int] = {}
        for i, (one, some) in enumerate(zip(inputs, params, strict=True)):
            call = Call(next(self._ids), self.manifest.ref, task, (one,), dict(some), priority=Priority.BATCH)
            try:
                self.engine.add(call)
            except TooLong:
                continue
            places[call.call_id] = i
        while places:
            for chunk in self.engine.step():
                if chunk.fault is not None:
                    raise error_of(chunk.fault)
                if chunk.is_last:
                    found[places.pop(chunk.call_id)] = chunk.outputs[0]
        return found


def _whole_text(output: Any) -> str:  # Any: as Json
    if output.get("finish_reason") == "length":
        return ""
    return str((output["text"] if "text" in output else output["message"]["content"]) or "")


@dataclass(frozen=True, slots=True)
class Paraphraser:
    """Says a text in other words, by examples in the prompt; what is no paraphrase by its form is left out."""

    model: WritingModel

    def rewrite(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        task = self.model.manifest.task
        ask = _as_conversation if spec_of(task).is_conversation else _as_prompt
        params = [{**SAMPLED, **_token_limit(text), "seed": seed} for text, seed in zip(texts, seeds, strict=True)]
        if not spec_of(task).is_conversation:
            params = [{**some, "stop": ["\n"]} for some in params]
        answers = self.model.answers(task, [ask(" ".join(text.split())) for text in texts], params)
        return [_accept(text, _first_line(answer)) for text, answer in zip(texts, answers, strict=True)]


def _token_limit(text: str) -> dict[str, Json]:
    return {"max_tokens": max(LEAST_TOKENS, LONGER * -(-len(text.encode()) // BYTES_A_TOKEN))}


def _as_conversation(text: str) -> Json:
    messages = []
    for before, after in EXAMPLES:
        messages += [{"role": "user", "content": ORDER + before}, {"role": "assistant", "content": after}]
    return {"messages": [*messages, {"role": "user", "content": ORDER + text}]}


def _as_prompt(text: str) -> Json:
    shown = "".join(f"Sentence: {before}\nThe same in other words: {after}\n\n" for before, after in EXAMPLES)
    return f"{shown}Sentence: {text}\nThe same in other words:"


def _first_line(answer: str) -> str:
    """The first line of an answer, without what introduces or quotes it."""
    lines = [line for line in OPENING.sub("", answer).splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[0].strip()
    is_quoted = line[0] in QUOTES and line[-1] in QUOTES
    return line.strip(QUOTES) if is_quoted else line


def _accept(text: str, anew: str) -> str:
    """The new text; empty if its length, words, negations or numbers say that it is another, or an answer."""
    size = len(anew) / max(1, len(text))
    is_question, asks = (one.rstrip().endswith(("?", "？")) for one in (text, anew))
    if (
        not LEAST_LENGTH <= size <= MOST_LENGTH
        or is_question != asks
        or _negations_and_numbers(text) != _negations_and_numbers(anew)
    ):
        return ""
    before, after = _stems(text), _stems(anew)
    return anew if len(before & after) >= LEAST_SHARED * len(before) else ""


def _stems(text: str) -> set[str]:
    """The beginnings of the longer words, by which forms of one word are alike."""
    return {word[:STEM].lower() for word in WORD.findall(text) if len(word) >= STEM}


def _negations_and_numbers(text: str) -> Counter[str]:
    """What a paraphrase may not change: how often it negates, and its numbers."""
    words = WORD.findall(text)
    return Counter("not" if is_negation(word) else word for word in words if is_negation(word) or word.isdigit())


@dataclass(frozen=True, slots=True)
class BackTranslator:
    """Translates a text there, by chance, and back, as the other model finds likeliest (Sennrich et al. 2016)."""

    there: WritingModel
    back: WritingModel
    via: str | None = None
    language: str | None = None

    def rewrite(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        languages = _languages(self.language, self.via)
        params = [
            {**SAMPLED, **_token_limit(text), "seed": seed, **languages}
            for text, seed in zip(texts, seeds, strict=True)
        ]
        foreign = self.there.answers(TRANSLATE, list(texts), params)
        some = [i for i, text in enumerate(foreign) if text.strip()]
        greedy = GREEDY | _languages(self.via, self.language)
        bounds = [{**greedy, **_token_limit(foreign[i])} for i in some]
        home = self.back.answers(TRANSLATE, [foreign[i] for i in some], bounds)
        found = [""] * len(texts)
        for i, text in zip(some, home, strict=True):
            found[i] = _accept(texts[i], text.strip())
        return found


TRANSLATE = "translate"


def _languages(source: str | None, target: str | None) -> dict[str, Json]:
    return {
        key: value for key, value in (("source_language", source), ("target_language", target)) if value is not None
    }


@contextmanager
def rewriters_in(channel: Channel, job: Job) -> Iterator[dict[str, Rewriter]]:
    """The rewriters of the models that the job names, by the augmenter's name; each model is loaded once."""
    engines: Mapping[str, str] = job.args.get("engines") or {}
    with ExitStack() as stack:
        loaded: dict[str, WritingModel] = {}
        for key, engine in engines.items():
            ref = job.models[key].manifest.ref
            if ref not in loaded:
                loaded[ref] = stack.enter_context(load_writer(channel, job, key, str(engine)))
        models = {key: loaded[job.models[key].manifest.ref] for key in engines}
        found: dict[str, Rewriter] = {}
        if "writer" in models:
            found["paraphrase"] = Paraphraser(models["writer"])
        if "there" in models:
            languages = (job.args.get(key) for key in ("via", "language"))
            found["back-translation"] = BackTranslator(models["there"], models["back"], *languages)
        yield found


@contextmanager
def load_writer(channel: Channel, job: Job, key: str, engine_name: str) -> Iterator[WritingModel]:
    """The job's model of this key in its engine."""
    model = job.models[key]
    mine = replace(job, dtype=form_dtype(model.manifest.dtype, job.dtype))
    if engine_name == "pytorch":
        model = with_resident(channel, mine, model)
    with loaded_engine(replace(mine, models={"model": model.base or model}), engine_name) as engine:
        if model.base is not None:
            engine.attach(model)
        yield WritingModel(engine, model.manifest)
