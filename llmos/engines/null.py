"""The null driver: answers every task from hashes of the input, so that all around it runs and nothing is computed."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import LlmosError, ModelNotFound, fault_of
from llmos.abi.frame import Located
from llmos.abi.model import Manifest
from llmos.tasks import task
from llmos.tasks.zeroshot import described, refuse_labels

Json = Any  # Any: a JSON value whose schema belongs to the task

DIM = 32
WORDS = ("yes", "the", "box", "hears", "you", "and", "answers", "from", "nothing", "but", "a", "hash")
MAX_NEW_TOKENS = 8
LABELS = ("A", "B")  # of a base that is asked to classify or tag, and has none of its own


@dataclass(slots=True)
class Generation:
    """A streamed call: the pieces still to send."""

    call: Call
    pieces: list[str]
    reason: str
    prompt_tokens: int
    made: int = 0


class NullEngine:
    """A whole driver: the same input to the same model always gives the same answer."""

    uses_resident = False

    def __init__(self, token_budget: int = 0) -> None:
        """The budget is for drivers that compute: a hash of any text costs the same."""
        self._models: dict[str, Manifest] = {}
        self._calls: dict[int, Call] = {}
        self._streams: dict[int, Generation] = {}

    def load(self, base: Located, device: str, dtype: str, threads: int) -> int:
        self._models[base.manifest.ref] = base.manifest
        return 0

    def attach(self, model: Located) -> None:
        self._models[model.manifest.ref] = model.manifest

    def detach(self, model: str) -> None:
        self._models.pop(model, None)

    def add(self, call: Call) -> None:
        if call.model not in self._models:
            raise ModelNotFound(f"{call.model} is not attached here")
        checked = tuple(task(call.task).check(one) for one in call.inputs)
        if call.stream and call.task in ("chat", "generate"):
            pieces, reason = _words(call.model, checked[0], call.params)
            self._streams[call.call_id] = Generation(call, pieces, reason, _count(checked[0]))
        else:
            self._calls[call.call_id] = call

    def cancel(self, call_id: int) -> None:
        self._calls.pop(call_id, None)
        self._streams.pop(call_id, None)

    def step(self) -> list[Chunk]:
        """Every whole answer that waits, and the next piece of every streamed one."""
        calls, self._calls = self._calls, {}
        chunks = [self._answered(call) for call in calls.values()]
        for generation in list(self._streams.values()):
            chunks.append(_next_piece(generation))
            if chunks[-1].is_last:
                del self._streams[generation.call.call_id]
        return chunks

    @property
    def is_idle(self) -> bool:
        return not self._calls and not self._streams

    def _answered(self, call: Call) -> Chunk:
        try:
            manifest = self._models[call.model]
            answer = ANSWERS[call.task]
            outputs = tuple(answer(manifest, task(call.task).check(one), call.params) for one in call.inputs)
        except (LlmosError, KeyError) as error:
            return Chunk(call.call_id, fault=fault_of(error))
        prompt = sum(_count(one) for one in call.inputs)
        return Chunk(call.call_id, outputs, tokens=Tokens(prompt, sum(map(_made, outputs))))


def _classify(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    if manifest.labels:
        refuse_labels(manifest.ref, manifest.labels, params)
    labels = manifest.labels or (tuple(described(params["labels"])) if "labels" in params else LABELS)
    weights = [_hash(manifest.ref, _text(one), label) + 1 for label in labels]
    scores = {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}
    if manifest.options.get("multi_label"):
        threshold = float(params.get("threshold") or manifest.options.get("threshold") or 0.5)
        return {"labels": [label for label, score in scores.items() if score >= threshold], "scores": scores}
    best = max(scores, key=scores.__getitem__)
    return {"label": best, "score": scores[best], "scores": scores}


def _tag(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    """Every third word, about, is an entity."""
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
    """Some word of the passage, unless the question's hash is divisible by eight."""
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
    """Of a text and itself 1, of two others whatever their hash says."""
    return 1.0 if one == other else _hash(manifest.ref, *sorted((one, other))) / 2**31 - 1.0


def _generate(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    words, reason = _words(manifest.ref, one, params)
    return {"text": "".join(words), "finish_reason": reason}


def _chat(manifest: Manifest, one: Json, params: dict[str, Json]) -> Json:
    words, reason = _words(manifest.ref, one, params)
    return {"message": {"role": "assistant", "content": "".join(words)}, "finish_reason": reason}


ANSWERS: dict[str, Callable[[Manifest, Json, dict[str, Json]], Json]] = {
    "classify": _classify,
    "tag": _tag,
    "embed": _embed,
    "answer": _answer,
    "similarity": _similarity,
    "rerank": _rerank,
    "generate": _generate,
    "chat": _chat,
}


def _words(model: str, one: Json, params: dict[str, Json]) -> tuple[list[str], str]:
    limit = params.get("max_tokens")
    count = MAX_NEW_TOKENS if not isinstance(limit, int) else min(limit, MAX_NEW_TOKENS)
    words = [WORDS[_hash(model, _text(one), str(params.get("seed")), str(i)) % len(WORDS)] for i in range(count)]
    return [word if i == 0 else f" {word}" for i, word in enumerate(words)], (
        "stop" if count == MAX_NEW_TOKENS else "length"
    )


def _next_piece(generation: Generation) -> Chunk:
    call, piece = generation.call, generation.pieces.pop(0) if generation.pieces else ""
    is_last = not generation.pieces
    generation.made += 1 if piece else 0
    reason = {"finish_reason": generation.reason if is_last else None}
    if call.task == "chat":
        output = {"message": {"role": "assistant", "content": piece}, **reason}
    else:
        output = {"text": piece, **reason}
    return Chunk(call.call_id, (output,), is_last, Tokens(generation.prompt_tokens, generation.made))


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
        if isinstance(one.get("tokens"), list):
            return " ".join(map(str, one["tokens"]))
        if isinstance(one.get("messages"), list):
            return "\n".join(f"{m.get('role')}: {m.get('content')}" for m in one["messages"])
    return str(one)


def _count(one: Json) -> int:
    return len(_text(one).split())


def _made(output: Json) -> int:
    if not isinstance(output, dict):
        return 0
    text = output.get("text") or output.get("message", {}).get("content", "")
    return len(text.split())


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=4).digest(), "big")
