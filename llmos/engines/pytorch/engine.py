"""The PyTorch engine: admits calls, and runs steps of continuous batching within a token budget.

Single-pass inputs, prompt chunks and decode tokens all count as tokens to compute. Without generation, rows have the
fastest size. Beside generation they share steps of a bounded number of tokens. Work of a lower priority gets every
eighth step: it is slow then, but does not starve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from llmos.abi.call import Call, Chunk
from llmos.abi.error import ModelNotFound
from llmos.abi.frame import ModelPath
from llmos.abi.process import Priority
from llmos.engines import Engine
from llmos.engines.active_call import ActiveCalls
from llmos.engines.intake import Intake, render_in_steps
from llmos.engines.priority import SELDOM, highest, is_lower
from llmos.engines.pytorch.batcher import Batcher
from llmos.engines.pytorch.generation_scheduler import LIVE, GenerationScheduler, RunningSequence
from llmos.engines.pytorch.model import ServedCall, ServedModel, base_of, model_on
from llmos.engines.tokenization import ModelTokenizer
from llmos.nn.generation.kv_cache import KVCache, token_bytes
from llmos.nn.load import load
from llmos.tasks import with_defaults
from llmos.tasks.inputs import naming_place

TOKEN_BUDGET = 4096  # of a row of single-pass inputs
STEP_TOKENS = 256  # of a generation step: streams wait no longer than this for a token
KV_BYTES = 1 << 30  # of the KV cache


class PyTorchEngine(Engine):
    """Computes the base and its models with torch, in this process."""

    uses_resident = True

    def __init__(
        self,
        token_budget: int = TOKEN_BUDGET,
        kv_bytes: int = KV_BYTES,
        step_tokens: int = STEP_TOKENS,
        live: int = LIVE,
    ) -> None:
        self._models: dict[str, ServedModel] = {}
        self._calls = ActiveCalls()
        self._rows = Batcher(token_budget)
        self._streams: GenerationScheduler | None = None  # None if the base does not generate
        self._kv_bytes, self._step_tokens, self._live = kv_bytes, step_tokens, live
        self._base: ServedModel | None = None
        self._steps = 0  # steps with both single-pass inputs and generation
        self._device = ""
        self._dtype = ""

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        if threads:
            torch.set_num_threads(threads)
        self._device, self._dtype = device, dtype
        loaded = load(base, dtype=dtype, device=device)
        self._base = base_of(base, loaded)
        self._models[self._base.ref] = self._base
        if loaded.device.type == "cpu":
            self._rows.spread(torch.get_num_threads())
        if loaded.causal is not None:
            each = token_bytes(loaded.config, loaded.kv_dtype.itemsize)
            pool = KVCache(self._kv_bytes, each, loaded.device, loaded.kv_dtype)
            self._streams = GenerationScheduler(self._step_tokens, pool, self._live)
        return loaded.weights_bytes

    def attach(self, model: ModelPath) -> None:
        assert self._base is not None, "The base is loaded before models attach to it"
        self._models[model.manifest.ref] = model_on(self._base, model, self._dtype, self._device)

    def detach(self, model: str) -> None:
        if self._base is None or model != self._base.ref:
            self._models.pop(model, None)

    def tokenizer_of(self, model: str) -> ModelTokenizer:
        found = self._model(model)
        return ModelTokenizer(found.loaded.tokenizer, found.settings)

    def _model(self, name: str) -> ServedModel:
        if name not in self._models:
            raise ModelNotFound(
                f"No model {name!r} is attached here. There are: {', '.join(self._models)}",
                name=name,
                models=list(self._models),
            )
        return self._models[name]

    def take_in(self, call: Call) -> Intake:
        model = self._model(call.model)
        task = model.task(call.task, call.params)
        made = yield from render_in_steps(task, call, model.loaded.tokenizer, model.settings)
        call = replace(call, params=with_defaults(task, call.params))
        unknown_in = model.loaded.tokenizer.unknown_in
        job = ServedCall(call, task, model.settings, made, unknown_in=unknown_in, model=model)
        for index, one in enumerate(made if model.loaded.tokenizer.lacks_tokens else ()):
            with naming_place(index=index):
                model.loaded.tokenizer.check(one.sequences)
        return (yield from self.prepare(job))

    def prepare(self, job: ServedCall) -> Intake:
        """Tokenize a generative call step by step; the function returned at the end adds it."""
        if job.task.spec.head is not None:
            return lambda: self._put(job)
        assert self._streams is not None, "A base without a next-token layer has no task that generates"
        streams = yield from self._streams.make(job)
        return lambda: self._put(job, streams)

    def _put(self, job: ServedCall, streams: Sequence[RunningSequence] = ()) -> None:
        """Add a call to its queue."""
        if self._streams is not None and streams:
            self._streams.add(job, streams)
        else:
            self._rows.add(job)
        self._calls.put(job)

    def cancel(self, call_id: int) -> None:
        if self._calls.cancel(call_id) is not None and self._streams is not None:
            self._streams.let_go()

    @torch.inference_mode()
    def step(self) -> list[Chunk]:
        if not self._streams:
            chunks = self._rows.step()
        elif not self._rows:
            chunks = self._streams.step()
        else:
            chunks = self._split_step(self._streams)
        self._calls.end(chunks)
        return chunks

    def _split_step(self, streams: GenerationScheduler) -> list[Chunk]:
        """A step of both queues, or only of the one with the higher priority."""
        self._steps += 1
        is_for_all = self._steps % SELDOM == 0
        inputs, answers = self._highest(writes=False), self._highest(writes=True)
        chunks: list[Chunk] = []
        if is_for_all or not is_lower(inputs, answers):
            chunks += self._rows.share(max(self._step_tokens - streams.live, self._step_tokens // 2))
        if is_for_all or not is_lower(answers, inputs):
            chunks += streams.step()
        return chunks

    def _highest(self, *, writes: bool) -> Priority:
        """The highest priority of the generative or of the single-pass calls.

        Calls in front inherit it from those behind.
        """
        return highest(job.call.priority for job in self._calls if (job.task.spec.head is None) is writes)

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The base and the models attached to it, by ref."""
        return self._models

    @property
    def pool(self) -> KVCache:
        """The KV cache of a generative base."""
        assert self._streams is not None, "A base without a next-token layer has no KV cache"
        return self._streams.pool

    @property
    def pace(self) -> float | None:
        """The recent speed of one core on single-pass inputs, in tokens per second; None before the first."""
        return self._rows.pace

    @property
    def is_idle(self) -> bool:
        return not self._calls

    @property
    def figures(self) -> dict[str, float]:
        return {} if self._streams is None else self._streams.figures

    @property
    def progress(self) -> dict[int, float]:
        return self._calls.progress
