"""Generation: tokens a second at 1, 8 and 32 answers, prompts, first tokens, beside transformers and llama.cpp."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear
from transformers.utils import logging

from bench import data
from bench.box import Box
from bench.equality import share_equal
from bench.record import Figure, Record, Target, figure, ratios
from bench.rounds import per_second, take_turns
from bench.speakers import Engine, LlamaCpp, Transformers
from bench.stop import Stop
from llmos.abi.frame import Located
from llmos.abi.model import Kind, Manifest
from llmos.nn import resident
from llmos.nn.load import load_folder
from llmos.nn.product import turned
from llmos.nn.tokenizer import FastTokenizer

STREAMS = (1, 8, 32)
PROMPT_TOKENS = (50, 150)  # of a prompt: from, to
READ_TOKENS, READ_PROMPTS = 256, 8
PREFIX_TOKENS = 1000
SHARE_EQUAL = Target(0.95)  # two sums in another order may differ where two tokens are equally likely

AT_MOST, FASTER = Target(2.0, at_most=True), Target(10.0)  # of first tokens: beside others, after a shared beginning

ENGINE = "llmos engine"
INT8 = "llmos engine, int8"
TRANSFORMERS = "transformers generate"
LLAMA = "llama.cpp, Q4_1"
CEILING = "the matrix products alone"


def measure(folder: Path, home: Path, *, rounds: int, count: int, device: str | None, mode: str) -> Record:
    """`count` tokens of answer to each prompt; everyone on the same weights, which llama.cpp computes quantized."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with ExitStack() as stack:
        with Box(home) as box:
            source, place = box.base("smollm2"), box.device(device)
        name, dtype = place["name"], place["dtype"]
        if not name.startswith("cpu"):
            raise Stop(f"llama.cpp and the ceiling are measured on a CPU here, not on {name}. Use --device cpu0")
        base = _located(source, dtype, stack)
        engine = Engine(base, name, dtype)
        whole = Engine(_located(source, "int8", stack), name, "int8")
        peer, peer_dtype = _best_transformers(_float32(source, base, dtype, stack))
        llama = LlamaCpp(next(source.glob("*.gguf")))
        tokenizer = FastTokenizer(Path(str(base.resident)))
        prompts = _prompts(data.ragged_texts(folder, 1500), tokenizer, peer, count)
        products = _products(Path(str(base.resident)), dtype, name)
        figures: list[Figure] = []
        for streams in STREAMS if mode == "full" else (STREAMS[0], STREAMS[-1]):
            some = prompts[:streams]
            contenders = {
                ENGINE: lambda some=some: engine.run(some, count),
                INT8: lambda some=some: whole.run(some, count),
                TRANSFORMERS: lambda some=some: peer.run(some, count),
                LLAMA: lambda some=some: llama.run(some, count),
                CEILING: lambda some=some: _least(products, _tokens(some, tokenizer), len(some), count),
            }
            figures += _beside(f"{streams} at once", contenders, rounds, streams * count, streams)
        figures += _reading(prompts, tokenizer, (engine, whole), peer, llama, products, rounds)
        for one, who in ((ENGINE, engine), (INT8, whole)):
            figures += _first_tokens(one, who, prompts, tokenizer, rounds)
    settings = {
        "device": name,
        "dtype": dtype,
        "transformers in": peer_dtype,
        "threads": torch.get_num_threads(),
        "tokens an answer": count,
        "prompt tokens": " to ".join(map(str, PROMPT_TOKENS)),
        "rounds": rounds,
    }
    skipped = () if torch.cuda.is_available() else ("a GPU: this machine has none that torch can use",)
    return Record("generate", mode, settings, tuple(figures), skipped)


def _least(products: Callable[[int], object], prompt_tokens: int, streams: int, count: int) -> None:
    """The products of reading so many tokens of prompts in full steps, and of as many further steps as answers take."""
    for start in range(0, prompt_tokens, READ_TOKENS):
        products(min(READ_TOKENS, prompt_tokens - start))
    for _ in range(count - 1):
        products(streams)


def _beside(
    what: str, contenders: dict[str, Callable[[], object]], rounds: int, tokens: int, streams: int
) -> list[Figure]:
    """Ratios and rates of one number of answers, their texts compared; comparing runs each once, which warms it up."""
    answers = {one: run() for one, run in contenders.items() if one != CEILING}
    rates = per_second(take_turns(contenders, rounds), tokens)
    is_many = streams == STREAMS[-1]
    figures = []
    for ours in (ENGINE, INT8):
        targets = {
            CEILING: Target(0.7) if is_many else None,
            TRANSFORMERS: Target(3.0) if is_many else None,
            LLAMA: Target(3.0) if is_many else Target(0.8) if streams == 1 and ours == INT8 else None,
        }
        figures += [
            figure(f"{what}: {ours} / {peer}", ratios(rates, ours, peer), "x", target=targets[peer])
            for peer in (CEILING, TRANSFORMERS, LLAMA)
        ]
    for ours, peer, target in (
        (ENGINE, TRANSFORMERS, SHARE_EQUAL),
        (ENGINE, LLAMA, None),
        (INT8, ENGINE, None),
        (INT8, LLAMA, None),
    ):
        share = share_equal(answers[ours], answers[peer])  # type: ignore[arg-type]  # lists of texts
        figures.append(Figure(f"{what}: answers of {ours} equal to {peer}", share, target=target))
    return figures + [figure(f"{what}: {one}", rates[one], "tokens/s") for one in contenders]


