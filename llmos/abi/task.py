"""What a task declares about itself, and the registry of tasks: the built-in ones and those of installed packages.

Other packages ask a task's declaration for what they need (its family, whether it can be trained ...) and compare no
task names, so that a task is added without a change to them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

GROUP = "llmos.tasks"  # the entry points of packages with tasks: name = "module:object"
BUILT_IN = ("classify", "tag", "embed", "answer", "rerank", "similarity", "generate", "chat", "summarize", "translate")
COMMON_OPTIONS = frozenset({"pooling", "max_tokens", "truncate", "skip_empty"})  # recipe options of any task
BATCH_SIZE = 16  # examples per optimizer step, by default
log = logging.getLogger(__name__)


class Family(StrEnum):
    """What a task predicts. A family shares rows, targets, objectives and metrics."""

    LABELS = "labels"  # one label of a text, or several
    TAGS = "tags"  # a label for every word
    SPANS = "spans"  # the place of an answer in a passage
    PAIRS = "pairs"  # a score for two texts
    VECTORS = "vectors"  # a vector; it is not trained
    TEXT = "text"  # a new text, generated token by token


class Output(StrEnum):
    """The form of one output on the wire, which decides how the Python client and the command line show it."""

    LABEL = "label"
    SPANS = "spans"
    ANSWER = "answer"
    VECTOR = "vector"
    SCORE = "score"
    RANKING = "ranking"
    TEXT = "text"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class TaskSetting:
    """A recipe setting that a task adds: an option, or a field of the recipe that only some tasks may set.

    With `help`, `llmos train` has a flag for it. With `neutral`, tasks that do not declare it refuse other values.
    """

    name: str
    kind: type = str
    help: str = ""
    neutral: Json = None
    is_option: bool = True
    choices: tuple[str, ...] = ()  # none: any value of its kind


OBJECTIVE = TaskSetting("objective", str, "Learn from preferences: dpo, orpo or kto (default: the answers themselves).")
# how preference rows are read; off: their better answer alone
PREFERENCES = TaskSetting("preferences", neutral="off", choices=("auto", "paired", "unpaired", "off"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """The declaration of a task.

    `metric` ("module:function") is a pure function of rows, predictions and settings: one number, the `primary_metric`,
    or several by name, which are added to the family's. `params` None: any param is allowed. `settings` are what it
    adds to recipes.
    """

    name: str
    family: Family
    output: Output
    primary_metric: str  # decides the best epoch and promotion: accuracy, f1 ...
    about: str  # one sentence, for documents and help
    head: str | None  # what a trained model computes: "sequence" or "token" logits, "pooled" vectors, None: next token
    metric: str | None = None
    params: frozenset[str] | None = None
    defaults: Mapping[str, Json] = field(default_factory=dict)  # default params of a call
    settings: tuple[TaskSetting, ...] = ()
    batch_size: int = BATCH_SIZE  # examples per optimizer step, by default
    is_trainable: bool = True
    is_one_sequence: bool = False  # a training row is one sequence, within the model's limit
    is_open_ended: bool = False  # input is a whole prompt: its models do all tasks of the family, on any engine
    uses_template: bool = False  # rendered through the chat template, if the model has one
    also_does: tuple[str, ...] = ()  # other tasks that a model of this one does as it is
    peft_type: str = ""  # imported adapters' `task_type` in adapter_config.json
    architecture: str = ""  # the end of the class name in imported models' `architectures`
    result: str = ""  # its class of outputs in the Python client; empty: that of `output`
    texts: str = ""  # the texts that `llmos run` takes, in order, if an input has several
    example_input: Json = None
    example_output: Json = None

    @property
    def is_generative(self) -> bool:
        """Whether it generates text: it streams, has sampling params and needs a generative base."""
        return self.family is Family.TEXT

    @property
    def has_labels(self) -> bool:
        """Whether its models choose among the labels of their training rows."""
        return self.family in (Family.LABELS, Family.TAGS)

    @property
    def gives_vectors(self) -> bool:
        """Whether its output is a vector, which travels as bytes."""
        return self.output is Output.VECTOR

    @property
    def is_conversation(self) -> bool:
        """Whether it answers messages with a message, which needs a chat template."""
        return self.output is Output.MESSAGE

    @property
    def options(self) -> frozenset[str]:
        """The recipe options that it adds."""
        return frozenset(one.name for one in self.settings if one.is_option)


@cache
def task_names() -> tuple[str, ...]:
    """Every task: the built-in ones, then those of installed packages by name."""
    return (*BUILT_IN, *_external())


@cache
def load_task(name: str) -> Any:  # a Task of llmos.tasks, which this package does not know
    """The object that implements this task; BadInput that lists all tasks if there is none."""
    if name in BUILT_IN:
        return import_module(f"llmos.tasks.{name}").TASK
    if name not in _external():
        raise BadInput(
            f"No task {name!r}. There are: {', '.join(task_names())}", task=name, expected=list(task_names())
        )
    return _external()[name]


def spec_of(name: str) -> TaskSpec:
    """The declaration of this task; BadInput that lists all tasks if there is none."""
    spec: TaskSpec = load_task(name).spec
    return spec


def find_spec(name: str) -> TaskSpec | None:
    """The declaration of this task; None if it is not installed, for example because its package was removed."""
    return spec_of(name) if name in BUILT_IN or name in _external() else None


@cache
def all_specs() -> tuple[TaskSpec, ...]:
    """The declarations of all tasks."""
    return tuple(map(spec_of, task_names()))


def trainable_tasks() -> tuple[str, ...]:
    """The tasks that recipes can be made for."""
    return tuple(one.name for one in all_specs() if one.is_trainable)


def tasks_in(*families: Family) -> tuple[str, ...]:
    """The tasks of these families."""
    return tuple(one.name for one in all_specs() if one.family in families)


def generative_tasks() -> tuple[str, ...]:
    """The tasks that generate text."""
    return tasks_in(Family.TEXT)


def open_ended_tasks() -> tuple[str, ...]:
    """The tasks whose input is a whole prompt, conversations first."""
    ordered = sorted(all_specs(), key=lambda one: not one.is_conversation)
    return tuple(one.name for one in ordered if one.is_open_ended)


def vector_tasks() -> tuple[str, ...]:
    """The tasks of an embedding base without training."""
    embedding = [one for one in all_specs() if one.gives_vectors]
    return tuple(dict.fromkeys(name for one in embedding for name in (one.name, *one.also_does)))


def also_done(name: str) -> tuple[str, ...]:
    """The other tasks that a model of this one does as it is."""
    spec = find_spec(name)
    if spec is None or not spec.is_open_ended:
        return () if spec is None else spec.also_does
    return tuple(other for other in tasks_in(spec.family) if other != name)


def is_encoder_decoder(tasks: Iterable[str]) -> bool:
    """Whether a base of these tasks is an encoder-decoder: only those name tasks that work by instruction."""
    found = (find_spec(name) for name in tasks)
    return any(spec is not None and spec.is_generative and not spec.is_open_ended for spec in found)


def task_of_peft(peft_type: str | None) -> str | None:
    """The task of adapters whose adapter_config.json has this `task_type`; None if it needs no head."""
    return next((one.name for one in all_specs() if one.peft_type and one.peft_type == peft_type), None)


def task_of_architecture(architecture: str) -> str | None:
    """The task of models of this transformers class, such as BertForTokenClassification; None if no name ends it."""
    found = (one for one in all_specs() if one.architecture and architecture.endswith(one.architecture))
    return next((one.name for one in found), None)


def is_generative(name: str) -> bool:
    """Whether this task generates text; false for one that is not installed."""
    spec = find_spec(name)
    return spec is not None and spec.is_generative


def recipe_options() -> frozenset[str]:
    """The options that a recipe may have, for any task."""
    return COMMON_OPTIONS.union(*(one.options for one in all_specs()))


@cache
def _external() -> dict[str, Any]:  # Tasks of llmos.tasks
    """The tasks of installed packages; an unusable one is logged and left out."""
    from importlib.metadata import entry_points  # imported late: 40 ms, which `llmos status` does not need

    found: dict[str, Any] = {}  # as above
    for entry in sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        try:
            if entry.name in BUILT_IN or entry.name in found:
                raise BadInput("there is a task of this name already")
            found[entry.name] = _check_plugin(entry.name, entry.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001  # foreign code: whatever is wrong with it, the others work
            log.error(
                "The task %r (%s) is not available: %s: %s. Correct or uninstall its package",
                entry.name,
                entry.value,
                type(error).__name__,
                error,
            )
    return found


def _check_plugin(name: str, task: Any) -> Any:  # anything an entry point names
    """The task, if its declaration and methods are complete."""
    spec = getattr(task, "spec", None)
    if not isinstance(spec, TaskSpec) or spec.name != name:
        raise BadInput(f"its `spec` must be a TaskSpec named {name!r}")
    methods = ("check", "render", "parse", *(("teach",) if spec.is_generative and spec.is_trainable else ()))
    if missing := [one for one in methods if not callable(getattr(task, one, None))]:
        raise BadInput(f"it has no {' and no '.join(missing)}")
    return task
