"""The memory footprint of a process, in bytes by kind, estimated before it starts.

Of a training it is the most that was measured (docs/log.md), with rows that fill every pass: shorter rows take less.
What cannot be known here is a row longer than a pass, which takes its own activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from llmos.abi.device import LeaseKind
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest, Part
from llmos.abi.recipe import Recipe, batch_size_of, shares_of, token_budget_of
from llmos.abi.task import find_spec, is_generative
from llmos.kernel.processes.ledger import MIB

FLOAT_BYTES = 4  # whatever a base is served in, training keeps its weights in float32
CHILD_BYTES = 160 * MIB  # private memory of a forked child before it loads anything
WORKSPACE_BYTES = 256 * MIB  # activations and scratch buffers of a serving forward pass
LOGITS_BYTES = 320 * MIB  # a chunk of next-token logits in training (nn/next_token.py), with all that is made of it
LORA_LOOSE = 1.5  # so much more an adapter's small tensors in between make of what a pass leaves
ADAPTED_SHARE = 8  # of a base whose shape is not known, an adapter with its moments takes one in so many bytes
INNER = ("encoder_ffn_dim", "decoder_ffn_dim")  # as BART's kind calls what both of its halves have
HEADS = ("encoder_attention_heads", "decoder_attention_heads")
UNKNOWN_BYTES = 80  # likewise, activations of a token: so many bytes times the root of the weights


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A transformer as its config says it: what its activations and its adapters grow with."""

    hidden: int
    inner: int
    layers: int
    vocabulary: int
    heads: int
    attention_dropout: float = 0.0
    is_half: bool = False  # its weights are kept in 16 bits
    writing: int = 0  # layers of a decoder that sees what an encoder of `layers` has read

    @property
    def table(self) -> int:
        """Weights of the token embeddings."""
        return self.vocabulary * self.hidden

    def token_floats(self, weights: int, length: int) -> int:
        """What a token leaves for the backward pass, in a sequence of this length, of a model of so many weights.

        Beside an encoder a token is read or written, whichever leaves more; what is read leaves a key and a value for
        each layer that writes.
        """
        across = 4 * self.hidden * self.writing  # floats that the products with the source give
        products = (weights - self.table) / max(1, self.hidden) - across
        is_gated = products / max(1, self.layers + self.writing) - 4 * self.hidden > 2.25 * self.inner
        each = 10 * self.hidden + (4 if is_gated else 2) * self.inner
        seen = 3 * self.heads * length if self.attention_dropout else 0  # what every head thinks of every other token
        read = self.layers * (each + seen) + 2 * self.hidden * self.writing
        written = self.writing * (each + 6 * self.hidden + 2 * seen)
        return max(read, written)

    def adapter(self, rank: int) -> int:
        """Weights of LoRA on every linear layer, at most: four square ones and three of the inner size.

        A layer that sees a source has four square ones more.
        """
        square, inner = 8 * self.hidden, 3 * (self.hidden + self.inner)
        return rank * ((self.layers + self.writing) * (square + inner) + self.writing * square)


def shape_of(config: Mapping[str, Json]) -> ModelShape | None:
    """By the names that architectures use; None where the config does not say."""
    hidden = _first(config, "hidden_size", "n_embd", "d_model", "dim")
    layers = _first(config, "encoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    vocabulary = _first(config, "vocab_size")
    if not (hidden and layers and vocabulary):
        return None
    writes = bool(config.get("is_encoder_decoder"))
    dropouts = ("attention_probs_dropout_prob", "attention_dropout", "dropout_rate")
    return ModelShape(
        hidden,
        _most(config, "intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim", *INNER) or 4 * hidden,
        layers,
        vocabulary,
        _most(config, "num_attention_heads", "n_head", "n_heads", "num_heads", *HEADS) or 1,
        next((float(config[name]) for name in dropouts if config.get(name)), 0.0),
        (config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16"),
        _first(config, "num_decoder_layers", "decoder_layers") or layers if writes else 0,
    )


def _most(config: Mapping[str, Json], *names: str) -> int:
    """The largest of those it has: an encoder's and its decoder's may differ."""
    return max((_first(config, name) for name in names), default=0)


def _first(config: Mapping[str, Json], *names: str) -> int:
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), 0)


