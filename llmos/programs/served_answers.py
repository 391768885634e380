"""Answers of a model by the engine that serves it: calls put to an engine in this process, as `serve` puts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from llmos.abi.call import Call
from llmos.abi.error import BadInput, error_of
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.engines import Engine, driver
from llmos.evaluation.judge import Judge
from llmos.tasks import Settings

INPUTS = 64  # of a call


class ServedJudge(Judge):
    """Judges served answers; the settings are those of the engine's model, whose scores are calibrated already."""

    __slots__ = ("settings", "task")

    def __init__(self, task: str, settings: Settings) -> None:
        self.task, self.settings = task, settings


@contextmanager
def loaded_engine(job: Job, name: str) -> Iterator[Engine]:
    """The engine with the job's model loaded; Missing where its library is not installed."""
    args = job.args
    command = str(args.get("vllm_command", "vllm"))
    engine = driver(name, int(args["token_budget"]), int(args["kv_bytes"]), command)
    try:
        engine.load(job.models["model"], job.device, job.dtype, job.threads)
        yield engine
    finally:
        engine.close()


def answer(
    engine: Engine,
    model: str,
    task: str,
    inputs: Sequence[Json],
    params: Mapping[str, Json],
    on_done: Callable[[int], None],
) -> list[Json]:
    """What the engine answers to each input, in order; BadInput that names the row for one that it refuses."""
    outputs: list[Json] = []
    for start in range(0, len(inputs), INPUTS):
        some = tuple(inputs[start : start + INPUTS])
        outputs += _outputs(engine, Call(start + 1, model, task, some, dict(params), priority=Priority.BATCH), start)
        on_done(len(outputs))
    return outputs


def _outputs(engine: Engine, call: Call, first: int) -> list[Json]:
    try:
        engine.add(call)
        while True:
            for chunk in engine.step():
                if chunk.fault is not None:
                    raise error_of(chunk.fault)
                if chunk.is_last:
                    return list(chunk.outputs)
    except BadInput as error:
        at = error.detail.get("index")
        last = first + len(call.inputs)
        where = f"rows {first + 1:,} to {last:,}" if at is None else f"row {first + int(at) + 1:,}"
        raise BadInput(f"{where}: {error.message}", **error.detail) from error
