"""Starting: the daemon until it answers, and an embedding model that no process serves until its first vector."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.box import Box, until
from bench.record import Record, Target, figure, ratios
from bench.rounds import measure_s

FIRST = {"model": "minilm", "input": ["How do I locate my card?"]}
PEER = """
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
body = Transformer({base!r})
model = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()])
model.encode(["How do I locate my card?"], show_progress_bar=False)
"""


@dataclass(slots=True)
class Times:
    """Seconds, one entry a round."""

    up: list[float] = field(default_factory=list)
    from_nothing: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)


def measure(home: Path, *, rounds: int, mode: str) -> Record:
    """Each once a round, from outside, by the clock of whoever types the command or sends the request."""
    with Box(home) as box:
        base = box.base()
        box.device()  # found once, and known at the next start
    times = Times()
    for _ in range(rounds):
        _round(Box(home), times)
        times.peer.append(measure_s(lambda: _script(PEER.format(base=str(base)))))
    figures = (
        figure("llmos up until it answers", times.up, "s", target=Target(1.0, at_most=True)),
        figure("cold start: no serve process, to first vector over HTTP", times.cold, "s", target=Target(0.5, True)),
        figure("the same, served already", times.warm, "s"),
        figure("from `llmos up` typed to first vector", times.from_nothing, "s"),
        figure("sentence-transformers: from a new Python to first vector", times.peer, "s"),
        figure("the peer's time / our cold start", ratios({"p": times.peer, "o": times.cold}, "p", "o"), "x"),
    )
    return Record("start", mode, {"rounds": rounds, "base": "minilm"}, figures)


def _round(box: Box, times: Times) -> None:
    started = time.perf_counter()
    times.up.append(measure_s(box.up))
    try:
        box.ask("POST", "/v1/embeddings", FIRST)
        times.from_nothing.append(time.perf_counter() - started)
        until(lambda: box.ask("GET", "/v1/status")["is_warm"], "the zygote's imports")
        box.stop_serving()
        times.cold.append(measure_s(lambda: box.ask("POST", "/v1/embeddings", FIRST)))
        times.warm.append(measure_s(lambda: box.ask("POST", "/v1/embeddings", FIRST)))
    finally:
        box.down()


def _script(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
