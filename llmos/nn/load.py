"""Loads a model from its files, with weights memory-mapped and shared by all processes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from llmos.abi.error import BadInput, Corrupt, UnsafeWeights
from llmos.abi.form import is_int8, rest_of
from llmos.abi.frame import ModelPath
from llmos.nn import static_embeddings  # noqa: F401  # makes its architecture known to transformers
from llmos.nn.adapters.virtual import ids_of
from llmos.nn.attention import NAME
from llmos.nn.called import calling_folder, name_of
from llmos.nn.cpu import half_embeddings, int8_linear
from llmos.nn.cpu.cpu_kernels import kernels
from llmos.nn.cpu.few_row_matmul import turn
from llmos.nn.cpu.fused import fuse
from llmos.nn.frozen_linear import freeze_linears
from llmos.nn.generation import encoder_state, generation_constraints
from llmos.nn.generation.generation_constraints import GenerationConstraints
from llmos.nn.packing import position_offset
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks.encoder_decoder import KINDS, EncoderDecoderInfo, prefixes_of

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. `causal` is the same weights with the output layer for next-token logits, if there is one.

    `ends` are the tokens that end an answer; `kv_dtype` is the KV cache's dtype. A model with a `reader` is an
    encoder-decoder: `max_tokens` is then the encoder's limit, and `rules` are its generation constraints.
    """

    backbone: nn.Module
    causal: nn.Module | None
    tokenizer: FastTokenizer
    config: Any  # Any: transformers' config class of this architecture
    device: torch.device
    hidden_size: int
    max_tokens: int
    is_causal: bool
    weights_bytes: int
    ends: frozenset[int]
    kv_dtype: torch.dtype
    rules: GenerationConstraints | None = None
    virtual_ids: tuple[int, ...] = ()  # what stands in front of every sequence of a model on it

    def with_virtual(self, count: int) -> Loaded:
        """The same for a model with so many virtual tokens in front of each sequence."""
        return replace(self, virtual_ids=ids_of(count), max_tokens=self.max_tokens - count) if count else self

    @property
    def reader(self) -> EncoderDecoderInfo | None:
        return self.tokenizer.reader


def load(
    located: ModelPath, *, dtype: str, device: str, trainable: bool = False, linear_dtype: str | None = None
) -> Loaded:
    """Load the model from its resident form, or else from its folder.

    Only a trainable model gets a private copy of weights. `linear_dtype`: what the linear layers of a frozen base are
    kept in while something is trained on it (frozen_linear).
    """
    folder = Path(located.resident or located.folder)
    with calling_folder(folder, located.manifest.ref):
        return load_folder(folder, dtype=dtype, device=device, trainable=trainable, linear_dtype=linear_dtype)


def load_folder(
    folder: Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trainable: bool = False,
    linear_dtype: str | None = None,
) -> Loaded:
    """Load as in `load`, from a plain folder."""
    if linear_dtype is None:
        model = _read(folder, dtype, torch_device(device), trainable=trainable)
    else:
        model = _read_frozen(folder, torch_dtype(dtype), torch_device(device), linear_dtype)
    if trainable:
        for parameter in model.parameters():
            # a private copy: memory-mapped pages are shared with other processes
            parameter.data = parameter.data.clone()
    model.requires_grad_(trainable).train(trainable)
    generates = model.can_generate()
    is_served = not trainable and linear_dtype is None
    if generates and is_served:
        turn(model)
    if is_served:
        fuse(model)
    if model.config.is_encoder_decoder:
        encoder_state.watch(model)
    backbone = model.base_model if generates else model
    tokenizer = FastTokenizer(folder)
    config = model.config
    tokenizer.ends = _ends(folder, config, tokenizer)
    tokenizer.held = getattr(config, "vocab_size", None)
    limit = getattr(config, "max_position_embeddings", None)
    told = None
    if config.is_encoder_decoder:
        said = generation_constraints.read_constraints(folder)
        opening = generation_constraints.opening_of(said, name_of(folder))
        tokenizer.reader = EncoderDecoderInfo(
            opening,
            limit or NO_LIMIT,
            prefixes_of(config.to_dict()),
            opens_whole=config.model_type != "mbart",
            codes=tokenizer.languages if config.model_type == "mbart" else {},
        )
        told = generation_constraints.rules_of(
            said, opening, tokenizer.ends, model.get_output_embeddings().out_features
        )
    return Loaded(
        backbone=backbone,
        causal=model if generates else None,
        tokenizer=tokenizer,
        config=config,
        device=model.device,
        hidden_size=config.hidden_size,
        max_tokens=min(
            limit - position_offset(backbone) if limit else getattr(config, "n_positions", None) or NO_LIMIT,
            tokenizer.max_tokens or NO_LIMIT,
        ),
        is_causal=any(getattr(module, "is_causal", False) for module in backbone.modules()),
        weights_bytes=sum(parameter.nbytes for parameter in model.parameters())
        + int8_linear.weights_bytes(model)
        + half_embeddings.tables_bytes(model),
        ends=tokenizer.ends,
        kv_dtype=_kv_dtype(model, dtype),
        rules=told,
    )


