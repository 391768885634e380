"""The null engine: deterministic answers from hashes of the input, for tests of everything around it."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from llmos.abi.call import Call, CallTimes, Chunk, Tokens
from llmos.abi.error import BadInput, LlmosError, ModelNotFound, fault_of
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.task import Output, is_generative, spec_of
from llmos.engines import Engine
from llmos.engines.intake import Intake
from llmos.engines.null_words import WordTokenizer
from llmos.engines.tokenization import ModelTokenizer
from llmos.tasks import Rendered, Settings, task, with_params
from llmos.tasks.calibration import Calibration, load_calibration
from llmos.tasks.classify import refuse_labels
from llmos.tasks.generate import sampling
from llmos.tasks.inputs import check_inputs, parses_special
from llmos.tasks.tools import AUTO
from llmos.tasks.zeroshot import describe_labels

DIM = 32
WORDS = ("yes", "the", "box", "hears", "you", "and", "answers", "from", "nothing", "but", "a", "hash")
PROMPT_WORD = re.compile(r"\s*\S+")
MAX_NEW_TOKENS = 8
LABELS = ("A", "B")  # the labels of a base without labels of its own


@dataclass(slots=True)
class Written:
    """One answer: the words still to come, its finish reason, and how many alternatives each word's logprobs list."""

    words: list[str]
    reason: str
    top_logprobs: int | None
    echo: str = ""  # the prompt, until it was said

    def output(self, task_name: str, count: int) -> Json:
        """The next `count` words as a piece of the task's answer; the prompt is in front of the first."""
        said, self.words = self.words[:count], self.words[count:]
        raw: Json = {"text": self.echo + "".join(said), "finish_reason": None if self.words else self.reason}
        if self.top_logprobs is not None:
            raw["logprobs"] = _score_prompt(self.echo, self.top_logprobs)
            raw["logprobs"] += [_score_word(word, self.top_logprobs) for word in said]
        self.echo = ""
        return task(task_name).parse(raw, Rendered([]), Settings(), {})


@dataclass(slots=True)
class Reading:
    """A streamed call: its answers, and the tokens read and written so far."""

    call: Call
    answers: list[Written]
    prompt_tokens: int
    made: int = 0


class NullEngine(Engine):
    """A complete driver: the same input to the same model always gives the same answer."""

    def __init__(self, token_budget: int = 0, kv_bytes: int = 0) -> None:
        """Both budgets are accepted and ignored: a hash costs the same for any text."""
        self._models: dict[str, Manifest] = {}
        self._calibrations: dict[str, Calibration | None] = {}
        self._calls: dict[int, Call] = {}
        self._streams: dict[int, Reading] = {}

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        self._models[base.manifest.ref] = base.manifest
        return 0

    def attach(self, model: ModelPath) -> None:
        self._models[model.manifest.ref] = model.manifest
        self._calibrations[model.manifest.ref] = load_calibration(Path(model.folder))

    def detach(self, model: str) -> None:
        self._models.pop(model, None)
        self._calibrations.pop(model, None)

    def tokenizer_of(self, model: str) -> ModelTokenizer:
        if model not in self._models:
            raise ModelNotFound(f"{model} is not attached here", name=model)
        return ModelTokenizer(WordTokenizer(model), Settings())

    def take_in(self, call: Call) -> Intake:
        if call.model not in self._models:
            raise ModelNotFound(f"{call.model} is not attached here", name=call.model)
        yield
        parses_special(call.params)  # no effect here, but an invalid value is refused
        normal = check_inputs(with_params(call.task, call.params), call.inputs)
        if not (call.stream and is_generative(call.task)):
            return lambda: self._calls.update({call.call_id: call})
        reading = Reading(call, _write_answers(call, normal), sum(map(_count, normal)))
        return lambda: self._streams.update({call.call_id: reading})

    def cancel(self, call_id: int) -> None:
        self._calls.pop(call_id, None)
        self._streams.pop(call_id, None)

    def step(self) -> list[Chunk]:
        """Return every waiting answer, and the next piece of every streamed one."""
        calls, self._calls = self._calls, {}
        chunks = [self._answer_call(call) for call in calls.values()]
        for reading in list(self._streams.values()):
            chunks += _next_pieces(reading)
            if chunks[-1].is_last:
                del self._streams[reading.call.call_id]
        return chunks

    @property
    def is_idle(self) -> bool:
        return not self._calls and not self._streams

    def _answer_call(self, call: Call) -> Chunk:
        started = perf_counter()
        try:
            manifest = self._models[call.model]
            normal = check_inputs(task(call.task), call.inputs)
            if is_generative(call.task):
                outputs = tuple(one.output(call.task, len(one.words)) for one in _write_answers(call, normal))
            else:
                answer = self._answerer(call)
                outputs = tuple(answer(manifest, one, call.params) for one in normal)
        except (LlmosError, KeyError) as error:
            return Chunk(call.call_id, fault=fault_of(error))
        sizes = tuple(map(_count, call.inputs))
        tokens = Tokens(sum(sizes), sum(map(_make_answer, outputs)))
        times = CallTimes(compute_s=perf_counter() - started)
        return Chunk(call.call_id, outputs, tokens=tokens, times=times, sizes=sizes)

    def _answerer(self, call: Call) -> Callable[[Manifest, Json, dict[str, Json]], Json]:
        """What answers one input; a model with a calibration gives its hashes to the task, as drivers that compute."""
        calibration = self._calibrations.get(call.model)
        is_label = spec_of(call.task).output is Output.LABEL
        if not is_label or (calibration is None and not call.params.keys() & {"abstain", "coverage"}):
            return ANSWERS[spec_of(call.task).output]
        return lambda manifest, one, params: _classify_calibrated(manifest, one, params, calibration)


