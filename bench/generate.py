"""Generation: tokens a second at 1, 8 and 32 answers, prompts, first tokens, beside transformers and llama.cpp."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers.utils import logging

from bench import ceiling, data, prompts
from bench.box import Box
from bench.equality import share_begun, share_equal
from bench.gguf_copy import in_bf16
from bench.record import Figure, Record, Target, figure, ratios
from bench.rounds import take_turns
from bench.speakers import Answer, Batches, Engine, LlamaCpp, Speaker, Transformers, fastest
from bench.stop import Stop
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.nn import resident
from llmos.nn.text.tokenizer import FastTokenizer

STREAMS = (1, 8, 32)
READ_TOKENS, READ_PROMPTS = ceiling.STEP_TOKENS, 8
PREFIX_TOKENS = 1000
SHARE_EQUAL = Target(0.95)  # two sums in another order may differ where two tokens are equally likely

AT_MOST, FASTER = Target(2.0, at_most=True), Target(10.0)  # of first tokens: beside others, after a shared beginning

ENGINE = "llmos engine"
TRANSFORMERS = "transformers generate"
BATCHES = "transformers generate_batch"
LLAMA, LLAMA_BF16 = "llama.cpp, Q4_1", "llama.cpp, bf16"
CEILING = "the matrix products alone"

TRIED = (("sdpa", 8), ("sdpa", 32), ("eager", 32))  # attention and answers a step, of generate_batch
SLOTS = (8, 32)  # of llama.cpp
TRIED_TOKENS = 8  # of an answer


@dataclass(frozen=True, slots=True)
class Hall:
    """Everybody who speaks, by name: the engine in each dtype, the peers, and the products that bound who is in float.

    `settings` says with what each peer was fastest, where it was tried.
    """

    engines: Mapping[str, Engine]
    peers: Mapping[str, Speaker]
    products: ceiling.Products
    tokenizer: FastTokenizer
    prompts: Sequence[str]
    settings: Mapping[str, str]

    @property
    def speakers(self) -> dict[str, Speaker]:
        return {**self.engines, **self.peers}

    @property
    def bounds(self) -> tuple[str, ...]:
        """What our rates are divided by."""
        return (CEILING, *self.peers)


def measure(
    folder: Path, home: Path, *, rounds: int, count: int, dtypes: Sequence[str], device: str | None, mode: str
) -> Record:
    """`count` tokens of answer to each prompt, by the engine in the device's own dtype and in each of `dtypes`."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with ExitStack() as stack:
        with Box(home) as box:
            source, place = box.base("smollm2"), box.device(device)
        if not place["name"].startswith("cpu"):
            raise Stop(f"llama.cpp and the ceiling are measured on a CPU here, not on {place['name']}: --device cpu0")
        hall = _hall(source, place, dtypes, data.ragged_texts(folder, 1500), count, stack)
        figures: list[Figure] = []
        for streams in STREAMS if mode == "full" else (STREAMS[0], STREAMS[-1]):
            figures += _beside(hall, f"{streams} at once", streams, rounds, count)
        figures += _reading(hall, rounds)
        for name, engine in hall.engines.items():
            figures += _first_tokens(name, engine, hall.prompts, hall.tokenizer, rounds)
    settings = {
        "device": place["name"],
        "dtype": place["dtype"],
        **hall.settings,
        "threads": torch.get_num_threads(),
        "tokens an answer": count,
        "prompt tokens": " to ".join(map(str, prompts.TOKENS)),
        "rounds": rounds,
    }
    skipped = () if torch.cuda.is_available() else ("a GPU: this machine has none that torch can use",)
    return Record("generate", mode, settings, tuple(figures), skipped)


