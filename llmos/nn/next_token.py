"""The language modelling head in training: next-token cross-entropy, with logits only where there is a target.

With a large vocabulary, the logits of a few thousand tokens can take more memory than the model. So they are computed
in chunks: each chunk's gradients before the next chunk's logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from llmos.abi.error import BadInput
from llmos.nn.attention import NAME
from llmos.nn.generation import encoder_state
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache, token_bytes
from llmos.nn.load import Loaded
from llmos.nn.packing import forward, next_logits, pack

CHUNK_BYTES = 1 << 26  # of logits at a time
PROBE = (3, 5, 2, 4)  # token ids that any vocabulary has


class NextHead(nn.Module):
    """Returns hidden states unchanged in `forward`; `losses` computes next-token losses from them.

    A layer that is tied to the token embeddings belongs to the backbone; this module then has no weights of its own.
    """

    kind = "next"

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        if loaded.causal is None:
            raise BadInput(
                f"A base of this architecture ({type(loaded.backbone).__name__}) can embed but not generate. Use a "
                "decoder, such as smollm2",
                architecture=type(loaded.backbone).__name__,
            )
        config, causal = loaded.config, loaded.causal
        if config._attn_implementation != NAME:
            raise BadInput(
                f"{type(causal).__name__} has its own attention; it can embed here, but not generate",
                architecture=type(causal).__name__,
            )
        layer = causal.get_output_embeddings()  # type: ignore[operator]  # transformers' method
        tokens = loaded.backbone.get_input_embeddings()  # type: ignore[operator]  # likewise
        self.is_tied = getattr(layer, "weight", None) is tokens.weight
        self.vocabulary = int(layer.weight.shape[0])
        self._layer = (layer,)  # in a tuple, so that the module does not register it
        if not any(layer.weight is weight for weight in loaded.backbone.parameters()):
            self.out = layer
        self.scale = float(getattr(config, "logit_scale", None) or 1.0 / getattr(config, "logits_scaling", 1.0))
        if getattr(config, "scale_decoder_outputs", False):  # T5's family, if the output layer is tied
            self.scale *= config.d_model**-0.5
        # BART's bias, which is not trained
        self._shift: tuple[Tensor | None] = (getattr(causal, "final_logits_bias", None),)
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        return hidden

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The loss of each target, [n], from the hidden states [n, hidden] before them; without gradients."""
        with torch.no_grad():
            return torch.cat([self._costs(some, wanted) for some, wanted in self.chunks(hidden, targets)])

    def sum_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The summed loss of all targets; its gradients are computed by the time it returns."""
        weight, bias = self._weights()
        found: Tensor = _Summed.apply(hidden, weight, bias, targets, self)  # type: ignore[no-untyped-call]  # torch's
        return found

    def token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The loss of each target, [n], with gradients: each chunk's logits are computed again in the backward pass."""
        weight, bias = self._weights()
        found: Tensor = _Each.apply(hidden, weight, bias, targets, self)  # type: ignore[no-untyped-call]  # torch's
        return found

    def logits(self, made: Tensor) -> Tensor:
        """The architecture's logits from the raw output of its layer."""
        made = made.float()
        if self.scale != 1:
            made = made * self.scale
        (shift,) = self._shift
        if shift is not None:
            made = made + shift[0]
        return made if self.cap is None else self.cap * torch.tanh(made / self.cap)

    def check(self, loaded: Loaded) -> None:
        """Raise BadInput if the architecture's own logits differ from those computed here."""
        causal = loaded.causal
        assert causal is not None
        is_training = causal.training
        causal.eval()  # dropout would make two passes differ
        with torch.inference_mode():
            packed = pack([PROBE], loaded.device)
            is_read = loaded.reader is not None
            hidden = (
                encoder_state.hidden_of(loaded.backbone, packed, packed)
                if is_read
                else forward(loaded.backbone, packed)
            )
            hidden = hidden[-1:]
            each = token_bytes(loaded.config, hidden.element_size())
            pool = KVCache(4 * BLOCK * each, each, loaded.device)
            kv, read = SequenceCache(pool, b"", PROBE), SequenceCache(pool, b"", ())
            kv.grow(len(PROBE))
            if is_read:
                read.grow(len(PROBE))
                encoder_state.read(causal, packed, [read])
                theirs = encoder_state.next_logits(causal, packed, [kv], [read]).float()
            else:
                theirs = next_logits(causal, packed, [kv]).float()
            ours = self.logits(self._layer[0](hidden))
        causal.train(is_training)
        if not torch.allclose(ours, theirs, atol=0.05, rtol=0.05):
            raise BadInput(
                f"{type(causal).__name__} makes its next-token logits in a way that cannot be trained here. "
                "Take another base, such as smollm2",
                architecture=type(causal).__name__,
            )

    def _costs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.logits(self._layer[0](hidden)), targets, reduction="none")

    def _weights(self) -> tuple[Tensor, Tensor | None]:
        (layer,) = self._layer
        return layer.weight, getattr(layer, "bias", None)

    def chunks(self, hidden: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = max(1, CHUNK_BYTES // (4 * self.vocabulary))
        return list(zip(torch.split(hidden, size), torch.split(targets, size), strict=True))


class _Summed(torch.autograd.Function):
    """The summed loss, whose gradients are computed chunk by chunk in the forward pass."""

    @staticmethod
    def forward(  # Any: torch's context
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: NextHead
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


class _Each(torch.autograd.Function):
    """The loss of each target. Logits are never kept: the backward pass computes them again, chunk by chunk."""

    @staticmethod
    def forward(  # Any: torch's context
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: NextHead
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
