"""Imports a foreign PEFT adapter: matches it to a base in the store, or refuses it with the reason.

The base is the one whose digest the adapter names, or whose weights equal those of the folder that it names. If neither
is known, it is the one that fits by layers and shapes; if several fit, the one whose origin it names. The argument
`base` overrides this, with the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llmos.abi.catalog import catalog
from llmos.abi.engine import DEFAULT, check_engine, refusal
from llmos.abi.error import BadInput, Corrupt
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Offer, OfferKind, Part, Verdict, content_digest
from llmos.abi.process import DONE, Progress
from llmos.abi.task import Family, open_ended_tasks, spec_of, task_of_peft
from llmos.nn.adapters.adapter_file import Config, adapter_of, base_digest, read_config, read_tensors
from llmos.nn.adapters.head import FILE as HEAD_FILE
from llmos.nn.adapters.head import Head, save_head
from llmos.nn.adapters.methods import tuner_for
from llmos.nn.adapters.task_head import head_of
from llmos.nn.load import Loaded, load, read_model, torch_dtype
from llmos.programs.channel import Channel
from llmos.programs.describe import license_of
from llmos.programs.sources import Brought
from llmos.tasks.encoder_decoder import TASKS as READING

CARRIED = ("max_tokens", "pooling")  # options of a base that also hold for models on it
SAID = ("r", "lora_alpha", "task_type", "target_modules", "base_model_name_or_path", "revision")
MANY = "multi_label_classification"


@dataclass(frozen=True, slots=True)
class Foreign:
    """An imported adapter: its settings, its weights, and what it states about its base."""

    name: str
    config: Config
    tensors: Mapping[str, Tensor]
    digest: str | None

    @property
    def base_name(self) -> str:
        return str(self.config.get("base_model_name_or_path") or "")


@dataclass(frozen=True, slots=True)
class Match:
    """The adapter's base, and how it was found."""

    base: ModelPath
    loaded: Loaded
    how: str
    resident_bytes: int  # of the adapter in memory


def adopt(channel: Channel, assignment: Job, brought: Brought, folder: Path, name: str) -> None:
    """Find the adapter's base, import its task head, and offer it; the first version of a name is promoted."""
    channel.report(Progress("match", message="looking for the adapter's base"))
    try:
        adapter = Foreign(name, read_config(folder, name), read_tensors(folder, name), base_digest(folder))
    except Corrupt as error:  # the damaged file is in the source, not in the store
        raise BadInput(error.message, **error.detail) from error
    match = match_of(adapter, assignment)
    head = head_of(adapter.tensors, adapter.config, match.loaded.config.model_type, Path(match.base.folder))
    files = list(brought.files)
    if head is not None:
        save_head(head, folder)
        files.append((HEAD_FILE, Part.HEAD))
    draft = _draft(adapter, match, head, folder, assignment.args.get("task"))
    draft |= {"source": brought.source, "license": brought.license or license_of(folder)}
    verdict = Verdict(promote=True, reason=f"the first of its name, from {brought.source}; it was not evaluated here")
    offer = Offer(1, OfferKind.MODEL, name, str(folder), tuple(files), draft, verdict)
    ref = channel.offer(offer).ref
    for part in brought.parts:
        part.unlink(missing_ok=True)
    base = match.base.manifest.ref
    said = f"{ref} is ready: {draft['task']} on {base}, {match.how}"
    is_read = match.loaded.reader is not None
    doubts = _doubts(ref, draft, assignment.args.get("task"), is_read=is_read)
    channel.report(Progress(DONE, 1, 1, message=f"{said}{doubts}"))


def _doubts(ref: str, draft: Mapping[str, Json], asked: Json, *, is_read: bool) -> str:
    """What is unknown or unmeasured about the adapter, and what to do about it."""
    doubts = ""
    spec = spec_of(draft["task"])
    if spec.is_conversation and asked is None:
        doubts += ". Where it was trained to continue plain text, ask for that: --task generate"
    if spec.is_open_ended and not spec.is_conversation and asked is None and is_read:
        doubts += ". Where it was trained with words before its texts, say which: --task translate or summarize"
    if "evidence" in draft:
        rows = f"llmos eval {ref} --data FILE, and again with --dtype float32"
        doubts += f". It is served in int8 as its base is, and what that costs it was not measured: {rows}"
    return doubts


