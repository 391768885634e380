"""The language modelling head in training: next-token cross-entropy, with logits only where there is a target.

With a large vocabulary, the logits of a few thousand tokens can take more memory than the model. So they are computed
in chunks: each chunk's gradients before the next chunk's logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from llmos.abi.error import BadInput
from llmos.nn.attention import NAME
from llmos.nn.chunked_loss import EachLoss, SummedLoss, split_chunks
from llmos.nn.generation import encoder_state
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache, token_bytes
from llmos.nn.load import Loaded
from llmos.nn.packing import forward, next_logits, pack

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
        found: Tensor = SummedLoss.apply(hidden, weight, bias, targets, self)  # type: ignore[no-untyped-call]  # torch's
        return found

    def token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The loss of each target, [n], with gradients: each chunk's logits are computed again in the backward pass."""
        weight, bias = self._weights()
        found: Tensor = EachLoss.apply(hidden, weight, bias, targets, self)  # type: ignore[no-untyped-call]  # torch's
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
            ours = self.logits(self.layer(hidden))
        causal.train(is_training)
        if not torch.allclose(ours, theirs, atol=0.05, rtol=0.05):
            raise BadInput(
                f"{type(causal).__name__} makes its next-token logits in a way that cannot be trained here. "
                "Take another base, such as smollm2",
                architecture=type(causal).__name__,
            )

    def _costs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.logits(self.layer(hidden)), targets, reduction="none")

    @property
    def layer(self) -> nn.Module:
        """The output layer, over the vocabulary."""
        layer: nn.Module = self._layer[0]
        return layer

    def _weights(self) -> tuple[Tensor, Tensor | None]:
        weight: Tensor = self.layer.weight  # type: ignore[assignment]  # a linear layer's, or one that computes as one
        return weight, getattr(self.layer, "bias", None)

    def chunks(self, hidden: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        return split_chunks(hidden, targets, self.vocabulary)