def _classify_calibrated(
    manifest: Manifest, one: Json, params: dict[str, Json], calibration: Calibration | None
) -> Json:
    settings = Settings(manifest.labels or LABELS, manifest.options, calibration=calibration)
    logits = [math.log(_hash(manifest.ref, _text(one), label) + 1) for label in settings.labels]
    return task("classify").parse(logits, Rendered([]), settings, params)


def _classify(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    if manifest.labels:
        refuse_labels(manifest.ref, manifest.labels, params)
    labels = manifest.labels or (tuple(describe_labels(params["labels"])) if "labels" in params else LABELS)
    weights = [_hash(manifest.ref, _text(one), label) + 1 for label in labels]
    scores = {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}
    if manifest.options.get("multi_label"):
        threshold = float(params.get("threshold") or manifest.options.get("threshold") or 0.5)
        return {"labels": [label for label, score in scores.items() if score >= threshold], "scores": scores}
    best = max(scores, key=scores.__getitem__)
    return {"label": best, "score": scores[best], "scores": scores}


def _tag(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    """About every third word is an entity."""
    labels = tuple(dict.fromkeys(label.partition("-")[2] or label for label in manifest.labels if label != "O"))
    spans, position, text = [], 0, _text(one)
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        number = _hash(manifest.ref, word)
        if number % 3 == 0:
            label = (labels or LABELS)[number % len(labels or LABELS)]
            spans.append({"text": word, "label": label, "start": start, "end": position, "score": 1.0})
    return {"spans": spans}


def _embed(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    numbers = [_hash(manifest.ref, _text(one), str(i)) / 2**31 - 1.0 for i in range(DIM)]
    length = sum(number * number for number in numbers) ** 0.5
    return {"dim": DIM, "data": struct.pack(f"<{DIM}f", *(number / length for number in numbers))}


def _answer(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    """A word of the passage, or no answer if the question's hash is divisible by eight."""
    words = one["passage"].split()
    number = _hash(manifest.ref, one["question"])
    if number % 8 == 0:
        return {"text": "", "start": None, "end": None, "score": 0.0, "no_answer": 1.0}
    word = words[number % len(words)]
    start = one["passage"].index(word)
    return {"text": word, "start": start, "end": start + len(word), "score": 1.0, "no_answer": 0.0}


def _similarity(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    return {"score": _closeness(manifest, one["text"], one["other"])}


def _rerank(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    scores = [_closeness(manifest, one["query"], document) for document in one["documents"]]
    ranked = sorted(enumerate(scores), key=lambda pair: -pair[1])[: params.get("top_n")]
    said = {i: {"document": one["documents"][i]} if params.get("return_documents") else {} for i, _ in ranked}
    return [{"index": i, "score": score, **said[i]} for i, score in ranked]


def _closeness(manifest: Manifest, one: str, other: str) -> float:
    """1 for equal texts, else a value from the texts' hash."""
    return 1.0 if one == other else _hash(manifest.ref, *sorted((one, other))) / 2**31 - 1.0


ANSWERS: dict[Output, Callable[[Manifest, Json, dict[str, Json]], Json]] = {
    Output.LABEL: _classify,
    Output.SPANS: _tag,
    Output.VECTOR: _embed,
    Output.ANSWER: _answer,
    Output.SCORE: _similarity,
    Output.RANKING: _rerank,
}


def _write_answers(call: Call, checked: list[Json]) -> list[Written]:
    """The answers of a call: `n` for each input, in order."""
    settings = sampling(call.params)
    if settings.grammar is not None or any(one.get("tool_choice", AUTO) != AUTO for one in checked):
        raise BadInput("The null engine computes nothing: it cannot follow a rule or call functions")
    count = min(settings.max_tokens, MAX_NEW_TOKENS)
    reason = "stop" if count == MAX_NEW_TOKENS else "length"
    return [
        Written(
            _words(call.model, _text(one), (settings.seed or 0) + k, count),
            reason,
            settings.top_logprobs,
            _text(one) if settings.echo else "",
        )
        for one in checked
        for k in range(settings.n)
    ]


def _words(model: str, text: str, seed: int, count: int) -> list[str]:
    words = [WORDS[_hash(model, text, str(seed), str(i)) % len(WORDS)] for i in range(count)]
    return [word if i == 0 else f" {word}" for i, word in enumerate(words)]


def _score_prompt(prompt: str, top: int) -> list[Json]:
    """The entries of a prompt's words, each with the blanks before it; nothing precedes the first."""
    found = [{**_score_word(one[0], top), "text_offset": one.start()} for one in PROMPT_WORD.finditer(prompt)]
    return [{**one, "logprob": None, "top_logprobs": []} if not i else one for i, one in enumerate(found)]


def _score_word(word: str, top: int) -> Json:
    """A word's logprobs entry, from hashes, sorted as real ones are."""
    ranked = sorted((-_hash("logprob", one) / 2**28, one) for one in WORDS)[::-1][:top]
    return _entry(word, -_hash("logprob", word.strip()) / 2**28) | {
        "top_logprobs": [_entry(one, logprob) for logprob, one in ranked]
    }


def _entry(word: str, logprob: float) -> dict[str, Json]:
    return {"token": word, "bytes": list(word.encode()), "logprob": logprob}


def _next_pieces(reading: Reading) -> list[Chunk]:
    """The next word of every answer that has one; the last word ends the call."""
    call, chunks = reading.call, []
    for index, one in enumerate(reading.answers):
        if not one.words:
            continue
        reading.made += 1
        output = one.output(call.task, 1)
        if len(reading.answers) > 1:
            output["index"] = index
        is_last = not any(other.words for other in reading.answers)
        tokens = Tokens(reading.prompt_tokens, reading.made)
        chunks.append(Chunk(call.call_id, (output,), is_last, tokens))
    return chunks


def _text(one: Json) -> str:
    """An input of any task as one string."""
    if isinstance(one, str):
        return one
    if isinstance(one, dict):
        if isinstance(one.get("documents"), list):
            return "\n".join((str(one.get("query")), *map(str, one["documents"])))
        if isinstance(one.get("passage"), str):
            return f"{one.get('question')}\n{one['passage']}"
        for key in ("text", "prompt"):
            if isinstance(one.get(key), str):
                return str(one[key])
        if isinstance(one.get("prompt"), list):
            return " ".join(map(str, one["prompt"]))
        if isinstance(one.get("tokens"), list):
            return " ".join(map(str, one["tokens"]))
        if isinstance(one.get("messages"), list):
            return "\n".join(f"{m.get('role')}: {m.get('content')}" for m in one["messages"])
    return str(one)


def _count(one: Json) -> int:
    return len(_text(one).split())


def _make_answer(output: Json) -> int:
    if not isinstance(output, dict):
        return 0
    text = output.get("text") or output.get("message", {}).get("content") or ""
    return len(text.split())


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=4).digest(), "big")
