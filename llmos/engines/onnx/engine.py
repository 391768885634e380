"""The ONNX engine: takes calls, and runs the graph over a batch of queued inputs in each step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from llmos.abi.call import Call, Chunk
from llmos.abi.engine import weights_of
from llmos.abi.error import BadInput, LlmosError, WrongTask, fault_of
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.task import spec_of, vector_tasks
from llmos.engines.active_call import ActiveCall, ActiveCalls
from llmos.engines.base_only import BaseOnly
from llmos.engines.intake import Intake, render_in_steps
from llmos.engines.onnx.batcher import OnnxBatcher, OnnxItem, rectangles
from llmos.engines.onnx.graph import Graph, GraphForm, check_labels, graph_of, open_session
from llmos.engines.onnx.tokenizer import Bytes
from llmos.engines.tokenization import ModelTokenizer, no_tokenizer
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks import Settings, Task, Tokenizer, for_model
from llmos.tasks.calibration import load_calibration
from llmos.tasks.embed import is_unit

Array = Any  # Any: a numpy array, or a list of maps if the graph returns those

TOKEN_BUDGET = 4096
LEAST = 1e-30  # log(0) does not exist
DEFAULT_MAX_TOKENS = 512
MAX_TEXT_BYTES = 1 << 20  # for a graph that reads strings and states no limit


class OnnxEngine(BaseOnly):
    """Runs an ONNX graph, which answers in one pass."""

    name = "onnx"

    def __init__(self, token_budget: int = TOKEN_BUDGET, kv_bytes: int = 0) -> None:
        """`kv_bytes` is ignored: a graph answers in one pass, without a KV cache."""
        self._token_budget = token_budget
        self._rows = OnnxBatcher(token_budget)
        self._calls = ActiveCalls()

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        manifest, folder = base.manifest, Path(base.folder)
        self.check_base(manifest)
        self._session = open_session(folder / weights_of(manifest)[0], threads)
        self._graph = graph_of(self._session, manifest.task)
        check_labels(self._graph, manifest.task, manifest.labels)
        self._tokenizer: Tokenizer = Bytes() if self._graph.reads_text else FastTokenizer(folder, manifest.ref)
        limit, calibration = _limit(self._graph, manifest.options), load_calibration(folder)
        self._settings = Settings(manifest.labels, manifest.options, limit, calibration)
        self.ref = manifest.ref
        self._tasks = vector_tasks() if spec_of(manifest.task).gives_vectors else (manifest.task,)
        return sum((folder / path).stat().st_size for path in weights_of(manifest))

    def tokenizer_of(self, model: str) -> ModelTokenizer:
        self.check_model(model)
        if self._graph.reads_text:
            raise no_tokenizer(model, "its graph reads texts as they are")
        return ModelTokenizer(self._tokenizer, self._settings)

    def take_in(self, call: Call) -> Intake:
        self.check_model(call.model)
        task = self._task(call.task, call.params)
        made = yield from render_in_steps(task, call, self._tokenizer, self._settings)
        counter = self._tokenizer.unknown_in if isinstance(self._tokenizer, FastTokenizer) else None
        job = ActiveCall(call, task, self._settings, made, unknown_in=counter)
        return lambda: self._put(job)

    def _put(self, job: ActiveCall) -> None:
        self._calls.put(job)
        self._rows.add(job)

    def cancel(self, call_id: int) -> None:
        self._calls.cancel(call_id)

    def step(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        graph = self._graph
        is_exact = not graph.has_mask and not graph.reads_text and graph.length is None
        for items in rectangles(self._rows.next(), graph.batch, is_exact=is_exact, budget=self._token_budget):
            chunks += self._deliver(items)
        self._calls.end(chunks)
        return chunks

    @property
    def is_idle(self) -> bool:
        return not self._calls

    @property
    def progress(self) -> dict[int, float]:
        return self._calls.progress

    def _task(self, name: str, params: dict[str, Json]) -> Task:
        if name not in self._tasks:
            raise WrongTask(
                f"{self.ref} does {', '.join(self._tasks)}, not {name}. Choose another model (llmos ls)",
                model=self.ref,
                task=name,
                has=list(self._tasks),
            )
        return for_model(name, params, self.ref, self._settings.labels)

    def _deliver(self, items: list[OnnxItem]) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            output = self._session.run([self._graph.output], self._feed(items))[0]
            raws = [self._raw(item, output[i]) for i, item in enumerate(items)]
        except Exception as error:  # noqa: BLE001  # the top of a loop: whatever it was, those who wait learn of it
            return [chunk for item in items for chunk in item.job.fail(fault_of(error))]
        for item, raw in zip(items, raws, strict=True):
            try:
                chunks += item.job.put(item.at, raw)
            except LlmosError as error:  # only this call's fault, not its neighbours'
                chunks += item.job.fail(fault_of(error))
        return chunks

    def _feed(self, items: list[OnnxItem]) -> dict[str, Array]:
        """The graph's inputs: texts, or tokens padded to the longest with an attention mask."""
        graph = self._graph
        if graph.reads_text:
            ((name, kind),) = graph.inputs.items()
            texts = np.array([bytes(item.ids).decode() for item in items], dtype=object)
            return {name: texts[:, None] if kind == "texts" else texts}
        width = graph.length or len(max(items, key=lambda item: len(item.ids)).ids)
        ids, mask = np.zeros((len(items), width), np.int64), np.zeros((len(items), width), np.int64)
        for row, item in enumerate(items):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
        positions = np.broadcast_to(np.arange(width), ids.shape)
        made = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": positions,
        }
        return {name: made[name].astype(kind) for name, kind in graph.inputs.items()}

    def _raw(self, item: OnnxItem, output: Array) -> Json:
        """One row of the output, in the form that the task parses."""
        form, is_multi = self._graph.form, bool(self._settings.options.get("multi_label"))
        if form is GraphForm.MAP:
            by_label = {str(label): float(share) for label, share in output.items()}
            return [_as_logit(by_label.get(label, 0.0), is_multi=is_multi) for label in self._settings.labels]
        numbers = np.asarray(output, np.float32)
        if not np.isfinite(numbers).all():
            raise BadInput(
                f"{self.ref} computes NaN or infinity. Export it again from intact weights",
                model=self.ref,
                reason="not_finite",
            )
        if form is GraphForm.SHARES:
            return [_as_logit(float(share), is_multi=is_multi) for share in numbers]
        if form is GraphForm.LOGITS:
            return numbers.tolist()
        if form is GraphForm.TOKEN_LOGITS:
            return numbers[: len(item.ids)].tolist()
        return self._vector(
            item, _pool(numbers[: len(item.ids)], self._settings) if form is GraphForm.HIDDEN else numbers
        )

    def _vector(self, item: OnnxItem, vector: Array) -> bytes:
        if not item.job.task.spec.gives_vectors or is_unit(self._settings, item.job.call.params):
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        data: bytes = vector.astype("<f4").tobytes()
        return data


def _pool(hidden: Array, settings: Settings) -> Array:
    match settings.options.get("pooling", "mean"):
        case "cls":
            return hidden[0]
        case "last":
            return hidden[-1]
        case "max":
            return hidden.max(0)
    return hidden.mean(0)


def _as_logit(share: float, *, is_multi: bool) -> float:
    """The logit that the task turns back into this probability."""
    share = min(max(share, LEAST), 1.0)
    return math.log(share) - math.log(max(1.0 - share, LEAST)) if is_multi else math.log(share)


def _limit(graph: Graph, options: dict[str, Json]) -> int:
    if graph.length is not None:
        return graph.length
    return int(options.get("max_tokens") or (MAX_TEXT_BYTES if graph.reads_text else DEFAULT_MAX_TOKENS))
