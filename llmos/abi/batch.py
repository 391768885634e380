"""A batch: requests in a file, one a line, each answered once in a file of answers or one of errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

STATE = "state.json"  # of a batch's folder: what its process has done
OUTPUT, ERRORS = "output.jsonl", "errors.jsonl"
EXPIRED = "batch_expired"  # the code of a line that was not answered in time
WINDOW = re.compile(r"([1-9][0-9]{0,4})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_WINDOW_S = 30 * 86_400


class BatchStatus(StrEnum):
    """How far a batch is, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"  # its file does not fit: no line was asked
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset({BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class LineFault:
    """Why a file of requests does not fit: a line, counted from 1, or the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a batch's process has done so far; times are seconds since the epoch."""

    status: BatchStatus = BatchStatus.VALIDATING
    total: int = 0
    completed: int = 0
    failed: int = 0
    faults: tuple[LineFault, ...] = ()
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What was asked of a batch, its process, and how it ended. `state` is the last one, once it has ended.

    `output` and `errors` are ids of uploads, chosen at its creation: the files get them at its end. `key` is the id of
    the key that has created it, whose rights and limits its lines have; empty if none was needed.
    """

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    created_at: float
    expires_at: float
    output: str
    errors: str
    metadata: dict[str, Json] = field(default_factory=dict)
    pid: int | None = None
    cancelling_at: float | None = None
    state: BatchState | None = None
    has_output: bool = False
    has_errors: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Lines: all, those with an answer, and those with an error."""

    total: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class BatchFaults:
    """Why the file of a batch does not fit."""

    data: tuple[LineFault, ...]


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch as clients see it; times are seconds since the epoch. Files of answers have ids (`file-...`)."""

    id: str
    status: BatchStatus
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    request_counts: BatchCounts
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchFaults | None = None
    pid: int | None = None

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED


def window_s(text: str) -> int:
    """The seconds of `24h`, `90m`, `7d`; BadInput for anything else, or over 30 days."""
    found = WINDOW.fullmatch(text)
    seconds = int(found[1]) * SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise BadInput(
            f"completion_window is {text[:20]!r}; it is a time such as 24h, 90m or 7d, at most 30d",
            key="completion_window",
            value=text[:20],
        )
    return seconds
