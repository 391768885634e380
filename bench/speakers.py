"""Those who continue texts greedily: the engine, transformers' generate and generate_batch, and llama.cpp."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
import xllamacpp
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from bench.stop import Stop
from llmos.abi.call import Call, Chunk
from llmos.abi.error import error_of
from llmos.abi.frame import ModelPath
from llmos.config import Config
from llmos.engines import driver
from llmos.nn.text.tokenizer import FastTokenizer

GREEDY = {"temperature": 0}
SLOTS = 32
SLOT_TOKENS = 512  # of a slot: prompt and answer
PAGE, PAGES_TOKENS = 32, 1 << 14  # of generate_batch: tokens of a page, and of all pages, which it fills with zeros
READ_TOKENS = 512  # the most of a step of generate_batch: its mask is as wide as all that is under way


class Answer(NamedTuple):
    """A text, and how many tokens were made for it: an answer that ends early is less work."""

    text: str
    tokens: int


class Speaker(Protocol):
    """One who continues all of these prompts at once, each for so many tokens at most."""

    def run(self, prompts: Sequence[str], tokens: int) -> list[Answer]: ...


S = TypeVar("S", bound=Speaker)


def fastest(tried: Iterable[tuple[str, Callable[[], S]]], prompts: Sequence[str], tokens: int) -> tuple[S, str]:
    """The one who takes the least time for these prompts, with its name; the others are let go."""
    best: tuple[float, S, str] | None = None
    for name, make in tried:
        one = make()
        one.run(prompts[:1], 2)
        start = time.perf_counter()
        one.run(prompts, tokens)
        took = time.perf_counter() - start
        if best is None or took < best[0]:
            best = took, one, name
    assert best is not None, "nobody was tried"
    return best[1], best[2]


class Engine:
    """The PyTorch engine in this process, fed between its steps as the serve program feeds it."""

    def __init__(self, base: ModelPath, device: str, dtype: str) -> None:
        config = Config(Path())
        self._engine = driver("pytorch", config.token_budget, config.kv_bytes)
        self._engine.load(base, device, dtype, threads=0)
        self._model = base.manifest.ref
        self._ids = count()

    def run(self, prompts: Sequence[str], tokens: int) -> list[Answer]:
        """Each with a salt of its own, so that no round finds what one before has left."""
        asked = [self.ask(prompt, tokens, salt=f"run {next(self._ids)}") for prompt in prompts]
        chunks = {chunk.call_id: chunk for chunk in self.drain()}
        return [answer_of(chunks[call_id]) for call_id in asked]

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


def answer_of(chunk: Chunk) -> Answer:
    if chunk.fault is not None:
        raise error_of(chunk.fault)
    return Answer(str(chunk.outputs[0]["text"]), chunk.tokens.completion)


class Transformers:
    """transformers' generate over one padded batch."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._tokenizer = FastTokenizer(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def run(self, prompts: Sequence[str], tokens: int) -> list[Answer]:
        rows = [one.ids for one in self._tokenizer.encode(list(prompts))]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        return _answers(made[:, longest:].tolist(), self._model.generation_config, self._tokenizer)


class Batches:
    """transformers' generate_batch: continuous batching on paged keys and values, so many answers a step at most."""

    def __init__(self, folder: Path, dtype: torch.dtype, attention: str, at_once: int) -> None:
        self._tokenizer = FastTokenizer(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)  # it warns at every call of what is asked
        self._room = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=PAGES_TOKENS // PAGE,
            max_batch_tokens=READ_TOKENS,
            max_requests_per_batch=at_once,
            allow_block_sharing=False,  # no round is to find what one before has left
        )

    def run(self, prompts: Sequence[str], tokens: int) -> list[Answer]:
        rows = [one.ids for one in self._tokenizer.encode(list(prompts))]
        end = self._model.generation_config.eos_token_id
        asked = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=end, pad_token_id=0)
        kept = {"persistent_manager": True, "warmup": False}  # its pages are made once, not at every call
        made = self._model.generate_batch(rows, asked, self._room, max_new_tokens=tokens, **kept).values()
        if len(made) < len(rows) or any(one.error for one in made):
            raise Stop(f"generate_batch answered {len(made)} of {len(rows)}: {[one.error for one in made][:1]}")
        return _answers([one.generated_tokens for one in made], self._model.generation_config, self._tokenizer)


def _answers(rows: Sequence[list[int]], config: GenerationConfig, tokenizer: FastTokenizer) -> list[Answer]:
    """Texts without the token that ended them, which counts as made."""
    end = config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}
    kept = [row[: next((i for i, token in enumerate(row) if token in ends), len(row))] for row in rows]
    return [Answer(tokenizer.decode(ids), min(len(ids) + 1, len(row))) for ids, row in zip(kept, rows, strict=True)]


class LlamaCpp:
    """llama.cpp's server with so many slots, in this process; its threads are its own."""

    def __init__(self, gguf: Path, slots: int = SLOTS) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_parallel = slots
        params.n_ctx = slots * SLOT_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.cache_ram_mib = 0  # no round is to find what one before has left
        params.verbosity = 0
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(SLOTS)  # who finds no slot free waits in its queue

    def run(self, prompts: Sequence[str], tokens: int) -> list[Answer]:
        return list(self._pool.map(lambda prompt: self._ask(prompt, tokens), prompts))

    def _ask(self, prompt: str, tokens: int) -> Answer:
        wanted = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
        answer = self._server.handle_completions(wanted)
        if "choices" in answer:
            return Answer(str(answer["choices"][0]["text"]), int(answer["usage"]["completion_tokens"]))
        raise Stop(f"llama.cpp answered: {answer}")