def _hall(
    source: Path, place: Mapping[str, str], dtypes: Sequence[str], texts: Sequence[str], count: int, stack: ExitStack
) -> Hall:
    """All on the same weights, which llama.cpp computes as they are in the GGUF file, and as bf16 from its copy."""
    name, dtype = place["name"], place["dtype"]
    base = _resident_path(source, dtype, stack)
    engines = {ENGINE: Engine(base, name, dtype)}
    engines |= {f"{ENGINE}, {other}": Engine(_resident_path(source, other, stack), name, other) for other in dtypes}
    tokenizer = FastTokenizer(Path(str(base.resident)))
    floats = _float32(source, base, dtype, stack)
    kinds = {str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.bfloat16)}
    short = ["How do I locate my card, and where?"] * 8
    plain, kind = fastest([(one, partial(Transformers, floats, of)) for one, of in kinds.items()], short, 4)
    asked = prompts.with_long_answers(
        texts, tokenizer, count, STREAMS[-1], lambda some: [one.tokens for one in plain.run(some, count)]
    )
    batches, how = fastest(
        [
            (f"{attention}, {most} at once", partial(Batches, floats, kinds[kind], attention, most))
            for attention, most in TRIED
        ],
        asked,
        TRIED_TOKENS,
    )
    quantized = next(source.glob("*.gguf"))
    copied = in_bf16(quantized, Path(stack.enter_context(TemporaryDirectory())) / "bf16.gguf")
    llama, slots = _llama(quantized, asked)
    llama_bf16, slots_bf16 = _llama(copied, asked)
    return Hall(
        engines,
        {TRANSFORMERS: plain, BATCHES: batches, LLAMA: llama, LLAMA_BF16: llama_bf16},
        ceiling.products(Path(str(base.resident)), dtype, name),
        tokenizer,
        asked,
        {"transformers in": kind, BATCHES: how, f"slots, {LLAMA}": slots, f"slots, {LLAMA_BF16}": slots_bf16},
    )


def _llama(gguf: Path, asked: Sequence[str]) -> tuple[LlamaCpp, str]:
    return fastest([(str(slots), partial(LlamaCpp, gguf, slots)) for slots in SLOTS], asked, TRIED_TOKENS)


def _beside(hall: Hall, what: str, streams: int, rounds: int, count: int) -> list[Figure]:
    """Ratios and rates of so many answers at once, their texts compared, which runs each once and so warms it up."""
    some = hall.prompts[:streams]
    runs: dict[str, Callable[[], object]] = {name: partial(one.run, some, count) for name, one in hall.speakers.items()}
    read = prompts.token_count(some, hall.tokenizer)
    runs[CEILING] = lambda: ceiling.answers(hall.products, read, len(some), count)
    answers = {name: one.run(some, count) for name, one in hall.speakers.items()}
    made = {name: sum(one.tokens for one in each) for name, each in answers.items()} | {CEILING: streams * count}
    taken = take_turns(runs, rounds)
    rates = {name: [made[name] / seconds for seconds in each] for name, each in taken.items()}
    figures = []
    for ours in hall.engines:
        figures += [
            figure(f"{what}: {ours} / {one}", ratios(rates, ours, one), "x", target=_target(ours, one, streams))
            for one in hall.bounds
        ]
    figures += _compare(hall, what, answers)
    notes = {name: "" if made[name] == streams * count else f"{made[name]:,} tokens" for name in rates}
    return figures + [figure(f"{what}: {one}", rates[one], "tokens/s", note=notes[one]) for one in rates]


def _target(ours: str, peer: str, streams: int) -> Target | None:
    if streams == STREAMS[-1]:
        return Target(0.7) if peer == CEILING else Target(3.0)
    return Target(0.8) if streams == 1 and ours != ENGINE and peer == LLAMA else None


def _compare(hall: Hall, what: str, answers: Mapping[str, Sequence[Answer]]) -> list[Figure]:
    """Each of ours beside every peer, and those in fewer bits beside the engine in float."""
    texts = {name: [one.text for one in each] for name, each in answers.items()}
    figures = []
    for ours in hall.engines:
        for other in (*(() if ours == ENGINE else (ENGINE,)), *hall.peers):
            is_held = ours == ENGINE and other in (TRANSFORMERS, BATCHES)  # who computes with the same numbers
            share = share_equal(texts[ours], texts[other])
            note = f"{share_begun(texts[ours], texts[other]):.2f} of the text before the first difference"
            target = SHARE_EQUAL if is_held else None
            figures.append(Figure(f"{what}: answers of {ours} equal to {other}", share, target=target, note=note))
    return figures


