"""Static embeddings as a model of transformers: a table of token vectors, and optionally one look at the neighbours.

A token's vector is its row of the table (Tulkens and van Dongen 2024, Model2Vec). With `neighbours`, two small products
add what the tokens around it say (as in Collobert et al. 2011, arXiv:1103.0398). They start at zero: an untrained base
gives the table's rows. There is no layer and no attention, so it costs next to nothing on any processor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from llmos.abi.shrinking import TABLE_ARCHITECTURE

KIND = "llmos_static"
ARCHITECTURE = TABLE_ARCHITECTURE


class StaticConfig(PretrainedConfig):  # type: ignore[misc]  # transformers' class is Any to the checker
    """Sizes of the table; `neighbours` counts the tokens on each side that a vector also sees."""

    model_type = KIND

    def __init__(
        self,
        vocab_size: int = 260,
        hidden_size: int = 32,
        neighbours: int = 0,
        max_position_embeddings: int = 512,
        **more: Any,  # Any: what every config of transformers takes
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.neighbours = neighbours
        self.max_position_embeddings = max_position_embeddings
        self.num_hidden_layers = 0
        self.num_attention_heads = 1
        super().__init__(**more)


class StaticEmbeddings(PreTrainedModel):  # type: ignore[misc]  # as above
    """The table [vocabulary, hidden], and the products of its neighbours."""

    config_class = StaticConfig
    base_model_prefix = "static"
    _supports_attention_backend = True  # there is none: rows may be packed as they come

    def __init__(self, config: Any) -> None:  # Any: as transformers passes it
        super().__init__(config)
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.neighbours:
            self.around = nn.Linear((2 * config.neighbours + 1) * config.hidden_size, config.hidden_size)
            self.added = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        **kwargs: Any,  # Any: what other architectures need: a layout, masks
    ) -> BaseModelOutput:
        """Hidden states of [rows, tokens]; positions, which count from 0 in each sequence, tell packed ones apart."""
        vectors: Tensor = self.table(input_ids)
        if self.config.neighbours:
            if position_ids is None:
                position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
            seen = _with_neighbours(vectors, position_ids, self.config.neighbours)
            vectors = vectors + self.added(gelu(self.around(seen)))
        return BaseModelOutput(last_hidden_state=vectors)


def _with_neighbours(vectors: Tensor, positions: Tensor, reach: int) -> Tensor:
    """Each token's vector with those of `reach` tokens before and after it, [rows, tokens, (2 x reach + 1) x hidden].

    Beyond the ends of its sequence are zeros.
    """
    parts = []
    first = torch.arange(positions.shape[1], device=positions.device) - positions  # where each one's sequence begins
    for step in range(-reach, reach + 1):
        shifted = torch.roll(vectors, -step, dims=1)
        same = torch.roll(first, -step, dims=1) == first
        if step > 0:
            same[:, -step:] = False
        elif step < 0:
            same[:, :-step] = False
        parts.append(shifted * same.unsqueeze(-1).to(vectors.dtype))
    return torch.cat(parts, dim=-1)


AutoConfig.register(KIND, StaticConfig)
AutoModel.register(StaticConfig, StaticEmbeddings)
