"""The error tree: every failure a user can meet, as a sentence with a way out and a stable code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

Detail = dict[str, Any]  # Any: whatever JSON holds; each error says which keys it fills


class LlmosError(Exception):
    """The base class of all errors here. `code` and the keys of `detail` are stable; the message may be improved."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **detail: Any) -> None:  # Any: see Detail
        super().__init__(message)
        self.message = message
        self.detail: Detail = detail


class BadInput(LlmosError):
    """The request or the data is wrong; the same again fails the same way.

    Detail, as far as it applies: key, value and expected of a field; size and limit; model, task, file, path; `lacks`,
    what is not there; `reason`, a word that tells causes apart which have no other detail.
    """

    code = "bad_input"


class BadRow(BadInput):
    """A data file has a row that cannot be used; detail: file, line, value, and kind, a word for the problem."""

    code = "bad_row"


class BadSuite(BadInput):
    """A behaviour suite says something that cannot be tested; detail: file, line."""

    code = "bad_suite"


class BadSetting(BadInput):
    """A setting has an invalid value; detail: key, value, expected."""

    code = "bad_setting"


class WrongTask(BadInput):
    """The model exists, but it does another task; detail: model, task, has."""

    code = "wrong_task"


class OwnAnswer(BadInput):
    """The feedback comes from a model, and models do not learn from what models say; detail: key."""

    code = "own_answer"


class UnknownLabel(BadInput):
    """The label is none of the model's; detail: key, value, near."""

    code = "unknown_label"


class TooLong(BadInput):
    """The input has more tokens than the model takes, or more bytes than the server does; detail: size, limit.

    `unit` is set if these are not tokens; `context` is the model's limit including the answer.
    """

    code = "too_long"


class Crashed(BadInput):
    """The process crashed while it took this call in, and would crash again; detail: pid."""

    code = "crashed"


class HeadTooLarge(TooLong):
    """The request line and headers have too many bytes or fields; detail: limit."""

    code = "head_too_large"


class TooSlow(BadInput):
    """The request was not sent in time."""

    code = "too_slow"


class ContextLengthExceeded(BadInput):
    """TooLong for the model, under the code that OpenAI's clients know; detail: size, limit."""

    code = "context_length_exceeded"


class UnsafeWeights(BadInput):
    """The weights are pickled, and reading them would run code; only safetensors and GGUF are read."""

    code = "unsafe_weights"


class BadHost(BadInput):
    """The request's Host header is missing, repeated, or malformed (RFC 9112, 3.2)."""

    code = "bad_host"


class Unauthorized(LlmosError):
    """The request has no valid key; detail: reason, which is missing, unknown or expired.

    The code is the one that OpenAI's clients know.
    """

    code = "invalid_api_key"


class Forbidden(LlmosError):
    """The daemon does not allow this; detail: key, the setting that would allow it, and value."""

    code = "forbidden"


class ScopeMissing(Forbidden):
    """The request's key lacks a scope; detail: needs, of which one is enough, and has."""

    code = "scope_missing"


class ModelNotAllowed(Forbidden):
    """The request's key is not for this model; detail: model."""

    code = "model_not_allowed"


class HostNotAllowed(Forbidden):
    """The request is for a host that is not this daemon's; detail: key, value."""

    code = "host_not_allowed"


class OriginNotAllowed(Forbidden):
    """The request comes from a web page of another origin; detail: key, value."""

    code = "origin_not_allowed"


class PathNotAllowed(Forbidden):
    """The request names a file that the daemon may not read for it; detail: key, value."""

    code = "path_not_allowed"


class NotLoopback(Forbidden):
    """The listening address is reachable from other machines; detail: key, value."""

    code = "not_loopback"


class NotFound(LlmosError):
    """Something that the request names does not exist."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No such model or version in the store."""

    code = "model_not_found"


class ProcessNotFound(NotFound):
    """No process has this pid."""

    code = "process_not_found"


class DatasetNotFound(NotFound):
    """No such dataset in the store."""

    code = "dataset_not_found"


class KeyNotFound(NotFound):
    """No key has this id; detail: id."""

    code = "key_not_found"


class UploadNotFound(NotFound):
    """No uploaded file has this id, or its time is over; detail: upload."""

    code = "upload_not_found"


class Conflict(LlmosError):
    """The request is valid, but conflicts with the present state."""

    code = "conflict"


class AlreadyRunning(Conflict):
    """Another daemon holds this home, or another program this port; detail: home or port."""

    code = "already_running"


class IllegalMove(Conflict):
    """The process's state does not allow this; detail: pid, state."""

    code = "illegal_move"


class NoRoom(LlmosError):
    """The device lacks the bytes that this needs; detail: device, need_bytes, free_bytes."""

    code = "no_room"


class DiskFull(NoRoom):
    """The disk under the home is full; nothing half-written is left; detail: path, need_bytes, free_bytes."""

    code = "disk_full"


class Unavailable(LlmosError):
    """Not possible now; the same request may work later."""

    code = "unavailable"


class Busy(Unavailable):
    """The queue of this priority is full; detail: model, waiting, limit, retry_after_s."""

    code = "busy"


class RateLimited(Busy):
    """A key has used what it may; detail: limit, used, unit, per (minute, day or moment), retry_after_s.

    The code is the one that OpenAI's clients know.
    """

    code = "rate_limit_exceeded"


class TimedOut(Unavailable):
    """The answer was not ready in time, and the call was cancelled; detail: timeout_s."""

    code = "timed_out"


class ProcessDied(Unavailable):
    """The process of the call ended before it answered, and the call may not be sent again."""

    code = "process_died"


class FeedbackLost(Unavailable):
    """The row of feedback could not be written, and is not kept."""

    code = "feedback_lost"


class Offline(Unavailable):
    """A source outside this machine could not be reached; detail: url."""

    code = "offline"


class Missing(Unavailable):
    """An optional part is not installed; detail: extra."""

    code = "missing_extra"


class Corrupt(LlmosError):
    """The bytes of a stored file do not match its digest; detail: path, expected, actual."""

    code = "corrupt"


class Cancelled(LlmosError):
    """The call or the process was cancelled."""

    code = "cancelled"


class Internal(LlmosError):
    """Our own mistake; detail: trace."""

    code = "internal"


@dataclass(frozen=True, slots=True)
class Fault:
    """The serialized form of an error: between processes, in the journal, in an HTTP body."""

    code: str
    message: str
    detail: Detail = field(default_factory=dict)


def _tree(root: type[LlmosError]) -> dict[str, type[LlmosError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


CODES: dict[str, type[LlmosError]] = {**_tree(LlmosError), "internal": Internal}


def fault_of(error: BaseException) -> Fault:
    """The fault for any exception; an unexpected one becomes Internal, with its type."""
    if isinstance(error, LlmosError):
        return Fault(error.code, error.message, error.detail)
    return Fault(Internal.code, f"{type(error).__name__}: {error}")


def error_of(fault: Fault) -> LlmosError:
    """The exception of a fault; an unknown code becomes Internal, with the code in its detail."""
    kind = CODES.get(fault.code)
    if kind is None:
        return Internal(fault.message, **{**fault.detail, "code": fault.code})
    error = kind(fault.message)
    error.detail = dict(fault.detail)
    return error
