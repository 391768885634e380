"""Training while people label: when a model's next version is due, and the training that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmos.abi.error import BadInput, NotFound
from llmos.abi.json_type import Json
from llmos.abi.labelling import LabelledModel, LabellingState, LabelTraining, labels_to_learn, next_training_at
from llmos.abi.model import DatasetManifest, Kind, Manifest, split_dataset_ref
from llmos.abi.process import Priority, Process, Spec, State
from llmos.abi.recipe import UNLABELLED, recipe_of, starter
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.kernel.programs.train import PROGRAM as TRAIN

if TYPE_CHECKING:
    from llmos.kernel.store.store import Store

BY_USER = "by the user"  # in the reason of a process that somebody has stopped: it is not continued unasked


def newest_version(store: Store, name: str, task: str) -> Manifest | None:
    """The newest version of this model for the task, in float."""
    found = [
        one
        for one in store.manifests()
        if one.name == name and one.kind is Kind.MODEL and one.task == task and not one.dtype
    ]
    return max(found, key=lambda one: one.version, default=None)


def training_spec(args: dict[str, Json], dataset: DatasetManifest, store: Store, device: str) -> Spec:
    """The training of `args["model"]` on a dataset's labelled rows, with the `settings` of its recipe that are given.

    The base is the one named, else that of the newest version, else the default one.
    """
    name, settings = str(args["model"]), dict(args.get("settings") or {})
    newest = newest_version(store, name, dataset.task)
    base = args.get("base") or (newest.base if newest is not None else None) or starter(dataset.task)
    recipe: dict[str, Json] = {
        "learning_curve": False,  # the queue says what more labels should bring
        **settings,
        "task": dataset.task,
        "name": name,
        "base": str(base),
        "data": {**(settings.get("data") or {}), "train": dataset.ref},
        "labelling": dataset.name,
    }
    recipe_of(recipe)
    return Spec(TRAIN.name, recipe, priority=Priority.BACKGROUND, device=device)


def check_retraining(spec: Spec, facts: AdmissionFacts) -> None:
    """Raise what the training would be refused for, before anybody labels for it."""
    every = spec.args.get("retrain")
    if every is not None and int(every) < 0:
        raise BadInput(
            f"retrain is {every}; it must be a number of labels, or 0 for no training", key="retrain", value=every
        )
    if not spec.args.get("model"):
        for key in ("retrain", "settings"):
            if spec.args.get(key):
                raise BadInput(f"{key} is for a training, and no model is named", key=key, expected="model")
        return
    dataset = facts.store.dataset(spec.args["data"])
    check_apart(str(spec.args["model"]), dataset)
    training = training_spec(spec.args, dataset, facts.store, spec.device)
    base = facts.store.resolve(training.args["base"])
    if base.kind is not Kind.BASE:
        raise BadInput(
            f"{base.ref} is a fine-tuned model. Name the base it stands on instead: {base.base}",
            key="base",
            model=base.ref,
            base=base.base,
        )
    TRAIN.check(training, base, facts)


def check_apart(name: str, dataset: DatasetManifest) -> None:
    """BadInput for a model of the dataset's own name: a training keeps its rows as versions of the model's name, and
    the next answers would go to these."""
    if name == dataset.name:
        raise BadInput(
            f"{name} is the name of the dataset, and a training keeps its rows as a dataset of the model's name. Name "
            f"the model otherwise, such as {name}-model",
            key="model",
            value=name,
        )


def trainings_of(name: str, dataset: str, processes: Iterable[Process]) -> list[Process]:
    """The trainings of this model on versions of this dataset, the newest last."""
    return sorted(
        (one for one in processes if one.spec.program == TRAIN.name and _trains(one.spec.args, name, dataset)),
        key=lambda one: one.pid,
    )


def follow_up(ended: Process, store: Store, processes: Sequence[Process]) -> Spec | int | None:
    """The training that is due after answers were put into a dataset; an interrupted one goes on instead."""
    args = ended.spec.args
    name, every = args.get("model"), args.get("retrain")
    if not name or every == 0:
        return None
    dataset = store.dataset(str(ended.made[-1] if ended.made else args["data"]))
    left = [one for one in trainings_of(str(name), dataset.name, processes) if one.state is not State.EXITED]
    if left:
        return interrupted_training(left)
    if labels_to_learn(dataset.splits) < next_training_at(
        _labels_learned(str(name), dataset.name, store, processes), every
    ):
        return None
    return training_spec(args, dataset, store, ended.spec.device)


def interrupted_training(trainings: Iterable[Process]) -> int | None:
    """The pid of a training that something other than its user has interrupted."""
    return next((one.pid for one in trainings if one.state is State.INTERRUPTED and BY_USER not in one.reason), None)


def labelling_state(
    dataset: DatasetManifest, name: str | None, every: int | None, store: Store, processes: Sequence[Process]
) -> LabellingState:
    """How many rows of a dataset have labels, and how the training of the model stands."""
    labelled = labels_to_learn(dataset.splits)
    state = LabellingState(dataset.ref, labelled, dataset.splits.get(UNLABELLED, 0))
    if not name:
        return state
    newest, trainings = newest_version(store, name, dataset.task), trainings_of(name, dataset.name, processes)
    due = None
    if every != 0:
        due = next_training_at(_labels_learned(name, dataset.name, store, processes), every)
    return LabellingState(
        state.dataset,
        state.labelled,
        state.unlabelled,
        None if newest is None else _model(newest, store),
        _training(trainings[-1], store) if trainings else None,
        due,
    )


def _trains(args: dict[str, Json], name: str, dataset: str) -> bool:
    source = _source(args)
    return args.get("name") == name and "@" in source and split_dataset_ref(source)[0] == dataset


def _source(recipe: Json) -> str:
    """What a recipe's rows come from."""
    data = (recipe or {}).get("data")
    return str(data.get("train", "")) if isinstance(data, dict) else str(data or "")


def _labels_learned(name: str, dataset: str, store: Store, processes: Sequence[Process]) -> int:
    """The labels of the last training of this model on this dataset, whatever came of it; 0 before the first."""
    sources = [_source(one.lineage.get("recipe")) for one in store.manifests() if one.name == name]
    sources += [_source(one.spec.args) for one in trainings_of(name, dataset, processes)]
    return max((_count(one, store) for one in sources if one.partition("@")[0] == dataset), default=0)


def _count(source: str, store: Store) -> int:
    try:
        return labels_to_learn(store.dataset(source).splits)
    except (NotFound, BadInput):  # removed since, or a file
        return 0


def _model(newest: Manifest, store: Store) -> LabelledModel:
    metrics, intervals = newest.evidence.get("metrics") or {}, newest.evidence.get("intervals") or {}
    metric = next(iter(metrics), "")
    ends = intervals.get(metric) or {}
    return LabelledModel(
        newest.ref,
        _count(_source(newest.lineage.get("recipe")), store),
        metric,
        metrics.get(metric),
        ends.get("low"),
        ends.get("high"),
        store.promoted(newest.name) == newest.version,
    )


def _training(process: Process, store: Store) -> LabelTraining:
    progress = process.progress
    share = min(1.0, progress.done / progress.total) if progress is not None and progress.total else 0.0
    is_training = progress is not None and progress.phase == "train"
    reason = process.fault.message if process.fault is not None else process.reason
    return LabelTraining(
        process.pid,
        str(process.state),
        _count(_source(process.spec.args), store),
        share if is_training else 0.0,
        reason,
    )
