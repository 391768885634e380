"""Encoder throughput on ragged text: engine, serve process and HTTP beside transformers and sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from bench import data, embedders
from bench.box import Box
from bench.child import Child
from bench.clients import Embedder
from bench.engine import InProcess, base_path
from bench.equality import least_cosine
from bench.record import Figure, Record, Target, figure, ratios
from bench.rounds import per_second, take_turns
from llmos.abi.frame import ModelPath
from llmos.nn import resident
from llmos.nn.load import torch_device

CALL_TEXTS = 32  # what one call or request carries: the peers' batch
CONNECTIONS = 8
LEAST_COSINE = {"float32": Target(0.99999), "bfloat16": Target(0.999)}

PIPELINE = "transformers pipeline"
SENTENCES = "sentence-transformers default"
BEST = "sentence-transformers best"
ENGINE = "llmos engine"
CHILD = "llmos serve process"
TASKS = "llmos HTTP /v1/tasks/embed"
OPENAI = "llmos HTTP /v1/embeddings"
SINGLES = "llmos HTTP, one text a request"

RATIOS = (
    (ENGINE, PIPELINE, Target(7.0)),
    (ENGINE, SENTENCES, Target(3.0)),
    (ENGINE, BEST, Target(1.15)),
    (CHILD, PIPELINE, None),
    (TASKS, PIPELINE, Target(4.0)),
    (OPENAI, PIPELINE, Target(4.0)),
    (TASKS, SENTENCES, None),
    (SINGLES, PIPELINE, None),
)

Run = Callable[[], np.ndarray]


def measure(folder: Path, home: Path, *, rounds: int, count: int, dtype: str, device: str | None, mode: str) -> Record:
    """All contenders on the same texts, round by round; each one's vectors against the plain model's.

    `dtype`: what llmos computes in; "auto" is what it measured to be faster here.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    texts = data.ragged_texts(folder, count)
    with ExitStack() as stack:
        box = stack.enter_context(Box(home, dtype))
        base, place = box.base(), box.device(device)
        name, dtype = place["name"], place["dtype"]
        tokens = _lengths(base, texts)
        where = _resident_path(base, dtype, stack)
        options = {"device": name, "dtype": dtype, "call_texts": CALL_TEXTS}
        pipeline = embedders.FeatureExtraction(base, texts, torch_device(name))
        best, best_run = embedders.best_sentences(base, texts, torch_device(name))
        vectors: dict[str, Run] = {
            PIPELINE: pipeline.vectors,
            SENTENCES: embedders.sentences(base, texts, torch_device(name), torch.float32),
            BEST: best_run,
            ENGINE: InProcess(where, texts, **options).run,
            CHILD: stack.enter_context(Child(where, texts, **options)).run,
            TASKS: Embedder(box.url, texts, openai=False, request_texts=CALL_TEXTS, connections=CONNECTIONS).run,
            OPENAI: Embedder(box.url, texts, openai=True, request_texts=CALL_TEXTS, connections=CONNECTIONS).run,
            SINGLES: Embedder(box.url, texts, openai=True, request_texts=1, connections=CALL_TEXTS).run,
        }
        # Comparing the answers runs each one once, which is also its warming up.
        right = embedders.reference(base, texts)
        cosines = {one: least_cosine(run(), right) for one, run in vectors.items()}
        exact = cosines[ENGINE]
        if dtype != "float32":
            options["dtype"] = "float32"
            exact = least_cosine(InProcess(base_path(base), texts, **options).run(), right)
        contenders = {one: pipeline.run if one == PIPELINE else run for one, run in vectors.items()}
        rates = per_second(take_turns(contenders, rounds), sum(tokens))
    figures = [*_ratios(rates), *_cosines(cosines, exact, dtype), *_rates(rates, best)]
    settings = {
        "device": name,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "texts": count,
        "tokens": f"{sum(tokens):,} (mean {sum(tokens) / count:.1f}, max {max(tokens)})",
        "texts a call": CALL_TEXTS,
        "connections": CONNECTIONS,
        "rounds": rounds,
    }
    skipped = () if torch.cuda.is_available() else ("a GPU: this machine has none that torch can use",)
    return Record("encoder", mode, settings, tuple(figures), skipped)


def _ratios(rates: dict[str, list[float]]) -> list[Figure]:
    shown = []
    for ours, peer, target in RATIOS:
        shown.append(figure(f"{ours} / {peer}", ratios(rates, ours, peer), "x", target=target))
    return shown


def _cosines(cosines: dict[str, float], exact: float, dtype: str) -> list[Figure]:
    """Every way's least cosine to the reference; ours are held to what their dtype allows."""
    shown = [
        Figure(f"least cosine, {one}", value, target=LEAST_COSINE[dtype] if one.startswith("llmos") else None)
        for one, value in cosines.items()
    ]
    return [*shown, Figure("least cosine, llmos engine in float32", exact, target=LEAST_COSINE["float32"])]


def _rates(rates: dict[str, list[float]], best: str) -> list[Figure]:
    return [figure(one, rates[one], "tokens/s", note=best if one == BEST else "") for one in rates]


def _lengths(base: Path, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in AutoTokenizer.from_pretrained(base)(list(texts))["input_ids"]]


def _resident_path(base: Path, dtype: str, stack: ExitStack) -> ModelPath:
    if dtype == "float32":
        return base_path(base)
    made = Path(stack.enter_context(TemporaryDirectory())) / dtype
    resident.make(base, dtype, made)
    return base_path(base, made)
