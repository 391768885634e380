"""Tiny random ONNX graphs for each task, with all that stands beside one. For tests: they know nothing, fast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from llmos.testing.tiny import SHARED, tokenizer

PIECES = SHARED["vocab_size"]
HIDDEN = 16
LABELS = {"classify": ("no", "yes", "perhaps"), "tag": ("O", "B-PER", "I-PER"), "embed": ()}
FAR = -1e9  # what no attention reaches


def write_onnx(
    folder: Path,
    task: str = "classify",
    *,
    seed: int = 7,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    length: int | str = "tokens",
    output: str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """One layer of attention over embeddings, and what the task needs on top, in this folder with a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    said = LABELS[task] if labels is None else tuple(labels)
    width = len(LABELS[task]) or HIDDEN
    random = np.random.default_rng(seed)
    sizes = {"embedding": (PIECES, HIDDEN), "query": (HIDDEN, HIDDEN), "out": (HIDDEN, width)}
    weights: dict[str, Any] = {  # Any: arrays of numpy
        "one": np.float32(1),
        "far": np.float32(FAR),
        "middle": np.array([1]),
    }
    for key, size in sizes.items():
        weights[key] = random.normal(0, 1, size).astype(np.float32)
    name = output or {"embed": "last_hidden_state"}.get(task, "logits")
    shapes: dict[str, list[str | int | None]] = {
        "classify": ["batch", width],
        "tag": ["batch", length, width],
        "embed": ["batch", length, HIDDEN],
    }
    graph = helper.make_graph(
        _nodes(task, name, has_mask="attention_mask" in inputs),
        "tiny",
        [helper.make_tensor_value_info(one, TensorProto.INT64, ["batch", length]) for one in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[task])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer(closes=True).save(str(folder / "tokenizer.json"))
    config = {"model_type": "tiny", "max_position_embeddings": 64}
    if said:
        config["id2label"] = {str(i): label for i, label in enumerate(said)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _nodes(task: str, name: str, *, has_mask: bool) -> list[onnx.NodeProto]:
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["x"]),
        node("MatMul", ["x", "query"], ["q"]),
        node("Transpose", ["x"], ["keys"], perm=[0, 2, 1]),
        node("MatMul", ["q", "keys"], ["scores"]),
    ]
    if has_mask:
        nodes += [
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "middle"], ["row"]),
            node("Sub", ["one", "row"], ["hidden_row"]),
            node("Mul", ["hidden_row", "far"], ["bias"]),
            node("Add", ["scores", "bias"], ["seen"]),
        ]
    nodes += [
        node("Softmax", ["seen" if has_mask else "scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "x"], [name if task == "embed" else "h"]),
    ]
    if task == "tag":
        nodes.append(node("MatMul", ["h", "out"], [name]))
    if task == "classify":
        nodes += [
            node("Gather", ["h", "first"], ["start"], axis=1),
            node("MatMul", ["start", "out"], [name]),
        ]
        nodes.insert(0, node("Constant", [], ["first"], value=numpy_helper.from_array(np.array(0))))
    return nodes


def write_pipeline(folder: Path, *, zipmap: bool = True) -> Path:
    """A text classifier of scikit-learn, fitted on four texts, as its own exporter writes it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    folder.mkdir(parents=True, exist_ok=True)
    texts = ["pay the bill", "the bill is wrong", "where is my parcel", "the parcel is late"]
    pipeline = make_pipeline(CountVectorizer(token_pattern="[a-z]+", lowercase=False), LogisticRegression())
    pipeline.fit(texts, ["billing", "billing", "delivery", "delivery"])
    options = {LogisticRegression: {"zipmap": zipmap}}
    made = to_onnx(pipeline, initial_types=[("text", StringTensorType([None, 1]))], options=options, target_opset=17)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder
