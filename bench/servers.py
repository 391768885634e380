"""Encoder servers over HTTP: llmos, sentence-transformers behind FastAPI, infinity; beside them onnxruntime int8."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from bench import data, embedders
from bench.box import Box, free_port, until
from bench.clients import Embedder
from bench.equality import least_cosine
from bench.onnx_int8 import OnnxInt8
from bench.record import ROOT, Figure, Record, Target, figure, ratios
from bench.rounds import per_second, take_turns

REQUEST_TEXTS, CONNECTIONS = 8, 8
INFINITY_VENV = ROOT / ".venv-infinity"
START_S = 300.0
OURS = "llmos"
FASTAPI = "sentence-transformers behind FastAPI"
INFINITY = "infinity-emb"
ONNX = "onnxruntime int8, sorted batches, no server"
TARGETS = {FASTAPI: Target(2.0), INFINITY: Target(1.2), ONNX: Target(1.3)}
LEAST_COSINE = {"float32": Target(0.99999), "bfloat16": Target(0.999), "int8": Target(0.98)}

Run = Callable[[], np.ndarray]


def measure(
    folder: Path, home: Path, *, rounds: int, count: int, dtype: str, infinity: Path = INFINITY_VENV, mode: str
) -> Record:
    """The same texts in the same requests to each server by turns; ours computes in this dtype."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    texts = data.ragged_texts(folder, count)
    with ExitStack() as stack:
        is_int8 = dtype == "int8"
        floats = Box(home.with_name(f"{home.name}-int8")) if is_int8 else Box(home, dtype)
        box = stack.enter_context(floats)
        base, chosen = box.base(), dtype if is_int8 else box.device()["dtype"]
        if is_int8:  # a version of its own, in a home of its own: the other benches measure what was pulled
            box.cli("quantize", "minilm:1", "--max-drop", "0.05")
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        best, _ = embedders.best_sentences(base, texts, torch.device("cpu"))
        kind, _, batch = best.partition(", batch ")
        plain = [sys.executable, "-m", "bench.plain_server", str(base), "{port}", kind, batch]
        contenders: dict[str, Run] = {
            OURS: _asker(box.url, texts),
            FASTAPI: _asker(stack.enter_context(_server_url(plain, "/healthz")), texts),
            ONNX: OnnxInt8(base, scratch, texts).run,
        }
        skipped = []
        program = infinity / "bin" / "infinity_emb"
        if program.exists():
            contenders[INFINITY] = _asker(
                stack.enter_context(_server_url(_infinity(program, base, kind), "/health")), texts
            )
        else:
            skipped.append(f"{INFINITY}: it is not installed in {infinity}. Make it: make {infinity.name}")
        right = embedders.reference(base, texts)
        cosines = {one: least_cosine(run(), right) for one, run in contenders.items()}  # which also warms them up
        lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(base)(texts)["input_ids"]]
        rates = per_second(take_turns(contenders, rounds), sum(lengths))
    figures = [
        figure(f"{OURS} / {peer}", ratios(rates, OURS, peer), "x", target=TARGETS[peer])
        for peer in contenders
        if peer != OURS
    ]
    figures += [
        Figure(f"least cosine, {one}", value, target=LEAST_COSINE.get(chosen) if one == OURS else None)
        for one, value in cosines.items()
    ]
    figures += [figure(one, rates[one], "tokens/s", note=best if one == FASTAPI else "") for one in contenders]
    settings = {
        "dtype": chosen,
        "threads": torch.get_num_threads(),
        "texts": count,
        "tokens": f"{sum(lengths):,}",
        "texts a request": REQUEST_TEXTS,
        "connections": CONNECTIONS,
        "rounds": rounds,
    }
    return Record("servers", mode, settings, tuple(figures), tuple(skipped))


def _asker(url: str, texts: Sequence[str]) -> Run:
    return Embedder(url, texts, openai=True, request_texts=REQUEST_TEXTS, connections=CONNECTIONS).run


def _infinity(program: Path, base: Path, dtype: str) -> list[str]:
    """As its documentation has it for a CPU; its batches are made of whatever requests are there at the time."""
    chosen = {"--model-id": str(base), "--served-model-name": "minilm", "--engine": "torch", "--device": "cpu"}
    chosen |= {"--dtype": dtype, "--batch-size": "32", "--port": "{port}", "--host": "127.0.0.1", "--url-prefix": "/v1"}
    return [
        str(program),
        "v2",
        *(word for pair in chosen.items() for word in pair),
        "--no-bettertransformer",
        "--no-model-warmup",
    ]


@contextmanager
def _server_url(command: Sequence[str], health: str) -> Iterator[str]:
    """The url of a peer's server while it runs."""
    port = free_port()
    words = [word.format(port=port) for word in command]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}  # infinity would tell its makers
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or _answers(port, health), words[0], every_s=0.2, within_s=START_S)
            assert process.poll() is None, f"{' '.join(words)} ended with {process.returncode}"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()
