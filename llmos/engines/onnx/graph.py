"""An ONNX graph: checks its inputs and outputs against its declared task."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

from llmos.abi.engine import ENGINES
from llmos.abi.error import BadInput, Missing
from llmos.abi.task import Family, find_spec, spec_of

Session = Any  # Any: onnxruntime.InferenceSession, and its inputs and outputs, compiled classes without types

IDS, MASK = "input_ids", "attention_mask"
TOKENS = (IDS, MASK, "token_type_ids", "position_ids")
INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
TEXT = "tensor(string)"
SOURCE = re.compile(r"/\S+\.(?:h|cc):\d+ .*?\) (?=[A-Z])")  # the place in onnxruntime's own source
UNREADABLE = "it is no ONNX graph, or is cut short or damaged. Fetch or export it again"
TOO_NEW = "it is made for a newer one. Export it with an older opset (opset_version=17), or install a newer onnxruntime"
KNOWN = {  # part of onnxruntime's message -> the cause, and what to do
    "INVALID_PROTOBUF": UNREADABLE,
    "No graph was found": UNREADABLE,
    "Unsupported model IR version": TOO_NEW,
    "support for models stamped": TOO_NEW,
    "(?i)external (data|tensor)": "weights that it keeps in a file of their own are not there. Put that beside it",
    "No Op registered": "it has operations that are not onnxruntime's own. Export it with standard operations alone",
    "locale": "its texts are compared in a locale that is not here. Make it (locale-gen en_US.UTF-8), or export with "
    "lowercase=False",
}
VECTOR_NAMES = ("sentence_embedding", "embeddings", "text_embeds")


class GraphForm(StrEnum):
    """The meaning of the graph's output, for each input."""

    LOGITS = "logits"  # [labels]
    SHARES = "shares"  # [labels], each already a probability
    MAP = "map"  # label -> probability
    TOKEN_LOGITS = "token_logits"  # [tokens, labels]
    VECTOR = "vector"  # [width]
    HIDDEN = "hidden"  # [tokens, width], which needs pooling


@dataclass(frozen=True, slots=True)
class Graph:
    """How to run a graph for its task. `batch` and `length` are its fixed sizes; None means any."""

    inputs: dict[str, str]  # name -> its number type; for texts "text", or "texts" if the shape is a column
    output: str
    form: GraphForm
    width: int | None  # labels, or the size of a vector, if the graph states it
    batch: int | None = None
    length: int | None = None

    @property
    def reads_text(self) -> bool:
        """Whether it reads plain strings instead of tokens."""
        return IDS not in self.inputs

    @property
    def has_mask(self) -> bool:
        return MASK in self.inputs


def open_session(path: Path, threads: int) -> Session:
    """Open the graph on the CPU; BadInput if it cannot be read."""
    try:
        library = import_module("onnxruntime")
    except ImportError as error:
        extra = ENGINES["onnx"].extra
        raise Missing(
            f"The engine onnx needs onnxruntime, which is not installed here ({error}). "
            f"Install it in llmos's folder: .venv/bin/pip install -e '.[{extra}]'",
            extra=extra,
        ) from error
    options = library.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # idle threads must not spin, because other processes need the cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen error classes, and each means that the file is unusable
        raise BadInput(
            f"{path.name} cannot be run by onnxruntime {library.__version__}: {_why(error)}", file=path.name
        ) from error


def _why(error: Exception) -> str:
    """The cause and what to do, if known; else onnxruntime's message without its source location."""
    said = " ".join(str(error).split())
    for sign, known in KNOWN.items():
        if re.search(sign, said):
            return known
    said = said.partition(" failed:")[2] or said.partition(" : ")[2] or said
    return f"{SOURCE.sub('', said)[:400]}. Export it again, and check it: onnx.checker.check_model"


def graph_of(session: Session, task: str) -> Graph:
    """How this graph does the task; BadInput that says what does not fit, and what would."""
    spec = find_spec(task)
    if spec is None or spec.family not in OUTPUTS:
        raise BadInput(
            f"An ONNX graph is for {', '.join(ENGINES['onnx'].tasks)}, not for {task!r}. Say which: --task",
            task=task,
            expected=list(ENGINES["onnx"].tasks),
        )
    inputs, batch, length = _inputs(session.get_inputs())
    if spec.family is Family.TAGS and IDS not in inputs:
        raise BadInput(
            f"{task} needs a graph that reads tokens (input_ids), and this one reads plain strings. Use classify",
            task=task,
            needs="input_ids",
        )
    output, form, width = OUTPUTS[spec.family](task, session.get_outputs(), reads_text=IDS not in inputs)
    return Graph(inputs, output, form, width, batch, length)