def match_of(adapter: Foreign, assignment: Job) -> Match:
    """The base for this adapter; BadInput, with the reasons, if none in the store fits."""
    bases = _asked_base(adapter, assignment)
    how, bases = _possible_bases(adapter, bases, assignment)
    fits: dict[str, Loaded] = {}
    sizes: dict[str, int] = {}
    reasons: dict[str, BadInput] = {}
    for ref, base in bases.items():
        try:
            loaded = load(base, dtype=assignment.dtype, device="cpu0")
            made = adapter_of(adapter.tensors, adapter.config, loaded.backbone, adapter.name)
            sizes[ref] = made.size_bytes
            fits[ref] = loaded
        except BadInput as error:
            reasons[ref] = error
    if not fits:
        raise _unfit(adapter, reasons)
    if len(fits) > 1:
        raise BadInput(
            f"{adapter.name} fits several bases by its layers and shapes: {_listing(fits)}{_of_base(adapter)}. Say "
            f"which it was trained on: --base {next(iter(fits)).partition(':')[0]}",
            adapter=adapter.name,
            bases=list(fits),
            reason="several_bases",
        )
    ((ref, loaded),) = fits.items()
    return Match(bases[ref], loaded, how, sizes[ref])


def _unfit(adapter: Foreign, reasons: Mapping[str, BadInput]) -> BadInput:
    """The error if no base fits, with the reasons; bases without its layers are named only if all lack them."""
    told = {ref: error.message for ref, error in reasons.items() if "layer" not in error.detail}
    told = told or {ref: error.message for ref, error in reasons.items()}
    found = next(iter(reasons[ref].detail for ref in told)) if len(told) == 1 else {}
    why = "; ".join(reason if len(told) == 1 else f"{ref}: {reason}" for ref, reason in told.items())
    return BadInput(
        f"{adapter.name} does not fit {_listing(told)}{_of_base(adapter)}. {why}",
        **found,
        adapter=adapter.name,
        bases=list(told),
    )


def _asked_base(adapter: Foreign, assignment: Job) -> dict[str, ModelPath]:
    """The requested base, by ref: a full ref or a bare name. Without a request, every base that a bare name means."""
    bases = {key: one for key, one in assignment.models.items() if one.manifest.kind is Kind.BASE}
    asked = assignment.args.get("base")
    if asked in bases:
        check_engine(DEFAULT, bases[asked].manifest)
        return {bases[asked].manifest.ref: bases[asked]}
    able = [one for one in bases.values() if refusal(DEFAULT, one.manifest) is None]
    if not able:
        raise BadInput(
            f"{adapter.name} needs a base{_of_base(adapter)}, and the store has none that {DEFAULT} serves. "
            "Pull that first",
            adapter=adapter.name,
            base=adapter.base_name,
            reason="no_base",
        )
    refs = dict.fromkeys(one.manifest.ref for one in able)
    if asked is not None:
        raise BadInput(
            f"The store has no base {asked!r}. It has {_listing(refs)}", key="base", value=asked, expected=list(refs)
        )
    meant = [bases[name] for name in bases if ":" not in name and bases[name] in able]
    floats = (_in_float(one, able) for one in meant or able)
    return {one.manifest.ref: one for one in floats}


def _in_float(base: ModelPath, others: Iterable[ModelPath]) -> ModelPath:
    """The newest float version of this base, because adapters are trained on float; else the base itself."""
    known = base.manifest
    same = [one for one in others if one.manifest.name == known.name]
    floats = [
        one
        for one in same
        if not one.manifest.dtype and content_digest(one.manifest.files) == content_digest(known.files)
    ]
    return max(floats, key=lambda one: one.manifest.version) if known.dtype and floats else base


