"""16-bit embedding tables in a float32 model; only the rows looked up are widened.

An embedding table is most of a small model's bytes and takes part in no product, so it stays in 16 bits. Results are
equal, to the bit, to those of the same table in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

TRIED = 6  # rows of the table that the trial looks up

Kind = type[nn.Embedding]


class HalfEmbeddings(nn.Embedding):
    """An embedding table whose rows are not parameters: they are not trained and do not decide the model's dtype."""

    rows: Tensor

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # Embedding has a parameter there, which this has not
        """The rows as float32, converted at each access."""
        return self.rows.float()

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.rows).float()


def hold(model: nn.Module) -> None:
    """Keep 16-bit embeddings in 16 bits and return float32 rows; tables that do not support this are widened."""
    for layer in model.modules():
        if (
            not isinstance(layer, nn.Embedding)
            or isinstance(layer, HalfEmbeddings)
            or layer.weight.dtype == torch.float32
        ):
            continue
        rows = layer.weight.detach()
        if (kind := _kind(layer, rows)) is None:
            layer.weight = nn.Parameter(rows.float(), requires_grad=False)
            continue
        del layer._parameters["weight"]
        layer.__dict__["rows"] = rows
        layer.__class__ = kind


def narrow(model: nn.Module, dtype: torch.dtype, *, keep: frozenset[str]) -> None:
    """Round all parameters and buffers to this dtype, except the weights of the layers at `keep`."""
    for path, layer in model.named_modules():
        for name, parameter in list(layer._parameters.items()):
            if parameter is None or not parameter.is_floating_point() or (path in keep and name == "weight"):
                continue
            near = parameter.detach().to(dtype)
            near = near if isinstance(layer, nn.Embedding) else near.float()
            setattr(layer, name, nn.Parameter(near, requires_grad=False))
        for name, held in list(layer._buffers.items()):
            if held is not None and held.is_floating_point() and name not in layer._non_persistent_buffers_set:
                layer._buffers[name] = held.to(dtype).float()


def names(model: nn.Module) -> frozenset[str]:
    """The names of the tensors that stay in 16 bits in memory."""
    return frozenset(f"{path}.weight" for path, layer in model.named_modules() if isinstance(layer, nn.Embedding))


def tables_bytes(model: nn.Module) -> int:
    """The bytes of the 16-bit tables in this model."""
    return sum(layer.rows.nbytes for layer in model.modules() if isinstance(layer, HalfEmbeddings))


def _kind(layer: nn.Embedding, rows: Tensor) -> Kind | None:
    """The class that looks up rows like this layer; None for a layer that does more than look up rows."""
    kind = type(layer)
    if layer.max_norm is not None:
        return None
    if kind is nn.Embedding:
        return HalfEmbeddings

    def forward(layer: Any, input: Tensor) -> Tensor:  # Any: an embedding of some architecture
        found = embedding(input, layer.rows).float()
        order = torch.arange(input.numel(), device=input.device).view(input.shape)
        made: Tensor = _with(layer, kind, found.reshape(-1, found.shape[-1]))(order)
        return made

    better = type(kind.__name__, (HalfEmbeddings, kind), {"forward": forward, "__module__": kind.__module__})
    return better if _agree(layer, better, rows[:TRIED]) else None


def _with(layer: nn.Embedding, kind: Kind, weight: Tensor, **more: Tensor) -> nn.Embedding:
    """A copy of the layer as this class, with other rows."""
    made = kind.__new__(kind)
    made.__dict__ = {**layer.__dict__, **more, "padding_idx": None, "num_embeddings": len(weight)}
    made.__dict__["_parameters"] = {} if more else {"weight": weight}
    return made


@torch.inference_mode()
def _agree(layer: nn.Embedding, kind: Kind, rows: Tensor) -> bool:
    ids = torch.arange(len(rows)).flip(0).repeat(1, 2)
    try:
        wanted = _with(layer, type(layer), rows.float())(ids)
        got = _with(layer, kind, rows, rows=rows)(ids)
    except Exception:  # noqa: BLE001  a table that takes something else than the numbers of rows
        return False
    return torch.equal(wanted, got)
