"""The other ways of turning texts into vectors, each used as its own documentation shows, and each at its best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer, pipeline

from bench.rounds import measure_s

BATCH = 32
TRIED_TEXTS = 128  # for the batch size; a quarter of them for the dtype, which differs by far more
TRIED_BATCHES = (8, 16, 32, 128)

Vectors = np.ndarray
Run = Callable[[], Vectors]


class FeatureExtraction:
    """transformers' pipeline in fp32, batches of 32 in the order of arrival. It gives a vector for every token."""

    def __init__(self, base: Path, texts: Sequence[str], device: torch.device) -> None:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModel.from_pretrained(base, dtype=torch.float32)
        self._extract = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device=device)
        self._texts = list(texts)
        self._lengths = [len(ids) for ids in tokenizer(self._texts)["input_ids"]]

    def run(self) -> list[list[list[list[float]]]]:
        """What is timed: its own answer as it comes, without the pooling that the user has yet to do."""
        answers: list[list[list[list[float]]]] = self._extract(self._texts, batch_size=BATCH)
        return answers

    def vectors(self) -> Vectors:
        """The mean of each text's own tokens: the answers carry their batch's padding too."""
        return np.stack([np.mean(a[0][:n], axis=0) for a, n in zip(self.run(), self._lengths, strict=True)])


def reference(base: Path, texts: Sequence[str]) -> Vectors:
    """What is right: the plain model in fp32 on the CPU, one text at a time, no padding, the mean of its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModel.from_pretrained(base, dtype=torch.float32).eval()
    with torch.inference_mode():
        vectors = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    return torch.stack(vectors).numpy()


def sentences(base: Path, texts: Sequence[str], device: torch.device, dtype: torch.dtype, batch: int = BATCH) -> Run:
    """sentence-transformers: mean pooling and unit length as this base wants them. It sorts by length itself."""
    return partial(_encode, _sentence_model(base, device, dtype), list(texts), batch)


def best_sentences(base: Path, texts: Sequence[str], device: torch.device) -> tuple[str, Run]:
    """sentence-transformers with the dtype and then the batch size that a trial on this machine finds fastest."""
    few = list(texts[:TRIED_TEXTS])
    models = {dtype: _sentence_model(base, device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    dtype = min(models, key=lambda one: _trial(partial(_encode, models[one], few[: TRIED_TEXTS // 4], BATCH)))
    batch = min(TRIED_BATCHES, key=lambda one: _trial(partial(_encode, models[dtype], few, one)))
    return f"{str(dtype).removeprefix('torch.')}, batch {batch}", partial(_encode, models[dtype], list(texts), batch)


def _sentence_model(base: Path, device: torch.device, dtype: torch.dtype) -> SentenceTransformer:
    body = Transformer(str(base), model_kwargs={"dtype": dtype}, max_seq_length=512)
    modules = [body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()]
    return SentenceTransformer(modules=modules, device=str(device))


def _encode(model: SentenceTransformer, texts: list[str], batch: int) -> Vectors:
    return model.encode(texts, batch_size=batch, show_progress_bar=False)


def _trial(run: Callable[[], object]) -> float:
    run()
    return measure_s(run)
