"""The record of a call: its id, who asked which version, how it ended and, where it may be kept, its text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llmos.abi.json_type import Json

PREFIX = "req_"
TIME_DIGITS = 8  # hexadecimal digits of an id that follow the prefix, and say when the call came
CALL_ID = re.compile(r"req_([0-9a-f]{8})[0-9a-f]{16}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MOST_USER = 256  # characters of a user's name that are kept
SAMPLE_DIGITS = 8  # hexadecimal digits of an id that decide whether the call is sampled
SAMPLES = 1 << 32
# the fields of an output that say what was answered; scores of every label are left out
ANSWER_FIELDS = frozenset(
    ("label", "labels", "spans", "text", "message", "answer", "score", "ranking", "index", "finish_reason")
)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call that has ended.

    `id` is the answer's `x-request-id`. `key` is the id of the key it was made with, empty for none. `outcome` is ok,
    or the error's code. `inputs` and `outputs` are None where their text is not kept; `outputs` say what was answered,
    without the scores of other labels.
    """

    id: str
    at: float
    seconds: float
    path: str
    model: str
    task: str
    outcome: str
    count: int  # of inputs
    key: str = ""
    user: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    inputs: tuple[Json, ...] | None = None
    outputs: tuple[Json, ...] | None = None


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which records are meant: of a version or name, a user, an outcome, a day; of these the newest `limit`."""

    model: str = ""
    user: str = ""
    outcome: str = ""
    day: str = ""
    limit: int = 20


def new_call_id(now: float) -> str:
    """A new id: its time in seconds, then 64 random bits. The time says in which day's file the call was logged."""
    return f"{PREFIX}{int(now) & 0xFFFFFFFF:08x}{os.urandom(8).hex()}"


def day_of(at: float) -> str:
    """The day of this time, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def second_of_call(call_id: str) -> int | None:
    """The second in which a call of this id came in; None for what is no id of a call."""
    found = CALL_ID.fullmatch(call_id)
    return None if found is None else int(found[1], 16)


def day_of_call(call_id: str) -> str | None:
    """The day on which a call of this id came in; None for what is no id of a call."""
    second = second_of_call(call_id)
    return None if second is None else day_of(second)


def is_sampled(call_id: str, share: float) -> bool:
    """Whether a call of this id is among a share of all calls: its last random bits decide."""
    return int(call_id[-SAMPLE_DIGITS:], 16) < share * SAMPLES


def user_of(given: object) -> str:
    """A user's name as records have it: at most 256 characters; empty for what is no text."""
    return given[:MOST_USER] if isinstance(given, str) else ""


def answers_of(outputs: Sequence[Json]) -> tuple[Json, ...]:
    """What each output answered; empty if an output has no answer, as a vector has none."""
    kept: list[Json] = []
    for one in outputs:
        answer = {name: value for name, value in one.items() if name in ANSWER_FIELDS} if isinstance(one, dict) else {}
        if not answer:
            return ()
        kept.append(answer)
    return tuple(kept)


def join_pieces(pieces: Sequence[Json]) -> tuple[Json, ...]:
    """The whole answers of a stream's pieces, one for each index."""
    whole: dict[int, dict[str, Json]] = {}
    for piece in pieces:
        index = int(piece.get("index", 0))
        before = whole.setdefault(index, dict(piece))
        if before.get("finish_reason") is None:
            before["finish_reason"] = piece.get("finish_reason")
    for index, answer in whole.items():
        own = [piece for piece in pieces if int(piece.get("index", 0)) == index]
        if "text" in answer:
            answer["text"] = "".join(str(piece.get("text") or "") for piece in own)
        if "message" in answer:
            said = "".join(str((piece.get("message") or {}).get("content") or "") for piece in own)
            calls = [call for piece in own for call in (piece.get("message") or {}).get("tool_calls") or ()]
            answer["message"] = {"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})}
    return answers_of([whole[index] for index in sorted(whole)])
