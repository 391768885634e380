"""The memory footprint of a process, in bytes by kind, estimated before it starts.

For training it is the measured maximum (docs/log.md), with rows that fill every pass: shorter rows take less. A single
row longer than a pass needs more than estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from llmos.abi.auto_method import AUTO, choosable, labelling_method
from llmos.abi.device import LeaseKind
from llmos.abi.json_type import Json
from llmos.abi.method import MethodSpec, Widths, method_of
from llmos.abi.model import Manifest, Part
from llmos.abi.recipe import (
    Recipe,
    batch_size_of,
    needs_frozen_base,
    settings_of_method,
    shares_of,
    token_budget_of,
)
from llmos.abi.shrinking import is_table
from llmos.abi.task import find_spec, is_generative
from llmos.kernel.processes.ledger import MIB

FLOAT_BYTES = 4  # training keeps weights in float32, whatever the base is served in
BASE_BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 5}  # of a weight of a frozen base under training
CHILD_BYTES = 160 * MIB  # private memory of a forked child before it loads anything
LIGHT_CHILD_BYTES = 192 * MIB  # of one that starts without torch, and reads and writes rows in batches
WORKSPACE_BYTES = 256 * MIB  # activations and scratch buffers of a serving forward pass
LOGITS_BYTES = 320 * MIB  # a chunk of next-token logits in training (nn/next_token.py), with its gradients
LORA_LOOSE = 1.5  # the factor of an adapter's small tensors on activations
ADAPTED_SHARE = 8  # without a known shape: adapter and moments take one byte per this many bytes of the base
INNER = ("encoder_ffn_dim", "decoder_ffn_dim")  # the config keys of BART's family, for encoder and decoder
HEADS = ("encoder_attention_heads", "decoder_attention_heads")
TABLE_FLOATS = 16  # times its length: what a token's vector from a table leaves, with a few neighbours
UNKNOWN_BYTES = 80  # without a known shape: bytes per token of activations, times the root of the weights


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A transformer's sizes from its config, from which activations and adapters are estimated."""

    hidden: int
    inner: int
    layers: int
    vocabulary: int
    heads: int
    attention_dropout: float = 0.0
    is_half: bool = False  # its weights are in 16 bits
    writing: int = 0  # the layers of the decoder in an encoder-decoder with `layers` encoder layers
    head_size: int = 0  # 0: `hidden` by the number of heads

    @property
    def table(self) -> int:
        """The number of weights of the token embeddings."""
        return self.vocabulary * self.hidden

    @property
    def widths(self) -> Widths:
        """The sizes that a method's own weights follow from."""
        return Widths(self.hidden, self.inner, self.layers, self.writing, self.heads * self.head_size)

    def token_floats(self, weights: int, length: int) -> int:
        """The floats that one token leaves for the backward pass, in a sequence of this length.

        In an encoder-decoder it is the larger of an encoder's and a decoder's token. An encoder token also leaves a key
        and a value for each decoder layer.
        """
        if not self.layers + self.writing:
            return TABLE_FLOATS * self.hidden
        across = 4 * self.hidden * self.writing  # floats of cross-attention
        products = (weights - self.table) / max(1, self.hidden) - across
        is_gated = products / max(1, self.layers + self.writing) - 4 * self.hidden > 2.25 * self.inner
        each = 10 * self.hidden + (4 if is_gated else 2) * self.inner
        # attention weights of each head over all tokens
        seen = 3 * self.heads * length if self.attention_dropout else 0
        read = self.layers * (each + seen) + 2 * self.hidden * self.writing
        written = self.writing * (each + 6 * self.hidden + 2 * seen)
        return max(read, written)


def shape_of(config: Mapping[str, Json]) -> ModelShape | None:
    """The shape from a config, by the names that architectures use; None if the config is incomplete."""
    hidden = _first(config, "hidden_size", "n_embd", "d_model", "dim")
    layers = _first(config, "encoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    vocabulary = _first(config, "vocab_size")
    if hidden and vocabulary and config.get("num_hidden_layers") == 0:
        return ModelShape(hidden, hidden, 0, vocabulary, 1)  # a table of token vectors
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
        _first(config, "head_dim", "d_kv"),
    )


def _most(config: Mapping[str, Json], *names: str) -> int:
    """The largest of these values, because encoder and decoder may differ."""
    return max((_first(config, name) for name in names), default=0)


def _first(config: Mapping[str, Json], *names: str) -> int:
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), 0)


