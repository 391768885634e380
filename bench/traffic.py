"""Traffic: what a soak asks, the right answer to each made by asking it alone, and callers who leave and run late."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

import numpy as np

from llmos.abi.json_type import Json

PRIORITIES = ("interactive", "interactive", "batch", "background")
STREAMED = 0.5  # of the calls that generate
LEAVE, HURRY = 0.12, 0.12  # of all calls: whose caller goes away, and whose time is short
PATIENCE_S = (0.0, 1.5)  # so long does somebody who leaves stay
HURRY_S = (0.02, 1.0)
TIMEOUT_S = 300.0
CLOSED = (BrokenPipeError, ConnectionResetError)  # how a server's end of what it held for idle shows here
LEAST_MARGIN = 1e-3  # nats: where the two likeliest tokens are nearer, the order of a sum may decide between them
CLOSE = 1e-5  # of vectors and scores: the order of a sum


class Wrong(Exception):
    """An answer is not the right one."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call. `right` is what it must be answered, None where nobody has asked it alone yet; `rule` what every text
    of it must match where the right one is not known."""

    task: str
    model: str
    inputs: tuple[Json, ...]
    params: dict[str, Json]
    right: tuple[Json, ...] | None = None
    rule: str | None = None

    @property
    def is_text(self) -> bool:
        return self.task in ("generate", "chat")

    def of(self, model: str) -> Question:
        """The same to another model."""
        return replace(self, model=model)

    def check(self, outputs: Sequence[Json]) -> None:
        """Wrong if these are not the right answers."""
        if self.rule is not None:
            for text in map(self.text, outputs):
                if not re.fullmatch(self.rule, text):
                    raise Wrong(f"{self}: {text!r} does not match {self.rule}")
            return
        assert self.right is not None, f"{self} was never asked alone"
        right = self.right * (self.params.get("n") or 1)
        if len(outputs) != len(right):
            raise Wrong(f"{self}: {len(outputs)} answers, not {len(right)}")
        for index, (one, other) in enumerate(zip(outputs, right, strict=True)):
            if self.is_text and self.text(one) != other:
                raise Wrong(f"{self}: {self.text(one)!r}, alone {other!r}")
            if not self.is_text and not same(one, other):
                raise Wrong(f"{self} input {index}: {str(one)[:200]}, alone {str(other)[:200]}")

    def check_beginning(self, text: str) -> None:
        """Wrong if the right answer does not begin like this."""
        if self.rule is None and self.right is not None and not self.right[0].startswith(text):
            raise Wrong(f"{self}: began {text!r}, alone {self.right[0]!r}")

    def text(self, output: Json) -> str:
        return str(output["message"].get("content") or "" if self.task == "chat" else output["text"])

    def __str__(self) -> str:
        return f"{self.task} by {self.model} of {str(self.inputs[0])[:60]!r}... {self.params}"


def same(one: Json, other: Json) -> bool:
    """The same JSON, where numbers may differ by what the order of a sum makes of them."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and one and isinstance(one[0], float):
        return len(one) == len(other) and bool(np.abs(np.subtract(one, other)).max() <= CLOSE)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return abs(one - other) <= CLOSE if isinstance(one, float) else bool(one == other)