def _kv_dtype(model: PreTrainedModel, dtype: str) -> torch.dtype:
    """float16 for an int8 model if the C kernels read it: that rounds far less than the int8 products do."""
    loops = kernels()
    return torch.float16 if is_int8(dtype) and loops is not None and loops.has_halves else model.dtype


def _ends(folder: Path, config: Any, tokenizer: FastTokenizer) -> frozenset[int]:  # Any: as Loaded.config
    """The tokens that end an answer, from all of its files: these name different ones."""
    named = [getattr(config, "eos_token_id", None), tokenizer.end_id]
    named.append(generation_constraints.read_constraints(folder).get("eos_token_id"))
    flat = [one for some in named for one in (some if isinstance(some, list) else [some])]
    return frozenset(one for one in flat if one is not None)


def _read(folder: Path, dtype: str, device: torch.device, *, trainable: bool) -> PreTrainedModel:
    if not is_int8(dtype):
        return read_model(folder, torch_dtype(dtype)).to(device)
    assert not trainable, "Integers have no gradients: what is trained is loaded in float"
    if device.type != "cpu":
        raise BadInput(
            f"int8 runs only on CPUs, not on {device}. Use the float version there", dtype="int8", device=str(device)
        )
    return read_int8(folder, torch_dtype(rest_of(dtype)))


def _read_frozen(folder: Path, dtype: torch.dtype, device: torch.device, linear_dtype: str) -> PreTrainedModel:
    """The model with frozen linear layers in this dtype, whose weights are not brought to another one first."""
    model = read_model(folder, dtype, as_read=linear_weights).requires_grad_(False)
    found = 0
    if device.type == "cpu" and not model.config.is_encoder_decoder:
        found = freeze_linears(model.base_model if model.can_generate() else model, linear_dtype)
    if not found:
        raise BadInput(
            f"{name_of(folder)} cannot be kept in {linear_dtype} under what is trained: that is for linear layers of "
            "encoders and decoders, on CPUs. Leave base_dtype out",
            key="base_dtype",
            value=linear_dtype,
            device=str(device),
        )
    return model


def linear_weights(model: PreTrainedModel) -> frozenset[str]:
    """The names of the weights of its backbone's linear layers."""
    backbone = model.base_model if model.can_generate() else model
    inside = {id(one) for one in backbone.modules() if type(one) is nn.Linear}
    return frozenset(f"{name}.weight" for name, one in model.named_modules() if id(one) in inside)


