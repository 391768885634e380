"""The arguments of adapt: a base that reads more of a user's own texts, the objective, and how it learns.

None means that a default is chosen by objective and data, and recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json
from llmos.abi.recipe import ON_BAD_ROW, Data, Recipe
from llmos.abi.wire import from_plain

LEAST_WINDOW, MOST_WINDOW = 8, 1 << 20
MOST_LENGTHS = 16
MOST_EPOCHS = 20
HEAD_RATE = 1e-3  # of a masked language modelling head, which starts anew
WARMUP_SHARE = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationObjective:
    """What is learned of texts without labels, and the defaults for it. Its code is in training/adaptation."""

    name: str
    about: str
    is_generative: bool  # of bases that write; else of those that embed
    guesses_tokens: bool  # so that its loss is over the vocabulary
    epochs: float
    least_steps: int  # which few texts are read more often for
    learning_rate: float
    batch_size: int
    token_budget: int
    source: str  # the paper


MASKED = AdaptationObjective(
    name="masked",
    about="Tokens that were hidden are guessed from those around them",
    is_generative=False,
    guesses_tokens=True,
    epochs=5.0,
    least_steps=400,
    learning_rate=1e-4,
    batch_size=64,
    token_budget=4096,
    source="Devlin et al. 2019, arXiv:1810.04805",
)
CAUSAL = AdaptationObjective(
    name="causal",
    about="Each token is guessed from those before it",
    is_generative=True,
    guesses_tokens=True,
    epochs=2.0,
    least_steps=60,
    learning_rate=5e-5,
    batch_size=16,
    token_budget=1024,
    source="Gururangan et al. 2020, arXiv:2004.10964",
)
CONTRASTIVE = AdaptationObjective(
    name="contrastive",
    about="Two views of a text, or the two texts of a pair, get vectors that are nearer than those of other texts",
    is_generative=False,
    guesses_tokens=False,
    epochs=1.0,
    least_steps=100,
    learning_rate=3e-5,
    batch_size=64,
    token_budget=8192,
    source="Gao et al. 2021, arXiv:2104.08821",
)
OBJECTIVES = {one.name: one for one in (MASKED, CAUSAL, CONTRASTIVE)}


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One adaptation. `max_tokens` is the longest window that a long text is cut into."""

    base: str
    name: str
    data: Data
    objective: str
    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_tokens: int | None = None
    mask_share: float = 0.15
    matryoshka: tuple[int, ...] = ()  # rising
    pairs: bool = False  # the two columns named by data.text are a pair
    keep_head: bool = False  # the output layer that guesses tokens stays in the base's files
    general: str | None = None  # texts that the cost is measured on; None: a few that come with llmos
    seed: int = 7
    dtype: str | None = None
    checkpoint_every_s: float = 30.0
    texts: int | None = field(default=None)  # at most so many are read; None: all

    @property
    def spec(self) -> AdaptationObjective:
        return OBJECTIVES[self.objective]


def adaptation_of(args: Mapping[str, Json]) -> Adaptation:
    """What these arguments ask for, all but `name` and `objective` complete; BadSetting for values that cannot be."""
    given = {key: value for key, value in args.items() if value is not None}
    source = given.get("data")
    given["data"] = {"train": source} if isinstance(source, str) else source
    if not isinstance(given["data"], Mapping) or not given["data"].get("train"):
        raise _bad("data", source, "a file of texts, or a dataset (name@version)")
    given["matryoshka"] = lengths_of(given.get("matryoshka"))
    objective = given.setdefault("objective", MASKED.name)
    if objective not in OBJECTIVES:
        raise _bad("objective", objective, f"one of {', '.join(OBJECTIVES)}")
    known = {one.name for one in fields(Adaptation)}
    found = from_plain({"name": "", **{key: value for key, value in given.items() if key in known}}, Adaptation)
    _check(found)
    return found


def recipe_of_adaptation(wanted: Adaptation, windows: int) -> Recipe:
    """The trainer's settings for so many windows, with the objective's defaults; few windows are read more often.

    Its task tells admission alone what the loss takes.
    """
    spec = wanted.spec
    batch_size = wanted.batch_size or spec.batch_size
    rate = wanted.learning_rate or spec.learning_rate
    needed = math.ceil(spec.least_steps * batch_size / max(1, windows))
    return Recipe(
        task="generate" if spec.guesses_tokens else "embed",
        name=wanted.name,
        base=wanted.base,
        data=wanted.data,
        epochs=float(wanted.epochs or max(spec.epochs, float(min(MOST_EPOCHS, needed)))),
        learning_rate=rate,
        head_rate_ratio=max(1.0, HEAD_RATE / rate),
        batch_size=batch_size,
        token_budget=spec.token_budget,
        warmup_share=WARMUP_SHARE,
        options={} if wanted.max_tokens is None else {"max_tokens": wanted.max_tokens},
        seed=wanted.seed,
        checkpoint_every_s=wanted.checkpoint_every_s,
    )


def lengths_of(value: Json) -> tuple[int, ...]:
    """The lengths of vectors in `64,128` or [64, 128], rising; none if nothing was said."""
    parts: Sequence[Json] = value.split(",") if isinstance(value, str) else value or ()
    try:
        numbers = tuple(int(one) for one in parts)
    except (TypeError, ValueError):
        numbers = (0,)
    if list(numbers) != sorted(set(numbers)) or len(numbers) > MOST_LENGTHS or any(one < 1 for one in numbers):
        raise _bad("matryoshka", value, "rising lengths of vectors, such as 64,128,256")
    return numbers


def _check(found: Adaptation) -> None:
    for key, number, least, most in (
        ("epochs", found.epochs, 0.0, 1000.0),
        ("learning_rate", found.learning_rate, 0.0, 1.0),
        ("batch_size", found.batch_size, 1 if found.objective == CONTRASTIVE.name else 0, 65_536),
        ("mask_share", found.mask_share, 0.0, 0.9),
        ("checkpoint_every_s", found.checkpoint_every_s, 0.0, 1e9),
        ("texts", found.texts, 0, 1 << 40),
    ):
        if number is not None and not least < number <= most:
            raise _bad(key, number, f"over {least:g} and at most {most:g}")
    if found.max_tokens is not None and not LEAST_WINDOW <= found.max_tokens <= MOST_WINDOW:
        raise _bad("max_tokens", found.max_tokens, f"from {LEAST_WINDOW} to {MOST_WINDOW:,}")
    if found.data.on_bad_row not in ON_BAD_ROW:
        raise _bad("data.on_bad_row", found.data.on_bad_row, f"one of {', '.join(ON_BAD_ROW)}")
    if found.objective != CONTRASTIVE.name:
        for key in ("matryoshka", "pairs"):
            if getattr(found, key):
                value = getattr(found, key)
                said = ",".join(map(str, value)) if isinstance(value, tuple) else value
                raise _bad(key, said, "left out, or given with the objective contrastive")
    if found.objective != MASKED.name and found.keep_head:
        raise _bad("keep_head", True, "left out: only the objective masked has a head of its own")
    if found.pairs and len((found.data.text or "").split(",")) != 2 and not _is_dataset(found.data.train):
        raise _bad("pairs", True, "given with text, which names the two columns: --text question,answer")


def _is_dataset(source: str) -> bool:
    return "@" in source and not source.startswith("/")


def _bad(key: str, value: object, expected: str) -> BadSetting:
    return BadSetting(f"{key} is {value!r}; it must be {expected}", key=key, value=value, expected=expected)