class Caller:
    """One who asks, over a connection of its own. How a call ended is `answered`, `left`, or an error's code."""

    def __init__(self, url: str, seed: int, *, is_calm: bool = False) -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=TIMEOUT_S)
        self._random = random.Random(seed)
        self._is_calm = is_calm  # never leaves, is never in a hurry
        self._is_new = True  # the connection carries its first call

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def alone(self, question: Question) -> tuple[Question, float]:
        """The question with its right answer, and how surely each of its tokens was chosen (see LEAST_MARGIN)."""
        params = dict(question.params) | {"n": 1}
        if not question.is_text:
            outputs = self._outputs(question, question.params)
            return replace(question, right=tuple(outputs)), math.inf
        params |= {"logprobs": True, "top_logprobs": 2, "cache_salt": f"alone {self._random.random()}"}
        outputs = self._outputs(question, params)
        margins = [margin(entry) for one in outputs for entry in one["logprobs"]]
        right = tuple(question.text(one) for one in outputs)
        return replace(question, right=right), min(margins, default=math.inf)

    def ask(self, question: Question) -> tuple[str, int]:
        """One call, as luck has it: how it ended, and how many answers it brought. Wrong where one is wrong."""
        body = self._body(question, question.params) | {"priority": self._random.choice(PRIORITIES)}
        luck = 1.0 if self._is_calm else self._random.random()
        stays_s = self._random.uniform(*PATIENCE_S) if luck < LEAVE else None
        if LEAVE <= luck < LEAVE + HURRY:
            body["timeout_s"] = round(self._random.uniform(*HURRY_S), 3)
        body["stream"] = (
            question.is_text
            and len(question.inputs) == 1
            and not question.params.get("n")
            and self._random.random() < STREAMED
        )
        try:
            return self._exchange(question, body, stays_s)
        except (HTTPException, OSError) as error:
            self._connection.close()
            return f"connection: {error!r}", 0

    def _exchange(self, question: Question, body: Json, stays_s: float | None) -> tuple[str, int]:
        if stays_s is not None and not body["stream"]:
            self._send(question, body)
            time.sleep(stays_s)
            self._connection.close()
            return "left", 0
        response = self._response(question, body)
        if body["stream"] and response.status == 200:
            return self._read_stream(question, response, stays_s)
        answer = json.loads(response.read())
        if response.status != 200:
            return answer["error"]["code"], 0
        question.check(answer["outputs"])
        return "answered", len(answer["outputs"])

    def _read_stream(self, question: Question, response: HTTPResponse, stays_s: float | None) -> tuple[str, int]:
        """The pieces of a stream make the right answer; a part of one is how the right one begins."""
        leaves_at = math.inf if stays_s is None else time.monotonic() + stays_s
        text = ""
        for line in response:
            if not line.startswith(b"data: "):
                continue
            piece = json.loads(line[6:])
            if "error" in piece:
                response.read()
                question.check_beginning(text)
                return str(piece["error"]["code"]), 0
            text += "".join(map(question.text, piece["outputs"]))
            if piece["done"]:
                response.read()
                question.check([_output(question, text)])
                return "answered", 1
            if time.monotonic() >= leaves_at:
                self._connection.close()
                question.check_beginning(text)
                return "left", 0
        raise Wrong(f"{question}: the stream ended before the answer")

    def _outputs(self, question: Question, params: Json) -> list[Json]:
        response = self._response(question, self._body(question, params))
        answer = json.loads(response.read())
        if response.status != 200:
            raise Wrong(f"{question}: {answer['error']['message']}")
        return list(answer["outputs"])

    def _body(self, question: Question, params: Json) -> dict[str, Json]:
        return {"model": question.model, "inputs": list(question.inputs), "params": params}

    def _response(self, question: Question, body: Json) -> HTTPResponse:
        """The answer's beginning. Where a kept connection was closed meanwhile, the call is sent again on a new one."""
        self._send(question, body)
        try:
            return self._connection.getresponse()
        except CLOSED:
            if self._is_new:
                raise
        self._connection.close()
        self._send(question, body)
        return self._connection.getresponse()

    def _send(self, question: Question, body: Json) -> None:
        self._is_new = self._connection.sock is None
        try:
            self._request(question, body)
        except CLOSED:
            if self._is_new:
                raise
            self._connection.close()  # it opens again by itself
            self._send(question, body)

    def _request(self, question: Question, body: Json) -> None:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/v1/tasks/{question.task}", json.dumps(body), headers)


def margin(entry: Json) -> float:
    """How much likelier the token that was chosen is than the next."""
    others = [one["logprob"] for one in entry["top_logprobs"] if one["bytes"] != entry["bytes"]]
    return float(entry["logprob"] - max(others, default=-math.inf))


def _output(question: Question, text: str) -> Json:
    return {"message": {"content": text}} if question.task == "chat" else {"text": text}