@dataclass(frozen=True, slots=True)
class FootprintFacts:
    """What admission knows about base and machine, beside the manifests."""

    resident_bytes: int = 0  # of the base's resident form; 0 if there is none
    shape: ModelShape | None = None
    kv_bytes: int = 0
    threads: int = 1
    beside_bytes: int = 0  # of other models that are loaded beside it


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
    """The bytes of a training run on this base; with a method that is not chosen yet, of the largest it may be."""
    if recipe.method == AUTO:
        able = methods_open_to(recipe, base)
        every = [training_footprint(replace(recipe, method=name), device, base, facts) for name in able]
        return {kind: max(one[kind] for one in every) for kind in every[0]}
    weights = _loaded_bytes(base, facts)
    if facts.shape is not None and facts.shape.is_half:
        weights = max(2 * weights_bytes(base), facts.resident_bytes)
    limit = base.options.get("max_tokens")
    limit = limit if isinstance(limit, int) else 0
    needs = _of_training(recipe, device, weights, limit, facts)
    if recipe.data.unlabelled and not recipe.teacher:
        by = labelling_method(recipe.method, weights_bytes(base), needs_frozen_base=needs_frozen_base(recipe))
        labelling = _of_training(replace(recipe, method=by), device, weights, limit, facts)
        needs = {kind: max(size, labelling[kind]) for kind, size in needs.items()}
    if recipe.base_dtype is not None and facts.shape is not None:
        weights = _frozen_bytes(weights, facts.shape, recipe.base_dtype)
    return needs | {LeaseKind.WEIGHTS: weights + facts.beside_bytes}


def _frozen_bytes(weights: int, shape: ModelShape, dtype: str) -> int:
    """The bytes of a base that has `weights` bytes in float32 when its linear layers are kept in this dtype."""
    table = FLOAT_BYTES * shape.table
    return table + (weights - table) * BASE_BITS[dtype] // (8 * FLOAT_BYTES) if weights > table else weights


def methods_open_to(recipe: Recipe, base: Manifest) -> tuple[str, ...]:
    """The methods that the rule may choose for a recipe that names none."""
    is_static = is_table(base.architecture)
    return choosable(recipe.task, is_static=is_static, needs_frozen_base=needs_frozen_base(recipe))


def _loaded_bytes(model: Manifest, facts: FootprintFacts) -> int:
    """The bytes of the model's weights, or of its resident form: packed files are smaller than what is loaded."""
    if model.dtype and facts.resident_bytes:  # int8 is smaller than its source
        return facts.resident_bytes
    return max(weights_bytes(model), facts.resident_bytes)


def _of_training(recipe: Recipe, device: str, weights: int, limit: int, facts: FootprintFacts) -> dict[LeaseKind, int]:
    """Shared weights; trained weights with moments, best epoch and gradients; activations of a pass."""
    method, shape = method_of(recipe.method), facts.shape
    shares = shares_of(facts.threads, batch_size_of(recipe), device)
    changed = _adapter_bytes(recipe, method, weights, shape) if method.keeps_base else weights
    # Each gradient worker has its own gradients, and a copy of them in shared memory.
    gradients = (2 * shares - 1) * (changed - (0 if method.keeps_base else _sparse_bytes(recipe, shape)))
    tokens = budget = token_budget_of(recipe)
    longest = min(one for one in (recipe.options.get("max_tokens"), limit, budget) if isinstance(one, int) and one > 0)
    spec = find_spec(recipe.task)
    if spec is not None and spec.is_one_sequence:
        passes = 2 if recipe.consistency else 1 + recipe.views  # of each text, and of the copies beside it
        tokens = min(budget, ceil(passes * batch_size_of(recipe) / shares) * longest)
    each = _token_bytes(weights, longest, shape, method)
    return {
        LeaseKind.WEIGHTS: weights,
        LeaseKind.OPTIMIZER: (2 + recipe.save_best) * changed + gradients,
        LeaseKind.ACTIVATIONS: int(shares * tokens * each),
        LeaseKind.WORKSPACE: CHILD_BYTES + shares * (LOGITS_BYTES if is_generative(recipe.task) else 0),
    }


def _adapter_bytes(recipe: Recipe, method: MethodSpec, weights: int, shape: ModelShape | None) -> int:
    if not method.trains_layers:
        return 0
    if shape is None:
        return weights // ADAPTED_SHARE
    return FLOAT_BYTES * method.count_weights(shape.widths, settings_of_method(recipe))


def _token_bytes(weights: int, length: int, shape: ModelShape | None, method: MethodSpec) -> float:
    floats = weights // FLOAT_BYTES
    if shape is None:
        return float(UNKNOWN_BYTES * floats**0.5)
    return FLOAT_BYTES * shape.token_floats(floats, length) * (LORA_LOOSE if method.keeps_base else 1.0)


def _sparse_bytes(recipe: Recipe, shape: ModelShape | None) -> int:
    """The bytes of token embeddings that get sparse gradients."""
    return 0 if shape is None or is_generative(recipe.task) else FLOAT_BYTES * shape.table


def attached_bytes(manifest: Manifest) -> int:
    """The bytes of a model on its base in memory: an adapter that is computed in another form may be larger than its
    file."""
    held = manifest.lineage.get("resident_bytes")
    return max(weights_bytes(manifest), held if isinstance(held, int) else 0)


def weights_bytes(manifest: Manifest) -> int:
    """The bytes of a model's own weights, heads and adapters, without its base's."""
    kinds = (Part.WEIGHTS, Part.ADAPTER, Part.HEAD)
    return sum(file.size_bytes for file in manifest.files if file.part in kinds)