def _reading(hall: Hall, rounds: int) -> list[Figure]:
    """Prompts of one length, each with one token of answer."""
    texts = [prompts.long(hall.prompts, hall.tokenizer, READ_TOKENS, seed) for seed in range(READ_PROMPTS)]
    runs: dict[str, Callable[[], object]] = {name: partial(one.run, texts, 1) for name, one in hall.speakers.items()}
    runs[CEILING] = lambda: [hall.products(READ_TOKENS) for _ in texts]
    for run in runs.values():
        run()
    rates = {
        name: [READ_TOKENS * READ_PROMPTS / seconds for seconds in each]
        for name, each in take_turns(runs, rounds).items()
    }
    targets = {CEILING: Target(0.7)}
    shown = [
        figure(f"prompts: {ours} / {one}", ratios(rates, ours, one), "x", target=targets.get(one))
        for ours in hall.engines
        for one in hall.bounds
    ]
    return shown + [figure(f"prompts: {one}", rates[one], "tokens/s") for one in rates]


def _first_tokens(
    what: str, engine: Engine, asked: Sequence[str], tokenizer: FastTokenizer, rounds: int
) -> list[Figure]:
    """Seconds until the first piece of text: idle, beside 32 answers, and after a beginning that was read before."""
    short = [prompts.long(asked, tokenizer, 100, seed) for seed in range(100, 100 + 4 * rounds)]
    idle = [engine.first_token_s(one, 1, salt=f"idle {i}") for i, one in enumerate(short)]
    busy = _busy_first_tokens(engine, asked, short)
    speedups, seconds = [], []
    for turn in range(rounds):
        start = prompts.long(asked, tokenizer, PREFIX_TOKENS, turn)
        first = engine.first_token_s(f"{start} What is this about?", 1, salt=f"prefix {turn}")
        second = engine.first_token_s(f"{start} Who is in it?", 1, salt=f"prefix {turn}")
        speedups.append(first / second)
        seconds.append(second)
    ratio = float(np.quantile(busy, 0.99)) / median(idle)
    return [
        Figure(
            f"{what}: first token, {STREAMS[-1]} answers under way (p99) / idle (median)", ratio, "x", target=AT_MOST
        ),
        figure(f"{what}: first token, idle, prompt of 100 tokens", idle, "s"),
        figure(f"{what}: first token, {STREAMS[-1]} answers under way", busy, "s"),
        figure(f"{what}: beginning of {PREFIX_TOKENS:,} tokens: first / second request", speedups, "x", target=FASTER),
        figure(f"{what}: beginning of {PREFIX_TOKENS:,} tokens: the second's first token", seconds, "s"),
    ]


def _busy_first_tokens(engine: Engine, asked: Sequence[str], short: Sequence[str]) -> list[float]:
    """Each comes at a random moment of a step, as from outside: its wait until the step's end counts."""
    drawn = random.Random(7)
    for i, prompt in enumerate(asked[: STREAMS[-1]]):
        engine.ask(prompt, 600, salt=f"load {i}")
    while engine.reading:
        engine.step()
    seconds = []
    for i, prompt in enumerate(short):
        start = time.perf_counter()
        engine.step()
        came = start + drawn.random() * (time.perf_counter() - start)
        call_id = engine.ask(prompt, 1, salt=f"busy {i}", stream=True)
        while not any(chunk.call_id == call_id for chunk in engine.step()):
            pass
        seconds.append(time.perf_counter() - came)
    engine.stop()
    return seconds


def _resident_path(source: Path, dtype: str, stack: ExitStack) -> ModelPath:
    made = Path(stack.enter_context(TemporaryDirectory())) / dtype
    resident.make(source, dtype, made)
    return ModelPath(Manifest("smollm2", 1, Kind.BASE, "chat", ()), str(source), str(made))


def _float32(source: Path, base: ModelPath, dtype: str, stack: ExitStack) -> Path:
    return Path(str(base.resident if dtype == "float32" else _resident_path(source, "float32", stack).resident))
