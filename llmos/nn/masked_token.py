"""The masked language modelling head: BERT's transformation, then an output layer tied to the token embeddings.

Sentence encoders are published without one. It is then begun so that its first guesses are nearly the frequencies of
tokens, and must be fitted on the frozen base before the base's loss says anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear

from llmos.nn.chunked_loss import SummedLoss, split_chunks
from llmos.nn.load import INDEX, WEIGHTS, Loaded, read_weights

NORM_SCALE = 0.1  # of a new head: logits that say little at first
NORM_EPS = 1e-12
BERT = "bert"
# The tensors by family: of the transformation, of its norm, and of the output's bias.
NAMES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    BERT: (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", ("lm_head.bias", "lm_head.decoder.bias")),
    "distilbert": ("vocab_transform", "vocab_layer_norm", ("vocab_projector.bias",)),
    "modernbert": ("head.dense", "head.norm", ("decoder.bias",)),
}
ALIKE = {"xlm-roberta": "roberta", "camembert": "roberta", "mpnet": "roberta"}


class MaskedHead(nn.Module):
    """Returns hidden states unchanged in `forward`; the losses compute logits from them, only where there is a target.

    The token embeddings belong to the backbone.
    """

    kind = "masked"

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        table = loaded.backbone.get_input_embeddings()  # type: ignore[operator]  # transformers' method
        self.vocabulary, size = table.weight.shape
        self._table = (table,)  # in a tuple, so that the module does not register it
        self.dense = nn.Linear(loaded.hidden_size, size)
        config = loaded.config
        eps = getattr(config, "layer_norm_eps", None) or getattr(config, "norm_eps", None) or NORM_EPS
        self.norm = nn.LayerNorm(size, eps)
        self.bias = nn.Parameter(torch.zeros(self.vocabulary))

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        return hidden

    def start(self, counts: Tensor) -> None:
        """Begin anew: a rotation, and a bias by how often each token comes, [vocabulary]."""
        nn.init.orthogonal_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        nn.init.constant_(self.norm.weight, NORM_SCALE)
        nn.init.zeros_(self.norm.bias)
        with torch.no_grad():
            shares = (counts.float() + 0.1) / (counts.sum() + 0.1 * len(counts))
            self.bias.copy_(shares.log())

    def sum_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The summed loss of all targets, from the hidden states [n, hidden] at their places."""
        (table,) = self._table
        found: Tensor = SummedLoss.apply(self._transform(hidden), table.weight, self.bias, targets, self)  # type: ignore[no-untyped-call]  # torch's
        return found

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The loss of each target, [n]; without gradients."""
        (table,) = self._table
        with torch.no_grad():
            made = self._transform(hidden)
            return torch.cat(
                [
                    cross_entropy(self.logits(linear(some, table.weight, self.bias)), wanted, reduction="none")
                    for some, wanted in self.chunks(made, targets)
                ]
            )

    def logits(self, made: Tensor) -> Tensor:
        return made.float()

    def chunks(self, hidden: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        return split_chunks(hidden, targets, self.vocabulary)

    def read(self, folder: Path, kind: str) -> bool:
        """Take the weights of a base's own head, if its files have one that fits; `kind` is its config's model_type."""
        if not (folder / WEIGHTS).exists() and not (folder / INDEX).exists():
            return False
        weights = read_weights(folder)
        for dense, norm, biases in (NAMES[family_of(kind)], NAMES[BERT]):
            found = {
                "dense.weight": weights.get(f"{dense}.weight"),
                "dense.bias": weights.get(f"{dense}.bias"),
                "norm.weight": weights.get(f"{norm}.weight"),
                "norm.bias": weights.get(f"{norm}.bias"),
                "bias": next((weights[name] for name in biases if name in weights), None),
            }
            own = {name: x.shape for name, x in self.state_dict().items()}
            if found["dense.weight"] is None or any(x is not None and x.shape != own[n] for n, x in found.items()):
                continue
            self.load_state_dict(
                {name: (torch.zeros(own[name]) if x is None else x.float()) for name, x in found.items()}
            )
            return True
        return False

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Its weights by the names that transformers has for this kind of base."""
        dense, norm, biases = NAMES[family_of(kind)]
        return {
            f"{dense}.weight": self.dense.weight,
            f"{dense}.bias": self.dense.bias,
            f"{norm}.weight": self.norm.weight,
            f"{norm}.bias": self.norm.bias,
            biases[0]: self.bias,
        }

    def _transform(self, hidden: Tensor) -> Tensor:
        made: Tensor = self.norm(gelu(self.dense(hidden)))
        return made


def family_of(kind: str) -> str:
    """The family whose names a head of this kind of base has; BERT's where it is not known."""
    name = ALIKE.get(kind, kind)
    return name if name in NAMES else BERT
