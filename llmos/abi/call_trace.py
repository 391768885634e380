"""The trace of a call: how long each stage took, and the W3C trace context that its client sent."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace that a call belongs to (W3C Trace Context): its id, the client's span, and our own."""

    trace_id: str
    parent_id: str
    span_id: str
    flags: str = "00"

    @property
    def header(self) -> str:
        """The value of `traceparent` with our own span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    @property
    def is_sampled(self) -> bool:
        """Whether the client records its trace, and so wants ours recorded: the lowest bit of the flags."""
        return self.flags[-1] in "13579bdf"


@dataclass(frozen=True, slots=True)
class CallTrace:
    """How long each stage of a call took, in milliseconds.

    `queue_ms` until its process had it; `tokenize_ms` for checks, rendering and tokens; `batch_ms` until its first pass
    began; `compute_ms` for the passes; `parse_ms` until the numbers were answers; `other_ms` for the daemon's own part.
    These add up to `total_ms`. `stream_ms`, from the first piece to the last, lies within them.
    """

    id: str
    at: float
    model: str
    task: str
    outcome: str
    total_ms: float
    queue_ms: float
    tokenize_ms: float
    batch_ms: float
    compute_ms: float
    parse_ms: float
    other_ms: float
    stream_ms: float
    trace_id: str = ""
    parent_id: str = ""
    span_id: str = ""


def trace_context_of(value: str) -> TraceContext | None:
    """The context in a `traceparent` header, with a span of our own; None for what is none: it is then ignored."""
    found = TRACEPARENT.fullmatch(value)
    if found is None or (value.startswith("00") and found[4]):
        return None
    return TraceContext(found[1], found[2], os.urandom(8).hex(), found[3])
