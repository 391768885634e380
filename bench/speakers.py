"""Those who continue texts greedily: the engine, transformers' generate, and llama.cpp on the same GGUF."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import torch
import xllamacpp
from transformers import AutoModelForCausalLM

from bench.stop import Stop
from llmos.abi.call import Call, Chunk
from llmos.abi.error import error_of
from llmos.abi.frame import Located
from llmos.config import Config
from llmos.engines import driver
from llmos.nn.tokenizer import FastTokenizer

GREEDY = {"temperature": 0}
SLOTS = 32
SLOT_TOKENS = 2048

Texts = list[str]


class Engine:
    """The PyTorch engine in this process, fed between its steps as the serve program feeds it."""

    def __init__(self, base: Located, device: str, dtype: str) -> None:
        config = Config(Path())
        self._engine = driver("pytorch", config.token_budget, config.kv_bytes)
        self._engine.load(base, device, dtype, threads=0)
        self._model = base.manifest.ref
        self._ids = count()

    def run(self, prompts: Sequence[str], tokens: int) -> Texts:
        """All of them at once; each with a salt of its own, so that no round finds what one before has left."""
        asked = [self.ask(prompt, tokens, salt=f"run {next(self._ids)}") for prompt in prompts]
        chunks = {chunk.call_id: chunk for chunk in self.drain()}
        return [text_of(chunks[call_id]) for call_id in asked]

    def ask(self, prompt: str, tokens: int, *, salt: str, stream: bool = False) -> int:
        call_id = next(self._ids)
        params = {**GREEDY, "max_tokens": tokens, "cache_salt": salt}
        self._engine.add(Call(call_id, self._model, "generate", (prompt,), params, stream=stream))
        return call_id

    def step(self) -> list[Chunk]:
        return self._engine.step()

    @property
    def reading(self) -> float:
        """Prompts that wait or are being read."""
        return self._engine.figures["waiting"] + self._engine.figures["reading"]

    def stop(self) -> None:
        """Take back whatever is under way."""
        for call_id in range(next(self._ids)):
            self._engine.cancel(call_id)

    def drain(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        while not self._engine.is_idle:
            chunks += self._engine.step()
        return chunks

    def first_token_s(self, prompt: str, tokens: int, *, salt: str) -> float:
        """From asking until the first piece of text; the answer is read to its end after that."""
        start = time.perf_counter()
        call_id = self.ask(prompt, tokens, salt=salt, stream=True)
        while not any(chunk.call_id == call_id for chunk in self.step()):
            pass
        taken = time.perf_counter() - start
        self.drain()
        return taken


def text_of(chunk: Chunk) -> str:
    if chunk.fault is not None:
        raise error_of(chunk.fault)
    return str(chunk.outputs[0]["text"])


class Transformers:
    """transformers' generate over one padded batch."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._tokenizer = FastTokenizer(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def run(self, prompts: Sequence[str], tokens: int) -> Texts:
        return [self._tokenizer.decode(ids) for ids in self.tokens(prompts, tokens)]

    def tokens(self, prompts: Sequence[str], tokens: int) -> list[list[int]]:
        """The tokens of each answer, without the one that ended it."""
        rows = [one.ids for one in self._tokenizer.encode(list(prompts))]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        end = self._model.generation_config.eos_token_id
        ends = set(end) if isinstance(end, list) else {end}
        return [_until(row, ends) for row in made[:, longest:].tolist()]


def _until(row: list[int], ends: set[int]) -> list[int]:
    return row[: next((i for i, token in enumerate(row) if token in ends), len(row))]


class LlamaCpp:
    """llama.cpp's server with as many slots as answers, in this process; its threads are its own."""

    def __init__(self, gguf: Path, slots: int = SLOTS) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_parallel = slots
        params.n_ctx = slots * SLOT_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = 0
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(slots)

    def run(self, prompts: Sequence[str], tokens: int) -> Texts:
        return list(self._pool.map(lambda prompt: self._ask(prompt, tokens), prompts))

    def _ask(self, prompt: str, tokens: int) -> str:
        wanted = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
        answer = self._server.handle_completions(wanted)
        if "choices" in answer:
            return str(answer["choices"][0]["text"])
        raise Stop(f"llama.cpp answered: {answer}")
