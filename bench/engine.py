"""The engine in this process, without daemon, socket or HTTP: what forward pass and batching give by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmos.abi.call import Call, Chunk
from llmos.abi.error import error_of
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.config import Config
from llmos.engines import driver

MODEL = "minilm:1"
TOKEN_BUDGET = Config(Path()).token_budget  # as the daemon has it by default


def base_path(folder: Path, resident: Path | None = None) -> ModelPath:
    """The base in a folder, as the daemon would say it to a child."""
    manifest = Manifest("minilm", 1, Kind.BASE, "embed", files=(), options={"pooling": "mean"})
    return ModelPath(manifest, str(folder), str(resident) if resident else None)


def calls(texts: Sequence[str], call_texts: int) -> list[Call]:
    """The texts as calls of so many each, in the order of arrival."""
    starts = range(0, len(texts), call_texts)
    return [Call(i, MODEL, "embed", tuple(texts[s : s + call_texts])) for i, s in enumerate(starts)]


def vectors(chunks: Sequence[Chunk]) -> np.ndarray:
    """The vectors of finished calls, in the calls' order; raises the fault of one that failed."""
    rows = []
    for chunk in sorted(chunks, key=lambda one: one.call_id):
        if chunk.fault is not None:
            raise error_of(chunk.fault)
        rows += [np.frombuffer(output["data"], dtype="<f4") for output in chunk.outputs]
    return np.stack(rows)


class InProcess:
    """The PyTorch engine with one base."""

    def __init__(self, base: ModelPath, texts: Sequence[str], *, device: str, dtype: str, call_texts: int) -> None:
        self._engine = driver("pytorch", TOKEN_BUDGET)
        self._engine.load(base, device, dtype, threads=0)
        self._calls = calls(texts, call_texts)

    def run(self) -> np.ndarray:
        for call in self._calls:
            self._engine.add(call)
        chunks: list[Chunk] = []
        while not self._engine.is_idle:
            chunks += self._engine.step()
        return vectors(chunks)
