"""The error tree: every failure a user can meet, as a sentence with a way out and a stable code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

Detail = dict[str, Any]  # Any: whatever JSON holds; each error says which keys it fills


class LlmosError(Exception):
    """What all errors of this project are; `code` is stable, the sentence may improve."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **detail: Any) -> None:  # Any: see Detail
        super().__init__(message)
        self.message = message
        self.detail: Detail = detail


class BadInput(LlmosError):
    """The request or the data is wrong; the same again fails the same way."""

    code = "bad_input"


class BadRow(BadInput):
    """A data file has a row that cannot be used; detail: file, line, value."""

    code = "bad_row"


class BadSetting(BadInput):
    """A setting has a value that it cannot have; detail: key, value, expected."""

    code = "bad_setting"


class WrongTask(BadInput):
    """The model exists, but it does another task; detail: model, task, has."""

    code = "wrong_task"


class TooLong(BadInput):
    """The input has more tokens than the model takes, or more bytes than the server does; detail: size, limit.

    `unit` is there where these are no tokens; `context` is what the model takes with its answer.
    """

    code = "too_long"


class Crashed(BadInput):
    """The process that took this call in ended over it; the same again would end it again; detail: pid."""

    code = "crashed"


class HeadTooLarge(TooLong):
    """The request line and the headers have more bytes, or are more, than the server takes; detail: limit."""

    code = "head_too_large"


class TooSlow(BadInput):
    """The request was not sent in time."""

    code = "too_slow"


class ContextLengthExceeded(BadInput):
    """TooLong for the model, by the name that OpenAI's clients know; detail: size, limit."""

    code = "context_length_exceeded"


class UnsafeWeights(BadInput):
    """The weights are pickled, so that reading them would run code; only safetensors and GGUF are read."""

    code = "unsafe_weights"


class BadHost(BadInput):
    """The request's Host header is missing, there twice, or none (RFC 9112, 3.2)."""

    code = "bad_host"


class Forbidden(LlmosError):
    """The box is not open to this; detail: key, the setting that would open it, and value."""

    code = "forbidden"


class HostNotAllowed(Forbidden):
    """The request is for a host that is not this daemon's; detail: key, value."""

    code = "host_not_allowed"


class OriginNotAllowed(Forbidden):
    """The request comes from a web page of another origin; detail: key, value."""

    code = "origin_not_allowed"


class PathNotAllowed(Forbidden):
    """The request names a file that it may not have read; detail: key, value."""

    code = "path_not_allowed"


class NotLoopback(Forbidden):
    """The address to listen on can be reached from other machines; detail: key, value."""

    code = "not_loopback"


class NotFound(LlmosError):
    """What the request names is not there."""

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


class Conflict(LlmosError):
    """The request is fine, but not in the present state."""

    code = "conflict"


class AlreadyRunning(Conflict):
    """Another daemon holds this home, or another program this port; detail: home or port."""

    code = "already_running"


class IllegalMove(Conflict):
    """The process is not in a state from which it could do this; detail: pid, state."""

    code = "illegal_move"


class NoRoom(LlmosError):
    """The device has not the bytes this needs; detail: device, need_bytes, free_bytes."""

    code = "no_room"


class DiskFull(NoRoom):
    """The disk under the home is full; nothing half-written is left; detail: path, need_bytes, free_bytes."""

    code = "disk_full"


class Unavailable(LlmosError):
    """Not now; the same again later may work."""

    code = "unavailable"


class Busy(Unavailable):
    """As many calls of this class wait as may; detail: model, waiting, limit, retry_after_s."""

    code = "busy"


class TimedOut(Unavailable):
    """The answer was not there in time, and the call was taken back; detail: timeout_s."""

    code = "timed_out"


class ProcessDied(Unavailable):
    """The process that held the call ended before it answered, and the call may not be sent twice."""

    code = "process_died"


class Offline(Unavailable):
    """A source outside this machine could not be reached; detail: url."""

    code = "offline"


class Missing(Unavailable):
    """An optional part is not installed; detail: extra."""

    code = "missing_extra"


class Corrupt(LlmosError):
    """Stored bytes are not what their digest says; detail: path, expected, actual."""

    code = "corrupt"


class Cancelled(LlmosError):
    """Someone took the call or the process back."""

    code = "cancelled"


class Internal(LlmosError):
    """Our own mistake; detail: trace."""

    code = "internal"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it travels: between processes, in the journal, in an HTTP body."""

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
    """The travelling form of any exception; one that is not ours is our mistake and says its type."""
    if isinstance(error, LlmosError):
        return Fault(error.code, error.message, error.detail)
    return Fault(Internal.code, f"{type(error).__name__}: {error}")


def error_of(fault: Fault) -> LlmosError:
    """The exception a fault stands for; a code that this version does not know is kept as Internal's detail."""
    kind = CODES.get(fault.code)
    if kind is None:
        return Internal(fault.message, **{**fault.detail, "code": fault.code})
    error = kind(fault.message)
    error.detail = dict(fault.detail)
    return error
