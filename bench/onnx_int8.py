"""MiniLM in onnxruntime's int8: exported by torch, quantized dynamically, sorted batches, no server around it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModel, AutoTokenizer

BATCH = 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _Hidden(torch.nn.Module):
    """The backbone with its last hidden state as the one output."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.body(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        return hidden


def export(base: Path, folder: Path) -> Path:
    """The base as an ONNX file with int8 weights, any batch and any length."""
    plain, small = folder / "model.onnx", folder / "model-int8.onnx"
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in INPUTS)
    batch, length = torch.export.Dim("batch", min=1, max=1024), torch.export.Dim("length", min=2, max=512)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter talks about itself
        torch.onnx.export(
            _Hidden(base).eval(),
            example,
            str(plain),
            input_names=list(INPUTS),
            output_names=["hidden"],
            dynamic_shapes=tuple({0: batch, 1: length} for _ in INPUTS),
            dynamo=True,
            verbose=False,
        )
    quantize_dynamic(plain, small, weight_type=QuantType.QInt8)
    return small


class OnnxInt8:
    """Texts to vectors, those of one length near each other in a batch."""

    def __init__(self, base: Path, folder: Path, texts: Sequence[str]) -> None:
        self._session = onnxruntime.InferenceSession(str(export(base, folder)), providers=["CPUExecutionProvider"])
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._texts = list(texts)

    def run(self) -> np.ndarray:
        ids = self._tokenizer(self._texts)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            padded = self._tokenizer.pad({"input_ids": [ids[i] for i in some]}, return_tensors="np")
            mask = padded["attention_mask"].astype(np.int64)
            feed = (padded["input_ids"].astype(np.int64), mask, np.zeros_like(mask))
            (hidden,) = self._session.run(None, dict(zip(INPUTS, feed, strict=True)))
            means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            found |= zip(some, means / np.linalg.norm(means, axis=1, keepdims=True), strict=True)
        return np.stack([found[i] for i in range(len(order))])
