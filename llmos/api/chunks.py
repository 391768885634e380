"""Chunks of a streamed chat or completion, in the order that OpenAI's clients expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from llmos.abi.json_type import Json


class Choices(Protocol):
    """Converts the chunks of a streamed answer to OpenAI's choices."""

    def of(self, piece: Json) -> Iterator[Json]:
        """The choices for the newest chunk of the task's output."""
        ...


class ChatChoices:
    """Chat choices: `role` only in the first delta, then content and tool calls, then `finish_reason` in a chunk of its
    own.

    Clients keep answers in a list by index, so the first deltas come in the order of `index`. A tool call's `id` and
    name come before its arguments. Clients close an answer at `finish_reason`, so nothing may come with or after it.
    """

    def __init__(self) -> None:
        self._opened = 0  # answers whose first delta was sent

    def of(self, piece: Json) -> Iterator[Json]:
        index, message = piece.get("index", 0), piece["message"]
        content, calls, scored = message.get("content"), message.get("tool_calls") or [], piece.get("logprobs")
        if content or calls or scored or piece["finish_reason"]:
            yield from self._openings(index, None if calls and not content else "")
        if content or scored:
            yield _delta(index, {"content": content or ""}, scored)
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            yield _delta(index, {"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
            yield _delta(index, {"tool_calls": [{"index": call["index"], "function": {"arguments": arguments}}]})
        if piece["finish_reason"]:
            yield _delta(index, {}, reason=piece["finish_reason"])

    def _openings(self, index: int, content: str | None) -> Iterator[Json]:
        """The first deltas of this answer and of those before it that have none yet."""
        for at in range(self._opened, index + 1):
            yield _delta(at, {"role": "assistant", "content": content if at == index else None})
        self._opened = max(self._opened, index + 1)


def _delta(index: int, delta: Json, scored: list[Json] | None = None, reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": chat_logprobs(scored), "finish_reason": reason}


def chat_logprobs(scored: list[Json] | None) -> Json:
    """Log-probabilities in the format of chats."""
    return None if scored is None else {"content": scored, "refusal": None}


class TextChoices:
    """Choices of a plain completion: pieces of text, then `finish_reason` in a chunk of its own."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}  # characters of each answer so far, for the text offsets of logprobs

    def of(self, piece: Json) -> Iterator[Json]:
        index, text, scored = piece.get("index", 0), piece["text"], piece.get("logprobs")
        start = self._lengths.get(index, 0)
        self._lengths[index] = start + len(text)
        if text or scored:
            yield text_choice(index, text, scored, start=start)
        if piece["finish_reason"]:
            yield text_choice(index, "", reason=piece["finish_reason"])


def text_choice(
    index: int, text: str, scored: list[Json] | None = None, *, start: int = 0, reason: str | None = None
) -> Json:
    """A choice of a plain completion whose text begins at character `start` of the answer."""
    logprobs = None if scored is None else _columns(scored, start)
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _columns(scored: list[Json], start: int) -> Json:
    """Log-probabilities in the format of completions: one list per field, and the text offset of each token.

    The first token of a prompt that is repeated has none.
    """
    offsets, at = [], start
    for one in scored:
        offsets.append(one.get("text_offset", at))
        at = offsets[-1] + len(one["token"])
    return {
        "tokens": [one["token"] for one in scored],
        "token_logprobs": [one["logprob"] for one in scored],
        "top_logprobs": [None if one["logprob"] is None else _alternatives(one["top_logprobs"]) for one in scored],
        "text_offset": offsets,
    }


def _alternatives(tops: list[Json]) -> dict[str, float]:
    """The likeliest tokens by their text; of two with the same text the likelier."""
    found: dict[str, float] = {}
    for top in tops:
        found.setdefault(top["token"], top["logprob"])
    return found
