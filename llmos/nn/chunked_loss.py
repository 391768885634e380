"""Cross-entropy over a vocabulary, chunk by chunk: logits of all tokens at once can take more memory than the model."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

CHUNK_BYTES = 1 << 26  # of logits at a time


class VocabularyHead(Protocol):
    """An output layer over a vocabulary."""

    def logits(self, made: Tensor) -> Tensor:
        """The logits from the raw output of its layer."""
        ...

    def chunks(self, hidden: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Hidden states and targets, in parts whose logits fit."""
        ...


def split_chunks(hidden: Tensor, targets: Tensor, vocabulary: int) -> list[tuple[Tensor, Tensor]]:
    """Parts whose logits over so large a vocabulary fit in CHUNK_BYTES."""
    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    return list(zip(torch.split(hidden, size), torch.split(targets, size), strict=True))


class SummedLoss(torch.autograd.Function):
    """The summed loss, whose gradients are computed chunk by chunk in the forward pass."""

    @staticmethod
    def forward(  # Any: torch's context
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: VocabularyHead
    ) -> Tensor:
        weight_grad = torch.zeros_like(weight) if weight.requires_grad else None
        bias_grad = torch.zeros_like(bias) if bias is not None and bias.requires_grad else None
        total, hidden_grads = hidden.new_zeros(()), []
        for some, wanted in head.chunks(hidden.detach(), targets):
            with torch.enable_grad():
                inputs = [some.requires_grad_()]
                inputs += [weight] if weight_grad is not None else []
                inputs += [bias] if bias is not None and bias_grad is not None else []
                loss = cross_entropy(head.logits(linear(some, weight, bias)), wanted, reduction="sum")
                made = list(torch.autograd.grad(loss, inputs))
            total += loss.detach()
            hidden_grads.append(made.pop(0))
            for held in (weight_grad, bias_grad):
                if held is not None:
                    held += made.pop(0)
        ctx.save_for_backward(torch.cat(hidden_grads), weight_grad, bias_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:  # Any: as torch passes them
        (share,) = outer
        hidden, weight, bias = (None if held is None else held * share for held in ctx.saved_tensors)
        return hidden, weight, bias, None, None


class EachLoss(torch.autograd.Function):
    """The loss of each target. Logits are never kept: the backward pass computes them again, chunk by chunk."""

    @staticmethod
    def forward(  # Any: torch's context
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: VocabularyHead
    ) -> Tensor:
        ctx.head = head
        ctx.save_for_backward(hidden, weight, bias, targets)
        some = [
            cross_entropy(head.logits(linear(part, weight, bias)), wanted, reduction="none")
            for part, wanted in head.chunks(hidden, targets)
        ]
        return torch.cat(some) if some else hidden.new_zeros(0)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:  # Any: as torch passes them
        (shares,) = outer
        hidden, weight, bias, targets = ctx.saved_tensors
        weight_grad = torch.zeros_like(weight) if weight.requires_grad else None
        bias_grad = torch.zeros_like(bias) if bias is not None and bias.requires_grad else None
        hidden_grads, start = [], 0
        for some, wanted in ctx.head.chunks(hidden.detach(), targets):
            part = shares[start : start + len(wanted)]
            start += len(wanted)
            with torch.enable_grad():
                inputs = [some.requires_grad_()]
                inputs += [weight] if weight_grad is not None else []
                inputs += [bias] if bias is not None and bias_grad is not None else []
                losses = cross_entropy(ctx.head.logits(linear(some, weight, bias)), wanted, reduction="none")
                made = list(torch.autograd.grad(losses, inputs, part))
            hidden_grads.append(made.pop(0))
            for held in (weight_grad, bias_grad):
                if held is not None:
                    held += made.pop(0)
        return torch.cat(hidden_grads) if hidden_grads else torch.zeros_like(hidden), weight_grad, bias_grad, None, None
