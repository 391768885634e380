"""The candidate model: the base being fine-tuned, its head or adapter, its forward pass and its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmos.abi.form import is_int8
from llmos.abi.frame import ModelPath
from llmos.abi.heap import give_back
from llmos.abi.method import has_adapter, is_on_base, method_of
from llmos.abi.model import Part
from llmos.abi.recipe import Recipe, settings_of_method
from llmos.abi.task import spec_of
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import CONFIG as ADAPTER_CONFIG
from llmos.nn.adapters.adapter_file import WEIGHTS as ADAPTER_WEIGHTS
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.adapters.grouped_tuned import begin_grouped
from llmos.nn.adapters.head import FILE as HEAD_FILE
from llmos.nn.adapters.head import Head, PooledHead, SequenceHead, TokenHead, load_head, save_head
from llmos.nn.adapters.methods import tuner_of
from llmos.nn.adapters.tuned import Tuned
from llmos.nn.dropout import draw_fast
from llmos.nn.generation.encoder_state import hidden_of
from llmos.nn.load import Loaded, load, torch_device
from llmos.nn.masked_token import MaskedHead
from llmos.nn.next_token import NextHead
from llmos.nn.packing import fill, forward, has_own_attention, pack

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
BESIDE = (
    CONFIG,
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "s*.model",
    "*.spm",
    "*.jinja",
)


AnyHead = Head | PooledHead | NextHead | MaskedHead


class Candidate:
    """A backbone and a head on one device, computing logits of packed examples."""

    def __init__(
        self,
        loaded: Loaded,
        head: AnyHead,
        dtype: str,
        device: str,
        *,
        tuned: Tuned | None = None,
        keeps_base: bool = False,
        adapter: Adapter | None = None,
        load_base: Callable[[], Loaded] | None = None,
    ) -> None:
        self.loaded = loaded
        self.head = head
        self.tuned = tuned  # what a method trains on a frozen base
        self.adapter = adapter if tuned is None else tuned.adapter  # a stored adapter, or one in training
        self.keeps_base = keeps_base  # whether what is saved stands on the base's weights
        self._load_base = load_base  # the frozen base alone; None where there is none
        self._dtype, self._device = dtype, device
        self.device = torch_device(device)
        self.amp = torch.bfloat16 if dtype == "bfloat16" else None

    @property
    def is_mixed(self) -> bool:
        """Whether all its weights are trained in float32, and its layers compute in bfloat16 on the CPU."""
        return self.amp is not None and self.device.type == "cpu" and not self.keeps_base

    @property
    def computes_copies(self) -> bool:
        """Whether its frozen layers may compute copies in bfloat16: none reads the base's weights to change them."""
        is_frozen = self.amp is not None and self.device.type == "cpu" and self.keeps_base
        return is_frozen and not (self.tuned is not None and self.tuned.reads_weights)

    @property
    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.loaded.backbone, self.head

    @property
    def output(self) -> nn.Module | None:
        """The layer over the vocabulary of a model that writes. Some backbones hold it too."""
        return self.head.layer if isinstance(self.head, NextHead) else None

    @property
    def next_head(self) -> NextHead:
        """The language modelling head; only models that write have one."""
        assert isinstance(self.head, NextHead), "this model does not write"
        return self.head

    @property
    def has_reference(self) -> bool:
        """Whether it stands on a frozen base."""
        return self._load_base is not None

    def reference(self) -> Candidate:
        """Its frozen base alone, in the dtype that it computes in; the weights are memory-mapped and shared."""
        assert self._load_base is not None, "this model has weights of its own"
        loaded = self._load_base()
        return Candidate(loaded, NextHead(loaded), self._dtype, self._device)

    def train(self, mode: bool = True) -> None:
        for module in self.modules:
            module.train(mode)

    def logits(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """The head's output in float32: a row for each sequence, or for each token.

        For an encoder-decoder, sequences alternate between encoder input and decoder input; rows are the decoder's.
        """
        mine = sequences if self.loaded.reader is None else sequences[1::2]
        logits: Tensor = self.head(self.hidden_states(sequences), [len(ids) for ids in mine])
        return logits

    def hidden_states(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """The last hidden state of every token that `logits` reads, [T, hidden], in float32."""
        backbone, opening = self.loaded.backbone, self.loaded.virtual_ids
        if self.loaded.reader is not None:
            packed = pack(sequences[1::2], self.device)
            with self.computing():
                return hidden_of(backbone, pack(sequences[::2], self.device), packed).float()
        is_filled = self.amp is not None and self.device.type == "cpu" and not has_own_attention(backbone)
        if opening:
            mine: Sequence[Sequence[int]] = [(*opening, *ids) for ids in sequences]
        else:
            mine = fill(sequences) if is_filled else sequences
        with self.computing():
            return forward(backbone, pack(mine, self.device))[: sum(map(len, sequences))].float()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside this block, the base computes with the candidate's adapter, in its dtype."""
        with self.adapter.on() if self.adapter else nullcontext(), self.computing_plain():
            yield

    def computing_plain(self) -> torch.autocast:
        """A context in which the base computes in the candidate's dtype, whatever adapters are on."""
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)

    def weights(self) -> dict[str, nn.Parameter]:
        """All trainable parameters, by name."""
        named: list[tuple[str, nn.Module]] = [("backbone", self.loaded.backbone), ("head", self.head)]
        if self.tuned is not None and self.tuned.module is not None:
            named.append(("method", self.tuned.module))
        return {f"{part}.{name}": p for part, m in named for name, p in m.named_parameters() if p.requires_grad}

    def sparse_tables(self) -> set[str]:
        """Switch the trained token embeddings to sparse gradients, of touched rows only, if possible; returns their
        names."""
        backbone: Any = self.loaded.backbone  # Any: transformers' methods, which nn.Module does not declare
        table = backbone.get_input_embeddings()
        names = {name for name, p in self.weights().items() if p is getattr(table, "weight", None)}
        # with tied weights every row changes in every step
        is_tied = isinstance(self.head, MaskedHead) or (isinstance(self.head, NextHead) and self.head.is_tied)
        if not names or is_tied:
            return set()
        if self.loaded.reader is not None:  # encoder and decoder may look up in one shared table
            return set()
        table.sparse = True
        return names

    def save(self, folder: Path, base: ModelPath) -> tuple[tuple[str, Part], ...]:
        """Write the model's files for the store: weights or adapter, head, and for a full model its config and
        tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        head: tuple[tuple[str, Part], ...] = ()
        if not isinstance(self.head, PooledHead | NextHead | MaskedHead):  # these have no file
            save_head(self.head, folder)
            head = ((HEAD_FILE, Part.HEAD),)
        if self.tuned is not None:
            writing = self.loaded if isinstance(self.head, NextHead) else None
            self.tuned.save(folder, base.manifest.base_digest, writing)
            return (ADAPTER_WEIGHTS, Part.ADAPTER), (ADAPTER_CONFIG, Part.CONFIG), *head
        if self.keeps_base:
            return head
        model = self.loaded.causal or self.loaded.backbone
        tied = set(getattr(model, "all_tied_weights_keys", ()))
        state = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items() if name not in tied}
        save_file(state, folder / WEIGHTS, {"format": "pt"})
        return (WEIGHTS, Part.WEIGHTS), *_copy_config(Path(base.resident or base.folder), folder), *head


def _copy_config(source: Path, folder: Path) -> list[tuple[str, Part]]:
    """Copy the config and the tokenizer's files, which a full model needs beside its weights."""
    found = sorted({file for pattern in BESIDE for file in source.glob(pattern)})
    for file in found:
        shutil.copyfile(file, folder / file.name)
    return [(file.name, Part.CONFIG if file.name in BESIDE[:2] else Part.TOKENIZER) for file in found]


def begin(base: ModelPath, recipe: Recipe, labels: int, dtype: str, device: str) -> Candidate:
    """A candidate to train: the base's weights (a private copy, or memory-mapped under an adapter) and a fresh head."""
    spec = method_of(recipe.method)
    is_full = not spec.keeps_base
    loaded = load(
        _published_base(base) if is_full else base,
        dtype="float32",
        device=device,
        trainable=is_full,
        linear_dtype=recipe.base_dtype,
    )
    tuned = None
    if spec.reads_as:
        tuned = tuner_of(spec).add(loaded, spec, settings_of_method(recipe), recipe.seed)
        if tuned.adapter is not None and tuned.adapter.virtual is not None:
            loaded = loaded.with_virtual(tuned.adapter.virtual.count)
        if recipe.base_dtype:
            give_back()  # of the weights in floats, which were made only to be looked at
    head = _fresh_head(recipe, loaded, labels)
    draw_fast(loaded.backbone, head)
    load_base = None if is_full else partial(load, base, dtype="float32", device=device)
    return Candidate(
        loaded,
        head,
        dtype,
        device,
        tuned=tuned,
        keeps_base=spec.keeps_base,
        load_base=load_base,
    )


def begin_several(base: ModelPath, recipes: Sequence[Recipe], labels: int, dtype: str, device: str) -> list[Candidate]:
    """A candidate of each recipe on one frozen base, to be trained together (training/trainer_pack.py).

    `can_group` says which methods can be.
    """
    first = recipes[0]
    loaded = load(base, dtype="float32", device=device, linear_dtype=first.base_dtype)
    load_base = partial(load, base, dtype="float32", device=device)
    draw_fast(loaded.backbone)
    return [
        Candidate(
            loaded,
            _fresh_head(recipe, loaded, labels),
            dtype,
            device,
            tuned=begin_grouped(loaded, method_of(recipe.method), settings_of_method(recipe), recipe.seed),
            keeps_base=True,
            load_base=load_base,
        )
        for recipe in recipes
    ]


def _fresh_head(recipe: Recipe, loaded: Loaded, labels: int) -> AnyHead:
    """The head that the task learns, by the recipe's seed."""
    torch.manual_seed(recipe.seed)
    pooling = str(recipe.options.get("pooling", "mean"))
    match spec_of(recipe.task).head:
        case "token":
            head: AnyHead = TokenHead(loaded.hidden_size, labels)
        case "pooled":
            head = PooledHead(pooling)
        case None:
            head = NextHead(loaded)
            head.check(loaded)
        case _:
            head = SequenceHead(loaded.hidden_size, labels, pooling)
    return head.to(loaded.device)


def _published_base(base: ModelPath) -> ModelPath:
    """The base as published, if its folder can be read, because a resident form may have been rounded."""
    folder = Path(base.folder)
    return replace(base, resident=None) if any(folder.glob("*.safetensors")) else base


def load_stored(model: ModelPath, dtype: str, device: str) -> Candidate:
    """A model from the store, for evaluation. A plain base computes embeddings."""
    is_on = is_on_base(model.manifest.method)
    assert model.base is not None or not is_on, f"{model.manifest.ref} names no base"
    computed = dtype if is_int8(dtype) else "float32"
    loaded = load(model.base if is_on and model.base else model, dtype=computed, device=device)
    folder = Path(model.folder)
    adapter = load_adapter(folder, loaded.backbone, model.manifest.ref) if has_adapter(model.manifest.method) else None
    if adapter is not None and adapter.virtual is not None:
        loaded = loaded.with_virtual(adapter.virtual.count)
    kind = spec_of(model.manifest.task).head
    if kind is None:
        head: AnyHead = NextHead(loaded)
    elif kind == "pooled":
        head = PooledHead(str(model.manifest.options.get("pooling", "mean")))
    else:
        head = load_head(folder, torch_device(device))
    load_base = partial(load, model.base, dtype=computed, device=device) if is_on and model.base else None
    return Candidate(loaded, head, dtype, device, adapter=adapter, load_base=load_base)