def _possible_bases(adapter: Foreign, bases: dict[str, ModelPath], assignment: Job) -> tuple[str, dict[str, ModelPath]]:
    """The bases that can be the adapter's by digest, weights, fit or origin, and how that was decided."""
    if adapter.digest is not None:
        same = {ref: one for ref, one in bases.items() if one.manifest.base_digest == adapter.digest}
        if not same:
            raise BadInput(
                f"{adapter.name} was trained on the base with digest {adapter.digest[:16]}{_of_base(adapter)}, which "
                f"none of these is: {_listing(bases)}. Pull that base first",
                adapter=adapter.name,
                bases=list(bases),
                digest=adapter.digest,
                reason="other_base",
            )
        return "known by its digest", same
    folder = Path(adapter.base_name).expanduser()
    is_there = folder.is_absolute() and (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    if is_there and not assignment.args.get("base"):
        same = {ref: one for ref, one in bases.items() if _same_weights(folder, one, assignment.dtype)}
        if not same:
            raise BadInput(
                f"{adapter.name} was trained on the weights in {folder}, which are not those of {_listing(bases)}. "
                f"Pull that base first: llmos pull {folder}",
                adapter=adapter.name,
                bases=list(bases),
                folder=str(folder),
                reason="other_base",
            )
        return f"whose weights are those in {folder}", same
    named = {ref: one for ref, one in bases.items() if adapter.base_name in _origins(one, assignment)}
    if named:
        return f"known by its name {adapter.base_name}", named
    return f"found by its layers and shapes{_of_base(adapter)}", bases


def _same_weights(folder: Path, base: ModelPath, dtype: str) -> bool:
    """Whether the model in this folder has the base's weights, whatever its files are."""
    if any(file.samefile(other) for file in folder.glob("*.safetensors") for other in _weights_of(base)):
        return True
    ours = load(base, dtype=dtype, device="cpu0").backbone.state_dict()
    theirs = read_model(folder, torch_dtype(dtype)).base_model.state_dict()
    return all(name in theirs and torch.equal(weight, theirs[name]) for name, weight in ours.items())


def _weights_of(base: ModelPath) -> list[Path]:
    places = (base.folder, base.resident)
    return [file for place in places if place for file in Path(place).glob("*.safetensors")]


def _origins(base: ModelPath, assignment: Job) -> set[str]:
    """The base's public names."""
    source = base.manifest.source
    more = assignment.args.get("catalog")
    entries = catalog(Path(more) if more else None).values()
    names = {entry.hub.repo for entry in entries if entry.hub and entry.wheel and entry.wheel.source == source}
    return names | {source.removeprefix("hf:").partition("@")[0]} if source.startswith("hf:") else names


def _draft(adapter: Foreign, match: Match, head: Head | None, folder: Path, asked: Json) -> dict[str, Json]:
    """The model's manifest, without the fields that its source sets."""
    base = match.base.manifest
    config = _published_name(folder)
    options = {key: base.options[key] for key in CARRIED if key in base.options}
    task = _task(adapter, match, head)
    if asked not in (None, task):
        able = _writes(match.loaded)
        if not (task in able and asked in able and asked in base.options.get("tasks", able)):
            raise BadInput(
                f"{adapter.name} does {task} on {base.ref}, not {asked}. Leave the task out",
                key="task",
                value=asked,
                base=base.ref,
                expected=task,
            )
        task = asked
    labels: tuple[str, ...] = ()
    if head is not None:
        labels = _labels(task, head.out.out_features, config, adapter.name)
        options |= {"multi_label": True} if config.get("problem_type") == MANY else {}
    said = {key: adapter.config.get(key) for key in SAID if adapter.config.get(key) is not None}
    evidence = {"evidence": {"quantized": {"dtype": base.dtype, "measured_on": 0}}} if base.dtype else {}
    return evidence | {
        "kind": Kind.MODEL,
        "task": task,
        "base": base.ref,
        "base_digest": base.base_digest,
        "method": tuner_for(adapter.config, adapter.name).method_of(adapter.config),
        "architecture": base.architecture,
        "labels": list(labels),
        "options": options,
        "lineage": {"adapter": said, "matched": match.how, "resident_bytes": match.resident_bytes},
    }


def _task(adapter: Foreign, match: Match, head: Head | None) -> str:
    base, asked = match.base.manifest, adapter.config.get("task_type")
    if head is not None and (named := task_of_peft(asked)) is not None:
        return named
    if asked == "FEATURE_EXTRACTION" or (asked is None and match.loaded.causal is None):
        return "embed"
    kind = "CAUSAL_LM" if match.loaded.reader is None else "SEQ_2_SEQ_LM"
    if asked in (None, kind) and match.loaded.causal is not None:
        return base.task if base.task in _writes(match.loaded) else "generate"
    raise BadInput(
        f"{adapter.name} is for {asked} on a {base.architecture}, which no task here does. There are SEQ_CLS, "
        "TOKEN_CLS and FEATURE_EXTRACTION, CAUSAL_LM on a decoder, and SEQ_2_SEQ_LM on an encoder with a decoder",
        task_type=asked,
        reason="no_task",
    )


def _writes(base: Loaded) -> tuple[str, ...]:
    """The possible tasks of a generative adapter on this base."""
    return open_ended_tasks() if base.reader is None else READING


def _labels(task: str, count: int, config: Mapping[str, Json], name: str) -> tuple[str, ...]:
    """The labels in the config beside the adapter; transformers' default names for a classifier without any."""
    named = config.get("id2label") or {}
    labels = tuple(str(named[key]) for key in sorted(named, key=int)) if all(map(str.isdecimal, named)) else ()
    if count < 2 or config.get("problem_type") == "regression":
        raise BadInput(
            f"{name} has a head of {count} output, a number and not labels. No task here does regression",
            reason="regression",
        )
    if labels and len(labels) != count:
        raise BadInput(
            f"{name} has a head of {count} outputs and its config.json names {len(labels)} labels",
            reason="labels",
            count=count,
        )
    if not labels and spec_of(task).family is Family.TAGS:
        raise BadInput(
            f"{name} tags with {count} labels and does not say which. Put the config.json of the trained model beside "
            "it: its id2label names them, like B-PER",
            reason="no_labels",
            lacks="id2label",
            count=count,
        )
    return labels or tuple(f"LABEL_{i}" for i in range(count))


def _published_name(folder: Path) -> dict[str, Json]:
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise BadInput(f"{path.name} is not valid JSON ({error}). Correct or remove it", file=path.name) from error
    return found if isinstance(found, dict) else {}


def _listing(bases: Iterable[str]) -> str:
    return ", ".join(bases)


def _of_base(adapter: Foreign) -> str:
    return f" (it names {adapter.base_name})" if adapter.base_name else ""