def _reading(
    prompts: Sequence[str],
    tokenizer: FastTokenizer,
    ours: tuple[Engine, Engine],
    peer: Transformers,
    llama: LlamaCpp,
    products: Callable[[int], object],
    rounds: int,
) -> list[Figure]:
    """Prompts of one length, each with one token of answer."""
    long = [_long(prompts, tokenizer, READ_TOKENS, seed) for seed in range(READ_PROMPTS)]
    contenders: dict[str, Callable[[], object]] = {
        ENGINE: lambda: ours[0].run(long, 1),
        INT8: lambda: ours[1].run(long, 1),
        TRANSFORMERS: lambda: peer.run(long, 1),
        LLAMA: lambda: llama.run(long, 1),
        CEILING: lambda: [products(READ_TOKENS) for _ in long],
    }
    for run in contenders.values():
        run()
    rates = per_second(take_turns(contenders, rounds), READ_TOKENS * READ_PROMPTS)
    targets = {CEILING: Target(0.7)}
    shown = [
        figure(f"prompts: {one_of_ours} / {one}", ratios(rates, one_of_ours, one), "x", target=targets.get(one))
        for one_of_ours in (ENGINE, INT8)
        for one in (CEILING, TRANSFORMERS, LLAMA)
    ]
    return shown + [figure(f"prompts: {one}", rates[one], "tokens/s") for one in contenders]


def _first_tokens(
    what: str, engine: Engine, prompts: Sequence[str], tokenizer: FastTokenizer, rounds: int
) -> list[Figure]:
    """Seconds until the first piece of text: idle, beside 32 answers, and after a beginning that was read before."""
    short = [_long(prompts, tokenizer, 100, seed) for seed in range(100, 100 + 4 * rounds)]
    idle = [engine.first_token_s(one, 1, salt=f"idle {i}") for i, one in enumerate(short)]
    busy = _busy_first_tokens(engine, prompts, short)
    speedups, seconds = [], []
    for turn in range(rounds):
        start = _long(prompts, tokenizer, PREFIX_TOKENS, turn)
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


def _busy_first_tokens(engine: Engine, prompts: Sequence[str], short: Sequence[str]) -> list[float]:
    """Each comes at a random moment of a step, as from outside: its wait until the step's end counts."""
    drawn = random.Random(7)
    for i, prompt in enumerate(prompts[: STREAMS[-1]]):
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


def _prompts(texts: Sequence[str], tokenizer: FastTokenizer, peer: Transformers, tokens: int) -> list[str]:
    """As many as the most answers at once, of ragged lengths, whose answers do not end before so many tokens."""
    drawn = random.Random(7)
    ids = [token for one in tokenizer.encode([f"{text} " for text in texts]) for token in one.ids]
    chosen: list[str] = []
    while len(chosen) < STREAMS[-1] and len(ids) > PROMPT_TOKENS[1] * STREAMS[-1]:
        some = []
        for _ in range(STREAMS[-1] + 4):  # a few are continued for less
            length = drawn.randint(*PROMPT_TOKENS)
            some.append(tokenizer.decode(ids[:length]))
            ids = ids[length:]
        chosen += [text for text, made in zip(some, peer.tokens(some, tokens), strict=True) if len(made) >= tokens]
    if len(chosen) < STREAMS[-1]:
        raise Stop(f"Only {len(chosen)} texts are continued for {tokens} tokens. Ask for fewer (--texts)")
    return chosen[: STREAMS[-1]]


def _tokens(texts: Sequence[str], tokenizer: FastTokenizer) -> int:
    return sum(len(one.ids) for one in tokenizer.encode(list(texts)))


def _long(prompts: Sequence[str], tokenizer: FastTokenizer, tokens: int, seed: int) -> str:
    """A text of about so many tokens, another one for each seed."""
    words = " ".join(random.Random(seed).sample(list(prompts), len(prompts)))
    return tokenizer.decode(tokenizer.encode([words])[0].ids[:tokens])


def _best_transformers(folder: Path) -> tuple[Transformers, str]:
    """In the dtype that is the faster one here."""
    tried = []
    for dtype in (torch.float32, torch.bfloat16):
        one = Transformers(folder, dtype)
        start = time.perf_counter()
        one.run(["How do I locate my card, and where?"] * 8, 4)
        tried.append((time.perf_counter() - start, str(dtype).removeprefix("torch."), one))
    _, name, best = min(tried, key=lambda each: each[0])
    return best, name


def _products(folder: Path, dtype: str, device: str) -> Callable[[int], object]:
    """Every matrix product of a step for so many tokens and nothing else, each the way round that is faster."""
    model = load_folder(folder, dtype=dtype, device=device).causal
    assert model is not None
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]

    def run(tokens: int) -> None:
        inputs = {w.shape[1]: torch.ones(tokens, w.shape[1], dtype=w.dtype) for w in weights}
        for weight in weights:
            x = inputs[weight.shape[1]]
            x = x[:32] if len(weight) > 16_384 else x  # the next-token layer sees the last tokens only
            if len(x) > 1:
                turned(x, weight, None)
            else:
                linear(x, weight)

    return torch.inference_mode()(run)


def _located(source: Path, dtype: str, stack: ExitStack) -> Located:
    made = Path(stack.enter_context(TemporaryDirectory())) / dtype
    resident.make(source, dtype, made)
    return Located(Manifest("smollm2", 1, Kind.BASE, "chat", ()), str(source), str(made))


def _float32(source: Path, base: Located, dtype: str, stack: ExitStack) -> Path:
    return Path(str(base.resident if dtype == "float32" else _located(source, "float32", stack).resident))
