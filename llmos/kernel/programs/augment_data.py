"""augment-data: makes a version of a dataset with changed copies of its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.augmentation import AUTO, Augmentation, Needs, check_augmentation, names_in, needs_of
from llmos.abi.device import LeaseKind
from llmos.abi.engine import engine_of
from llmos.abi.error import BadInput, BadSetting, WrongTask
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import Program, Spec
from llmos.abi.task import spec_of
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts, serving_footprint
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.traits import Traits
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

MODELS = ("base", "model")
WRITERS = ("writer", "there", "back")  # the models that say texts anew, as a child is given them


class AugmentData(DatasetProgram):
    """`base` proposes words, for the augmenters that need one; `model` says which copies keep their labels.

    `writer` paraphrases. Of the `translators` the first translates, to the language `via`, and the last back to
    `language`.
    """

    name = Program("augment-data")
    main = "llmos.programs.augment_data"
    operation = "augment"
    arguments: ClassVar[Arguments] = {
        **dict.fromkeys(("data", "name", "by", *MODELS, "writer", "via", "language"), Text),
        "translators": list[Text],
        "copies": int,
        "share": float,
        "strength": float,
        "only_labels": list[Text],
        "balance": bool,
        "seed": int,
    }
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        how = augmentation_in(spec)
        if not how:
            raise BadInput("Say how rows are changed: by, such as swap,delete; or balance", key="by")
        if AUTO in how.by:
            raise BadInput(
                "auto is for train, which measures what copies give. Name augmenters", key="by", value=spec.args["by"]
            )
        check_augmentation(how)
        dataset = facts.store.dataset(spec.args["data"])
        if not dataset.splits.get("train"):
            raise BadInput(f"{dataset.ref} has no train split, and only training rows are copied", split="train")
        spec = _with_models(spec, facts.store, dataset, how.only_labels)
        spec = _with_writers(spec, facts, how)
        return with_new_name(spec, f"{dataset.name}-augmented")

    def is_light(self, spec: Spec) -> bool:
        return not any(spec.args.get(key) for key in (*MODELS, *WRITERS))

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        if self.is_light(spec):
            return super().footprint(spec, model, facts)
        weights = int(spec.args.get("weights_bytes") or 0)
        needs = {LeaseKind.WORKSPACE: CHILD_BYTES + (weights and WITH_MODELS), LeaseKind.WEIGHTS: weights}
        if spec.args.get("engines"):
            needs[LeaseKind.KV] = facts.kv_bytes * len(spec.args["engines"])
        return needs

    def title(self, spec: Spec) -> str:
        return f"augment {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        named = {key: job.args[key] for key in (*MODELS, *WRITERS) if job.args.get(key)}
        models = {
            key: store.located(ref, form_dtype(store.resolve(ref).dtype if key in WRITERS else "", job.dtype))
            for key, ref in named.items()
        }
        settings = {"token_budget": config.token_budget, "kv_bytes": config.kv_bytes}
        args = job.args | settings | {"vllm_command": config.vllm_command}
        return replace(job, models=job.models | models, args=args)


def _with_writers(spec: Spec, facts: AdmissionFacts, how: Augmentation) -> Spec:
    """The spec with the models that say texts anew, their engines, and the bytes of their weights."""
    args, weights, engines = dict(spec.args), int(spec.args.get("weights_bytes") or 0), {}
    both = [str(one) for one in args.get("translators") or ()]
    for name, key, way_out in (
        (needs_of(how.by, (Needs.WRITER,)), "writer", "--writer smollm2 (llmos pull smollm2)"),
        (needs_of(how.by, (Needs.TRANSLATORS,)), "translators", "--translators THERE,BACK, or one for both"),
    ):
        if name and not args.get(key):
            raise BadInput(f"{name} needs {SAID[key]}: {way_out}", key=key, value=name)
        if args.get(key) and not name:
            raise BadInput(f"{key} is given, and none of the augmenters named needs it. Leave it out", key=key)
    if len(both) > 2:
        raise BadInput(f"translators has {len(both)} models; it takes one or two", key="translators", value=both)
    there, back = (both[0], both[-1]) if both else (None, None)
    for key, ref in (("writer", args.get("writer")), ("there", there), ("back", back)):
        if not ref:
            continue
        manifest = facts.store.resolve(str(ref))
        _refuse_silent(manifest, key)
        args[key], engines[key] = manifest.ref, engine_of(manifest, None, facts.engine)
        weights += serving_footprint(manifest)[LeaseKind.WEIGHTS]
    return replace(spec, args={**args, **({"engines": engines, "weights_bytes": weights} if engines else {})})


SAID = {
    "writer": "a model that answers any prompt, to say each row's text in other words",
    "translators": "models that translate",
}


def _refuse_silent(manifest: Manifest, key: str) -> None:
    """Raise for a model that does not write what it is asked for."""
    spec = spec_of(manifest.task)
    can = spec.is_generative if key != "writer" else spec.is_open_ended
    if not can:
        needed = "one that answers any prompt, for chat or generate," if key == "writer" else "one that translates"
        raise BadInput(
            f"{manifest.ref} does {manifest.task}, and {needed} is needed here. Name another: llmos ls",
            key="writer" if key == "writer" else "translators",
            value=manifest.ref,
        )


SHOWN = 10  # labels that an error names
WITH_MODELS = 256 * 1024 * 1024  # torch, and the activations of a pass


def augmentation_in(spec: Spec) -> Augmentation:
    """What the arguments ask for."""
    args = spec.args
    given = {key: args[key] for key in ("copies", "share", "strength", "balance", "seed") if args.get(key) is not None}
    return Augmentation(by=names_in(args.get("by")), only_labels=tuple(args.get("only_labels") or ()), **given)


def _with_models(spec: Spec, store: Store, dataset: DatasetManifest, only_labels: Sequence[str]) -> Spec:
    """The spec with its models pinned to versions, and the bytes of their weights."""
    args, weights = dict(spec.args), 0
    for key in MODELS:
        if args.get(key):
            manifest = store.resolve(str(args[key]))
            args[key] = manifest.ref
            weights += serving_footprint(manifest)[LeaseKind.WEIGHTS]
            if key == "base" and manifest.kind is not Kind.BASE:
                raise BadInput(f"{manifest.ref} is no base. Name the base it stands on: {manifest.base}", key=key)
            if key == "model" and manifest.kind is Kind.BASE:
                raise BadSetting(
                    f"{manifest.ref} is a base, which gives no labels. Name a model", key=key, value=manifest.ref
                )
            if key == "model":
                refuse_others(manifest, dataset, only_labels)
    if not args.get("base") and (lacking := needs_of(augmentation_in(spec).by, (Needs.BASE, Needs.MASKED))):
        raise BadInput(f"{lacking} needs a base. Name one: --base minilm", key="base", value=lacking)
    return replace(spec, args={**args, **({"weights_bytes": weights} if weights else {})})


def refuse_others(model: Manifest, dataset: DatasetManifest, only_labels: Sequence[str] = ()) -> None:
    """Raise unless the model does the dataset's task and knows the labels of the training rows that are copied."""
    if model.task != dataset.task:
        raise WrongTask(
            f"{model.ref} does {model.task}, and {dataset.ref} has rows for {dataset.task}. Name a model of theirs",
            model=model.ref,
            task=dataset.task,
            has=model.task,
        )
    labels = set(only_labels) or set(dataset.label_counts.get("train") or dataset.labels)
    known = {*model.labels, *(label[2:] for label in model.labels if label.startswith(("B-", "I-")))}  # tags by kind
    unknown = sorted(labels - known)
    if model.labels and unknown:
        more = f", and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise BadInput(
            f"{model.ref} does not know these labels of {dataset.ref}: {', '.join(unknown[:SHOWN])}{more}. It knows: "
            f"{', '.join(model.labels[:SHOWN])}. Name a model that was trained on them",
            key="model",
            value=model.ref,
            expected=unknown,
        )


PROGRAM = AugmentData()
