"""Task heads: a task's output layer over packed hidden states, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import gelu

from llmos.abi.error import BadInput
from llmos.nn.adapters.adapter_file import check_finite
from llmos.nn.packing import pool

FILE = "head.safetensors"
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "gelu": gelu}


class SequenceHead(nn.Module):
    """Logits per sequence, [sequences, labels], from its pooled hidden states."""

    kind = "sequence"

    def __init__(
        self, hidden: int, labels: int, pooling: str = "mean", dropout: float = 0.1, activation: str | None = None
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.activation = activation  # only imported heads have a layer with an activation after pooling
        self.dense = None if activation is None else nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        pooled = pool(hidden, lengths, self.pooling)
        if self.dense is not None and self.activation is not None:
            pooled = ACTIVATIONS[self.activation](self.dense(pooled))
        logits: Tensor = self.out(self.dropout(pooled))
        return logits


class TokenHead(nn.Module):
    """Logits per token, [T, labels]."""

    kind = "token"

    def __init__(self, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        logits: Tensor = self.out(self.dropout(hidden.float()))
        return logits


class PooledHead(nn.Module):
    """Unit vectors per sequence, [sequences, hidden]. It has no weights, so it has no file."""

    kind = "pooled"

    def __init__(self, pooling: str = "mean") -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        return nn.functional.normalize(pool(hidden, lengths, self.pooling), dim=-1)


Head = SequenceHead | TokenHead


def save_head(head: Head, folder: Path) -> Path:
    """Write the head's file into this folder, with the settings needed to build it again."""
    about = {"kind": head.kind}
    if isinstance(head, SequenceHead):
        about["pooling"] = head.pooling
        if head.activation is not None:
            about["activation"] = head.activation
    path = folder / FILE
    weights = {name: x.detach().float().cpu().contiguous() for name, x in head.state_dict().items()}
    # one metadata entry, because safetensors does not keep the order of several
    save_file(weights, path, {"head": json.dumps(about)})
    return path


def load_head(folder: Path, device: torch.device | str = "cpu") -> Head:
    """Load the head in this folder in evaluation mode."""
    path = folder / FILE
    with safe_open(path, framework="pt", device=str(device)) as file:
        about = json.loads((file.metadata() or {}).get("head", "{}"))
        weights = file.get_tensors()
    check_finite(weights.items(), path.name)
    labels, hidden = weights["out.weight"].shape
    with torch.device("meta"):
        if about.get("kind") == SequenceHead.kind:
            head: Head = SequenceHead(hidden, labels, about["pooling"], activation=about.get("activation"))
        elif about.get("kind") == TokenHead.kind:
            head = TokenHead(hidden, labels)
        else:
            raise BadInput(f"{path} is not a head: its kind is {about.get('kind')!r}, not sequence or token")
    head.load_state_dict(weights, assign=True)
    return head.requires_grad_(False).eval()
