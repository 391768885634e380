"""How tests say which error they wait for: by its type and its details, for its sentence may be written better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from llmos.abi.error import LlmosError

ABSENT = "(not there)"
E = TypeVar("E", bound=Exception)
L = TypeVar("L", bound=LlmosError)


class Failure(Generic[E]):
    """The error that a block ended with; `value` is there once it has ended."""

    value: E


@contextmanager
def fails_with(kind: type[L], /, **detail: Any) -> Iterator[Failure[L]]:  # Any: see Detail
    """The block must raise exactly this type, with at least these details; `...` stands for any value."""
    failure: Failure[L] = Failure()
    try:
        yield failure
    except kind as error:
        failure.value = error
    else:
        raise AssertionError(f"Nothing failed, and {kind.__name__} was expected")
    actual = type(failure.value)
    assert actual is kind, f"{actual.__name__}, not {kind.__name__}: {failure.value}"
    assert_detail(failure.value.detail, detail, str(failure.value))


def assert_detail(actual: Mapping[str, Any], expected: Mapping[str, Any], about: str) -> None:  # Any: see Detail
    """An error has at least these details; `...` stands for any value."""
    shown = {key: actual.get(key, ABSENT) for key in expected}
    wanted = {key: shown[key] if value is ... and key in actual else value for key, value in expected.items()}
    assert shown == wanted, f"{shown}, not {dict(expected)}, of {dict(actual)}: {about}"


@contextmanager
def answers_with(kind: type[Exception], code: str, /, **detail: Any) -> Iterator[Failure[Any]]:  # Any: a client's error
    """The block must raise this error of OpenAI's client, for a refusal of this code with at least these details."""
    failure: Failure[Any] = Failure()  # Any: likewise
    try:
        yield failure
    except kind as error:
        failure.value = error
    else:
        raise AssertionError(f"Nothing failed, and {kind.__name__} was expected")
    body = failure.value.body
    assert body["code"] == code, f"{body['code']}, not {code}: {body['message']}"
    assert_detail(body["detail"], detail, body["message"])
