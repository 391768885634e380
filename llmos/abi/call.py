"""Calls and chunks: what is asked of a model, the call that comes of it, and the pieces of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmos.abi.error import BadInput, Fault
from llmos.abi.json_type import Json
from llmos.abi.process import Priority

MAX_INPUTS = 2048  # of one call: it is read whole, and others wait meanwhile


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model: a list of inputs of its task, answered in order.

    `model` is a full ref (`name:version`): a bare name was resolved when the call came in. `params` are the task's
    (temperature, top_k, threshold ...). A call that streams yields many chunks, every other exactly one.
    `is_idempotent` says that the call may be sent again if the process that held it dies before its first chunk.
    """

    call_id: int
    model: str
    task: str
    inputs: tuple[Json, ...]
    params: dict[str, Json] = field(default_factory=dict)
    stream: bool = False
    is_idempotent: bool = True
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What is asked of a model, by name or ref: inputs, answered in order within `timeout_s` seconds.

    `task` and `engine` are the model's own where they are None. Among calls that wait, `priority` says who goes first.
    """

    model: str
    inputs: tuple[Json, ...]
    params: dict[str, Json] = field(default_factory=dict)
    task: str | None = None
    timeout_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer cost, in tokens."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a call's answer. The last one has `is_last`; a failed call's only or last chunk has `fault`.

    `outputs` has one entry per input in a whole answer; in a streamed one, the newly made piece of the one input.
    """

    call_id: int
    outputs: tuple[Json, ...] = ()
    is_last: bool = True
    tokens: Tokens = Tokens()
    fault: Fault | None = None


def check_inputs(inputs: Sequence[Json], params: Mapping[str, Json]) -> None:
    """BadInput for more than one call may ask for: inputs, answers to them (`n`), documents of queries."""
    copies, documents = _copies(params), _documents(inputs)
    if len(inputs) > MAX_INPUTS:
        raise _too_many(f"has {len(inputs):,} inputs")
    if len(inputs) * copies > MAX_INPUTS:
        raise _too_many(f"asks for {len(inputs) * copies:,} answers, {copies:,} to each of {len(inputs):,} inputs")
    if documents > MAX_INPUTS:
        raise _too_many(f"has {documents:,} documents")


def size_of(call: Call) -> int:
    """How much one call asks for: inputs, answers to them (`n`), or documents of queries, whichever are more."""
    return max(len(call.inputs) * _copies(call.params), _documents(call.inputs))


def characters(value: Json) -> int:
    """How many characters a JSON value has, in all its texts."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(characters, value.keys())) + sum(map(characters, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(characters, value))
    return 0


def _copies(params: Mapping[str, Json]) -> int:
    n = params.get("n")
    return n if isinstance(n, int) and n > 1 else 1  # what is no number at all, the task refuses


def _documents(inputs: Sequence[Json]) -> int:
    count = 0
    for one in inputs:
        if isinstance(one, dict) and isinstance(one.get("documents"), list):
            count += len(one["documents"])
    return count


def _too_many(what: str) -> BadInput:
    return BadInput(
        f"The call {what}, and one call may have {MAX_INPUTS:,}. Send them in several calls", limit=MAX_INPUTS
    )
