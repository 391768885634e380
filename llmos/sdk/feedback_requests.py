"""What the client's verbs of feedback, learning and the request log send, and how their answers are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from llmos.abi.call_record import CallRecord
from llmos.abi.call_trace import CallTrace
from llmos.abi.feedback import FeedbackRow
from llmos.abi.json_type import Json
from llmos.abi.learning import LearningState
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request

T = TypeVar("T")


def requests(**wanted: Json) -> Request[list[CallRecord]]:
    query = {key: str(value) for key, value in wanted.items() if value is not None}
    return Request("GET", "/v1/requests", _list_of(CallRecord), query=query)


def request(call: str) -> Request[CallRecord]:
    return Request("GET", f"/v1/requests/{quote(call, safe='')}", lambda answer: from_plain(answer, CallRecord))


def call_trace(call: str) -> Request[CallTrace]:
    return Request("GET", f"/v1/requests/{quote(call, safe='')}/trace", lambda answer: from_plain(answer, CallTrace))


def erase_requests(user: str) -> Request[int]:
    return Request("DELETE", "/v1/requests", _erased_count, query={"user": user})


def give_feedback(**said: Json) -> Request[FeedbackRow]:
    body = {key: value for key, value in said.items() if value is not None}
    return Request("POST", "/v1/feedback", lambda answer: from_plain(answer, FeedbackRow), body)


def feedback_rows(**wanted: Json) -> Request[list[FeedbackRow]]:
    query = {key: str(value) for key, value in wanted.items() if value is not None}
    return Request("GET", "/v1/feedback", _list_of(FeedbackRow), query=query)


def erase_feedback(user: str) -> Request[int]:
    return Request("DELETE", "/v1/feedback", _erased_count, query={"user": user})


def learn(name: str, when: str | None, source: str) -> Request[LearningState]:
    """The order, or with None how learning stands."""
    body = None if when is None else {"from": source, "when": when}
    return Request("GET" if when is None else "POST", _learning(name), _state, body)


def stop_learning(name: str) -> Request[LearningState]:
    return Request("DELETE", _learning(name), _state)


def _learning(name: str) -> str:
    return f"/v1/models/{quote(name)}/learning"


def _state(answer: Json) -> LearningState:
    return from_plain(answer, LearningState)


def _erased_count(answer: Json) -> int:
    return int(answer["erased"])


def _list_of(kind: type[T]) -> Callable[[Json], list[T]]:
    return lambda answer: from_plain(answer["data"], list[kind])  # type: ignore[valid-type]  # a type held in a name
