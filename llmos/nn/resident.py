"""Writes the resident form: a base's weights in one number format, memory-mapped by every process.

In an int8 form the linear layers are int8; all other weights have the dtype in which the device computes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, PreTrainedModel

from llmos.abi.error import BadInput, Corrupt
from llmos.abi.form import is_int8, rest_of
from llmos.nn import load
from llmos.nn.called import calling_folder, name_of
from llmos.nn.cpu import int8_linear
from llmos.nn.generation import generation_constraints
from llmos.nn.text import tokenizer

CARRIED = (
    tokenizer.FILE,
    tokenizer.CONFIG,
    tokenizer.TEMPLATE,
    "special_tokens_map.json",
    generation_constraints.GENERATION,
)


def make(source: Path, dtype: str, out: Path, ref: str = "") -> None:
    """Write the resident form of the base in `source`, from its safetensors or its one GGUF file, into `out`.

    Errors call the model `ref`. A change of the written format needs a higher `LAYOUT` in resident_forms.py.
    """
    with calling_folder(source, ref or source.name):
        _make(source, dtype, out)


def _make(source: Path, dtype: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    has_integers = is_int8(dtype)
    floats = load.torch_dtype("float32" if has_integers else dtype)
    rest = load.torch_dtype(rest_of(dtype)) if has_integers else None
    if gguf := _gguf(source):
        model = _read_gguf(source, gguf, floats)
        _write_weights(model, out, rest)
        _write_gguf_tokenizer(source, gguf, out)
    else:
        if has_integers:
            load.check_int8(AutoConfig.from_pretrained(source))
        try:
            model = load.read_model(source, floats)
        except SafetensorError as error:
            raise Corrupt(
                f"The weights in {name_of(source)} cannot be read: {error}. Bring them in again", file=str(source)
            ) from error
        if not has_integers and _is_resident(source, model):
            _link(source / load.WEIGHTS, out / load.WEIGHTS)
        else:
            _write_weights(model, out, rest)
        _carry_tokenizer(source, out)
    _carry_rules(source, model, out)
    _write_config(model, out)


def _carry_rules(source: Path, model: PreTrainedModel, out: Path) -> None:
    """Copy the generation constraints that older models have in config.json, which transformers drops there."""
    config: Any = model.config  # Any: as in _write_config
    if config.is_encoder_decoder and not (out / generation_constraints.GENERATION).exists():
        (out / generation_constraints.GENERATION).write_text(
            json.dumps(generation_constraints.read_constraints(source))
        )


def _gguf(source: Path) -> str | None:
    found = sorted(path.name for path in source.glob("*.gguf"))
    if not found or (source / load.WEIGHTS).exists():
        return None
    if len(found) > 1:
        raise BadInput(
            f"{name_of(source)} has {len(found)} GGUF files ({', '.join(found)}). Leave the one to use", files=found
        )
    return found[0]


def _read_gguf(source: Path, name: str, dtype: torch.dtype) -> PreTrainedModel:
    """Load a GGUF file, with its quantized weights turned back into floats."""
    from transformers import AutoModelForCausalLM, GgufConfig  # imported late: GGUF is rare and its imports are slow

    config = GgufConfig(gguf_file=name, dequantize=True)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=dtype, quantization_config=config
    )
    return model


def _write_gguf_tokenizer(source: Path, name: str, out: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(out)


def _carry_tokenizer(source: Path, out: Path) -> None:
    for name in CARRIED:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    if not (out / tokenizer.FILE).exists():
        tokenizer.read(source).save(str(out / tokenizer.FILE))
    answers = tokenizer.read_answers(source)
    if answers is not None:
        answers.save(str(out / tokenizer.ANSWERS))


def _is_resident(source: Path, model: PreTrainedModel) -> bool:
    """Whether the file is a resident form already: this dtype and these names; further unused tensors may be there."""
    if not (source / load.WEIGHTS).exists():
        return False
    with safe_open(source / load.WEIGHTS, framework="pt") as file:
        held = set(file.keys())
        tied = set(model.all_tied_weights_keys)
        names = {name for name in model.state_dict() if name not in tied}
        return names <= held and all(file.get_tensor(name).dtype == model.dtype for name in names)


def _link(source: Path, to: Path) -> None:
    try:
        os.link(source.resolve(), to)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, to)


def _write_weights(model: PreTrainedModel, out: Path, rest: torch.dtype | None) -> None:
    """Write the weights under the model's own names.

    In an int8 form, with `rest` as the dtype of all else, a layer with shared weights gets its own integers, made from
    unrounded weights.
    """
    tied = set(model.all_tied_weights_keys)
    kept = {name: x.contiguous() for name, x in model.state_dict().items() if name not in tied}
    if rest is not None:
        kept = {name: x.to(rest) if x.is_floating_point() else x for name, x in kept.items()}
        kept |= int8_linear.form_of(model)
    save_file(kept, out / load.WEIGHTS, {"format": "pt"})


def _write_config(model: PreTrainedModel, out: Path) -> None:
    config: Any = model.config  # Any: transformers' config class of this architecture
    config.architectures = [type(model).__name__]
    config.save_pretrained(out)
    if (
        model.can_generate()
        and model.generation_config is not None
        and not (out / generation_constraints.GENERATION).exists()
    ):
        model.generation_config.save_pretrained(out)
