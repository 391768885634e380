"""Translates calls to vLLM's requests, and its streams to deltas."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from llmos.abi.error import BadInput, ProcessDied, Unavailable
from llmos.abi.json_type import Json
from llmos.engines.external_generation import Delta, Leg
from llmos.engines.vllm.server import HOST, VllmServer
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import JSON_SCHEMA, LARK

DATA = b"data: "
DONE = b"[DONE]"


class Vllm:
    """Implements external_generation.Writer."""

    def __init__(self, server: VllmServer, model: str, tokenizer: FastTokenizer, slots: int, room: int) -> None:
        self.tokenizer = tokenizer
        self.slots, self.room, self.capacity = slots, room, slots * room  # vLLM queues what exceeds its KV cache
        self.vocabulary = tokenizer.size
        self._server = server
        self._model = model

    def check(self, settings: Sampling) -> None:
        if settings.grammar is not None and settings.grammar.kind == LARK:
            raise BadInput(
                "vLLM has another grammar syntax, so it cannot follow this grammar. Send json_schema or "
                "regex, or ask another engine: pytorch",
                key=settings.grammar.param,
            )

    def write(self, leg: Leg, say: Callable[[Delta], None]) -> None:
        connection = http.client.HTTPConnection(HOST, self._server.port)
        try:
            connection.connect()
            leg.wake = lambda: _cut(connection.sock)
            if not leg.is_over:
                self._write(leg, say, connection)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if leg.is_over:  # the connection was cut on purpose
                return
            if self._server.has_ended:
                raise self._server.death() from error
            raise ProcessDied(f"The connection to vLLM's server broke: {error!r}. Send it again") from error
        finally:
            leg.wake = None
            connection.close()

    def _write(self, leg: Leg, say: Callable[[Delta], None], connection: http.client.HTTPConnection) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._server.key}"}
        body = json.dumps(body_of(self._model, leg.ids, leg.settings, leg.salt))
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise _refusal(answer.status, answer.read())
        reason, made = None, 0
        scored: list[Json] = []
        for event in _events(answer):
            if "error" in event:
                raise _refusal(500, json.dumps(event).encode())
            made = int((event.get("usage") or {}).get("completion_tokens", made))
            for choice in event.get("choices", ()):
                reason = choice.get("finish_reason") or reason
                scored += _entries(choice.get("logprobs"), leg.settings.top_logprobs or 0)
                if choice.get("text"):
                    say(Delta(choice["text"], None, tuple(scored)))
                    scored = []
        if reason is None:
            raise ProcessDied("vLLM's server ended the answer before it was complete. Send it again", reason="cut")
        say(Delta("", "stop" if reason == "stop" else "length", tuple(scored), made))


def body_of(model: str, ids: list[int], settings: Sampling, salt: str) -> Json:
    """One answer's request in vLLM's format."""
    body: Json = {
        "model": model,
        "prompt": ids,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p or 1e-6,  # vLLM refuses 0, which means the likeliest token alone
        "top_k": settings.top_k,
        "min_p": settings.min_p,
        "repetition_penalty": settings.repetition_penalty,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "stop": list(settings.stop),
    }
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in settings.logit_bias}
    if settings.top_logprobs is not None:
        body["logprobs"] = settings.top_logprobs
    if settings.grammar is not None:
        is_json = settings.grammar.kind == JSON_SCHEMA
        rule = {"json": json.loads(settings.grammar.text)} if is_json else {"regex": settings.grammar.text}
        body["structured_outputs"] = rule
    if salt:
        body["cache_salt"] = salt
    return body


def _events(answer: http.client.HTTPResponse) -> Iterator[Json]:
    while line := answer.readline():
        if line.startswith(DATA):
            data = line[len(DATA) :].strip()
            if data == DONE:
                return
            yield json.loads(data)


def _entries(columns: Json, top: int) -> list[Json]:
    """vLLM's columns of log-probabilities as one entry per token."""
    if not columns:
        return []
    likeliest = columns.get("top_logprobs") or [None] * len(columns["tokens"])
    rows = zip(columns["tokens"], columns["token_logprobs"], likeliest, strict=True)
    return [
        {
            **_format_error(token, logprob),
            "top_logprobs": [
                _format_error(*one) for one in sorted((others or {}).items(), key=lambda one: -one[1])[:top]
            ],
        }
        for token, logprob, others in rows
    ]


def _format_error(token: str, logprob: float) -> Json:
    return {"token": token, "bytes": list(token.encode()), "logprob": logprob}


def _refusal(status: int, data: bytes) -> Exception:
    try:
        error = json.loads(data)
        message = (error.get("error") or error).get("message", str(error))
    except (ValueError, AttributeError):
        message = data.decode(errors="replace")
    said = " ".join(str(message).split())[:400]
    if status in (400, 404, 413, 422):
        return BadInput(f"vLLM refuses this: {said}")
    return Unavailable(f"vLLM could not answer ({status}): {said}. Send it again")


def _cut(line: socket.socket | None) -> None:
    """Shut down a connection, which wakes the thread that waits on it."""
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
