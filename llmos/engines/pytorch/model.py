"""Models of the engine: the base itself, adapters or full fine-tunes that stand on it, and calls to them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from torch import nn

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import find_method, has_adapter, is_on_base, method_names
from llmos.abi.model import Manifest
from llmos.abi.task import generative_tasks, spec_of, vector_tasks
from llmos.engines.active_call import ActiveCall
from llmos.nn.adapters.adapter import Adapter, Segment, applying_segments
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.adapters.head import Head, load_head
from llmos.nn.attention import NAME
from llmos.nn.load import Loaded, load, torch_device
from llmos.tasks import Settings, Task, for_model
from llmos.tasks.calibration import load_calibration
from llmos.tasks.encoder_decoder import TASKS as READING

POOLING = "mean"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model in the engine; weights shared with others are held by reference.

    `files` distinguish it from an earlier model with the same ref: version numbers restart when all versions of a name
    were removed.
    """

    ref: str
    tasks: tuple[str, ...]
    settings: Settings
    loaded: Loaded
    adapter: Adapter | None = None
    head: Head | None = None
    files: tuple[str, ...] = ()  # digests of its files

    @property
    def pooling(self) -> str:
        return str(self.settings.options.get("pooling", POOLING))

    @property
    def group(self) -> tuple[int, int]:
        """The key of models that share rows: those on one backbone, with each adapter applied to its own segment."""
        # an architecture with its own attention computes rows by lengths
        is_one_piece = self.loaded.config._attn_implementation == NAME
        shares = self.adapter is None or (self.adapter.is_mixable and is_one_piece)
        return id(self.loaded.backbone), 0 if shares else id(self.adapter)

    @property
    def place(self) -> tuple[int, str]:
        """The sort key within a row: the base first, and tokens of one adapter side by side."""
        return (id(self.adapter) if self.adapter is not None else 0), self.ref

    def task(self, name: str, params: dict[str, Json]) -> Task:
        if name not in self.tasks:
            raise WrongTask(
                f"{self.ref} does {', '.join(self.tasks)}, not {name}. For that, train one: llmos train {name}",
                model=self.ref,
                task=name,
                has=list(self.tasks),
            )
        return for_model(name, params, self.ref, self.settings.labels)


@dataclass(slots=True, eq=False, kw_only=True)
class ServedCall(ActiveCall):
    """A call in hand, and the model that answers it."""

    model: ServedModel


def applying_adapters(row: Iterable[tuple[ServedModel, int]]) -> AbstractContextManager[None]:
    """Inside this block, one forward pass computes a row of these models' tokens, each segment with its model's
    adapter."""
    segments: list[Segment] = []
    end = 0
    for _, some in groupby(row, key=lambda part: id(part[0].adapter)):
        parts = list(some)
        start, end = end, end + sum(tokens for _, tokens in parts)
        segments.append(Segment(parts[0][0].adapter, start, end))
    return applying_segments(segments)


def no_number(ref: str) -> BadInput:
    """The error for a model whose outputs are NaN or infinite."""
    return BadInput(
        f"{ref} computes NaN or infinity: its weights are damaged, or too large for this dtype. Bring it in "
        "again, or serve it in float32",
        model=ref,
        reason="not_finite",
    )


def base_of(located: ModelPath, loaded: Loaded) -> ServedModel:
    """The base itself: it embeds, and generates if it has a next-token layer."""
    tasks = (*vector_tasks(), *(generative_tasks() if loaded.causal else ()))
    if loaded.reader is not None:
        tasks = READING
    manifest = located.manifest
    return ServedModel(manifest.ref, tasks, _settings(manifest, loaded), loaded, files=_digests(manifest))


def model_on(base: ServedModel, located: ModelPath, dtype: str, device: str) -> ServedModel:
    """A model on this base."""
    manifest, folder = located.manifest, Path(located.folder)
    if find_method(manifest.method) is None:
        raise BadInput(
            f"{manifest.ref} was made by {manifest.method!r}, and models of these methods can be served: "
            f"{', '.join(method_names())}",
            model=manifest.ref,
            method=manifest.method,
        )
    loaded = base.loaded if is_on_base(manifest.method) else load(located, dtype=dtype, device=device)
    adapter = load_adapter(folder, loaded.backbone, manifest.ref) if has_adapter(manifest.method) else None
    if adapter is not None and adapter.virtual is not None:
        loaded = loaded.with_virtual(adapter.virtual.count)
    spec = spec_of(manifest.task)
    needs_head = spec.head in ("sequence", "token")
    return ServedModel(
        manifest.ref,
        vector_tasks()
        if spec.head == "pooled" and spec.is_trainable
        else (manifest.task,)
        if needs_head or manifest.task not in base.tasks
        else base.tasks,
        replace(_settings(manifest, loaded), calibration=load_calibration(folder)),
        loaded,
        adapter,
        _head(folder, manifest, torch_device(device), loaded) if needs_head else None,
        _digests(manifest),
    )


def _digests(manifest: Manifest) -> tuple[str, ...]:
    return tuple(file.digest for file in manifest.files)


def _settings(manifest: Manifest, loaded: Loaded) -> Settings:
    return Settings(manifest.labels, manifest.options, loaded.max_tokens)


def _head(folder: Path, manifest: Manifest, device: object, loaded: Loaded) -> Head:
    head = load_head(folder, str(device))
    out: nn.Linear = head.out
    if (out.in_features, out.out_features) != (loaded.hidden_size, len(manifest.labels)):
        raise BadInput(
            f"{manifest.ref} has a head from {out.in_features} to {out.out_features}; its base gives "
            f"{loaded.hidden_size} and it has {len(manifest.labels)} labels. Train it again",
            model=manifest.ref,
            reason="head",
        )
    return head
