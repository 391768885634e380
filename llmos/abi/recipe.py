"""The recipe: all settings of a training run, and checks of their values.

None means that a default is chosen by task and data, and recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches

from llmos.abi.augmentation import Augmentation, check_augmentation, names_in
from llmos.abi.auto_method import AUTO
from llmos.abi.distillation import TEACHER_TEMPERATURE, TEACHER_WEIGHT, Distillation
from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json
from llmos.abi.method import MethodSpec, method_names, method_of, method_specs
from llmos.abi.objective import needs_reference, objective_in, takes_preferences
from llmos.abi.recipe_checks import bad, check_learning
from llmos.abi.task import (
    BATCH_SIZE,
    all_specs,
    find_spec,
    is_generative,
    recipe_options,
    spec_of,
    trainable_tasks,
)
from llmos.abi.tracking import track_of
from llmos.abi.wire import from_plain, to_json, to_plain

STARTERS = {False: "minilm", True: "smollm2"}  # the default base, for single-pass and for generative tasks
TOKEN_BUDGET = 4096
TOKEN_BUDGET_WRITING = 1024  # decoders are large: more tokens take gigabytes of activations and save no time
LEAST_SHARE = 4  # examples: each further worker costs memory for two sets of gradients
MOST_SHARES = 16
ON_BAD_ROW = ("stop", "skip")
UNLABELLED = "unlabelled"  # rows that nobody has labelled yet: a part of `data`, and a split of a dataset
ROW_FILES = ("train", "validation", "test", UNLABELLED)  # the parts of `data` that name files or datasets
SCHEDULES = ("linear", "cosine")
MOST_MULTIPLIER = 100.0
CLASS_WEIGHTS = ("none", "balanced")
DTYPES = ("float32", "bfloat16")
BASE_DTYPES = ("float32", "bfloat16", "int8", "int4")
SERVE_DTYPES = ("float", "int8")
POOLINGS = ("mean", "cls", "last", "max")


# marks fields that later versions added: at their default they do not change a recipe's identity
LATER = {"later": True}


@dataclass(frozen=True, slots=True)
class Data:
    """The source of the rows: absolute paths or dataset refs (`name@version`), and how to read them.

    Columns are names, or numbers from 0 where there is no header. A path may name a part behind a colon: a sheet of an
    Excel file, a table of a database, a split of a folder, a file in a zip.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    format: str | None = None
    text: str | None = None
    label: str | None = None
    has_header: bool | None = None
    validation_share: float = 0.1
    test_share: float = 0.1
    on_bad_row: str = field(default="stop", metadata=LATER)  # or skip: bad rows are left out, and counted
    encoding: str | None = field(default=None, metadata=LATER)  # of text; None: told from its bytes
    query: str | None = field(default=None, metadata=LATER)  # a SELECT, of a database
    class_names: str | None = field(default=None, metadata=LATER)  # what labels 0, 1, 2 ... stand for, by commas
    unlabelled: str | None = field(default=None, metadata=LATER)  # rows without labels, for a dataset


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA's own settings (Hu et al.

    2021, arXiv:2106.09685); `targets` are endings of module names, None: all linear.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run. `batch_size` counts examples per optimizer step, `token_budget` tokens per forward pass."""

    task: str
    name: str
    base: str
    data: Data
    method: str = AUTO  # a name of llmos/abi/methods; auto: by llmos/abi/auto_method.py, once the rows are read
    lora: Lora = Lora()
    options: dict[str, Json] = field(
        default_factory=dict
    )  # the task's own: multi_label, max_tokens, pooling, threshold ...
    epochs: float | None = None
    learning_rate: float | None = None
    head_rate_ratio: float | None = None  # the head's learning rate relative to the encoder's
    batch_size: int | None = None
    token_budget: int | None = None
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    schedule: str = "linear"  # linear or cosine
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none or balanced
    patience: int | None = None  # early stopping: epochs without a better validation metric; None: run all
    seed: int = 7
    dtype: str | None = None  # None: the device's fastest
    checkpoint_every_s: float = 30.0
    min_metric: float | None = None
    save_best: bool = True  # keep the epoch with the best validation metric instead of the last
    serve_dtype: str | None = None  # int8: also make a version in int8; None: the base's serving dtype
    max_drop: float = 0.01  # the largest loss of the primary metric by int8
    augment: str | None = field(default=None, metadata=LATER)  # augmenters by commas; auto: one that helps, or none
    augment_copies: int = field(default=1, metadata=LATER)  # changed copies of a training row
    augment_share: float = field(default=1.0, metadata=LATER)  # of the training rows, those that are copied
    augment_strength: float = field(default=0.1, metadata=LATER)  # of a text's words, those that a copy changes
    balance: bool = field(default=False, metadata=LATER)  # as many rows of every label, by copies
    learning_curve: bool = field(
        default=True, metadata=LATER
    )  # what fewer rows give, and training rows near to errors: seconds, by the base's frozen vectors
    self_training_rounds: int = field(default=1, metadata=LATER)  # with rows without labels and no teacher
    base_dtype: str | None = field(default=None, metadata=LATER)  # of a frozen base's linear layers, in training
    method_why: str = field(default="", metadata=LATER)  # why auto chose the method; empty: it was named
    contrastive: bool | None = field(default=None, metadata=LATER)  # texts by pairs, then a head; None: with few rows
    learn_validation: bool | None = field(default=None, metadata=LATER)  # None: where few rows would be left for it
    method_settings: dict[str, Json] = field(default_factory=dict, metadata=LATER)  # the method's own: rank, alpha ...
    teacher: str | None = field(default=None, metadata=LATER)  # a model of the store or of an endpoint, to be distilled
    teacher_weight: float = field(default=TEACHER_WEIGHT, metadata=LATER)  # in the loss of a row with a label
    teacher_temperature: float = field(default=TEACHER_TEMPERATURE, metadata=LATER)  # over 1: softer targets
    soft_labels: bool = field(default=True, metadata=LATER)  # learn the probabilities of labels that rules gave
    track: str | None = field(default=None, metadata=LATER)  # where curves go too: abi/tracking.py
    objective_settings: dict[str, Json] = field(default_factory=dict, metadata=LATER)  # the objective's own: beta ...
    consistency: float = field(default=0.0, metadata=LATER)  # R-Drop: the weight of two passes' agreement
    rate_multiplier: float = field(default=1.0, metadata=LATER)  # of the learning rate that is chosen by default
    views: float = field(default=0.0, metadata=LATER)  # of unlabelled rows, in a step for each learned: views.py
    labelling: str = field(default="", metadata=LATER)  # the dataset that people labelled when the daemon started it


def identity_of(recipe: Recipe) -> bytes:
    """The recipe's identity as bytes.

    Later fields count only if they are not at their defaults, so that earlier checkpoints still match their recipe.
    """
    plain = to_plain(recipe)
    for kind, part in ((Recipe, plain), (Data, plain["data"]), (Lora, plain["lora"])):
        for one in fields(kind):
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if one.metadata.get("later") and part[one.name] == default:
                del part[one.name]
    return to_json(plain)


def needs_frozen_base(recipe: Recipe) -> bool:
    """Whether what the recipe asks for can only be had with a method that keeps the base as it is."""
    return recipe.base_dtype is not None or needs_reference(recipe.options)


def settings_of_method(recipe: Recipe) -> dict[str, Json]:
    """Every setting of the recipe's method, as given or by default; BadSetting for one that it does not have.

    LoRA's may also stand in the recipe's field `lora`.
    """
    spec = method_of(recipe.method)
    held = to_plain(getattr(recipe, spec.field)) if spec.field else {}
    return spec.values(held | recipe.method_settings)


def augmentation_of(recipe: Recipe) -> Augmentation:
    """The copies of training rows that a recipe asks for; false if none."""
    return Augmentation(
        by=names_in(recipe.augment),
        copies=recipe.augment_copies,
        share=recipe.augment_share,
        strength=recipe.augment_strength,
        balance=recipe.balance,
        seed=recipe.seed,
    )


def distillation_of(recipe: Recipe) -> Distillation:
    """How this recipe distils its teacher."""
    return Distillation(recipe.teacher or "", recipe.teacher_weight, recipe.teacher_temperature)


def starter(task: str) -> str:
    """The default base of a task, from the catalog."""
    return STARTERS[is_generative(task)]


def batch_size_of(recipe: Recipe) -> int:
    """Examples of an optimizer step."""
    spec = find_spec(recipe.task)
    return recipe.batch_size or (BATCH_SIZE if spec is None else spec.batch_size)


def token_budget_of(recipe: Recipe) -> int:
    """The most tokens of a forward pass; only a single longer example may exceed it."""
    return recipe.token_budget or (TOKEN_BUDGET_WRITING if is_generative(recipe.task) else TOKEN_BUDGET)


def shares_of(threads: int, batch_size: int, device: str) -> int:
    """The number of gradient workers: one per core, unless their shares get too small; one on a GPU."""
    return max(1, min(threads, batch_size // LEAST_SHARE, MOST_SHARES)) if device.startswith("cpu") else 1


def recipe_of(args: Mapping[str, Json]) -> Recipe:
    """The recipe in these arguments; BadSetting for an unknown setting."""
    parts: tuple[tuple[type, str, Json], ...] = (
        (Recipe, "", args),
        (Data, "data.", args.get("data")),
        (Lora, "lora.", args.get("lora")),
    )
    for kind, prefix, given in parts:
        known = [one.name for one in fields(kind)]
        for key in given if isinstance(given, Mapping) else ():
            if key not in known:
                near = ", ".join(prefix + name for name in get_close_matches(str(key), known)) or "none"
                raise BadSetting(
                    f"A recipe has no setting {prefix}{key} (near: {near}). There are: "
                    f"{', '.join(prefix + name for name in known)}",
                    key=f"{prefix}{key}",
                    value=given[key],
                    expected=known,
                )
    return from_plain(args, Recipe)


def check(recipe: Recipe) -> None:
    """Raise BadSetting for the first invalid value, before any device is requested."""
    for key, value, allowed in (
        ("task", recipe.task, trainable_tasks()),
        ("method", recipe.method, (AUTO, *method_names())),
        ("schedule", recipe.schedule, SCHEDULES),
        ("class_weights", recipe.class_weights, CLASS_WEIGHTS),
        ("dtype", recipe.dtype or DTYPES[0], DTYPES),
        ("serve_dtype", recipe.serve_dtype or SERVE_DTYPES[0], SERVE_DTYPES),
        ("pooling", recipe.options.get("pooling", POOLINGS[0]), POOLINGS),
        ("base_dtype", recipe.base_dtype or BASE_DTYPES[0], BASE_DTYPES),
        ("data.on_bad_row", recipe.data.on_bad_row, ON_BAD_ROW),
    ):
        if value not in allowed:
            raise bad(key, value, f"one of {', '.join(allowed)}")
    for key, number, least, most in (
        ("epochs", recipe.epochs, 0.0, 1000.0),
        ("learning_rate", recipe.learning_rate, 0.0, 1.0),
        ("head_rate_ratio", recipe.head_rate_ratio, 0.0, 1000.0),
        ("batch_size", recipe.batch_size, 0, 65536),
        ("token_budget", recipe.token_budget, 0, 1 << 24),
        ("clip_norm", recipe.clip_norm, 0.0, math.inf),
        ("patience", recipe.patience, 0, 1000),
        ("checkpoint_every_s", recipe.checkpoint_every_s, 0.0, math.inf),
        ("lora.rank", recipe.lora.rank, 0, 1024),
        ("lora.alpha", recipe.lora.alpha, 0, 65536),
    ):
        if number is not None and not least < number <= most:
            raise bad(key, number, f"over {least:g} and at most {most:g}")
    for key, share in (
        ("weight_decay", recipe.weight_decay),
        ("warmup_share", recipe.warmup_share),
        ("label_smoothing", recipe.label_smoothing),
        ("lora.dropout", recipe.lora.dropout),
        ("min_metric", recipe.min_metric or 0.0),
        ("max_drop", recipe.max_drop),
    ):
        if not 0 <= share <= 1:
            raise bad(key, share, "from 0 to 1")
    check_augmentation(augmentation_of(recipe), "augment_")
    if recipe.track is not None:
        track_of(recipe.track)
    options = recipe_options()
    if unknown := sorted(set(recipe.options) - options):
        raise bad("options", unknown[0], f"one of {', '.join(sorted(options))}")
    check_learning(recipe)
    if not 0 < recipe.rate_multiplier <= MOST_MULTIPLIER:
        raise bad("rate_multiplier", recipe.rate_multiplier, f"over 0, at most {MOST_MULTIPLIER:g}")
    _check_task_settings(recipe)
    _check_method(recipe)
    _check_objective(recipe)
    if recipe.class_weights == "balanced" and recipe.options.get("multi_label"):
        raise bad("class_weights", "balanced", "none where a text may have many labels")


def _check_method(recipe: Recipe) -> None:
    """Check the method's settings, and that the task has something for it to train."""
    if recipe.base_dtype and needs_reference(recipe.options):
        raise bad("base_dtype", recipe.base_dtype, "left out: the objective compares with the base as it is")
    if recipe.method == AUTO:
        _check_open_method(recipe)
        return
    spec: MethodSpec = method_of(recipe.method)
    if recipe.base_dtype and not spec.keeps_base:
        raise bad("base_dtype", recipe.base_dtype, f"left out: {spec.name} trains the base's own weights")
    settings_of_method(recipe)
    if not spec.field and recipe.lora != Lora():
        changed = next(one.name for one in fields(Lora) if getattr(recipe.lora, one.name) != one.default)
        raise BadSetting(
            f"lora_{changed} is a setting of lora, and the method is {spec.name}. Its own are given by their names: "
            f"{', '.join(one.name for one in spec.settings) or 'it has none'}",
            key=f"lora.{changed}",
            value=getattr(recipe.lora, changed),
            expected=[one.name for one in spec.settings],
        )
    if not spec.trains_layers and spec_of(recipe.task).head not in ("sequence", "token"):
        raise bad("method", spec.name, f"another for {recipe.task}, which has no head to train")