def read_int8(folder: Path, rest: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model with int8 linear layers, read from an int8 form or quantized now; then all else is rounded to `rest`.

    The layers are packed for the kernel in this process's own memory. Embeddings stay memory-mapped, and so do other
    weights in float32. Other weights in 16 bits are few and are widened, because nothing computes in bfloat16.
    """
    check_int8(AutoConfig.from_pretrained(folder))
    weights = read_weights(folder)
    if not int8_linear.is_form(weights):
        model = read_model(folder, torch.float32)
        made = {path: int8_linear.quantize_layer(layer) for path, layer in int8_linear.eligible(model)}
        if rest != torch.float32:
            half_embeddings.narrow(model, rest, keep=frozenset(made))
            half_embeddings.hold(model)
        int8_linear.put(model, made)
        return model
    model = _empty(folder, torch.float32)
    layers = int8_linear.layers_of(weights, model, name_of(folder))
    blank = model.state_dict()  # placeholders until the layers are replaced: never touched, so they take no memory
    named = {path + int8_linear.WEIGHT for path in layers}
    found = {name: blank[name] if name in named else weights.get(name) for name in blank}
    tied = set(model.all_tied_weights_keys)
    short = half_embeddings.names(model)
    held = {
        name: x if name in short or not x.is_floating_point() else x.float()
        for name, x in found.items()
        if x is not None and name not in tied
    }
    if lacking := sorted(blank.keys() - held.keys() - tied):
        raise Corrupt(
            f"{name_of(folder)} lacks {len(lacking)} of its model's tensors, such as {lacking[0]}", tensors=lacking[:8]
        )
    model.load_state_dict(held, False, True)
    model.tie_weights()
    half_embeddings.hold(model)
    int8_linear.put(model, layers)
    return model


def check_int8(config: Any) -> None:  # Any: as Loaded.config
    """Raise BadInput for an architecture that int8 does not support."""
    if config.is_encoder_decoder:
        raise BadInput(
            f"An encoder with a decoder ({config.model_type}) is not computed in int8 here. Leave the dtype out, to "
            "serve it in float32 or bfloat16",
            dtype="int8",
            architecture=config.model_type,
        )


def read_model(
    folder: Path,
    dtype: torch.dtype,
    as_read: Callable[[PreTrainedModel], frozenset[str]] = lambda model: frozenset(),
) -> PreTrainedModel:
    """The model of the folder's config, on the folder's memory-mapped weights; those `as_read` keep their dtype."""
    weights = read_weights(folder)
    if int8_linear.is_form(weights):
        raise BadInput(f"{name_of(folder)} holds weights in int8. Load it in int8", dtype="int8")
    model = _empty(folder, dtype)
    if (found := _rename_weights(weights, model)) is None:
        return _convert_weights(folder, dtype)
    kept = as_read(model)
    model.load_state_dict(
        {name: x.to(dtype) if x.is_floating_point() and name not in kept else x for name, x in found.items()},
        False,
        True,
    )
    model.tie_weights()
    return model


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors, memory-mapped; UnsafeWeights if there are only pickled weights."""
    if (folder / INDEX).exists():
        shards = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    elif (folder / WEIGHTS).exists():
        shards = [WEIGHTS]
    elif any(file for pattern in PICKLED for file in folder.glob(pattern)):
        raise UnsafeWeights(
            f"{name_of(folder)} has pickled weights only, and loading a pickle runs the code in it. "
            "If you trust them, convert them to safetensors, or take a revision that has safetensors",
            path=name_of(folder),
        )
    else:
        raise BadInput(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX} is there", lacks=WEIGHTS)
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= load_file(folder / shard)
    return weights


def empty(folder: Path) -> PreTrainedModel:
    """The model of the folder's config without weights; BadInput for an architecture that int8 does not support."""
    check_int8(AutoConfig.from_pretrained(folder))
    return _empty(folder, torch.float32)


def names(folder: Path) -> frozenset[str]:
    """The tensor names of this folder's model, each shared tensor once."""
    model = _empty(folder, torch.float32)
    return frozenset(model.state_dict()) - set(model.all_tied_weights_keys)


def _empty(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model with buffers but uninitialized parameters, which take no memory until touched."""
    config, kind, options = _plan(folder)
    with no_init_weights():
        made: PreTrainedModel = kind.from_config(config, dtype=dtype, **options)
    return made


def _plan(
    folder: Path,
) -> tuple[Any, Any, dict[str, Any]]:  # Any: as Loaded.config; a factory of transformers; its arguments
    """The config, the factory and its arguments: with our attention, and without a pooler, which no task reads."""
    config = AutoConfig.from_pretrained(folder).get_text_config()
    if config.is_encoder_decoder:
        if config.model_type not in KINDS:
            raise BadInput(
                f"{name_of(folder)} is an encoder with a decoder of a kind ({config.model_type}) that does not run "
                f"here. There are: {', '.join(KINDS)}",
                architecture=config.model_type,
                expected=list(KINDS),
            )
        return config, AutoModelForSeq2SeqLM, {"attn_implementation": NAME}
    names = getattr(config, "architectures", None) or ()
    generates = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    backbone = MODEL_MAPPING[type(config)]
    options: dict[str, Any] = {"attn_implementation": NAME} if backbone._supports_attention_backend else {}
    if not generates and "add_pooling_layer" in inspect.signature(backbone).parameters:
        options["add_pooling_layer"] = False
    return config, AutoModelForCausalLM if generates else AutoModel, options


def _rename_weights(weights: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor] | None:
    """The weights under the model's names, which may differ by the base model's prefix; None if some are missing."""
    prefix = f"{model.base_model_prefix}."
    tied = set(model.all_tied_weights_keys)
    found: dict[str, Tensor] = {}
    for name, expected in model.state_dict().items():
        held = next((weights[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in weights), None)
        if held is None and name in tied:
            continue
        if held is None or held.shape != expected.shape:
            return None
        found[name] = held
    return found


def _convert_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """For files whose tensors transformers renames or regroups; `resident.make` does this once for all loads."""
    config, kind, options = _plan(folder)
    model, report = kind.from_pretrained(
        folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise BadInput(
            f"{name_of(folder)} lacks {len(missing)} of its model's tensors, such as {missing[0]}",
            tensors=missing[:8],
        )
    assert isinstance(model, PreTrainedModel)
    return model


def torch_dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(
            f"No dtype {name!r} to compute in. There are: float32, bfloat16, float16; int8 to serve",
            dtype=name,
            expected=["float32", "bfloat16", "float16", "int8"],
        )
    return found


def torch_device(name: str) -> torch.device:
    """torch's name of our cpu0 or cuda1."""
    kind = name.rstrip("0123456789")
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, int(name[len(kind) :] or 0))