@dataclass(frozen=True, slots=True)
class FootprintFacts:
    """What admission knows of the base and the box beside the manifests."""

    resident_bytes: int = 0  # of the base's resident form; 0 where none is
    shape: ModelShape | None = None
    kv_bytes: int = 0
    threads: int = 1


NOTHING = FootprintFacts()


def serving_footprint(model: Manifest, facts: FootprintFacts = NOTHING) -> dict[LeaseKind, int]:
    """The bytes of a process that loads a model and computes its forward pass, without a KV cache."""
    return {
        LeaseKind.WEIGHTS: _loaded_bytes(model, facts),
        LeaseKind.WORKSPACE: CHILD_BYTES + WORKSPACE_BYTES,
    }


def training_footprint(
    recipe: Recipe, device: str, base: Manifest, facts: FootprintFacts = NOTHING
) -> dict[LeaseKind, int]:
    """The bytes of a training on this base."""
    weights = _loaded_bytes(base, facts)
    if facts.shape is not None and facts.shape.is_half:
        weights = max(2 * weights_bytes(base), facts.resident_bytes)
    limit = base.options.get("max_tokens")
    return _of_training(recipe, device, weights, limit if isinstance(limit, int) else 0, facts)


def _loaded_bytes(model: Manifest, facts: FootprintFacts) -> int:
    """Of a model's weights, or of the base's resident form, for packed weights are smaller on the disk."""
    if model.dtype and facts.resident_bytes:  # int8 is smaller than what it was made from
        return facts.resident_bytes
    return max(weights_bytes(model), facts.resident_bytes)


def _of_training(recipe: Recipe, device: str, weights: int, limit: int, facts: FootprintFacts) -> dict[LeaseKind, int]:
    """Weights, which all share who compute; what changes, its moments, best epoch and gradients; what a pass leaves."""
    is_full, shape = recipe.method == "full", facts.shape
    shares = shares_of(facts.threads, batch_size_of(recipe), device)
    changed = weights if is_full else _adapter_bytes(recipe, weights, shape)
    # Whoever computes beside the trainer has gradients of its own, and a copy of them that the trainer sees.
    gradients = (2 * shares - 1) * (changed - (_sparse_bytes(recipe, shape) if is_full else 0))
    tokens = budget = token_budget_of(recipe)
    longest = min(one for one in (recipe.options.get("max_tokens"), limit, budget) if isinstance(one, int) and one > 0)
    spec = find_spec(recipe.task)
    if spec is not None and spec.is_one_sequence:
        tokens = min(budget, ceil(batch_size_of(recipe) / shares) * longest)
    each = _token_bytes(weights, longest, shape, is_full)
    return {
        LeaseKind.WEIGHTS: weights,
        LeaseKind.OPTIMIZER: (2 + recipe.save_best) * changed + gradients,
        LeaseKind.ACTIVATIONS: int(shares * tokens * each),
        LeaseKind.WORKSPACE: CHILD_BYTES + shares * (LOGITS_BYTES if is_generative(recipe.task) else 0),
    }


def _adapter_bytes(recipe: Recipe, weights: int, shape: ModelShape | None) -> int:
    return weights // ADAPTED_SHARE if shape is None else FLOAT_BYTES * shape.adapter(recipe.lora.rank)


def _token_bytes(weights: int, length: int, shape: ModelShape | None, is_full: bool) -> float:
    floats = weights // FLOAT_BYTES
    if shape is None:
        return float(UNKNOWN_BYTES * floats**0.5)
    return FLOAT_BYTES * shape.token_floats(floats, length) * (1.0 if is_full else LORA_LOOSE)


def _sparse_bytes(recipe: Recipe, shape: ModelShape | None) -> int:
    """Bytes of the token embeddings where a step has gradients of only the rows that it touches."""
    return 0 if shape is None or is_generative(recipe.task) else FLOAT_BYTES * shape.table


def weights_bytes(manifest: Manifest) -> int:
    """The bytes of a model's own weights, heads and adapters; its base's are the base's."""
    kinds = (Part.WEIGHTS, Part.ADAPTER, Part.HEAD)
    return sum(file.size_bytes for file in manifest.files if file.part in kinds)
