"""Calls and chunks: a client's request to a model, the call made from it, and the pieces of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.disagreement import CallOrigin
from llmos.abi.error import BadInput, Fault
from llmos.abi.json_type import Json
from llmos.abi.process import Priority

MAX_INPUTS = 2048  # of one call, because it is read whole while others wait


class Operation(StrEnum):
    """What a call wants of a model: its answer, only what its tokenizer makes of the inputs, or that it is loaded."""

    ANSWER = "answer"
    RENDER = "render"  # the tokens of the task's whole prompt
    TOKENIZE = "tokenize"  # the tokens of a text
    DETOKENIZE = "detokenize"  # the text of tokens
    DESCRIBE = "describe"  # what the tokenizer is: its control tokens and its chat template
    LOAD = "load"  # nothing: it is answered when the model is in memory


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a model: a list of inputs of its task, answered in order.

    `model` is a full ref (`name:version`), because bare names are resolved on arrival. `params` are the task's
    (temperature, top_k, threshold ...). A streamed call yields many chunks, any other exactly one. `is_idempotent`
    allows sending the call again if its process dies before the first chunk.
    """

    call_id: int
    model: str
    task: str
    inputs: tuple[Json, ...]
    params: dict[str, Json] = field(default_factory=dict)
    stream: bool = False
    is_idempotent: bool = True
    priority: Priority = Priority.INTERACTIVE
    operation: Operation = Operation.ANSWER


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A client's request to a model, by name or ref: inputs, answered in order within `timeout_s` seconds.

    None as `task` or `engine` means the model's own. `priority` decides who goes first among waiting calls. `rollout`
    is the one that chose the version and counts the call, and `origin` says whose it is; `is_copy` marks one whose
    answer nobody waits for.
    """

    model: str
    inputs: tuple[Json, ...]
    params: dict[str, Json] = field(default_factory=dict)
    task: str | None = None
    timeout_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    engine: str | None = None
    rollout: str = ""
    is_copy: bool = False
    origin: CallOrigin | None = None
    operation: Operation = Operation.ANSWER


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that an answer cost."""

    prompt: int = 0
    completion: int = 0


@dataclass(slots=True)
class CallTimes:
    """Where the time of a call went, in seconds. Each stage is filled in by who knows it, on the call's way back.

    `queue_s` until its process had it; `tokenize_s` for checks, rendering and tokens; `batch_s` until its first pass
    began; `compute_s` from then on without `parse_s`, in which the model's numbers became answers. `is_cold`: its
    process was still starting when it came.
    """

    queue_s: float = 0.0
    tokenize_s: float = 0.0
    batch_s: float = 0.0
    compute_s: float = 0.0
    parse_s: float = 0.0
    is_cold: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a call's answer. The last one has `is_last`; a failed call's only or last chunk has `fault`.

    In a whole answer, `outputs` has one entry per input; in a streamed one, the new piece of an answer. The last chunk
    of an answer has `times`. `sizes` are the tokens of each input, where the engine says so, and `unknown` those among
    them that its vocabulary lacks; empty where no input has any.
    """

    call_id: int
    outputs: tuple[Json, ...] = ()
    is_last: bool = True
    tokens: Tokens = Tokens()
    fault: Fault | None = None
    times: CallTimes | None = field(default=None, compare=False)
    sizes: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()


def check_inputs(inputs: Sequence[Json], params: Mapping[str, Json]) -> None:
    """Raise BadInput for a call with too many inputs, answers (`n`), or documents."""
    copies, documents = _copies(params), _documents(inputs)
    if len(inputs) > MAX_INPUTS:
        raise _too_many(f"has {len(inputs):,} inputs", "inputs", len(inputs))
    if len(inputs) * copies > MAX_INPUTS:
        raise _too_many(
            f"asks for {len(inputs) * copies:,} answers, {copies:,} to each of {len(inputs):,} inputs",
            "answers",
            len(inputs) * copies,
        )
    if documents > MAX_INPUTS:
        raise _too_many(f"has {documents:,} documents", "documents", documents)


def size_of(call: Call) -> int:
    """The size of a call: inputs, answers (`n`) or documents, whichever is largest."""
    return max(len(call.inputs) * _copies(call.params), _documents(call.inputs))


def characters(value: Json) -> int:
    """The number of characters in all texts of a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(characters, value.keys())) + sum(map(characters, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(characters, value))
    return 0


def _copies(params: Mapping[str, Json]) -> int:
    n = params.get("n")
    return n if isinstance(n, int) and n > 1 else 1  # the task refuses a wrong type


def _documents(inputs: Sequence[Json]) -> int:
    count = 0
    for one in inputs:
        if isinstance(one, dict) and isinstance(one.get("documents"), list):
            count += len(one["documents"])
    return count


def _too_many(what: str, unit: str, size: int) -> BadInput:
    return BadInput(
        f"The call {what}, and one call may have {MAX_INPUTS:,}. Send them in several calls",
        unit=unit,
        size=size,
        limit=MAX_INPUTS,
    )
