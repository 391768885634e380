"""A fine-tuning job: a training that was asked for in OpenAI's shape, known by its id for longer than its process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.json_type import Json


class JobStatus(StrEnum):
    """How far a job is, in OpenAI's words."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a client asked for. `method` is OpenAI's object, with the hyperparameters as they were given."""

    model: str
    training_file: str
    method: dict[str, Json]
    seed: int
    validation_file: str | None = None
    suffix: str | None = None
    metadata: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job has ended: the model that it made, or why it made none."""

    status: JobStatus
    at: float
    model: str | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class FineTuningJob:
    """A job, its process, and its end. `figures` are the last of its training; `continued` counts its restarts.

    `name` is that of the model it makes, and `key` the id of the key that has begun it; empty if none was needed.
    """

    id: str
    asked: JobRequest
    created_at: float
    pid: int | None = None
    is_paused: bool = False
    is_cancelled: bool = False
    continued: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    end: JobEnd | None = None
    name: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened in a job: a message, or figures of its training."""

    number: int
    at: float
    message: str
    level: str = "info"
    type: str = "message"  # or metrics
    data: dict[str, float] = field(default_factory=dict)