def _check_open_method(recipe: Recipe) -> None:
    """Check that no setting of a method is given where the rule is to choose the method."""
    given: dict[str, Json] = dict(recipe.method_settings)
    given |= {
        one.name: getattr(recipe.lora, one.name)
        for one in fields(Lora)
        if getattr(recipe.lora, one.name) != one.default
    }
    for key, value in given.items():
        able = [spec.name for spec in method_specs().values() if key in {one.name for one in spec.settings}]
        raise BadSetting(
            f"{key} is a setting of a method, and the method is {AUTO}. Name the method too; those that have {key}: "
            f"{', '.join(able) or 'none'}",
            key=key,
            value=value,
            expected=able,
        )


def _check_objective(recipe: Recipe) -> None:
    """Check the objective on preferences and its settings, and that there is a frozen base where it needs one."""
    spec = objective_in(recipe.options)
    if spec is None:
        if recipe.objective_settings:
            key, value = next(iter(recipe.objective_settings.items()))
            raise bad(key, value, "left out, or given with an objective that has it, such as dpo")
        return
    if not takes_preferences(recipe.task):
        able = ", ".join(task for task in trainable_tasks() if takes_preferences(task))
        raise bad("objective", spec.name, f"left out for {recipe.task}. Tasks that learn from preferences: {able}")
    spec.values(recipe.objective_settings)
    if spec.needs_reference and recipe.method != AUTO and not method_of(recipe.method).keeps_base:
        raise bad("method", recipe.method, f"one that keeps the base, such as lora: {spec.name} compares with it")


