"""Imports a task head that PEFT saved beside an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.adapters.adapter_file import HEADS, PREFIX, Config, check_finite
from llmos.nn.adapters.head import Head, SequenceHead, TokenHead
from llmos.nn.adapters.methods.lora import DOWN, UP, scale_of
from llmos.nn.load import read_weights

TYPES = ("SEQ_CLS", "TOKEN_CLS")  # task types of adapters with a head, in PEFT's names
POOLER = "pooler.dense"


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """An architecture's sequence classifier: the pooled token, the layer before the last (None if there is none), and
    the last."""

    pooling: str
    dense: str | None
    activation: str | None
    out: str


FIRST_TANH = HeadLayout("cls", "classifier.dense", "tanh", "classifier.out_proj")
FORMS = {
    "bert": HeadLayout("cls", POOLER, "tanh", "classifier"),
    "roberta": FIRST_TANH,
    "xlm-roberta": FIRST_TANH,
    "camembert": FIRST_TANH,
    "mpnet": FIRST_TANH,
    "electra": HeadLayout("cls", "classifier.dense", "gelu", "classifier.out_proj"),
    "distilbert": HeadLayout("cls", "pre_classifier", "relu", "classifier"),
}
DECODER = HeadLayout("last", None, None, "score")


def head_of(tensors: Mapping[str, Tensor], config: Config, architecture: str, base: Path) -> Head | None:
    """The head in an adapter's weights, built for its base's architecture; None if there is none.

    BadInput if some of the head's layers are missing from the adapter's file or, for a pooler, from the base's.
    """
    named = {key.removeprefix(PREFIX): weight for key, weight in tensors.items()}
    kept = {key: weight for key, weight in named.items() if key.startswith(tuple(f"{head}." for head in HEADS))}
    check_finite(kept.items(), "The task head")
    asked = config.get("task_type")
    if asked not in TYPES:
        if kept:
            raise BadInput(
                f"The adapter brings a task head and its task_type is {asked!r}, so the task of its head is "
                f"unknown. Name it in adapter_config.json: {' or '.join(TYPES)}",
                task_type=asked,
                reason="unknown_head",
            )
        return None
    if not kept:
        raise BadInput(
            f"The adapter is for {asked} and brings no task head, so it cannot answer. Train it with "
            'modules_to_save=["classifier"] (for decoders "score")',
            task_type=asked,
            reason="no_head",
        )
    if asked == "TOKEN_CLS":
        return _token_head(kept)
    form = FORMS.get(architecture, DECODER if "score.weight" in kept else None)
    if form is None:
        raise BadInput(
            f"The head of a {architecture} classifier has layers that are not kept beside an adapter, or are not known "
            f"here. Known are those of {', '.join(FORMS)} and of decoders; train a head here: llmos train classify",
            architecture=architecture,
            reason="unknown_head",
        )
    if form.dense is None or form.dense in {key.rpartition(".")[0] for key in kept}:
        return _sequence_head(kept, form)
    return _sequence_head(kept | _before(form.dense, named, config, base), form)


def _before(dense: str, named: Mapping[str, Tensor], config: Config, base: Path) -> dict[str, Tensor]:
    """The layer before a classifier: the base's weights plus the adapter's change."""
    of_base = {
        key[key.index(dense) :]: weight.float()
        for key, weight in read_weights(base).items()
        if key.endswith((f"{dense}.weight", f"{dense}.bias"))
    }
    if len(of_base) != 2:
        raise BadInput(
            f"The adapter's task head stands on the base's {dense}, and this base came without one: it was made up at "
            "random when the adapter was trained, and is lost. Train it again with modules_to_save naming it",
            reason="lost_pooler",
            part=dense,
        )
    paths = {key.removesuffix(DOWN) for key in named if key.endswith(f"{dense}{DOWN}")}
    for path in paths:
        down, up = (named[f"{path}{suffix}"].float() for suffix in (DOWN, UP))
        of_base[f"{dense}.weight"] = of_base[f"{dense}.weight"] + up @ down * scale_of(path, down.shape[0], config)
    return of_base


def _token_head(kept: Mapping[str, Tensor]) -> Head:
    name = next((head for head in HEADS if set(kept) in ({f"{head}.weight"}, {f"{head}.weight", f"{head}.bias"})), None)
    if name is None:
        raise BadInput(f"The adapter's task head has {', '.join(sorted(kept))}; a tagger's has one layer, {HEADS[0]}")
    labels, hidden = _shape(kept, name)
    return _fill_head(TokenHead(hidden, labels), kept, out=name)


def _sequence_head(kept: Mapping[str, Tensor], form: HeadLayout) -> Head:
    layers = {form.out, form.dense} - {None}
    if {key.rpartition(".")[0] for key in kept} != layers:
        raise BadInput(
            f"The adapter's task head has {', '.join(sorted(kept))}; expected are the layers "
            f"{', '.join(sorted(map(str, layers)))}. It was trained for another kind of base"
        )
    labels, hidden = _shape(kept, form.out)
    head = SequenceHead(hidden, labels, form.pooling, activation=form.activation)
    return _fill_head(head, kept, out=form.out, **({"dense": form.dense} if form.dense else {}))


def _shape(kept: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    weight = kept.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise BadInput(f"The adapter's task head has no weights {name} of two dimensions. Save it again")
    return weight.shape[0], weight.shape[1]


def _fill_head(head: Head, kept: Mapping[str, Tensor], **names: str) -> Head:
    """Load these layers' weights into the head; a layer without a bias gets zeros."""
    for ours, theirs in names.items():
        layer: Any = getattr(head, ours)  # Any: a Linear of the head's, by name
        weight, bias = kept[f"{theirs}.weight"], kept.get(f"{theirs}.bias")
        if weight.shape != layer.weight.shape or (bias is not None and bias.shape != layer.bias.shape):
            raise BadInput(f"The adapter's task head has {theirs} of shape {tuple(weight.shape)}, which does not fit")
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return head.eval()