def _inputs(inputs: Sequence[Any]) -> tuple[dict[str, str], int | None, int | None]:
    """The graph's inputs, and its fixed batch and length."""
    if len(inputs) == 1 and inputs[0].type == TEXT and len(inputs[0].shape) in (1, 2):
        return {inputs[0].name: "text" if len(inputs[0].shape) == 1 else "texts"}, _fixed_size(inputs[0].shape[0]), None
    shown = ", ".join(f"{one.name}: {one.type}{list(one.shape)}" for one in inputs)
    if all(one.type == TEXT for one in inputs):
        raise BadInput(
            f"The graph reads {len(inputs)} columns of strings ({shown}); here it reads one text. Export a "
            "pipeline that takes one",
            inputs=[one.name for one in inputs],
        )
    unknown = [one.name for one in inputs if one.name not in TOKENS or one.type not in INTEGERS or len(one.shape) != 2]
    if unknown or IDS not in {one.name for one in inputs}:
        raise BadInput(
            f"The graph reads {shown}. Here it reads one tensor of strings, or whole numbers [batch, tokens] named "
            f"{', '.join(TOKENS)}, of which {IDS} must be there. Export it with those names",
            inputs=[one.name for one in inputs],
        )
    batch, length = (_fixed_size(one) for one in inputs[0].shape)
    if batch not in (None, 1):
        raise BadInput(
            f"The graph is fixed to {batch} texts at a time. Export it with a batch axis of any size, or 1", batch=batch
        )
    return {one.name: INTEGERS[one.type] for one in inputs}, batch, length


def _fixed_size(axis: Any) -> int | None:  # Any: a number, or the name of a free axis
    return axis if isinstance(axis, int) else None


def _find_label_logits(task: str, outputs: Sequence[Any], *, reads_text: bool) -> tuple[str, GraphForm, int | None]:
    for one in outputs:
        if one.type.startswith("seq(map("):
            return one.name, GraphForm.MAP, None
    found = [one for one in outputs if one.type in FLOATS and len(one.shape) == 2]
    named = [one for one in found if "logits" in one.name or "prob" in one.name.lower()]
    if len(named or found) != 1:
        raise _unfit(task, "one output of floats [batch, labels], named logits, or probabilities", outputs)
    chosen = (named or found)[0]
    shares = "prob" in chosen.name.lower()
    return chosen.name, GraphForm.SHARES if shares else GraphForm.LOGITS, _fixed_size(chosen.shape[1])


def _find_token_logits(task: str, outputs: Sequence[Any], *, reads_text: bool) -> tuple[str, GraphForm, int | None]:
    found = [one for one in outputs if one.type in FLOATS and len(one.shape) == 3]
    named = [one for one in found if "logits" in one.name]
    if len(named or found) != 1:
        raise _unfit(task, "one output of floats [batch, tokens, labels], named logits", outputs)
    chosen = (named or found)[0]
    return chosen.name, GraphForm.TOKEN_LOGITS, _fixed_size(chosen.shape[2])


def _find_vectors(task: str, outputs: Sequence[Any], *, reads_text: bool) -> tuple[str, GraphForm, int | None]:
    flat = [one for one in outputs if one.type in FLOATS and len(one.shape) == 2]
    named = [one for name in VECTOR_NAMES for one in flat if one.name == name]
    hidden = [] if reads_text else [one for one in outputs if one.type in FLOATS and len(one.shape) == 3]
    if named:
        return named[0].name, GraphForm.VECTOR, _fixed_size(named[0].shape[1])
    if hidden:
        return hidden[0].name, GraphForm.HIDDEN, _fixed_size(hidden[0].shape[2])
    if len(flat) == 1:
        return flat[0].name, GraphForm.VECTOR, _fixed_size(flat[0].shape[1])
    raise _unfit(task, "an output of floats [batch, width], or [batch, tokens, width], which is pooled", outputs)


OUTPUTS = {Family.LABELS: _find_label_logits, Family.TAGS: _find_token_logits, Family.VECTORS: _find_vectors}


def _unfit(task: str, needs: str, outputs: Sequence[Any]) -> BadInput:
    has = ", ".join(f"{one.name}: {one.type}{list(one.shape or ())}" for one in outputs)
    return BadInput(
        f"{task} needs {needs}; this graph gives {has}. Export it so, or declare another --task", task=task, needs=needs
    )


def check_labels(graph: Graph, task: str, labels: Sequence[str]) -> None:
    """Raise BadInput if a task with labels has none, or if their number differs from the graph's."""
    if not spec_of(task).has_labels:
        return
    if not labels:
        raise BadInput(
            f"{task} needs the labels, in the order of the graph's output. Give them: --labels a,b,c, or id2label in "
            "config.json beside the graph, or labels.txt, one a line",
            key="labels",
            task=task,
        )
    if len(set(labels)) != len(labels):
        raise BadInput(
            f"Two of the labels are the same: {', '.join(labels)}. Give each its own name", key="labels", reason="twice"
        )
    if graph.width is not None and graph.width != len(labels):
        raise BadInput(
            f"The graph gives {graph.width} scores ({graph.output}) and there are {len(labels)} labels: "
            f"{', '.join(labels[:12])}. Give one for each, in its order",
            key="labels",
            width=graph.width,
            count=len(labels),
        )