def _check_task_settings(recipe: Recipe) -> None:
    """Check that settings for tasks with labels are neutral in other tasks, and that numbers are in range."""
    own = {one.name for one in spec_of(recipe.task).settings}
    for one in {one.name: one for spec in all_specs() for one in spec.settings if one.neutral is not None}.values():
        value = recipe.options.get(one.name, one.neutral) if one.is_option else getattr(recipe, one.name)
        if one.name not in own and value != one.neutral:
            raise bad(one.name, value, f"{one.neutral} for {recipe.task}, which does not have this setting")
        if one.choices and value not in one.choices:
            raise bad(one.name, value, f"one of {', '.join(one.choices)}")
    for key in ("stride", "max_answer_tokens", "answered_rows"):
        number = recipe.options.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int) or number < (key != "stride"):
            raise bad(key, number, f"a whole number of {'rows' if key == 'answered_rows' else 'tokens'}")
    for key in ("abstain", "precision"):
        share = recipe.options.get(key, 0.0)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise bad(key, share, "over 0 and under 1, or 0 for none")
    if recipe.options.get("abstain") and recipe.options.get("precision"):
        raise bad("precision", recipe.options["precision"], "0 where abstain is set: each decides what is withheld")
    scale = recipe.options.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise bad("scale", scale, "over 0: the number in the data that means the best")
