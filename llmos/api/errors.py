"""Errors as HTTP: the one place that knows status numbers, and the one shape of every refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from llmos.abi.error import (
    BadInput,
    Busy,
    Cancelled,
    Conflict,
    Corrupt,
    Fault,
    Forbidden,
    HeadTooLarge,
    LlmosError,
    NoRoom,
    NotFound,
    TimedOut,
    TooLong,
    TooSlow,
    Unauthorized,
    Unavailable,
    fault_of,
)

STATUS: dict[type[BaseException], int] = {
    BadInput: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLong: 413,
    HeadTooLarge: 431,
    TooSlow: 408,
    Cancelled: 409,
    Busy: 429,
    TimedOut: 504,
    Unavailable: 503,
    NoRoom: 507,
    Corrupt: 500,
    LlmosError: 500,
}
WRONG_METHOD = 405
CREATED = 201
NO_CONTENT = 204


def status_of(error: BaseException) -> int:
    """The HTTP status of an error: of its class or of the nearest parent; 500 for anything else."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def body_of(fault: Fault, status: int) -> dict[str, dict[str, object]]:
    """The body of every refusal; `message`, `type`, `param` and `code` are those that OpenAI's clients read."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    detail = fault.detail
    return {
        "error": {
            "message": fault.message,
            "type": kind,
            "param": detail.get("key"),
            "code": fault.code,
            "detail": detail,
        }
    }


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How the clients of one product read a refusal: its body, from a fault and the HTTP status.

    `kind` is the body's type; without one, the body is ours.
    """

    body: Callable[[Fault, int], object]
    kind: Any = None  # Any: a type expression that msgspec can describe

    def of(self, error: BaseException) -> object:
        """The body of the refusal for this error."""
        return self.body(fault_of(error), status_of(error))


OURS = ErrorShape(body_of)


def shape_of(error: BaseException) -> dict[str, dict[str, object]]:
    """The body of the refusal for this error."""
    return body_of(fault_of(error), status_of(error))


def refusal(
    error: BaseException,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    shape: ErrorShape = OURS,
) -> Response:
    """The response to a request that failed with this error."""
    number = status_of(error) if status is None else status
    if isinstance(error, Unauthorized):
        sent = ', error="invalid_token"' if error.detail.get("reason") != "missing" else ""
        headers = {**(headers or {}), "WWW-Authenticate": f'Bearer realm="llmos"{sent}'}
    if isinstance(error, Busy):
        headers = {**(headers or {}), "Retry-After": str(error.detail.get("retry_after_s", 1))}
    body = msgspec.json.encode(shape.body(fault_of(error), number), enc_hook=repr)
    return Response(body, number, headers, "application/json")
